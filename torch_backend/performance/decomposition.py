"""The network's projected motion as ARKit curves within 0..1, found from its motion coefficients without the mesh.

The motion space (modules/motion_space.py) of the shipped weights and the curves of the corpus span the same space, so
one linear map, found once, gives the curves that make a motion exactly. The network leaves their range, though: what is
stored is the nearest motion within 0..1, and how far it is off is told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from torch_backend.head.head import Head
from torch_backend.speech_corpus.articulation import build_mouth_generators, columns_of_curve
from torch_backend.speech_corpus.expression import build_upper_face_generators

FloatArray = NDArray[np.float64]

HELPING_CURVES = ("mouthFrown", "mouthDimple", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper")
"""Mouth curves that the corpus has none of; where the network goes below 0, they come nearer than the others alone."""
LARGEST_REMAINDER_M = 5e-5
"""A motion space whose shapes differ by more from mixtures of the curves is another head's, or of captured motion."""
LIP_WEIGHT = 5.0
GAP_WEIGHT = 100.0
"""Of the squared difference between the lips at each contact pair; a vertex counts 1: lips that touch shall touch."""
_SWEEPS, _LARGEST_STEPS = 40, 200
_SOLVED_FRAMES = 2_000
_CHUNK_FRAMES = 64


@dataclass(frozen=True)
class FittedCurves:
    """Curves of a motion, and how well they make it."""

    weights: NDArray[np.float32]
    """(T, 52) within 0..1."""
    max_error_m: float
    """Largest distance of any skin vertex in any frame from the motion."""
    mean_error_m: float


class MotionDecomposition:
    """Motion coefficients into curves; set up once for a model."""

    def __init__(self, head: Head, shapes_m: NDArray[np.floating]) -> None:
        """Find the map.

        Args:
            head: the mean head.
            shapes_m: (K, Vskin, 3) shapes of the motion space, metres.

        Raises:
            ValueError: the shapes are no mixtures of the head's curves.
        """
        skin = head.blendshapes[:, : head.num_skin_vertices].astype(np.float64)
        flat = skin.reshape(len(skin), -1)
        mouth, upper = build_mouth_generators(), build_upper_face_generators()
        generators = np.concatenate([mouth, upper])
        moves = generators @ flat
        shapes = np.asarray(shapes_m, np.float64).reshape(len(shapes_m), -1)
        if shapes.shape[1] != moves.shape[1]:
            raise ValueError(f"expected shapes of {head.num_skin_vertices} vertices, got {np.shape(shapes_m)}")
        products = moves @ moves.T
        to_generators = np.linalg.lstsq(products, moves @ shapes.T, rcond=1e-12)[0].T
        remainder = np.abs(to_generators @ moves - shapes).max()
        if remainder > LARGEST_REMAINDER_M:
            raise ValueError(f"the motion space leaves the head's curves by {remainder * 1000:.2f} mm")
        count = len(mouth)
        self._mouth_map = to_generators[:, :count]
        self.upper_face_map: FloatArray = to_generators[:, count:] @ upper
        """(K, 52): the curves of lids, brows and cheeks that the network moves at coefficient 1, unlimited."""
        self._mouth_moves = moves[:count]
        self._curves = np.concatenate([mouth, [_one_curve(name) for name in HELPING_CURVES]])
        self._moves = self._curves @ flat
        self._metric, self._cross = self._build_metric(head)

    def fit(self, coefficients: NDArray[np.floating]) -> FittedCurves:
        """Find the curves of the mouth nearest to a motion; lids, brows and cheeks are zero.

        Args:
            coefficients: (T, K) of the motion space.
        """
        wanted = np.asarray(coefficients, np.float64) @ self._mouth_map
        weights = _solve_bounded(self._metric, wanted @ self._cross)
        largest, total = 0.0, 0.0
        for start in range(0, len(wanted), _CHUNK_FRAMES):
            part = slice(start, start + _CHUNK_FRAMES)
            off = (weights[part] @ self._moves - wanted[part] @ self._mouth_moves).reshape(len(wanted[part]), -1, 3)
            distance = np.linalg.norm(off, axis=2)
            largest, total = max(largest, float(distance.max())), total + float(distance.mean(axis=1).sum())
        curves = np.clip(weights @ self._curves, 0.0, 1.0).astype(np.float32)
        return FittedCurves(curves, largest, total / max(1, len(wanted)))

    def _build_metric(self, head: Head) -> tuple[FloatArray, FloatArray]:
        """Scalar products (C, C) of the fitted curves, and (G, C) with the network's, in the metric of the fit."""
        weights = np.ones(head.num_skin_vertices)
        weights[head.regions["lips"]] = LIP_WEIGHT
        upper, lower = head.lip_contact_pairs.T

        def embed(moves: FloatArray) -> FloatArray:
            points = moves.reshape(len(moves), -1, 3)
            gaps = np.sqrt(GAP_WEIGHT) * (points[:, upper] - points[:, lower])
            weighted = points * np.sqrt(weights)[None, :, None]
            return np.concatenate([weighted.reshape(len(moves), -1), gaps.reshape(len(moves), -1)], axis=1)

        fitted = embed(self._moves)
        return fitted @ fitted.T, embed(self._mouth_moves) @ fitted.T


def _one_curve(name: str) -> FloatArray:
    row = np.zeros(len(ARKIT_BLENDSHAPES))
    row[columns_of_curve(name)] = 1.0
    return row


def _solve_bounded(metric: FloatArray, wanted: FloatArray) -> FloatArray:
    """Minimise w' metric w / 2 - wanted' w for each row of `wanted` (T, C) within 0 <= w <= 1."""
    weights = np.zeros_like(wanted)
    for start in range(0, len(wanted), _SOLVED_FRAMES):
        part = slice(start, start + _SOLVED_FRAMES)
        _descend(metric, wanted[part], weights[part])
        _solve_active_sets(metric, wanted[part], weights[part])
    return weights


def _descend(metric: FloatArray, wanted: FloatArray, weights: FloatArray) -> None:
    """Come near by coordinate descent, in place: every step is the exact minimum along one curve."""
    for _ in range(_SWEEPS):
        for column, scale in enumerate(np.diag(metric)):
            slope = wanted[:, column] - weights @ metric[:, column]
            weights[:, column] = np.clip(weights[:, column] + slope / scale, 0.0, 1.0)


def _solve_active_sets(metric: FloatArray, wanted: FloatArray, weights: FloatArray) -> None:
    """Go on to the minimum itself, in place and for all rows at once, by the primal active-set method.

    Curves at a limit are held; the others go towards their common minimum until one meets a limit and is held too.
    Where none does, the held curve that most wants to leave its limit is let go; a row without one is at its minimum.
    """
    tolerance = 1e-9 * np.diag(metric)
    is_free = (weights > 0.0) & (weights < 1.0)
    rows = np.arange(len(weights))
    for _ in range(_LARGEST_STEPS):
        if not len(rows):
            return
        free, now = is_free[rows], weights[rows]
        matrix = np.where(free[:, :, None] & free[:, None, :], metric, np.eye(len(metric)))
        right = np.where(free, wanted[rows] - np.where(free, 0.0, now) @ metric, now)
        change = np.linalg.solve(matrix, right[..., None])[..., 0] - now
        room = np.where(change > 0.0, 1.0 - now, now)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(free & (change != 0.0), room / np.abs(change), np.inf)
        share = np.minimum(1.0, shares.min(axis=1))
        weights[rows] = np.clip(now + share[:, None] * change, 0.0, 1.0)
        stopped = share < 1.0
        is_free[rows[stopped], shares[stopped].argmin(axis=1)] = False
        slope = wanted[rows] - weights[rows] @ metric
        leaving = np.where(free, 0.0, np.where(weights[rows] <= 0.0, slope, -slope)) - tolerance
        leaves = ~stopped & (leaving.max(axis=1) > 0.0)
        is_free[rows[leaves], leaving[leaves].argmax(axis=1)] = True
        rows = rows[stopped | leaves]
