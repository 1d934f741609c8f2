"""Draw the picture of docs/models/nphm.md: python docs/draw_head_model.py [names] [--output FOLDER] [--weights FILE].

`head_model`: eight expressions that were held out of the training, for each the true head, the neural one (Marching
Cubes at 256) and how far apart they are. Both are drawn as plain clay from dense points, shaded alike.
Needs the Python that has both torch and the bpy module.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import bpy  # noqa: F401  (bpy makes the modules of the next imports importable)

# isort: split
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from picture_studio import Image, draw_chosen, join_tiles, with_caption

from benchmarks.head_model_accuracy import draw_held_out_expressions, extract, extract_true
from torch_backend.geometry.iso_surface import Surface
from torch_backend.head import load_head
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.head.signed_distance import signed_distance
from torch_backend.inference.head_model import BuiltInHeadModel, load_built_in_head_model

RESOLUTION = 256
EXPRESSIONS = (2, 6, 11, 19, 27, 33, 41, 46)
"""Of the 50 of the benchmark: the first 25 are speech, the others mixtures."""
TILE_PX = 230
LOWEST_M, HIGHEST_M, HALF_WIDTH_M = -0.125, 0.09, 0.095
"""The part of the head that is shown."""
ANGLE = np.radians(20.0)
LIGHT = np.array([0.4, 0.5, 0.77])
NUM_POINTS = 2_500_000
WHITE_TO_RED_MM = 1.0
BACKGROUND = 250


def draw_head_model(weights: Path | None = None) -> Image:
    """Return three rows: true, neural, distance."""
    torch.set_num_threads(1)
    head_model, head = load_built_in_head_model(weights), load_head()
    poses = draw_held_out_expressions(50)[list(EXPRESSIONS)]
    rows: list[list[Image]] = [[], [], []]
    for pose in poses:
        true = extract_true(head, pose, head_model.space, head_model.box, RESOLUTION)
        found = extract(head_model, load_identity_codes().encode({}), pose, RESOLUTION)
        points, normals = draw_points(head_model, true)
        rows[0].append(paint(points, clay(normals)))
        points, normals = draw_points(head_model, found)
        rows[1].append(paint(points, clay(normals)))
        apart = 1e3 * np.abs(signed_distance(head, points, pose))
        rows[2].append(paint(points, heat(apart)))
    captions = ("true", "neural", f"apart: white 0, red {WHITE_TO_RED_MM:g} mm")
    tiles = [with_caption(tile, caption) for row, caption in zip(rows, captions, strict=True) for tile in row]
    return join_tiles(tiles, len(EXPRESSIONS))


def draw_points(head_model: BuiltInHeadModel, surface: Surface) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, 3) of a surface by area, metres, and their smooth normals."""
    generator = np.random.default_rng(0)
    vertices, faces = head_model.space.to_metres(surface.vertices), surface.faces
    shown = (vertices[faces[:, 0], 1] > LOWEST_M - 0.01) & (vertices[faces[:, 0], 2] > -0.02)
    faces = faces[shown]
    corners = vertices[faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = generator.choice(len(faces), NUM_POINTS, p=areas / areas.sum())
    shares = generator.dirichlet((1.0, 1.0, 1.0), NUM_POINTS)
    points = np.einsum("nk,nkc->nc", shares, corners[chosen])
    normals = np.einsum("nk,nkc->nc", shares, surface.vertex_normals[faces[chosen]])
    return points, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def clay(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Grey (n, 3) of a matt surface, 0..1."""
    shade = 0.25 + 0.7 * np.clip(normals @ (LIGHT / np.linalg.norm(LIGHT)), 0.0, 1.0)
    return shade[:, None] * np.array([0.93, 0.86, 0.8])


def heat(millimetres: NDArray[np.float64]) -> NDArray[np.float64]:
    """White to red (n, 3)."""
    share = np.clip(millimetres / WHITE_TO_RED_MM, 0.0, 1.0)[:, None]
    return (1.0 - share) * np.array([0.96, 0.96, 0.94]) + share * np.array([0.8, 0.05, 0.05])


def paint(points: NDArray[np.float64], colors: NDArray[np.float64]) -> Image:
    """The nearest point of each pixel, seen from the front, a little from the side; no perspective."""
    side = np.array([np.cos(ANGLE), 0.0, -np.sin(ANGLE)])
    depth = points @ np.array([np.sin(ANGLE), 0.0, np.cos(ANGLE)])
    height = round(TILE_PX * (HIGHEST_M - LOWEST_M) / (2 * HALF_WIDTH_M))
    columns = np.floor((points @ side / HALF_WIDTH_M + 1.0) * TILE_PX / 2 - 0.05 * TILE_PX).astype(np.int64)
    rows = np.floor((HIGHEST_M - points[:, 1]) / (HIGHEST_M - LOWEST_M) * height).astype(np.int64)
    inside = (columns >= 0) & (columns < TILE_PX) & (rows >= 0) & (rows < height)
    order = np.flatnonzero(inside)[np.argsort(depth[inside], kind="stable")]  # the nearest is written last
    pixels = np.full((height, TILE_PX, 3), BACKGROUND, np.uint8)
    pixels[rows[order], columns[order]] = np.round(255 * np.clip(colors[order], 0, 1))
    return pixels


def _weights_option() -> Path | None:
    if "--weights" not in sys.argv:
        return None
    place = sys.argv.index("--weights")
    path = Path(sys.argv[place + 1])
    del sys.argv[place : place + 2]
    return path


if __name__ == "__main__":
    draw_chosen(
        "Draw the picture of the page about the head model.",
        {"head_model": partial(draw_head_model, _weights_option())},
    )
