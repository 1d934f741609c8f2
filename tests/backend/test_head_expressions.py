"""The 52 blendshapes: sides mirror each other, lips seal at any jaw opening, lids stay off the eyeballs."""

import numpy as np
import pytest

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.head import load_head

FLIP = np.array([-1.0, 1.0, 1.0], np.float32)
MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def head():
    return load_head()


def other_side(name):
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


def lip_gap(head, weights):
    """Inner-lip gap in metres as the lip-sync check measures it: middle 35 % of the mouth, along the face's up."""
    posed = head.pose(weights).astype(np.float64)
    left = posed[head.regions["mouth_corner_left"]].mean(axis=0)
    right = posed[head.regions["mouth_corner_right"]].mean(axis=0)
    middle, width = (left + right) / 2, np.linalg.norm(left - right)
    axis = (left - right) / width
    up = posed[head.regions["eye_region"]].mean(axis=0) - middle
    up -= axis * (up @ axis)
    up /= np.linalg.norm(up)
    lips = []
    for region in ("lips_inner_upper", "lips_inner_lower"):
        points = posed[head.regions[region]]
        lips.append(points[np.abs((points - middle) @ axis) < 0.35 * width / 2].mean(axis=0))
    return (lips[0] - lips[1]) @ up


@pytest.mark.parametrize("name", ARKIT_BLENDSHAPES)
def test_left_and_right_shapes_mirror_each_other(head, name):
    skin = slice(0, head.num_skin_vertices)
    shape = head.blendshapes[BLENDSHAPE_INDEX[name], skin]
    mirrored = head.blendshapes[BLENDSHAPE_INDEX[other_side(name)], skin][head.mirror] * FLIP
    np.testing.assert_allclose(shape, mirrored, atol=1e-8)


@pytest.mark.parametrize("name", ARKIT_BLENDSHAPES)
def test_shapes_are_finite_plausible_and_leave_the_neck_alone(head, name):
    shape = head.blendshapes[BLENDSHAPE_INDEX[name]]
    largest = np.linalg.norm(shape, axis=1).max()
    still = name.startswith(("eyeLookIn", "eyeLookOut"))
    assert largest == 0.0 if still else 0.5 * MILLIMETRE < largest < 50 * MILLIMETRE
    assert np.abs(shape[head.regions["neck_boundary"]]).max() < 1e-6
    start, stop = head.parts["eyes"]
    assert not shape[start:stop].any()


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.25, 0.5, 0.8, 1.0])
def test_mouth_close_seals_the_jaw_at_every_opening(head, weight):
    posed = head.pose({"jawOpen": weight, "mouthClose": weight})
    upper, lower = head.lip_contact_pairs.T
    assert np.linalg.norm(posed[upper] - posed[lower], axis=1).max() < 0.001 * MILLIMETRE


@pytest.mark.parametrize(
    "extra",
    [
        {"mouthPressLeft": 0.8, "mouthPressRight": 0.8},
        {"mouthRollLower": 0.6, "mouthRollUpper": 0.5},
        {"mouthPucker": 0.9},
        {"mouthSmileLeft": 1.0, "mouthSmileRight": 0.7},
        {"mouthStretchLeft": 0.8, "mouthStretchRight": 0.8, "mouthFrownLeft": 0.5},
        {"mouthDimpleLeft": 1.0, "mouthLeft": 0.5, "cheekPuff": 0.7, "noseSneerLeft": 1.0},
        {"mouthShrugLower": 0.8},
    ],
)
def test_closed_lips_stay_closed_with_other_mouth_shapes(head, extra):
    assert lip_gap(head, {"jawOpen": 0.35, "mouthClose": 0.35, **extra}) < 0.2 * MILLIMETRE


def test_jaw_opens_the_lips_in_proportion(head):
    gaps = [lip_gap(head, {"jawOpen": weight}) / MILLIMETRE for weight in (0.0, 0.25, 0.5, 1.0)]
    assert gaps[0] == pytest.approx(0.0, abs=1e-4)
    assert gaps[3] > 18.0
    np.testing.assert_allclose(gaps[1:3], [gaps[3] / 4, gaps[3] / 2], rtol=0.08)


def test_jaw_open_turns_the_jaw_about_its_hinge(head):
    jaw = head.regions["jaw_parts"]
    offset = head.vertices[jaw].astype(np.float64) - head.jaw_hinge
    angle = np.radians(20.0)
    turned = np.stack(
        [
            offset[:, 0],
            offset[:, 1] * np.cos(angle) - offset[:, 2] * np.sin(angle),
            offset[:, 1] * np.sin(angle) + offset[:, 2] * np.cos(angle),
        ],
        axis=1,
    )
    shape = head.blendshapes[BLENDSHAPE_INDEX["jawOpen"]]
    np.testing.assert_allclose(shape[jaw], turned - offset, atol=1e-6)
    np.testing.assert_allclose(shape[jaw].mean(axis=0)[1] < -0.005, True)


def test_tongue_out_moves_the_tip_past_the_lips_and_keeps_the_root(head):
    start, stop = head.parts["tongue"]
    shape = head.blendshapes[BLENDSHAPE_INDEX["tongueOut"]]
    moved = head.vertices[start:stop] + shape[start:stop]
    lips = head.vertices[head.regions["lips"], 2].max()
    assert moved[:, 2].max() > lips + 5 * MILLIMETRE
    assert np.linalg.norm(shape[start:stop], axis=1).min() < 1e-6
    assert not shape[: head.num_skin_vertices].any()


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("shape", ["eyeBlink", "eyeSquint", "eyeWide", "eyeLookDown", "eyeLookUp"])
def test_lids_stay_outside_the_eyeballs(head, shape, weight):
    posed = head.pose({shape + "Left": weight, shape + "Right": weight})
    lids = head.regions["eyelids"]
    for side, center in zip((1, -1), head.eye_centers, strict=True):
        own = lids[head.vertices[lids, 0] * side > 0]
        clearance = np.linalg.norm(posed[own] - center, axis=1) - head.eye_radius
        assert clearance.min() > 0.1 * MILLIMETRE


def test_blink_brings_the_lid_margins_together(head):
    rim = head.landmarks68[[43, 44, 46, 47]]  # upper inner, upper outer, lower outer, lower inner of the left eye
    rest, closed = head.vertices[rim, 1], head.pose({"eyeBlinkLeft": 1.0})[rim, 1]
    assert (rest[:2] - rest[[3, 2]] > 5 * MILLIMETRE).all()
    assert (closed[:2] - closed[[3, 2]] < 0.6 * MILLIMETRE).all()
    right = head.landmarks68[36:42]
    np.testing.assert_array_equal(head.pose({"eyeBlinkLeft": 1.0})[right], head.vertices[right])


def test_teeth_and_upper_gums_stay_when_only_the_lips_move(head):
    first, stop = head.num_skin_vertices, head.parts["tongue"][1]  # what follows is attached to the skin
    jaw_shapes = {"jawOpen", "jawForward", "jawLeft", "jawRight", "tongueOut"}
    for name in set(ARKIT_BLENDSHAPES) - jaw_shapes:
        assert not head.blendshapes[BLENDSHAPE_INDEX[name], first:stop].any(), name
    upper = np.setdiff1d(np.arange(*head.parts["teeth"]), head.regions["jaw_parts"])
    assert len(upper) == (head.parts["teeth"][1] - head.parts["teeth"][0]) / 2
    assert not head.blendshapes[:, upper].any()


def test_pose_adds_weighted_shapes_and_rejects_bad_weights(head):
    weights = np.zeros(52)
    weights[BLENDSHAPE_INDEX["mouthPucker"]], weights[BLENDSHAPE_INDEX["jawOpen"]] = 0.3, 0.2
    expected = head.vertices + 0.3 * head.blendshapes[BLENDSHAPE_INDEX["mouthPucker"]]
    expected = expected + 0.2 * head.blendshapes[BLENDSHAPE_INDEX["jawOpen"]]
    np.testing.assert_allclose(head.pose(weights), expected, atol=1e-8)
    np.testing.assert_allclose(head.pose({"mouthPucker": 0.3, "jawOpen": 0.2}), expected, atol=1e-8)
    with pytest.raises(ValueError, match="jawopen"):
        head.pose({"jawopen": 1.0})
    with pytest.raises(ValueError, match=r"\(52,\)"):
        head.pose(np.zeros(51))
