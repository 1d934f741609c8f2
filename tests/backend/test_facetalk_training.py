"""Code sequences of a corpus, our own terms of the loss, and the measures of an evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from tests.tiny_corpus import write_corpus
from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.inference.facetalk_sampling import SamplingConfig
from torch_backend.models.facetalk import FaceTalk, FaceTalkConfig
from torch_backend.training.code_sequences import CodeSequences, load_code_sequences, save_code_sequences
from torch_backend.training.facetalk import CodeDataConfig, FaceTalkRecipe, FaceTalkTrainingConfig
from torch_backend.training.facetalk_evaluation import evaluate_facetalk, measure_codes
from torch_backend.training.loop import LoopConfig, batch_generator
from torch_backend.training.motion_examples import (
    PERFORMED_COLUMNS,
    MotionExample,
    load_motion_examples,
    save_motion_examples,
)
from torch_backend.training.mouth_codes import BUILT_IN_HEAD, load_mouth_of_codes
from torch_backend.training.spoken_codes import build_spoken_sequences, encode_examples, is_corpus

TINY = FaceTalkConfig(width=16, num_heads=2, num_blocks=1, feed_forward=16, crop_frames=8, dropout=0.0)


def _curves(frames: int, **values: Any) -> np.ndarray:
    curves = np.zeros((frames, 52), np.float32)
    for name, value in values.items():
        curves[:, BLENDSHAPE_INDEX[name]] = value
    return curves


def _talking(frames: int = 60) -> np.ndarray:
    """Codes of a jaw that opens and shuts."""
    opening = np.maximum(0.0, np.sin(np.arange(frames) * 0.5)) * 0.4
    return load_expression_space().encode(_curves(frames, jawOpen=opening))


def _recipe(output: Path, **changes: Any) -> FaceTalkRecipe:
    codes = np.concatenate([_talking(), _talking()])
    condition = np.random.default_rng(0).standard_normal((len(codes), 4)).astype(np.float32)
    sequences = CodeSequences(
        codes, condition, (0, 60, 120), ("a", "b"), (False, True), 24.0, {"head": BUILT_IN_HEAD}, (1.0, 1.0)
    )
    data = CodeDataConfig(batch_size=4, lowest_modulation=1.0, highest_modulation=1.0, **changes)
    loop = LoopConfig(steps=2, output=output, device="cpu")
    return FaceTalkRecipe(FaceTalkTrainingConfig(loop, TINY, data), sequences)


def test_mouth_of_codes_is_that_of_the_surface() -> None:
    head, mouth = load_head(), load_mouth_of_codes()
    curves = _curves(1, jawOpen=0.3, mouthClose=0.1, mouthPucker=0.2, mouthStretchLeft=0.3, eyeBlinkLeft=0.5)
    moved = 1e3 * np.tensordot(curves[0], head.blendshapes, 1)
    upper, lower = head.lip_contact_pairs.T
    gaps = moved[upper] - moved[lower]
    codes = load_expression_space().encode(curves)[0].astype(np.float64)
    assert (codes @ mouth.gap) @ (codes @ mouth.gap) == pytest.approx((gaps**2).sum() / len(upper), rel=1e-3)
    middle = np.abs(head.vertices[upper, 0]) < 0.35 * np.abs(head.vertices[upper, 0]).max()
    assert codes @ mouth.opening == pytest.approx(gaps[middle, 1].mean(), rel=1e-4)
    assert codes @ mouth.opening > 3.0 and codes @ mouth.width < 0.0 and codes @ mouth.lids < 0.0


def test_gap_term_by_hand(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, gap=2.0, closed_factor=3.0)

    class Still(FaceTalk):
        def forward(self, noisy: Any, times: Any, condition: Any, dropped: Any = None) -> torch.Tensor:
            return torch.zeros_like(noisy)

    model = Still(recipe.config.model)  # predicts a code of zero: the face at rest
    batch = recipe.sample_batch(0, batch_generator(0, 0))
    gaps = batch["codes"].double() @ torch.from_numpy(load_mouth_of_codes().gap)
    closed = (batch["codes"].double() @ torch.from_numpy(load_mouth_of_codes().opening)).abs() < 0.6
    assert 0 < closed.double().mean() < 1
    expected = 2.0 * (gaps.square().sum(-1) * torch.where(closed, 3.0, 1.0)).mean()
    torch.testing.assert_close(recipe.compute_loss(model, batch)["gap"].double(), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="gap needs codes of the built-in head"):
        FaceTalkRecipe(recipe.config, replace(recipe.sequences, facts={}))


def test_whitening() -> None:
    codes = torch.randn(4000, 3) * torch.tensor([4.0, 1.0, 0.0])
    model = FaceTalk(replace(TINY, code_size=3, condition_size=3))
    model.set_statistics(codes, codes, 1.0)
    torch.testing.assert_close(model.code_deviation[:2], codes[:, :2].std(0, correction=0))
    model.set_statistics(codes, codes, 0.5)
    shared = float(codes[:, :2].std(0, correction=0).square().mean().sqrt())  # of the two that vary
    expected = (shared * codes[:, :2].std(0, correction=0)).sqrt()
    torch.testing.assert_close(model.code_deviation[:2], expected, rtol=1e-3, atol=1e-3)
    assert float(model.code_deviation[2]) == pytest.approx(shared, rel=1e-3)
    torch.testing.assert_close(model.restore(model.standardize(codes)), codes)


def test_noise_on_the_condition(tmp_path: Path) -> None:
    plain = _recipe(tmp_path).sample_batch(0, batch_generator(0, 0))
    recipe = _recipe(tmp_path, condition_noise=0.5)
    noise = recipe.sample_batch(0, batch_generator(0, 0))["condition"] - plain["condition"]
    assert float(noise.std()) == pytest.approx(0.5 * recipe.sequences.condition.std(), rel=0.15)


def test_weights_decide_what_is_drawn(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    both = replace(recipe.sequences, held_out=(False, False), weights=(0.0, 1.0))
    marked = replace(both, codes=np.concatenate([both.codes[:60] * 0 + 7, both.codes[60:]]))
    batch = FaceTalkRecipe(recipe.config, marked).sample_batch(0, batch_generator(0, 0))
    assert not (batch["codes"] == 7).any()
    with pytest.raises(ValueError, match="expected 2 weights"):
        replace(both, weights=(1.0,))


def test_truth_scores_as_truth() -> None:
    mouth, codes = load_mouth_of_codes(), _talking().astype(np.float64)
    figures = measure_codes([(codes, codes)], mouth)
    assert figures["opening_r"] == pytest.approx(1) and figures["closures_met"] == 1 and figures["motion_share"] == 1
    assert figures["closure_gap_mm"] < 0.6
    late = measure_codes([(codes, np.roll(codes, 6, axis=0))], mouth)
    assert late["opening_r"] < 0 and late["closures_met"] < 0.8 and late["closure_gap_mm"] > 3
    still = measure_codes([(codes, 0 * codes)], mouth)
    assert still["opening_r"] == 0 and still["opening_share"] == 0


def test_evaluation_samples_takes(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    model = recipe.build_model().eval()
    with torch.no_grad():
        figures = evaluate_facetalk(
            model, recipe.sequences, [1], load_mouth_of_codes(), SamplingConfig(steps=2, takes=2)
        )
    assert figures["diversity"] > 0 and {"opening_r", "width_r", "lid_r"} <= figures.keys()
    with torch.no_grad():
        assert {"error_90", "closures_met"} <= recipe.evaluate(model).keys()


def test_examples_become_sequences(tmp_path: Path) -> None:
    curves = np.concatenate([_curves(10, jawOpen=0.2), _curves(5, eyeBlinkLeft=0.5), _curves(4)])
    rows = [("x", "flite", "en", 25, 0, 10), ("y", "festival", "cs", 26, 10, 15), ("n", "background", "en", -1, 15, 19)]
    examples = [MotionExample(n, e, "v", lang, u, 0, a, b) for n, e, lang, u, a, b in rows]
    features = np.random.default_rng(0).standard_normal((19, 6))
    save_motion_examples(tmp_path / "examples", features, curves, examples, 24.0, {"speech_encoder": "s"})
    save_code_sequences(tmp_path / "codes", encode_examples(load_motion_examples(tmp_path / "examples")))
    sequences = load_code_sequences(tmp_path / "codes")
    assert sequences.starts == (0, 10, 15, 19) and sequences.held_out == (True, False, False)
    assert sequences.weights == (1.0, 0.7, 2.0) and sequences.codes.dtype == np.float16
    assert sequences.facts == {"speech_encoder": "s", "head": BUILT_IN_HEAD}
    np.testing.assert_allclose(load_expression_space().decode(np.array(sequences.codes)), curves, atol=0.02)


def test_a_corpus_becomes_sequences(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus, 2)
    assert is_corpus(corpus)
    build_spoken_sequences(corpus, tmp_path / "codes", None, 1, 0)
    sequences = load_code_sequences(tmp_path / "codes")
    assert sequences.frame_rate == 24.0 and sequences.condition.shape[1] == 195
    assert not (tmp_path / "codes" / ".examples").exists()
    curves = load_expression_space().decode(np.array(sequences.codes))
    assert curves[:, PERFORMED_COLUMNS].max() > 0.5  # somebody blinks
    assert json.loads((tmp_path / "codes" / "index.json").read_text())["facts"]["num_copies"] == 1
