"""The skin texture: rasterizing, PNG bytes read back by another decoder, colours where they belong."""

from __future__ import annotations

import io
from dataclasses import replace

import av
import numpy as np
import pytest

from torch_backend.geometry.uv_rasterization import rasterize_triangles
from torch_backend.head import load_head
from torch_backend.head.skin_texture import (
    SKIN_TEXTURE_PATH,
    TEXTURE_SIZE,
    UV_LIMIT,
    bake_skin_colors,
    encode_png,
    linear_to_srgb,
)


def decode_png(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data), mode="r", format="png_pipe") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_rasterizing_two_triangles_by_hand() -> None:
    # The unit square in two triangles; 2 x 2 texels with centres at 1/4 and 3/4. v points up, rows down.
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    index, weights = rasterize_triangles(corners, np.array([[0, 1, 2], [0, 2, 3]]), 2)
    assert index[0, 0] == 1  # top left
    assert index[1, 1] == 0  # bottom right
    assert (index >= 0).all()
    assert weights[1, 1] == pytest.approx([0.25, 0.5, 0.25])  # (3/4, 1/4) = 1/2 (1, 0) + 1/4 (1, 1)
    assert weights.sum(axis=2) == pytest.approx(np.ones((2, 2)))


def test_texels_outside_are_marked() -> None:
    corners = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    index, weights = rasterize_triangles(corners, np.array([[0, 1, 2]]), 8)
    assert (index >= 0).sum() == 10  # 4 + 3 + 2 + 1 texel centres with u + v <= 1/2
    assert weights[index < 0].max() == 0.0
    with pytest.raises(ValueError, match="at least 1"):
        rasterize_triangles(corners, np.array([[0, 1, 2]]), 0)


def test_srgb_at_known_values() -> None:
    assert linear_to_srgb(np.array([0.0, 0.0031308, 0.2140411, 1.0, 2.0])) == pytest.approx(
        [0.0, 0.04044994, 0.5, 1.0, 1.0], abs=1e-5
    )


@pytest.mark.parametrize("kind", ["noise", "ramp", "flat"])
def test_png_is_read_back_exactly_by_another_decoder(kind: str) -> None:
    random = np.random.default_rng(0)
    pixels = {
        "noise": random.integers(0, 256, (13, 17, 3)),
        "ramp": np.add.outer(np.arange(13) * 9, np.arange(17) * 5)[..., None] + [0, 20, 40],
        "flat": np.full((13, 17, 3), 200),
    }[kind].astype(np.uint8)
    assert np.array_equal(decode_png(encode_png(pixels)), pixels)


def test_png_refuses_other_arrays() -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_png(np.zeros((4, 4), dtype=np.uint8))


def test_colors_reach_over_the_border() -> None:
    head = load_head()
    colors = bake_skin_colors(head, 256)
    assert colors.shape == (256, 256, 3)
    assert np.isfinite(colors).all()
    assert colors.min() >= 0.0
    shrunk = bake_skin_colors(replace(head, uv=0.5 * head.uv), 256)
    inside = shrunk[128, 128 - 63]
    assert shrunk[128, 128 - 66] == pytest.approx(inside, abs=0.1)
    assert shrunk[0, 0] == pytest.approx(shrunk[0, 255])


def test_the_frozen_texture_shows_the_head_it_ships_with() -> None:
    data = SKIN_TEXTURE_PATH.read_bytes()
    assert len(data) < 1_500_000
    image = decode_png(data).astype(np.float64) / 255.0
    assert image.shape == (TEXTURE_SIZE, TEXTURE_SIZE, 3)
    head = load_head()
    skin = head.num_skin_vertices
    uv = (head.uv.astype(np.float64) / UV_LIMIT + 1.0) / 2.0
    column = np.clip(np.floor(uv[:, 0] * TEXTURE_SIZE), 0, TEXTURE_SIZE - 1).astype(int)
    row = np.clip(np.floor((1.0 - uv[:, 1]) * TEXTURE_SIZE), 0, TEXTURE_SIZE - 1).astype(int)
    wanted = linear_to_srgb(head.vertex_colors[:skin].astype(np.float64))
    error = np.abs(image[row, column] - wanted).max(axis=1)
    assert np.median(error) < 0.02
    assert np.percentile(error, 95) < 0.12


def test_normals_of_a_ramp_have_its_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relief that rises by 0.1 cm a cm towards the map's right leans every normal to the left by that slope."""
    from torch_backend.head import skin_texture

    head = load_head()
    flat = np.stack([head.uv[:, 0], head.uv[:, 1], np.zeros(len(head.uv))], axis=1).astype(np.float32)
    head = replace(head, vertices=np.concatenate([flat, head.vertices[len(flat) :]]))
    monkeypatch.setattr(skin_texture, "skin_relief", lambda points: 0.1 * points[:, 0])
    size = 128
    pixels = skin_texture.bake_skin_normals(head, size)[size // 2, size // 2].astype(np.float64)
    normal = pixels / 127.5 - 1.0
    assert -normal[0] / normal[2] == pytest.approx(0.1 * skin_texture.NORMAL_EXAGGERATION, abs=0.02)
    assert abs(normal[1]) < 0.02


def test_lips_and_lid_margins_are_glossier_than_skin() -> None:
    from torch_backend.head.author_space import backend_to_author
    from torch_backend.head.skin_detail import skin_roughness

    head = load_head()
    rough = skin_roughness(backend_to_author(head.vertices[: head.num_skin_vertices]), head.appearance_fields)
    assert rough.min() >= 0.0 and rough.max() <= 1.0
    lips, margin = head.regions["lips"], head.regions["lid_margin"]
    assert rough[margin].mean() < rough[lips].mean() < np.median(rough) - 0.05


def test_the_eyes_picture_has_a_dark_pupil_a_colored_iris_and_a_pale_white() -> None:
    from torch_backend.head.eye_texture import eye_color, eye_uv
    from torch_backend.head.eyeballs import IRIS_DEGREES, PUPIL_DEGREES, build_eyeballs

    around = np.linspace(-np.pi, np.pi, 60)
    rings = {
        at: eye_color(np.full(60, at), around).mean(axis=0)
        for at in (0.5 * PUPIL_DEGREES, 16.0, IRIS_DEGREES - 1.5, 40.0)
    }
    pupil, iris, limbus, white = rings.values()
    assert pupil.max() < 0.02 and white.min() > 0.5
    assert limbus.mean() < iris.mean() < white.mean() and iris[2] > iris[0]
    coordinates = eye_uv()
    assert coordinates.shape == (len(build_eyeballs().vertices), 2)
    assert coordinates.min() >= 0.0 and coordinates.max() <= 1.0
    assert coordinates[0].tolist() == [0.5, 0.5]


def test_all_pictures_ship_and_are_small() -> None:
    from blender_talkhead.contract.motion_clip import TEXTURE_FILES

    sizes = {name: SKIN_TEXTURE_PATH.with_name(file).stat().st_size for name, file in TEXTURE_FILES.items()}
    assert sizes.keys() == {"skin_normal", "skin_roughness", "eye_color"}
    assert max(sizes.values()) < 600_000
