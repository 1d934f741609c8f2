"""Curves from motion coefficients, and clips with a performance, with the weights that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.optimize import lsq_linear

from blender_talkhead.contract.jobs import AnimateJob
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.remainder import round_curves
from tests.untrained_weights import make_speech, write_untrained_weights
from torch_backend.command_line import main
from torch_backend.emitter import Emitter
from torch_backend.handlers import animate
from torch_backend.head import load_head
from torch_backend.inference.mmtalker import MMTalkerPredictor
from torch_backend.inference.performed_motion import PerformedMotion, build_clip_blendshapes, find_decomposition
from torch_backend.performance.decomposition import MotionDecomposition
from torch_backend.performance.perform import UPPER_FACE
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import PhoneSegment

PHONES = ["M", "AA", "P", "IY", "F", "UW", "B", "OW", "L", "AE"]
SENTENCE = [PhoneSegment(0.1 * i, 0.1 * (i + 1), phone) for i, phone in enumerate(PHONES)]


@pytest.fixture(scope="module")
def predictor() -> MMTalkerPredictor:
    return MMTalkerPredictor.load()


@pytest.fixture(scope="module")
def decomposition(predictor: MMTalkerPredictor) -> MotionDecomposition:
    found = find_decomposition(predictor)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return make_speech(4.0)


def coefficients_of(predictor: MMTalkerPredictor, curves: np.ndarray) -> np.ndarray:
    """Naive least squares over all vertices: the coefficients (T, K) of the motion that curves (T, 52) make."""
    space, head = predictor.model.motion_space, predictor.head
    assert space is not None
    shapes = space.shapes.numpy().reshape(len(space), -1).astype(np.float64) / 100.0
    motion = curves @ head.blendshapes[:, : head.num_skin_vertices].reshape(52, -1).astype(np.float64)
    found: np.ndarray = np.linalg.lstsq(shapes.T, motion.T, rcond=None)[0].T
    return found


def test_curves_of_the_corpus_are_found_again(predictor: MMTalkerPredictor, decomposition: MotionDecomposition) -> None:
    curves = articulate(SENTENCE, np.arange(30) / 30).astype(np.float64)
    fitted = decomposition.fit(coefficients_of(predictor, curves))
    assert fitted.max_error_m < 2e-5
    assert np.abs(fitted.weights - curves).max() < 0.02  # some curves nearly make each other's motion
    assert fitted.weights.min() >= 0.0 and fitted.weights.max() <= 1.0


def test_lids_and_brows_are_told_apart_from_the_mouth(
    predictor: MMTalkerPredictor, decomposition: MotionDecomposition
) -> None:
    curves = articulate(SENTENCE, np.arange(30) / 30).astype(np.float64)
    curves[:, [BLENDSHAPE_INDEX["eyeBlinkLeft"], BLENDSHAPE_INDEX["eyeBlinkRight"]]] = np.linspace(0, 1, 30)[:, None]
    coefficients = coefficients_of(predictor, curves)
    upper = coefficients @ decomposition.upper_face_map
    np.testing.assert_allclose(upper[:, BLENDSHAPE_INDEX["eyeBlinkLeft"]], np.linspace(0, 1, 30), atol=1e-3)
    assert np.abs(upper[:, BLENDSHAPE_INDEX["browInnerUp"]]).max() < 1e-3
    assert not decomposition.fit(coefficients).weights[:, BLENDSHAPE_INDEX["eyeBlinkLeft"]].any()


def test_bounded_curves_are_the_nearest_there_are(decomposition: MotionDecomposition) -> None:
    coefficients = 0.3 * np.random.default_rng(0).standard_normal((3, 14))
    wanted = coefficients @ decomposition._mouth_map @ decomposition._cross
    root = np.linalg.cholesky(decomposition._metric).T
    fitted = decomposition.fit(coefficients)
    assert 0.0 < fitted.mean_error_m < fitted.max_error_m
    for row, weights in zip(wanted, fitted.weights, strict=True):
        # |R w - R^-T b|^2 differs from the metric by a constant
        best = lsq_linear(root, np.linalg.solve(root.T, row), (0.0, 1.0), tol=1e-12).x
        np.testing.assert_allclose(weights, np.clip(best @ decomposition._curves, 0, 1), atol=1e-5)


def test_another_motion_space_has_no_curves() -> None:
    head = load_head()
    shapes = 0.001 * np.random.default_rng(0).standard_normal((3, head.num_skin_vertices, 3))
    with pytest.raises(ValueError, match="leaves the head's curves"):
        MotionDecomposition(head, shapes)
    with pytest.raises(ValueError, match="expected shapes"):
        MotionDecomposition(head, shapes[:, 1:])


def test_coefficients_hardly_depend_on_the_windows(predictor: MMTalkerPredictor, samples: np.ndarray) -> None:
    points = predictor.decoded_points(predictor.plan())
    weights = [
        np.concatenate([each[2] for each in predictor._decode_with_weights(samples, 121, points, window)])
        for window in (30, 150)
    ]
    assert np.abs(weights[0] - weights[1]).max() < 0.02 * np.abs(weights[1]).max()


def test_the_mouth_is_the_networks_and_the_lids_are_the_performances(
    predictor: MMTalkerPredictor, samples: np.ndarray
) -> None:
    plan, head = predictor.plan(), predictor.head
    motion = PerformedMotion(predictor, plan, samples, seed=2)
    performed = np.concatenate([block for _, block in motion.animate()])
    plain = np.concatenate([block for _, block in predictor.animate(samples, plan)])
    lips, lids = head.regions["lips"], head.regions["lid_margin"]
    np.testing.assert_allclose(performed[:, lips], plain[:, lips], atol=2e-6)
    columns = [BLENDSHAPE_INDEX[name] for name in UPPER_FACE]
    expected = np.einsum("tc,cvi->tvi", motion.performance.upper_face, head.blendshapes[columns][:, lids])
    assert np.abs(performed[:, lids] - expected).max() < 2e-4  # smiles move the lower lid a little
    tracks = motion.tracks()
    assert tracks.blendshape_weights is not None and tracks.performance is not None
    again = np.tensordot(tracks.blendshape_weights, tracks.performance.blendshapes, 1)
    distance = np.linalg.norm(again - performed, axis=2)[:, : head.num_skin_vertices]
    assert distance.max() == pytest.approx(tracks.performance.max_error_m, rel=1e-3)
    assert distance.mean() == pytest.approx(tracks.performance.mean_error_m, rel=1e-3)


def test_blendshapes_of_a_clip_are_those_of_its_head(predictor: MMTalkerPredictor) -> None:
    plan = predictor.plan(identity=5)
    shapes = build_clip_blendshapes(predictor.head, plan)
    skin = plan.head.num_skin_vertices
    np.testing.assert_allclose(shapes[:, :skin], plan.head.blendshapes[:, :skin], atol=2e-6)
    tongue = BLENDSHAPE_INDEX["tongueOut"]
    np.testing.assert_array_equal(shapes[tongue, skin:], plan.head.blendshapes[tongue, skin:])
    teeth = slice(*plan.parts["teeth"])
    assert np.abs(shapes[BLENDSHAPE_INDEX["jawOpen"], teeth]).max() > 0.01  # the lower teeth go along
    assert not shapes[BLENDSHAPE_INDEX["mouthSmileLeft"], teeth].any()


def write_clip(tmp_path: Path, samples: np.ndarray, name: str, *options: str) -> MotionClip:
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    arguments = ["animate", str(tmp_path / "a.wav"), "--output", str(tmp_path / name), "--threads", "1", *options]
    assert main(arguments) == 0
    return load_motion_clip(tmp_path / name)


def test_clips_hold_the_performance_unless_it_is_switched_off(tmp_path: Path, samples: np.ndarray) -> None:
    clip = write_clip(tmp_path, samples, "clip", "--vertices", "600")
    again = write_clip(tmp_path, samples, "again", "--vertices", "600")
    plain = write_clip(tmp_path, samples, "plain", "--vertices", "600", "--no-performance")
    assert clip.performance is not None and clip.blendshape_weights is not None
    assert clip.head_rotation is not None and clip.eye_rotations is not None
    assert sorted(clip.performance.pivots) == ["eye_left", "eye_right", "head"]
    assert clip.info.options["performance"] is True and plain.info.options["performance"] is False
    assert (plain.performance, plain.blendshape_weights, plain.head_rotation, plain.eye_rotations) == (None,) * 4
    assert clip.basis_shapes is None
    for file in (tmp_path / "clip").glob("*.npy"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name
    assert again.num_frames == plain.num_frames == clip.num_frames


def test_the_basis_of_a_performed_clip_holds_what_its_curves_leave_out(tmp_path: Path, samples: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    job = AnimateJob(tmp_path / "a.wav", tmp_path / "clip", vertices=600, threads=1, basis_error_limit_mm=0.02)
    clip = load_motion_clip(animate(job, Emitter(as_json=False)))
    assert clip.basis_is_remainder and clip.basis_shapes is not None and clip.basis_weights is not None
    assert clip.blendshape_weights is not None and clip.performance is not None
    np.testing.assert_array_equal(round_curves(clip.blendshape_weights), clip.blendshape_weights)
    repeated = np.tensordot(clip.basis_weights.astype(np.float64), clip.basis_shapes, 1)
    repeated += np.tensordot(clip.blendshape_weights.astype(np.float64), clip.performance.blendshapes, 1)
    assert np.linalg.norm(repeated - clip.vertex_offsets, axis=2).max() < 2e-5
    assert 1 <= len(clip.basis_shapes) < 30


def test_weights_without_a_motion_space_have_rotations_alone(tmp_path: Path, samples: np.ndarray) -> None:
    options = write_untrained_weights(tmp_path)
    clip = write_clip(tmp_path, samples[:16_000], "clip", "--vertices", "600", *options)
    assert clip.head_rotation is not None and clip.eye_rotations is not None
    assert clip.blendshape_weights is None and clip.performance is None


def test_no_projection_has_rotations_alone(tmp_path: Path, samples: np.ndarray) -> None:
    clip = write_clip(tmp_path, samples[:16_000], "clip", "--vertices", "600", "--no-projection")
    assert clip.head_rotation is not None and clip.blendshape_weights is None
