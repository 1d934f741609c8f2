"""Neural parametric head models: sizes, blending, mirroring, gradients, and values worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_backend import models
from torch_backend.config import load_toml_config
from torch_backend.models.nphm import BackwardNPHM, ForwardNPHM
from torch_backend.models.nphm_config import BackwardNPHMConfig, ForwardNPHMConfig, IdentitySizes
from torch_backend.training.nphm_run import load_training_config

CONFIGS = Path(models.__file__).parents[1] / "configs"
TINY_IDENTITY = IdentitySizes(num_anchors=5, num_mirrored_pairs=2, global_size=3, local_size=2)
TINY = BackwardNPHMConfig(
    identity=TINY_IDENTITY, expression_size=4, hyper_size=2, num_neighbors=3, anchor_hidden_size=6,
    member_hidden_size=7, member_hidden_layers=3, compressed_size=3, deformation_hidden_size=9,
    deformation_hidden_layers=4,
)  # fmt: skip
TINY_FORWARD = ForwardNPHMConfig(
    identity=TINY_IDENTITY, expression_size=4, anchor_hidden_size=6, member_hidden_size=12, member_hidden_layers=4,
    compressed_size=3, deformation_hidden_size=16, deformation_hidden_layers=4,
)  # fmt: skip


def count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


def random_anchors(number: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, 3, generator=torch.Generator().manual_seed(seed)) * 0.3


def randomised(model: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """The same model with every weight drawn anew, so that no part is zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        bound = 1.5 / math.sqrt(parameter.shape[-1])
        parameter.data = (torch.rand(parameter.shape, generator=generator) * 2 - 1).to(parameter.dtype) * bound
    return model


def tiny_inputs(entries: int = 2, points: int = 11, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(9)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
    return draw(entries, points, 3) * 0.4, draw(entries, TINY_IDENTITY.code_size), draw(entries, 4)


def test_backward_sizes_are_the_official_ones() -> None:
    model = BackwardNPHM(BackwardNPHMConfig())
    deformation = count(model.deformation.parameters()) + count(model.compressor.parameters())
    identity = count(model.members.parameters()) + count(model.anchor_network.parameters())
    # By hand: 24 members of (101+1)*200 + 3*201*200 + 201, mlp_pos of 65*64 + 65*64 + 65*117.
    assert identity == 24 * (102 * 200 + 3 * 201 * 200 + 201) + 65 * 64 * 2 + 65 * 117 == 3_404_749
    assert deformation == 1462 * 32 + 236 * 512 + 4 * 513 * 512 + 748 * 512 + 513 * 5 == 1_603_781
    assert BackwardNPHMConfig().identity.code_size == 1344


def test_forward_sizes_are_the_official_ones() -> None:
    model = ForwardNPHM(ForwardNPHMConfig())
    assert count(model.members.parameters()) + count(model.anchor_network.parameters()) == 3_014_149
    assert count(model.deformation.parameters()) + count(model.compressor.parameters()) == 1_361_880


def test_config_files_are_the_official_and_a_small_one() -> None:
    assert load_toml_config(CONFIGS / "nphm.toml", BackwardNPHMConfig) == BackwardNPHMConfig()
    small = load_training_config(CONFIGS / "nphm_head.toml", Path()).model
    changed = {"member_hidden_size": 64, "deformation_hidden_size": 304}
    assert small == dataclasses.replace(BackwardNPHMConfig(), **changed)
    assert count(BackwardNPHM(small).parameters()) == 1_128_770


def test_untrained_backward_model_does_not_move_points() -> None:
    model = BackwardNPHM(TINY)
    points, identity, expression = tiny_inputs(dtype=torch.float32)
    offsets, hyper = model.deform(points, identity, expression)
    assert not offsets.any() and not hyper.any()
    assert not ForwardNPHM(TINY_FORWARD).deform(points, identity, expression)[0].any()


def naive_backward_distance(model: BackwardNPHM, point: torch.Tensor, code: torch.Tensor, anchors: torch.Tensor):
    """All members at one point, one after the other; weights by the distances' ranks."""
    sizes, config = model.config.identity, model.config
    distances = (point[:3] - anchors).norm(dim=1)
    ranks = distances.argsort()[: config.num_neighbors].tolist()
    sigma = distances[ranks].max() / config.blend_ratio
    total, norm = 0.0, 0.0
    for member in [*ranks, sizes.num_anchors]:
        is_global = member == sizes.num_anchors
        delta = point.clone() if is_global else torch.cat([point[:3] - anchors[member], point[3:]])
        paired = member < 2 * sizes.num_mirrored_pairs
        if paired and member % 2 == 1:
            delta = delta * torch.tensor([-1.0, *[1.0] * (len(delta) - 1)], dtype=delta.dtype)
        number = member // 2 if paired else member - sizes.num_mirrored_pairs
        start = sizes.global_size + member * sizes.local_size
        x = torch.cat([delta, code[: sizes.global_size], code[start : start + sizes.local_size]])
        for layer, (weight, bias) in enumerate(zip(model.members.weights, model.members.biases, strict=True)):
            x = weight[number] @ x + bias[number]
            if layer < len(model.members.weights) - 1:
                x = torch.nn.functional.softplus(x, beta=100)
        weight = torch.exp(-((0.75 if is_global else distances[member]) ** 2) / (2 * sigma**2))
        total, norm = total + weight * x[0], norm + weight
    return total / (norm + 1e-8)


def test_sparse_evaluation_and_its_gradients_equal_the_naive_ones() -> None:
    model = randomised(BackwardNPHM(TINY, random_anchors(5)).double())
    points, identity, _ = tiny_inputs()
    full = torch.cat([points, points[..., :2] * 0.3], dim=-1)
    arguments = [full.requires_grad_(), identity.requires_grad_(), *model.members.parameters()]
    fast = model.canonical_signed_distance(full, identity)
    anchors = model.anchors(identity)
    slow = torch.stack(
        [
            torch.stack([naive_backward_distance(model, p, code, places) for p in row])
            for row, code, places in zip(full, identity, anchors, strict=True)
        ]
    )
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    mix = torch.randn(slow.shape, generator=torch.Generator().manual_seed(2), dtype=slow.dtype)
    expected = torch.autograd.grad((slow * mix).sum(), arguments, allow_unused=True)
    actual = torch.autograd.grad((fast * mix).sum(), arguments, allow_unused=True)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_gradients_pass_finite_differences() -> None:
    model = randomised(BackwardNPHM(dataclasses.replace(TINY, num_neighbors=5), random_anchors(5)).double())
    points, identity, expression = tiny_inputs(entries=2, points=2)
    arguments = tuple(tensor.requires_grad_() for tensor in (points, identity, expression))
    assert torch.autograd.gradcheck(model.signed_distance, arguments, eps=1e-7, atol=1e-4, rtol=1e-3)


def test_length_of_the_gradient_can_be_trained() -> None:
    """The eikonal term differentiates twice, also at an anchor itself."""
    model = randomised(BackwardNPHM(TINY, random_anchors(5)).double())
    points, identity, expression = tiny_inputs()
    points = torch.cat([points, model.anchors(identity).detach()], dim=1).requires_grad_()
    distances = model.signed_distance(points, identity, expression)
    (slope,) = torch.autograd.grad(distances.sum(), points, create_graph=True)
    ((slope.norm(dim=-1) - 1) ** 2).mean().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    assert any(parameter.grad.any() for parameter in model.deformation.parameters())


def test_blending_of_three_constant_members_by_hand() -> None:
    """Members say 1, 2, 10 (global): the nearer of two anchors at distances 1 and 2 has most of the weight."""
    sizes = IdentitySizes(num_anchors=2, num_mirrored_pairs=0, global_size=1, local_size=1)
    config = BackwardNPHMConfig(
        identity=sizes, expression_size=1, hyper_size=0, num_neighbors=2, blend_ratio=2.0, member_hidden_size=2,
        member_hidden_layers=2, compressed_size=1, deformation_hidden_size=2, deformation_hidden_layers=2,
    )  # fmt: skip
    model = BackwardNPHM(config, torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    for parameter in [*model.members.parameters(), *model.anchor_network.layers.parameters()]:
        torch.nn.init.zeros_(parameter)
    model.members.biases[-1].data = torch.tensor([[1.0], [2.0], [10.0]])
    value = model.signed_distance(torch.zeros(1, 1, 3), torch.zeros(1, sizes.code_size), torch.zeros(1, 1))
    # sigma = 2 / 2 = 1
    weights = [math.exp(-0.5), math.exp(-2.0), math.exp(-(0.75**2) / 2)]
    expected = (weights[0] * 1 + weights[1] * 2 + weights[2] * 10) / (sum(weights) + 1e-8)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["backward", "forward"])
def test_mirrored_code_gives_the_mirrored_head(kind: str) -> None:
    """Swapping the parts of each pair mirrors the local members; the single ones and the global one are kept out."""
    config = TINY if kind == "backward" else TINY_FORWARD
    sizes = dataclasses.replace(TINY_IDENTITY, num_anchors=4)
    config = dataclasses.replace(config, identity=sizes)
    anchors = torch.tensor([[0.3, 0.1, 0.2], [-0.3, 0.1, 0.2], [0.1, -0.3, 0.0], [-0.1, -0.3, 0.0]])
    model = randomised((BackwardNPHM if kind == "backward" else ForwardNPHM)(config, anchors).double()).eval()
    for parameter in model.anchor_network.layers.parameters():
        torch.nn.init.zeros_(parameter)
    # The global member's first layer sees neither x nor anything that mirroring changes.
    model.members.weights[0].data[-1, :, 0] = 0.0
    if kind == "forward":
        middle = model.members.weights[model.members.skip_layer].data
        middle[-1, :, -(3 + 5)] = 0.0
    points, _, _ = tiny_inputs(entries=1, points=40)
    identity = torch.randn(1, sizes.code_size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shared, local = identity[:, :3], identity[:, 3:].view(1, 5, 2)
    mirrored = torch.cat([shared, local[:, [1, 0, 3, 2, 4]].flatten(1)], dim=1)
    flipped = points * torch.tensor([-1.0, 1.0, 1.0])
    if kind == "backward":
        points, flipped = (torch.cat([p, torch.full_like(p[..., :2], 0.1)], dim=-1) for p in (points, flipped))
    one = model.canonical_signed_distance(points, identity)
    torch.testing.assert_close(one, model.canonical_signed_distance(flipped, mirrored), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(one, model.canonical_signed_distance(flipped, identity), atol=1e-4)


@pytest.mark.parametrize("model_type", [BackwardNPHM, ForwardNPHM])
def test_pieces_without_gradients_equal_the_whole(model_type, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TINY if model_type is BackwardNPHM else TINY_FORWARD
    model = randomised(model_type(config, random_anchors(5)).double()).eval()
    points, identity, expression = tiny_inputs(entries=2, points=37)
    whole = model.deform(points, identity, expression)[0], model.signed_distance(points, identity, expression)
    monkeypatch.setattr("torch_backend.models.nphm._POINTS_AT_ONCE", 10)
    with torch.no_grad():
        pieces = model.deform(points, identity, expression)[0], model.signed_distance(points, identity, expression)
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_points_stay_as_they_were_without_gradients() -> None:
    model = randomised(BackwardNPHM(TINY, random_anchors(5)).double())
    points, identity, expression = tiny_inputs()
    copies = [tensor.clone() for tensor in (points, identity, expression)]
    with torch.no_grad():
        model.signed_distance(points, identity, expression)
    assert all(torch.equal(one, other) for one, other in zip(copies, (points, identity, expression), strict=True))


def test_only_the_chosen_members_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    model = BackwardNPHM(TINY, random_anchors(5)).double()
    original = model.members.forward
    monkeypatch.setattr(model.members, "forward", lambda *args: seen.append(args[1]) or original(*args))
    points, identity, expression = tiny_inputs(entries=2, points=11)
    model.signed_distance(points, identity, expression)
    assert seen[0].shape == (2 * 11 * (3 + 1),)
    assert (seen[0].view(-1, 4)[:, -1] == 5).all()


def test_far_points_ask_no_local_member_of_the_forward_model() -> None:
    model = ForwardNPHM(TINY_FORWARD, random_anchors(5)).eval()
    _, identity, _ = tiny_inputs(entries=1, dtype=torch.float32)
    value = model.canonical_signed_distance(torch.full((1, 3, 3), 9.0), identity)
    background = math.exp(-20.0)
    assert value.tolist() == [pytest.approx([background / (background + 1e-6)] * 3, rel=1e-4)]


def test_posed_points_are_where_the_deformation_brings_them_back() -> None:
    model = randomised(BackwardNPHM(TINY, random_anchors(5)).double())
    model.deformation.layers[-1].weight.data *= 0.3
    posed, identity, expression = tiny_inputs(points=200)
    canonical = posed + model.deform(posed, identity, expression)[0].detach()
    found = model.pose_points(canonical, identity, expression)
    assert float(found.residuals.max()) < 1e-5
    back = found.points + model.deform(found.points, identity, expression)[0].detach()
    np.testing.assert_allclose(back, canonical, atol=1e-5)
    np.testing.assert_allclose(found.points, posed, atol=1e-3)


def test_forward_distance_of_a_posed_point_is_that_of_its_canonical_place() -> None:
    model = randomised(ForwardNPHM(TINY_FORWARD, random_anchors(5)).double()).eval()
    model.deformation.layers[-1].weight.data *= 0.3
    canonical, identity, expression = tiny_inputs(points=50)
    posed = canonical + model.deform(canonical, identity, expression)[0].detach()
    expected = model.canonical_signed_distance(canonical, identity).detach()
    actual = model.signed_distance(posed, identity, expression).detach()
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_training_noise_is_the_forward_models_alone() -> None:
    points, identity, expression = tiny_inputs()
    forward = randomised(ForwardNPHM(TINY_FORWARD).double())
    backward = randomised(BackwardNPHM(TINY).double())
    for model, noisy in ((forward, True), (backward, False)):
        torch.manual_seed(0)
        one, other = (model.train().deform(points, identity, expression)[0] for _ in range(2))
        assert torch.equal(one, other) != noisy
        assert torch.equal(*(model.eval().deform(points, identity, expression)[0] for _ in range(2)))


def test_shapes_that_do_not_go_together_are_named() -> None:
    model = BackwardNPHM(TINY).double()
    points, identity, expression = tiny_inputs()
    with pytest.raises(ValueError, match=r"identity codes of shape \(B, 15\), got \(2, 14\)"):
        model.signed_distance(points, identity[:, :-1], expression)
    with pytest.raises(ValueError, match=r"expression codes of shape \(2, 4\), got \(1, 4\)"):
        model.signed_distance(points, identity, expression[:1])
    with pytest.raises(ValueError, match=r"points of shape \(2, Q, 3\), got \(11, 3\)"):
        model.signed_distance(points[0], identity, expression)
    with pytest.raises(ValueError, match=r"points of shape \(2, Q, 5\)"):
        model.canonical_signed_distance(points, identity)
    with pytest.raises(ValueError, match=r"anchors of shape \(5, 3\), got \(4, 3\)"):
        BackwardNPHM(TINY, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="pairs do not fit"):
        IdentitySizes(num_anchors=3, num_mirrored_pairs=2)
    with pytest.raises(ValueError, match="1 to 39 neighbours"):
        BackwardNPHMConfig(num_neighbors=40)


def test_a_tiny_model_learns_distances_and_deformation() -> None:
    """A sphere that an expression shifts: the summed error falls to a tenth in 150 steps."""
    torch.manual_seed(0)
    model = BackwardNPHM(
        dataclasses.replace(TINY, member_hidden_size=24, deformation_hidden_size=24), random_anchors(5)
    )
    identity, expressions = torch.zeros(2, TINY_IDENTITY.code_size), torch.eye(4)[:2]
    shifts = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.2, 0.0]])[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(4)
    errors = []
    for _ in range(150):
        points = torch.rand(2, 128, 3, generator=generator) - 0.5
        truth = (points - shifts).norm(dim=-1) - 0.3
        offsets, _ = model.deform(points, identity, expressions)
        error = (model.signed_distance(points, identity, expressions) - truth).abs().mean()
        error = error + (offsets + shifts).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert np.mean(errors[-10:]) < 0.1 * errors[0]
