"""The head model that ships: its surface lies where the true head's does, and lets itself be carried along."""

from __future__ import annotations

import numpy as np
import torch

from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.head_space import canonical_weights
from torch_backend.inference.head_model import load_built_in_head_model, snap_to_canonical_surface
from torch_backend.models.checkpoints import file_sha256
from torch_backend.training.expression_draws import make_speech_frames
from torch_backend.training.head_samples import HeadSampler, HeadSamplesConfig

HEAD_MODEL = load_built_in_head_model()
SPEECH = make_speech_frames(3, 424_242)
MILLIMETRES = HEAD_MODEL.space.metres_per_unit * 1e3


def test_distances_on_spoken_poses_are_the_true_ones() -> None:
    sampler = HeadSampler(
        load_head(), HeadSamplesConfig(near_points=1500, near_spreads_mm=(1.0,), box_points=0), HEAD_MODEL.space
    )
    face, errors = sampler.make_face({}), []
    for pose in SPEECH[:: len(SPEECH) // 5]:
        samples = sampler.draw_distances(face, pose, np.random.default_rng(0))
        with torch.no_grad():
            code = torch.from_numpy(load_expression_space().encode(pose))[None]
            points = torch.from_numpy(samples.points)[None]
            found = HEAD_MODEL.model.signed_distance(points, HEAD_MODEL.mean_identity, code)[0].numpy()
        errors.append(np.abs(found - samples.distances) * MILLIMETRES)
    assert np.mean(errors) < 0.35  # drawn where it is hardest: lips, lids, what moves
    assert np.percentile(errors, 95) < 1.2


def test_canonical_skin_is_snapped_and_carried() -> None:
    head = load_head()
    count = head.num_skin_vertices
    canonical = HEAD_MODEL.space.to_model(head.pose(canonical_weights())[:count])
    snapped = snap_to_canonical_surface(HEAD_MODEL, canonical, HEAD_MODEL.mean_identity)
    moved = np.linalg.norm(snapped - canonical, axis=1) * MILLIMETRES
    assert np.median(moved) < 0.3
    pose = SPEECH[int(np.abs(SPEECH).sum(axis=1).argmax())]
    code = torch.from_numpy(load_expression_space().encode(pose))[None]
    lips = head.regions["lips"]
    placed = HEAD_MODEL.model.pose_points(torch.from_numpy(canonical[lips])[None], HEAD_MODEL.mean_identity, code)
    true = HEAD_MODEL.space.to_model(head.pose(pose)[lips])
    apart = np.linalg.norm(placed.points[0].numpy() - true, axis=1) * MILLIMETRES
    assert apart.mean() < 0.7


def test_file_is_what_the_card_says() -> None:
    from torch_backend.inference.head_model import SHIPPED_WEIGHTS

    assert file_sha256(SHIPPED_WEIGHTS) in SHIPPED_WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
