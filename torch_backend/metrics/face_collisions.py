"""What must never happen on a face: lids cut eyeballs, lips pass through lips or teeth, closed lips gape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.head import Head
from torch_backend.metrics.lip_gap import measure_lip_gap

MOUTH_CENTER_DEPTH_M = 0.03
"""How far behind the lips the point lies that every tooth is seen from, metres."""
MOUTH_HALF_WIDTH_M = 0.045
"""Skin farther from the midline than this is not looked at for teeth, metres."""

Points = NDArray[np.floating]


@dataclass(frozen=True)
class FaceCollisions:
    """The worst of each fault over a set of poses of one head; lengths in millimetres, 0 or less is none."""

    lid_cut_mm: float
    """How deep a lid's surface lies inside the eyeball."""
    lip_overlap_mm: float
    """How far an inner lip lies beyond the other one."""
    teeth_through_lips: int
    """Tooth vertices of all poses that have come out through the lips' outer skin."""


def measure_lid_cut(head: Head, positions: Points) -> NDArray[np.float64]:
    """Return how deep lids cut the eyeballs in each pose, millimetres; negative is clearance.

    Vertices, edge middles and face centres of all faces between lid vertices are looked at, on the facets as they are.

    Args:
        head: the head, mean or identity.
        positions: (T, V, 3) metres.

    Returns:
        (T,) millimetres.

    Raises:
        ValueError: the positions do not belong to the head.
    """
    _validate(head, positions)
    on_lid = np.zeros(head.num_skin_vertices, dtype=bool)
    on_lid[head.regions["eyelids"]] = True
    faces = head.skin_triangles[on_lid[head.skin_triangles].all(axis=1)]
    corners = positions[:, faces].astype(np.float64)  # (T, F, 3, 3)
    samples = np.concatenate(
        [corners, 0.5 * (corners + np.roll(corners, 1, axis=2)), corners.mean(axis=2, keepdims=True)], axis=2
    )
    distance = np.linalg.norm(samples[:, :, :, None] - head.eye_centers, axis=-1).min(axis=-1)
    depth: NDArray[np.float64] = 1000.0 * (head.eye_radius - distance.reshape(len(positions), -1).min(axis=1))
    return depth


def measure_lip_overlap(head: Head, positions: Points) -> NDArray[np.float64]:
    """Return the largest overlap of facing inner-lip points in each pose, (T,) millimetres; negative is a gap."""
    _validate(head, positions)
    gap = measure_lip_gap(np.asarray(positions), head.lip_contact_pairs, head.vertices)
    overlap: NDArray[np.float64] = -gap.min(axis=1)
    return overlap


def count_teeth_through_lips(head: Head, positions: Points) -> NDArray[np.int64]:
    """Return how many tooth vertices of each pose have come out through the face.

    The way from the middle of the mouth to a tooth crosses the skin never when the tooth is in the mouth, once when it
    is in the flesh and twice when it is out.

    Args:
        head: the head, mean or identity.
        positions: (T, V, 3) metres.

    Returns:
        (T,) counts.

    Raises:
        ValueError: the positions do not belong to the head.
    """
    _validate(head, positions)
    start, stop = head.parts["teeth"]
    teeth = np.arange(start, stop)
    lips = head.vertices[head.regions["lips"]]
    front = float(lips[:, 2].max())
    teeth = teeth[head.vertices[teeth, 2] > front - 0.025]
    corners = head.vertices[head.skin_triangles]
    low, high = float(lips[:, 1].min()) - 0.02, float(lips[:, 1].max()) + 0.01
    center = corners.mean(axis=1)
    near = (np.abs(center[:, 0]) < MOUTH_HALF_WIDTH_M) & (center[:, 2] > front - 0.035)
    near &= (center[:, 1] > low) & (center[:, 1] < high)
    faces = head.skin_triangles[near]
    counts = np.zeros(len(positions), dtype=np.int64)
    for index, posed in enumerate(positions):
        ends = posed[teeth].astype(np.float64)
        origin = np.array([0.0, ends[:, 1].mean(), front - MOUTH_CENTER_DEPTH_M])
        crossings = _count_crossings(origin, ends, posed[faces].astype(np.float64))
        counts[index] = int((crossings >= 2).sum())
    return counts


def _count_crossings(origin: Points, ends: Points, corners: Points) -> NDArray[np.int64]:
    """Return how many triangles (F, 3, 3) each segment from origin (3,) to ends (N, 3) crosses (Moeller, Trumbore)."""
    rows, columns = _possible_crossings(ends - origin, corners - origin)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    from_corner = origin - corners[:, 0]
    normal = np.cross(first, second)
    height = np.einsum("fi,fi->f", from_corner, normal)
    across = np.cross(from_corner, first)
    around = np.cross(second, from_corner)
    direction = (ends - origin)[rows]  # (pairs, 3)
    determinant = -np.einsum("pi,pi->p", direction, normal[columns])
    safe = np.where(np.abs(determinant) > 1e-18, determinant, np.inf)
    along = height[columns] / safe
    u = np.einsum("pi,pi->p", direction, around[columns]) / safe
    v = np.einsum("pi,pi->p", direction, across[columns]) / safe
    hits = (u >= 0) & (v >= 0) & (u + v <= 1) & (along > 0) & (along < 1)
    return np.bincount(rows[hits], minlength=len(ends)).astype(np.int64)


def _possible_crossings(ends: Points, corners: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs (rows of ends, of triangles) that can cross: segments 0 to ends (N, 3), triangles (F, 3, 3).

    In perspective along the ends' mean direction a triangle stays a triangle, so an end must lie in its picture's box;
    ends and triangles that are not wholly in front of the eye are never ruled out by it.
    """
    forward = ends.mean(axis=0) / max(float(np.linalg.norm(ends.mean(axis=0))), 1e-12)
    right = np.cross(forward, np.eye(3)[np.argmin(np.abs(forward))])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])
    seen_ends, seen = ends @ axes.T, corners @ axes.T
    in_front, wholly = seen_ends[:, 2] > 1e-9, (seen[..., 2] > 1e-9).all(axis=1)
    front_ends = np.flatnonzero(in_front)
    end_picture = seen_ends[front_ends, :2] / seen_ends[front_ends, 2:]
    picture = seen[..., :2] / np.maximum(seen[..., 2:], 1e-9)
    low = np.where(wholly[:, None], picture.min(axis=1) - 1e-9, -np.inf)
    high = np.where(wholly[:, None], picture.max(axis=1) + 1e-9, np.inf)
    high[(seen[..., 2] <= 0.0).all(axis=1)] = -np.inf

    order = np.argsort(end_picture[:, 0])
    first = np.searchsorted(end_picture[order, 0], low[:, 0])
    count = np.maximum(np.searchsorted(end_picture[order, 0], high[:, 0], side="right") - first, 0)
    columns = np.repeat(np.arange(len(corners)), count)
    within = np.arange(len(columns)) - np.repeat(np.cumsum(count) - count, count)
    rows = order[np.repeat(first, count) + within]
    height = end_picture[rows, 1]
    inside = (height >= low[columns, 1]) & (height <= high[columns, 1])
    behind, every = np.meshgrid(np.flatnonzero(~in_front), np.arange(len(corners)), indexing="ij")
    return (
        np.concatenate([front_ends[rows[inside]], behind.ravel()]),
        np.concatenate([columns[inside], every.ravel()]),
    )


def measure_collisions(head: Head, weights: Points, batch: int = 32) -> FaceCollisions:
    """Pose a head and return the worst of each fault.

    Args:
        head: the head, mean or identity.
        weights: (T, 52) blendshape weights in ARKIT_BLENDSHAPES order.
        batch: poses held in memory at once.

    Returns:
        The faults over all poses.

    Raises:
        ValueError: the weights have another shape.
    """
    values = np.asarray(weights, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] != len(head.blendshapes) or not len(values):
        raise ValueError(f"expected weights of shape (T >= 1, {len(head.blendshapes)}), got {values.shape}")
    cuts, overlaps, teeth = [], [], 0
    for start in range(0, len(values), batch):
        positions = head.vertices + np.tensordot(values[start : start + batch], head.blendshapes, axes=1)
        cuts.append(measure_lid_cut(head, positions).max())
        overlaps.append(measure_lip_overlap(head, positions).max())
        teeth += int(count_teeth_through_lips(head, positions).sum())
    return FaceCollisions(float(max(cuts)), float(max(overlaps)), teeth)


def measure_seal_gap(head: Head, weights: Points) -> float:
    """Return the largest gap, mm, between facing inner-lip points in poses (T, 52) that should be closed."""
    positions = head.vertices + np.tensordot(np.asarray(weights, np.float32), head.blendshapes, axes=1)
    return float(measure_lip_gap(positions, head.lip_contact_pairs, head.vertices).max())


def _validate(head: Head, positions: Points) -> None:
    if positions.ndim != 3 or positions.shape[1:] != head.vertices.shape:
        raise ValueError(f"expected positions (T, {len(head.vertices)}, 3), got {positions.shape}")
