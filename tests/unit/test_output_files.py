"""All files of a job appear together, or none; progress never falls."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from blender_talkhead.bake.disk_space import (
    count_clip_frames,
    estimate_bake_bytes,
    require_free_space,
    require_possible_bake,
)
from blender_talkhead.contract.errors import BadInputError, OutputError
from blender_talkhead.output_files import OutputFiles
from blender_talkhead.reporting import JobReporter
from blender_talkhead.scene.film_file import is_complete_mp4


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_files_appear_with_commit_only(tmp_path: Path) -> None:
    with OutputFiles() as files:
        first, second = files.reserve(tmp_path / "new" / "a.blend"), files.reserve(tmp_path / "new" / "b.mp4")
        assert first.suffix == ".blend" and second.suffix == ".mp4"
        first.write_text("a")
        second.write_text("b")
        scratch = files.scratch_folder(tmp_path / "new")
        (scratch / "x").write_text("x")
        assert not (tmp_path / "new" / "a.blend").exists()
        files.commit()
    assert names(tmp_path) == ["new", "new/a.blend", "new/b.mp4"]


def test_an_error_leaves_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "a.blend").write_text("old")
    with pytest.raises(KeyboardInterrupt), OutputFiles() as files:
        files.reserve(tmp_path / "a.blend").write_text("new")
        files.reserve(tmp_path / "deep" / "er" / "b.png").write_text("new")
        files.scratch_folder(tmp_path / "other")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a.blend"]
    assert (tmp_path / "a.blend").read_text() == "old"


def test_old_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.blend").write_text("old")
    with OutputFiles() as files:
        files.reserve(tmp_path / "a.blend").write_text("new")
        files.commit()
    assert names(tmp_path) == ["a.blend"] and (tmp_path / "a.blend").read_text() == "new"


def test_an_unwritten_file_stops_all(tmp_path: Path) -> None:
    (tmp_path / "a.blend").write_text("old")
    with OutputFiles() as files:
        files.reserve(tmp_path / "a.blend").write_text("new")
        files.reserve(tmp_path / "b.png")
        with pytest.raises(OutputError, match=r"b\.png was not written"):
            files.commit()
    assert names(tmp_path) == ["a.blend"] and (tmp_path / "a.blend").read_text() == "old"


def test_a_failed_rename_takes_the_others_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.blend").write_text("old")
    rename = Path.rename

    def fail_for_b(self: Path, target: Path) -> Path:
        if Path(target).name == "b.png":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with OutputFiles() as files:
        files.reserve(tmp_path / "a.blend").write_text("new")
        files.reserve(tmp_path / "b.png").write_text("new")
        monkeypatch.setattr(Path, "rename", fail_for_b)
        with pytest.raises(OutputError, match="No space left"):
            files.commit()
    assert names(tmp_path) == ["a.blend"] and (tmp_path / "a.blend").read_text() == "old"


def test_unwritable_places_are_output_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with OutputFiles() as files:
        with pytest.raises(OutputError):
            files.reserve(tmp_path / "file" / "a.blend")
        with pytest.raises(OutputError, match="folder"):
            files.reserve(tmp_path)
        with pytest.raises(OutputError):
            files.scratch_folder(tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_bake_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_possible_bake("per-frame", 100_000, 10, tmp_path)
    with pytest.raises(BadInputError, match="100,001"):
        require_possible_bake("per-frame", 100_001, 10, tmp_path)
    assert estimate_bake_bytes("cache", 324_000, 1500) == 324_000 * 1500 * 12
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1_000_000_000})())
    with pytest.raises(BadInputError, match="5,866 MB"):
        require_possible_bake("cache", 324_000, 1500, tmp_path)
    require_free_space(tmp_path, 900_000_000, "x")
    monkeypatch.undo()
    with pytest.raises(OutputError):
        require_free_space(tmp_path / "missing", 1, "x")


@pytest.mark.parametrize(
    ("seconds", "scene_rate", "expected"), [(0.0, 30, 1), (1.0, 30, 31), (1.0, 24, 25), (10 / 3, 60, 201)]
)
def test_frames_of_a_recording(seconds: float, scene_rate: float, expected: int) -> None:
    assert count_clip_frames(seconds, 30.0, scene_rate) == expected


def test_progress_never_falls_and_is_one_json_object_a_line() -> None:
    output, log = io.StringIO(), io.StringIO()
    reporter = JobReporter(True, output, log)
    reporter.progress("a", 0.5, 2.0)
    reporter.progress("b", 0.2)
    reporter.step("c", 0.6, 0.8)(0.5)
    reporter.warning("w")
    reporter.error(3, "e")
    reporter.done({"output": None}, "text")
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [line["fraction"] for line in lines if line["type"] == "progress"] == [0.5, 0.5, 0.6, 0.7]
    assert lines[-3:] == [
        {"type": "warning", "text": "w", "job": ""},
        {"type": "error", "exit_code": 3, "text": "e", "job": ""},
        {"type": "done", "job": "", "output": None},
    ]
    assert log.getvalue() == "error: e\n"


def test_text_goes_to_the_log() -> None:
    output, log = io.StringIO(), io.StringIO()
    reporter = JobReporter(False, output, log)
    reporter.progress("listening", 0.25, 12.0)
    reporter.progress("listening", 0.26, 11.0)  # too soon to repeat
    reporter.progress("baking", 0.5)
    reporter.done({}, "done: a.blend")
    assert output.getvalue() == ""
    assert log.getvalue().splitlines() == [
        " 25%  listening, about 12 s left in this step",
        " 50%  baking",
        "done: a.blend",
    ]


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def test_complete_films(tmp_path: Path) -> None:
    film = tmp_path / "a.mp4"
    whole = box(b"ftyp", b"isom") + box(b"mdat", b"x" * 100) + box(b"moov", b"y" * 30)
    large = box(b"moov", b"y") + b"\0\0\0\1mdat" + (16 + 5).to_bytes(8, "big") + b"xxxxx"
    for content, expected in [
        (whole, True),
        (large, True),
        (whole[:-1], False),
        (whole[:-38], False),
        (box(b"ftyp", b"isom") + b"\0\0\0\0mdat" + b"x" * 50, False),
        (whole + b"abc", False),
        (b"", False),
    ]:
        film.write_bytes(content)
        assert is_complete_mp4(film) is expected
