"""The motion space of a model: shapes that hold its training motion, and the metric that predictions are fitted in.

A mesh network predicts every point by itself, so what it is unsure of differs from point to point, and a clip of T
frames has a rank of nearly T. The motion that it learned from has not: here it is a mixture of the head's blendshapes.
Projected on that space, predictions lose only what the training motion cannot be, and bake to few shape keys.

The metric is the part of the training loss that looks at positions (L_rec with its weights, the vector between the lips
and the distance between the corners of the mouth), so the projection keeps best what training cared for most.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from blender_talkhead.facial.motion_basis import fit_motion_basis
from torch_backend.models.mmtalker import TemplateGraph
from torch_backend.modules.motion_space import MotionSpace
from torch_backend.modules.surface_points import SurfacePoints
from torch_backend.training.face_motion import FaceAnchors, FaceMotion
from torch_backend.training.mmtalker_config import MMTalkerTrainingConfig
from torch_backend.training.motion_examples import MotionExample, MotionExamples

logger = logging.getLogger(__name__)

MAX_SHAPES = 128
"""With more, a bake to shape keys plays slowly, and there is little to gain from projecting."""
ERROR_LIMIT_CM = 0.002
"""Largest distance of any vertex in any training frame from the space; the default limit of a bake."""
NUM_FRAMES = 8_000
"""Training frames, evenly spread, that the shapes are found from."""
NUM_DRAWN = 1_600
"""Fit vertices that stand for the points which training draws; more of them change lips by under 0.05 mm."""
LARGEST_CONDITION = 1e10


@dataclass(frozen=True)
class FitMetric:
    """Squared distance of two motions: weighted squares at the fit vertices, of the lips' gap, and of the width."""

    vertices: np.ndarray
    """(P,) ascending template vertices."""
    weights: np.ndarray
    """(P,) of the squared distance at each."""
    pairs: np.ndarray
    """(L, 2) positions in `vertices` of the lips' contact pairs."""
    corners: np.ndarray
    """(2,) positions of the corners of the mouth."""
    gap: float
    """Weight of the mean over the pairs of the squared difference of the vectors between the lips."""
    width: float
    """Weight of the squared difference of the distances between the corners, left to right."""

    def dual(self, shapes: np.ndarray) -> np.ndarray:
        """Shapes (K, P, 3) at the fit vertices, times the metric: a product with offsets is a scalar product."""
        result: np.ndarray = shapes * self.weights[None, :, None]
        by_vertex = result.transpose(1, 0, 2)
        upper, lower = self.pairs.T
        gaps = (shapes[:, upper] - shapes[:, lower]) * (self.gap / len(self.pairs))
        np.add.at(by_vertex, upper, gaps.transpose(1, 0, 2))  # a vertex may be in more than one pair
        np.add.at(by_vertex, lower, -gaps.transpose(1, 0, 2))
        left, right = self.corners
        widths = (shapes[:, left, 0] - shapes[:, right, 0]) * self.width
        result[:, left, 0] += widths
        result[:, right, 0] -= widths
        return result


def build_fit_metric(
    graph: TemplateGraph, anchors: FaceAnchors, lips: np.ndarray, config: MMTalkerTrainingConfig
) -> FitMetric:
    """The training loss's view of positions, with vertices in place of the points that a step draws.

    Args:
        graph: template surface; its face probabilities are those that training draws from.
        anchors: vertices that every step looks at.
        lips: vertices of the lips, which count `lip_factor` times.
        config: weights of the terms, and how many points a step draws.
    """
    loss, num_vertices = config.loss, len(graph.vertices)
    factors = np.ones(num_vertices)
    factors[lips] = loss.lip_factor
    shares = np.zeros(num_vertices)
    np.add.at(shares, graph.triangles.ravel(), np.repeat(graph.face_probabilities.astype(np.float64) / 3.0, 3))
    weights = config.data.drawn_points * _thin(factors * shares / shares.sum(), NUM_DRAWN)
    weights[anchors.vertices] += factors[anchors.vertices]
    weights *= loss.reconstruction / weights.sum()
    weights[anchors.vertices[anchors.lids]] += loss.lid * loss.reconstruction / len(anchors.lids)
    weights[anchors.vertices[anchors.brows]] += loss.brow * loss.reconstruction / len(anchors.brows)
    vertices = np.flatnonzero(weights)
    positions = np.searchsorted(vertices, anchors.vertices)
    return FitMetric(
        vertices, weights[vertices], positions[anchors.pairs], positions[anchors.corners], loss.gap, loss.width
    )


def derive_motion_space(
    motion: FaceMotion, examples: MotionExamples, training: Sequence[MotionExample], metric: FitMetric
) -> MotionSpace | None:
    """Find the space of the training motion.

    Args:
        motion: blendshape curves into displacements.
        examples: all examples.
        training: those that training sees.
        metric: how predictions are fitted.

    Returns:
        The space, in centimetres; None where nothing moves, or where more than MAX_SHAPES shapes are needed.
    """
    rows = np.concatenate([np.arange(example.start, example.stop) for example in training])
    rows = rows[np.linspace(0, len(rows) - 1, min(NUM_FRAMES, len(rows))).round().astype(np.int64)]
    surface = SurfacePoints.at_vertices(np.arange(motion.num_vertices))

    def read(first: int, stop: int) -> np.ndarray:
        return motion.displacements(examples.curves[rows[first:stop]].astype(np.float32), surface)

    rest = np.zeros((motion.num_vertices, 3), np.float32)
    shapes = fit_motion_basis(len(rows), read, rest, ERROR_LIMIT_CM).shapes
    if len(shapes) > MAX_SHAPES:
        logger.warning("the training motion needs %d shapes: predictions will not be projected", len(shapes))
        return None
    if not shapes.any():
        return None
    logger.info("motion space of %d shapes", len(shapes))
    return build_motion_space(shapes, metric)


def build_motion_space(shapes: np.ndarray, metric: FitMetric) -> MotionSpace:
    """The projection on shapes (K, V, 3), as weighted least squares.

    Raises:
        ValueError: the shapes cannot be told apart at the fit vertices.
    """
    seen = shapes[:, metric.vertices].astype(np.float64)
    dual = metric.dual(seen).reshape(len(shapes), -1)
    products = dual @ seen.reshape(len(shapes), -1).T
    scales = np.sqrt(np.maximum(np.diag(products), np.finfo(float).tiny))
    if np.linalg.cond(products / np.outer(scales, scales)) > LARGEST_CONDITION:
        raise ValueError(f"the {len(shapes)} shapes of the motion space cannot be told apart at the fit vertices")
    matrix = np.linalg.solve(products, dual).reshape(seen.shape)
    return MotionSpace(
        torch.from_numpy(np.array(shapes, np.float32)),
        torch.from_numpy(metric.vertices.astype(np.int64)),
        torch.from_numpy(matrix.astype(np.float32)),
    )


def _thin(shares: np.ndarray, count: int) -> np.ndarray:
    """The same sum as `shares` (V,), carried by at most `count` vertices: an even walk, without randomness."""
    ladder = (np.arange(count) + 0.5) / count * shares.sum()
    chosen = np.searchsorted(np.cumsum(shares), ladder).clip(max=len(shares) - 1)
    thinned: np.ndarray = np.bincount(chosen, minlength=len(shares)) * (shares.sum() / count)
    return thinned
