"""The built-in head as a linear model of shape and expression, on the points that a fit compares with a scan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.identity_parameters import IDENTITY_PARAMETERS
from torch_backend.head import Head
from torch_backend.head.identity import shape_identity
from torch_backend.head.landmarks478 import NUM_LANDMARKS, load_placement

Array = NDArray[np.float32]
HIDDEN_REGIONS = ("mouth_bag", "nostrils", "neck_boundary")
"""What a scanner does not see."""
LOWEST_Y_M = -0.13
"""Geometry is compared above this: below is the bust, which clothes cover."""
_JAW_LINE, _LIPS, _EYES = range(17), range(48, 68), range(36, 48)


@dataclass(frozen=True, eq=False)
class TemplateModel:
    """rest + parameters @ shapes + weights @ expressions, metres, for the landmarks and the compared points.

    Shapes of the eyes are not exactly linear in their parameters; the rest of the identity is.
    """

    names: tuple[str, ...]
    """P identity parameters."""
    landmarks: Array
    """(L, 3) at rest."""
    landmark_shapes: Array
    """(P, L, 3)."""
    landmark_expressions: Array
    """(52, L, 3)."""
    points: Array
    """(N, 3) at rest."""
    point_normals: Array
    """(N, 3) at rest."""
    point_shapes: Array
    """(P, N, 3)."""
    point_expressions: Array
    """(52, N, 3)."""
    landmark_weights: Array
    """(L,) by region, mean 1: lips and eyes count more than the line of the jaw, whose landmarks slide."""


def build_template_model(head: Head, num_landmarks: int, num_points: int, seed: int = 0) -> TemplateModel:
    """The model.

    Args:
        head: the mean head.
        num_landmarks: 68, or 478 for those of MediaPipe's face mesh.
        num_points: N compared points.
        seed: draws them.

    Raises:
        ValueError: another number of landmarks.
        BackendError: the frozen landmarks are missing.
    """
    skin = head.num_skin_vertices
    shapes = identity_shapes(head)
    usable = visible_vertices(head)
    areas = _vertex_areas(head)[usable]
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(usable, min(num_points, len(usable)), replace=False, p=areas / areas.sum()))
    vertices, shares = _landmark_shares(head, num_landmarks)

    def at_landmarks(field: NDArray[np.floating]) -> Array:
        return np.einsum("lc,...lci->...li", shares, field[..., vertices, :]).astype(np.float32)

    return TemplateModel(
        names=tuple(IDENTITY_PARAMETERS),
        landmarks=at_landmarks(head.vertices),
        landmark_shapes=at_landmarks(shapes),
        landmark_expressions=at_landmarks(head.blendshapes),
        points=head.vertices[chosen],
        point_normals=head.vertex_normals()[chosen],
        point_shapes=shapes[:, :skin][:, chosen],
        point_expressions=head.blendshapes[:, chosen],
        landmark_weights=_region_weights(num_landmarks),
    )


@lru_cache(maxsize=1)
def identity_shapes(head: Head) -> Array:
    """(P, V, 3) what each identity parameter does at value 1, in the order of IDENTITY_PARAMETERS."""
    moved = [shape_identity(head, {name: 1.0}).vertices - head.vertices for name in IDENTITY_PARAMETERS]
    return np.stack(moved).astype(np.float32)


def visible_vertices(head: Head) -> NDArray[np.int64]:
    """Skin vertices that a scan shows."""
    hidden = np.zeros(head.num_skin_vertices, bool)
    for name in HIDDEN_REGIONS:
        hidden[head.regions[name]] = True
    return np.flatnonzero(~hidden & (head.vertices[: head.num_skin_vertices, 1] > LOWEST_Y_M))


def landmarks_of_head(
    head: Head, num_landmarks: int, vertices: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """(L, 3) landmarks of the head in metres.

    Args:
        head: the mean head.
        num_landmarks: 68 or 478.
        vertices: (V, 3) of an identity or a pose; None is the mean head at rest.

    Raises:
        ValueError: another number of landmarks.
        BackendError: the frozen landmarks are missing.
    """
    corners, shares = _landmark_shares(head, num_landmarks)
    positions = head.vertices if vertices is None else vertices
    places: NDArray[np.float64] = np.einsum("lc,lci->li", shares, positions[corners].astype(np.float64))
    return places


def _landmark_shares(head: Head, number: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    if number == len(head.landmarks68):
        return head.landmarks68[:, None], np.ones((number, 1))
    if number == NUM_LANDMARKS:
        placement = load_placement()
        return placement.vertices, placement.weights.astype(np.float64)
    raise ValueError(f"expected {len(head.landmarks68)} or {NUM_LANDMARKS} landmarks, got {number}")


def _region_weights(number: int) -> Array:
    weights = np.ones(number, np.float32)
    if number != NUM_LANDMARKS:
        weights[list(_JAW_LINE)] = 0.2
        weights[list(_LIPS)] = 2.0
        weights[list(_EYES)] = 2.0
    return weights / weights.mean()


def _vertex_areas(head: Head) -> NDArray[np.float64]:
    corners = head.vertices[head.skin_triangles].astype(np.float64)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    shares = np.bincount(head.skin_triangles.ravel(), np.repeat(areas, 3), head.num_skin_vertices)
    return shares.astype(np.float64)
