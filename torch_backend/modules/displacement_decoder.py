"""The five fully connected layers that turn a point's features into its displacement (MMTalker, section III-D)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SLOPE = 0.2
"""Of the leaky rectifier."""


class DisplacementDecoder(nn.Module):
    """(H + H) -> D -> D -> D -> D / 2 -> 3.

    The input is a concatenation of a half that differs between points and a half that all points of a frame share, so
    the first layer is a sum of two products and the shared one is computed once a frame. The last layer starts at
    zero: an untrained network leaves the template as it is (test_untrained_network_leaves_the_template).
    """

    def __init__(self, hidden_size: int, width: int) -> None:
        """Make the layers.

        Args:
            hidden_size: H, of either half of the input.
            width: D, of the hidden layers.
        """
        super().__init__()
        self.point_input = nn.Linear(hidden_size, width, bias=False)
        self.frame_input = nn.Linear(hidden_size, width)
        self.hidden = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width // 2)])
        self.output = nn.Linear(width // 2, 3)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, point_features: torch.Tensor, frame_features: torch.Tensor) -> torch.Tensor:
        """Displacements.

        Args:
            point_features: (M, T, H).
            frame_features: (T, H).

        Returns:
            (M, T, 3).
        """
        values = self.point_input(point_features) + self.frame_input(frame_features)
        values = functional.leaky_relu(values, SLOPE, inplace=not torch.is_grad_enabled())
        for layer in self.hidden:
            values = functional.leaky_relu(layer(values), SLOPE, inplace=not torch.is_grad_enabled())
        return self.output(values)
