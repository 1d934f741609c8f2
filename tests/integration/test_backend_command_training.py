"""From a corpus to weights to a clip by the backend's command alone, with tiny settings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from blender_talkhead.contract.motion_clip import load_motion_clip
from tests.untrained_weights import make_speech, write_untrained_weights
from torch_backend.command_line import main
from torch_backend.speech_corpus.corpus import FORMAT_VERSION

SECONDS = 1.6
PHONES = ("SIL", "M", "AA", "P", "IY", "SIL")

PHONE_SETTINGS = """
augmented_copies = 1
[recipe]
batch_size = 2
window_rows = 100
[recipe.network]
channels = 8
dilations = [1, 2]
[loop]
steps = 4
log_every = 2
checkpoint_every = 2
"""

MMTALKER_SETTINGS = """
[model]
hidden_size = 8
encoding_size = 4
decoder_size = 8
window_frames = 20
[data]
augmented_copies = 1
drawn_points = 16
[loop]
steps = 4
log_every = 2
checkpoint_every = 2
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four made-up utterances in the layout of speech_corpus/corpus.py."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    edges = np.linspace(0.0, SECONDS, len(PHONES) + 1).round(4)
    phones = [[float(start), float(end), phone] for start, end, phone in zip(edges, edges[1:], PHONES, strict=False)]
    rows = []
    for index in range(4):
        samples = make_speech(SECONDS) * (1.0 - 0.2 * index)
        soundfile.write(folder / "audio" / f"{index}.wav", samples, 16_000)
        row = {"id": str(index), "audio": f"audio/{index}.wav", "phones": phones, "engine": "flite", "voice": "slt"}
        rows.append({**row, "language": "en", "text": "ma pie", "num_samples": len(samples)})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "corpus.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "corpus_hash": "ab" * 32}))
    return folder


def run(*arguments: object) -> str:
    output, log = io.StringIO(), io.StringIO()
    assert main([str(argument) for argument in arguments], output, log) == 0, log.getvalue()
    return output.getvalue()


def settings(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def last_step(folder: Path) -> int:
    return int(json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["step"])


def test_phone_encoder(tmp_path: Path, corpus: Path) -> None:
    train = ["train", "phone_encoder", "--corpus", corpus, "--output", tmp_path / "run"]
    run(*train, "--config", settings(tmp_path, PHONE_SETTINGS))
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert last_step(tmp_path / "run") == 4
    run(*train, "--config", settings(tmp_path, PHONE_SETTINGS), "--resume")
    assert last_step(tmp_path / "run") == 4


def test_mmtalker_until_a_clip(tmp_path: Path, corpus: Path) -> None:
    encoder = write_untrained_weights(tmp_path)[2:]
    train = ["train", "mmtalker", "--corpus", corpus, "--output", tmp_path / "run", *encoder]
    messages = run(*train, "--config", settings(tmp_path, MMTALKER_SETTINGS), "--json").splitlines()
    assert json.loads(messages[-1]) == {
        "type": "done",
        "folder": str(tmp_path / "run"),
        "job": "",
        "more_folders": [],
    }
    weights = ["--weights", tmp_path / "run" / "model.safetensors", *encoder]
    run("animate", corpus / "audio" / "0.wav", "--output", tmp_path / "clip", *weights)
    assert load_motion_clip(tmp_path / "clip").num_frames == 49
    scores = json.loads(run("evaluate", "--corpus", corpus, "--limit", "1", *weights))
    assert scores["mmtalker"]["num_clips"] == 1
    assert set(scores["still_face"]) == set(scores["mmtalker"])


@pytest.mark.parametrize("text", ["steps = [", "[loop]\nstep = 3", "[loop]\nsteps = 'many'"])
def test_wrong_settings_are_bad_input(tmp_path: Path, corpus: Path, text: str) -> None:
    for model in ("mmtalker", "phone_encoder"):
        arguments = ["train", model, "--corpus", corpus, "--output", tmp_path / "run"]
        arguments += ["--config", settings(tmp_path, text)]
        log = io.StringIO()
        assert main([str(argument) for argument in arguments], io.StringIO(), log) == 3, log.getvalue()
        assert not (tmp_path / "run").exists()
