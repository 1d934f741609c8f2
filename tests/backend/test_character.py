"""Characters at rest and changed identities, as the worker writes them, against the head itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.contract.errors import BackendError, OutputError, UsageError
from blender_talkhead.contract.identity_change import load_identity_change
from blender_talkhead.contract.jobs import CharacterJob, ReshapeJob
from blender_talkhead.contract.motion_clip import load_motion_clip
from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.identities import random_identity, resolve_identity
from blender_talkhead.ui.estimates import OWN_MESH_VERTICES, PARTS_VERTICES
from tests.untrained_weights import write_untrained_weights
from torch_backend import character
from torch_backend.emitter import Emitter
from torch_backend.head import load_head
from torch_backend.head.identity import apply_identity
from torch_backend.head.parts_motion import follow_jaw
from torch_backend.model_cache import ModelCache


@pytest.fixture
def models() -> ModelCache:
    return ModelCache()


def emitter() -> Emitter:
    return Emitter(True, None, None, "a", lambda: None)


def test_the_panel_knows_the_heads_numbers() -> None:
    head = load_head()
    assert head.num_skin_vertices == OWN_MESH_VERTICES
    assert len(head.vertices) - head.num_skin_vertices == PARTS_VERTICES


def test_a_character_at_rest_is_the_identity_as_one_still_frame(tmp_path: Path, models: ModelCache) -> None:
    folder = character.make_character(CharacterJob(tmp_path / "c", identity="broad"), emitter(), models)
    clip = load_motion_clip(folder)
    expected = apply_identity(load_head(), resolve_identity("broad"))
    np.testing.assert_allclose(clip.template_vertices, expected.vertices, atol=1e-7)
    assert clip.vertex_offsets.shape == (1, len(expected.vertices), 3) and not clip.vertex_offsets.any()
    assert clip.info.options["identity_parameters"] == resolve_identity("broad")
    assert (np.diff(clip.polygon_starts) == 4).mean() > 0.75


def test_a_change_leads_from_one_identity_to_the_other(tmp_path: Path, models: ModelCache) -> None:
    """Rest shapes, eyes, and blendshapes of the one carried over are those of the other."""
    job = ReshapeJob(tmp_path / "r", identity="7", previous_identity="soft")
    change = load_identity_change(character.reshape(job, emitter(), models))
    mean = load_head()
    before, after = (apply_identity(mean, resolve_identity(each)) for each in ("soft", "7"))
    np.testing.assert_allclose(change.previous_vertices, before.vertices, atol=1e-7)
    np.testing.assert_allclose(change.vertices, after.vertices, atol=1e-7)
    np.testing.assert_allclose(change.pivots["eye_left"], after.eye_centers[0], atol=1e-7)
    np.testing.assert_allclose(change.previous_pivots["eye_right"], before.eye_centers[1], atol=1e-7)
    skin = mean.num_skin_vertices
    carried = np.einsum("vij,kvj->kvi", change.jacobians[:skin], before.blendshapes[:, :skin])
    np.testing.assert_allclose(carried, after.blendshapes[:, :skin], atol=1e-5)


@pytest.mark.parametrize("identity", ["broad", "youth", "5"])
def test_teeth_and_tongue_turn_with_the_new_jaw(tmp_path: Path, models: ModelCache, identity: str) -> None:
    """As an animation of that identity moves them, which fits a stiff jaw to the chin."""
    job = ReshapeJob(tmp_path / "r", identity=identity, previous_identity="soft")
    change = load_identity_change(character.reshape(job, emitter(), models))
    mean = load_head()
    before, after = (apply_identity(mean, resolve_identity(each)) for each in ("soft", identity))
    skin, anchors = mean.num_skin_vertices, mean.regions["jaw_anchor"]
    offsets = [0.3 * head.blendshapes[BLENDSHAPE_INDEX["jawOpen"], anchors] for head in (before, after)]
    moved = follow_jaw(before, offsets[0][None])[0]
    expected = follow_jaw(after, offsets[1][None])[0]
    carried = np.einsum("vij,vj->vi", change.jacobians[skin:], moved)
    parts = mean.regions["jaw_parts"] - skin
    assert np.linalg.norm(expected[parts], axis=1).max() > 0.005
    assert np.linalg.norm(carried[parts] - expected[parts], axis=1).max() < 0.0005


def test_no_change_changes_nothing(tmp_path: Path, models: ModelCache) -> None:
    job = ReshapeJob(tmp_path / "r", identity="7", previous_identity="7")
    change = load_identity_change(character.reshape(job, emitter(), models))
    np.testing.assert_array_equal(change.vertices, change.previous_vertices)
    np.testing.assert_allclose(change.jacobians, np.broadcast_to(np.eye(3), change.jacobians.shape), atol=1e-5)


def test_other_resolutions_keep_their_points(tmp_path: Path, models: ModelCache) -> None:
    weights = Path(write_untrained_weights(tmp_path)[1])
    first = load_motion_clip(
        character.make_character(CharacterJob(tmp_path / "a", 700, "round", 3, weights), emitter(), models)
    )
    job = ReshapeJob(tmp_path / "b", 700, "lean", "round", 3, weights)
    change = load_identity_change(character.reshape(job, emitter(), models))
    np.testing.assert_allclose(change.previous_vertices, first.template_vertices, atol=1e-7)
    assert len(change.vertices) == 700 + PARTS_VERTICES
    assert np.abs(change.vertices - change.previous_vertices).max() > 0.005


def test_wrong_orders_are_refused(tmp_path: Path, models: ModelCache) -> None:
    with pytest.raises(UsageError, match="nobody"):
        character.make_character(CharacterJob(tmp_path / "c", identity="nobody"), emitter(), models)
    with pytest.raises(UsageError, match="previous_identity"):
        character.reshape(ReshapeJob(tmp_path / "c", previous_identity="-1"), emitter(), models)
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="exists"):
        character.reshape(ReshapeJob(tmp_path / "there", identity="7"), emitter(), models)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    with pytest.raises(BackendError, match="damaged"):
        load_identity_change(tmp_path / "there")


def test_random_characters_have_no_fold(tmp_path: Path) -> None:
    """The map of a face must never turn the skin inside out, also far from the average."""
    head = load_head()
    from torch_backend.head.identity import identity_jacobians

    worst = [np.linalg.det(identity_jacobians(head, random_identity(seed))).min() for seed in range(100)]
    assert min(worst) > 0.3
    strong = [np.linalg.det(identity_jacobians(head, random_identity(seed, 2.0))).min() for seed in range(30)]
    assert min(strong) > 0.1
