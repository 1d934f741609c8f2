"""Draw the pictures of the documentation but the contact sheet: python docs/draw_pictures.py [names].

Needs the Python that has both torch and the bpy module. Everything is rendered by Cycles on the CPU, from the head and
the weights of this checkout; nothing is retouched.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from picture_studio import Image, Sitter, View, draw_chosen, join_tiles, with_caption

from blender_talkhead.compat import enable_nodes
from torch_backend.geometry.mesh_topology import unique_edges
from torch_backend.geometry.surface_sampling import sample_surface
from torch_backend.head import load_head
from torch_backend.models.builders import build_surface_template

RESOLUTIONS = (800, 5_000, 20_000)


def draw_head() -> Image:
    """Return the head from three sides."""
    sitter = Sitter.invite()
    views = [View(size_px=360, turn_degrees=turn) for turn in (0.0, 40.0, 90.0)]
    return join_tiles([sitter.photograph(sitter.head.vertices, view) for view in views], 3)


def draw_resolutions() -> Image:
    """Return one frame ("oh") at three numbers of vertices, with the edges of the triangles."""
    tiles = []
    for count in RESOLUTIONS:
        sitter = Sitter.invite(num_vertices=count, subdivided=False)
        show_edges(sitter.studio.head.data.materials[0])
        tile = sitter.photograph(sitter.speaking("AO"), View(296, 20.0, zoom=1.35, raise_heads=-0.03))
        tiles.append(with_caption(tile, f"{count:,} vertices"))
    return join_tiles(tiles, 3)


def show_edges(material: Any) -> None:
    """Turn a material into matt clay with dark edges."""
    tree = enable_nodes(material)
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    wire, mix = tree.nodes.new("ShaderNodeWireframe"), tree.nodes.new("ShaderNodeMixRGB")
    wire.use_pixel_size = True
    wire.inputs["Size"].default_value = 0.6
    mix.inputs["Color1"].default_value = (0.62, 0.56, 0.52, 1.0)
    mix.inputs["Color2"].default_value = (0.03, 0.04, 0.07, 1.0)
    tree.links.new(wire.outputs["Fac"], mix.inputs["Fac"])
    tree.links.new(mix.outputs["Color"], shader.inputs["Base Color"])
    shader.inputs["Subsurface Weight"].default_value = 0.0


def draw_uv_map() -> Image:
    """Return the conformal map: the template's edges, and 2,000 samples with their triangles."""
    surface = build_surface_template(load_head())
    samples = sample_surface(surface, 2_000, seed=0)
    size = 440
    panels = [
        draw_graph(surface.plane, unique_edges(surface.faces), size, points=False),
        draw_graph(samples.uv.astype(np.float64), unique_edges(samples.faces), size, points=True),
        draw_graph(samples.uv.astype(np.float64), unique_edges(samples.faces), size, True, (0.0, 0.0, 0.5)),
    ]
    captions = (f"template, {len(surface.plane):,} vertices", "2,000 samples", "2,000 samples, face")
    return join_tiles([with_caption(panel, text) for panel, text in zip(panels, captions, strict=True)], 3)


def draw_graph(
    uv: NDArray[np.float64],
    edges: NDArray[np.integer],
    size: int,
    points: bool,
    window: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> Image:
    """Draw edges and points of the UV plane, smoothed by drawing at four times the size.

    Args:
        uv: (V, 2) positions.
        edges: (E, 2) vertices to join.
        size: width and height of the picture in pixels.
        points: mark the vertices too.
        window: centre and half width of the part of the plane that is shown.
    """
    scale = 4
    canvas = np.zeros((size * scale, size * scale), dtype=np.float32)
    place = (uv - window[:2]) / window[2] * [0.5, -0.5] + 0.5
    start, stop = place[edges[:, 0]] * size * scale, place[edges[:, 1]] * size * scale
    steps = np.ceil(np.abs(stop - start).max(axis=1)).astype(int) + 1
    owner = np.repeat(np.arange(len(edges)), steps)
    along = (np.arange(len(owner)) - np.repeat(np.cumsum(steps) - steps, steps)) / np.maximum(steps[owner] - 1, 1)
    stamp(canvas, start[owner] + along[:, None] * (stop - start)[owner], 1, 0.75)
    if points:
        stamp(canvas, place * size * scale, 3, 1.0)
    coverage = np.round(8.0 * canvas.reshape(size, scale, size, scale).mean(axis=(1, 3)))[..., None] / 8.0
    paper, ink = np.array([250.0, 250.0, 248.0]), np.array([28.0, 48.0, 84.0])
    return np.round(paper + coverage * (ink - paper)).astype(np.uint8)


def stamp(canvas: NDArray[np.float32], centers: NDArray[np.float64], radius: int, value: float) -> None:
    """Set squares of half width `radius` round (N, 2) pixel positions (x, y)."""
    size = len(canvas)
    middle = np.floor(centers).astype(int)
    for dx in range(-radius, radius + 1):
        for dy in range(-radius, radius + 1):
            x, y = middle[:, 0] + dx, middle[:, 1] + dy
            inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            canvas[y[inside], x[inside]] = np.maximum(canvas[y[inside], x[inside]], value)


if __name__ == "__main__":
    draw_chosen(
        "Draw the pictures of the documentation.",
        {"head": draw_head, "resolutions": draw_resolutions, "uv_map": draw_uv_map},
    )
