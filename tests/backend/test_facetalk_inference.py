"""FaceTalk as a predictor: takes of codes, and what they do to the vertices of the whole head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.contract.errors import BackendError, UsageError
from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from tests.untrained_weights import make_speech, write_untrained_facetalk, write_untrained_weights
from torch_backend.audio.speech_encoder import SpeechEncoder, load_speech_encoder
from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.identity import apply_identity
from torch_backend.inference.facetalk import DEFAULT_WEIGHTS, FaceTalkPredictor
from torch_backend.inference.facetalk_sampling import SamplingConfig
from torch_backend.inference.facetalk_take import CurvesOfTake
from torch_backend.performance.perform import UPPER_FACE
from torch_backend.training.mouth_codes import load_mouth_of_codes

SECONDS = 3.0
FRAMES = 73
"""Frame i is at i / 24 s, the last one within the recording."""
QUICK = SamplingConfig(steps=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_untrained_weights(folder)
    write_untrained_facetalk(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SpeechEncoder:
    return load_speech_encoder(str(folder / "encoder.safetensors"))


@pytest.fixture(scope="module")
def predictor(folder: Path, encoder: SpeechEncoder) -> FaceTalkPredictor:
    loaded = FaceTalkPredictor.load(folder / "facetalk.safetensors", encoder)
    return FaceTalkPredictor(loaded.model, encoder, "", "built-in head")  # moved by the head's own shapes


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return make_speech(SECONDS)


def _sample(predictor: FaceTalkPredictor, samples: np.ndarray, config: SamplingConfig) -> np.ndarray:
    pieces = list(predictor.sample(samples, config))
    assert [first for first, _ in pieces] == [0, *np.cumsum([codes.shape[1] for _, codes in pieces])[:-1]]
    return np.concatenate([codes for _, codes in pieces], axis=1)


def _speaking() -> np.ndarray:
    """Codes (T, 200) of a mouth that opens, with brows that rise and a blink."""
    curves = np.zeros((FRAMES, 52), np.float32)
    curves[:, BLENDSHAPE_INDEX["jawOpen"]] = 0.3 * np.abs(np.sin(0.4 * np.arange(FRAMES)))
    curves[:, BLENDSHAPE_INDEX["browInnerUp"]] = 0.5
    curves[20:24, [BLENDSHAPE_INDEX["eyeBlinkLeft"], BLENDSHAPE_INDEX["eyeBlinkRight"]]] = 1.0
    return load_expression_space().encode(curves)


def test_takes(predictor: FaceTalkPredictor, samples: np.ndarray) -> None:
    told: list[float] = []
    pieces = list(predictor.sample(samples, SamplingConfig(steps=3, takes=2), told.append))
    codes = np.concatenate([each for _, each in pieces], axis=1)
    assert codes.shape == (2, FRAMES, 200) and codes.dtype == np.float32 and told[-1] == pytest.approx(1)
    assert predictor.count_frames(len(samples)) == FRAMES and predictor.frame_rate == 24.0
    assert np.abs(codes[0] - codes[1]).max() > 0.01
    second = _sample(predictor, samples, SamplingConfig(steps=3, first_take=1))
    np.testing.assert_allclose(second[0], codes[1], atol=1e-4)
    np.testing.assert_array_equal(_sample(predictor, samples, QUICK), _sample(predictor, samples, QUICK))


def test_windows_do_not_show(predictor: FaceTalkPredictor, samples: np.ndarray) -> None:
    whole = _sample(predictor, samples, SamplingConfig(steps=3, window_frames=100))
    pieces = _sample(predictor, samples, SamplingConfig(steps=3, window_frames=17))
    np.testing.assert_allclose(pieces, whole, atol=1e-3)


def test_without_diversity_all_takes_are_one(predictor: FaceTalkPredictor, samples: np.ndarray) -> None:
    codes = _sample(predictor, samples, SamplingConfig(steps=3, takes=2, diversity=0.0))
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-5)
    near = _sample(predictor, samples, SamplingConfig(steps=3, takes=2, diversity=0.5))
    far = _sample(predictor, samples, SamplingConfig(steps=3, takes=2))
    assert np.abs(near[0] - near[1]).mean() < np.abs(far[0] - far[1]).mean()


def test_codes_without_performance_are_the_heads_own_shapes(predictor: FaceTalkPredictor, samples: np.ndarray) -> None:
    plan, codes, head = predictor.plan(), _speaking(), load_head()
    take = predictor.animate(codes, samples, plan, 0, performance=False)
    moved = np.concatenate([offsets for _, offsets in take.animate()])
    assert moved.shape == (FRAMES, *head.vertices.shape) and take.tracks() is None
    skin = head.num_skin_vertices
    for frame in (0, 3, 22):
        weights = load_expression_space().decode(codes[frame])
        expected = np.tensordot(weights, head.blendshapes[:, :skin], 1)
        np.testing.assert_allclose(moved[frame, :skin], expected, atol=2e-5)
    teeth = np.arange(*head.parts["teeth"])
    is_lower = np.isin(teeth, head.regions["jaw_parts"])
    assert np.abs(moved[:, teeth[~is_lower]]).max() == 0 and np.abs(moved[0, teeth]).max() < 2e-4  # the jaw is shut
    assert moved[4, teeth[is_lower], 1].max() < -1e-3


def test_performance_decides_blinks_and_gaze(predictor: FaceTalkPredictor, samples: np.ndarray) -> None:
    codes, head = _speaking(), load_head()
    curves = CurvesOfTake(codes, samples, head.eye_centers, 3, True)
    assert curves.performance is not None
    read = np.concatenate([curves.read(0, 40), curves.read(40, FRAMES)])
    np.testing.assert_allclose(read[:, BLENDSHAPE_INDEX["browInnerUp"]], 0.5, atol=0.02)
    planned = curves.performance.upper_face[:, UPPER_FACE.index("eyeBlinkLeft")]
    np.testing.assert_allclose(read[:, BLENDSHAPE_INDEX["eyeBlinkLeft"]], planned, atol=1e-6)
    take = predictor.animate(codes, samples, predictor.plan(1000), 3)
    for _ in take.animate():
        pass
    tracks = take.tracks()
    assert tracks is not None and tracks.performance is not None and tracks.blendshape_weights is not None
    assert tracks.performance.max_error_m < 1e-6
    tracks.performance.validate(len(predictor.plan(1000).template_vertices))
    other = predictor.animate(codes, samples, predictor.plan(1000), 4)
    assert list(other.animate()) and other.tracks() is not None
    assert not np.array_equal(other.tracks().eye_rotations, tracks.eye_rotations)  # type: ignore[union-attr]


def test_an_identity_moves_by_its_own_shapes(predictor: FaceTalkPredictor, samples: np.ndarray) -> None:
    plan, codes = predictor.plan(None, "nose_width=0.5,jaw_width=0.4"), _speaking()
    moved = np.concatenate([o for _, o in predictor.animate(codes, samples, plan, 0, False).animate()])
    own = apply_identity(load_head(), plan.identity)
    skin = own.num_skin_vertices
    expected = np.tensordot(load_expression_space().decode(codes[3]), own.blendshapes[:, :skin], 1)
    np.testing.assert_allclose(moved[3, :skin], expected, atol=5e-4)
    with pytest.raises(UsageError, match="identity"):
        predictor.plan(None, "nobody")


def test_weights_that_do_not_fit_are_named(folder: Path, encoder: SpeechEncoder, predictor: FaceTalkPredictor) -> None:
    with pytest.raises(BackendError, match="speech encoder is 'shipped"):
        FaceTalkPredictor.load(folder / "facetalk.safetensors", load_speech_encoder())
    with pytest.raises(BackendError, match="codes of another head"):
        FaceTalkPredictor(predictor.model, encoder, "", "another head")
    with pytest.raises(BackendError):
        FaceTalkPredictor.load(folder / "mmtalker.safetensors", encoder)


@pytest.mark.skipif(not DEFAULT_WEIGHTS.is_file(), reason="no weights of FaceTalk ship")
def test_shipped_weights_rest_in_silence_and_blink() -> None:
    predictor, mouth = FaceTalkPredictor.load(), load_mouth_of_codes()
    noise = (1e-3 * np.random.default_rng(0).standard_normal(10 * 16_000)).astype(np.float32)
    takes = _sample(predictor, noise, SamplingConfig(takes=2))
    assert np.abs(takes @ mouth.opening).max() < 0.25  # millimetres
    blinks = load_expression_space().decode(takes)[..., BLENDSHAPE_INDEX["eyeBlinkLeft"]]
    assert (blinks.max(axis=1) > 0.5).all() and (blinks > 0.5).mean() < 0.15
    assert np.abs(blinks[0] - blinks[1]).max() > 0.5  # each take in its own time
