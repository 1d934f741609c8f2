"""Dual cross-attention over a bounded stretch of time (MMTalker, eq. 4 and 5, Fig. 5)."""

from __future__ import annotations

import math

import torch
from torch import nn

QUERY_CHUNK_FRAMES = 16
"""Queries are handled in chunks, each against its own stretch of keys: cheaper than a mask over all keys."""


def banded_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, reach: int, first_query: int = 0
) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) V over time, where a query sees the keys within +-`reach` frames only.

    Args:
        queries: (N, T, C), one row of queries a vertex, for the frames first_query .. first_query + T - 1.
        keys: (A, C), one key a frame, shared by all vertices.
        values: (A, C).
        reach: frames to either side.
        first_query: index, among the keys, of the first query's frame.

    Returns:
        (N, T, C).

    Raises:
        ValueError: a query's frame has no key.
    """
    num_vertices, num_frames, channels = queries.shape
    if first_query < 0 or first_query + num_frames > len(keys):
        raise ValueError(f"queries at frames {first_query}..{first_query + num_frames - 1}, but {len(keys)} keys")
    outputs = []
    for start in range(0, num_frames, QUERY_CHUNK_FRAMES):
        stop = min(start + QUERY_CHUNK_FRAMES, num_frames)
        low = max(0, first_query + start - reach)
        high = min(len(keys), first_query + stop + reach)
        query_frames = torch.arange(first_query + start, first_query + stop, device=keys.device)
        key_frames = torch.arange(low, high, device=keys.device)
        hidden = (query_frames[:, None] - key_frames).abs() > reach  # (t, a)
        bias = torch.zeros(hidden.shape, dtype=keys.dtype, device=keys.device).masked_fill_(hidden, -math.inf)
        chunk = queries[:, start:stop].reshape(-1, channels)  # (N t, C)
        scaled_keys = keys[low:high].t() / math.sqrt(channels)
        logits = (chunk @ scaled_keys).view(num_vertices, stop - start, high - low)
        weights = torch.softmax(logits + bias, dim=-1)
        outputs.append((weights.view(-1, high - low) @ values[low:high]).view(num_vertices, stop - start, channels))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


class DualCrossAttention(nn.Module):
    """f_fd = (f_p + Att(Q, K, V)) (+) (f_ag + Att^(Q, K, V)).

    In Att every vertex's f_p asks, and the global audio feature f_ag answers. In Att^ f_ag asks, and f_p, averaged
    over the key points of the face, answers; its result is shared by all vertices of a frame.
    """

    def __init__(self, hidden_size: int, reach: int) -> None:
        """Make the layer.

        Args:
            hidden_size: H.
            reach: frames to either side that a query sees.
        """
        super().__init__()
        self.reach = reach
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.frame_query = nn.Linear(hidden_size, hidden_size)
        self.frame_key = nn.Linear(hidden_size, hidden_size)
        self.frame_value = nn.Linear(hidden_size, hidden_size)

    def fuse_frames(self, global_audio: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """f_ag + Att^, shared by all vertices.

        Args:
            global_audio: f_ag (T, H).
            pooled: f_p averaged over the key points (T, H).

        Returns:
            (T, H).
        """
        attended = banded_attention(
            self.frame_query(global_audio)[None], self.frame_key(pooled), self.frame_value(pooled), self.reach
        )
        return global_audio + attended[0]

    def fuse_vertices(
        self, vertex_features: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, first_frame: int = 0
    ) -> torch.Tensor:
        """f_p + Att.

        Args:
            vertex_features: f_p (N, T, H).
            keys: `self.key` of f_ag (A, H).
            values: `self.value` of f_ag (A, H).
            first_frame: index among the keys of the first of the T frames.

        Returns:
            (N, T, H).
        """
        queries = self.query(vertex_features)
        return vertex_features + banded_attention(queries, keys, values, self.reach, first_frame)


class ConcatenationFusion(nn.Module):
    """What stands in for the dual cross-attention in its ablation: an MLP on f_p (+) f_ag, frame by frame."""

    reach = 0

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.vertex_part = nn.Linear(hidden_size, hidden_size)
        self.frame_part = nn.Linear(hidden_size, hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size)

    def fuse_frames(self, global_audio: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """f_ag (T, H) as it is; `pooled` is not used."""
        return global_audio

    def key(self, global_audio: torch.Tensor) -> torch.Tensor:
        """The frames' half of the MLP's first layer (T, H)."""
        return self.frame_part(global_audio)

    def value(self, global_audio: torch.Tensor) -> torch.Tensor:
        """Not used; here because the attention has values."""
        return global_audio

    def fuse_vertices(
        self, vertex_features: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, first_frame: int = 0
    ) -> torch.Tensor:
        """MLP of vertex and frame features (N, T, H)."""
        frames = keys[first_frame : first_frame + vertex_features.shape[1]]
        return self.output(torch.nn.functional.gelu(self.vertex_part(vertex_features) + frames))
