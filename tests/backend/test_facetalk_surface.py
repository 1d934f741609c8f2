"""The neural head under FaceTalk: points carried along and surfaces extracted, on heads in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from blender_talkhead.contract.errors import BackendError
from blender_talkhead.contract.mesh_sequence import PLACE_SCALE
from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from tests.untrained_weights import make_speech, write_untrained_facetalk, write_untrained_weights
from torch_backend.audio.speech_encoder import load_speech_encoder
from torch_backend.fitting.fitted_identity import FittedIdentity, save_fitted_identity
from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.head_space import HeadSpace, canonical_weights
from torch_backend.inference.facetalk import FaceTalkPredictor
from torch_backend.inference.facetalk_surface import SurfaceColors
from torch_backend.inference.head_model import BuiltInHeadModel
from torch_backend.inference.neural_skin import NeuralSkin
from torch_backend.inference.skin_mesh import to_texture_coordinates
from torch_backend.inference.skin_motion import _UPPER_SHAPES, UPPER_REACH_M

RADIUS = 0.35
SHIFT = 0.01
"""Model units that a code moves the ball up, for each millimetre of its length; at rest it stands that much higher."""
FRAMES = 30


class Ball(torch.nn.Module):
    """A ball that moves up with the length of the code, by a deformation that is steeper to the right."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = SimpleNamespace(code_size=1344)
        self.config = SimpleNamespace(hyper_size=2)
        self.expression_size = 200
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def deform(self, points: Any, identity: Any, expression: Any) -> Any:
        height = SHIFT * (1.0 + expression.norm(dim=1))
        offsets = torch.zeros_like(points)
        offsets[..., 1] = -height[:, None] * (1.0 + 0.5 * points[..., 0])
        return offsets, points[..., :2] * 0.0

    def canonical_signed_distance(self, points: Any, identity: Any) -> Any:
        return points[..., :3].norm(dim=-1) - RADIUS

    def signed_distance(self, points: Any, identity: Any, expression: Any) -> Any:
        offsets, hyper = self.deform(points, identity, expression)
        return self.canonical_signed_distance(torch.cat([points + offsets, hyper], dim=-1), identity)


def _ball_model() -> BuiltInHeadModel:
    model: Any = Ball()
    box = np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]], np.float32)
    codes = np.zeros((1, 1344), np.float32)
    return BuiltInHeadModel(model, HeadSpace(), canonical_weights(), box, codes[:, :200], codes, {}, "ball")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> FaceTalkPredictor:
    folder = tmp_path_factory.mktemp("weights")
    write_untrained_weights(folder)
    path = write_untrained_facetalk(folder)
    loaded = FaceTalkPredictor.load(path, load_speech_encoder(str(folder / "encoder.safetensors")))
    return FaceTalkPredictor(loaded.model, loaded.encoder, "", "built-in head", _ball_model())


def _curves(values: np.ndarray) -> np.ndarray:
    curves = np.zeros((len(values), 52), np.float32)
    curves[:, BLENDSHAPE_INDEX["jawOpen"]] = values
    return curves


def test_points_are_carried_along() -> None:
    space = HeadSpace()
    directions = np.random.default_rng(0).standard_normal((50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    near = RADIUS * directions * np.linspace(0.98, 1.02, 50)[:, None]  # off the surface: they are brought onto it
    skin = NeuralSkin(_ball_model(), np.zeros(1344, np.float32), space.to_metres(near))
    right = 1.0 + 0.5 * RADIUS * directions[:, 0]
    expected = RADIUS * directions + SHIFT * right[:, None] * np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(space.to_model(skin.rest_points), expected, atol=2e-4)
    curves = _curves(np.array([0.1, 0.4]))
    moved, is_found = skin.move(curves)
    lengths = np.linalg.norm(load_expression_space().encode(curves), axis=1)
    heights = SHIFT * lengths[:, None] * right * space.metres_per_unit
    np.testing.assert_allclose(moved[..., 1], heights, atol=4e-5)
    assert is_found.all() and np.abs(moved[..., [0, 2]]).max() < 4e-5
    np.testing.assert_array_equal(skin.move(curves)[0], moved)


def test_a_clip_keeps_the_form_of_its_head(predictor: FaceTalkPredictor) -> None:
    codes = load_expression_space().encode(_curves(np.linspace(0, 0.4, FRAMES)))
    plan = predictor.plan()
    np.testing.assert_allclose(plan.template_vertices, load_head().vertices, atol=1e-6)
    take = predictor.animate(codes, make_speech(FRAMES / 24), plan, 0, performance=False)
    moved = np.concatenate([offsets for _, offsets in take.animate()])
    assert np.abs(moved[0, : load_head().num_skin_vertices]).max() < 1e-4
    assert take._error.largest_m > 1e-3  # a ball is no head: its motion is not that of the curves
    assert predictor.head_weights_sha256 == "ball"


def test_the_upper_face_moves_by_the_heads_own_shapes(predictor: FaceTalkPredictor) -> None:
    head = load_head()
    curves = np.zeros((2, 52), np.float32)
    curves[1, BLENDSHAPE_INDEX["eyeBlinkLeft"]] = 1.0
    plan = predictor.plan()
    moved = plan.skin.move(curves)[1, : head.num_skin_vertices]
    own = head.blendshapes[BLENDSHAPE_INDEX["eyeBlinkLeft"], : head.num_skin_vertices]
    reach = np.linalg.norm(head.blendshapes[_UPPER_SHAPES, : head.num_skin_vertices], axis=2).max(axis=0)
    np.testing.assert_allclose(moved[reach > UPPER_REACH_M[1]], own[reach > UPPER_REACH_M[1]], atol=1e-6)
    assert np.abs(moved - own)[reach == 0].max() > 1e-3  # the ball moves as a whole


def test_a_scan_is_a_head_of_the_same_mesh(predictor: FaceTalkPredictor, tmp_path: Path) -> None:
    code = torch.ones(1344)
    facts = {"head_model_sha256": "ball", "parameters": {"nose_width": 0.5}}
    save_fitted_identity(tmp_path / "me.safetensors", FittedIdentity(code, facts))
    plan, own = predictor.plan(None, str(tmp_path / "me.safetensors")), predictor.plan(None, "nose_width=0.5")
    assert plan.identity == {"nose_width": 0.5} and np.array_equal(plan.corner_uvs, own.corner_uvs)
    skin = load_head().num_skin_vertices
    moved = np.linalg.norm(plan.template_vertices - own.template_vertices, axis=1)
    assert moved[:skin].max() > 5e-3  # what lies near the ball is brought onto it
    space = HeadSpace()
    places = space.to_model(plan.template_vertices[:skin]).astype(np.float64)
    places[:, 1] -= SHIFT * (1 + 0.5 * places[:, 0])
    near = np.abs(np.linalg.norm(space.to_model(load_head().vertices[:skin]), axis=1) - RADIUS) < 0.02
    np.testing.assert_allclose(np.linalg.norm(places[near], axis=1), RADIUS, atol=0.004)
    np.testing.assert_array_equal(predictor.surface_plan(str(tmp_path / "me.safetensors"), 16).identity_code, code)
    save_fitted_identity(tmp_path / "me.safetensors", FittedIdentity(code, facts | {"head_model_sha256": "other"}))
    with pytest.raises(BackendError, match="another head model"):
        predictor.plan(None, str(tmp_path / "me.safetensors"))


def test_surfaces_follow_the_codes(predictor: FaceTalkPredictor) -> None:
    codes = load_expression_space().encode(_curves(np.linspace(0, 0.4, FRAMES)))
    samples, plan = make_speech(FRAMES / 24), predictor.surface_plan(None, 24)
    meshes = list(predictor.extract(codes, samples, plan, 0, performance=False))
    assert len(meshes) == FRAMES and plan.has_colors
    for frame in (0, 10, 29):
        height = SHIFT * (1.0 + np.linalg.norm(codes[frame]))
        places = HeadSpace().to_model(meshes[frame].vertices).astype(np.float64)
        places[:, 1] -= height * (1.0 + 0.5 * places[:, 0])
        np.testing.assert_allclose(np.linalg.norm(places, axis=1), RADIUS, atol=2e-3)
        assert meshes[frame].colors.shape == meshes[frame].vertices.shape  # type: ignore[union-attr]
    for first in (7, 25):  # before and behind the place where the chain of bands begins anew
        for mesh, expected in zip(
            predictor.extract(codes, samples, plan, 0, first, performance=False), meshes[first:], strict=True
        ):
            for name in ("vertices", "faces", "colors", "places"):
                np.testing.assert_array_equal(getattr(mesh, name), getattr(expected, name))
            if first == 7:
                break


def test_colours_are_those_of_the_nearest_place() -> None:
    head = load_head()
    colors = SurfaceColors(replace(head, vertices=head.pose(canonical_weights())))
    vertices = np.array([100, 4000])
    places = head.pose(canonical_weights())[vertices].astype(np.float64)
    painted, where = colors.paint(places, None)
    linear = head.vertex_colors[vertices].astype(np.float64)
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(painted, expected, atol=1.0)
    uv = to_texture_coordinates(head.uv[vertices])
    np.testing.assert_allclose(where[:, :2] / PLACE_SCALE, uv, atol=2e-5)
    assert (where[:, 4] == 0).all(), "far from the eyes"


def test_eyes_turn_in_colour() -> None:
    head = load_head()
    colors = SurfaceColors(head)
    center = head.eye_centers[0].astype(np.float64)
    front = center + np.array([0.0, 0.0, head.eye_radius])
    side = center + head.eye_radius * np.array([np.sin(0.9), 0.0, np.cos(0.9)])
    turn = np.array([[np.cos(0.9), 0, np.sin(0.9)], [0, 1, 0], [-np.sin(0.9), 0, np.cos(0.9)]])
    straight, at_rest = colors.paint(np.stack([front, side]), np.stack([np.eye(3)] * 2))
    turned, where = colors.paint(np.stack([front, side]), np.stack([turn, np.eye(3)]))
    straight, turned = straight.astype(int), turned.astype(int)
    np.testing.assert_allclose(where[1, 2:4], at_rest[0, 2:4], atol=400)  # in the picture too
    np.testing.assert_allclose(at_rest[0, 2:4] / PLACE_SCALE, 0.5, atol=0.01)  # whose middle is the pupil
    assert (where[:, 4] > PLACE_SCALE // 2).all()
    assert np.abs(turned[1] - straight[0]).max() < 12  # the pupil looks to the side
    assert np.abs(straight[1] - straight[0]).max() > 60


def test_without_a_neural_head_there_are_no_sequences(predictor: FaceTalkPredictor) -> None:
    bare = FaceTalkPredictor(predictor.model, predictor.encoder, "", "built-in head")
    with pytest.raises(BackendError, match="choose the tracked surface"):
        bare.surface_plan()
    assert bare.head_weights_sha256 == ""
