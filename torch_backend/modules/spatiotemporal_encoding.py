"""Spatio-temporal encoding of points of the UV plane (MMTalker, eq. 1)."""

from __future__ import annotations

import torch
from torch import nn

UV_LIMIT = 0.98
"""Coordinates are clipped to this, because the slope of arccos is infinite at +-1."""


class SpatioTemporalEncoding(nn.Module):
    """STE(s, t) = { cos(i arccos(s) + w t / T) }, i = 1..L, for both coordinates of s = (u, v).

    At w = 0 the terms are the Chebyshev polynomials T_1..T_L of u and of v, and the encoding does not depend on time.
    Since cos(a + b) = cos a cos b - sin a sin b, the encoding is a mix of two static parts; everything linear that
    follows can be computed once per vertex (`static_parts`) and mixed per frame (`phase`).
    """

    def __init__(self, num_terms: int, temporal: bool = False) -> None:
        """Make the encoding.

        Args:
            num_terms: L, terms per coordinate.
            temporal: learn w; otherwise w = 0.

        Raises:
            ValueError: `num_terms` is not positive.
        """
        super().__init__()
        if num_terms < 1:
            raise ValueError(f"num_terms must be at least 1, got {num_terms}")
        self.num_terms = num_terms
        self.w = nn.Parameter(torch.ones(())) if temporal else None

    @property
    def size(self) -> int:
        """Channels of the encoding."""
        return 2 * self.num_terms

    def static_parts(self, uv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos(i arccos(s)) and sin(i arccos(s)).

        Args:
            uv: (N, 2) in [-1, 1].

        Returns:
            Two tensors (N, 2 L), u's terms first.
        """
        angles = torch.acos(uv.clamp(-UV_LIMIT, UV_LIMIT))  # (N, 2)
        orders = torch.arange(1, self.num_terms + 1, device=uv.device, dtype=uv.dtype)
        multiples = (angles[:, :, None] * orders).flatten(1)  # (N, 2 L)
        return torch.cos(multiples), torch.sin(multiples)

    def phase(self, time_fractions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos(w t / T) and sin(w t / T), each of the shape of `time_fractions`."""
        angle = torch.zeros_like(time_fractions) if self.w is None else self.w * time_fractions
        return torch.cos(angle), torch.sin(angle)

    def forward(self, uv: torch.Tensor, time_fractions: torch.Tensor) -> torch.Tensor:
        """The whole encoding.

        Args:
            uv: (N, 2) in [-1, 1].
            time_fractions: (T,), t / T.

        Returns:
            (N, T, 2 L).
        """
        cosines, sines = self.static_parts(uv)
        phase_cosine, phase_sine = self.phase(time_fractions)
        return cosines[:, None] * phase_cosine[:, None] - sines[:, None] * phase_sine[:, None]
