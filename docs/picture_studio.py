"""What the scripts that draw pictures share: the product's own stage, captions, sheets of tiles.

Needs the Python that has torch and the bpy module.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

from blender_talkhead.compat import set_denoising, set_still_output
from blender_talkhead.contract.motion_clip import KIND, MotionClip, MotionClipWriter, load_motion_clip
from blender_talkhead.contract.result import ResultInfo
from blender_talkhead.scene.coordinates import to_blender_axes
from blender_talkhead.scene.mesh import create_head_object, link_head, read_rest_positions
from blender_talkhead.scene.preview import set_render_look
from blender_talkhead.scene.stage import COLLECTION_NAME, build_stage, create_world, stage_camera
from torch_backend.head import Head, load_head
from torch_backend.head.skin_texture import encode_png
from torch_backend.head.tongue_motion import build_tongue_motion
from torch_backend.inference.mmtalker import MMTalkerPlan, build_plan, values_with_parts
from torch_backend.inference.skin_mesh import build_skin_mesh
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES, SILENCE, PhoneSegment
from torch_backend.speech_corpus.tongue_targets import tongue_gestures

logger = logging.getLogger("pictures")

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURES = REPOSITORY / "docs" / "pictures"
CAPTION_HEIGHT_PX = 26
CAPTION_SIZE = 15
SMALLEST_CAPTION_SIZE = 11
SAMPLES = 24
_PHONE_SECONDS = (0.4, 0.75)
"""A phone that is shown is held so long between pauses."""
_ROW_RATE = 60.0

Image = NDArray[np.uint8]
"""(H, W, 3) sRGB."""


@dataclass(frozen=True)
class View:
    """How one picture of a sheet is taken."""

    size_px: int = 300
    turn_degrees: float = 0.0
    """Of the head about the vertical, to its own left."""
    nod_degrees: float = 0.0
    """Of the head, downwards."""
    zoom: float = 1.0
    """1 shows the whole head, 2 half of its height."""
    raise_heads: float = 0.0
    """Moves the picture's centre up, in head heights."""


class Studio:
    """One head on the product's own stage; poses it and takes pictures."""

    def __init__(self, head: Any, samples: int = SAMPLES) -> None:
        """Put the stage around a head of the open file, unless it stands there."""
        self.scene = bpy.context.scene
        self.head = head
        stage = self.scene.collection.children.get(COLLECTION_NAME)
        if stage is None:
            self.scene.world = create_world()
            stage = build_stage(head, read_rest_positions(head.data))
            self.scene.collection.children.link(stage)
        self.scene.camera = stage_camera(stage)
        set_render_look(self.scene)
        self.scene.cycles.use_adaptive_sampling = False
        self.scene.cycles.samples = samples
        set_denoising(self.scene.cycles, "HIGH")
        set_still_output(self.scene.render.image_settings)

    @classmethod
    def around(cls, clip: MotionClip, subdivided: bool = True, samples: int = SAMPLES) -> Studio:
        """Build a fresh scene around a clip's template."""
        bpy.ops.wm.read_factory_settings(use_empty=True)
        head = create_head_object(clip)
        link_head(bpy.context.scene.collection, head)
        if not subdivided:
            head.modifiers.clear()
        return cls(head, samples)

    def photograph(self, vertices: NDArray[np.floating], view: View) -> Image:
        """Return a picture of the head with the given (V, 3) vertices, backend metres."""
        mesh = self.head.data
        positions = to_blender_axes(np.asarray(vertices, np.float32))
        mesh.vertices.foreach_set("co", np.ascontiguousarray(positions).ravel())
        mesh.update()
        return self.snap(view)

    def snap(self, view: View) -> Image:
        """Return a picture of the head as it is."""
        self.aim(view)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            self.scene.render.filepath = str(path)
            with without_render_log():
                bpy.ops.render.render(write_still=True)
            return read_image(path)

    def aim(self, view: View) -> None:
        """Turn the head and set the camera."""
        nod = Matrix.Rotation(math.radians(view.nod_degrees), 4, "X")
        self.head.matrix_world = Matrix.Rotation(math.radians(view.turn_degrees), 4, "Z") @ nod
        camera, render = self.scene.camera.data, self.scene.render
        camera.lens = 85.0 * view.zoom
        camera.shift_y = view.raise_heads * view.zoom
        render.resolution_x = render.resolution_y = view.size_px

    def projection(self) -> NDArray[np.float64]:
        """Return the matrix (4, 4) that takes head points (x, y, z, 1), backend metres, to pixels, as last aimed.

        The result (a, b, c, d) is a point a / d pixels from the left and b / d from the top.
        """
        size = self.scene.render.resolution_x
        bpy.context.view_layer.update()
        graph = bpy.context.evaluated_depsgraph_get()
        to_clip = self.scene.camera.calc_matrix_camera(graph, x=size, y=size)
        to_clip = to_clip @ self.scene.camera.matrix_world.inverted() @ self.head.matrix_world
        to_pixels = Matrix(((size / 2, 0, 0, size / 2), (0, -size / 2, 0, size / 2), (0, 0, 1, 0), (0, 0, 0, 1)))
        backend_axes = Matrix(((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1)))
        return np.array(to_pixels @ to_clip @ backend_axes, dtype=np.float64)


@dataclass(frozen=True)
class Sitter:
    """A head that can be posed and photographed."""

    plan: MMTalkerPlan
    studio: Studio

    @classmethod
    def invite(cls, identity: str | int | None = None, num_vertices: int | None = None, **look: Any) -> Sitter:
        """Make a head with everything that ships with it: textures, hair, all parts."""
        head = load_head()
        mesh = build_skin_mesh(head, num_vertices, 0, None)
        plan = build_plan(head, mesh, num_vertices, identity, 0)
        info = ResultInfo(KIND, "character", 30.0, 1, "", "", "", 0, {})
        with tempfile.TemporaryDirectory() as folder:
            with MotionClipWriter(Path(folder) / "clip", info, plan) as writer:
                writer.append(np.zeros((1, *plan.template_vertices.shape), np.float32))
                writer.commit()
            clip = load_motion_clip(Path(folder) / "clip")
            return cls(plan, Studio.around(clip, **look))

    @property
    def head(self) -> Head:
        """The head with the identity applied."""
        return self.plan.head

    def photograph(self, vertices: NDArray[np.floating], view: View) -> Image:
        """Return a picture of the head with (V, 3) vertices of the head's own mesh, at the resolution it was made."""
        return self.studio.photograph(values_with_parts(self.head, self.plan.points, vertices), view)

    def speaking(self, phone: str) -> NDArray[np.float32]:
        """Return the vertices (V, 3) in the middle of a phone held between pauses, tongue and all."""
        start, end = _PHONE_SECONDS
        times, middle = np.arange(0.0, start + end, 1.0 / _ROW_RATE), 0.5 * (start + end)
        weights = articulate([PhoneSegment(start, end, phone)], times)[int(middle * _ROW_RATE)]
        posteriors = np.zeros((len(times), len(PHONES)))
        held = (times >= start) & (times < end)
        posteriors[:, PHONE_INDEX[SILENCE]], posteriors[:, PHONE_INDEX[phone]] = ~held, held
        gestures = tongue_gestures(posteriors, _ROW_RATE, np.array([middle]))
        motion = build_tongue_motion(load_head(), self.head, self.plan.identity)
        posed, tongue = self.head.pose(weights), slice(*self.head.parts["tongue"])
        posed[tongue] += motion.displace(motion.weights(gestures, (posed - self.head.vertices)[None, tongue]))[0]
        return posed


@contextmanager
def without_render_log() -> Iterator[None]:
    """Keep Blender's line for every step of a render from the terminal."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


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


def with_caption(tile: Image, text: str) -> Image:
    """Return the picture with a line of text under it, set in Blender's own font, smaller where it is too long."""
    caption = imbuf.new((tile.shape[1], CAPTION_HEIGHT_PX))
    blf.color(0, 1.0, 1.0, 1.0, 1.0)
    with blf.bind_imbuf(0, caption):
        for size in range(CAPTION_SIZE, SMALLEST_CAPTION_SIZE - 1, -1):
            blf.size(0, size)
            width, _ = blf.dimensions(0, text)
            if width <= tile.shape[1] - 4:
                break
        blf.position(0, max(0.0, (tile.shape[1] - width) / 2), 8, 0)
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


def draw_chosen(description: str, pictures: Mapping[str, Callable[[], Image]]) -> None:
    """Draw the pictures named on the command line (default: all) into docs/pictures (or --output)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(pictures)}; default all")
    parser.add_argument("--output", type=Path, default=PICTURES)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(pictures)
    if unknown:
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or pictures:
        data = encode_png(pictures[name]())
        (arguments.output / f"{name}.png").write_bytes(data)
        logger.info("%s.png: %d kB", name, len(data) // 1000)
