"""Motion clip folders: round trip, damage, atomic writing, constant memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.contract.errors import BackendError, OutputError
from blender_talkhead.contract.motion_clip import ClipTemplate, MotionClipWriter, load_motion_clip
from blender_talkhead.contract.result import ResultInfo

NUM_VERTICES = 6


def make_info(num_frames: int = 3) -> ResultInfo:
    return ResultInfo("motion_clip", "mmtalker", 30.0, num_frames, "a.wav", "aa", "bb", 7, {"vertices": 6})


def make_template(num_vertices: int = NUM_VERTICES, texture: bytes | None = b"png") -> ClipTemplate:
    generator = np.random.default_rng(0)
    return ClipTemplate(
        template_vertices=generator.normal(size=(num_vertices, 3)).astype(np.float32),
        polygon_starts=np.array([0, 3, 7], np.int32),
        polygon_vertices=np.array([0, 1, 2, 2, 3, 4, 5], np.int32),
        corner_uvs=generator.random((7, 2)).astype(np.float32),
        vertex_colors=generator.random((num_vertices, 3)).astype(np.float32),
        regions={"lips": np.array([0, 2], np.int32), "ears": np.array([], np.int32)},
        parts={"skin": (0, 4), "eyes": (4, num_vertices)},
        skin_texture_png=texture,
    )


def make_offsets(num_frames: int = 3, num_vertices: int = NUM_VERTICES) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(num_frames, num_vertices, 3)).astype(np.float32)


def write_clip(folder: Path, offsets: np.ndarray | None = None) -> Path:
    offsets = make_offsets() if offsets is None else offsets
    with MotionClipWriter(folder, make_info(len(offsets)), make_template()) as writer:
        writer.append(offsets[:2])
        writer.append(offsets[2:])
        return writer.commit(blendshape_weights=np.full((len(offsets), 52), 0.5, np.float32))


def test_round_trip_keeps_every_array(tmp_path: Path) -> None:
    clip = load_motion_clip(write_clip(tmp_path / "deep" / "clip"))
    template = make_template()
    assert clip.info == make_info()
    assert isinstance(clip.vertex_offsets, np.memmap)
    np.testing.assert_array_equal(clip.vertex_offsets, make_offsets())
    for name in ("template_vertices", "polygon_starts", "polygon_vertices", "corner_uvs", "vertex_colors"):
        np.testing.assert_array_equal(getattr(clip, name), getattr(template, name))
        assert getattr(clip, name).dtype == getattr(template, name).dtype
    assert clip.parts == template.parts and list(clip.parts) == ["skin", "eyes"]
    assert {name: ids.tolist() for name, ids in clip.regions.items()} == {"lips": [0, 2], "ears": []}
    np.testing.assert_array_equal(clip.blendshape_weights, np.full((3, 52), 0.5, np.float32))
    assert clip.head_rotation is None and clip.eye_rotations is None
    assert clip.skin_texture is not None and clip.skin_texture.read_bytes() == b"png"
    assert (clip.num_frames, clip.num_vertices) == (3, NUM_VERTICES)
    assert [path.name for path in tmp_path.glob("deep/*")] == ["clip"]


def test_hair_and_textures_are_carried(tmp_path: Path) -> None:
    strands = np.linspace(-0.1, 0.1, 5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    template = ClipTemplate(**{**make_template().__dict__, "hair": strands, "textures": {"skin_normal": b"jpeg"}})
    with MotionClipWriter(tmp_path / "clip", make_info(), template) as writer:
        writer.append(make_offsets())
        clip = load_motion_clip(writer.commit())
    assert clip.hair is not None and clip.hair.dtype == np.float32
    np.testing.assert_allclose(clip.hair, strands, atol=5e-5)
    assert {name: path.read_bytes() for name, path in clip.textures.items()} == {"skin_normal": b"jpeg"}
    plain = load_motion_clip(write_clip(tmp_path / "plain"))
    assert plain.hair is None and plain.textures == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hair": np.zeros((5, 1, 3), np.float32)}, "hair must be float32"),
        ({"hair": np.full((5, 4, 3), np.nan, np.float32)}, "hair must be finite"),
        ({"textures": {"beard": b""}}, "textures must be named skin_normal"),
    ],
)
def test_broken_hair_and_unknown_textures_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipTemplate(**{**make_template().__dict__, **changed}).validate()


def test_the_offsets_file_is_a_plain_npy_file(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    np.save(tmp_path / "reference.npy", make_offsets())
    assert (folder / "vertex_offsets.npy").read_bytes() == (tmp_path / "reference.npy").read_bytes()


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = write_clip(tmp_path / "first"), write_clip(tmp_path / "second")
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["template_vertices.npy", "vertex_offsets.npy", "polygon_starts.npy", "regions.json", "result.json"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_damage_is_a_backend_error(tmp_path: Path, name: str, damage: str) -> None:
    path = write_clip(tmp_path / "clip") / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[:-5], "garbage": b"\x93nonsense" * 9}[damage])
    with pytest.raises(BackendError):
        load_motion_clip(tmp_path / "clip")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("template_vertices", np.zeros((5, 3), np.float32)),
        ("polygon_vertices", np.array([0, 1, 2, 2, 3, 4, 6], np.int32)),
        ("polygon_vertices", np.array([0, 1, 2, 2, 3, 4, -1], np.int32)),
        ("polygon_starts", np.array([0, 2, 7], np.int32)),
        ("vertex_colors", np.zeros((6, 3), np.float64)),
        ("vertex_offsets", np.zeros((2, 6, 3), np.float32)),
        ("blendshape_weights", np.zeros((3, 51), np.float32)),
        ("template_vertices", np.full((6, 3), np.nan, np.float32)),
    ],
)
def test_a_wrong_array_is_a_backend_error(tmp_path: Path, name: str, array: np.ndarray) -> None:
    np.save(write_clip(tmp_path / "clip") / f"{name}.npy", array)
    with pytest.raises(BackendError):
        load_motion_clip(tmp_path / "clip")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    np.save(folder / "template_vertices.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BackendError):
        load_motion_clip(folder)


@pytest.mark.parametrize("change", [{"format_version": 2}, {"kind": "mesh_sequence"}, {"seed": "1"}, {"num_frames": 0}])
def test_another_version_or_kind_is_a_backend_error(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_clip(tmp_path / "clip") / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BackendError):
        load_motion_clip(tmp_path / "clip")


def test_nothing_is_left_after_an_exception_or_without_commit(tmp_path: Path) -> None:
    with pytest.raises(KeyError), MotionClipWriter(tmp_path / "clip", make_info(), make_template()) as writer:
        writer.append(make_offsets())
        raise KeyError
    with MotionClipWriter(tmp_path / "clip", make_info(), make_template()) as writer:
        writer.append(make_offsets())
    assert list(tmp_path.iterdir()) == []


def test_the_final_name_appears_only_with_commit(tmp_path: Path) -> None:
    with MotionClipWriter(tmp_path / "clip", make_info(), make_template()) as writer:
        writer.append(make_offsets())
        assert not (tmp_path / "clip").exists()
        writer.commit()
        assert (tmp_path / "clip").exists()


def test_missing_surplus_or_invalid_frames_are_refused(tmp_path: Path) -> None:
    with MotionClipWriter(tmp_path / "clip", make_info(), make_template()) as writer:
        writer.append(make_offsets(2))
        with pytest.raises(ValueError, match="expected 3 frames, got 2"):
            writer.commit()
        with pytest.raises(ValueError, match="expected 3 frames"):
            writer.append(make_offsets(2))
        with pytest.raises(ValueError, match="shape"):
            writer.append(make_offsets(1, 5))
        with pytest.raises(ValueError, match="not finite"):
            writer.append(np.full((1, NUM_VERTICES, 3), np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_result_folder_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip")
    offsets = np.zeros((4, NUM_VERTICES, 3), np.float32)
    clip = load_motion_clip(write_clip(tmp_path / "clip", offsets))
    assert clip.num_frames == 4
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not a result folder"):
        write_clip(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "mine"]


def test_an_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_clip(tmp_path / "file" / "clip")


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk:
        def write(self, data: object) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    writer = MotionClipWriter(tmp_path / "clip", make_info(), make_template())
    monkeypatch.setattr(writer, "_offsets", FullDisk())
    with pytest.raises(OutputError, match="No space left"):
        writer.append(make_offsets())
    assert list(tmp_path.iterdir()) == []


def test_writing_takes_constant_memory(tmp_path: Path) -> None:
    frames, num_vertices = 2000, 3000  # 72 MB in all
    chunk = np.zeros((20, num_vertices, 3), np.float32)
    with MotionClipWriter(tmp_path / "clip", make_info(frames), make_template(num_vertices)) as writer:
        tracemalloc.start()
        for _ in range(frames // 20):
            writer.append(chunk)
        writer.commit()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3_000_000
    assert load_motion_clip(tmp_path / "clip").vertex_offsets.shape == (frames, num_vertices, 3)


def test_parts_must_cover_the_vertices_in_order() -> None:
    template = make_template()
    broken = ClipTemplate(**{**template.__dict__, "parts": {"skin": (0, 4), "eyes": (5, 6)}})
    with pytest.raises(ValueError, match="must start at vertex 4"):
        broken.validate()
    broken = ClipTemplate(**{**template.__dict__, "parts": {"skin": (0, 5)}})
    with pytest.raises(ValueError, match="cover all 6"):
        broken.validate()


def test_frames_are_read_as_mapped(tmp_path: Path) -> None:
    clip = load_motion_clip(write_clip(tmp_path / "clip", make_offsets(9)))
    np.testing.assert_array_equal(clip.read_offsets(2, 7), make_offsets(9)[2:7])
    np.testing.assert_array_equal(clip.read_offsets(0, 9), make_offsets(9))
    clip.vertex_offsets = np.array(clip.vertex_offsets)
    np.testing.assert_array_equal(clip.read_offsets(8, 9), make_offsets(9)[8:])
