"""The MMTalker predictor: meshes at any resolution, windows that agree, constant memory, clear errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blender_talkhead.contract.errors import BackendError, CancelledError, UsageError
from torch_backend.audio.expression_controls import compute_controls
from torch_backend.config import config_to_dict
from torch_backend.head import load_head
from torch_backend.inference import mmtalker as inference
from torch_backend.inference.mmtalker import DEFAULT_WEIGHTS, MMTalkerPredictor, choose_precision, has_fast_bfloat16
from torch_backend.inference.skin_mesh import append_parts, build_skin_mesh, interpolate_points, to_texture_coordinates
from torch_backend.models.builders import build_mmtalker, build_template_graph
from torch_backend.models.checkpoints import file_sha256, save_checkpoint
from torch_backend.models.mmtalker import MMTalker, MMTalkerConfig
from torch_backend.modules.surface_points import SurfacePoints

RATE = 16_000
CONFIG = MMTalkerConfig(feature_size=7, speech_encoder="test", hidden_size=8, encoding_size=6, decoder_size=8)


@dataclass(frozen=True)
class _NoNormalization:
    pass


class _EnvelopeEncoder:
    """Four numbers a frame from the sound around it; counts what it is asked for."""

    name = "test"
    feature_size = 4
    context_seconds = 0.1

    def __init__(self) -> None:
        self.requests: list[tuple[int, int]] = []

    def fit_normalization(self, samples: np.ndarray) -> _NoNormalization:
        return _NoNormalization()

    def encode(
        self, samples: np.ndarray, first_frame: int, num_frames: int, frame_rate: float, normalization: Any
    ) -> torch.Tensor:
        self.requests.append((first_frame, num_frames))
        centers = ((first_frame + np.arange(num_frames)) / frame_rate * RATE).astype(int)
        rows = [
            [np.abs(samples[max(0, c - reach) : c + reach]).mean() * 10 for reach in (50, 200, 800, 1600)]
            for c in centers
        ]
        return torch.tensor(np.array(rows, np.float32))


def _speechlike(seconds: float) -> np.ndarray:
    random = np.random.default_rng(0)
    times = np.arange(int(seconds * RATE)) / RATE
    envelope = np.clip(np.sin(2 * np.pi * 3.3 * times) + np.sin(2 * np.pi * 0.7 * times), 0, 2)
    return (0.2 * envelope * random.standard_normal(len(times))).astype(np.float32)


def _model(**changes: Any) -> MMTalker:
    torch.manual_seed(0)
    model = build_mmtalker(MMTalkerConfig(**{**config_to_dict(CONFIG), **changes}), build_template_graph(load_head()))
    torch.nn.init.normal_(model.decoder.output.weight, std=0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> MMTalker:
    return _model()


@pytest.fixture
def predictor(model: MMTalker) -> MMTalkerPredictor:
    return MMTalkerPredictor(model, _EnvelopeEncoder(), "0" * 64, "float32")


# --- meshes


def test_own_mesh_is_the_head(predictor: MMTalkerPredictor) -> None:
    head, plan = load_head(), predictor.plan()
    plan.validate()
    assert np.allclose(plan.template_vertices, head.vertices, atol=1e-7)
    assert plan.parts == {name: tuple(span) for name, span in head.parts.items()}
    assert np.array_equal(np.unique(plan.polygon_vertices), np.unique(head.polygon_vertices))
    assert (np.diff(plan.polygon_starts) == 4).sum() > 3000  # quads stay quads
    assert {"lips", "lips_inner_upper", "lips_inner_lower", "mouth_corner_left", "eye_region"} <= set(plan.regions)


@pytest.mark.parametrize("num_vertices", [1000, 5000])
def test_sampled_mesh_has_the_wanted_vertices_and_keeps_the_lips(
    predictor: MMTalkerPredictor, num_vertices: int
) -> None:
    head, plan = load_head(), predictor.plan(num_vertices)
    plan.validate()
    assert plan.parts["skin"] == (0, num_vertices)
    assert len(plan.template_vertices) == num_vertices + len(head.vertices) - head.num_skin_vertices
    upper, lower = (plan.template_vertices[plan.regions[f"lips_inner_{name}"]] for name in ("upper", "lower"))
    assert len(upper) == len(lower) >= 5
    # At rest the lips touch: every upper contact point has a lower one at its place.
    distance = np.linalg.norm(upper[:, None] - lower[None], axis=-1).min(axis=1)
    assert distance.max() < 1e-5
    assert {"lips", "mouth_corner_left", "mouth_corner_right", "eye_region", "upper_face"} <= set(plan.regions)
    for name in ("mouth_corner_left", "mouth_corner_right"):
        expected = head.vertices[head.regions[name]].mean(axis=0)
        assert np.linalg.norm(plan.template_vertices[plan.regions[name]].mean(axis=0) - expected) < 0.005
    assert 0 <= plan.corner_uvs.min() <= plan.corner_uvs.max() <= 1


def test_plans_are_deterministic_and_seeded(predictor: MMTalkerPredictor) -> None:
    first, again, other = (predictor.plan(1000, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.template_vertices, again.template_vertices)
    assert np.array_equal(first.polygon_vertices, again.polygon_vertices)
    assert not np.array_equal(first.template_vertices, other.template_vertices)


@pytest.mark.parametrize("num_vertices", [0, 10, 10_000_000])
def test_vertices_out_of_range(predictor: MMTalkerPredictor, num_vertices: int) -> None:
    with pytest.raises(UsageError, match="--vertices"):
        predictor.plan(num_vertices)


def test_texture_coordinates_by_hand() -> None:
    uv = np.array([[-0.98, 0.98], [0.0, 0.49]])
    assert np.allclose(to_texture_coordinates(uv), [[0.0, 1.0], [0.5, 0.75]])


def test_parts_keep_their_polygons() -> None:
    head = load_head()
    mesh = build_skin_mesh(head, 1000, 0, None)
    starts, vertices, uvs, parts = append_parts(head, mesh)
    of_parts = np.diff(head.polygon_starts)[head.polygon_vertices[head.polygon_starts[:-1]] >= head.num_skin_vertices]
    assert np.array_equal(np.diff(starts)[-len(of_parts) :], of_parts)
    shift = 1000 - head.num_skin_vertices
    assert np.array_equal(vertices[-of_parts.sum() :], head.polygon_vertices[-of_parts.sum() :] + shift)
    assert len(uvs) == len(vertices) == starts[-1]
    assert parts["lashes"][1] == len(head.vertices) + shift


# --- identity and parts


def test_identity_moves_the_template_and_maps_offsets_by_its_jacobian(predictor: MMTalkerPredictor) -> None:
    samples = _speechlike(0.5)
    plain, other = predictor.plan(1000), predictor.plan(1000, identity=7)
    assert np.abs(plain.template_vertices - other.template_vertices).max() > 1e-3
    assert other.jacobians is not None
    _, mean = next(predictor.animate(samples, plain))
    _, moved = next(predictor.animate(samples, other))
    expected = np.einsum("mij,tmj->tmi", other.jacobians[:1000], mean[:, :1000])
    assert np.allclose(moved[:, :1000], expected, atol=1e-6)


def test_unknown_identity_is_a_usage_error(predictor: MMTalkerPredictor) -> None:
    with pytest.raises(UsageError, match="--identity"):
        predictor.plan(identity="nobody")


def test_sealed_lips_stay_sealed_under_an_identity(predictor: MMTalkerPredictor) -> None:
    """Contact points share their place, so they share the Jacobian: equal offsets stay equal."""
    plan = predictor.plan(2000, identity=3)
    assert plan.jacobians is not None
    upper, lower = (plan.regions[f"lips_inner_{name}"] for name in ("upper", "lower"))
    gap = np.linalg.norm(plan.template_vertices[upper][:, None] - plan.template_vertices[lower][None], axis=-1)
    partner = lower[gap.argmin(axis=1)]
    assert gap.min(axis=1).max() < 2e-5
    assert np.abs(plan.jacobians[upper] - plan.jacobians[partner]).max() < 2e-3


def test_teeth_follow_the_jaw_and_eyes_stay(predictor: MMTalkerPredictor) -> None:
    plan = predictor.plan()
    _, offsets = next(predictor.animate(_speechlike(0.5), plan))
    eyes, teeth = (slice(*plan.parts[name]) for name in ("eyes", "teeth"))
    assert np.abs(offsets[:, eyes]).max() == 0
    motion = np.abs(offsets[:, teeth]).max(axis=(0, 2))
    assert motion.max() > 1e-4  # lower
    assert motion.min() == 0  # upper


def test_lashes_follow_the_skin_at_every_resolution(predictor: MMTalkerPredictor) -> None:
    head, samples = load_head(), _speechlike(0.5)
    _, own = next(predictor.animate(samples, predictor.plan()))
    _, sampled = next(predictor.animate(samples, predictor.plan(1000)))
    expected = head.attachment_weights @ own[:, head.attachment_anchors]
    num_hairs = len(head.attachment_weights)
    assert np.abs(expected).max() > 1e-5
    for offsets in (own, sampled):
        assert np.allclose(offsets[:, -num_hairs:], expected, atol=2e-6)


# --- windows


def _animate(predictor: MMTalkerPredictor, samples: np.ndarray, window: int, points: SurfacePoints) -> np.ndarray:
    frames = predictor.count_frames(len(samples))
    return np.concatenate([block for _, block in predictor._decode(samples, frames, points, window)])


def test_frames_follow_each_other_and_are_all_there(predictor: MMTalkerPredictor) -> None:
    samples, plan, seen, fractions = _speechlike(6.0), predictor.plan(1000), 0, []
    for first_frame, offsets in predictor.animate(samples, plan, fractions.append):
        assert first_frame == seen
        assert offsets.shape[1:] == (len(plan.template_vertices), 3)
        assert offsets.dtype == np.float32
        seen += len(offsets)
    assert seen == predictor.count_frames(len(samples)) == 181
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_controls_move_with_the_sound_and_are_part_of_the_input(model: MMTalker) -> None:
    """A model without controls takes the encoder's channels alone, and moves otherwise."""
    samples, points = _speechlike(4.0), SurfacePoints.at_vertices(np.array([0, 100]))
    bare = MMTalkerPredictor(_model(feature_size=4, expression_controls=False), _EnvelopeEncoder(), "0", "float32")
    assert _animate(bare, samples, 100, points).shape == (121, 2, 3)
    features = inference._RollingFeatures(_EnvelopeEncoder(), samples, 121, True)
    channels = torch.cat([features.read(0, 60), features.read(30, 121)[30:]])
    assert channels.shape == (121, 7)
    assert np.allclose(channels[:, 4:].numpy(), compute_controls(samples, 121, 30.0))


@pytest.mark.parametrize("samples", [1600, 1601, 8000])
def test_short_recordings(predictor: MMTalkerPredictor, samples: int) -> None:
    blocks = list(predictor.animate(_speechlike(1.0)[:samples], predictor.plan(1000)))
    assert sum(len(offsets) for _, offsets in blocks) == samples * 30 // RATE + 1


def test_windows_of_any_size_agree(predictor: MMTalkerPredictor) -> None:
    samples, points = _speechlike(9.0), SurfacePoints.at_vertices(np.arange(0, 4900, 50))
    results = [_animate(predictor, samples, window, points) for window in (40, 97, 1000)]
    assert np.abs(results[0]).max() > 1e-4
    for other in results[1:]:
        assert np.abs(results[0] - other).max() < 5e-5


def test_every_frame_is_encoded_once(predictor: MMTalkerPredictor) -> None:
    samples = _speechlike(12.0)
    list(predictor.animate(samples, predictor.plan(1000)))
    requests = predictor.encoder.requests  # type: ignore[attr-defined]
    assert requests[0] == (0, inference.WINDOW_FRAMES + inference.CONTEXT_FRAMES)
    stops = [first + count for first, count in requests]
    assert [first for first, _ in requests][1:] == stops[:-1]
    assert stops[-1] == 361


def test_memory_does_not_grow_with_the_length(model: MMTalker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest window and block that the network sees are the same for 12 s and for 40 s."""
    sizes: dict[float, tuple[int, int]] = {}
    for seconds in (12.0, 40.0):
        windows, blocks = [0], [0]
        encode, decode = MMTalker.encode_audio, MMTalker.decode_frames

        def spy_encode(
            self: MMTalker, features: torch.Tensor, *rest: Any, seen: Any = windows, run: Any = encode
        ) -> Any:
            seen.append(len(features))
            return run(self, features, *rest)

        def spy_decode(self: MMTalker, *rest: Any, seen: Any = blocks, run: Any = decode) -> Any:
            seen.append(rest[-1] - rest[-2])
            return run(self, *rest)

        monkeypatch.setattr(MMTalker, "encode_audio", spy_encode)
        monkeypatch.setattr(MMTalker, "decode_frames", spy_decode)
        predictor = MMTalkerPredictor(model, _EnvelopeEncoder(), "0", "float32")
        frames = predictor.count_frames(int(seconds * RATE))
        points = SurfacePoints.at_vertices(np.array([0, 1]))
        for _ in predictor._decode(_speechlike(seconds), frames, points):
            pass
        monkeypatch.undo()
        sizes[seconds] = (max(windows), max(blocks))
    assert sizes[12.0] == sizes[40.0] == (240, inference.BLOCK_FRAMES)


def test_same_input_same_bytes(predictor: MMTalkerPredictor) -> None:
    samples, plan = _speechlike(2.0), predictor.plan(1000)
    first, second = (np.concatenate([offsets for _, offsets in predictor.animate(samples, plan)]) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_progress_may_cancel(predictor: MMTalkerPredictor) -> None:
    def cancel(fraction: float) -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        list(predictor.animate(_speechlike(1.0), predictor.plan(1000), cancel))


def test_temporal_ablation_runs_in_training_windows() -> None:
    predictor = MMTalkerPredictor(_model(temporal_encoding=True), _EnvelopeEncoder(), "0", "float32")
    samples, points = _speechlike(4.0), SurfacePoints.at_vertices(np.array([0]))
    assert _animate(predictor, samples, 500, points).shape == (121, 1, 3)
    assert max(count for _, count in predictor.encoder.requests) == 90  # type: ignore[attr-defined]


@pytest.mark.skipif(not has_fast_bfloat16(), reason="this processor has no bfloat16 arithmetic")
def test_bfloat16_is_near_float32(model: MMTalker) -> None:
    samples, points = _speechlike(2.0), SurfacePoints.at_vertices(np.arange(0, 4900, 20))
    full, half = (
        _animate(MMTalkerPredictor(model, _EnvelopeEncoder(), "0", precision), samples, 100, points)
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(full - half).max() < 0.05 * np.abs(full).max()


# --- loading


def _save(path: Path, model: MMTalker) -> None:
    save_checkpoint(path, model.state_dict(), {"kind": "mmtalker", "config": {"model": config_to_dict(model.config)}})


def test_load_from_a_file(tmp_path: Path, model: MMTalker) -> None:
    path = tmp_path / "m.safetensors"
    _save(path, model)
    predictor = MMTalkerPredictor.load(path, _EnvelopeEncoder())
    assert predictor.weights_sha256 == file_sha256(path)
    assert predictor.precision == "float32"
    assert predictor.frame_rate == 30.0


def test_missing_weights_are_a_backend_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="missing"):
        MMTalkerPredictor.load(tmp_path / "none.safetensors", _EnvelopeEncoder())


def test_weights_of_another_encoder_are_refused(model: MMTalker) -> None:
    encoder = _EnvelopeEncoder()
    encoder.name = "other"
    with pytest.raises(BackendError, match="'other'"):
        MMTalkerPredictor(model, encoder, "0", "float32")
    with pytest.raises(BackendError, match="trained on 1 features"):
        MMTalkerPredictor(_model(feature_size=4), _EnvelopeEncoder(), "0", "float32")


def test_weights_of_another_head_are_refused() -> None:
    model = _model()
    model.template_vertices[3, 0] += 0.01  # type: ignore[index, operator]
    with pytest.raises(BackendError, match="another head"):
        MMTalkerPredictor(model, _EnvelopeEncoder(), "0", "float32")


def test_precision_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto") == "float32"
    monkeypatch.setattr(inference, "has_fast_bfloat16", lambda: True)
    assert choose_precision("bfloat16") == "bfloat16"
    monkeypatch.setattr(inference, "has_fast_bfloat16", lambda: False)
    assert choose_precision("bfloat16") == "float32"
    with pytest.raises(ValueError, match="float16"):
        choose_precision("float16")  # type: ignore[arg-type]


def test_interpolation_of_vertex_values() -> None:
    points = SurfacePoints(np.array([[0, 1, 2], [2, 2, 2]]), np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    assert interpolate_points(points, np.array([[1.0], [3.0], [9.0]])).tolist() == [[2.0], [9.0]]


# --- the shipped weights


@pytest.mark.skipif(not DEFAULT_WEIGHTS.is_file(), reason="no shipped weights in this checkout")
def test_shipped_weights_agree_between_windows() -> None:
    predictor = MMTalkerPredictor.load()
    samples = np.concatenate([_speechlike(5.0), np.zeros(2 * RATE, np.float32)])
    head = predictor.head
    points = SurfacePoints.at_vertices(
        np.unique(np.concatenate([head.regions["lips"], head.lip_contact_pairs.ravel()]))
    )
    first, second = (_animate(predictor, samples, window, points) for window in (60, 210))
    assert np.abs(first - second).max() < 5e-5  # 0.05 mm
    assert np.isfinite(first).all()


@pytest.mark.skipif(not DEFAULT_WEIGHTS.is_file(), reason="no shipped weights in this checkout")
def test_shipped_weights_are_the_ones_on_their_card() -> None:
    card = DEFAULT_WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
    assert file_sha256(DEFAULT_WEIGHTS) in card


@pytest.mark.skipif(not DEFAULT_WEIGHTS.is_file(), reason="no shipped weights in this checkout")
def test_shipped_weights_rest_in_noise_without_speech() -> None:
    predictor = MMTalkerPredictor.load()
    noise = (0.003 * np.random.default_rng(5).standard_normal(5 * RATE)).astype(np.float32)
    upper, lower = predictor.head.lip_contact_pairs.T
    points = SurfacePoints.at_vertices(np.concatenate([upper, lower]))
    offsets = _animate(predictor, noise, 150, points)
    gap = offsets[:, : len(upper)] - offsets[:, len(upper) :]
    assert np.abs(gap).max() < 1e-3  # metres
