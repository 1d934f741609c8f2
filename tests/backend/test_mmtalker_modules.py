"""MMTalker's layers against their formulas, written out in numpy, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.special import erf

from torch_backend.modules.audio_features import GlobalAudioEncoder, LocalAudioEncoder, VertexEmbedding
from torch_backend.modules.cross_attention import ConcatenationFusion, DualCrossAttention, banded_attention
from torch_backend.modules.displacement_decoder import DisplacementDecoder
from torch_backend.modules.graph_convolution import (
    ResidualGraphConvolution,
    build_adjacency,
    build_receptive_field,
)
from torch_backend.modules.sparse_product import SparseOperator
from torch_backend.modules.spatiotemporal_encoding import UV_LIMIT, SpatioTemporalEncoding
from torch_backend.modules.surface_points import SurfacePoints
from torch_backend.modules.surface_probability import GAIN, LARGEST_LOG_CHANGE, SurfaceProbability

TWO_TRIANGLES = np.array([[0, 1, 2], [1, 3, 2]])


def _double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).requires_grad_()


# --- spatio-temporal encoding


def test_encoding_without_time_is_the_chebyshev_polynomials() -> None:
    encoding = SpatioTemporalEncoding(4)
    uv = torch.tensor([[0.3, -0.7], [0.0, 0.9]], dtype=torch.float64)
    chebyshev = [
        lambda s: s, lambda s: 2 * s**2 - 1, lambda s: 4 * s**3 - 3 * s, lambda s: 8 * s**4 - 8 * s**2 + 1
    ]  # fmt: skip
    expected = torch.stack([polynomial(uv[:, axis]) for axis in (0, 1) for polynomial in chebyshev], dim=1)
    result = encoding(uv, torch.tensor([0.0, 0.5], dtype=torch.float64))
    assert result.shape == (2, 2, 8)
    assert torch.allclose(result, expected[:, None].expand(-1, 2, -1), atol=1e-12)
    assert encoding.w is None


def test_encoding_with_time_is_the_formula_as_printed() -> None:
    encoding = SpatioTemporalEncoding(3, temporal=True)
    assert encoding.w is not None
    encoding.w.data.fill_(1.7)
    result = encoding(torch.tensor([[0.2, -0.4]]), torch.tensor([0.0, 0.25])).detach().numpy()
    for frame, fraction in enumerate((0.0, 0.25)):
        for axis, s in enumerate((0.2, -0.4)):
            for order in (1, 2, 3):
                expected = np.cos(order * np.arccos(s) + 1.7 * fraction)
                assert result[0, frame, 3 * axis + order - 1] == pytest.approx(expected, abs=1e-6)


def test_encoding_stays_off_the_ends() -> None:
    encoding = SpatioTemporalEncoding(2)
    uv = torch.tensor([[1.0, -1.0]], requires_grad=True)
    cosines, _ = encoding.static_parts(uv)
    assert float(cosines[0, 0]) == pytest.approx(UV_LIMIT, abs=1e-6)
    cosines.sum().backward()
    assert uv.grad is not None
    assert bool(torch.isfinite(uv.grad).all())


def test_encoding_size_is_checked() -> None:
    with pytest.raises(ValueError, match="num_terms"):
        SpatioTemporalEncoding(0)


# --- graph convolution


def test_adjacency_by_hand() -> None:
    """Square 0-1-3-2 with the diagonal 1-2: degrees 2, 3, 3, 2."""
    expected = [[1, 1 / 2, 1 / 2, 0], [1 / 3, 1, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1, 1 / 3], [0, 1 / 2, 1 / 2, 1]]
    assert np.allclose(build_adjacency(TWO_TRIANGLES, 4).toarray(), expected)


def test_adjacency_of_a_vertex_without_edges() -> None:
    assert build_adjacency(TWO_TRIANGLES, 5).toarray()[4].tolist() == [0, 0, 0, 0, 1]


def test_adjacency_checks_its_indices() -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        build_adjacency(TWO_TRIANGLES, 3)


def test_sparse_product_values_and_gradients() -> None:
    matrix = np.array([[1.0, 0, 2], [0, 3, 0]])
    operator = SparseOperator(scipy.sparse.csr_matrix(matrix))
    values = _double(3, 4, 2)
    assert np.allclose(operator(values).detach().numpy(), np.einsum("rc,ctk->rtk", matrix, values.detach().numpy()))
    assert torch.autograd.gradcheck(operator, values)
    with pytest.raises(ValueError, match="expected 3 rows"):
        operator(torch.zeros(2, 4))


def test_sparse_product_is_a_float32_island_under_autocast() -> None:
    operator = SparseOperator(scipy.sparse.identity(3))
    with torch.autocast("cpu", torch.bfloat16):
        half = torch.ones(3, 2) @ torch.full((2, 2), 1.0)
        assert half.dtype == torch.bfloat16
        assert operator(half).dtype == torch.float32


def _formula(
    layer: ResidualGraphConvolution, adjacency: np.ndarray, encoding: np.ndarray, local: np.ndarray
) -> np.ndarray:
    """O^(l+1) = ReLU(A O^l W^l + b) plus the residual links, frame by frame on dense arrays."""
    value = lambda tensor: tensor.detach().double().numpy()  # noqa: E731
    frames = []
    for frame in range(encoding.shape[1]):
        inputs = np.concatenate([encoding[:, frame], local[:, frame]], axis=1)
        first = np.maximum(adjacency @ inputs @ value(layer.first.weight).T + value(layer.first.bias), 0)
        first += inputs @ value(layer.first_residual.weight).T + value(layer.first_residual.bias)
        second = np.maximum(adjacency @ first @ value(layer.second.weight).T + value(layer.second.bias), 0)
        frames.append(second + first)
    return np.stack(frames, axis=1)


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("use_graph", [True, False])
@pytest.mark.parametrize("vertices", [None, [3], [0, 2]])
def test_graph_convolution_is_the_formula_as_printed(
    temporal: bool, use_graph: bool, vertices: list[int] | None
) -> None:
    torch.manual_seed(0)
    matrix = build_adjacency(TWO_TRIANGLES, 4) if use_graph else None
    layer = ResidualGraphConvolution(6, 5).double()
    encoding = SpatioTemporalEncoding(3, temporal)
    uv, times = _double(4, 2).detach().tanh(), torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
    embedding, audio = _double(4, 5, seed=1), _double(3, 5, seed=2)
    operator = SparseOperator(matrix) if matrix is not None else None
    terms = layer.compute_vertex_terms(encoding.static_parts(uv), embedding, operator)
    field = build_receptive_field(matrix, None if vertices is None else np.array(vertices))
    result = layer(terms, audio, encoding.phase(times) if temporal else None, field)
    dense = matrix.toarray() if matrix is not None else np.eye(4)
    local = audio.detach().numpy()[None] * embedding.detach().numpy()[:, None]
    expected = _formula(layer, dense, encoding(uv, times).detach().numpy(), local)
    assert np.allclose(result.detach().numpy(), expected if vertices is None else expected[vertices], atol=1e-10)


def test_graph_convolution_gradients() -> None:
    torch.manual_seed(0)
    matrix = build_adjacency(TWO_TRIANGLES, 4)
    layer = ResidualGraphConvolution(4, 3).double()
    parts = SpatioTemporalEncoding(2).static_parts(_double(4, 2).detach().tanh())
    field = build_receptive_field(matrix, np.array([1, 3]))

    def run(embedding: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        return layer(layer.compute_vertex_terms(parts, embedding, SparseOperator(matrix)), audio, None, field)

    assert torch.autograd.gradcheck(run, (_double(4, 3, seed=1), _double(2, 3, seed=2)))


# --- attention


def _naive_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, reach: int, first: int) -> np.ndarray:
    result = np.zeros_like(queries)
    for vertex in range(queries.shape[0]):
        for frame in range(queries.shape[1]):
            near = [a for a in range(len(keys)) if abs(a - first - frame) <= reach]
            logits = np.array([queries[vertex, frame] @ keys[a] for a in near]) / np.sqrt(queries.shape[2])
            weights = np.exp(logits - logits.max())
            result[vertex, frame] = (weights / weights.sum()) @ values[near]
    return result


@pytest.mark.parametrize(("frames", "first"), [(5, 0), (40, 0), (20, 7)])
def test_banded_attention_is_the_naive_one(frames: int, first: int) -> None:
    queries, keys, values = _double(3, frames, 4), _double(40, 4, seed=1), _double(40, 4, seed=2)
    result = banded_attention(queries, keys, values, 6, first).detach().numpy()
    q, k, v = (tensor.detach().numpy() for tensor in (queries, keys, values))
    assert np.allclose(result, _naive_attention(q, k, v, 6, first), atol=1e-12)


@pytest.mark.parametrize("query_frame", [15, 16, 30])
def test_attention_sees_twelve_frames_and_no_more(query_frame: int) -> None:
    queries, keys, values = _double(1, 60, 4), _double(60, 4, seed=1), _double(60, 4, seed=2)
    banded_attention(queries, keys, values, 12)[0, query_frame].sum().backward()
    for tensor in (keys, values):
        assert tensor.grad is not None
        touched = tensor.grad.abs().sum(1) > 0
        distance = (torch.arange(60) - query_frame).abs()
        assert bool((touched == (distance <= 12)).all())


def test_attention_gradients_and_range_check() -> None:
    assert torch.autograd.gradcheck(
        lambda q, k, v: banded_attention(q, k, v, 2, 1),
        (_double(2, 3, 2), _double(5, 2, seed=1), _double(5, 2, seed=2)),
    )
    with pytest.raises(ValueError, match="5 keys"):
        banded_attention(_double(1, 3, 2), _double(5, 2), _double(5, 2), 2, 3)


def test_dual_cross_attention_by_the_equations() -> None:
    torch.manual_seed(0)
    layer = DualCrossAttention(4, reach=2).double()
    vertex_features, audio, pooled = _double(3, 6, 4), _double(6, 4, seed=1), _double(6, 4, seed=2)
    apply = lambda linear, x: (linear(x)).detach().numpy()  # noqa: E731
    fused = layer.fuse_vertices(vertex_features, layer.key(audio), layer.value(audio)).detach().numpy()
    expected = _naive_attention(
        apply(layer.query, vertex_features), apply(layer.key, audio), apply(layer.value, audio), 2, 0
    )
    assert np.allclose(fused, vertex_features.detach().numpy() + expected, atol=1e-12)
    frames = layer.fuse_frames(audio, pooled).detach().numpy()
    expected = _naive_attention(
        apply(layer.frame_query, audio)[None], apply(layer.frame_key, pooled), apply(layer.frame_value, pooled), 2, 0
    )[0]
    assert np.allclose(frames, audio.detach().numpy() + expected, atol=1e-12)


def test_concatenation_fusion_is_an_mlp_of_the_concatenation() -> None:
    torch.manual_seed(0)
    layer = ConcatenationFusion(3)
    vertex_features, audio = torch.randn(2, 4, 3), torch.randn(6, 3)
    joined = torch.cat([vertex_features, audio[1:5][None].expand(2, -1, -1)], -1)
    weight = torch.cat([layer.vertex_part.weight, layer.frame_part.weight], 1)
    expected = layer.output(torch.nn.functional.gelu(joined @ weight.T + layer.vertex_part.bias))
    assert torch.allclose(layer.fuse_vertices(vertex_features, layer.key(audio), audio, 1), expected, atol=1e-6)
    assert torch.equal(layer.fuse_frames(audio, audio * 2), audio)


# --- points, decoder, probabilities


def test_barycentric_interpolation_is_exact_at_vertices_and_linear_between() -> None:
    features = torch.tensor([[1.0], [10.0], [100.0], [1000.0]], dtype=torch.float64)
    points = SurfacePoints.at_vertices(np.array([3, 1])).joined(
        SurfacePoints(np.array([[0, 1, 2], [1, 3, 2]]), np.array([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]))
    )
    assert points.vertices().tolist() == [0, 1, 2, 3]
    assert points.interpolation(points.vertices())(features)[:, 0].tolist() == [1000.0, 10.0, 28.0, 550.0]


def test_interpolation_from_the_needed_vertices_only() -> None:
    points = SurfacePoints(np.array([[1, 3, 2]]), np.array([[0.0, 0.5, 0.5]]))
    assert points.vertices().tolist() == [2, 3]  # vertex 1 has no weight
    operator = points.interpolation(points.vertices())
    assert operator(torch.tensor([[4.0], [8.0]])).tolist() == [[6.0]]


def test_surface_points_check_their_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(M, 3\)"):
        SurfacePoints(np.zeros((2, 3), int), np.zeros((1, 3)))


def test_decoder_has_five_layers_on_the_concatenation() -> None:
    torch.manual_seed(0)
    decoder = DisplacementDecoder(3, 6)
    torch.nn.init.normal_(decoder.output.weight)
    points, frames = torch.randn(4, 2, 3), torch.randn(2, 3)
    weight = torch.cat([decoder.point_input.weight, decoder.frame_input.weight], 1)
    values = torch.cat([points, frames[None].expand(4, -1, -1)], -1) @ weight.T + decoder.frame_input.bias
    for layer in decoder.hidden:
        values = layer(torch.nn.functional.leaky_relu(values, 0.2))
    expected = decoder.output(torch.nn.functional.leaky_relu(values, 0.2))
    assert torch.allclose(decoder(points, frames), expected, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(decoder(points, frames), expected, atol=1e-6)


def test_probabilities_start_at_the_initial_ones() -> None:
    layer = SurfaceProbability(torch.tensor([1.0, 2.0, 5.0]))
    assert layer.log_probabilities().exp().tolist() == pytest.approx([0.125, 0.25, 0.625])
    assert layer.importance_weights(torch.tensor([0, 2, 2])).tolist() == pytest.approx([1, 1, 1])
    assert float(layer.divergence()) == pytest.approx(0, abs=1e-7)


def test_importance_weights_by_hand() -> None:
    """Raise triangle 0 by e^d before normalisation: the ratio of its weight to the others' is e^d."""
    layer = SurfaceProbability(torch.tensor([0.25, 0.75]))
    layer.change.data = torch.tensor([0.5, 0.0]) / GAIN
    d = LARGEST_LOG_CHANGE * np.tanh(0.5)
    p = 0.25 * np.exp(d) / (0.25 * np.exp(d) + 0.75)
    weights = layer.importance_weights(torch.tensor([0, 1])).tolist()
    assert weights == pytest.approx([2 * np.exp(d) / (np.exp(d) + 1), 2 / (np.exp(d) + 1)])
    divergence = p * np.log(p / 0.25) + (1 - p) * np.log((1 - p) / 0.75)
    assert float(layer.divergence()) == pytest.approx(divergence, rel=1e-5)


def test_probabilities_move_to_where_the_loss_is_high() -> None:
    layer = SurfaceProbability(torch.ones(4))
    optimizer = torch.optim.SGD(layer.parameters(), 0.5 / GAIN**2)
    faces = torch.tensor([0, 1, 2, 3])
    for _ in range(20):
        optimizer.zero_grad()
        (layer.importance_weights(faces) * torch.tensor([4.0, 1.0, 1.0, 0.0])).mean().backward()
        optimizer.step()
    probabilities = layer.log_probabilities().exp()
    assert probabilities[0] > probabilities[1] > probabilities[3]
    assert float(probabilities.sum()) == pytest.approx(1)


def test_probabilities_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        SurfaceProbability(torch.tensor([1.0, 0.0]))


# --- audio encoders and the remaining gradients


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_global_audio_is_an_lstm_from_zeros() -> None:
    """Gates in torch's order: input, forget, cell, output."""
    torch.manual_seed(0)
    encoder = GlobalAudioEncoder(3, 4).double()
    features = _double(6, 3).detach()
    weights = {name: parameter.detach().numpy() for name, parameter in encoder.lstm.named_parameters()}
    hidden, cell, expected = np.zeros(4), np.zeros(4), []
    for row in features.numpy():
        gates = weights["weight_ih_l0"] @ row + weights["bias_ih_l0"]
        gates = gates + weights["weight_hh_l0"] @ hidden + weights["bias_hh_l0"]
        into, keep, new, out = np.split(gates, 4)
        cell = _sigmoid(keep) * cell + _sigmoid(into) * np.tanh(new)
        hidden = _sigmoid(out) * np.tanh(cell)
        expected.append(hidden)
    assert np.allclose(encoder(features).detach().numpy(), expected, atol=1e-12)


def _gelu(values: np.ndarray) -> np.ndarray:
    return values * 0.5 * (1 + erf(values / np.sqrt(2)))


def _naive_convolution(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    padded = np.pad(values, ((2, 2), (0, 0)))
    return np.stack([np.einsum("kc,ock->o", padded[t : t + 5], weight) + bias for t in range(len(values))])


def test_local_audio_is_two_convolutions_and_an_mlp() -> None:
    torch.manual_seed(0)
    encoder = LocalAudioEncoder(3, 4).double()
    value = lambda layer: (layer.weight.detach().numpy(), layer.bias.detach().numpy())  # noqa: E731
    features = _double(7, 3).detach()
    hidden = _gelu(_naive_convolution(features.numpy(), *value(encoder.convolutions[0])))
    hidden = _gelu(_naive_convolution(hidden, *value(encoder.convolutions[2])))
    weight, bias = value(encoder.mlp[0])
    hidden = _gelu(hidden @ weight.T + bias)
    weight, bias = value(encoder.mlp[2])
    assert np.allclose(encoder(features).detach().numpy(), hidden @ weight.T + bias, atol=1e-12)


def test_vertex_embedding_is_an_mlp() -> None:
    torch.manual_seed(0)
    embedding = VertexEmbedding(3, 4).double()
    encoding = _double(5, 3)
    first, last = embedding.mlp[0], embedding.mlp[2]
    hidden = _gelu((encoding @ first.weight.T + first.bias).detach().numpy())
    expected = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    assert np.allclose(embedding(encoding).detach().numpy(), expected, atol=1e-12)


def test_gradients_of_encoding_decoder_points_and_divergence() -> None:
    torch.manual_seed(0)
    encoding = SpatioTemporalEncoding(3, temporal=True).double()
    uv, times = _double(4, 2).detach().tanh().mul(0.9).requires_grad_(), torch.tensor([0.1, 0.7], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: encoding(s, times), uv)
    assert encoding.w is not None

    def of_w(w: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(encoding, {"w": w}, (uv.detach(), times))

    assert torch.autograd.gradcheck(of_w, torch.tensor(0.6, dtype=torch.float64, requires_grad=True))
    decoder = DisplacementDecoder(3, 6).double()
    torch.nn.init.normal_(decoder.output.weight)
    assert torch.autograd.gradcheck(decoder, (_double(2, 3, 3), _double(3, 3, seed=1)))
    points = SurfacePoints(np.array([[0, 1, 2]]), np.array([[0.2, 0.3, 0.5]]))
    assert torch.autograd.gradcheck(points.interpolation(points.vertices()), _double(3, 2))
    layer = SurfaceProbability(torch.tensor([0.2, 0.3, 0.5])).double()

    def divergence(change: torch.Tensor) -> torch.Tensor:
        replaced = {"change": change}
        return torch.func.functional_call(_Divergence(layer), {f"layer.{k}": v for k, v in replaced.items()}, ())

    assert torch.autograd.gradcheck(divergence, (0.01 * _double(3).detach()).requires_grad_())


class _Divergence(torch.nn.Module):
    def __init__(self, layer: SurfaceProbability) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> torch.Tensor:
        return self.layer.divergence()
