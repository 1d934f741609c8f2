"""How the diffusion time step enters a decoder block: the five ways of FaceTalk's supplement (Fig. 10, Table 5).

Every layer here takes the features that a sublayer (self-attention, cross-attention, feed-forward) gave, before they
are added to what came in, and the embedded time step. All but SqueezeExcite and DotProduct start as the identity or a
plain normalisation; none mixes frames, so that causality is the attention's matter alone.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

InjectionName = Literal["film", "input", "scale_shift", "squeeze_excite", "attention"]
SQUEEZE_FACTOR = 16
LONGEST_PERIOD = 10_000.0


def encode_positions(positions: Tensor, size: int) -> Tensor:
    """Sinusoidal encoding: PE(t, 2i) = sin(t / 10000^(2i / d)), PE(t, 2i + 1) = cos of the same.

    Args:
        positions: (...) time steps or frame indices.
        size: d, an even number.

    Returns:
        (..., size) float32.

    Raises:
        ValueError: size is odd or not positive.
    """
    if size < 2 or size % 2:
        raise ValueError(f"expected an even size of at least 2, got {size}")
    exponents = torch.arange(0, size, 2, device=positions.device, dtype=torch.float64) / size
    angles = positions.double()[..., None] * torch.exp(-math.log(LONGEST_PERIOD) * exponents)  # (..., d / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).float()


class TimeEmbedding(nn.Module):
    """Sinusoidal encoding of the time step, then a 2-layer MLP with SiLU (Fig. 11 a)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Tensor) -> Tensor:
        """Time steps (B,) -> (B, W)."""
        return self.mlp(encode_positions(times, self.width))


class FiLM(nn.Module):
    """Mish and a linear layer give scale and shift; x' = x * scale + shift (eq. 19).

    Starts with scale 1 and shift 0 at every time step (test_film_starts_as_the_identity).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.bias.copy_(torch.cat((torch.ones(width), torch.zeros(width))))

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """(B, N, W) and (B, W) -> (B, N, W)."""
        scale, shift = self.linear(functional.mish(time))[:, None].chunk(2, dim=-1)
        return features * scale + shift


class ScaleShift(nn.Module):
    """Scale and shift of the normalised features, as image diffusion has it: x' = norm(x) * (1 + scale) + shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.linear = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """(B, N, W) and (B, W) -> (B, N, W)."""
        scale, shift = self.linear(functional.silu(time))[:, None].chunk(2, dim=-1)
        return self.norm(features) * (1 + scale) + shift


class SqueezeExcite(nn.Module):
    """A gate in 0..1 for each channel, from the time step through a bottleneck.

    The image layer of this name also pools the features; over time that would let a frame see the future.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(1, width // SQUEEZE_FACTOR)
        self.squeeze = nn.Linear(width, squeezed)
        self.excite = nn.Linear(squeezed, width)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """(B, N, W) and (B, W) -> (B, N, W)."""
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(time))))
        return features * gate[:, None]


class DotProduct(nn.Module):
    """Vanilla dot-product attention: each frame's features ask, and they themselves and the time step answer.

    With the time step alone as an answer the softmax would be 1 and the features would be lost.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """(B, N, W) and (B, W) -> (B, N, W)."""
        answer = self.linear(time)[:, None]  # (B, 1, W)
        logits = torch.stack(((features * features).sum(-1), (features * answer).sum(-1)), dim=-1)  # (B, N, 2)
        own, other = torch.softmax(logits / math.sqrt(features.shape[-1]), dim=-1)[..., None].unbind(dim=-2)
        return own * features + other * answer


class NoInjection(nn.Module):
    """Leaves the features alone: the time step was added to the input of the network."""

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """The features as they are."""
        return features


def build_injection(name: InjectionName, width: int) -> nn.Module:
    """The layer of a variant, called with (features (B, N, W), time (B, W)).

    Raises:
        ValueError: there is no such variant.
    """
    layers: dict[str, type[nn.Module]] = {
        "film": FiLM, "scale_shift": ScaleShift, "squeeze_excite": SqueezeExcite, "attention": DotProduct,
    }  # fmt: skip
    if name == "input":
        return NoInjection()
    if name not in layers:
        raise ValueError(f"expected one of {['input', *layers]}, got {name!r}")
    return layers[name](width)
