"""Many small networks of one size, of which each point asks only a few: the local members of a neural head model.

Members come in mirrored pairs that share their weights, then single ones; the last is the global member. Pairs of
(point, member) are grouped by weight set, so that a set's layers are a handful of matrix products however many
points ask for it. A member's code is the same for all points of a batch entry: its share of a product is computed once.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from torch_backend.modules.conditioned_network import SKIP_SCALE
from torch_backend.modules.smooth_rectifier import smooth_rectifier


class MemberNetworks(nn.Module):
    """Stacked fully connected networks with one output each.

    `weights[j]` is (S, out, in) and `biases[j]` (S, out) of layer j of all S weight sets. The first layer's columns
    are the coordinates, then the code; where the input comes back, they follow the hidden values in that order.
    """

    set_of_member: torch.Tensor
    mirror_signs: torch.Tensor

    def __init__(
        self,
        num_members: int,
        num_pairs: int,
        *,
        num_coordinates: int,
        code_size: int,
        hidden_size: int,
        hidden_layers: int,
        skip: bool,
    ) -> None:
        """Make the weights.

        Args:
            num_members: M, the global one included.
            num_pairs: the first 2 * num_pairs members are mirrored pairs.
            num_coordinates: D of a point relative to its member; the first is mirrored.
            code_size: C of a member's code.
            hidden_size: width of the hidden layers.
            hidden_layers: their number.
            skip: whether the input comes back at layer `hidden_layers // 2` (the layer before is that much narrower).

        Raises:
            ValueError: the sizes do not go together.
        """
        super().__init__()
        input_size = num_coordinates + code_size
        if not 0 <= 2 * num_pairs <= num_members:
            raise ValueError(f"{num_pairs} mirrored pairs do not fit into {num_members} members")
        if hidden_layers < 2 or (skip and hidden_size <= input_size):
            raise ValueError(
                f"expected at least 2 hidden layers, and wider than the input's {input_size} with a skip; "
                f"got {hidden_layers} of {hidden_size}"
            )
        self.num_members, self.num_coordinates = num_members, num_coordinates
        self.num_sets = num_members - num_pairs
        self.skip_layer = hidden_layers // 2 if skip else -1
        outputs = [hidden_size] * hidden_layers + [1]
        inputs = [input_size] + [hidden_size] * hidden_layers
        if skip:
            outputs[self.skip_layer - 1] -= input_size
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for wide, narrow in zip(inputs, outputs, strict=True):
            bound = 1.0 / math.sqrt(wide)
            self.weights.append(nn.Parameter(torch.empty(self.num_sets, narrow, wide).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(self.num_sets, narrow).uniform_(-bound, bound)))
        pairs = torch.arange(num_pairs).repeat_interleave(2)
        singles = torch.arange(num_pairs, self.num_sets)
        signs = torch.ones(num_members, num_coordinates)
        signs[1 : 2 * num_pairs : 2, 0] = -1.0
        self.register_buffer("set_of_member", torch.cat([pairs, singles]), persistent=False)
        self.register_buffer("mirror_signs", signs, persistent=False)

    def forward(
        self, coordinates: torch.Tensor, members: torch.Tensor, entries: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """Evaluate each point by the one member it names.

        Args:
            coordinates: (P, D) relative to the member, not mirrored yet.
            members: (P,) int64, 0 to M - 1.
            entries: (P,) int64, the batch entry whose code holds.
            codes: (B, M, C).

        Returns:
            (P,).
        """
        sets = self.set_of_member[members]
        order = torch.argsort(sets, stable=True)
        counts = torch.bincount(sets, minlength=self.num_sets).tolist()
        rows = (entries * self.num_members + members)[order].split(counts)
        inputs = (coordinates * self.mirror_signs[members])[order].split(counts)
        first_terms = self._code_terms(0, codes)
        skip_terms = self._code_terms(self.skip_layer, codes) if self.skip_layer > 0 else None
        layers = [(weight.unbind(0), bias.unbind(0)) for weight, bias in zip(self.weights, self.biases, strict=True)]
        outputs = []
        for number in range(self.num_sets):
            if counts[number] == 0:
                continue
            chosen = [(weights[number], biases[number]) for weights, biases in layers]
            skip = None if skip_terms is None else skip_terms[rows[number]]
            outputs.append(self._evaluate_set(chosen, inputs[number], first_terms[rows[number]], skip))
        if not outputs:
            return coordinates.new_zeros(0)
        values = torch.cat(outputs)
        return torch.empty_like(values).index_copy(0, order, values)

    def _code_terms(self, number: int, codes: torch.Tensor) -> torch.Tensor:
        """What codes and bias add to layer `number`, for every entry and member: (B * M, out)."""
        weight = self.weights[number][:, :, -codes.shape[-1] :]
        scale = 1.0 if number == 0 else SKIP_SCALE
        terms = torch.einsum("moc,bmc->bmo", weight[self.set_of_member] * scale, codes)
        return (terms + self.biases[number][self.set_of_member]).flatten(0, 1)

    def _evaluate_set(
        self,
        layers: list[tuple[torch.Tensor, torch.Tensor]],
        inputs: torch.Tensor,
        first_term: torch.Tensor,
        skip_term: torch.Tensor | None,
    ) -> torch.Tensor:
        """One weight set on its points: inputs (n, D) -> (n,)."""
        size = self.num_coordinates
        values = torch.addmm(first_term, inputs, layers[0][0][:, :size].T)
        values = smooth_rectifier(values)
        for number, (weight, bias) in enumerate(layers[1:-1], start=1):
            if number == self.skip_layer and skip_term is not None:
                width = values.shape[-1]
                back = torch.addmm(skip_term, inputs, weight[:, width : width + size].T, alpha=SKIP_SCALE)
                values = torch.addmm(back, values, weight[:, :width].T, alpha=SKIP_SCALE)
            else:
                values = torch.addmm(bias, values, weight.T)
            values = smooth_rectifier(values)
        weight, bias = layers[-1]
        return values @ weight[0] + bias[0]
