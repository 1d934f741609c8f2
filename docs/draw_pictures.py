"""Draw the pictures of the documentation: python docs/draw_pictures.py [names] [--clip FOLDER].

Needs the Python that has both torch and the bpy module. Everything is rendered by Cycles on the CPU, from the head and
the weights of this checkout; nothing is retouched.
"""

from __future__ import annotations

import argparse
import logging
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import bpy

# bpy makes the next ones importable.
# isort: split
import blf
import imbuf
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from blender_talkhead.compat import enable_nodes, set_denoising, set_still_output  # noqa: E402
from blender_talkhead.contract.motion_clip import ClipTemplate, MotionClip, load_motion_clip  # noqa: E402
from blender_talkhead.contract.result import ResultInfo  # noqa: E402
from blender_talkhead.scene.coordinates import to_blender_axes  # noqa: E402
from blender_talkhead.scene.mesh import create_head_object  # noqa: E402
from blender_talkhead.scene.preview import set_render_look  # noqa: E402
from blender_talkhead.scene.stage import build_stage, create_world, stage_camera  # noqa: E402
from torch_backend.geometry.mesh_topology import unique_edges  # noqa: E402
from torch_backend.geometry.surface_sampling import sample_surface  # noqa: E402
from torch_backend.head import Head, load_head  # noqa: E402
from torch_backend.head.skin_texture import encode_png  # noqa: E402
from torch_backend.inference.skin_mesh import append_parts, build_skin_mesh, interpolate_points  # noqa: E402
from torch_backend.models.builders import build_surface_template  # noqa: E402
from torch_backend.speech_corpus.articulation import articulate  # noqa: E402
from torch_backend.speech_corpus.phones import PhoneSegment  # noqa: E402

logger = logging.getLogger("draw_pictures")

DEMO_RECORDING = REPOSITORY / "blender_talkhead" / "demo" / "demo_sentence.wav"
VISEME_PHONES = ("M", "F", "TH", "S", "SH", "R", "L", "AA", "EH", "IY", "OW", "UW")
RESOLUTIONS = (800, 5_000, 20_000)
SENTENCE_FRAMES = 10
CAPTION_HEIGHT_PX = 26

Image = NDArray[np.uint8]
"""(H, W, 3) sRGB."""


@dataclass(frozen=True)
class View:
    """How one picture of a sheet is taken."""

    size_px: int = 300
    turn_degrees: float = 0.0
    zoom: float = 1.0
    """1 shows the whole head, 2 half of its height."""
    raise_heads: float = 0.0
    """Moves the picture's centre up, in head heights."""


class Studio:
    """One head on the product's own stage; poses it and takes pictures."""

    def __init__(self, clip: MotionClip, subdivided: bool = True) -> None:
        """Build a fresh scene around the clip's template."""
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.scene = bpy.context.scene
        self.scene.world = create_world()
        self.head = create_head_object(clip)
        self.scene.collection.objects.link(self.head)
        if not subdivided:
            self.head.modifiers.clear()
        stage = build_stage(self.head, to_blender_axes(clip.template_vertices))
        self.scene.collection.children.link(stage)
        self.scene.camera = stage_camera(stage)
        set_render_look(self.scene)
        self.scene.cycles.samples = 24
        set_denoising(self.scene.cycles, "HIGH")
        set_still_output(self.scene.render.image_settings)

    def photograph(self, vertices: NDArray[np.floating], view: View) -> Image:
        """Return a picture of the head with the given (V, 3) vertices, backend metres."""
        mesh = self.head.data
        positions = to_blender_axes(np.asarray(vertices, np.float32))
        mesh.vertices.foreach_set("co", np.ascontiguousarray(positions).ravel())
        mesh.update()
        self.head.matrix_world = Matrix.Rotation(math.radians(view.turn_degrees), 4, "Z")
        camera, render = self.scene.camera.data, self.scene.render
        camera.lens = 85.0 * view.zoom
        camera.shift_y = view.raise_heads * view.zoom
        render.resolution_x = render.resolution_y = view.size_px
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            render.filepath = str(path)
            bpy.ops.render.render(write_still=True)
            return read_image(path)


def read_image(path: Path, channel: slice | int = slice(3)) -> Image:
    """Read a picture file by Blender, as stored (no colour management); all colours, or one channel (3 is alpha)."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    pixels = np.empty(width * height * image.channels, dtype=np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    rows = pixels.reshape(height, width, -1)[::-1, :, channel]
    return np.round(255.0 * np.clip(rows, 0.0, 1.0)).astype(np.uint8)


def build_clip(head: Head, num_vertices: int | None) -> tuple[MotionClip, Callable[[NDArray[np.floating]], Any]]:
    """Return a clip without motion, and the function that maps (V, 3) head vertices to the clip's."""
    mesh = build_skin_mesh(head, num_vertices, 0, None)
    starts, corners, corner_uvs, parts = append_parts(head, mesh)
    skin = head.num_skin_vertices

    def transfer(values: NDArray[np.floating]) -> NDArray[np.float32]:
        return np.concatenate([interpolate_points(mesh.points, values[:skin]), values[skin:]]).astype(np.float32)

    template = ClipTemplate(
        transfer(head.vertices), starts, corners, corner_uvs, transfer(head.vertex_colors), mesh.regions, parts
    )
    values = {field.name: getattr(template, field.name) for field in fields(ClipTemplate)}
    values.pop("skin_texture_png")
    info = ResultInfo("motion_clip", "mmtalker", 30.0, 1, "", "", "", 0, {})
    clip = MotionClip(info=info, vertex_offsets=np.zeros((1, len(template.template_vertices), 3), np.float32), **values)
    clip.skin_texture = REPOSITORY / "torch_backend" / "head" / "skin_color.png"
    return clip, transfer


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


def with_caption(tile: Image, text: str) -> Image:
    """Return the picture with a line of text under it, set in Blender's own font."""
    caption = imbuf.new((tile.shape[1], CAPTION_HEIGHT_PX))
    blf.size(0, 15)
    blf.color(0, 1.0, 1.0, 1.0, 1.0)
    with blf.bind_imbuf(0, caption):
        width, _ = blf.dimensions(0, text)
        blf.position(0, (tile.shape[1] - width) / 2, 8, 0)
        blf.draw_buffer(0, text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "caption.png"
        imbuf.write(caption, filepath=str(path))
        coverage = read_image(path, channel=3)
    return np.concatenate([tile, 255 - np.repeat(coverage[..., None], 3, axis=2)])


def join_tiles(tiles: Sequence[Image], columns: int) -> Image:
    """Return equal pictures in rows of `columns`, with a thin white gap."""
    gap = 4
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


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
