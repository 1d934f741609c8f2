"""First weights of a backward head model: bends of the first layers lie where the head is.

The usual first weights are made for inputs of unit size. Coordinates here are tenths, and the activation bends within a
hundredth: such a network begins as a nearly linear map, and learns lips and lids late.

A unit of the deformation's first layer belongs to a place of the surface and sees, of the expression code, only what
blendshapes do that move this place. Where every unit saw the whole code, 4,700 steps taught no blink: what lids do
drowned in the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from torch_backend.models.nphm import BackwardNPHM

_MEMBER_REACH = 0.15
"""Points that a member is asked for lie about this far from its anchor, model units."""
_COORDINATE_SCALE = 8.0
_HYPER_SCALE = 2.0
_CODE_SCALE = 0.1
_READOUT_SCALE = 0.6
"""Of the weights of blendshapes in the first layer: how much one of size 1 moves a unit's bend."""
_READOUTS = 2
"""Blendshapes that a unit sees."""
_JITTER = 0.03


@dataclass(frozen=True)
class DeformationPlaces:
    """Where the deformation's first layer bends, and what its units see."""

    points: torch.Tensor
    """(n, 3) of the surface, drawn where detail is."""
    reach: torch.Tensor
    """(n, S) how far each blendshape moves each point, relative to its largest motion."""
    readouts: torch.Tensor
    """(X, S) a code, as the model takes it, times this is the blendshapes' weights; rows that are not in use are 0."""


def spread_first_weights(model: BackwardNPHM, places: DeformationPlaces) -> None:
    """Overwrite the weights of members and deformation, from torch's random state.

    Args:
        model: a fresh model.
        places: where the deformation bends.
    """
    with torch.no_grad():
        _spread_members(model)
        _spread_deformation(model, places)


def _spread_members(model: BackwardNPHM) -> None:
    members = model.members
    first = members.weights[0]  # (S, out, 3 + H + C)
    first[:, :, :3] = torch.randn_like(first[:, :, :3]) * _COORDINATE_SCALE
    first[:, :, 3 : members.num_coordinates] = torch.randn_like(first[:, :, 3 : members.num_coordinates]) * _HYPER_SCALE
    first[:, :, members.num_coordinates :] = torch.randn_like(first[:, :, members.num_coordinates :]) * (
        _CODE_SCALE / math.sqrt(first.shape[-1])
    )
    through = (torch.rand_like(first[:, :, :3]) * 2 - 1) * _MEMBER_REACH
    members.biases[0].copy_(-(first[:, :, :3] * through).sum(-1))
    # The global member sees the whole head.
    members.biases[0][-1] *= 3.0
    for weight, bias in zip(list(members.weights)[1:-1], list(members.biases)[1:-1], strict=True):
        weight.normal_(std=math.sqrt(2.0 / weight.shape[-1]))
        bias.zero_()
    last = members.weights[-1]
    last.normal_(std=0.1 / math.sqrt(last.shape[-1]))
    members.biases[-1].zero_()


def _spread_deformation(model: BackwardNPHM, places: DeformationPlaces) -> None:
    network = model.deformation
    begin = 3 + model.config.compressed_size
    for number, raw in enumerate(network.layers):
        layer = cast(nn.Linear, raw)
        if number < len(network.layers) - 1:
            layer.weight.normal_(std=math.sqrt(2.0 / layer.weight.shape[1]))
            layer.bias.zero_()
        if number not in (0, network.skip_layer):
            continue
        inputs = layer.weight[:, layer.weight.shape[1] - begin - model.expression_size :]
        first = number == 0
        chosen = torch.randint(len(places.points), (len(inputs),))
        inputs[:, :3] = torch.randn_like(inputs[:, :3]) * (_COORDINATE_SCALE if first else 1.0)
        inputs[:, 3:begin] = torch.randn_like(inputs[:, 3:begin]) * (_CODE_SCALE if first else 0.02)
        inputs[:, begin:] = _see_blendshapes(places, chosen) * (_READOUT_SCALE if first else 0.5 * _READOUT_SCALE)
        if first:
            through = places.points[chosen] + torch.randn_like(inputs[:, :3]) * _JITTER
            layer.bias.copy_(-(inputs[:, :3] * through).sum(-1))


def _see_blendshapes(places: DeformationPlaces, chosen: torch.Tensor) -> torch.Tensor:
    """(n, X) random weights by which units at the chosen points read a few of the blendshapes that move them."""
    chances = places.reach[chosen] + 1e-4
    seen = torch.multinomial(chances, _READOUTS)
    weights = torch.zeros_like(chances).scatter_(1, seen, torch.randn(len(chosen), _READOUTS))
    return weights @ places.readouts.T
