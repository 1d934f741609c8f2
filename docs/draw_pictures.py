"""Draw the pictures of the documentation: python docs/draw_pictures.py [names] [--clip FOLDER].

Needs the Python that has both torch and the bpy module. Everything is rendered by Cycles on the CPU, from the head and
the weights of this checkout; nothing is retouched.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from picture_studio import REPOSITORY, Image, Studio, View, build_clip, join_tiles, with_caption

from blender_talkhead.compat import enable_nodes
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from torch_backend.geometry.mesh_topology import unique_edges
from torch_backend.geometry.surface_sampling import sample_surface
from torch_backend.head import Head, load_head
from torch_backend.head.skin_texture import encode_png
from torch_backend.models.builders import build_surface_template
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import PhoneSegment

logger = logging.getLogger("draw_pictures")

DEMO_RECORDING = REPOSITORY / "blender_talkhead" / "demo" / "demo_sentence.wav"
VISEME_PHONES = ("M", "F", "TH", "S", "SH", "R", "L", "AA", "EH", "IY", "OW", "UW")
RESOLUTIONS = (800, 5_000, 20_000)
SENTENCE_FRAMES = 10


def draw_head(head: Head) -> Image:
    """Return the head from three sides."""
    clip, transfer = build_clip(head, None)
    studio = Studio(clip)
    views = [View(size_px=360, turn_degrees=turn) for turn in (0.0, 40.0, 90.0)]
    return join_tiles([studio.photograph(transfer(head.vertices), view) for view in views], 3)


def draw_visemes(head: Head) -> Image:
    """Return twelve visemes, each the articulation model in the middle of a phone held between pauses."""
    clip, transfer = build_clip(head, None)
    studio = Studio(clip)
    tiles = []
    for phone in VISEME_PHONES:
        weights = articulate([PhoneSegment(0.4, 0.75, phone)], np.arange(0.0, 1.2, 1 / 60))[int(0.575 * 60)]
        tiles.append(studio.photograph(transfer(head.pose(weights)), View(208, 15.0, 2.1, -0.14)))
    return join_tiles([with_caption(tile, phone) for tile, phone in zip(tiles, VISEME_PHONES, strict=True)], 6)


def telling_frames(clip: MotionClip, count: int) -> list[int]:
    """Return one frame of each of `count` equal stretches, by turns the most open and the most closed mouth."""
    gap = mouth_gap(clip)
    edges = np.round(np.linspace(0.06, 0.96, count + 1) * (len(gap) - 1)).astype(int)
    extremes = (np.argmax, np.argmin)
    return [int(start + extremes[k % 2](gap[start:end])) for k, (start, end) in enumerate(pairwise(edges))]


def mouth_gap(clip: MotionClip) -> np.ndarray:
    """Return the height of the inner-lip opening in every frame, (T,), metres."""
    offsets = np.asarray(clip.vertex_offsets)[:, :, 1]
    return offsets[:, clip.regions["lips_inner_upper"]].mean(1) - offsets[:, clip.regions["lips_inner_lower"]].mean(1)


def draw_sentence(clip: MotionClip) -> Image:
    """Return ten frames of a clip, in time order, of open and closed moments by turns."""
    studio = Studio(clip)
    tiles = []
    for frame in telling_frames(clip, SENTENCE_FRAMES):
        tile = studio.photograph(clip.template_vertices + clip.vertex_offsets[frame], View(208, 10.0, 1.5, -0.05))
        tiles.append(with_caption(tile, f"{frame / clip.info.frame_rate:.2f} s"))
    return join_tiles(tiles, 5)


def draw_resolutions(head: Head) -> Image:
    """Return one frame ("oh") at three numbers of vertices, with the edges of the triangles."""
    weights = articulate([PhoneSegment(0.4, 0.75, "AO")], np.arange(0.0, 1.2, 1 / 60))[int(0.575 * 60)]
    tiles = []
    for count in RESOLUTIONS:
        clip, transfer = build_clip(head, count)
        studio = Studio(clip, subdivided=False)
        show_edges(studio.head.data.materials[0])
        tile = studio.photograph(transfer(head.pose(weights)), View(296, 20.0, 1.35, -0.03))
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


def draw_uv_map(head: Head) -> Image:
    """Return the conformal map: the template's edges, and 2,000 samples with their triangles."""
    surface = build_surface_template(head)
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


def animate_demo(folder: Path) -> MotionClip:
    """Run the backend on the recording that ships and return the clip."""
    target = folder / "clip"
    command = [sys.executable, "-m", "torch_backend", "animate", str(DEMO_RECORDING), "--output", str(target)]
    subprocess.run([*command, "--method", "mmtalker"], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    return load_motion_clip(target)


def main() -> None:
    """Draw the chosen pictures into docs/pictures."""
    head = load_head()
    pictures: dict[str, Callable[[], Image]] = {
        "head": lambda: draw_head(head),
        "visemes": lambda: draw_visemes(head),
        "resolutions": lambda: draw_resolutions(head),
        "uv_map": lambda: draw_uv_map(head),
    }
    parser = argparse.ArgumentParser(description="Draw the pictures of the documentation.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join([*pictures, 'sentence'])}; default all")
    parser.add_argument("--clip", type=Path, help="motion clip for the sentence; default: the demo recording, animated")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "pictures")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {*pictures, "sentence"}
    if unknown:
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pictures["sentence"] = lambda: draw_sentence(
            load_motion_clip(arguments.clip) if arguments.clip else animate_demo(Path(folder))
        )
        for name in arguments.names or pictures:
            data = encode_png(pictures[name]())
            (arguments.output / f"{name}.png").write_bytes(data)
            logger.info("%s.png: %d kB", name, len(data) // 1000)


if __name__ == "__main__":
    main()
