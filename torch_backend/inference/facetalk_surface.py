"""Mesh sequences of FaceTalk: the neural head's zero level by Marching Cubes, a mesh of its own in every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import igl
import numpy as np
import torch
from numpy.typing import NDArray

from blender_talkhead.contract.mesh_sequence import PICTURE_FILES, PLACE_SCALE, FrameMesh
from torch_backend.geometry.grid import Bounds
from torch_backend.geometry.iso_surface import Band, Surface, SurfaceOptions, extract_surface
from torch_backend.head import Head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.eye_texture import eye_uv
from torch_backend.inference.facetalk_take import CurvesOfTake
from torch_backend.inference.head_model import BuiltInHeadModel
from torch_backend.inference.skin_mesh import read_skin_texture, read_textures, to_texture_coordinates
from torch_backend.models.nphm import BackwardNPHM

LIPSCHITZ = 1.5
"""A learned and deformed distance changes faster than an exact one: at 1.2 frames of the shipped head contradict it,
at 1.5 none of those seen do."""
CHANGE_FACTOR = 2.0
"""How much more than the skin itself the learned distance may change from frame to frame."""
SMALLEST_CHANGE_M = 2e-4
CHAIN_FRAMES = 24
"""The band of the frame before is used within as many frames: what a frame gives does not depend on where a sequence
goes on after it was stopped."""
EYE_BLEND_M = 0.002
"""How far from the edge of an eye the share of the eye still changes: the edge is told also between two vertices."""
_COARSEST = 8


@dataclass(frozen=True)
class SurfacePlan:
    """Whose surface, and how finely."""

    identity_code: NDArray[np.float32]
    """(I,)"""
    grid: int
    """Cells along the longest side of the box."""
    eye_centers: NDArray[np.floating]
    """(2, 3) metres."""
    colors: SurfaceColors | None

    @property
    def has_colors(self) -> bool:
        """Whether every frame has colours."""
        return self.colors is not None

    @property
    def pictures(self) -> dict[str, bytes]:
        """Pictures that the places of every frame point into; none without colours, or where none ship."""
        skin, others = read_skin_texture(), read_textures()
        if self.colors is None or skin is None or "eye_color" not in others:
            return {}
        found = {"skin_color": skin, **others}
        return {name: found[name] for name in PICTURE_FILES if name in found}


class SurfaceColors:
    """Colours of canonical places: those of the nearest place of the built-in head's skin and eyes."""

    def __init__(self, canonical: Head) -> None:
        """Take the surface.

        Args:
            canonical: the head of the identity with its vertices in the canonical pose.
        """
        first, stop = canonical.parts["eyes"]
        starts = canonical.polygon_starts
        polygons = [canonical.polygon_vertices[a:b] for a, b in pairwise(starts)]
        eyes = [
            (polygon[0], polygon[index], polygon[index + 1])
            for polygon in polygons
            if first <= polygon[0] < stop
            for index in range(1, len(polygon) - 1)
        ]
        self._vertices = canonical.vertices.astype(np.float64)
        self._triangles = np.concatenate([canonical.skin_triangles, np.array(eyes)]).astype(np.int64)
        self._first_eye = len(canonical.skin_triangles)
        self._colors = canonical.vertex_colors.astype(np.float64)
        self._uv = np.zeros((len(canonical.vertices), 2))
        self._uv[: canonical.num_skin_vertices] = to_texture_coordinates(canonical.uv[: canonical.num_skin_vertices])
        self._uv[first:stop] = eye_uv()
        self._centers = canonical.eye_centers.astype(np.float64)

    def paint(
        self, places: NDArray[np.float64], turns: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """Colours (V, 3) sRGB of canonical places (V, 3) in metres, for eyes that are turned by (2, 3, 3).

        And where in the pictures they lie (V, 5), as FrameMesh.places.
        """
        skin, eyes = (np.ascontiguousarray(self._triangles[part]) for part in self._parts)
        to_skin, skin_faces, on_skin = igl.point_mesh_squared_distance(places, self._vertices, skin)
        to_eye, _, _ = igl.point_mesh_squared_distance(places, self._vertices, eyes)
        asked = places if turns is None else self._turn_back(places, turns)
        _, eye_faces, on_eye = igl.point_mesh_squared_distance(asked, self._vertices, eyes)
        is_eye = to_eye < to_skin
        shares = [self._shares(*each) for each in ((on_skin, skin[skin_faces]), (on_eye, eyes[eye_faces]))]
        colors, uv = (
            [
                np.einsum("nk,nkc->nc", part, values[corners])
                for part, corners in zip(shares, (skin[skin_faces], eyes[eye_faces]), strict=True)
            ]
            for values in (self._colors, self._uv)
        )
        linear = np.where(is_eye[:, None], colors[1], colors[0])
        share = np.clip(0.5 + (np.sqrt(to_skin) - np.sqrt(to_eye)) / (2 * EYE_BLEND_M), 0.0, 1.0)
        where = np.concatenate([uv[0], uv[1], share[:, None]], axis=1)
        rounded = np.round(PLACE_SCALE * np.clip(where, 0.0, 1.0)).astype(np.uint16)
        return _encode_srgb(np.clip(linear, 0.0, 1.0)), rounded

    @property
    def _parts(self) -> tuple[slice, slice]:
        return slice(0, self._first_eye), slice(self._first_eye, None)

    def _turn_back(self, places: NDArray[np.float64], turns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where on the eyes at rest the places lie, each seen from the eye that is nearer."""
        arms = places[:, None] - self._centers
        eye = np.linalg.norm(arms, axis=2).argmin(axis=1)
        own = np.take_along_axis(arms, eye[:, None, None], axis=1)[:, 0]
        asked: NDArray[np.float64] = np.einsum("nji,nj->ni", turns[eye], own) + self._centers[eye]
        return asked

    def _shares(self, points: NDArray[np.float64], corners: NDArray[np.int64]) -> NDArray[np.float64]:
        """Barycentric coordinates (V, 3) of points on triangles."""
        ends = (np.ascontiguousarray(self._vertices[corners[:, index]]) for index in range(3))
        shares = igl.barycentric_coordinates(np.ascontiguousarray(points), *ends)
        found: NDArray[np.float64] = np.nan_to_num(np.clip(shares, 0.0, 1.0))
        return found


def extract_frames(
    head_model: BuiltInHeadModel, head: Head, plan: SurfacePlan, curves: CurvesOfTake, first_frame: int = 0
) -> Iterator[FrameMesh]:
    """Extract the surfaces of a take from a frame on.

    Args:
        head_model: the network.
        head: the mean head, which tells how far curves move the skin.
        plan: whose surface.
        curves: of the take.
        first_frame: the first frame that is wanted.

    Yields:
        Meshes in metres; each the same wherever the sequence began.
    """
    field = _Field(head_model, plan)
    space = load_expression_space()
    skin = head.blendshapes[:, : head.num_skin_vertices].reshape(len(head.blendshapes), -1)
    band: Band | None = None
    last: NDArray[np.float32] | None = None
    start = first_frame - first_frame % CHAIN_FRAMES
    for frame in range(start, curves.num_frames):
        weights = curves.read(frame, frame + 1)[0]
        if frame % CHAIN_FRAMES == 0:
            band = None
        change = float("inf")
        if band is not None and last is not None:
            moved = np.linalg.norm(((weights - last) @ skin).reshape(-1, 3), axis=1).max()
            change = (CHANGE_FACTOR * float(moved) + SMALLEST_CHANGE_M) / head_model.space.metres_per_unit
        surface = field.extract(space.encode(weights), band, change)
        band, last = surface.band, weights
        if frame >= first_frame:
            yield field.finish(surface, curves.eye_turns(frame))


class _Field:
    """The signed distance of a face in one expression after the other."""

    def __init__(self, head_model: BuiltInHeadModel, plan: SurfacePlan) -> None:
        self._head_model, self._plan = head_model, plan
        self._has_pictures = bool(plan.pictures)
        self._device = next(head_model.model.parameters()).device
        self._identity = torch.from_numpy(plan.identity_code)[None].to(self._device)
        self._expression = torch.zeros(1, head_model.model.expression_size, device=self._device)
        lower, upper = (tuple(float(value) for value in corner) for corner in head_model.box)
        self._bounds: Bounds = (lower, upper)

    def extract(self, code: NDArray[np.float32], band: Band | None, change: float) -> Surface:
        """The surface in model units; without the band where it turns out to mislead."""
        self._expression = torch.from_numpy(code)[None].to(self._device)
        options = SurfaceOptions(lipschitz=LIPSCHITZ, coarsest=_COARSEST, change_limit=change)
        surface = extract_surface(self._distances, self._bounds, self._plan.grid, options, band)
        if surface.num_contradictions and band is not None:
            plain = SurfaceOptions(lipschitz=LIPSCHITZ, coarsest=_COARSEST)
            surface = extract_surface(self._distances, self._bounds, self._plan.grid, plain)
        return surface

    def finish(self, surface: Surface, eye_turns: NDArray[np.float64] | None) -> FrameMesh:
        """The mesh in metres with its colours."""
        space, colors, places = self._head_model.space, None, None
        vertices = space.to_metres(surface.vertices)
        if self._plan.colors is not None:
            offsets = self._ask(
                surface.vertices, lambda points: self._model.deform(points, self._identity, self._expression)[0]
            )
            colors, places = self._plan.colors.paint(space.to_metres(surface.vertices + offsets), eye_turns)
        if not self._has_pictures:
            places = None
        return FrameMesh(vertices.astype(np.float32), surface.faces.astype(np.int32), colors, places)

    @property
    def _model(self) -> BackwardNPHM:
        return self._head_model.model

    def _distances(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._ask(points, lambda asked: self._model.signed_distance(asked, self._identity, self._expression))

    def _ask(
        self, points: NDArray[np.float64], function: Callable[[torch.Tensor], torch.Tensor]
    ) -> NDArray[np.float64]:
        with torch.inference_mode():
            values = function(torch.from_numpy(points.astype(np.float32))[None].to(self._device))
        result: NDArray[np.float64] = values[0].cpu().numpy().astype(np.float64)
        return result


def _encode_srgb(linear: NDArray[np.float64]) -> NDArray[np.uint8]:
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    colors: NDArray[np.uint8] = np.round(255.0 * encoded).astype(np.uint8)
    return colors
