"""The head model's recipe, its export, and the shipped head as a model of the built-in one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blender_talkhead.contract.errors import BackendError
from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.head_space import HeadSpace, canonical_weights
from torch_backend.head.surface_distance import HeadDistanceMeasure, draw_by_area
from torch_backend.inference.head_model import load_built_in_head_model, snap_to_canonical_surface
from torch_backend.models.nphm import BackwardNPHM
from torch_backend.models.nphm_config import BackwardNPHMConfig
from torch_backend.models.nphm_import import ImportedHeadModel, save_head_model
from torch_backend.training.head_samples import HeadSamplesConfig
from torch_backend.training.loop import LoopConfig, train
from torch_backend.training.nphm import HeadDataConfig, HeadLossConfig, HeadModelRecipe, HeadTrainingConfig
from torch_backend.training.nphm_export import export_head_model, take_raw_codes
from torch_backend.training.nphm_run import DEFAULT_CONFIG, load_training_config

SIZES = BackwardNPHMConfig(
    member_hidden_size=16, member_hidden_layers=2, deformation_hidden_size=32, deformation_hidden_layers=4
)
DATA = HeadDataConfig(
    random_identities=1, speech_sentences=4, posed_entries=2, canonical_points=3000, posed_batch=2, posed_points=64,
    held_out_entries=8, canonical_batch=1, canonical_points_drawn=256, deformation_batch=4, deformation_points=64,
)  # fmt: skip


def config(output: Path, steps: int) -> HeadTrainingConfig:
    loop = LoopConfig(steps=steps, output=output, learning_rate=3e-3, warmup=5, log_every=5, device="cpu")
    return HeadTrainingConfig(loop, SIZES, HeadSamplesConfig(near_points=300, box_points=40), DATA, HeadLossConfig())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> HeadModelRecipe:
    folder = tmp_path_factory.mktemp("head")
    return HeadModelRecipe(config(folder / "run", 30), folder / "pools")


@pytest.fixture(scope="module")
def trained(recipe: HeadModelRecipe) -> Path:
    torch.set_num_threads(1)
    train(recipe, recipe.config.loop)
    return recipe.config.loop.output


def test_loss_falls(trained: Path) -> None:
    lines = [json.loads(line)["means"] for line in (trained / "log.jsonl").read_text().splitlines()]
    for term in ("loss", "canonical", "posed", "anchors"):
        assert lines[-1][term] < 0.8 * lines[0][term], term


def test_terms_are_mean_errors_in_millimetres(recipe: HeadModelRecipe) -> None:
    torch.manual_seed(0)
    model = recipe.build_model()
    with torch.no_grad():
        for parameter in model.deformation.layers[-1].parameters():
            parameter.zero_()
        batch = recipe.sample_batch(0, np.random.default_rng(0))
        terms = recipe.compute_loss(model, batch)
        moved = (batch["origin"] - batch["moved"]).norm(dim=-1).mean() * 250
        assert float(terms["deformation"]) == pytest.approx(float(moved), rel=1e-2)
        predicted = model.canonical_signed_distance(
            torch.nn.functional.pad(batch["rest_points"], (0, 2)), batch["rest_identity"]
        )
        true = batch["rest_distances"]
        error = ((predicted - true).abs() * 250 / (1 + true.abs() * 250 / 4)).mean()
        assert float(terms["canonical"]) == pytest.approx(float(error), rel=1e-5)
        assert float(terms["loss"]) == pytest.approx(sum(float(v) for k, v in terms.items() if k != "loss"), rel=1e-5)


def test_batches_depend_on_the_generator_alone(recipe: HeadModelRecipe) -> None:
    first, again = (recipe.sample_batch(3, np.random.default_rng(1)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["codes"].shape == (2, 200) and not first["codes"][:, 46:].any()


def test_exported_model_takes_raw_codes(recipe: HeadModelRecipe, trained: Path, tmp_path: Path) -> None:
    export_head_model(recipe, trained / "model.safetensors", tmp_path / "nphm.safetensors")
    head_model = load_built_in_head_model(tmp_path / "nphm.safetensors")
    assert head_model.space == HeadSpace() and not head_model.identity_codes[0].any()
    np.testing.assert_array_equal(head_model.canonical_weights, canonical_weights())
    np.testing.assert_allclose(head_model.box, recipe.sampler.box, atol=1e-6)
    whitened = recipe.build_model()
    from torch_backend.models.checkpoints import load_checkpoint

    whitened.load_state_dict(load_checkpoint(trained / "model.safetensors", recipe.kind)[0])
    weights = np.random.default_rng(0).uniform(0, 1, (1, 52)).astype(np.float32)
    points, identity = torch.rand(1, 50, 3) - 0.5, head_model.mean_identity
    raw = torch.from_numpy(load_expression_space().encode(weights))
    with torch.no_grad():
        expected = whitened.signed_distance(points, identity, torch.from_numpy(recipe.whiten(weights)) * _moving())
        found = head_model.model.signed_distance(points, identity, raw)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def _moving() -> torch.Tensor:
    return (torch.arange(200) < load_expression_space().num_motion).float()


def test_gaze_does_not_move_the_surface() -> None:
    model = BackwardNPHM(SIZES)
    for parameter in model.deformation.parameters():
        torch.nn.init.normal_(parameter)
    take_raw_codes(model, torch.ones(200), 46)
    points, identity = torch.rand(1, 10, 3), torch.zeros(1, 1344)
    code = torch.zeros(1, 200)
    gaze = code.clone()
    gaze[:, 46:] = 1.0
    torch.testing.assert_close(model.deform(points, identity, code)[0], model.deform(points, identity, gaze)[0])


def test_model_of_another_head_is_refused(tmp_path: Path) -> None:
    imported = ImportedHeadModel(BackwardNPHM(SIZES), torch.zeros(0, 1344), torch.zeros(0, 200))
    save_head_model(tmp_path / "other.safetensors", imported)
    with pytest.raises(BackendError, match="no model of the built-in head"):
        load_built_in_head_model(tmp_path / "other.safetensors")


def test_shipped_settings_are_read(tmp_path: Path) -> None:
    settings = load_training_config(DEFAULT_CONFIG, tmp_path, steps=7)
    assert settings.loop.steps == 7 and settings.model.expression_size == 200


def test_snapped_points_lie_on_the_surface(recipe: HeadModelRecipe, trained: Path, tmp_path: Path) -> None:
    export_head_model(recipe, trained / "model.safetensors", tmp_path / "nphm.safetensors")
    head_model = load_built_in_head_model(tmp_path / "nphm.safetensors")
    sphere = replace(head_model, model=_Sphere(head_model.model))
    directions = np.random.default_rng(0).normal(size=(40, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = directions * np.linspace(0.29, 0.35, 40)[:, None]
    snapped = snap_to_canonical_surface(sphere, points, head_model.mean_identity)
    radii = np.linalg.norm(snapped, axis=1)
    near = np.abs(np.linspace(0.29, 0.35, 40) - 0.3) < 0.011
    np.testing.assert_allclose(radii[near], 0.3, atol=1e-4)
    np.testing.assert_allclose(snapped[~near & (radii > 0.313)], points[~near & (radii > 0.313)], atol=1e-6)


class _Sphere:
    """A canonical distance whose surface is known."""

    def __init__(self, model: BackwardNPHM) -> None:
        self.config = model.config

    def canonical_signed_distance(self, points: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        return points[..., :3].norm(dim=-1) - 0.3


def test_surface_distance_of_the_true_head_is_nothing() -> None:
    head, weights = load_head(), canonical_weights()
    measure = HeadDistanceMeasure(head, 8000)
    skin = head.pose(weights)[: head.num_skin_vertices].astype(np.float64)
    distances = measure.measure(weights, skin, head.skin_triangles)
    # The skin alone has no eyeballs, and what lies under them is hidden in the union.
    seen = distances.to_reconstruction[distances.regions_to_reconstruction["lips"]]
    assert len(seen) > 20 and seen.max() < 1e-3
    assert np.median(distances.to_truth) < 1e-6 and np.percentile(distances.to_reconstruction, 90) < 1e-3


def test_surface_distance_measures_a_shift() -> None:
    head, weights = load_head(), canonical_weights()
    measure = HeadDistanceMeasure(head, 4000)
    skin = head.pose(weights)[: head.num_skin_vertices].astype(np.float64)
    from torch_backend.head.head import compute_vertex_normals

    grown = skin + 5e-4 * compute_vertex_normals(skin, head.skin_triangles)
    distances = measure.measure(weights, grown, head.skin_triangles)
    assert np.median(distances.to_truth) == pytest.approx(0.5, abs=0.03)
    assert np.median(distances.to_reconstruction) == pytest.approx(0.5, abs=0.03)


def test_points_are_drawn_by_area() -> None:
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]], float)
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    points = draw_by_area(vertices, faces, 4000, np.random.default_rng(0))
    assert (points[:, 2] == 0).mean() == pytest.approx(0.75, abs=0.03)
    assert points[points[:, 2] == 0, 0].mean() == pytest.approx(1.0, abs=0.05)
