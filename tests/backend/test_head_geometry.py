"""Faults a face must not have, over identities, blendshapes and random speech; the benchmark runs many more."""

import numpy as np
import pytest

from benchmarks import head_geometry
from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
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
