"""Lips that nearly touch, touch; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from torch_backend.head import load_head
from torch_backend.inference.lip_seal import LIMIT_MILLIMETRES, CurveSeal, LipSeal
from torch_backend.modules.motion_space import MotionSpace
from torch_backend.speech_corpus.articulation import build_mouth_generators

HEAD = load_head()
SHAPES = (
    np.einsum("gk,kvd->gvd", build_mouth_generators(), HEAD.blendshapes[:, : HEAD.num_skin_vertices]).astype(np.float32)
    * 100.0
)
GENERATORS = [int(np.flatnonzero(row)[0]) for row in build_mouth_generators()]


def _space() -> MotionSpace:
    return MotionSpace(torch.from_numpy(SHAPES), torch.tensor([0]), torch.zeros(len(SHAPES), 1, 3))


def _weights(**curves: float) -> torch.Tensor:
    weights = torch.zeros(1, len(SHAPES))
    for name, value in curves.items():
        weights[0, GENERATORS.index(BLENDSHAPE_INDEX[name])] = value
    return weights


def _gaps_mm(weights: torch.Tensor) -> np.ndarray:
    """Along y at the contact pairs in the middle of the mouth."""
    offsets = np.einsum("k,kvd->vd", weights[0].numpy(), SHAPES)
    upper, lower = HEAD.lip_contact_pairs.T
    middle = np.abs(HEAD.vertices[upper, 0]) < 0.35 * np.abs(HEAD.vertices[upper, 0]).max()
    gaps: np.ndarray = 10.0 * (offsets[upper, 1] - offsets[lower, 1])[middle]
    return gaps


def test_rest_and_open_lips_stay_as_they_are() -> None:
    seal = LipSeal(HEAD, _space())
    assert not seal(torch.zeros(2, len(SHAPES))).any()
    talking = _weights(jawOpen=0.25, mouthPucker=0.3)
    assert _gaps_mm(talking).mean() > 2 * LIMIT_MILLIMETRES
    assert torch.equal(seal(talking), talking)


def test_a_closure_that_is_not_quite_one_becomes_one() -> None:
    seal = LipSeal(HEAD, _space())
    nearly = _weights(jawOpen=0.10, mouthClose=0.093, mouthPucker=0.2)
    before = _gaps_mm(nearly).mean()
    assert 0.05 < before < 0.5 * LIMIT_MILLIMETRES
    sealed = seal(nearly)
    assert abs(_gaps_mm(sealed).mean()) < 0.5 * before
    moved = 10.0 * np.linalg.norm(np.einsum("k,kvd->vd", (sealed - nearly)[0].numpy(), SHAPES), axis=1)
    assert moved.max() < 2.0 * before  # the rest of the face hardly moves


def test_larger_gaps_stay_larger() -> None:
    seal = LipSeal(HEAD, _space())
    gaps = [_gaps_mm(seal(_weights(jawOpen=0.10, mouthClose=0.10 - step))).mean() for step in np.linspace(0, 0.06, 13)]
    assert (np.diff(gaps) > 0).all()


def test_the_space_of_another_head_is_refused() -> None:
    space = MotionSpace(torch.zeros(2, 10, 3), torch.tensor([0]), torch.zeros(2, 1, 3))
    with pytest.raises(ValueError, match="vertices"):
        LipSeal(HEAD, space)


def test_curves_that_nearly_close_the_lips_close_them() -> None:
    head = load_head()
    curves = np.zeros((4, 52), np.float32)
    curves[:, BLENDSHAPE_INDEX["jawOpen"]] = [0.0, 0.01, 0.02, 0.4]
    sealed = CurveSeal(head)(curves)
    upper, lower = head.lip_contact_pairs.T
    middle = np.abs(head.vertices[upper, 0]) < 0.35 * np.abs(head.vertices[upper, 0]).max()

    def opening(values: np.ndarray) -> np.ndarray:
        moved = 1e3 * np.stack([head.pose(row) for row in values])
        return (moved[:, upper[middle], 1] - moved[:, lower[middle], 1]).mean(axis=1)

    rest = opening(0 * curves[:1])
    apart, closed = opening(curves) - rest, opening(sealed) - rest
    assert 0.2 < apart[1] < 0.5 < apart[2] < 1.0 < apart[3]
    assert closed[1] < 0.3 * apart[1] and closed[1] < closed[2] < apart[2]  # order stays
    np.testing.assert_array_equal(sealed[[0, 3]], curves[[0, 3]])
    mouth_close = BLENDSHAPE_INDEX["mouthClose"]
    np.testing.assert_array_equal(np.delete(sealed, mouth_close, axis=1), np.delete(curves, mouth_close, axis=1))
