"""Motion metrics against hand-computed values, naive loops and digits from the field's own code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from torch_backend.metrics.eye_vertex_error import EyeVertexError
from torch_backend.metrics.lip_gap import LipGapAtClosures, measure_lip_gap
from torch_backend.metrics.lip_vertex_error import LipVertexError
from torch_backend.metrics.mouth_shape import measure_mouth
from torch_backend.metrics.upper_face_dynamics import UpperFaceDynamicsDeviation


@pytest.fixture
def reference():
    """The clip for which CodeTalker's own statements gave the digits below."""
    random = np.random.RandomState(0)
    template = random.randn(12, 3) * 0.1
    true = template + random.randn(5, 12, 3) * 0.01
    predicted = true + random.randn(5, 12, 3) * 0.002
    return template, true, predicted


def test_lip_vertex_error_has_the_digits_of_codetalker(reference):
    _, true, predicted = reference
    metric = LipVertexError(np.array([2, 3, 5, 7]))
    metric.update(true, predicted)
    assert metric.compute() == pytest.approx(2.0528325504862607e-05, rel=1e-12)
    assert metric.compute_euclidean_mm() == pytest.approx(4.367937514166762, rel=1e-12)


def test_upper_face_dynamics_has_the_digits_of_codetalker(reference):
    template, true, predicted = reference
    metric = UpperFaceDynamicsDeviation(np.array([0, 1, 8, 9, 10]), "squared")
    metric.update(true, predicted, template)
    assert metric.compute() == pytest.approx(2.174423539188689e-06, rel=1e-10)


def test_vertex_error_by_hand():
    """Frame 1: distances 3, 0 -> 9; frame 2: 1, 2 -> 4; mean 6.5; with the root (3 + 2) / 2 m."""
    true = np.zeros((2, 3, 3))
    predicted = true.copy()
    predicted[0, 0, 0] = 3.0
    predicted[1, 0, 1], predicted[1, 1, 2] = 1.0, -2.0
    predicted[:, 2] = 100.0  # outside the region
    metric = EyeVertexError(np.array([0, 1]))
    metric.update(true, predicted)
    assert metric.compute() == 6.5
    assert metric.compute_euclidean_mm() == 2500.0


def test_vertex_error_pools_frames_over_clips_and_cuts_the_prediction():
    generator = np.random.default_rng(1)
    region = np.array([1, 4, 6])
    metric = LipVertexError(region)
    worst = []
    for num_frames in (3, 8):
        true = generator.normal(size=(num_frames, 7, 3)).astype(np.float32)
        predicted = generator.normal(size=(num_frames + 2, 7, 3)).astype(np.float32)
        metric.update(true, predicted)
        for frame in range(num_frames):
            distances = [
                sum((float(true[frame, v, c]) - float(predicted[frame, v, c])) ** 2 for c in range(3)) for v in region
            ]
            worst.append(max(distances))
    assert metric.compute() == pytest.approx(sum(worst) / len(worst), rel=1e-6)


@pytest.mark.parametrize("norm", ["plain", "squared"])
def test_dynamics_against_a_naive_loop(norm):
    generator = np.random.default_rng(2)
    region = np.array([0, 3, 5])
    metric = UpperFaceDynamicsDeviation(region, norm)
    expected = []
    for _ in range(3):
        template = generator.normal(size=(6, 3))
        true = template + generator.normal(size=(9, 6, 3))
        predicted = template + 0.5 * generator.normal(size=(9, 6, 3))
        metric.update(true, predicted, template)
        clip = 0.0
        for vertex in region:
            spread = []
            for motion in (true, predicted):
                length = [math.dist(motion[t, vertex], template[vertex]) for t in range(9)]
                values = [v * v for v in length] if norm == "squared" else length
                mean = sum(values) / 9
                spread.append(math.sqrt(sum((v - mean) ** 2 for v in values) / 9))
            clip += (spread[0] - spread[1]) / len(region)
        expected.append(clip)
    assert metric.compute() == pytest.approx(sum(expected) / 3, rel=1e-9)
    assert metric.compute_absolute() == pytest.approx(sum(abs(e) for e in expected) / 3, rel=1e-9)


def test_dynamics_is_signed_and_absolute_is_not():
    """One clip moves 1 too little, the other 1 too much: the signed mean hides both."""
    template = np.zeros((1, 3))
    still = np.zeros((2, 1, 3))
    moving = np.zeros((2, 1, 3))
    moving[1, 0, 1] = 2.0  # norms 0 and 2: standard deviation 1
    metric = UpperFaceDynamicsDeviation(np.array([0]), "plain")
    metric.update(moving, still, template)
    metric.update(still, moving, template)
    assert metric.compute() == 0.0
    assert metric.compute_absolute() == 1.0


def test_lip_gap_by_hand():
    """Upper 2 mm above its rest, lower 1 mm below its rest: 3 mm; the second pair overlaps by 1 mm."""
    rest = np.array([[0, 0.010, 0], [0, 0.010, 0], [0.01, 0.011, 0], [0.01, 0.010, 0]])
    frame = rest.copy()
    frame[0, 1] += 0.002
    frame[1, 1] -= 0.001
    frame[2, 1] -= 0.001
    pairs = np.array([[0, 1], [2, 3]])
    np.testing.assert_allclose(measure_lip_gap(frame[None], pairs, rest), [[3.0, -1.0]], atol=1e-9)


def test_gap_left_at_closures_by_hand():
    """Event 1 covers frames 1..2 with gaps 4 and 1; event 2 frame 4 with gap 3; an event beyond the end is left out."""
    rest = np.zeros((2, 3))
    positions = np.zeros((5, 2, 3))
    positions[:, 0, 1] = np.array([9.0, 4.0, 1.0, 8.0, 3.0]) / 1000
    metric = LipGapAtClosures(np.array([[0, 1]]))
    metric.update(positions, rest, [(1, 3), (4, 5), (7, 9)])
    assert metric.num_events == 2
    assert metric.compute() == pytest.approx(2.0)
    assert metric.compute_share_within(1.5) == 0.5


def test_overlap_does_not_pay_for_a_gap():
    rest = np.zeros((4, 3))
    positions = np.zeros((1, 4, 3))
    positions[0, 0, 1], positions[0, 2, 1] = 0.002, -0.002
    metric = LipGapAtClosures(np.array([[0, 1], [2, 3]]))
    metric.update(positions, rest, [(0, 1)])
    assert metric.compute() == pytest.approx(1.0)


def mouth() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Corners 50 mm apart, eyes 60 mm above, lips 8 mm apart near the middle and 0 mm at +-20 mm."""
    points = np.array(
        [
            [0.025, 0, 0], [-0.025, 0, 0], [0.03, 0.06, -0.01], [-0.03, 0.06, -0.01],
            [0.0, 0.005, 0.01], [0.005, 0.005, 0.01], [0.020, 0.0, 0.005],
            [0.0, -0.003, 0.01], [0.005, -0.003, 0.01], [0.020, 0.0, 0.005],
        ]
    )  # fmt: skip
    points[:, 2] -= points[:, 1] * (points[2, 2] / 0.06)  # the eyes straight above the mouth
    names = {
        "mouth_corner_left": [0], "mouth_corner_right": [1], "eye_region": [2, 3],
        "lips_inner_upper": [4, 5, 6], "lips_inner_lower": [7, 8, 9],
    }  # fmt: skip
    return points, {name: np.array(ids) for name, ids in names.items()}


def test_mouth_opening_and_width_by_hand():
    points, regions = mouth()
    gap, width = measure_mouth(points[None], regions)
    assert gap[0] == pytest.approx(8.0, abs=1e-9) and width[0] == pytest.approx(50.0)


def test_mouth_is_measured_alike_whatever_the_pose():
    points, regions = mouth()
    axis = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(1.1) * cross + (1 - np.cos(1.1)) * cross @ cross
    gap, width = measure_mouth(np.stack([points, points @ rotation.T + 0.3]), regions)
    assert gap[0] == pytest.approx(gap[1]) and width[0] == pytest.approx(width[1])


def test_wrong_shapes_are_named():
    points, regions = mouth()
    with pytest.raises(ValueError, match="eye_region"):
        measure_mouth(points[None], {k: v for k, v in regions.items() if k != "eye_region"})
    metric = LipVertexError(np.array([0]))
    with pytest.raises(ValueError, match="at least 5 frames"):
        metric.update(np.zeros((5, 2, 3)), np.zeros((4, 2, 3)))
    with pytest.raises(ValueError, match="T, V, 3"):
        metric.update(np.zeros((5, 2, 3)), np.zeros((5, 3, 3)))
    with pytest.raises(ValueError, match="at least one"):
        LipVertexError(np.zeros(0, int))
    with pytest.raises(ValueError, match="norm"):
        UpperFaceDynamicsDeviation(np.array([0]), "euclid")
    with pytest.raises(ValueError, match="contact pairs"):
        measure_lip_gap(points[None], np.zeros((0, 2)), points)
    assert math.isnan(metric.compute()) and math.isnan(LipGapAtClosures(np.array([[0, 1]])).compute())
