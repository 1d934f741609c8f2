"""Faults a face must not have, over identities, blendshapes and random speech; the benchmark runs many more."""

import numpy as np
import pytest

from benchmarks import head_geometry
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.identities import random_identity
from torch_backend.head import load_head
from torch_backend.head.identity import apply_identity
from torch_backend.metrics import face_collisions
from torch_backend.metrics.face_collisions import (
    count_teeth_through_lips,
    measure_collisions,
    measure_lid_cut,
    measure_lip_overlap,
)


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_no_face_has_collisions(head, seed):
    face = head if seed is None else apply_identity(head, random_identity(seed))
    report = head_geometry.check_identity(face, "test", frames=24, seed=seed or 0)
    assert report.is_clean, head_geometry.describe(report)


def test_crossings_of_segments_with_a_triangle():
    triangle = np.array([[[-1.0, -1, 1], [1, -1, 1], [0, 1, 1]]])
    ends = np.array([[0, 0, 2.0], [0, 0, 0.5], [3, 0, 2], [0, 0, -2], [0.1, -0.3, 1.2]])
    counts = face_collisions._count_crossings(np.zeros(3), ends, triangle)
    np.testing.assert_array_equal(counts, [1, 0, 0, 0, 1])
    both = np.concatenate([triangle, triangle[:, ::-1] * [1, 1, 1.5]])
    np.testing.assert_array_equal(face_collisions._count_crossings(np.zeros(3), ends[:2], both), [2, 0])


def test_crossings_are_those_of_all_pairs(monkeypatch):
    random = np.random.default_rng(3)
    origin, ends = random.normal(size=3), random.normal(size=(60, 3)) * 3.0 + [0.0, 0.0, 2.0]
    triangles = random.normal(size=(150, 3, 3)) * 2.0
    counts = face_collisions._count_crossings(origin, ends, triangles)
    every = np.meshgrid(np.arange(60), np.arange(150), indexing="ij")
    monkeypatch.setattr(face_collisions, "_possible_crossings", lambda *_: tuple(axis.ravel() for axis in every))
    np.testing.assert_array_equal(counts, face_collisions._count_crossings(origin, ends, triangles))
    assert counts.max() > 2


def test_lids_clear_the_ball_on_their_way(head):
    poses = head_geometry.single_shapes()[len(ARKIT_BLENDSHAPES) :]
    blink = poses[:, BLENDSHAPE_INDEX["eyeBlinkLeft"]]
    assert set(np.unique(blink)) == {0.25, 0.5, 0.75}
    positions = head.vertices + np.tensordot(poses.astype(np.float32), head.blendshapes, axes=1)
    assert measure_lid_cut(head, positions).max() < 0.0


def test_random_speech_blinks_closes_and_shows_moods(head):
    speech, closures = head_geometry.random_speech(head, 200, seed=1)
    assert speech.shape == (200, len(ARKIT_BLENDSHAPES))
    for name in ("eyeBlinkLeft", "mouthSmileLeft", "browDownLeft", "browInnerUp", "mouthFrownRight", "eyeWideRight"):
        assert speech[:, BLENDSHAPE_INDEX[name]].max() > 0.5, name
    assert len(closures) > 0
    np.testing.assert_array_equal(speech, head_geometry.random_speech(head, 200, seed=1)[0])


def test_a_lid_pushed_into_the_ball_is_found(head):
    posed = head.vertices.copy()
    lid = int(head.regions["lid_margin"][0])
    center = head.eye_centers[np.argmin(np.linalg.norm(head.eye_centers - posed[lid], axis=1))]
    direction = (posed[lid] - center) / np.linalg.norm(posed[lid] - center)
    posed[lid] = center + direction * (head.eye_radius - 0.0005)
    assert measure_lid_cut(head, posed[None])[0] == pytest.approx(0.5, abs=0.01)
    assert measure_lid_cut(head, head.vertices[None])[0] < 0.0


def test_lips_pushed_through_each_other_are_found(head):
    posed = head.vertices.copy()
    posed[head.lip_contact_pairs[11, 1], 1] += 0.0007
    assert measure_lip_overlap(head, posed[None])[0] == pytest.approx(0.7, abs=1e-3)
    opened = head.vertices + head.blendshapes[BLENDSHAPE_INDEX["jawOpen"]]
    assert measure_lip_overlap(head, opened[None])[0] <= 0.0


def test_teeth_pushed_out_of_the_face_are_found(head):
    posed = head.vertices.copy()
    teeth = slice(*head.parts["teeth"])
    assert count_teeth_through_lips(head, posed[None])[0] == 0
    posed[teeth, 2] += 0.012
    assert count_teeth_through_lips(head, posed[None])[0] > 50


def test_wrong_shapes_are_rejected(head):
    with pytest.raises(ValueError, match="positions"):
        measure_lid_cut(head, head.vertices)
    with pytest.raises(ValueError, match="weights"):
        measure_collisions(head, np.zeros((3, 51)))
