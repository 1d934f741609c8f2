"""The skin's colour, relief and gloss as pictures over the UV map: finer than any mesh, the same for all resolutions.

`python -m torch_backend.head.skin_texture` freezes them and the eyes' colour, which motion clips carry.
"""

from __future__ import annotations

import argparse
import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from blender_talkhead.contract.motion_clip import TEXTURE_FILES
from torch_backend.geometry.uv_rasterization import rasterize_triangles
from torch_backend.head.appearance import skin_color
from torch_backend.head.author_space import backend_to_author
from torch_backend.head.eye_texture import bake_eye_color
from torch_backend.head.head import Head, load_head, read_head
from torch_backend.head.skin_detail import NORMAL_EXAGGERATION, skin_relief, skin_roughness

logger = logging.getLogger(__name__)

SKIN_TEXTURE_PATH = Path(__file__).with_name("skin_color.png")
TEXTURE_SIZE = 2048
UV_LIMIT = 0.98
"""The UV map lies in [-UV_LIMIT, UV_LIMIT]^2; texture coordinates are its place in [0, 1]^2."""
BORDER_TEXELS = 8
"""How far colours reach over the map's borders, so that filtering and mip levels find no background there."""


def bake_skin_texture(head: Head, size: int = TEXTURE_SIZE) -> bytes:
    """Return the skin's albedo as the bytes of an 8-bit sRGB PNG.

    Args:
        head: the mean head: colours are functions of its rest positions and appearance fields.
        size: width and height in texels.

    Raises:
        ValueError: size below 1.
    """
    linear = bake_skin_colors(head, size)
    return encode_png(np.round(255.0 * linear_to_srgb(linear)).astype(np.uint8))


def bake_skin_colors(head: Head, size: int) -> NDArray[np.float32]:
    """Return the skin's albedo (size, size, 3) as linear RGB in 0..1, the first row at the top (v = 1)."""
    fields = np.concatenate([head.vertices[: head.num_skin_vertices], head.appearance_fields], axis=1)
    covered, mixed = _rasterize(head, fields, size)
    if not covered.any():
        mean = np.asarray(head.vertex_colors[: head.num_skin_vertices].mean(axis=0), np.float32)
        return np.tile(mean, (size, size, 1))
    return _over_the_border(covered, skin_color(mixed[:, :3], mixed[:, 3:]))


def bake_skin_normals(head: Head, size: int) -> NDArray[np.uint8]:
    """Return the fine relief (size, size, 3) as a tangent-space normal map (x right, y up), 128 for zero."""
    skin = head.num_skin_vertices
    fields = np.concatenate([head.vertices[:skin], _texel_lengths(head, size)[:, None]], axis=1)
    covered, mixed = _rasterize(head, fields, size)
    height = _over_the_border(covered, skin_relief(backend_to_author(mixed[:, :3]))[:, None])[..., 0]
    length = _over_the_border(covered, mixed[:, 3:])[..., 0]
    right = (np.roll(height, -1, axis=1) - np.roll(height, 1, axis=1)) / (2.0 * length)
    up = (np.roll(height, 1, axis=0) - np.roll(height, -1, axis=0)) / (2.0 * length)
    slopes = np.where(covered[..., None], np.stack([-right, -up], axis=-1), 0.0) * NORMAL_EXAGGERATION
    normal = np.concatenate([slopes, np.ones((size, size, 1))], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.round(127.5 + 127.5 * normal).astype(np.uint8)


def bake_skin_roughness(head: Head, size: int) -> NDArray[np.uint8]:
    """Return the roughness as a grey picture (size, size, 3), 255 for 1."""
    fields = np.concatenate([head.vertices[: head.num_skin_vertices], head.appearance_fields], axis=1)
    covered, mixed = _rasterize(head, fields, size)
    rough = skin_roughness(backend_to_author(mixed[:, :3]), mixed[:, 3:])[:, None]
    return np.repeat(np.round(255.0 * _over_the_border(covered, rough)).astype(np.uint8), 3, axis=2)


def _rasterize(head: Head, fields: NDArray[np.floating], size: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which texels (size, size) the skin covers, and the fields (Vskin, C) there (n, C)."""
    coordinates = np.clip((np.asarray(head.uv, dtype=np.float64) / UV_LIMIT + 1.0) / 2.0, 0.0, 1.0)
    index, weights = rasterize_triangles(coordinates, head.skin_triangles, size)
    covered = index >= 0
    corners = head.skin_triangles[index[covered]]
    return covered, np.einsum("nk,nkc->nc", weights[covered], fields[corners])


def _over_the_border(covered: NDArray[np.bool_], values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a picture (size, size, C): values (n, C) on the skin, the nearest ones near it, the mean far away."""
    picture = np.empty((*covered.shape, values.shape[1]), dtype=np.float32)
    picture[covered] = values
    distance, (row, column) = distance_transform_edt(~covered, return_indices=True)
    near = ~covered & (distance <= BORDER_TEXELS)
    picture[near] = picture[row[near], column[near]]
    picture[distance > BORDER_TEXELS] = picture[covered].mean(axis=0)
    return picture


def _texel_lengths(head: Head, size: int) -> NDArray[np.float64]:
    """Return the length (Vskin,) of a texel on the skin at each vertex, cm: the map is conformal, so it has one."""
    corners = 100.0 * head.vertices[head.skin_triangles].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    flat = size * 0.5 * np.asarray(head.uv, dtype=np.float64)[head.skin_triangles] / UV_LIMIT
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    texels = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    total = np.zeros((head.num_skin_vertices, 2))
    for corner in range(3):
        np.add.at(total, head.skin_triangles[:, corner], np.stack([area, texels], axis=1))
    lengths: NDArray[np.float64] = np.sqrt(total[:, 0] / np.maximum(total[:, 1], 1e-12))
    return np.clip(lengths, 0.004, None)


def linear_to_srgb(linear: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return sRGB values in 0..1 of linear ones (IEC 61966-2-1)."""
    clipped = np.clip(linear, 0.0, 1.0)
    encoded: NDArray[np.floating] = np.where(
        clipped <= 0.0031308, 12.92 * clipped, 1.055 * np.power(clipped, 1.0 / 2.4) - 0.055
    )
    return encoded


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return (H, W, 3) 8-bit RGB pixels as the bytes of a PNG file marked sRGB.

    Raises:
        ValueError: pixels of another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels: expected (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    height, width = pixels.shape[:2]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"sRGB", b"\0"),
        (b"IDAT", zlib.compress(_filter_rows(pixels), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _filter_rows(pixels: NDArray[np.uint8]) -> bytes:
    """Filter each row by the PNG method (none, left, up, average, Paeth) with the smallest sum of differences."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(np.int16)
    left, up, corner = np.zeros_like(rows), np.zeros_like(rows), np.zeros_like(rows)
    left[:, 1:], up[1:], corner[1:, 1:] = rows[:, :-1], rows[:-1], rows[:-1, :-1]
    guess = left + up - corner
    to_left, to_up, to_corner = np.abs(guess - left), np.abs(guess - up), np.abs(guess - corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    methods = [rows, rows - left, rows - up, rows - (left + up) // 2, rows - paeth]
    filtered = np.stack([method.astype(np.uint8) for method in methods])
    cost = np.abs(filtered.astype(np.int8).astype(np.int32)).sum(axis=(2, 3))
    best = cost.argmin(axis=0)
    chosen = filtered[best, np.arange(height)].reshape(height, 3 * width)
    return np.concatenate([best[:, None].astype(np.uint8), chosen], axis=1).tobytes()


def encode_jpeg(pixels: NDArray[np.uint8], quality: int = 4) -> bytes:
    """Return (H, W, 3) 8-bit RGB pixels as the bytes of a JPEG file.

    Args:
        pixels: H and W must be even.
        quality: quantizer from 2, the best, to 31.
    """
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height = pixels.shape[1], pixels.shape[0]
        stream.pix_fmt = "yuvj444p"
        stream.options = {"qmin": str(quality), "qmax": str(quality)}
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return buffer.getvalue()


def main() -> None:
    """Bake the pictures of the built-in head and freeze them."""
    parser = argparse.ArgumentParser(description="Bake the textures of the built-in head.")
    parser.add_argument("--head", type=Path, help="npz file of the head; default: the frozen one")
    parser.add_argument("--output", type=Path, default=SKIN_TEXTURE_PATH.parent, help="folder to write to")
    parser.add_argument("--size", type=int, default=TEXTURE_SIZE, help="width and height in texels")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    head = load_head() if arguments.head is None else read_head(arguments.head)
    pictures = {
        SKIN_TEXTURE_PATH.name: lambda: bake_skin_texture(head, arguments.size),
        TEXTURE_FILES["skin_normal"]: lambda: encode_jpeg(bake_skin_normals(head, arguments.size)),
        TEXTURE_FILES["skin_roughness"]: lambda: encode_jpeg(bake_skin_roughness(head, arguments.size // 2)),
        TEXTURE_FILES["eye_color"]: lambda: encode_jpeg(bake_eye_color(arguments.size // 2), 3),
    }
    for name, bake in pictures.items():
        data = bake()
        (arguments.output / name).write_bytes(data)
        logger.info("%s: %.2f MB", arguments.output / name, len(data) / 1e6)


if __name__ == "__main__":
    main()
