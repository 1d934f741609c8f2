"""Layers of FaceTalk: masks and modulation by hand, the schedule against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from torch_backend.geometry.facial_smoothing import SmoothingKernel, compute_kernel
from torch_backend.modules.causal_attention import (
    CausalSelfAttention,
    ConditionAttention,
    compute_alignment_mask,
    compute_causal_mask,
    compute_frame_distances,
)
from torch_backend.modules.diffusion_schedule import (
    add_noise,
    compute_cosine_betas,
    compute_signal_levels,
    space_times_by_signal,
)
from torch_backend.modules.landmark_condition import compute_landmark_features
from torch_backend.modules.time_injection import (
    DotProduct,
    FiLM,
    NoInjection,
    ScaleShift,
    SqueezeExcite,
    TimeEmbedding,
    build_injection,
    encode_positions,
)


def test_causal_mask_by_hand() -> None:
    whole = compute_causal_mask(compute_frame_distances(4, 0), reach=4)
    assert whole.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    narrow = compute_causal_mask(compute_frame_distances(4, 0), reach=2)
    assert narrow.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    later = compute_causal_mask(compute_frame_distances(2, 2), reach=3)
    assert later.int().tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]


def test_alignment_mask_by_hand() -> None:
    assert compute_alignment_mask(3).int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_self_attention_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    layer = CausalSelfAttention(8, 2, reach=3, relative_bias=True).double()
    torch.nn.init.normal_(layer.bias)
    features = torch.randn(2, 6, 8, dtype=torch.float64)
    queries, keys, values = layer.projection(features).chunk(3, dim=-1)
    expected = torch.zeros(2, 6, 8, dtype=torch.float64)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        for batch in range(2):
            for frame in range(6):
                seen = list(range(max(0, frame - 2), frame + 1))
                logits = torch.stack([
                    queries[batch, frame, part] @ keys[batch, other, part] / 2 + layer.bias[head, frame - other]
                    for other in seen
                ])  # fmt: skip
                expected[batch, frame, part] = torch.softmax(logits, 0) @ values[batch, seen, part]
    torch.testing.assert_close(layer(features)[0], layer.output(expected))


def test_self_attention_in_pieces_is_the_whole() -> None:
    torch.manual_seed(0)
    layer = CausalSelfAttention(8, 2, reach=4, relative_bias=True).double()
    torch.nn.init.normal_(layer.bias)
    features = torch.randn(1, 11, 8, dtype=torch.float64)
    whole, _ = layer(features)
    past, pieces = None, []
    for first, count in ((0, 1), (1, 5), (6, 2), (8, 3)):
        piece, past = layer(features[:, first : first + count], past)
        assert past.keys.shape[2] == min(first + count, 3)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)


def test_aligned_attention_is_its_values() -> None:
    """With the mask of eq. 7 the softmax is over one key."""
    torch.manual_seed(0)
    aligned, free = ConditionAttention(8, 2, aligned=True), ConditionAttention(8, 2, aligned=False)
    free.value.load_state_dict(aligned.value.state_dict())
    free.output.load_state_dict(aligned.output.state_dict())
    features, condition = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    queries, keys, values = (
        part.view(2, 5, 2, 4).transpose(1, 2)
        for part in (free.query(features), free.key(condition), free.value(condition))
    )
    masked = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=compute_alignment_mask(5))
    expected = free.output(masked.transpose(1, 2).reshape(2, 5, 8))
    torch.testing.assert_close(aligned(features, condition), expected)
    assert not torch.allclose(free(features, condition), expected)
    with pytest.raises(ValueError, match="expected a condition of shape"):
        aligned(features, condition[:, :4])


def test_sinusoidal_encoding_by_hand() -> None:
    expected = [math.sin(5), math.cos(5), math.sin(5 / 100), math.cos(5 / 100)]
    torch.testing.assert_close(encode_positions(torch.tensor([5]), 4)[0], torch.tensor(expected))
    with pytest.raises(ValueError, match="even size"):
        encode_positions(torch.tensor([5]), 3)


def test_time_embedding_has_two_layers_with_silu() -> None:
    layer = TimeEmbedding(4)
    linear, activation, last = layer.mlp
    assert isinstance(activation, torch.nn.SiLU)
    encoded = encode_positions(torch.tensor([7]), 4)
    hidden = encoded @ linear.weight.T + linear.bias
    expected = (hidden * torch.sigmoid(hidden)) @ last.weight.T + last.bias
    torch.testing.assert_close(layer(torch.tensor([7])), expected)


def test_film_starts_as_the_identity() -> None:
    features = torch.randn(2, 3, 4)
    torch.testing.assert_close(FiLM(4)(features, torch.randn(2, 4)), features)


def test_film_by_hand() -> None:
    layer = FiLM(2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 0.0]]))
        layer.linear.bias.copy_(torch.tensor([0.0, 0.5, 0.0, -1.0]))
    mish = [value * math.tanh(math.log1p(math.exp(value))) for value in (1.0, -2.0)]
    scale, shift = (mish[0], mish[1] + 0.5), (2 * mish[0], -1.0)
    result = layer(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(result, torch.tensor([[[3 * scale[0] + shift[0], 4 * scale[1] + shift[1]]]]))


def test_scale_shift_by_hand() -> None:
    layer = ScaleShift(2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    silu = [value / (1 + math.exp(-value)) for value in (1.0, 3.0)]
    result = layer(torch.tensor([[[2.0, 4.0]]]), torch.tensor([[1.0, 3.0]]))  # normalised: -1, 1
    torch.testing.assert_close(result, torch.tensor([[[-(1 + silu[0]), 1 + silu[1]]]]), atol=1e-4, rtol=1e-4)


def test_squeeze_excite_by_hand() -> None:
    layer = SqueezeExcite(2)  # squeezed to one channel
    with torch.no_grad():
        layer.squeeze.weight.copy_(torch.tensor([[1.0, 1.0]]))
        layer.squeeze.bias.zero_()
        layer.excite.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.excite.bias.zero_()
    gate = 1 / (1 + math.exp(-3))
    result = layer(torch.tensor([[[2.0, 4.0]]]), torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(result, torch.tensor([[[2 * gate, 4 * (1 - gate)]]]))


def test_dot_product_by_hand() -> None:
    layer = DotProduct(2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(2))
        layer.linear.bias.zero_()
    # Features (1, 0) and time (0, 2): logits 1 / sqrt 2 and 0.
    own = math.exp(1 / math.sqrt(2)) / (math.exp(1 / math.sqrt(2)) + 1)
    result = layer(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(result, torch.tensor([[[own, 2 * (1 - own)]]]))


def test_variants_by_name() -> None:
    kinds = {
        "film": FiLM, "scale_shift": ScaleShift, "squeeze_excite": SqueezeExcite, "attention": DotProduct,
        "input": NoInjection,
    }  # fmt: skip
    for name, kind in kinds.items():
        assert isinstance(build_injection(name, 16), kind)
    with pytest.raises(ValueError, match="expected one of"):
        build_injection("other", 16)  # type: ignore[arg-type]


def test_cosine_schedule_closed_form() -> None:
    betas = compute_cosine_betas(1000)
    levels = compute_signal_levels(betas)
    for step in (0, 1, 250, 499, 900, 998):
        angle = ((step + 1) / 1000 + 0.008) / 1.008 * math.pi / 2
        expected = math.cos(angle) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert float(levels[step]) == pytest.approx(expected, rel=1e-9)
    assert float(betas[-1]) == 0.999
    assert (levels.diff() < 0).all()
    with pytest.raises(ValueError, match="at least one"):
        compute_cosine_betas(0)


def test_noise_by_hand() -> None:
    clean, noise = torch.tensor([[2.0], [3.0]]), torch.tensor([[1.0], [-1.0]])
    noisy = add_noise(clean, noise, torch.tensor([0.36, 1.0]))
    torch.testing.assert_close(noisy, torch.tensor([[0.6 * 2 + 0.8], [3.0]]))
    with pytest.raises(ValueError, match="expected noise"):
        add_noise(clean, noise[:1], torch.tensor([0.5, 0.5]))


def test_times_are_spaced_by_signal() -> None:
    levels = compute_signal_levels(compute_cosine_betas(1000))
    log_ratio = 0.5 * torch.log(levels / (1 - levels))
    times = space_times_by_signal(levels, 20, -5.1)
    assert times[-1] == 0 and times == sorted(set(times), reverse=True) and len(times) == 20
    gaps = log_ratio[times].diff()
    assert float(log_ratio[times[0]]) == pytest.approx(-5.1, abs=0.1)
    # Near the end a time step is coarser than the wanted distance.
    torch.testing.assert_close(gaps[:-3], gaps[:-3].mean().expand(16), atol=0.12, rtol=0)
    assert len(space_times_by_signal(levels, 500, -5.1)) == 500
    assert space_times_by_signal(levels, 1, -5.1) == [times[0]]
    with pytest.raises(ValueError, match="steps, got 1000"):
        space_times_by_signal(levels, 1000, -5.1)


def test_landmark_features_by_hand() -> None:
    rest = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    moved = rest + torch.tensor([[0.0, -0.02, 0.0], [0.01, 0.0, 0.0]])
    features = compute_landmark_features(moved[None], rest)
    torch.testing.assert_close(features, torch.tensor([[0.0, -2.0, 0.0, 1.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="expected landmarks"):
        compute_landmark_features(moved[:1], rest)


def test_smoothing_kernel_by_hand() -> None:
    points = torch.tensor([[1.0, 0.0, 0.0], [3.0, 3.0, 0.0]], dtype=torch.float64)
    kernel = compute_kernel(points, torch.tensor([1.0, 0.0, 0.0]).double(), torch.tensor([2.0, 3.0, 1.0]).double())
    # Distances 0 and sqrt(1 + 1); the factor 1 / (2 pi 2 3 1).
    expected = torch.tensor([1.0, math.exp(-1)], dtype=torch.float64) / (12 * math.pi)
    torch.testing.assert_close(kernel, expected)


def test_smoothing_weights_by_hand() -> None:
    grid = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    smoothing = SmoothingKernel.from_points(grid, (0, 0, 0), (1, 1, 1))
    middle = (math.exp(-0.5) - math.exp(-2)) / (1 - math.exp(-2))
    torch.testing.assert_close(smoothing.weigh(grid), torch.tensor([1.0, middle, 0.0]))
    # Other points get the grid's weights, never less than 0.
    torch.testing.assert_close(
        smoothing.weigh(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 9.0]])), torch.tensor([middle, 0.0])
    )
    smoothed = smoothing.smooth(grid, torch.tensor([[1.0, 2.0, 4.0]] * 3))
    torch.testing.assert_close(smoothed[1], torch.tensor([1.0, 2.0, 4.0]) * middle)
    with pytest.raises(ValueError, match="expected points"):
        smoothing.smooth(grid, torch.zeros(2, 3))


def test_smoothing_of_a_box_is_the_limit_of_grids() -> None:
    lower, upper, center, deviations = (-0.5, -0.5, -0.9), (0.5, 0.7, 0.4), (0.0, -0.2, 0.3), (0.3, 0.4, 0.5)
    axes = [torch.linspace(low, high, 41, dtype=torch.float64) for low, high in zip(lower, upper, strict=True)]
    grid = torch.cartesian_prod(*axes)
    box = SmoothingKernel.from_bounds(lower, upper, center, deviations)
    fine = SmoothingKernel.from_points(grid, center, deviations)
    torch.testing.assert_close(box.weigh(grid), fine.weigh(grid), atol=5e-3, rtol=0)
    assert box.lowest == pytest.approx(fine.lowest)
    with pytest.raises(ValueError, match="lower < upper"):
        SmoothingKernel.from_bounds(upper, lower, center, deviations)
    with pytest.raises(ValueError, match="lowest < highest"):
        SmoothingKernel.from_points(grid[:1], center, deviations)
    with pytest.raises(ValueError, match="positive deviations"):
        SmoothingKernel((0, 0, 0), (1, 0, 1), 0.0, 1.0)


@pytest.mark.parametrize("name", ["film", "scale_shift", "squeeze_excite", "attention"])
def test_injection_gradients(name: str) -> None:
    torch.manual_seed(0)
    layer = build_injection(name, 4).double()  # type: ignore[arg-type]
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    time = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (features, time))
