"""The jaw: a rigid motion about the hinge, weighted over the skin (author space, cm)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.field_solver import FieldSolver
from torch_backend.head.skin_labels import SkinLabels

JAW_HINGE = np.array([0.0, 0.5, -1.7])
"""A point on the axis (along x) through both jaw joints."""
JAW_OPEN_DEGREES = 20.0
"""Rotation of jawOpen at weight 1."""
JAW_SHIFT = 0.8
"""Translation of jawForward, jawLeft and jawRight at weight 1, cm."""
JAW_SHIFT_OPENS = 0.03
"""Share of jawOpen in jawLeft and jawRight; jawForward has half of it."""
SMOOTHING_PASSES = 14
NECK_FADE = (-15.5, -13.0)
"""Heights between which the neck goes from still to its smoothed weight."""
RIGID_FROM = 0.92
"""Smoothed weight from which on the skin follows the jaw rigidly."""
CORNER_WEIGHT = 0.46
"""Share of the jaw's motion that the mouth corner follows."""
CORNER_PULL = (0.32, 0.10)
"""How far the mouth corner moves in and back at jawOpen 1, cm."""


def open_jaw(points: Array, degrees: float = JAW_OPEN_DEGREES) -> Array:
    """Return displacements (N, 3) of points (N, 3) that turn with the jaw by the given angle."""
    angle = np.radians(degrees)
    offset = points - JAW_HINGE
    forward = offset[:, 1] * np.cos(angle) + offset[:, 2] * np.sin(angle)
    up = -offset[:, 1] * np.sin(angle) + offset[:, 2] * np.cos(angle)
    return np.stack([np.zeros(len(points)), forward - offset[:, 1], up - offset[:, 2]], axis=-1)


def lip_jaw_weights(corner_coordinate: Array, lip_side: Array) -> Array:
    """Return the jaw weight (N,) on lip rings: S-curves from midline to corner make the open mouth an oval."""
    s = corner_coordinate
    lower = CORNER_WEIGHT + (1.0 - CORNER_WEIGHT) * np.clip(1.0 - s**2.2, 0.0, 1.0) ** 0.56
    upper = CORNER_WEIGHT * (1.0 - np.clip(1.0 - s**3.2, 0.0, 1.0) ** 0.56)
    return np.where(lip_side > 0, upper, np.where(lip_side < 0, lower, CORNER_WEIGHT))


def compute_jaw_weights(labels: SkinLabels, normals: Array, solver: FieldSolver) -> Array:
    """Return how much of the jaw's rigid motion each skin vertex follows (V,), 0..1.

    Skull, ears, nose and neck are fixed at 0, the mandible's front at 1, lips and mouth bag at their own weights; the
    rest is harmonic, then smoothed outside the mouth rings (the harmonic weight's kink shows as a line under the jaw).
    """
    x, f, z = np.abs(labels.vertices[:, 0]), labels.vertices[:, 1], labels.vertices[:, 2]
    on_mouth = labels.on_mouth
    weight = np.full(len(x), np.nan)
    still = (z > -3.2) | (f < -1.2) | (z < -13.6) | labels.is_ear | ((z > -4.9) & (f > 9.0))
    weight[still & ~on_mouth] = 0.0
    chin = (z < -8.3) & (z > -11.0) & (f > 6.2) & (x < 3.2)
    mandible = (z < -8.0) & (z > -10.8) & (f > 5.0) & (x < 4.0) & (normals[:, 2] > -0.55)
    weight[(chin | mandible) & ~on_mouth] = 1.0
    lips = on_mouth & (labels.mouth_ring <= 6)
    weight[lips] = lip_jaw_weights(labels.corner_coordinate, labels.lip_side)[lips]
    bag = on_mouth & (labels.mouth_ring < -4)
    weight[bag] = (0.5 - 0.5 * labels.lip_side)[bag]
    fixed = ~np.isnan(weight)
    filled = solver.fill(fixed, np.nan_to_num(weight)[:, None], "harmonic")[:, 0]
    free = ~on_mouth | (labels.mouth_ring > 7)
    smoothed = smooth_over_mesh(filled[:, None], labels.triangles, free, SMOOTHING_PASSES)[:, 0]
    # A plateau of exactly rigid vertices on the chin, which the jaw's motion can be read from.
    outside = np.clip(smoothed / RIGID_FROM, 0.0, 1.0) * smoothstep(z, *NECK_FADE)
    weight = np.where(on_mouth, np.clip(smoothed, 0.0, 1.0), outside)
    return 0.5 * (weight + weight[labels.mirror])


def smooth_over_mesh(values: Array, triangles: NDArray[np.integer], free: NDArray[np.bool_], passes: int) -> Array:
    """Return values (V, C) after passes that move free (V,) vertices half way to the mean of their neighbours."""
    rows, columns = triangles.ravel(), np.roll(triangles, 1, axis=1).ravel()
    adjacency = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (len(values), len(values))).tocsr()
    adjacency = adjacency + adjacency.T
    degree = np.asarray(adjacency.sum(axis=1))
    for _ in range(passes):
        values = np.where(free[:, None], 0.5 * values + 0.5 * (adjacency @ values) / degree, values)
    return values
