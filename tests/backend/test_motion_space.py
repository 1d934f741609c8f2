"""The motion space: projection against a naive least-squares solution, derivation, storage, and use in prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.motion_basis import fit_motion_basis
from tests.untrained_weights import make_speech
from torch_backend.config import config_to_dict
from torch_backend.head import load_head
from torch_backend.inference.mmtalker import DEFAULT_WEIGHTS, MMTalkerPredictor
from torch_backend.models.builders import build_mmtalker, build_template_graph, load_mmtalker
from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint
from torch_backend.models.mmtalker import KIND, AudioCode, MMTalker, MMTalkerConfig, PointDecoder, PointQuery
from torch_backend.modules.motion_space import MotionSpace
from torch_backend.modules.surface_points import SurfacePoints
from torch_backend.training.add_motion_space import add_motion_space
from torch_backend.training.face_motion import FaceMotion, build_face_anchors
from torch_backend.training.loop import LoopConfig
from torch_backend.training.mmtalker_config import MMTalkerTrainingConfig
from torch_backend.training.motion_examples import MotionExample, MotionExamples, save_motion_examples
from torch_backend.training.motion_space import (
    FitMetric,
    build_fit_metric,
    build_motion_space,
    derive_motion_space,
)

SMALL = MMTalkerConfig(feature_size=4, hidden_size=8, encoding_size=4, decoder_size=8)
SOURCE = {"speech_encoder": "test", "expression_controls": True}


def _metric(gap: float = 3.0, width: float = 2.0) -> FitMetric:
    weights = np.array([1.0, 0.5, 2.0, 1.0, 0.25])
    pairs = np.array([[0, 2], [1, 2], [3, 4]])  # one vertex in two pairs
    return FitMetric(np.array([0, 2, 3, 5, 6]), weights, pairs, np.array([1, 4]), gap, width)


def _naive_weights(shapes: np.ndarray, offsets: np.ndarray, metric: FitMetric) -> np.ndarray:
    """Weights (K,) that minimise the metric between offsets (P, 3) and the mixture, by stacked least squares."""
    seen = shapes[:, metric.vertices]

    def rows(motion: np.ndarray) -> np.ndarray:
        upper, lower = metric.pairs.T
        gaps = np.sqrt(metric.gap / len(metric.pairs)) * (motion[upper] - motion[lower])
        width = np.sqrt(metric.width) * (motion[metric.corners[0], 0] - motion[metric.corners[1], 0])
        return np.concatenate([(np.sqrt(metric.weights)[:, None] * motion).ravel(), gaps.ravel(), [width]])

    matrix = np.stack([rows(shape) for shape in seen], axis=1)
    solution: np.ndarray = np.linalg.lstsq(matrix, rows(offsets), rcond=None)[0]
    return solution


@pytest.mark.parametrize(("gap", "width"), [(0.0, 0.0), (3.0, 0.0), (0.0, 2.0), (3.0, 2.0)])
def test_weights_are_the_least_squares_solution(gap: float, width: float) -> None:
    generator = np.random.default_rng(1)
    shapes, offsets = generator.normal(size=(3, 8, 3)), generator.normal(size=(5, 4, 3))
    metric = _metric(gap, width)
    found = build_motion_space(shapes, metric).compute_weights(torch.from_numpy(offsets))
    expected = np.stack([_naive_weights(shapes, offsets[:, t], metric) for t in range(4)])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_shapes_that_look_alike_are_refused() -> None:
    shapes = np.random.default_rng(1).normal(size=(2, 8, 3))
    shapes[1] = 2 * shapes[0]
    with pytest.raises(ValueError, match="cannot be told apart"):
        build_motion_space(shapes, _metric())


def test_shapes_between_vertices_are_interpolated() -> None:
    space = build_motion_space(np.random.default_rng(2).normal(size=(2, 8, 3)), _metric())
    points = SurfacePoints(np.array([[1, 4, 7], [3, 3, 3]]), np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]))
    result = space.shapes_at(points)
    torch.testing.assert_close(result[:, 1], space.shapes[:, 3])
    mixed = 0.5 * space.shapes[:, 1] + 0.25 * space.shapes[:, 4] + 0.25 * space.shapes[:, 7]
    torch.testing.assert_close(result[:, 0], mixed)


@pytest.mark.parametrize("vertices", [[0, 0, 2], [2, 1, 0], [0, 1, 8], []])
def test_fit_vertices_are_checked(vertices: list[int]) -> None:
    fit = torch.tensor(vertices, dtype=torch.int64)
    with pytest.raises(ValueError, match="ascending fit vertices"):
        MotionSpace(torch.zeros(2, 8, 3), fit, torch.zeros(2, len(vertices), 3))


def test_tensors_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="fit_matrix"):
        MotionSpace(torch.zeros(2, 8, 3), torch.tensor([0, 1]), torch.zeros(3, 2, 3))


# --- derivation from training motion


def _examples(frames: int = 90) -> MotionExamples:
    """Three independent curves; mouthSmileRight goes with mouthSmileLeft."""
    times = np.arange(frames)
    curves = np.zeros((frames, 52), np.float16)
    curves[:, BLENDSHAPE_INDEX["jawOpen"]] = 0.5 + 0.4 * np.sin(times / 5)
    curves[:, BLENDSHAPE_INDEX["browInnerUp"]] = 0.5 + 0.4 * np.sin(times / 7)
    for side in ("Left", "Right"):
        curves[:, BLENDSHAPE_INDEX[f"mouthSmile{side}"]] = 0.5 + 0.4 * np.sin(times / 11)
    half = frames // 2
    examples = tuple(
        MotionExample(f"u{index}", "e", "v", "en", index, 0, start, start + half)
        for index, start in enumerate((0, half))
    )
    return MotionExamples(np.zeros((frames, 4), np.float16), curves, examples, 30.0, SOURCE)


def _config(output: Path) -> MMTalkerTrainingConfig:
    return MMTalkerTrainingConfig(loop=LoopConfig(steps=1, output=output), model=SMALL)


def _derive(examples: MotionExamples) -> MotionSpace | None:
    head = load_head()
    metric = build_fit_metric(
        build_template_graph(head), build_face_anchors(head), head.regions["lips"], _config(Path())
    )
    return derive_motion_space(FaceMotion(head), examples, examples.examples, metric)


def test_the_space_holds_the_training_motion_with_as_many_shapes_as_it_has_dimensions() -> None:
    space, examples = _derive(_examples()), _examples()
    assert space is not None and len(space) == 3
    everything = SurfacePoints.at_vertices(np.arange(load_head().num_skin_vertices))
    true = FaceMotion(load_head()).displacements(examples.curves[::10].astype(np.float32), everything)
    seen = torch.from_numpy(true[:, space.fit_vertices.numpy()].transpose(1, 0, 2).copy())
    again = space.compute_weights(seen) @ space.shapes.flatten(1)
    assert np.abs(again.numpy().reshape(true.shape) - true).max() < 1e-3  # centimetres


def test_a_face_that_never_moves_has_no_space() -> None:
    examples = _examples()
    still = MotionExamples(examples.features, np.zeros_like(examples.curves), examples.examples, 30.0, SOURCE)
    assert _derive(still) is None


def test_the_metric_is_the_training_loss_of_positions() -> None:
    head, config = load_head(), _config(Path())
    graph, anchors = build_template_graph(head), build_face_anchors(head)
    metric = build_fit_metric(graph, anchors, head.regions["lips"], config)
    assert metric.weights.sum() == pytest.approx(config.loss.reconstruction * (1 + config.loss.lid + config.loss.brow))
    assert (metric.vertices[metric.pairs] == head.lip_contact_pairs).all()
    assert (metric.vertices[metric.corners] == anchors.vertices[anchors.corners]).all()
    assert len(anchors.vertices) < len(metric.vertices) < 1_700
    weights = np.zeros(head.num_skin_vertices)
    weights[metric.vertices] = metric.weights
    of_anchors = weights[anchors.vertices].sum() / metric.weights.sum()
    assert of_anchors > 0.5  # lips among the anchors count double, against 64 drawn points; lids and brows again


# --- in a model


def _model() -> MMTalker:
    torch.manual_seed(0)
    model = build_mmtalker(SMALL, build_template_graph(load_head()))
    torch.nn.init.normal_(model.decoder.output.weight, std=0.5)
    model.motion_space = _derive(_examples())
    return model.eval().requires_grad_(False)


def _decode(model: MMTalker, points: SurfacePoints, project: bool = True) -> torch.Tensor:
    features = torch.from_numpy(np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32))
    terms = model.compute_vertex_terms()
    code: AudioCode = model.encode_audio(features, terms)
    return PointDecoder(model, points, project).decode(code, terms, 2, 10)


def test_decoded_points_lie_in_the_space_and_switched_off_they_are_the_networks() -> None:
    model = _model()
    points = SurfacePoints.at_vertices(np.arange(0, 4900, 100))
    assert model.motion_space is not None
    projected, own = _decode(model, points), _decode(model, points, project=False)
    assert projected.shape == own.shape == (8, 49, 3)
    assert torch.linalg.matrix_rank(projected.flatten(1), rtol=1e-5) == 3
    assert torch.linalg.matrix_rank(own.flatten(1), rtol=1e-5) == 8
    terms = model.compute_vertex_terms()
    features = torch.from_numpy(np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32))
    query = PointQuery(model, points)
    plain = model.decode_frames(model.encode_audio(features, terms), terms, query, 2, 10).transpose(0, 1)
    torch.testing.assert_close(own, plain)


def test_all_resolutions_move_alike() -> None:
    model = _model()
    some, more = np.array([5, 1949, 4380]), np.arange(0, 4900, 7)
    few = _decode(model, SurfacePoints.at_vertices(some))
    many = _decode(model, SurfacePoints.at_vertices(np.unique(np.concatenate([some, more]))))
    rows = np.searchsorted(np.unique(np.concatenate([some, more])), some)
    torch.testing.assert_close(few, many[:, rows])


def _save(path: Path, model: MMTalker) -> None:
    config = _config(path.parent)
    training = {"loss": config_to_dict(config.loss), "data": config_to_dict(config.data), "source": SOURCE}
    metadata = {"kind": KIND, "config": {"model": config_to_dict(model.config), "training": training}, "step": 7}
    save_checkpoint(path, model.state_dict(), metadata)


def test_a_checkpoint_keeps_the_space_and_one_without_does_not_project(tmp_path: Path) -> None:
    model = _model()
    _save(tmp_path / "with.safetensors", model)
    read, _ = load_mmtalker(tmp_path / "with.safetensors")
    assert read.motion_space is not None
    points = SurfacePoints.at_vertices(np.array([0, 100]))
    torch.testing.assert_close(_decode(read, points), _decode(model, points))
    model.motion_space = None
    _save(tmp_path / "without.safetensors", model)
    assert load_mmtalker(tmp_path / "without.safetensors")[0].motion_space is None


def test_existing_weights_get_the_space_of_their_examples(tmp_path: Path) -> None:
    model, examples = _model(), _examples()
    model.motion_space = None
    _save(tmp_path / "m.safetensors", model)
    held = MotionExample("u25", "e", "v", "en", 25, 0, 0, 20)
    folder = tmp_path / "examples"
    rows = [*examples.examples[1:], held]
    save_motion_examples(folder, examples.features, examples.curves, rows, 30.0, SOURCE)
    assert add_motion_space(tmp_path / "m.safetensors", folder, tmp_path / "n.safetensors") == 3
    before, _ = load_checkpoint(tmp_path / "m.safetensors", KIND)
    after, metadata = load_checkpoint(tmp_path / "n.safetensors", KIND)
    assert metadata["step"] == 7
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    save_motion_examples(folder, examples.features, examples.curves, rows, 30.0, {**SOURCE, "speech_encoder": "x"})
    with pytest.raises(ValueError, match="were trained on"):
        add_motion_space(tmp_path / "m.safetensors", folder, tmp_path / "n.safetensors")


# --- the shipped weights


def _count_shapes(predictor: MMTalkerPredictor, samples: np.ndarray, identity: int | None) -> int:
    plan = predictor.plan(1500, identity)
    offsets = np.concatenate([block for _, block in predictor.animate(samples, plan)])
    return len(fit_motion_basis(len(offsets), lambda a, b: offsets[a:b], plan.template_vertices, 2e-5).shapes)


@pytest.mark.skipif(not DEFAULT_WEIGHTS.is_file(), reason="no shipped weights in this checkout")
def test_shipped_weights_bake_to_few_shapes_with_teeth_and_under_an_identity() -> None:
    """The articulation model has 14 independent curves; the rigid motion of the jaw adds at most 5, the tongue 3."""
    samples = make_speech(6.0)
    predictor = MMTalkerPredictor.load()
    assert predictor.project_motion
    assert _count_shapes(predictor, samples, None) <= 22
    assert _count_shapes(predictor, samples, 3) <= 22
    own = MMTalkerPredictor.load(project_motion=False)
    assert not own.project_motion
    assert _count_shapes(own, samples, None) > 60
