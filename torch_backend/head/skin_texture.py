"""The skin's colour as an image over the UV map: finer than any mesh, the same for every number of vertices.

`python -m torch_backend.head.skin_texture` freezes it as skin_color.png, which motion clips carry.
"""

from __future__ import annotations

import argparse
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from torch_backend.geometry.uv_rasterization import rasterize_triangles
from torch_backend.head.appearance import skin_color
from torch_backend.head.head import Head, load_head

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
    skin = head.num_skin_vertices
    coordinates = np.clip((np.asarray(head.uv, dtype=np.float64) / UV_LIMIT + 1.0) / 2.0, 0.0, 1.0)
    index, weights = rasterize_triangles(coordinates, head.skin_triangles, size)
    covered = index >= 0
    if not covered.any():
        return np.tile(np.asarray(head.vertex_colors[:skin].mean(axis=0), np.float32), (size, size, 1))
    corners = head.skin_triangles[index[covered]]
    fields = np.concatenate([head.vertices[:skin], head.appearance_fields], axis=1)
    mixed = np.einsum("nk,nkc->nc", weights[covered], fields[corners])
    colors = np.empty((size, size, 3), dtype=np.float32)
    colors[covered] = skin_color(mixed[:, :3], mixed[:, 3:])
    # Every other texel takes the colour of the nearest covered one near the border, the mean far from it.
    distance, (row, column) = distance_transform_edt(~covered, return_indices=True)
    near = ~covered & (distance <= BORDER_TEXELS)
    colors[near] = colors[row[near], column[near]]
    colors[distance > BORDER_TEXELS] = colors[covered].mean(axis=0)
    return colors


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


def main() -> None:
    """Bake the texture of the built-in head and freeze it."""
    parser = argparse.ArgumentParser(description="Bake the skin texture of the built-in head.")
    parser.add_argument("--output", type=Path, default=SKIN_TEXTURE_PATH, help="PNG file to write")
    parser.add_argument("--size", type=int, default=TEXTURE_SIZE, help="width and height in texels")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    data = bake_skin_texture(load_head(), arguments.size)
    arguments.output.write_bytes(data)
    logger.info("%s: %d x %d, %.2f MB", arguments.output, arguments.size, arguments.size, len(data) / 1e6)


if __name__ == "__main__":
    main()
