"""First weights of a backward head model: bends of the first layers lie where the head is.

The usual first weights are made for inputs of unit size. Coordinates here are tenths, and the activation bends within a
hundredth: such a network begins as a nearly linear map, and learns lips and lids late.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from torch_backend.models.nphm import BackwardNPHM

_MEMBER_REACH = 0.15
"""Points that a member is asked for lie about this far from its anchor, model units."""
_COORDINATE_SCALE = 8.0
_HYPER_SCALE = 2.0
_CODE_SCALE = 0.1
_JITTER = 0.03


def spread_first_weights(model: BackwardNPHM, places: torch.Tensor, num_codes: int) -> None:
    """Overwrite the weights of members and deformation, from torch's random state.

    Args:
        model: a fresh model.
        places: (n, 3) points of the surface, drawn where detail is; bends of the deformation go through them.
        num_codes: entries of the expression code that are in use; the others get no weight.
    """
    with torch.no_grad():
        _spread_members(model)
        _spread_deformation(model, places, num_codes)


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


def _spread_deformation(model: BackwardNPHM, places: torch.Tensor, num_codes: int) -> None:
    network = model.deformation
    begin = 3 + model.config.compressed_size
    for number, raw in enumerate(network.layers):
        layer = cast(nn.Linear, raw)
        last = number == len(network.layers) - 1
        if not last:
            layer.weight.normal_(std=math.sqrt(2.0 / layer.weight.shape[1]))
            layer.bias.zero_()
        if number not in (0, network.skip_layer):
            continue
        inputs = layer.weight[:, layer.weight.shape[1] - begin - model.expression_size :]
        scale = _COORDINATE_SCALE if number == 0 else 1.0
        inputs[:, :3] = torch.randn_like(inputs[:, :3]) * scale
        inputs[:, 3:] = torch.randn_like(inputs[:, 3:]) * (_CODE_SCALE if number == 0 else 0.02)
        inputs[:, begin + num_codes :] = 0.0
        if number == 0:
            chosen = places[torch.randint(len(places), (len(inputs),))]
            through = chosen + torch.randn_like(chosen) * _JITTER
            layer.bias.copy_(-(inputs[:, :3] * through).sum(-1))
