"""The built-in head's hair: where it grows, and that it keeps off the skin and follows an identity."""

from __future__ import annotations

import numpy as np
import pytest

from torch_backend.head.author_space import backend_to_author
from torch_backend.head.hair import HAIR_PATH, NUM_POINTS, NUM_STRANDS, hair_cover, hair_of_identity, load_hair
from torch_backend.head.identity import warp_points
from torch_backend.head.implicit_surface import skin_field
from torch_backend.head.noise import value_noise


@pytest.fixture(scope="module")
def strands():
    hair = load_hair()
    assert hair is not None
    return hair


def test_frozen_hair_is_compact(strands):
    assert strands.shape == (NUM_STRANDS, NUM_POINTS, 3)
    assert HAIR_PATH.stat().st_size < 500_000


def test_hair_grows_on_the_scalp_and_stays_outside_the_skin(strands):
    roots = backend_to_author(strands[::7, 0])
    assert np.percentile(np.abs(skin_field(roots)), 99) < 0.05
    assert (hair_cover(roots) > 0.0).mean() > 0.97
    along = backend_to_author(strands[::7, 1:].reshape(-1, 3))
    assert np.percentile(skin_field(along), 1) > 0.0
    assert skin_field(along).max() < 2.6


def test_face_and_neck_are_bare():
    bare = np.array([[0.0, 10.5, -3.0], [3.0, 8.0, 2.0], [0.0, 9.0, -9.0], [0.0, -4.0, -12.0], [5.5, 4.0, -4.0]])
    np.testing.assert_array_equal(hair_cover(bare), 0.0)
    covered = np.array([[0.0, 0.0, 11.0], [0.0, -9.3, 3.0], [6.7, -2.0, 4.0], [-6.7, -2.0, 4.0]])
    np.testing.assert_allclose(hair_cover(covered), 1.0)


def test_strands_are_smooth_and_short(strands):
    steps = np.diff(100.0 * strands.astype(np.float64), axis=1)
    length = np.linalg.norm(steps, axis=2)
    assert 0.3 < np.median(length.sum(axis=1)) < 4.0 and length.sum(axis=1).max() < 7.0
    direction = steps / length[..., None]
    turn = np.degrees(np.arccos(np.clip((direction[:, 1:] * direction[:, :-1]).sum(axis=2), -1, 1)))
    assert np.percentile(turn, 99) < 60.0


def test_hair_follows_an_identity(strands):
    parameters = {"cranium_height": 1.0, "forehead": -0.8, "ear_size": 0.7}
    moved = hair_of_identity(parameters)
    expected = warp_points(strands.reshape(-1, 3), parameters).reshape(strands.shape)
    assert np.abs(moved - expected).max() < 3e-4
    assert np.abs(moved - strands).max() > 2e-3
    assert hair_of_identity({}) is strands
    with pytest.raises(ValueError, match="beard"):
        hair_of_identity({"beard": 1.0})


def test_noise_is_smooth_bounded_and_the_same_every_time():
    grid = np.stack(np.meshgrid(*[np.arange(4) * 0.5] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    values = value_noise(grid, 0.5)
    assert np.abs(values).max() <= 1.0 and values.std() > 0.3
    assert np.unique(values).size == len(values)
    between = value_noise(np.array([[0.25, 0.0, 0.0]]), 0.5)
    ends = value_noise(np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]), 0.5)
    assert between[0] == pytest.approx(ends.mean())
    assert value_noise(grid, 0.5, 1) != pytest.approx(values)
