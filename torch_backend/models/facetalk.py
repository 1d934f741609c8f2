"""FaceTalk: a diffusion transformer that turns speech (or landmarks) into expression codes of a neural head.

"FaceTalk: Audio-Driven Motion Diffusion for Neural Parametric Head Models", section 4 and supplement B. What the paper
leaves open, and what we read into it, is in docs/models/facetalk.md.

The network works on standardised codes; `standardize` and `restore` convert. Frame i is at i / 24 seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from torch_backend.modules.causal_attention import CausalSelfAttention, ConditionAttention, PastFrames
from torch_backend.modules.diffusion_schedule import add_noise, compute_cosine_betas, compute_signal_levels
from torch_backend.modules.time_injection import InjectionName, TimeEmbedding, build_injection, encode_positions

KIND = "facetalk"
FRAME_RATE = 24.0
_SMALLEST_DEVIATION = 1e-6
_STILL_CHANNEL = 1e-3
"""Codes that vary less than this share of the one that varies most are not enlarged."""


@dataclass(frozen=True)
class FaceTalkConfig:
    """Sizes and ablation switches; the defaults are the paper's."""

    code_size: int = 200
    """E, numbers of an expression code."""
    condition_size: int = 192
    """D, channels of the condition: those of the speech encoder, or 3 x landmarks."""
    condition: Literal["audio", "landmarks"] = "audio"
    """What drives the face."""
    speech_encoder: str = "shipped"
    """Name of the encoder that the features come from."""
    condition_kernel: int = 1
    """Frames of the condition that the projection sees, an odd number. 1: the paper's feed-forward layer."""
    width: int = 256
    """W, of the decoder."""
    num_heads: int = 8
    """Heads of both attentions."""
    num_blocks: int = 4
    """Decoder blocks."""
    feed_forward: int = 1024
    """Width inside the feed-forward layers."""
    dropout: float = 0.1
    """After each sublayer and inside the feed-forward layers."""
    positions: Literal["relative", "sinusoidal", "none"] = "relative"
    """How a frame knows where others are: by a learned bias a distance, an absolute encoding, or the mask alone."""
    crop_frames: int = 48
    """Frames of a training crop; at inference a frame sees as many in each block."""
    num_steps: int = 1000
    """Diffusion time steps."""
    injection: InjectionName = "film"
    """How the time step enters the blocks; "input" is the ablation without FiLM."""
    align_condition: bool = True
    """Off: a frame sees the condition of all frames (ablation of the alignment mask)."""
    use_diffusion: bool = True
    """Off: codes are regressed from the condition alone (ablation)."""

    def __post_init__(self) -> None:
        for name in ("code_size", "condition_size", "num_heads", "num_blocks", "feed_forward", "crop_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width < 2 or self.width % 2 or self.width % self.num_heads:
            raise ValueError(f"width must be even and a multiple of {self.num_heads} heads, got {self.width}")
        if self.condition_kernel < 1 or self.condition_kernel % 2 == 0:
            raise ValueError(f"condition_kernel must be odd and positive, got {self.condition_kernel}")
        if not 0 <= self.dropout < 1 or self.num_steps < 2:
            raise ValueError(f"expected dropout in [0, 1) and num_steps >= 2, got {self.dropout} and {self.num_steps}")


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward; the time step modulates what each gives (Fig. 10)."""

    def __init__(self, config: FaceTalkConfig) -> None:
        super().__init__()
        width = config.width
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = CausalSelfAttention(
            width, config.num_heads, config.crop_frames, config.positions == "relative"
        )
        self.self_injection = build_injection(config.injection, width)
        # The aligned attention asks nothing of the features.
        self.cross_norm = nn.Identity() if config.align_condition else nn.LayerNorm(width)
        self.cross_attention = ConditionAttention(width, config.num_heads, config.align_condition)
        self.cross_injection = build_injection(config.injection, width)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.feed_forward),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feed_forward, width),
        )
        self.forward_injection = build_injection(config.injection, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, features: Tensor, condition: Tensor, time: Tensor, past: PastFrames | None
    ) -> tuple[Tensor, PastFrames]:
        """(B, N, W), (B, N, W), (B, W) -> (B, N, W), and what the next piece needs."""
        attended, past = self.self_attention(self.self_norm(features), past)
        features = features + self.self_injection(self.dropout(attended), time)
        attended = self.cross_attention(self.cross_norm(features), condition)
        features = features + self.cross_injection(self.dropout(attended), time)
        changed = self.feed_forward(self.forward_norm(features))
        return features + self.forward_injection(self.dropout(changed), time), past


class FaceTalk(nn.Module):
    """The expression decoder: noisy codes, time step and condition into clean codes."""

    code_mean: Tensor
    code_deviation: Tensor
    condition_mean: Tensor
    condition_deviation: Tensor
    betas: Tensor
    signal_levels: Tensor

    def __init__(self, config: FaceTalkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.code_projection = nn.Linear(config.code_size, width)
        self.condition_projection = nn.Conv1d(config.condition_size, width, config.condition_kernel)
        self.null_condition = nn.Parameter(torch.zeros(width))
        self.time_embedding = TimeEmbedding(width)
        self.blocks = nn.ModuleList([DecoderBlock(config) for _ in range(config.num_blocks)])
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, config.code_size)
        for name, size in (("code", config.code_size), ("condition", config.condition_size)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_deviation", torch.ones(size))
        betas = compute_cosine_betas(config.num_steps)
        self.register_buffer("betas", betas.float(), persistent=False)
        self.register_buffer("signal_levels", compute_signal_levels(betas).float(), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.output.weight.device

    @property
    def condition_margin(self) -> int:
        """Frames of the condition that are needed on either side of the frames asked for."""
        return self.config.condition_kernel // 2

    def set_statistics(self, codes: Tensor, condition: Tensor, whitening: float = 0.0) -> None:
        """Take mean and deviation of the training data.

        Channels of the condition are standardised one by one. Codes share one deviation, so that their scale to each
        other, which the head's network was trained with, stays; with `whitening` small channels are enlarged, which
        noise would otherwise hide until the last steps.

        Args:
            codes: (T, E) expression codes.
            condition: (T, D) rows of the condition.
            whitening: 0: one deviation for all codes; 1: each channel its own; between, the geometric mean. Above 0,
                the common deviation is that of the channels that vary at all.

        Raises:
            ValueError: wrong channels, or too few rows.
        """
        expected = (self.config.code_size, self.config.condition_size)
        if (codes.shape[-1], condition.shape[-1]) != expected or len(codes) < 2 or len(condition) < 2:
            raise ValueError(
                f"expected at least two rows of {expected[0]} code and {expected[1]} condition channels, "
                f"got {tuple(codes.shape)} and {tuple(condition.shape)}"
            )
        mean = codes.mean(dim=0)
        own = (codes - mean).square().mean(dim=0).sqrt()
        varies = own > _STILL_CHANNEL * own.max() if whitening else torch.ones_like(own, dtype=torch.bool)
        shared = own[varies].square().mean().sqrt().clamp(min=_SMALLEST_DEVIATION)
        deviation = (
            shared ** (1 - whitening) * torch.where(varies, own, shared).clamp(min=_SMALLEST_DEVIATION) ** whitening
        )
        self.code_mean.copy_(mean)
        self.code_deviation.copy_(deviation)
        self.condition_mean.copy_(condition.mean(dim=0))
        self.condition_deviation.copy_(condition.std(dim=0, correction=0).clamp(min=_SMALLEST_DEVIATION))

    def standardize(self, codes: Tensor) -> Tensor:
        """Expression codes (..., E) in the network's scale."""
        return (codes - self.code_mean) / self.code_deviation

    def restore(self, codes: Tensor) -> Tensor:
        """Expression codes (..., E) from the network's scale."""
        return codes * self.code_deviation + self.code_mean

    def encode_condition(self, condition: Tensor) -> Tensor:
        """Project the condition into the decoder's space.

        Args:
            condition: (B, N + 2 m, D), where m is `condition_margin`: the frames asked for and those beside them.

        Returns:
            (B, N, W).

        Raises:
            ValueError: wrong channels or too few frames.
        """
        margin = self.condition_margin
        if condition.ndim != 3 or condition.shape[2] != self.config.condition_size or condition.shape[1] <= 2 * margin:
            raise ValueError(
                f"expected a condition of shape (B, more than {2 * margin}, {self.config.condition_size}), "
                f"got {tuple(condition.shape)}"
            )
        scaled = (condition - self.condition_mean) / self.condition_deviation
        return self.condition_projection(scaled.transpose(1, 2)).transpose(1, 2)

    def drop_condition(self, encoded: Tensor, dropped: Tensor) -> Tensor:
        """Put the null condition (Phi) where dropped (B,) is true, into encoded (B, N, W)."""
        return torch.where(dropped[:, None, None], self.null_condition.to(encoded.dtype), encoded)

    def diffuse(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Noisy codes at time steps (B,) in 0..num_steps - 1, from standardised codes (B, N, E); eq. 3."""
        return add_noise(clean, noise, self.signal_levels[times])

    def forward(self, noisy: Tensor, times: Tensor, condition: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Predict clean codes of whole sequences, as in training.

        Args:
            noisy: (B, N, E) standardised codes with noise.
            times: (B,) int64 time steps, 0..num_steps - 1.
            condition: (B, N + 2 m, D), as `encode_condition` takes it.
            dropped: (B,) bool, where the null condition stands in.

        Returns:
            (B, N, E) standardised codes.

        Raises:
            ValueError: the shapes do not fit.
        """
        encoded = self.encode_condition(condition)
        if dropped is not None:
            encoded = self.drop_condition(encoded, dropped)
        return self.denoise_piece(noisy, times, encoded, None, 0)[0]

    def denoise_piece(
        self, noisy: Tensor, times: Tensor, encoded: Tensor, past: list[PastFrames] | None, first_frame: int
    ) -> tuple[Tensor, list[PastFrames]]:
        """Predict clean codes of a piece of a sequence, given what was kept of the frames before.

        Args:
            noisy: (B, N, E), as in `forward`.
            times: (B,).
            encoded: (B, N, W).
            past: what the call for the piece before, at the same time step, returned; None for the first piece.
            first_frame: index of the piece's first frame.

        Returns:
            (B, N, E), the same as `forward` would give for these frames of the whole sequence, and what the next
            piece needs.

        Raises:
            ValueError: the shapes do not fit.
        """
        batch, num_frames = noisy.shape[:2]
        expected = (batch, num_frames, self.config.width)
        if noisy.shape[2:] != (self.config.code_size,) or encoded.shape != expected or times.shape != (batch,):
            raise ValueError(
                f"expected codes (B, N, {self.config.code_size}), times (B,) and a condition (B, N, "
                f"{self.config.width}), got {tuple(noisy.shape)}, {tuple(times.shape)} and {tuple(encoded.shape)}"
            )
        if not self.config.use_diffusion:
            noisy, times = torch.zeros_like(noisy), torch.zeros_like(times)
        features = self.code_projection(noisy)
        time = self.time_embedding(times)
        if self.config.injection == "input":
            features = features + time[:, None]
        if self.config.positions == "sinusoidal":
            frames = torch.arange(first_frame, first_frame + num_frames, device=noisy.device)
            features = features + encode_positions(frames, self.config.width).to(features.dtype)
        kept = []
        for index, block in enumerate(self.blocks):
            features, frames_kept = block(features, encoded, time, None if past is None else past[index])
            kept.append(frames_kept)
        return self.output(self.norm(features)), kept


def guide(conditional: Tensor, unconditional: Tensor, strength: float) -> Tensor:
    """Classifier-free guidance, eq. 10: w x_c + (1 - w) x_u; above 1 the condition is amplified."""
    return strength * conditional + (1 - strength) * unconditional
