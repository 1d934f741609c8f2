"""Recordings of every kind through the whole `animate` command, and what must come of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from blender_talkhead.contract.messages import ErrorMessage, decode_message
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from tests.untrained_weights import make_speech, write_untrained_weights
from torch_backend.command_line import main
from torch_backend.inference.mmtalker import MMTalkerPredictor
from torch_backend.info import WEIGHTS_FOLDER

SECONDS = 1.2
NUM_FRAMES = 37
"""floor(1.2 x 30) + 1."""
STILL_METRES = 0.5e-3

Animate = Callable[..., MotionClip]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_untrained_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def animate(tmp_path: Path, options: list[str]) -> Animate:
    """Runs the command in this process and loads the result."""

    def run(path: Path, *more: str) -> MotionClip:
        log = io.StringIO()
        arguments = ["animate", str(path), "--output", str(tmp_path / "clip"), *(more or options)]
        assert main(arguments, io.StringIO(), log) == 0, log.getvalue()
        return load_motion_clip(tmp_path / "clip")

    return run


def write_mp3(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=sample_rate, layout="mono")
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        for start in range(0, len(samples), size):
            frame = av.AudioFrame.from_ndarray(samples[np.newaxis, start : start + size], "fltp", "mono")
            frame.sample_rate, frame.pts = sample_rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> np.ndarray:
    """The motion of the recording as 32-bit float at 16 kHz."""
    folder = tmp_path_factory.mktemp("reference")
    soundfile.write(folder / "a.wav", make_speech(SECONDS), 16_000, subtype="FLOAT")
    assert main(["animate", str(folder / "a.wav"), "--output", str(folder / "clip"), *options], io.StringIO()) == 0
    return np.array(load_motion_clip(folder / "clip").vertex_offsets)


def difference(clip: MotionClip, reference: np.ndarray) -> float:
    """Root mean square difference from the reference, as a share of the reference's motion about its mean."""
    count = min(len(reference), clip.num_frames)
    motion = (reference - reference.mean(axis=0)).std()
    return float(np.sqrt(np.mean((clip.vertex_offsets[:count] - reference[:count]) ** 2)) / motion)


@pytest.mark.parametrize(
    ("name", "sample_rate", "channels", "subtype"),
    [
        ("24 bit.wav", 16_000, 1, "PCM_24"),
        ("float.wav", 48_000, 1, "FLOAT"),
        ("stereo.flac", 44_100, 2, "PCM_24"),
        ("8 channels.wav", 48_000, 8, "PCM_16"),
        ("high rate.flac", 192_000, 1, "PCM_24"),
        ("голос и дух.wav", 22_050, 1, "PCM_16"),
    ],
)
def test_formats_do_not_change_the_motion(
    tmp_path: Path, animate: Animate, reference: np.ndarray, name: str, sample_rate: int, channels: int, subtype: str
) -> None:
    folder = tmp_path / "recordings of ärzte"
    folder.mkdir()
    samples = np.repeat(make_speech(SECONDS, sample_rate)[:, np.newaxis], channels, axis=1)
    soundfile.write(folder / name, samples, sample_rate, subtype=subtype)
    clip = animate(folder / name)
    assert clip.num_frames == NUM_FRAMES
    assert difference(clip, reference) < 0.1


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_lossy_formats(tmp_path: Path, animate: Animate, reference: np.ndarray, name: str) -> None:
    if name.endswith("mp3"):
        write_mp3(tmp_path / name, make_speech(SECONDS, 44_100), 44_100)
    else:
        soundfile.write(tmp_path / name, make_speech(SECONDS, 44_100), 44_100, format="OGG", subtype="VORBIS")
    clip = animate(tmp_path / name)
    assert NUM_FRAMES <= clip.num_frames <= NUM_FRAMES + 2  # codecs pad the end
    assert difference(clip, reference) < 0.3


@pytest.mark.parametrize("sample_rate", [4_000, 8_000])
def test_telephone_rates(tmp_path: Path, animate: Animate, sample_rate: int) -> None:
    soundfile.write(tmp_path / "phone.wav", make_speech(SECONDS, sample_rate), sample_rate)
    clip = animate(tmp_path / "phone.wav")
    assert clip.num_frames == NUM_FRAMES
    assert np.isfinite(clip.vertex_offsets).all()


def test_shortest_recording_has_frames(tmp_path: Path, animate: Animate) -> None:
    soundfile.write(tmp_path / "short.wav", make_speech(0.1), 16_000)
    assert animate(tmp_path / "short.wav").num_frames == 4


@pytest.mark.parametrize("case", ["empty", "text", "picture", "truncated", "not a number", "too short", "folder"])
def test_what_is_no_recording_leaves_nothing(tmp_path: Path, options: list[str], case: str) -> None:
    path = tmp_path / "recording.wav"
    speech = make_speech(SECONDS)
    if case == "empty":
        path.touch()
    elif case == "text":
        path.write_text("to be or not to be\n" * 100)
    elif case == "picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    elif case == "truncated":
        soundfile.write(path, speech, 16_000)
        path.write_bytes(path.read_bytes()[:10_000])
    elif case == "not a number":
        speech[3000] = np.nan
        soundfile.write(path, speech, 16_000, subtype="FLOAT")
    elif case == "too short":
        soundfile.write(path, speech[:1500], 16_000)
    else:
        path.mkdir()
    output = io.StringIO()
    arguments = ["animate", str(path), "--output", str(tmp_path / "clip"), "--json", *options]
    assert main(arguments, output, io.StringIO()) == 3
    message = decode_message(output.getvalue().splitlines()[-1])
    assert isinstance(message, ErrorMessage)
    assert str(path) in message.text
    assert [each.name for each in tmp_path.iterdir()] == ["recording.wav"]


def _movement(clip: MotionClip, region: str) -> float:
    """Largest distance that a vertex of a region goes from its place in the first frame, metres."""
    offsets = np.array(clip.vertex_offsets[:, clip.regions[region]])
    return float(np.linalg.norm(offsets - offsets[0], axis=-1).max())


@pytest.fixture(scope="module")
def shipped() -> list[str]:
    if not (WEIGHTS_FOLDER / "mmtalker.safetensors").is_file():
        pytest.skip("no MMTalker weights ship in this checkout")
    return ["--precision", "float32"]


@pytest.mark.parametrize("level", [0.0, 1e-5], ids=["digital zero", "faint noise"])
def test_silence_keeps_lips_and_jaw_still(tmp_path: Path, animate: Animate, shipped: list[str], level: float) -> None:
    noise = np.random.default_rng(0).normal(0.0, 1.0, 4 * 16_000).astype(np.float32) * level
    soundfile.write(tmp_path / "silence.wav", noise, 16_000, subtype="FLOAT")
    clip = animate(tmp_path / "silence.wav", *shipped)
    assert _movement(clip, "lips") < STILL_METRES
    teeth = clip.parts["teeth"]
    lower_jaw = np.array(clip.vertex_offsets[:, teeth[0] : teeth[1]])
    assert np.linalg.norm(lower_jaw - lower_jaw[0], axis=-1).max() < STILL_METRES


def test_silence_around_speech_changes_nothing(tmp_path: Path, animate: Animate, shipped: list[str]) -> None:
    """Lips that rest before and after a sentence rest there as they do in silence."""
    speech = np.concatenate([np.zeros(32_000, np.float32), make_speech(2.0), np.zeros(32_000, np.float32)])
    soundfile.write(tmp_path / "pauses.wav", speech, 16_000, subtype="FLOAT")
    clip = animate(tmp_path / "pauses.wav", *shipped)
    lips = np.array(clip.vertex_offsets[:, clip.regions["lips"]])
    for quiet in (lips[:45], lips[-30:]):
        assert np.linalg.norm(quiet - quiet[0], axis=-1).max() < STILL_METRES


def test_shipped_weights_load(shipped: list[str]) -> None:
    assert len(MMTalkerPredictor.load().weights_sha256) == 64
