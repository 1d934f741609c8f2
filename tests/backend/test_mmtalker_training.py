"""The MMTalker recipe: targets, batches, a tiny training that learns, and exact resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from tests.tiny_corpus import write_corpus
from torch_backend.audio.expression_controls import scale_controls
from torch_backend.config import config_from_dict
from torch_backend.head import load_head
from torch_backend.models.checkpoints import load_checkpoint
from torch_backend.models.mmtalker import MMTalkerConfig
from torch_backend.modules.surface_points import SurfacePoints
from torch_backend.training.face_motion import FaceMotion, FaceVariety, build_face_anchors, find_closed_frames
from torch_backend.training.loop import LoopConfig, batch_generator, train
from torch_backend.training.mmtalker import (
    DEFAULT_CONFIG,
    MMTalkerBatch,
    MMTalkerRecipe,
    load_training_config,
)
from torch_backend.training.mmtalker_config import DataConfig, LossConfig, MMTalkerTrainingConfig
from torch_backend.training.mmtalker_evaluation import _correlation, _runs, evaluate_mmtalker
from torch_backend.training.motion_examples import (
    ExampleSettings,
    MotionExample,
    MotionExamples,
    build_motion_examples,
    load_motion_examples,
    save_motion_examples,
)

MODEL = MMTalkerConfig(feature_size=6, hidden_size=8, encoding_size=4, decoder_size=16, window_frames=40)


def _examples(count: int = 4, frames: int = 60) -> MotionExamples:
    """Jaw and closures that follow directly from the features."""
    random = np.random.default_rng(0)
    features, curves, examples = [], [], []
    for index in range(count):
        phase = random.uniform(0, 6)
        jaw = 0.5 + 0.5 * np.sin(np.arange(frames) / 4 + phase)
        closed = (np.arange(frames) % 20 < 3).astype(float)
        values = np.zeros((frames, 52))
        values[:, BLENDSHAPE_INDEX["jawOpen"]] = 0.5 * jaw
        values[:, BLENDSHAPE_INDEX["mouthClose"]] = 0.5 * jaw * closed
        curves.append(values)
        features.append(np.stack([jaw, closed, jaw * closed, 1 - jaw, 0 * jaw, np.cos(jaw)], axis=1))
        examples.append(
            MotionExample(f"u{index}", "e", f"v{index % 2}", "en", index, 0, index * frames, (index + 1) * frames)
        )
    stacked = np.concatenate(features).astype(np.float16), np.concatenate(curves).astype(np.float16)
    return MotionExamples(*stacked, tuple(examples), 30.0, {"speech_encoder": "test", "expression_controls": True})


def _config(output: Path, **loop: Any) -> MMTalkerTrainingConfig:
    return MMTalkerTrainingConfig(
        loop=LoopConfig(
            **{
                "steps": 6,
                "output": output,
                "learning_rate": 3e-3,
                "warmup": 2,
                "device": "cpu",
                "log_every": 1,
                **loop,
            }
        ),
        model=MODEL,
        loss=LossConfig(),
        data=DataConfig(drawn_points=16, feature_noise=0.1, control_noise=0.1, held_out_voices=("e/v1",)),
    )


def _recipe(output: Path, **loop: Any) -> MMTalkerRecipe:
    return MMTalkerRecipe(_config(output, **loop), load_head(), _examples())


# --- targets


def test_targets_at_vertices_are_the_blendshapes_in_centimetres() -> None:
    head = load_head()
    curves = np.zeros((2, 52), np.float32)
    curves[1, BLENDSHAPE_INDEX["jawOpen"]] = 0.25
    curves[1, BLENDSHAPE_INDEX["mouthPucker"]] = 0.5
    chosen = np.array([0, 1949, 4380])
    shapes = head.blendshapes
    expected = 25 * shapes[BLENDSHAPE_INDEX["jawOpen"]] + 50 * shapes[BLENDSHAPE_INDEX["mouthPucker"]]
    result = FaceMotion(head).displacements(curves, SurfacePoints.at_vertices(chosen))
    assert result.shape == (2, 3, 3)
    assert np.abs(result[0]).max() == 0
    assert np.allclose(result[1], expected[chosen], atol=1e-5)


def test_targets_between_vertices_are_interpolated() -> None:
    head = load_head()
    curves = np.zeros((1, 52), np.float32)
    curves[0, BLENDSHAPE_INDEX["jawOpen"]] = 1.0
    triangle = head.skin_triangles[100].astype(np.int64)
    weights = np.array([0.2, 0.3, 0.5])
    result = FaceMotion(head).displacements(curves, SurfacePoints(triangle[None], weights[None]))
    expected = weights @ (100 * head.blendshapes[BLENDSHAPE_INDEX["jawOpen"]][triangle])
    assert np.allclose(result[0, 0], expected, atol=1e-5)


def test_anchors_hold_the_contact_ring_and_both_corners() -> None:
    head = load_head()
    anchors = build_face_anchors(head)
    assert (anchors.vertices[anchors.pairs] == head.lip_contact_pairs).all()
    left, right = head.vertices[anchors.vertices[anchors.corners]]
    assert left[0] > 0.02 > -0.02 > right[0]
    assert np.isin(anchors.vertices[anchors.lids], head.regions["lid_margin"]).all()
    raised = np.linalg.norm(head.blendshapes[BLENDSHAPE_INDEX["browInnerUp"]], axis=1)
    assert len(anchors.brows) > 10 and raised[anchors.vertices[anchors.brows]].mean() > 3 * raised.mean()


def test_closed_frames_need_an_articulated_closure_and_a_small_gap() -> None:
    curves = np.zeros((4, 52), np.float32)
    curves[1:3, BLENDSHAPE_INDEX["mouthClose"]] = 0.3
    gaps = np.zeros((4, 5, 3), np.float32)
    gaps[2:, :, 1] = 0.1  # centimetres
    assert find_closed_frames(curves, gaps).tolist() == [False, True, False, False]


def test_controls_are_scaled_columns_of_the_curves() -> None:
    curves = np.zeros((2, 52))
    for name, value in (("eyeBlinkLeft", 0.5), ("browInnerUp", 0.25), ("eyeSquintLeft", 0.1), ("jawOpen", 1.0)):
        curves[1, BLENDSHAPE_INDEX[name]] = value
    assert scale_controls(curves).tolist() == [[0, 0, 0], [2.0, 2.0, 2.0]]


def test_noise_is_relative_to_each_channel(tmp_path: Path) -> None:
    recipe, examples = _recipe(tmp_path), _examples()
    assert np.allclose(recipe._noise[:3], 0.1 * examples.features[:, :3].astype(np.float32).std(0), rtol=1e-3)
    assert np.allclose(recipe._noise[3:], 0.1 * examples.features[:, 3:].astype(np.float32).std(0), rtol=1e-3)


# --- batches and losses


def test_batches_are_the_same_for_the_same_step(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    first, again, other = (recipe.sample_batch(step, batch_generator(0, step)) for step in (3, 3, 4))
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.features, other.features)


def test_a_batch_holds_anchors_then_drawn_points(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    batch = recipe.sample_batch(0, batch_generator(0, 0))
    num_anchors = len(recipe.anchors.vertices)
    assert batch.features.shape == (40, 6)
    assert batch.targets.shape == (40, num_anchors + 16, 3)
    assert (batch.points.triangle_vertices[:num_anchors, 0] == recipe.anchors.vertices).all()
    assert np.allclose(batch.points.barycentric.sum(1), 1)
    drawn = batch.points.triangle_vertices[num_anchors:]
    assert (drawn == recipe.graph.triangles[batch.drawn_faces.numpy()]).all()
    is_lip = np.isin(recipe.anchors.vertices, recipe.head.regions["lips"])
    assert (batch.point_weights[:num_anchors].numpy() == np.where(is_lip, 2.0, 1.0)).all()
    # Frames 20, 21, 22 of every 20 are closed and weigh 13 in the gap term.
    assert set(batch.frame_weights.tolist()) == {1.0, 13.0}


def test_loss_of_a_known_error_by_hand(tmp_path: Path) -> None:
    """A prediction that is wrong by a constant shift along x has L_rec only."""
    recipe = _recipe(tmp_path)
    batch = recipe.sample_batch(0, batch_generator(0, 0))

    class _Shifted(torch.nn.Module):
        def forward(self, features: torch.Tensor, points: SurfacePoints, faces: torch.Tensor) -> Any:
            from torch_backend.models.mmtalker import TrainingOutput

            shift = torch.tensor([0.5, 0.0, 0.0])
            return TrainingOutput(batch.targets + shift, torch.ones(len(faces)), torch.tensor(2.0))

    terms = recipe.compute_loss(_Shifted(), batch)
    assert float(terms["reconstruction"]) == pytest.approx(0.25, rel=1e-4)
    assert float(terms["probability"]) == pytest.approx(0.05 * 2.0)
    assert float(terms["lid"]) == pytest.approx(4 * 0.25, rel=1e-4)
    assert float(terms["brow"]) == pytest.approx(4 * 0.25, rel=1e-4)
    for name in ("velocity", "eye", "gap", "width"):
        assert float(terms[name]) == pytest.approx(0, abs=1e-5)
    assert float(terms["loss"]) == pytest.approx(2.35, rel=1e-4)


def test_losses_are_taken_on_faces_drawn_by_the_step(tmp_path: Path) -> None:
    """The same error weighs otherwise on another face: here L_rec is the mean squared length of the carried shift."""
    config = _config(tmp_path)
    recipe = MMTalkerRecipe(replace(config, data=replace(config.data, identities=2)), load_head(), _examples())
    assert recipe.faces is not None and recipe.faces.jacobians.shape == (3, load_head().num_skin_vertices, 3, 3)
    assert (recipe.faces.jacobians[0] == np.eye(3)).all()  # the mean head is among them
    batches = [recipe.sample_batch(step, batch_generator(0, step)) for step in range(8)]
    assert len({float(batch.jacobians.sum()) for batch in batches}) > 1
    batch = max(batches, key=lambda each: float((each.jacobians - torch.eye(3)).abs().max()))
    shift = torch.tensor([0.0, 0.5, 0.0])

    class _Shifted(torch.nn.Module):
        def forward(self, features: torch.Tensor, points: SurfacePoints, faces: torch.Tensor) -> Any:
            from torch_backend.models.mmtalker import TrainingOutput

            return TrainingOutput(batch.targets + shift, torch.ones(len(faces)), torch.tensor(0.0))

    squared = (batch.jacobians @ shift).square().sum(1).numpy()
    expected = np.average(squared, weights=batch.point_weights.numpy())
    assert float(recipe.compute_loss(_Shifted(), batch)["reconstruction"]) == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(0.25, rel=1e-4)


def test_jacobians_between_vertices_are_interpolated() -> None:
    head = load_head()
    faces = FaceVariety(head, 1)
    triangle, shares = head.skin_triangles[100].astype(np.int64), np.array([0.2, 0.3, 0.5])
    drawn = [faces.draw(SurfacePoints(triangle[None], shares[None]), np.random.default_rng(seed)) for seed in range(8)]
    expected = np.einsum("c,cij->ij", shares, faces.jacobians[1, triangle])
    assert any(np.allclose(each[0], expected, atol=1e-6) for each in drawn)


def test_batch_moves_between_devices() -> None:
    tensor = torch.zeros(2, 3)
    batch = MMTalkerBatch(tensor, tensor, tensor, tensor, SurfacePoints.at_vertices(np.array([0])), tensor)
    assert batch.to(torch.device("meta")).features.device.type == "meta"


# --- training


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = _recipe(tmp_path, steps=60, log_every=10, learning_rate=1.5e-2)
    metrics = train(recipe, recipe.config.loop, lambda fraction, figures: losses.append(figures["loss"]))
    assert losses[-1] < 0.3 * losses[0]
    assert {"closure_gap_mm", "opening_r", "width_r", "lid_r"} <= set(metrics)
    tensors, metadata = load_checkpoint(tmp_path / "model.safetensors", "mmtalker")
    assert metadata["config"]["model"]["speech_encoder"] == "test"
    assert config_from_dict(MMTalkerConfig, metadata["config"]["model"]) == recipe.model_config
    assert float(tensors["probability.change"].abs().max()) > 0


class _StoppedError(Exception):
    pass


def test_resumed_training_equals_uninterrupted(tmp_path: Path) -> None:
    whole = _recipe(tmp_path / "whole", checkpoint_every=2, average_decay=0.9)
    train(whole, whole.config.loop)

    def stop(fraction: float, figures: dict[str, float]) -> None:
        if fraction > 0.8:
            raise _StoppedError

    parts = _recipe(tmp_path / "parts", checkpoint_every=2, average_decay=0.9, resume=True)
    with pytest.raises(_StoppedError):
        train(parts, parts.config.loop, stop)
    train(parts, parts.config.loop)
    first, second = (
        load_checkpoint(tmp_path / name / "model.safetensors", "mmtalker")[0] for name in ("whole", "parts")
    )
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_training_in_mixed_precision(tmp_path: Path) -> None:
    """bfloat16 in the forward pass: the first loss is near the one in float32."""
    losses = {}
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)  # one process has one precision otherwise
        recipe = _recipe(tmp_path / precision, steps=2, mixed_precision=precision)
        train(recipe, recipe.config.loop, lambda _, figures, key=precision: losses.setdefault(key, figures["loss"]))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.02)


def test_evaluation_of_the_truth_is_perfect() -> None:
    """A model that returns the true motion gets the best figures (the harness is measured, not the network)."""
    head, examples = load_head(), _examples(1)
    motion = FaceMotion(head)

    class _Truth:
        device = torch.device("cpu")
        num_vertices = head.num_skin_vertices
        adjacency = None
        config = MMTalkerConfig()
        motion_space = None

        def compute_vertex_terms(self) -> None:
            return None

        def encode_audio(self, features: torch.Tensor, terms: None) -> None:
            return None

        def decode_frames(self, code: None, terms: None, query: Any, start: int, stop: int) -> torch.Tensor:
            points = SurfacePoints.at_vertices(build_face_anchors(head).vertices)
            return torch.from_numpy(motion.displacements(examples.curves.astype(np.float32), points)).transpose(0, 1)

    figures = evaluate_mmtalker(_Truth(), head, examples, examples.examples)  # type: ignore[arg-type]
    assert figures["closure_gap_mm"] < 1e-2
    assert figures["closures_met"] == 1.0
    assert figures["opening_r"] == pytest.approx(1)
    assert figures["lip_error_mm"] == pytest.approx(0, abs=1e-4)
    assert figures["motion_share"] == pytest.approx(1)


def test_runs_and_correlation_by_hand() -> None:
    assert _runs(np.array([True, False, True, True])) == [(0, 1), (2, 4)]
    assert _runs(np.array([False])) == []
    assert _correlation([np.array([1.0, 2.0])], [np.array([5.0, 3.0])]) == pytest.approx(-1)
    assert _correlation([np.ones(3)], [np.arange(3.0)]) == 0.0


# --- examples and settings


def test_example_folder_round_trip_and_split(tmp_path: Path) -> None:
    examples = _examples()
    save_motion_examples(
        tmp_path, examples.features, examples.curves, examples.examples, examples.frame_rate, examples.source
    )
    loaded = load_motion_examples(tmp_path)
    assert np.array_equal(loaded.features, examples.features)
    assert loaded.examples == examples.examples
    train_part, held_out = loaded.split(("e/v1",))
    assert [example.voice for example in train_part] == ["v0", "v0"]
    assert [example.voice for example in held_out] == ["v1", "v1"]
    train_part, held_out = loaded.split(())
    assert [example.utterance for example in held_out] == [0]
    with pytest.raises(ValueError, match="hold out"):
        loaded.split(("e/none",))


def test_folder_without_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"index\.json"):
        load_motion_examples(tmp_path)


def test_recipe_refuses_another_frame_rate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="30"):
        MMTalkerRecipe(_config(tmp_path), load_head(), replace(_examples(), frame_rate=25.0))


def test_shipped_settings_are_the_documented_ones(tmp_path: Path) -> None:
    config = load_training_config(DEFAULT_CONFIG, tmp_path, steps=3)
    assert config.loop.steps == 3
    assert config.loop.output == tmp_path
    assert (config.loss.reconstruction, config.loss.velocity, config.loss.eye) == (1.0, 10.0, 0.01)
    assert not config.model.temporal_encoding


def test_settings_with_a_typo_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[loss]\nvelocitty = 1.0\n")
    with pytest.raises(ValueError, match="velocitty"):
        load_training_config(tmp_path / "c.toml", tmp_path)


class _LoudnessEncoder:
    """One number a frame: how loud the sound is."""

    name = "loudness"
    feature_size = 1
    context_seconds = 0.05

    def fit_normalization(self, samples: np.ndarray) -> None:
        return None

    def encode(self, samples: np.ndarray, first: int, count: int, rate: float, normalization: None) -> torch.Tensor:
        centers = ((first + np.arange(count)) / rate * 16_000).astype(int)
        return torch.tensor([[np.abs(samples[max(0, c - 400) : c + 400]).mean()] for c in centers])


def test_examples_of_a_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    settings = ExampleSettings(30.0, num_copies=1, num_backgrounds=1)
    for processes in (1, 2):
        folder = tmp_path / f"with{processes}"
        build_motion_examples(tmp_path / "corpus", folder, _LoudnessEncoder(), settings, processes)
    one, two = (load_motion_examples(tmp_path / f"with{processes}") for processes in (1, 2))
    assert np.array_equal(one.features, two.features)
    assert np.array_equal(one.curves, two.curves)
    expected = [(f"u{i}", c) for i in range(3) for c in (0, 1)]
    assert [(example.id, example.copy) for example in one.examples] == [*expected, ("background_00000", 0)]
    noise = one.examples[-1]
    assert noise.stop - noise.start == 151
    mouth = [BLENDSHAPE_INDEX[name] for name in ("jawOpen", "mouthClose", "mouthPucker", "mouthFunnel")]
    assert np.abs(one.curves[noise.start : noise.stop, mouth]).max() == 0
    first = one.examples[0]
    assert (first.start, first.stop) == (0, 46)
    assert one.features.shape[1] == 1 + 3
    closed = one.curves[:46, BLENDSHAPE_INDEX["mouthClose"]] > 0.01
    assert closed[18]  # 0.6 s: in the middle of the m
    assert not closed[30:].any()
    assert one.source == {
        "corpus_hash": "abc", "speech_encoder": "loudness", "seed": 0, "num_copies": 1, "num_backgrounds": 1,
        "expression_controls": True,
    }  # fmt: skip
