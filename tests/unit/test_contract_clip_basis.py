"""The optional basis of a motion clip: round trip, absence, damage, and reading a clip that is being written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.contract.errors import BackendError
from blender_talkhead.contract.motion_clip import MotionClipWriter, load_motion_clip
from blender_talkhead.contract.result import ResultInfo
from tests.synthetic_clip import make_curves, make_offsets, make_performance, make_template

NUM_FRAMES, NUM_SHAPES = 7, 3
TEMPLATE = make_template(4, 4)
NUM_VERTICES = len(TEMPLATE.template_vertices)
INFO = ResultInfo("motion_clip", "mmtalker", 30.0, NUM_FRAMES, "a.wav", "aa", "bb", 0)


def make_basis() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = generator.normal(size=(NUM_SHAPES, NUM_VERTICES, 3)).astype(np.float32)
    return shapes, np.clip(generator.normal(size=(NUM_FRAMES, NUM_SHAPES)), -1, 1).astype(np.float32)


def write_clip(folder: Path) -> Path:
    with MotionClipWriter(folder, INFO, TEMPLATE) as writer:
        writer.append(make_offsets(TEMPLATE, NUM_FRAMES))
        writer.write_basis(*make_basis(), error_limit_m=2e-5, max_error_m=1.5e-5)
        return writer.commit()


def test_round_trip(tmp_path: Path) -> None:
    clip = load_motion_clip(write_clip(tmp_path / "clip"))
    shapes, weights = make_basis()
    assert isinstance(clip.basis_shapes, np.memmap)
    np.testing.assert_array_equal(clip.basis_shapes, shapes)
    np.testing.assert_array_equal(clip.basis_weights, weights)
    assert clip.basis_error_limit_m == pytest.approx(2e-5)
    assert clip.basis_max_error_m == pytest.approx(1.5e-5)
    assert not clip.basis_is_remainder


def test_a_basis_of_the_remainder(tmp_path: Path) -> None:
    for performed in (True, False):
        folder = tmp_path / str(performed)
        with MotionClipWriter(folder, INFO, TEMPLATE) as writer:
            writer.append(make_offsets(TEMPLATE, NUM_FRAMES))
            writer.write_basis(*make_basis(), error_limit_m=2e-5, max_error_m=1.5e-5, is_remainder=True)
            if performed:
                writer.write_performance(make_performance(TEMPLATE))
            writer.commit(make_curves(NUM_FRAMES) if performed else None)
    assert load_motion_clip(tmp_path / "True").basis_is_remainder
    with pytest.raises(BackendError, match="no curves"):
        load_motion_clip(tmp_path / "False")


@pytest.mark.parametrize("value", [None, "all", 1])
def test_what_it_repeats_must_be_known(tmp_path: Path, value: object) -> None:
    path = write_clip(tmp_path / "clip") / "basis.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "repeats": value}))
    with pytest.raises(BackendError, match="repeats"):
        load_motion_clip(tmp_path / "clip")


@pytest.mark.parametrize(
    ("shapes", "weights", "text"),
    [
        (np.zeros((2, NUM_VERTICES, 3), np.float32), np.zeros((NUM_FRAMES, 3), np.float32), "basis_weights"),
        (np.zeros((2, NUM_VERTICES - 1, 3), np.float32), np.zeros((NUM_FRAMES, 2), np.float32), "basis_shapes"),
        (np.zeros((2, NUM_VERTICES, 3)), np.zeros((NUM_FRAMES, 2), np.float32), "float64"),
        (np.zeros((0, NUM_VERTICES, 3), np.float32), np.zeros((NUM_FRAMES, 0), np.float32), "at least 1"),
        (np.zeros((2, NUM_VERTICES, 3), np.float32), np.full((NUM_FRAMES, 2), 1.01, np.float32), r"-1\.\.1"),
        (np.zeros((2, NUM_VERTICES, 3), np.float32), np.full((NUM_FRAMES, 2), np.nan, np.float32), r"-1\.\.1"),
        (np.full((2, NUM_VERTICES, 3), np.inf, np.float32), np.zeros((NUM_FRAMES, 2), np.float32), "finite"),
    ],
)
def test_a_wrong_basis_is_refused_by_writer_and_reader(
    tmp_path: Path, shapes: np.ndarray, weights: np.ndarray, text: str
) -> None:
    with MotionClipWriter(tmp_path / "new", INFO, TEMPLATE) as writer, pytest.raises(ValueError, match=text):
        writer.write_basis(shapes, weights, 2e-5, 1e-5)
    folder = write_clip(tmp_path / "clip")
    np.save(folder / "basis_shapes.npy", shapes)
    np.save(folder / "basis_weights.npy", weights)
    with pytest.raises(BackendError, match=text):
        load_motion_clip(folder)


@pytest.mark.parametrize("name", ["basis_shapes.npy", "basis_weights.npy", "basis.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_damage_is_a_backend_error(tmp_path: Path, name: str, damage: str) -> None:
    folder = write_clip(tmp_path / "clip")
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[:-5], "garbage": b"\x93nonsense" * 9}[damage])
    elif name == "basis.json":
        assert load_motion_clip(folder).basis_shapes is None  # a clip without a basis
        return
    with pytest.raises(BackendError):
        load_motion_clip(folder)


@pytest.mark.parametrize("value", [None, "1", True, -1.0])
def test_errors_must_be_lengths(tmp_path: Path, value: object) -> None:
    path = write_clip(tmp_path / "clip") / "basis.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_error_mm": value}))
    with pytest.raises(BackendError, match="max_error_mm"):
        load_motion_clip(tmp_path / "clip")


def test_frames_are_read_while_the_clip_is_written(tmp_path: Path) -> None:
    offsets = make_offsets(TEMPLATE, NUM_FRAMES)
    with MotionClipWriter(tmp_path / "clip", INFO, TEMPLATE) as writer:
        writer.append(offsets[:4])
        np.testing.assert_array_equal(writer.read_offsets(1, 4), offsets[1:4])
        with pytest.raises(ValueError, match=r"0\.\.4"):
            writer.read_offsets(3, 5)
        writer.append(offsets[4:])
        np.testing.assert_array_equal(writer.read_offsets(0, NUM_FRAMES), offsets)
        writer.commit()
        with pytest.raises(ValueError):
            writer.read_offsets(0, 1)
        with pytest.raises(ValueError):
            writer.write_basis(*make_basis(), 2e-5, 1e-5)
    np.testing.assert_array_equal(load_motion_clip(tmp_path / "clip").vertex_offsets, offsets)


def test_a_basis_goes_with_a_clip_that_is_not_committed(tmp_path: Path) -> None:
    with MotionClipWriter(tmp_path / "clip", INFO, TEMPLATE) as writer:
        writer.append(make_offsets(TEMPLATE, NUM_FRAMES))
        writer.write_basis(*make_basis(), 2e-5, 1e-5)
        assert (writer.partial_folder / "basis.json").is_file()
    assert list(tmp_path.iterdir()) == []
