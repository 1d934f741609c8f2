"""Official head models point by point, straight from the shapes of their state dicts: slow, and nothing shared.

Names and shapes of the tensors are those of the released files; every formula is written out once more.
"""

from __future__ import annotations

import math

import torch

NUM_ANCHORS, PAIRS, GLOBAL, LOCAL, EXPRESSION = 39, 16, 64, 32, 200
CODE = GLOBAL + (NUM_ANCHORS + 1) * LOCAL

StateDict = dict[str, torch.Tensor]


def softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.clamp(x, min=0) + torch.log1p(torch.exp(-100.0 * x.abs())) / 100.0


def _random(shapes: dict[str, tuple[int, ...]], seed: int) -> StateDict:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        bound = 1.5 / math.sqrt(shape[-1]) if "weight" in name else 0.1
        state[name] = (torch.rand(shape, generator=generator) * 2 - 1) * bound
    return state


def _linear(name: str, out: int, wide: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, wide), f"{name}.bias": (out,)}


def _anchor_shapes(width: int) -> dict[str, tuple[int, ...]]:
    return {
        **_linear("mlp_pos.0", width, 64),
        **_linear("mlp_pos.2", width, width),
        **_linear("mlp_pos.4", 117, width),
    }


def backward_checkpoint(seed: int = 0, anchor_width: int = 64) -> dict:
    """The official backward checkpoint's layout with random weights."""
    identity = _anchor_shapes(anchor_width)
    for number in range(24):
        for layer, (out, wide) in enumerate([(200, 101), (200, 200), (200, 200), (200, 200), (1, 200)]):
            identity |= _linear(f"deepSDFensemble.layers.{number}.layers.{2 * layer}", out, wide)
    deformation = _linear("compressor.0", 32, 1461)
    sizes = [(512, 235), (512, 512), (512, 512), (512, 747), (512, 512), (512, 512), (5, 512)]
    for layer, (out, wide) in enumerate(sizes):
        deformation |= _linear(f"defDeepSDF.lin{layer}", out, wide)
    generator = torch.Generator().manual_seed(seed + 7)
    return {
        "epoch": 6000,
        "id_decoder": _random(identity, seed),
        "ex_decoder": _random(deformation, seed + 1),
        "latent_codes": {
            "codebook.geo.embedding.weight": torch.randn(3, CODE, generator=generator) * 0.01,
            "codebook.exp.embedding.weight": torch.randn(5, EXPRESSION, generator=generator) * 0.2,
        },
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]},
    }


def forward_checkpoints(seed: int = 0, anchor_width: int = 256) -> tuple[dict, dict]:
    """The two official forward checkpoints (identity, expression) with random weights."""
    identity = _anchor_shapes(anchor_width)
    for layer, (out, wide) in enumerate([(200, 99), (101, 200), (200, 200), (200, 200), (1, 200)]):
        identity |= {
            f"ensembled_deep_sdf.lin{layer}.weight": (24, out, wide),
            f"ensembled_deep_sdf.lin{layer}.bias": (24, out),
        }
    deformation = _linear("compressor.0", 32, 1461)
    sizes = [(512, 235), (512, 512), (277, 512), (512, 512), (512, 512), (512, 512), (3, 512)]
    for layer, (out, wide) in enumerate(sizes):
        deformation |= _linear(f"defDeepSDF.lin{layer}", out, wide)
    generator = torch.Generator().manual_seed(seed + 7)
    codes = torch.randn(3, CODE, generator=generator) * 0.3
    expressions = torch.randn(5, EXPRESSION, generator=generator) * 0.3
    return (
        {"epoch": 15000, "decoder_state_dict": _random(identity, seed), "latent_codes_state_dict": {"weight": codes}},
        {
            "epoch": 2500,
            "decoder_state_dict": _random(deformation, seed + 1),
            "latent_codes_state_dict": {"weight": expressions},
        },
    )


def mean_anchors(seed: int = 3) -> torch.Tensor:
    return torch.randn(NUM_ANCHORS, 3, generator=torch.Generator().manual_seed(seed)) * 0.25


def weight_set(member: int) -> int:
    return member // 2 if member < 2 * PAIRS else member - PAIRS


def is_mirrored(member: int) -> bool:
    return member < 2 * PAIRS and member % 2 == 1


def anchors(state: StateDict, code: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    x = code[:GLOBAL]
    for layer in (0, 2, 4):
        x = state[f"mlp_pos.{layer}.weight"] @ x + state[f"mlp_pos.{layer}.bias"]
        x = torch.clamp(x, min=0) if layer < 4 else x
    return mean + x.reshape(NUM_ANCHORS, 3)


def local_code(code: torch.Tensor, member: int) -> torch.Tensor:
    return code[GLOBAL + member * LOCAL : GLOBAL + (member + 1) * LOCAL]


def deform(state: StateDict, point: torch.Tensor, code: torch.Tensor, expression: torch.Tensor, places: torch.Tensor):
    """Outputs (5,) or (3,) of the deformation network at one point."""
    compressed = state["compressor.0.weight"] @ torch.cat([code, places.reshape(-1)]) + state["compressor.0.bias"]
    start = torch.cat([point, compressed, expression])
    x = start
    for layer in range(7):
        if layer == 3:
            x = torch.cat([x, start]) / math.sqrt(2)
        x = state[f"defDeepSDF.lin{layer}.weight"] @ x + state[f"defDeepSDF.lin{layer}.bias"]
        x = softplus(x) if layer < 6 else x
    return x


def backward_member(state: StateDict, member: int, delta: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    if is_mirrored(member):
        delta = torch.cat([-delta[:1], delta[1:]])
    x = torch.cat([code[:GLOBAL], local_code(code, member), delta])
    for layer in range(5):
        key = f"deepSDFensemble.layers.{weight_set(member)}.layers.{2 * layer}"
        x = state[f"{key}.weight"] @ x + state[f"{key}.bias"]
        x = softplus(x) if layer < 4 else x
    return x[0]


def backward_distance(state: StateDict, point: torch.Tensor, code: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Every one of the 40 members is computed; those not among the 8 nearest get weight 0. point (5,)."""
    distances = [float((point[:3] - places[number]).norm()) for number in range(NUM_ANCHORS)]
    nearest = sorted(range(NUM_ANCHORS), key=distances.__getitem__)[:8]
    sigma = max(distances[number] for number in nearest) / 4.0
    total, weights = torch.zeros((), dtype=point.dtype), 0.0
    for member in range(NUM_ANCHORS + 1):
        origin = torch.zeros(5, dtype=point.dtype)
        if member < NUM_ANCHORS:
            origin[:3] = places[member]
        value = backward_member(state, member, point - origin, code)
        distance = 0.75 if member == NUM_ANCHORS else distances[member]
        chosen = member == NUM_ANCHORS or member in nearest
        weight = math.exp(-((distance / sigma) ** 2) / 2) if chosen else 0.0
        total, weights = total + weight * value, weights + weight
    return total / (weights + 1e-8)


def forward_distance(
    state: StateDict, point: torch.Tensor, code: torch.Tensor, places: torch.Tensor, *, training: bool
) -> torch.Tensor:
    values, weights = [], []
    for member in range(NUM_ANCHORS + 1):
        delta = point - places[member] if member < NUM_ANCHORS else point
        if is_mirrored(member):
            delta = torch.cat([-delta[:1], delta[1:]])
        start = torch.cat([delta, code[:GLOBAL], local_code(code, member)])
        x = start
        for layer in range(5):
            if layer == 2:
                x = torch.cat([x, start]) / math.sqrt(2)
            key = f"ensembled_deep_sdf.lin{layer}"
            x = state[f"{key}.weight"][weight_set(member)] @ x + state[f"{key}.bias"][weight_set(member)]
            x = softplus(x) if layer < 4 else x
        values.append(x[0] if training or member < NUM_ANCHORS else torch.ones((), dtype=point.dtype))
        if member < NUM_ANCHORS:
            weights.append(math.exp(-((float((point - places[member]).norm()) + 1e-5) ** 2) / 0.1**2))
        else:
            weights.append(math.exp(-0.2 / 0.1**2))
    return sum(w * v for w, v in zip(weights, values, strict=True)) / (sum(weights) + 1e-6)
