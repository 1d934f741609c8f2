"""Scene frames and the streamed basis against naive references."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.bake import scene_frames
from blender_talkhead.bake.scene_frames import SceneFrames
from blender_talkhead.contract.errors import BackendError
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.facial import motion_basis
from blender_talkhead.facial.motion_basis import MotionBasis, fit_motion_basis, shift_to_nonnegative
from blender_talkhead.scene.coordinates import to_backend_axes, to_blender_axes
from tests.synthetic_clip import make_offsets, make_template, write_synthetic_clip


@pytest.fixture
def clip(tmp_path: Path) -> MotionClip:
    return load_motion_clip(write_synthetic_clip(tmp_path / "clip", num_frames=61))


def with_offsets(clip: MotionClip, offsets: np.ndarray) -> MotionClip:
    info = type(clip.info)(**{**clip.info.__dict__, "num_frames": len(offsets)})
    return MotionClip(**{**clip.__dict__, "vertex_offsets": offsets.astype(np.float32), "info": info})


def fit(clip: MotionClip, limit: float, report: Callable[[float], None] = lambda fraction: None) -> MotionBasis:
    """The basis in Blender's axes, at the clip's own rate."""
    frames = SceneFrames(clip, None)
    return fit_motion_basis(len(frames), frames.read, to_blender_axes(clip.template_vertices), limit, report)


def test_axes_by_hand_and_round_trip() -> None:
    left_up_out = np.array([[1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_array_equal(to_blender_axes(left_up_out), [[1, -3, 2]])
    np.testing.assert_array_equal(to_backend_axes(to_blender_axes(left_up_out)), left_up_out)


@pytest.mark.parametrize("scene_rate", [23.976, 24.0, 25.0, 29.97, 30.0, 60.0])
@pytest.mark.parametrize("chunk_frames", [1, 7, 1000])
def test_scene_frames_equal_numpys_interpolation(
    clip: MotionClip, scene_rate: float, chunk_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_frames, "CHUNK_BYTES", chunk_frames * 12 * clip.num_vertices)
    frames = SceneFrames(clip, scene_rate)
    chunks = list(frames.chunks())
    read = np.concatenate([chunk for _, chunk in chunks])
    assert [first for first, _ in chunks] == list(range(0, len(frames), chunk_frames))
    times = np.minimum(np.arange(len(frames)) / scene_rate, 60 / 30)
    offsets = np.asarray(clip.vertex_offsets, np.float64)
    for vertex in (0, 57, 440):
        for axis, (source, sign) in enumerate([(0, 1), (2, -1), (1, 1)]):
            expected = sign * np.interp(times, np.arange(61) / 30, offsets[:, vertex, source])
            np.testing.assert_allclose(read[:, vertex, axis], expected, atol=1e-8)


def test_damaged_offsets_are_a_backend_error(clip: MotionClip) -> None:
    offsets = np.array(clip.vertex_offsets)
    offsets[30, 5, 1] = np.nan
    with pytest.raises(BackendError, match="not finite"):
        list(SceneFrames(with_offsets(clip, offsets), 24.0).chunks())


@pytest.mark.parametrize("chunk_frames", [4, 1000])
def test_a_motion_of_known_rank_gets_that_many_shapes(
    clip: MotionClip, chunk_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion_basis, "CHUNK_BYTES", chunk_frames * 12 * clip.num_vertices)
    generator = np.random.default_rng(5)
    offsets = np.einsum("tk,kvc->tvc", generator.normal(size=(61, 5)), generator.normal(size=(5, 457, 3))) * 1e-3
    basis = fit(with_offsets(clip, offsets), 2e-6)
    assert basis.shapes.shape == (5, 457, 3) and basis.weights.shape == (61, 5)


@pytest.mark.parametrize("limit", [1e-3, 1e-4, 2e-5, 2e-6])
def test_the_limit_holds_for_every_vertex_and_frame(clip: MotionClip, limit: float) -> None:
    basis = fit(clip, limit)
    rebuilt = np.einsum("tk,kvc->tvc", basis.weights.astype(np.float64), basis.shapes)
    error = np.linalg.norm(rebuilt - to_blender_axes(np.asarray(clip.vertex_offsets)), axis=2).max()
    assert error <= limit * 1.001
    assert basis.max_error_m == pytest.approx(error, abs=2e-8)
    assert np.abs(basis.weights).max() <= 1 and np.abs(basis.weights).max(axis=0).min() > 0.999


def test_about_as_few_shapes_as_the_full_decomposition(clip: MotionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_basis, "CHUNK_BYTES", 8 * 12 * clip.num_vertices)
    limit = 2e-5
    flat = np.asarray(clip.vertex_offsets, np.float64).reshape(61, -1)
    left, values, right = np.linalg.svd(flat, full_matrices=False)
    for best in range(1, 61):
        residual = flat - (left[:, :best] * values[:best]) @ right[:best]
        if np.linalg.norm(residual.reshape(61, -1, 3), axis=2).max() <= limit:
            break
    basis = fit(clip, limit)
    assert len(basis.shapes) <= best + 1


def test_no_motion_gives_one_shape_of_zeros(clip: MotionClip) -> None:
    still = with_offsets(clip, np.zeros((9, 457, 3)))
    basis = fit(still, 2e-5)
    assert basis.shapes.shape == (1, 457, 3) and not basis.shapes.any() and not basis.weights.any()


def test_nonnegative_weights_give_the_same_motion(clip: MotionClip) -> None:
    signed = fit(clip, 2e-5)
    shifted = shift_to_nonnegative(signed)
    assert len(shifted.shapes) == len(signed.shapes) + 1 and signed.weights.min() < -0.1
    assert shifted.weights.min() == 0 and shifted.weights.max() == 1 and (shifted.weights[:, 0] == 1).all()
    before, after = (np.einsum("tk,kvc->tvc", b.weights.astype(np.float64), b.shapes) for b in (signed, shifted))
    assert np.abs(before - after).max() < 1e-7  # metres


def test_nonnegative_weights_of_a_constant_motion_by_hand() -> None:
    shapes = np.array([[[1.0, 0, 0]], [[0, 2.0, 0]]], np.float32)
    weights = np.array([[-1.0, 0.5], [1.0, 0.5]], np.float32)
    shifted = shift_to_nonnegative(MotionBasis(shapes, weights, 0.0))
    np.testing.assert_array_equal(shifted.shapes, [[[-1, 1, 0]], [[2, 0, 0]]])
    np.testing.assert_array_equal(shifted.weights, [[1, 0], [1, 1]])


def test_an_impossible_limit_is_refused(clip: MotionClip) -> None:
    with pytest.raises(ValueError, match="too small"):
        fit(clip, 1e-12)
    with pytest.raises(ValueError, match="at least 1 frame"):
        fit_motion_basis(0, clip.read_offsets, clip.template_vertices, 2e-5)
    with pytest.raises(ValueError, match="above 0"):
        fit(clip, 0.0)


def test_progress_rises_to_one(clip: MotionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_basis, "CHUNK_BYTES", 8 * 12 * clip.num_vertices)
    seen: list[float] = []
    fit(clip, 2e-5, seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_long_clips_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(scene_frames, "CHUNK_BYTES", 1_000_000)
    monkeypatch.setattr(motion_basis, "CHUNK_BYTES", 1_000_000)
    clip = load_motion_clip(write_synthetic_clip(tmp_path / "clip", num_frames=4000))  # 22 MB
    tracemalloc.start()
    for _ in SceneFrames(clip, 24.0).chunks():
        pass
    reading = tracemalloc.get_traced_memory()[1]
    basis = fit(clip, 2e-5)
    fitting = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert basis.max_error_m <= 2e-5
    assert reading < 8_000_000
    assert fitting < 12_000_000


def test_synthetic_motion_looks_like_speech() -> None:
    template = make_template()
    offsets = make_offsets(template, 90)
    assert 0.01 < np.linalg.norm(offsets, axis=2).max() < 0.04
    assert np.linalg.matrix_rank(offsets.reshape(90, -1).astype(np.float64), tol=1e-4) > 5
