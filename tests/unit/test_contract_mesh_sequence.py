"""mesh_sequence folders: round trip, validation, atomic writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.contract.errors import BackendError, OutputError
from blender_talkhead.contract.mesh_sequence import (
    FrameMesh,
    MeshSequenceWriter,
    load_mesh_sequence,
    unfinished_sequence,
)
from blender_talkhead.contract.result import ResultInfo


def make_info(num_frames: int, kind: str = "mesh_sequence") -> ResultInfo:
    return ResultInfo(kind, "facetalk", 24.0, num_frames, "a.wav", "0" * 64, "1" * 64, 7)


def make_frame(count: int) -> FrameMesh:
    """A fan of `count` triangles."""
    generator = np.random.default_rng(count)
    vertices = generator.normal(size=(count + 2, 3)).astype(np.float32)
    faces = np.stack([np.zeros(count), np.arange(1, count + 1), np.arange(2, count + 2)], axis=1).astype(np.int32)
    return FrameMesh(vertices, faces, generator.integers(0, 256, (count + 2, 3)).astype(np.uint8))


def write(folder: Path, frames: list[FrameMesh], has_colors: bool) -> Path:
    with MeshSequenceWriter(folder, make_info(len(frames)), has_colors) as writer:
        for frame in frames:
            writer.append(frame.vertices, frame.faces, frame.colors if has_colors else None)
        return writer.commit()


@pytest.mark.parametrize("has_colors", [True, False])
def test_frames_come_back_as_they_were(tmp_path: Path, has_colors: bool) -> None:
    frames = [make_frame(count) for count in (3, 200, 1)]
    sequence = load_mesh_sequence(write(tmp_path / "result", frames, has_colors))
    assert sequence.num_frames == 3 and sequence.num_vertices == 202
    assert isinstance(sequence.vertices, np.memmap) and isinstance(sequence.faces, np.memmap)
    assert sequence.info == make_info(3)
    for index, frame in enumerate(frames):
        found = sequence.read_frame(index)
        np.testing.assert_array_equal(found.vertices, frame.vertices)
        np.testing.assert_array_equal(found.faces, frame.faces)
        assert (found.colors is not None) == has_colors
        if found.colors is not None:
            np.testing.assert_array_equal(found.colors, frame.colors)
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_frame_may_be_empty(tmp_path: Path) -> None:
    empty = FrameMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert load_mesh_sequence(write(tmp_path / "one", [empty], False)).num_vertices == 0
    sequence = load_mesh_sequence(write(tmp_path / "two", [empty, make_frame(4)], False))
    assert len(sequence.read_frame(0).faces) == 0 and len(sequence.read_frame(1).faces) == 4


def test_what_is_not_valid_is_refused(tmp_path: Path) -> None:
    good = make_frame(5)
    assert good.colors is not None
    with MeshSequenceWriter(tmp_path / "result", make_info(1), True) as writer:
        with pytest.raises(ValueError, match="float32"):
            writer.append(good.vertices.astype(np.float64), good.faces, good.colors)
        with pytest.raises(ValueError, match="must index"):
            writer.append(good.vertices[:-1], good.faces, good.colors[:-1])
        with pytest.raises(ValueError, match="finite"):
            writer.append(good.vertices * np.float32(np.nan), good.faces, good.colors)
        with pytest.raises(ValueError, match="expected colours"):
            writer.append(good.vertices, good.faces)
        with pytest.raises(ValueError, match="expected 1 frames, got 0"):
            writer.commit()
        writer.append(good.vertices, good.faces, good.colors)
        with pytest.raises(ValueError, match="got more"):
            writer.append(good.vertices, good.faces, good.colors)
    assert not list(tmp_path.iterdir()), "left without commit: nothing stays"
    with pytest.raises(ValueError, match="motion_clip"):
        MeshSequenceWriter(tmp_path / "result", make_info(1, "motion_clip"))


def test_only_result_folders_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    write(folder, [make_frame(2)], False)
    write(folder, [make_frame(3)], False)
    assert len(load_mesh_sequence(folder).faces) == 3
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="not a result folder"):
        MeshSequenceWriter(tmp_path / "mine", make_info(1))


@pytest.mark.parametrize("name", ["vertices.npy", "faces.npy", "face_starts.npy", "vertex_colors.npy", "result.json"])
def test_damaged_folders_are_refused(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "result", [make_frame(30), make_frame(40)], True)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) - 20])
    with pytest.raises(BackendError):
        load_mesh_sequence(folder)


def test_faces_beyond_their_frame_are_found_when_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "result", [make_frame(3), make_frame(4)], False)
    faces = np.load(folder / "faces.npy")
    faces[-1, 0] = 6
    np.save(folder / "faces.npy", faces)
    sequence = load_mesh_sequence(folder)
    assert len(sequence.read_frame(0).faces) == 3
    with pytest.raises(BackendError, match="frame 1"):
        sequence.read_frame(1)


@pytest.mark.parametrize("lost", ["nothing", "a half frame", "the last record", "a half record"])
def test_an_unfinished_sequence_goes_on_where_it_stopped(tmp_path: Path, lost: str) -> None:
    frames = [make_frame(count) for count in (3, 200, 1, 50)]
    whole = write(tmp_path / "whole", frames, True)
    folder = tmp_path / "result"

    def append(writer: MeshSequenceWriter, part: list[FrameMesh]) -> None:
        for frame in part:
            writer.append(frame.vertices, frame.faces, frame.colors)

    with MeshSequenceWriter(folder, make_info(4), True, resumable=True) as writer:
        append(writer, frames[:2])
    partial = unfinished_sequence(folder)
    assert not folder.exists() and partial.is_dir()
    if lost == "a half frame":
        with (partial / "vertices.npy").open("ab") as file:
            file.write(b"abcde")
    elif lost != "nothing":
        log = (partial / "frames.bin").read_bytes()
        (partial / "frames.bin").write_bytes(log[:-16] if lost == "the last record" else log[:-3])
    with MeshSequenceWriter(folder, make_info(4), True, resumable=True) as writer:
        assert writer.num_written == (2 if lost in {"nothing", "a half frame"} else 1)
        append(writer, frames[writer.num_written :])
        assert writer.commit() == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result", "whole"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


@pytest.mark.parametrize("damage", ["another number of frames", "no colours", "rows are missing", "no log"])
def test_an_unfinished_sequence_that_does_not_fit_begins_anew(tmp_path: Path, damage: str) -> None:
    folder, frame = tmp_path / "result", make_frame(5)
    with MeshSequenceWriter(folder, make_info(4), True, resumable=True) as writer:
        writer.append(frame.vertices, frame.faces, frame.colors)
    if damage == "rows are missing":
        content = (unfinished_sequence(folder) / "faces.npy").read_bytes()
        (unfinished_sequence(folder) / "faces.npy").write_bytes(content[:-1])
    elif damage == "no log":
        (unfinished_sequence(folder) / "frames.bin").unlink()
    num_frames, has_colors = (3 if damage.startswith("another") else 4), damage != "no colours"
    with MeshSequenceWriter(folder, make_info(num_frames), has_colors, resumable=True) as writer:
        assert writer.num_written == 0
        for _ in range(num_frames):
            writer.append(frame.vertices, frame.faces, frame.colors if has_colors else None)
        writer.commit()
    assert load_mesh_sequence(folder).num_frames == num_frames


def test_places_and_pictures(tmp_path: Path) -> None:
    frame = make_frame(6)
    places = np.random.default_rng(0).integers(0, 65_536, (8, 5)).astype(np.uint16)
    pictures = {"skin_color": b"skin", "eye_color": b"eye"}
    with MeshSequenceWriter(tmp_path / "result", make_info(2), True, resumable=True, pictures=pictures) as writer:
        writer.append(frame.vertices, frame.faces, frame.colors, places)
        with pytest.raises(ValueError, match="expected places"):
            writer.append(frame.vertices, frame.faces, frame.colors)
        with pytest.raises(ValueError, match=r"\(8, 5\)"):
            writer.append(frame.vertices, frame.faces, frame.colors, places[:, :4])
    with MeshSequenceWriter(tmp_path / "result", make_info(2), True, resumable=True, pictures=pictures) as writer:
        assert writer.num_written == 1
        writer.append(frame.vertices, frame.faces, frame.colors, places[::-1].copy())
        sequence = load_mesh_sequence(writer.commit())
    for index, expected in enumerate((places, places[::-1])):
        found = sequence.read_frame(index).places
        assert found is not None
        np.testing.assert_array_equal(found, expected)
    assert {name: path.read_bytes() for name, path in sequence.pictures.items()} == pictures
    with pytest.raises(ValueError, match="pictures must be named"):
        MeshSequenceWriter(tmp_path / "other", make_info(1), pictures={"hat": b""})
    with MeshSequenceWriter(tmp_path / "plain", make_info(1)) as writer, pytest.raises(ValueError, match="no places"):
        writer.append(frame.vertices, frame.faces, None, places)
