"""What the scripts that draw pictures share: the product's own stage, captions, sheets of tiles.

Needs the Python that has the bpy module.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
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
from blender_talkhead.contract.motion_clip import ClipTemplate, MotionClip
from blender_talkhead.contract.result import ResultInfo
from blender_talkhead.scene.coordinates import to_blender_axes
from blender_talkhead.scene.mesh import create_head_object
from blender_talkhead.scene.preview import set_render_look
from blender_talkhead.scene.stage import build_stage, create_world, stage_camera
from torch_backend.head import Head
from torch_backend.inference.skin_mesh import append_parts, build_skin_mesh, interpolate_points

REPOSITORY = Path(__file__).resolve().parent.parent
CAPTION_HEIGHT_PX = 26

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

    def __init__(self, clip: MotionClip, subdivided: bool = True, samples: int = 24) -> None:
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
        self.scene.cycles.samples = samples
        set_denoising(self.scene.cycles, "HIGH")
        set_still_output(self.scene.render.image_settings)

    def photograph(self, vertices: NDArray[np.floating], view: View) -> Image:
        """Return a picture of the head with the given (V, 3) vertices, backend metres."""
        mesh = self.head.data
        positions = to_blender_axes(np.asarray(vertices, np.float32))
        mesh.vertices.foreach_set("co", np.ascontiguousarray(positions).ravel())
        mesh.update()
        self.aim(view)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            self.scene.render.filepath = str(path)
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
