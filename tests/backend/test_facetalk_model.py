"""FaceTalk's decoder and its samplers: causality, windows, guidance, seeds, a known target, a training that learns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torch_backend.config import config_from_dict
from torch_backend.inference import facetalk_sampling
from torch_backend.inference.facetalk_sampling import (
    SamplingConfig,
    draw_frame_noise,
    run_sampler,
    sample_codes,
    sample_windows,
)
from torch_backend.metrics.code_diversity import compute_code_diversity
from torch_backend.models.builders import load_facetalk
from torch_backend.models.facetalk import FaceTalk, FaceTalkConfig, guide
from torch_backend.modules.diffusion_schedule import compute_cosine_betas, compute_signal_levels
from torch_backend.training.code_sequences import CodeSequences, load_code_sequences, save_code_sequences
from torch_backend.training.facetalk import (
    DEFAULT_CONFIG,
    CodeDataConfig,
    FaceTalkRecipe,
    FaceTalkTrainingConfig,
    load_training_config,
    modulate_codes,
    train_facetalk,
)
from torch_backend.training.loop import LoopConfig, batch_generator, train

TINY = FaceTalkConfig(
    code_size=5, condition_size=3, width=16, num_heads=2, num_blocks=2, feed_forward=32, crop_frames=8, dropout=0.0
)
VARIANTS = ("film", "input", "scale_shift", "squeeze_excite", "attention")


def _model(**changes: Any) -> FaceTalk:
    """A small network whose every parameter is random, so that nothing is zero by initialisation."""
    torch.manual_seed(0)
    model = FaceTalk(replace(TINY, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.set_statistics(2 + 0.5 * torch.randn(50, 5), 1 + 3 * torch.randn(50, 3))
    return model.eval().requires_grad_(False)


def _condition(frames: int = 30) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((frames, 3)).astype(np.float32))


def test_the_paper_is_the_default() -> None:
    config = FaceTalkConfig()
    model = FaceTalk(config)
    assert (config.num_blocks, config.width, config.num_heads, config.feed_forward) == (4, 256, 8, 1024)
    assert (config.code_size, config.crop_frames, config.num_steps, config.injection) == (200, 48, 1000, "film")
    assert model.code_projection.weight.shape == (256, 200) and model.output.weight.shape == (200, 256)
    assert [layer.weight.shape for layer in model.time_embedding.mlp[::2]] == [(256, 256)] * 2
    data = CodeDataConfig()
    assert data.null_probability == 0.25 and data.velocity == 0
    assert data.gap == 0 and data.whitening == 0 and data.condition_noise == 0
    shipped = load_training_config(DEFAULT_CONFIG, Path("runs"))
    ours = replace(shipped.model, condition_size=192, condition_kernel=config.condition_kernel)
    assert ours == config and shipped.model.condition_kernel == 9
    assert shipped.data.null_probability == 0.25 and shipped.data.gap > 0


@pytest.mark.parametrize("injection", VARIANTS)
def test_a_frame_depends_on_the_past_and_its_own_condition(injection: str) -> None:
    model = _model(injection=injection)
    noisy = torch.randn(1, 12, 5, requires_grad=True)
    condition = torch.randn(1, 12, 3, requires_grad=True)
    model(noisy, torch.tensor([400]), condition)[0, 9].sum().backward()
    assert (noisy.grad[0, 10:] == 0).all() and (condition.grad[0, 10:] == 0).all()
    assert noisy.grad[0, 9].abs().max() > 1e-5 and condition.grad[0, 9].abs().max() > 1e-5
    assert noisy.grad[0, 3].abs().max() > 1e-8


def test_a_block_sees_the_condition_of_its_own_frame_alone() -> None:
    model = _model(num_blocks=1)
    condition = torch.randn(1, 8, 3, requires_grad=True)
    model(torch.randn(1, 8, 5), torch.tensor([400]), condition)[0, 5].sum().backward()
    touched = condition.grad[0].abs().amax(dim=1) > 0
    assert touched.nonzero().flatten().tolist() == [5]
    free = _model(num_blocks=1, align_condition=False)
    condition = torch.randn(1, 8, 3, requires_grad=True)
    free(torch.randn(1, 8, 5), torch.tensor([400]), condition)[0, 5].sum().backward()
    assert (condition.grad[0].abs().amax(dim=1) > 0).all()


def test_variants_differ_where_they_should() -> None:
    noisy, condition = torch.randn(2, 8, 5), torch.randn(2, 8, 3)
    names = {}
    for injection in VARIANTS:
        model = _model(injection=injection)
        early, late = (model(noisy, torch.full((2,), time), condition) for time in (10, 900))
        assert not torch.allclose(early, late, atol=1e-4), injection
        names[injection] = {name for name, _ in model.named_parameters() if "_injection." in name}
    assert names["input"] == set()
    assert all("blocks.1.forward_injection.linear.weight" in names[name] for name in ("film", "scale_shift"))
    assert "blocks.0.cross_injection.excite.weight" in names["squeeze_excite"]
    # Only "input" changes what the first self-attention is given.
    seen = {}
    for injection in VARIANTS:
        model = _model(injection=injection)
        inputs: list[torch.Tensor] = []
        model.blocks[0].self_norm.register_forward_pre_hook(lambda _, args, kept=inputs: kept.append(args[0]))
        for time in (10, 900):
            model(noisy, torch.full((2,), time), condition)
        seen[injection] = torch.equal(*inputs)
    assert seen == {name: name != "input" for name in VARIANTS}


@pytest.mark.parametrize("injection", VARIANTS)
@pytest.mark.parametrize("aligned", [True, False])
def test_gradients_reach_every_parameter(injection: str, aligned: bool) -> None:
    model = _model(injection=injection, align_condition=aligned, width=64).requires_grad_(True)
    dropped = torch.tensor([True, False])
    model(torch.randn(2, 8, 5), torch.tensor([3, 800]), torch.randn(2, 8, 3), dropped).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_null_condition_takes_the_place_of_the_condition() -> None:
    model = _model()
    noisy, times = torch.randn(2, 8, 5), torch.tensor([5, 5])
    first, second = torch.randn(2, 8, 3), torch.randn(2, 8, 3)
    dropped = torch.tensor([True, False])
    one, other = model(noisy, times, first, dropped), model(noisy, times, second, dropped)
    assert torch.equal(one[0], other[0]) and not torch.allclose(one[1], other[1])


def test_without_diffusion_noise_and_time_have_no_part() -> None:
    model = _model(use_diffusion=False)
    condition = torch.randn(1, 8, 3)
    one = model(torch.randn(1, 8, 5), torch.tensor([5]), condition)
    torch.testing.assert_close(one, model(torch.randn(1, 8, 5), torch.tensor([900]), condition))
    codes = sample_codes(model, condition[0], SamplingConfig(seed=3, takes=2))
    torch.testing.assert_close(codes, model.restore(one).expand(2, -1, -1))


def test_statistics_are_undone() -> None:
    model = _model()
    codes = torch.randn(7, 5)
    torch.testing.assert_close(model.restore(model.standardize(codes)), codes)
    assert model.code_deviation.unique().numel() == 1
    with pytest.raises(ValueError, match="expected at least two rows"):
        model.set_statistics(torch.zeros(3, 4), torch.zeros(3, 3))


def test_wrong_shapes_are_named() -> None:
    model = _model()
    with pytest.raises(ValueError, match=r"expected codes \(B, N, 5\)"):
        model(torch.zeros(1, 8, 4), torch.tensor([0]), torch.zeros(1, 8, 3))
    with pytest.raises(ValueError, match="expected a condition of shape"):
        model(torch.zeros(1, 8, 5), torch.tensor([0]), torch.zeros(1, 8, 4))
    for changes in ({"width": 15}, {"condition_kernel": 2}, {"num_steps": 1}, {"num_blocks": 0}):
        with pytest.raises(ValueError, match=r"must be|expected"):
            replace(TINY, **changes)


def test_guidance_by_hand() -> None:
    conditional, unconditional = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
    torch.testing.assert_close(guide(conditional, unconditional, 1.5), torch.tensor([4.0, 0.5]))
    assert torch.equal(guide(conditional, unconditional, 1.0), conditional)
    assert torch.equal(guide(conditional, unconditional, 0.0), unconditional)


def test_guided_step_is_eq_10() -> None:
    """One step of DPM-Solver++ to zero noise returns the guided prediction itself."""
    model, condition = _model(), _condition(8)
    config = SamplingConfig(steps=1, guidance=2.5, seed=4)
    noise = torch.from_numpy(draw_frame_noise(4, 0, 0, 0, 8, 5))[None]
    times = torch.tensor([_start_time(model)])
    conditional = model(noise, times, condition[None])
    unconditional = model(noise, times, condition[None], torch.tensor([True]))
    expected = model.restore(2.5 * conditional - 1.5 * unconditional)
    torch.testing.assert_close(sample_codes(model, condition, config), expected)


def _start_time(model: FaceTalk) -> int:
    ratio = 0.5 * torch.log(model.signal_levels / (1 - model.signal_levels))
    return int((ratio + 5.1).abs().argmin())


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver++"])
@pytest.mark.parametrize("changes", [{}, {"positions": "sinusoidal"}, {"condition_kernel": 5, "positions": "none"}])
def test_windows_agree_with_the_whole(sampler: Any, changes: dict[str, Any]) -> None:
    model, condition = _model(**changes), _condition(60)
    config = SamplingConfig(sampler=sampler, steps=5, guidance=1.5, takes=2, seed=5, window_frames=200)
    whole = sample_codes(model, condition, config)
    assert whole.shape == (2, 60, 5)
    for window in (7, 48):
        pieces = sample_codes(model, condition, replace(config, window_frames=window))
        torch.testing.assert_close(pieces, whole, atol=2e-5, rtol=1e-4)


def test_frame_by_frame_is_the_whole() -> None:
    model, condition = _model(), _condition(12)
    config = SamplingConfig(steps=2, window_frames=12)
    frames = sample_codes(model, condition, replace(config, window_frames=1))
    torch.testing.assert_close(frames, sample_codes(model, condition, config), atol=2e-5, rtol=1e-4)


def test_the_future_changes_nothing() -> None:
    model, condition = _model(), _condition(40)
    config = SamplingConfig(steps=5, seed=2, window_frames=16)
    whole = sample_codes(model, condition, config)
    torch.testing.assert_close(sample_codes(model, condition[:25], config), whole[:, :25], atol=1e-5, rtol=1e-4)


def test_windows_keep_a_bounded_past() -> None:
    model = _model()
    config = SamplingConfig(steps=4, window_frames=10)
    asked: list[tuple[int, int]] = []

    def source(first: int, count: int) -> torch.Tensor:
        asked.append((first, count))
        return _condition(35)[first : first + count]

    streams = facetalk_sampling._Streams(model, config)
    for first in range(0, 30, 10):
        streams.sample(source(first, 10), first, True, lambda _: None)
        sizes = {past.keys.shape[2] for kept in streams.past.values() for past in kept}
        assert len(streams.past) == 4 and sizes == {7}
    asked.clear()
    counts = [window.shape[1] for window in sample_windows(model, source, 35, config)]
    assert counts == [10, 10, 10, 5] and asked == [(0, 10), (10, 10), (20, 10), (30, 5)]


def test_same_seed_same_bytes() -> None:
    model, condition = _model(), _condition()
    config = SamplingConfig(steps=5, takes=3, seed=9, guidance=1.2)
    first = sample_codes(model, condition, config)
    assert first.numpy().tobytes() == sample_codes(model, condition, config).numpy().tobytes()
    assert not torch.allclose(first[0], first[1], atol=1e-3)
    torch.testing.assert_close(sample_codes(model, condition, replace(config, takes=1))[0], first[0])
    assert not torch.allclose(sample_codes(model, condition, replace(config, seed=8)), first, atol=1e-3)


def test_noise_belongs_to_frames() -> None:
    whole = draw_frame_noise(1, 2, 3, 0, 150, 4)
    np.testing.assert_array_equal(draw_frame_noise(1, 2, 3, 40, 70, 4), whole[40:110])
    assert not np.array_equal(draw_frame_noise(1, 2, 4, 0, 150, 4), whole)
    assert abs(whole.mean()) < 0.15 and abs(whole.std() - 1) < 0.1


def test_progress_reaches_the_end_and_can_stop() -> None:
    model, seen = _model(), []
    list(sample_windows(model, lambda a, n: _condition()[a : a + n], 30, SamplingConfig(window_frames=20), seen.append))
    assert seen == sorted(seen) and len(seen) == 40 and seen[-1] == pytest.approx(1)
    with pytest.raises(ZeroDivisionError):
        list(sample_windows(model, lambda a, n: _condition()[a : a + n], 30, SamplingConfig(), lambda _: 1 / 0))


def test_impossible_requests_are_named() -> None:
    model, condition = _model(), _condition()
    with pytest.raises(ValueError, match="divisor of 1000 steps, got 30; the nearest is 25"):
        sample_codes(model, condition, SamplingConfig(sampler="ddim", steps=30))
    with pytest.raises(ValueError, match="steps, got 5000"):
        sample_codes(model, condition, SamplingConfig(steps=5000))
    with pytest.raises(ValueError, match="at least one frame"):
        sample_codes(model, condition[:0], SamplingConfig())
    with pytest.raises(ValueError, match="rows of the condition"):
        list(sample_windows(model, lambda a, n: condition[:3], 30, SamplingConfig()))
    for changes in ({"steps": 0}, {"takes": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="must"):
            SamplingConfig(**changes)


BETAS = compute_cosine_betas(1000)
LEVELS = compute_signal_levels(BETAS)


def _sample_gaussian(mean: float, deviation: float, sampler: Any, steps: int, count: int = 20_000) -> torch.Tensor:
    """The sampler with the exact denoiser of data N(mean, deviation^2)."""

    def denoise(noisy: torch.Tensor, time: int, _: int) -> torch.Tensor:
        level, variance = float(LEVELS[time]), deviation**2
        gain = variance * math.sqrt(level) / (level * variance + 1 - level)
        return mean + gain * (noisy - math.sqrt(level) * mean)

    generator = torch.Generator().manual_seed(7)
    return run_sampler(denoise, lambda _: torch.randn(1, count, 1, generator=generator), BETAS, sampler, steps)


@pytest.mark.parametrize(("mean", "deviation"), [(0.8, 0.5), (-1.0, 1.0), (2.0, 0.1)])
@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"),
    [("ddpm", 1000, 0.025), ("ddim", 1000, 0.025), ("dpm_solver++", 20, 0.025), ("dpm_solver++", 10, 0.05)],
)
def test_samplers_reach_a_known_target(
    mean: float, deviation: float, sampler: Any, steps: int, tolerance: float
) -> None:
    drawn = _sample_gaussian(mean, deviation, sampler, steps)
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.03 * max(1.0, deviation))
    assert float(drawn.std()) == pytest.approx(deviation, rel=tolerance)


def test_ddim_loses_the_spread_that_theory_says() -> None:
    """For data N(0, 1) a DDIM step from angle a to b shrinks the sample by cos(a - b): 20 steps lose 6 %."""
    angles = torch.arccos(LEVELS[999 - 50 * torch.arange(20)].sqrt())
    expected = torch.cos(-torch.cat((angles, torch.zeros(1))).diff()).prod()
    drawn = _sample_gaussian(0.0, 1.0, "ddim", 20)
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(1, 20_000, 1, generator=generator)
    torch.testing.assert_close(drawn, start * float(expected), atol=1e-4, rtol=1e-3)
    assert 0.93 < float(expected) < 0.95


def test_ddpm_is_ancestral_sampling() -> None:
    """Our 1000 steps are those of the scheduler library's own DDPM, given the same noise."""
    from diffusers import DDPMScheduler

    own = DDPMScheduler(trained_betas=BETAS.numpy(), prediction_type="sample", clip_sample=False)
    state = torch.Generator().manual_seed(7)
    sample = torch.randn(1, 50, 1, generator=state)

    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.3 * torch.tanh(noisy)

    for time in own.timesteps.tolist():
        sample = own.step(denoise(sample), time, sample, generator=state).prev_sample
    generator = torch.Generator().manual_seed(7)
    drawn = run_sampler(
        lambda noisy, *_: denoise(noisy), lambda _: torch.randn(1, 50, 1, generator=generator), BETAS, "ddpm", 1000
    )
    torch.testing.assert_close(drawn, sample, atol=1e-4, rtol=1e-4)


def _sequences(count: int = 12, frames: int = 40) -> CodeSequences:
    """Codes that follow their condition, with a free part that the condition says nothing of."""
    random = np.random.default_rng(0)
    condition = np.cumsum(random.standard_normal((count * frames, 3)), axis=0) * 0.3
    condition = np.sin(condition)
    codes = 0.1 * condition @ random.standard_normal((3, 5)) + 0.02 * random.standard_normal((count * frames, 5))
    return CodeSequences(
        codes.astype(np.float32),
        condition.astype(np.float32),
        tuple(range(0, (count + 1) * frames, frames)),
        tuple(f"s{index}" for index in range(count)),
        tuple(index % 4 == 0 for index in range(count)),
        24.0,
        {"speech_encoder": "test"},
    )


def _training(output: Path, model: FaceTalkConfig = TINY, **changes: Any) -> FaceTalkTrainingConfig:
    loop = LoopConfig(
        steps=60, output=output, learning_rate=5e-3, warmup=5, device="cpu", log_every=10, checkpoint_every=0
    )
    return FaceTalkTrainingConfig(replace(loop, **changes), model, CodeDataConfig(batch_size=16))


def test_sequences_come_back(tmp_path: Path) -> None:
    sequences = _sequences()
    save_code_sequences(tmp_path / "codes", sequences)
    loaded = load_code_sequences(tmp_path / "codes")
    np.testing.assert_array_equal(loaded.codes, sequences.codes)
    np.testing.assert_array_equal(loaded.condition, sequences.condition)
    assert (loaded.starts, loaded.names, loaded.held_out) == (sequences.starts, sequences.names, sequences.held_out)
    assert loaded.facts == sequences.facts and loaded.indices(held_out=True) == [0, 4, 8]
    (tmp_path / "codes" / "codes.npy").unlink()
    with pytest.raises(ValueError, match="no usable code sequences"):
        load_code_sequences(tmp_path / "codes")
    for changes in ({"starts": (0, 3)}, {"frame_rate": 0.0}, {"condition": sequences.condition[1:]}):
        with pytest.raises(ValueError, match="expected"):
            replace(sequences, **changes)


def test_batches(tmp_path: Path) -> None:
    model = replace(TINY, condition_kernel=3)
    recipe = FaceTalkRecipe(_training(tmp_path, model), _sequences())
    large = replace(recipe.config, data=CodeDataConfig(batch_size=4000))
    batch = FaceTalkRecipe(large, _sequences()).sample_batch(0, batch_generator(0, 0))
    assert batch["codes"].shape == (4000, 8, 5) and batch["condition"].shape == (4000, 10, 3)
    # A quarter has the null condition; standard error 0.7 %.
    assert float(batch["dropped"].float().mean()) == pytest.approx(0.25, abs=0.025)
    assert int(batch["times"].min()) < 5 and int(batch["times"].max()) > 994 and (batch["valid"] == 1).all()
    again = recipe.sample_batch(3, batch_generator(0, 3))
    for name, value in recipe.sample_batch(3, batch_generator(0, 3)).items():
        assert torch.equal(value, again[name])


def test_short_sequences_are_padded_and_do_not_count(tmp_path: Path) -> None:
    sequences = _sequences(4, 6)
    recipe = FaceTalkRecipe(_training(tmp_path), sequences)
    batch = recipe.sample_batch(0, batch_generator(0, 0))
    assert batch["valid"][0].tolist() == [1] * 6 + [0] * 2
    model = recipe.build_model()
    loss = recipe.compute_loss(model, batch)["loss"]
    changed = {**batch, "codes": batch["codes"].clone()}
    changed["codes"][:, 6:] += 100
    torch.testing.assert_close(recipe.compute_loss(model, changed)["loss"], loss)


def test_augmentation_scales_whole_sequences(tmp_path: Path) -> None:
    codes = torch.ones(2, 3, 5)
    scaled = modulate_codes(codes, torch.tensor([0.5, 2.0]))
    assert (scaled[0] == 0.5).all() and (scaled[1] == 2).all()
    config = _training(tmp_path)
    recipe = FaceTalkRecipe(replace(config, data=CodeDataConfig(500, 0.25, 0.8, 1.2)), _sequences())
    plain = FaceTalkRecipe(replace(config, data=CodeDataConfig(500, 0.25, 1.0, 1.0)), _sequences())
    ratio = (
        recipe.sample_batch(0, batch_generator(0, 0))["codes"] / plain.sample_batch(0, batch_generator(0, 0))["codes"]
    )
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio), atol=1e-4, rtol=1e-4)
    assert 0.8 <= float(ratio.min()) < 0.82 and 1.18 < float(ratio.max()) <= 1.2001


def test_loss_by_hand(tmp_path: Path) -> None:
    recipe = FaceTalkRecipe(_training(tmp_path), _sequences())
    recipe.config = replace(recipe.config, data=replace(recipe.config.data, velocity=2.0))
    batch = recipe.sample_batch(0, batch_generator(0, 0))

    class Still(FaceTalk):
        def forward(self, noisy: Any, times: Any, condition: Any, dropped: Any = None) -> torch.Tensor:
            return torch.zeros_like(noisy)

    model = Still(recipe.config.model)
    model.set_statistics(torch.from_numpy(recipe.sequences.codes), torch.from_numpy(recipe.sequences.condition))
    clean = (batch["codes"] - model.code_mean) / model.code_deviation
    terms = recipe.compute_loss(model, batch)
    torch.testing.assert_close(terms["codes"], (clean**2).mean())
    torch.testing.assert_close(terms["velocity"], 2 * ((clean[:, 1:] - clean[:, :-1]) ** 2).mean())
    torch.testing.assert_close(terms["loss"], terms["codes"] + terms["velocity"])


def test_training_learns_and_comes_back(tmp_path: Path) -> None:
    save_code_sequences(tmp_path / "codes", _sequences())
    settings = tmp_path / "tiny.toml"
    settings.write_text(
        "[model]\nwidth = 16\nnum_heads = 2\nnum_blocks = 2\nfeed_forward = 32\ncrop_frames = 8\ndropout = 0.0\n"
        "[data]\nbatch_size = 32\n[loop]\nsteps = 150\nlearning_rate = 5e-3\nwarmup = 5\nlog_every = 10\n"
        'device = "cpu"\n'
    )
    losses: list[float] = []
    figures = train_facetalk(
        tmp_path / "codes", tmp_path / "run", settings, report=lambda _, means: losses.append(means["loss"])
    )
    assert np.mean(losses[-3:]) < 0.6 * losses[0]
    # The condition tells what the noise hides.
    assert figures["error_90"] < 0.6 * figures["null_error_90"]
    model, metadata = load_facetalk(tmp_path / "run" / "model.safetensors")
    assert metadata["config"]["sequences"] == {"speech_encoder": "test"} and model.config.speech_encoder == "test"
    assert config_from_dict(FaceTalkConfig, metadata["config"]["model"]) == model.config
    sequences = _sequences()
    condition = torch.from_numpy(sequences.condition[:40])
    codes = sample_codes(model, condition, SamplingConfig(seed=1))[0]
    true = torch.from_numpy(sequences.codes[:40])
    assert float((codes - true).square().mean()) < 0.6 * float(true.square().mean())


def test_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    whole = _training(tmp_path / "whole", replace(TINY, dropout=0.1), steps=6, log_every=1)
    train(FaceTalkRecipe(whole, _sequences()), whole.loop)
    part = _training(tmp_path / "part", replace(TINY, dropout=0.1), steps=6, log_every=1, checkpoint_every=3)

    def stop(fraction: float, _: Any) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(FaceTalkRecipe(part, _sequences()), part.loop, stop)
    train(FaceTalkRecipe(part, _sequences()), replace(part.loop, resume=True))
    one, _ = load_facetalk(tmp_path / "whole" / "model.safetensors")
    other, _ = load_facetalk(tmp_path / "part" / "model.safetensors")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_unusable_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"24\.0 frames per second, got 30"):
        FaceTalkRecipe(_training(tmp_path), replace(_sequences(), frame_rate=30.0))
    with pytest.raises(ValueError, match="are all held out"):
        FaceTalkRecipe(_training(tmp_path), replace(_sequences(), held_out=(True,) * 12))
    for changes in ({"null_probability": 2.0}, {"lowest_modulation": 2.0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="expected"):
            CodeDataConfig(**changes)


def test_diversity_by_hand() -> None:
    # Three takes of two frames: pairwise distances 3 and 5 (mean 4), 0 and 4 (mean 2), 3 and 3 (mean 3).
    takes = np.array([[[0.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 4.0]]])
    expected = 2 * (4 + 2 + 3) / 3
    assert compute_code_diversity([takes]) == pytest.approx(expected)
    assert compute_code_diversity([takes, 0 * takes]) == pytest.approx(expected / 2)
    with pytest.raises(ValueError, match="the same K >= 2"):
        compute_code_diversity([takes, takes[:2]])
