"""Expression codes of the built-in head: lengths in millimetres, mirror, and the way back within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.head import load_head
from torch_backend.head.expression_codes import CODE_SIZE, EMPHASIS, build_expression_space, load_expression_space

SPACE = load_expression_space()
SIDES = {"Left": "Right", "Right": "Left"}


def draw_weights(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.uniform(0, 1, (count, 52)) * (generator.uniform(size=(count, 52)) < 0.25)


def swap_sides(weights: np.ndarray) -> np.ndarray:
    swapped = np.empty_like(weights)
    for name, index in BLENDSHAPE_INDEX.items():
        side = next((side for side in SIDES if name.endswith(side)), None)
        other = name if side is None else name.removesuffix(side) + SIDES[side]
        swapped[..., BLENDSHAPE_INDEX[other]] = weights[..., index]
    return swapped


def test_distance_of_codes_is_the_mean_motion_of_the_face_in_millimetres() -> None:
    head = load_head()
    count = head.num_skin_vertices
    first, second = draw_weights(2)
    still = [BLENDSHAPE_INDEX[name] for name in ARKIT_BLENDSHAPES if name.startswith(("eyeLookIn", "eyeLookOut"))]
    first[[*still, BLENDSHAPE_INDEX["tongueOut"]]] = second[[*still, BLENDSHAPE_INDEX["tongueOut"]]] = 0.0
    shares = np.zeros(count)
    rest = head.vertices.astype(np.float64)
    for triangle in head.skin_triangles:
        a, b, c = rest[triangle]
        shares[triangle] += np.linalg.norm(np.cross(b - a, c - a))
    emphasized = set(head.regions["lips"].tolist()) | set(head.regions["eyelids"].tolist())
    shares[sorted(emphasized)] *= EMPHASIS
    shares[np.linalg.norm(head.blendshapes[:, :count], axis=2).max(axis=0) < 1e-3] = 0.0
    squares = np.sum((head.pose(first)[:count] - head.pose(second)[:count]).astype(np.float64) ** 2, axis=1)
    expected = 1e3 * np.sqrt((squares * shares).sum() / shares.sum())
    distance = np.linalg.norm(SPACE.encode(first) - SPACE.encode(second))
    assert distance == pytest.approx(expected, rel=1e-4)


def test_rest_is_zero_and_codes_are_linear() -> None:
    assert not SPACE.encode(np.zeros(52)).any()
    first, second = draw_weights(2, seed=1)
    np.testing.assert_allclose(
        SPACE.encode(0.3 * first + 0.7 * second), 0.3 * SPACE.encode(first) + 0.7 * SPACE.encode(second), atol=1e-5
    )
    codes = SPACE.encode(draw_weights(3))
    assert codes.shape == (3, CODE_SIZE) and codes.dtype == np.float32
    assert not codes[:, SPACE.num_coordinates :].any()


def test_mirrored_pose_has_the_code_with_the_signs() -> None:
    weights = draw_weights(5)
    codes, mirrored = SPACE.encode(weights), SPACE.encode(swap_sides(weights))
    moving = slice(0, SPACE.num_motion)
    np.testing.assert_allclose(mirrored[:, moving], (codes * SPACE.mirror_signs)[:, moving], atol=1e-4)
    assert (SPACE.mirror_signs[moving] < 0).sum() > 10


def test_decoded_weights_make_the_same_pose() -> None:
    head, weights = load_head(), draw_weights(6)
    decoded = SPACE.decode(SPACE.encode(weights))
    assert decoded.min() >= 0 and decoded.max() <= 1
    for before, after in zip(weights, decoded, strict=True):
        assert np.abs(head.pose(before) - head.pose(after))[: head.num_skin_vertices].max() < 5e-5
    still = [BLENDSHAPE_INDEX[name] for name in ("eyeLookInLeft", "eyeLookOutRight", "tongueOut")]
    np.testing.assert_allclose(decoded[:, still], weights[:, still], atol=1e-5)


def test_impossible_codes_get_the_nearest_weights() -> None:
    generator = np.random.default_rng(3)
    codes = SPACE.encode(draw_weights(4)).astype(np.float64)
    codes[:, : SPACE.num_coordinates] += generator.normal(size=(4, SPACE.num_coordinates)) * 0.5
    decoded = SPACE.decode(codes).astype(np.float64)
    for code, weights in zip(codes, decoded, strict=True):
        best = lsq_linear(SPACE.matrix.T, code, bounds=(0, 1), method="bvls", tol=1e-12)
        missed = np.linalg.norm(code - weights @ SPACE.matrix)
        assert missed == pytest.approx(np.linalg.norm(code - best.x @ SPACE.matrix), abs=1e-4)


def test_space_is_the_same_when_made_again() -> None:
    np.testing.assert_array_equal(build_expression_space(load_head()).matrix, SPACE.matrix)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="weights"):
        SPACE.encode(np.zeros((3, 51)))
    with pytest.raises(ValueError, match="codes"):
        SPACE.decode(np.full(CODE_SIZE, np.nan))
