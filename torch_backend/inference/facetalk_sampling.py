"""Expression codes out of noise: DDPM, DDIM and DPM-Solver++, for any number of frames in constant memory.

A window needs of the frames before it only the keys and values of its self-attention, at each step of the sampler:
the network looks back and never ahead, so the path of earlier frames from noise to codes does not depend on later
ones. Windows therefore give what one pass over the whole sequence gives (test_windows_agree_with_the_whole), without
overlap, blending or seams. Noise belongs to (seed, take, frame, step), whatever the windows are.

Between windows, (steps x blocks x 2 x 47 frames x width) floats are kept for each take, and once more with guidance:
15 MB for 20 steps and the paper's sizes. The 1000 steps of DDPM keep 0.8 GB, unless the sequence fits in one window.

The schedulers are those of `diffusers`; it is imported when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from blender_talkhead.contract.errors import BackendError
from torch_backend.models.facetalk import FaceTalk, guide
from torch_backend.modules.causal_attention import PastFrames
from torch_backend.modules.diffusion_schedule import compute_signal_levels, space_times_by_signal

SamplerName = Literal["ddpm", "ddim", "dpm_solver++"]
ConditionSource = Callable[[int, int], Tensor]
"""(first frame, number of frames) -> (frames, D); asked only for frames of the sequence."""

NOISE_BLOCK_FRAMES = 48
"""Noise is drawn for this many frames at once; windows need not be a multiple."""
SMALLEST_LOG_SNR = -5.1
"""DPM-Solver++ starts where half the log of the signal-to-noise ratio is at least this: the cosine schedule's own end
has almost no signal left (scheduler's documentation)."""


@dataclass(frozen=True)
class SamplingConfig:
    """How codes are drawn."""

    sampler: SamplerName = "dpm_solver++"
    """ddpm is the paper's."""
    steps: int = 20
    """Evaluations of the network a window; ddpm and ddim: a divisor of the model's time steps."""
    guidance: float = 1.0
    """w of eq. 10. 1: the condition as it is, at half the cost of any other value."""
    takes: int = 1
    """How many performances of the same condition, from one batch."""
    first_take: int = 0
    """Number of the first of them."""
    diversity: float = 1.0
    """Scale of the noise that takes are drawn from: 1 as trained, less keeps them nearer to each other, 0 gives one."""
    seed: int = 0
    """Take k of a seed is the same however many takes there are, up to rounding."""
    window_frames: int = 96
    """Frames sampled at once."""

    def __post_init__(self) -> None:
        for name in ("steps", "takes", "window_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0 or self.first_take < 0:
            raise ValueError(f"seed and first_take must not be negative, got {self.seed} and {self.first_take}")
        if self.diversity < 0:
            raise ValueError(f"diversity must not be negative, got {self.diversity}")


Denoiser = Callable[[Tensor, int, int], Tensor]
"""(noisy (K, N, E), time step, index of the sampler's step) -> clean (K, N, E)."""
NoiseOfStep = Callable[[int], Tensor]
"""Index of a draw -> standard normal (K, N, E); 0 is the start, i + 1 belongs to step i."""


def run_sampler(denoise: Denoiser, draw_noise: NoiseOfStep, betas: Tensor, sampler: SamplerName, steps: int) -> Tensor:
    """Follow a sampler from noise to codes.

    Args:
        denoise: predicts clean codes.
        draw_noise: gives the noise.
        betas: (num_steps,) of the forward process.
        sampler: which one.
        steps: how many evaluations.

    Returns:
        (K, N, E).

    Raises:
        ValueError: the sampler cannot take so many steps.
        BackendError: the package of the schedulers is missing.
    """
    scheduler = _build_scheduler(betas, sampler, steps)
    sample = draw_noise(0)
    for index, time in enumerate(scheduler.timesteps.tolist()):
        clean = denoise(sample, time, index)
        if sampler == "ddpm":
            # With eta 1 the DDIM step is the DDPM step (test_ddpm_is_ancestral_sampling), and it takes our noise.
            last = index == steps - 1
            noise = torch.zeros_like(sample) if last else draw_noise(index + 1)
            sample = scheduler.step(clean, time, sample, eta=1.0, variance_noise=noise).prev_sample
        else:
            sample = scheduler.step(clean, time, sample).prev_sample
    return sample


def sample_windows(
    model: FaceTalk,
    condition: ConditionSource,
    num_frames: int,
    config: SamplingConfig,
    report: Callable[[float], None] | None = None,
) -> Iterator[Tensor]:
    """Draw expression codes window by window.

    Args:
        model: in evaluation mode.
        condition: gives rows of the condition; before the first and after the last frame the end rows repeat.
        num_frames: T.
        config: how.
        report: called with the fraction done after every step; may raise to stop.

    Yields:
        (K, n, E) expression codes, float32; the windows in order, T frames in all.

    Raises:
        ValueError: num_frames is not positive, or the sampler cannot take so many steps.
        BackendError: the package of the schedulers is missing.
    """
    if num_frames < 1:
        raise ValueError(f"expected at least one frame, got {num_frames}")
    streams = _Streams(model, config)
    # Without the alignment mask a frame sees the condition of its whole window: the length of the crops, as trained.
    longest = config.window_frames if model.config.align_condition else model.config.crop_frames
    for first in range(0, num_frames, longest):
        count = min(longest, num_frames - first)
        rows = _read_condition(condition, first, count, num_frames, model.condition_margin)
        done = _ProgressOfWindow(report, first / num_frames, count / num_frames, config.steps)
        with torch.inference_mode():
            codes = streams.sample(rows, first, keep=first + count < num_frames, report=done)
        yield codes


def sample_codes(model: FaceTalk, condition: Tensor, config: SamplingConfig) -> Tensor:
    """Draw expression codes (K, T, E) for a condition (T, D) that is at hand as a whole.

    Raises:
        ValueError: as `sample_windows`.
        BackendError: as `sample_windows`.
    """
    windows = sample_windows(model, lambda first, count: condition[first : first + count], len(condition), config)
    return torch.cat(list(windows), dim=1)


def draw_frame_noise(seed: int, take: int, step: int, first_frame: int, num_frames: int, size: int) -> np.ndarray:
    """Standard normal noise (num_frames, size) float32 that depends on seed, take, step and frame alone."""
    blocks = range(first_frame // NOISE_BLOCK_FRAMES, (first_frame + num_frames - 1) // NOISE_BLOCK_FRAMES + 1)
    drawn = [
        np.random.default_rng(np.random.SeedSequence([seed, take, step, block])).standard_normal(
            (NOISE_BLOCK_FRAMES, size), dtype=np.float32
        )
        for block in blocks
    ]
    start = first_frame - blocks[0] * NOISE_BLOCK_FRAMES
    return np.concatenate(drawn)[start : start + num_frames]


class _Streams:
    """The takes of one sequence, window after window."""

    def __init__(self, model: FaceTalk, config: SamplingConfig) -> None:
        self.model = model
        self.config = config
        self.guided = config.guidance != 1.0 and model.config.use_diffusion
        self.past: dict[int, list[PastFrames]] = {}

    def sample(self, rows: Tensor, first: int, keep: bool, report: Callable[[int], None]) -> Tensor:
        """Codes (K, n, E) of the window whose condition rows (n + 2 m, D) are given."""
        model, config = self.model, self.config
        encoded = model.encode_condition(rows.to(model.device, torch.float32)[None])  # (1, n, W)
        encoded = encoded.expand(config.takes, -1, -1)
        if self.guided:
            null = model.null_condition.to(encoded.dtype).expand_as(encoded)
            encoded = torch.cat((encoded, null))
        num_frames = encoded.shape[1]

        def denoise(noisy: Tensor, time: int, index: int) -> Tensor:
            batch = torch.cat((noisy, noisy)) if self.guided else noisy
            times = torch.full((len(batch),), time, dtype=torch.int64, device=model.device)
            clean, kept = model.denoise_piece(batch, times, encoded, self.past.get(index), first)
            if keep:
                self.past[index] = kept
            report(index)
            if not self.guided:
                return clean
            conditional, unconditional = clean.chunk(2)
            return guide(conditional, unconditional, config.guidance)

        def draw(step: int) -> Tensor:
            shape = (first, num_frames, model.config.code_size)
            takes = range(config.first_take, config.first_take + config.takes)
            noise = np.stack([draw_frame_noise(config.seed, take, step, *shape) for take in takes])
            return torch.from_numpy(np.float32(config.diversity) * noise).to(model.device)

        if not model.config.use_diffusion:
            return model.restore(denoise(torch.zeros_like(draw(0)), 0, 0))
        return model.restore(run_sampler(denoise, draw, model.betas, config.sampler, config.steps))


class _ProgressOfWindow:
    """Turns the index of a step into the fraction of the whole sequence."""

    def __init__(self, report: Callable[[float], None] | None, start: float, share: float, steps: int) -> None:
        self.report = report
        self.start = start
        self.share = share
        self.steps = steps

    def __call__(self, index: int) -> None:
        if self.report is not None:
            self.report(self.start + self.share * (index + 1) / self.steps)


def _read_condition(source: ConditionSource, first: int, count: int, num_frames: int, margin: int) -> Tensor:
    """Rows first - margin .. first + count + margin, the ends repeated."""
    low, high = max(0, first - margin), min(num_frames, first + count + margin)
    rows = source(low, high - low)
    if len(rows) != high - low:
        raise ValueError(f"expected {high - low} rows of the condition from frame {low}, got {len(rows)}")
    before, after = low - (first - margin), first + count + margin - high
    return torch.cat((rows[:1].expand(before, -1), rows, rows[-1:].expand(after, -1)))


def _build_scheduler(betas: Tensor, sampler: SamplerName, steps: int) -> Any:
    """A scheduler of `diffusers` that takes predictions of the clean sample."""
    try:
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
    except ImportError as error:
        raise BackendError(
            f"FaceTalk needs the package diffusers, which cannot be imported ({error}). "
            "Repair the backend in the preferences, or install it into the backend's Python."
        ) from error
    num_steps = len(betas)
    shared = {
        "num_train_timesteps": num_steps,
        "trained_betas": betas.double().cpu().numpy(),
        "prediction_type": "sample",
    }
    if sampler == "dpm_solver++":
        times = space_times_by_signal(compute_signal_levels(betas.double().cpu()), steps, SMALLEST_LOG_SNR)
        scheduler: Any = DPMSolverMultistepScheduler(**shared)
        scheduler.set_timesteps(timesteps=times)
    elif sampler in ("ddpm", "ddim"):
        if num_steps % steps:
            fitting = [value for value in range(1, num_steps + 1) if num_steps % value == 0]
            nearest = min(fitting, key=lambda value: abs(value - steps))
            raise ValueError(f"{sampler} takes a divisor of {num_steps} steps, got {steps}; the nearest is {nearest}")
        scheduler = DDIMScheduler(**shared, clip_sample=False, timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
    else:
        raise ValueError(f"expected ddpm, ddim or dpm_solver++, got {sampler!r}")
    return scheduler
