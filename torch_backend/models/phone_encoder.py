"""The shipped phone network: log-mels in, phones and a hidden layer out, 50 rows per second, convolutions only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_backend.audio.log_mel import NUM_MELS
from torch_backend.speech_corpus.phones import PHONES


@dataclass(frozen=True)
class PhoneEncoderConfig:
    """Size of the network."""

    channels: int = 192
    """Hidden channels, also the number of features it gives."""
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2, 4, 8)
    """One residual block each, in rows of 20 ms."""
    dropout: float = 0.1
    """Share of hidden channels dropped in a window while training."""


class ResidualBlock(nn.Module):
    """Batch norm, dilated convolution of width 3, GELU, pointwise convolution, added to the input."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.dilated = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.dropout = nn.Dropout1d(dropout)  # whole channels: as good, and random numbers are not free
        self.pointwise = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, A) -> (B, C, A)."""
        return x + self.pointwise(self.dropout(functional.gelu(self.dilated(self.norm(x)))))


class PhoneEncoder(nn.Module):
    """Temporal convolutions over log-mels.

    Row k of the output sees rows 2k - 1 .. 2k + 2 of the input in its strided convolution, so it is centred at
    (k + 0.5) / 50 s when input row t is centred at (t + 0.5) / 100 s.
    """

    feature_mean: Tensor
    feature_deviation: Tensor

    def __init__(self, config: PhoneEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.widen = nn.Conv1d(NUM_MELS, channels, 5, padding=2)
        self.halve = nn.Conv1d(channels, channels, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*[ResidualBlock(channels, d, config.dropout) for d in config.dilations])
        self.norm = nn.LayerNorm(channels)
        self.classify = nn.Linear(channels, len(PHONES))
        self.register_buffer("feature_mean", torch.zeros(channels))
        self.register_buffer("feature_deviation", torch.ones(channels))

    @property
    def context_rows(self) -> int:
        """Output rows on either side that a row depends on, those of the convolutions over the input included."""
        return sum(self.config.dilations) + 3

    def forward(self, log_mels: Tensor) -> tuple[Tensor, Tensor]:
        """Classify every 20 ms.

        Args:
            log_mels: (B, 2A, 64) normalised log-mels.

        Returns:
            logits: (B, A, 40), and hidden: (B, A, C), the normalised layer before them.

        Raises:
            ValueError: log_mels has another number of channels or an odd number of rows.
        """
        if log_mels.ndim != 3 or log_mels.shape[2] != NUM_MELS or log_mels.shape[1] % 2:
            raise ValueError(f"expected log_mels of shape (B, even, {NUM_MELS}), got {tuple(log_mels.shape)}")
        x = functional.gelu(self.widen(log_mels.transpose(1, 2)))  # (B, C, 2A)
        hidden = self.norm(self.blocks(self.halve(x)).transpose(1, 2))  # (B, A, C)
        return self.classify(hidden), hidden

    def standardize(self, hidden: Tensor) -> Tensor:
        """Scale (..., C) hidden values to about zero mean and unit variance over speech."""
        return (hidden - self.feature_mean) / self.feature_deviation
