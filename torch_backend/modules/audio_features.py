"""Global and local audio features of MMTalker (section III-C)."""

from __future__ import annotations

import torch
from torch import nn

CONVOLUTION_WIDTH = 5


class GlobalAudioEncoder(nn.Module):
    """f_ag: an LSTM over the speech features."""

    def __init__(self, feature_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(feature_size, hidden_size, batch_first=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(T, D) -> (T, H); the LSTM starts from zeros."""
        output, _ = self.lstm(features[None])
        return output[0]


class LocalAudioEncoder(nn.Module):
    """h(t): 1D convolutions and an MLP over the speech features."""

    def __init__(self, feature_size: int, hidden_size: int) -> None:
        super().__init__()
        padding = CONVOLUTION_WIDTH // 2
        self.convolutions = nn.Sequential(
            nn.Conv1d(feature_size, 2 * hidden_size, CONVOLUTION_WIDTH, padding=padding),
            nn.GELU(),
            nn.Conv1d(2 * hidden_size, hidden_size, CONVOLUTION_WIDTH, padding=padding),
            nn.GELU(),
        )
        self.mlp = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(T, D) -> (T, H)."""
        return self.mlp(self.convolutions(features.t()[None])[0].t())


class VertexEmbedding(nn.Module):
    """e(s): an MLP of a vertex's encoding. The local vertex-wise audio feature is f_al(s, t) = h(t) * e(s)."""

    def __init__(self, encoding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(encoding_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, encoding: torch.Tensor) -> torch.Tensor:
        """(V, E) -> (V, H)."""
        return self.mlp(encoding)
