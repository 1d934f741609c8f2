"""A fully connected network of points under one condition, the deep SDF of the neural head models.

The condition is the same for all points of a batch entry, so its share of a product is computed once per entry and
not once per point; that is exact and makes long codes free.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import nn

from torch_backend.modules.smooth_rectifier import smooth_rectifier

Skip = Literal["append", "shrink"]
"""How the input comes back at the middle layer: that layer grows by the input's width, or the one before shrinks."""

SKIP_SCALE = 1.0 / math.sqrt(2.0)


class ConditionedNetwork(nn.Module):
    """(point, condition) -> hidden layers -> output, with the input once more at the middle layer."""

    def __init__(
        self,
        num_coordinates: int,
        condition_size: int,
        hidden_size: int,
        hidden_layers: int,
        output_size: int,
        skip: Skip,
    ) -> None:
        """Make the layers.

        Args:
            num_coordinates: of a point.
            condition_size: length of the condition.
            hidden_size: width of the hidden layers.
            hidden_layers: their number, at least 2; the input comes back at layer `hidden_layers // 2`.
            output_size: width of the output.
            skip: see `Skip`.

        Raises:
            ValueError: fewer than 2 hidden layers, or too narrow a network for skip "shrink".
        """
        super().__init__()
        input_size = num_coordinates + condition_size
        if hidden_layers < 2:
            raise ValueError(f"expected at least 2 hidden layers, got {hidden_layers}")
        if skip == "shrink" and hidden_size <= input_size:
            raise ValueError(f"skip 'shrink' needs a hidden size over the input's {input_size}, got {hidden_size}")
        self.num_coordinates = num_coordinates
        self.skip_layer = hidden_layers // 2
        outputs = [hidden_size] * hidden_layers + [output_size]
        inputs = [input_size] + [hidden_size] * hidden_layers
        if skip == "shrink":
            outputs[self.skip_layer - 1] -= input_size
        else:
            inputs[self.skip_layer] += input_size
        self.layers = nn.ModuleList([nn.Linear(wide, narrow) for wide, narrow in zip(inputs, outputs, strict=True)])

    def forward(self, points: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Outputs.

        Args:
            points: (B, Q, D).
            condition: (B, C).

        Returns:
            (B, Q, O).
        """
        values = points
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            weight, bias = cast(nn.Linear, layer).weight, cast(nn.Linear, layer).bias
            if number == 0:
                values = self._input_terms(weight, bias, points, condition)
            elif number == self.skip_layer:
                width = values.shape[-1]
                inputs = self._input_terms(weight[:, width:] * SKIP_SCALE, bias, points, condition)
                values = inputs + values @ (weight[:, :width].T * SKIP_SCALE)
            else:
                values = nn.functional.linear(values, weight, bias)
            if number < last:
                values = smooth_rectifier(values)
        return values

    def _input_terms(
        self, weight: torch.Tensor, bias: torch.Tensor, points: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """What the network's input adds to a layer: weight (O, D + C) -> (B, Q, O)."""
        constant = condition @ weight[:, self.num_coordinates :].T + bias
        return points @ weight[:, : self.num_coordinates].T + constant.unsqueeze(1)
