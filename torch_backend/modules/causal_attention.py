"""Attention of FaceTalk's decoder: causal over expression codes, aligned frame by frame with the condition.

Causal attention can be computed in pieces: a piece needs keys and values of the frames before it and no more, and
gives what the whole sequence would have given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class PastFrames:
    """What a self-attention layer keeps of the frames before a piece."""

    keys: Tensor
    """(B, heads, P, channels)."""
    values: Tensor
    """(B, heads, P, channels)."""


def compute_frame_distances(num_queries: int, num_past: int, device: torch.device | str = "cpu") -> Tensor:
    """How many frames a key lies before a query; negative for keys of the future.

    Args:
        num_queries: N frames of this piece.
        num_past: P frames before it.
        device: of the result.

    Returns:
        (N, P + N) int64.
    """
    queries = torch.arange(num_past, num_past + num_queries, device=device)
    return queries[:, None] - torch.arange(num_past + num_queries, device=device)


def compute_causal_mask(distances: Tensor, reach: int) -> Tensor:
    """Eq. 6: whether a query sees a key: itself and the frames before it, `reach` frames in all.

    Within a crop of at most `reach` frames this is the paper's mask. Beyond it, it keeps every frame's view as long as
    those that the network was trained on, and the cost of a frame constant.
    """
    return (distances >= 0) & (distances < reach)


def compute_alignment_mask(num_frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Eq. 7: frame i sees the condition of frame i (N, N)."""
    return torch.eye(num_frames, dtype=torch.bool, device=device)


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention over the frames before."""

    def __init__(self, width: int, num_heads: int, reach: int, relative_bias: bool) -> None:
        """Make the layer.

        Args:
            width: W.
            num_heads: must divide the width.
            reach: frames that a query sees, itself included.
            relative_bias: learn an offset of the logits for every distance and head, which starts at zero.

        Raises:
            ValueError: the heads do not divide the width.
        """
        super().__init__()
        if width % num_heads:
            raise ValueError(f"expected heads that divide the width, got {num_heads} heads and a width of {width}")
        self.num_heads = num_heads
        self.reach = reach
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(num_heads, reach)) if relative_bias else None

    def forward(self, features: Tensor, past: PastFrames | None = None) -> tuple[Tensor, PastFrames]:
        """Attend.

        Args:
            features: (B, N, W).
            past: what the layer returned for the piece before.

        Returns:
            (B, N, W), and what the next piece needs.
        """
        batch, num_frames, width = features.shape
        heads = self.projection(features).view(batch, num_frames, 3, self.num_heads, width // self.num_heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, N, channels) each
        if past is not None:
            keys, values = torch.cat((past.keys, keys), dim=2), torch.cat((past.values, values), dim=2)
        mask = self._build_mask(num_frames, keys.shape[2] - num_frames, features)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        kept = max(0, keys.shape[2] - (self.reach - 1))
        return (
            self.output(attended.transpose(1, 2).reshape(batch, num_frames, width)),
            PastFrames(keys[:, :, kept:], values[:, :, kept:]),
        )

    def _build_mask(self, num_frames: int, num_past: int, features: Tensor) -> Tensor:
        """(N, P + N), or one for each head: what is added to the logits."""
        distances = compute_frame_distances(num_frames, num_past, features.device)
        hidden = ~compute_causal_mask(distances, self.reach)
        if self.bias is None:
            return torch.zeros(hidden.shape, dtype=features.dtype, device=features.device).masked_fill(
                hidden, -math.inf
            )
        offsets = self.bias[:, distances.clamp(0, self.reach - 1)].to(features.dtype)  # (heads, N, P + N)
        return offsets.masked_fill(hidden, -math.inf)


class ConditionAttention(nn.Module):
    """Multi-head cross-attention from expression features to the condition's.

    With the alignment mask a query sees one key, whose weight is 1 whatever query and key are: the layer is the linear
    map of the values, and query and key have no part in it (test_aligned_attention_is_its_values).
    """

    def __init__(self, width: int, num_heads: int, aligned: bool) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"expected heads that divide the width, got {num_heads} heads and a width of {width}")
        self.num_heads = num_heads
        self.aligned = aligned
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.query = None if aligned else nn.Linear(width, width)
        self.key = None if aligned else nn.Linear(width, width)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """(B, N, W) and (B, N, W) -> (B, N, W). Without the mask a frame sees all of the condition it is given.

        Raises:
            ValueError: the condition has another shape than the features.
        """
        if features.shape != condition.shape:
            raise ValueError(f"expected a condition of shape {tuple(features.shape)}, got {tuple(condition.shape)}")
        values = self.value(condition)
        if self.query is None or self.key is None:
            return self.output(values)
        queries, keys, values = (self._split(part) for part in (self.query(features), self.key(condition), values))
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return self.output(attended.transpose(1, 2).reshape(features.shape))

    def _split(self, features: Tensor) -> Tensor:
        """(B, N, W) -> (B, heads, N, channels)."""
        batch, num_frames, width = features.shape
        return features.view(batch, num_frames, self.num_heads, width // self.num_heads).transpose(1, 2)
