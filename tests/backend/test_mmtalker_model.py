"""MMTalker as a whole: ablations, points, blocks, checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blender_talkhead.contract.errors import BackendError
from torch_backend.config import config_to_dict
from torch_backend.models.builders import build_mmtalker, count_parameters, load_mmtalker
from torch_backend.models.checkpoints import save_checkpoint
from torch_backend.models.mmtalker import MMTalker, MMTalkerConfig, PointQuery, TemplateGraph
from torch_backend.modules.surface_points import SurfacePoints

SIZE = 6
CONFIG = MMTalkerConfig(feature_size=5, hidden_size=8, encoding_size=4, decoder_size=8, window_frames=20)


def _grid() -> TemplateGraph:
    """A square sheet of 6 x 6 vertices."""
    row, column = np.divmod(np.arange(SIZE * SIZE), SIZE)
    uv = np.stack([column, row], axis=1) / (SIZE - 1) * 1.8 - 0.9
    corner = np.array([r * SIZE + c for r in range(SIZE - 1) for c in range(SIZE - 1)])
    lower = np.stack([corner, corner + 1, corner + SIZE], axis=1)
    upper = np.stack([corner + 1, corner + SIZE + 1, corner + SIZE], axis=1)
    triangles = np.concatenate([lower, upper]).astype(np.int32)
    vertices = np.concatenate([uv * 0.1, np.zeros((len(uv), 1))], axis=1)
    return TemplateGraph(
        vertices.astype(np.float32), triangles, uv.astype(np.float32), np.array([7, 14, 28], np.int32),
        np.full(len(triangles), 1 / len(triangles), np.float32),
    )  # fmt: skip


def _model(seed: int = 0, **changes: Any) -> MMTalker:
    torch.manual_seed(seed)
    model = build_mmtalker(replace(CONFIG, **changes), _grid())
    torch.nn.init.normal_(model.decoder.output.weight)
    return model.eval().requires_grad_(False)


def _features(frames: int = 30) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(frames, 5)).astype(np.float32))


def _offsets(model: MMTalker, points: SurfacePoints, features: torch.Tensor, first_frame: int = 0) -> torch.Tensor:
    terms = model.compute_vertex_terms()
    code = model.encode_audio(features, terms, first_frame)
    return model.decode_frames(code, terms, PointQuery(model, points), 0, len(features))


ALL_VERTICES = SurfacePoints.at_vertices(np.arange(SIZE * SIZE))


def test_untrained_network_leaves_the_template() -> None:
    torch.manual_seed(0)
    model = build_mmtalker(CONFIG, _grid())
    assert torch.equal(_offsets(model, ALL_VERTICES, _features()), torch.zeros(SIZE * SIZE, 30, 3))


def test_some_points_get_what_they_get_among_all() -> None:
    model, features = _model(), _features()
    everything = _offsets(model, ALL_VERTICES, features)
    some = np.array([35, 0, 14])
    assert torch.allclose(_offsets(model, SurfacePoints.at_vertices(some), features), everything[some], atol=1e-5)


def test_a_point_at_a_vertex_is_the_vertex_and_a_point_between_is_not_the_mean_of_outputs() -> None:
    model, features = _model(), _features()
    everything = _offsets(model, ALL_VERTICES, features)
    triangle = _grid().triangles[3].astype(np.int64)
    points = SurfacePoints(np.stack([triangle, triangle]), np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5]]))
    result = _offsets(model, points, features)
    assert torch.allclose(result[0], everything[triangle[1]], atol=1e-5)
    # Features are interpolated, then decoded: close to, but not, the interpolated displacements.
    mean = torch.tensor([0.2, 0.3, 0.5]) @ everything[triangle].flatten(1)
    assert not torch.allclose(result[1].flatten(), mean, atol=1e-5)


def test_blocks_join_to_the_whole_window() -> None:
    model, features = _model(), _features(50)
    terms = model.compute_vertex_terms()
    code, query = model.encode_audio(features, terms), PointQuery(model, ALL_VERTICES)
    whole = model.decode_frames(code, terms, query, 0, 50)
    blocks = [model.decode_frames(code, terms, query, start, min(start + 7, 50)) for start in range(0, 50, 7)]
    assert torch.allclose(torch.cat(blocks, dim=1), whole, atol=1e-5)


def test_same_seed_same_output_and_other_seed_other_output() -> None:
    first, again, other = (_offsets(_model(seed), ALL_VERTICES, _features()) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("switch", ["use_encoding", "use_cross_attention", "use_graph"])
def test_ablation_changes_the_output(switch: str) -> None:
    full, ablated = _model(), _model(**{switch: False})
    assert not torch.allclose(_offsets(full, ALL_VERTICES, _features()), _offsets(ablated, ALL_VERTICES, _features()))


def test_ablations_change_the_parameters_they_should() -> None:
    count = lambda **changes: count_parameters(_model(**changes))  # noqa: E731
    hidden, encoding = 8, 2 * 4
    full = count()
    # 2 x 4 inputs of the embedding and of both first-layer maps become x, y, z
    assert full - count(use_encoding=False) == 3 * hidden * (encoding - 3)
    # six linear maps become two and one without bias
    linear = hidden * hidden + hidden
    assert full - count(use_cross_attention=False) == 6 * linear - (2 * linear + hidden * hidden)
    assert full == count(use_graph=False)
    assert count(temporal_encoding=True) - full == 1


def test_without_graph_a_vertex_does_not_hear_its_neighbours() -> None:
    """Perturb one vertex's UV: with the graph its neighbours change, without it only the vertex itself."""
    moved = 15
    for use_graph in (True, False):
        model = _model(use_graph=use_graph, use_cross_attention=False)
        before = _offsets(model, ALL_VERTICES, _features())
        model.template_uv[moved] += 0.05  # type: ignore[index, operator]
        changed = (_offsets(model, ALL_VERTICES, _features()) - before).abs().amax(dim=(1, 2)) > 1e-6
        assert bool(changed[moved])
        assert bool(changed[moved + 1]) == use_graph
        assert int(changed.sum()) == (19 if use_graph else 1)  # two rings of a hexagonal neighbourhood


def test_only_the_temporal_encoding_depends_on_the_place_in_the_window() -> None:
    for temporal in (False, True):
        model = _model(temporal_encoding=temporal)
        early, late = (_offsets(model, ALL_VERTICES, _features(), first) for first in (0, 9))
        assert torch.equal(early, late) != temporal


def test_the_future_beyond_reach_has_no_influence() -> None:
    """Convolutions reach 4 frames, attention 3 over audio whose convolutions reach 4 more."""
    model = _model(attention_frames=3)
    features = _features(40)
    changed = features.clone()
    changed[20 + 4 + 3 + 1 :] += 1.0
    first, second = (_offsets(model, ALL_VERTICES, x)[:, :21] for x in (features, changed))
    assert torch.equal(first, second)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = build_mmtalker(replace(CONFIG, temporal_encoding=True), _grid())
    torch.nn.init.normal_(model.decoder.output.weight)
    faces = torch.tensor([0, 3, 9])
    points = SurfacePoints(_grid().triangles[faces.numpy()].astype(np.int64), np.full((3, 3), 1 / 3))
    output = model(_features(), points, faces)
    assert output.offsets.shape == (30, 3, 3)
    ((output.offsets**2).mean((0, 2)) * output.importance).sum().backward()
    # A constant added to all logits changes nothing: the softmax has no gradient for a key's bias.
    silent = {"fusion.key.bias", "fusion.frame_key.bias"}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad.abs() > 0).any()) or name in silent, name


def test_points_outside_the_template_are_refused() -> None:
    with pytest.raises(ValueError, match="the template has 36"):
        PointQuery(_model(), SurfacePoints.at_vertices(np.array([36])))


@pytest.mark.parametrize("changes", [{"hidden_size": 0}, {"decoder_size": 1}, {"attention_frames": -1}])
def test_config_out_of_range(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_template_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="uv of shape"):
        replace(_grid(), uv=np.zeros((3, 2), np.float32))


def _save(path: Path, model: MMTalker, **changes: Any) -> None:
    config = {"model": {**config_to_dict(model.config), **changes}}
    save_checkpoint(path, model.state_dict(), {"kind": "mmtalker", "config": config})


def test_checkpoint_holds_all_that_the_model_needs(tmp_path: Path) -> None:
    model = _model(use_cross_attention=False)
    _save(tmp_path / "m.safetensors", model)
    loaded, metadata = load_mmtalker(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    assert metadata["kind"] == "mmtalker"
    assert torch.equal(_offsets(loaded, ALL_VERTICES, _features()), _offsets(model, ALL_VERTICES, _features()))


@pytest.mark.parametrize("changes", [{"hidden_size": 4}, {"unknown": 1}, {"hidden_size": "x"}])
def test_checkpoint_that_does_not_fit_is_a_backend_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    _save(tmp_path / "m.safetensors", _model(), **changes)
    with pytest.raises(BackendError, match="do not fit"):
        load_mmtalker(tmp_path / "m.safetensors")
