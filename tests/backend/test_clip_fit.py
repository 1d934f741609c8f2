"""Users' clips to code sequences, from files to the command, with a head model that has learned nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from blender_talkhead.contract.errors import BackendError, BadInputError, ExitCode
from tests.untrained_weights import make_speech, write_untrained_weights
from torch_backend.command_line import main
from torch_backend.fitting.clip import nearest_rows, open_clip
from torch_backend.fitting.fitted_head import load_fitted_head
from torch_backend.fitting.fitted_identity import load_fitted_identity
from torch_backend.head import load_head
from torch_backend.head.head_space import HeadSpace
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.models.nphm import BackwardNPHM
from torch_backend.models.nphm_config import BackwardNPHMConfig
from torch_backend.models.nphm_import import ImportedHeadModel, save_head_model
from torch_backend.training.code_sequences import load_code_sequences

NUM_FRAMES = 6
TINY = BackwardNPHMConfig(
    anchor_hidden_size=4, member_hidden_size=6, member_hidden_layers=2, compressed_size=3, deformation_hidden_size=8,
    deformation_hidden_layers=2,
)  # fmt: skip
SETTINGS = """
[expression]
window_frames = 4
overlap_frames = 1
points_per_frame = 30
rounds = 2
[identity]
iterations = 5
points = 40
[alignment]
iterations = 30
"""


def write_head_model(path: Path, *, built_in: bool = True, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    anchors = torch.from_numpy(HeadSpace().to_model(load_head().vertices[load_identity_codes().anchors]))
    model = BackwardNPHM(TINY, anchors)
    torch.nn.init.normal_(model.deformation.layers[-1].weight, std=0.02)
    codes = torch.randn(4, 1344) * 0.05, torch.randn(5, 200) * 0.05
    facts = {"head_space": {"metres_per_unit": 0.25, "center_y_m": -0.03, "center_z_m": 0.02}} if built_in else {}
    save_head_model(path, ImportedHeadModel(model, *codes), **facts)
    return path


def write_clip(folder: Path, *, landmarks: bool = True, scale: float = 1000.0) -> Path:
    """A head that opens its mouth, scanned in millimetres with z up, at 48 scans a second."""
    (folder / "frames").mkdir(parents=True)
    head, generator, places = load_head(), np.random.default_rng(0), []
    for frame in range(2 * NUM_FRAMES - 1):
        posed = head.pose({"jawOpen": 0.05 * frame})[:, [0, 2, 1]] * [1, -1, 1] * scale + [5.0, 6.0, 7.0]
        chosen = generator.choice(head.num_skin_vertices, 1500, replace=False)
        np.save(folder / "frames" / f"{frame:04d}.npy", posed[chosen].astype(np.float32))
        places.append(posed[head.landmarks68])
    if landmarks:
        np.save(folder / "landmarks.npy", np.stack(places).astype(np.float32))
    soundfile.write(folder / "sound.wav", make_speech(0.5), 16_000)
    return folder


def run(*arguments: object) -> tuple[int, list[dict]]:
    output = io.StringIO()
    code = main([*(str(each) for each in arguments), "--json"], output, io.StringIO())
    return code, [json.loads(line) for line in output.getvalue().splitlines()]


@pytest.fixture
def setting(tmp_path: Path) -> list[str]:
    (tmp_path / "fit.toml").write_text(SETTINGS)
    model = write_head_model(tmp_path / "head.safetensors")
    return ["--head-weights", str(model), "--config", str(tmp_path / "fit.toml"), "--threads", "1"]


def test_clips_become_code_sequences_and_a_second_run_goes_on(tmp_path: Path, setting: list[str]) -> None:
    clips = [write_clip(tmp_path / name) for name in ("one", "two")]
    encoder = write_untrained_weights(tmp_path)[-1]
    command = ["fit", "expressions", *clips, "--output", tmp_path / "out", "--recorded-rate", 48, "--encoder", encoder,
               "--held-out-every", 2, "--auto-gain", "--reduce-noise", *setting]  # fmt: skip
    code, messages = run(*command)
    assert code == ExitCode.DONE, messages[-1]
    fractions = [each["fraction"] for each in messages if each["type"] == "progress"]
    assert fractions == sorted(fractions) and messages[-1]["folder"] == str(tmp_path / "out")
    sequences = load_code_sequences(tmp_path / "out")
    assert sequences.codes.shape == (2 * NUM_FRAMES, 200) and len(sequences.condition) == 2 * NUM_FRAMES
    assert sequences.names == ("one", "two") and sequences.held_out == (False, True)
    assert sequences.frame_rate == 24.0 and sequences.facts["head"] == "built-in head"
    assert np.isfinite(sequences.codes).all() and not sequences.codes[:, 60:].any()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["frames"] for row in report["clips"]] == [NUM_FRAMES, NUM_FRAMES]

    first = tmp_path / "out" / "clips" / "one.npz"
    before = first.stat().st_mtime_ns
    (tmp_path / "out" / "clips" / "two.npz").unlink()  # as after a run that was stopped
    assert run(*command)[0] == ExitCode.DONE
    assert first.stat().st_mtime_ns == before
    assert np.array_equal(load_code_sequences(tmp_path / "out").codes, sequences.codes)
    np.save(clips[0] / "landmarks.npy", np.load(clips[0] / "landmarks.npy") + 0.5)
    assert run(*command)[0] == ExitCode.DONE
    assert first.stat().st_mtime_ns != before  # made from other landmarks


def test_landmarks_as_the_condition(tmp_path: Path, setting: list[str]) -> None:
    clip = write_clip(tmp_path / "clip")
    places = np.load(clip / "landmarks.npy")
    places[3, 8] = np.nan
    np.save(clip / "landmarks.npy", places)
    command = ["fit", "expressions", clip, "--output", tmp_path / "out", "--condition", "landmarks"]
    assert run(*command, "--recorded-rate", 48, *setting)[0] == ExitCode.DONE
    sequences = load_code_sequences(tmp_path / "out")
    assert sequences.condition.shape == (NUM_FRAMES, 68 * 3)
    chin = sequences.condition[:, 8 * 3 + 1]
    assert chin[-1] < chin[0] - 0.5  # in centimetres: the jaw opens
    assert sequences.facts["speech_encoder"] == "landmarks"


def test_identity_of_a_scan_and_codes_with_it(tmp_path: Path, setting: list[str]) -> None:
    clip = write_clip(tmp_path / "clip", landmarks=False)
    head = load_head()
    lines = [f"v {x} {-z} {y}" for x, y, z in head.vertices[: head.num_skin_vertices] * 100.0]
    lines += [f"f {a} {b} {c}" for a, b, c in head.skin_triangles + 1]
    (tmp_path / "scan.obj").write_text("\n".join(lines))
    output = tmp_path / "me.safetensors"
    code, messages = run("fit", "identity", tmp_path / "scan.obj", "--output", output, *setting)
    assert code == ExitCode.DONE, messages[-1]
    model = load_fitted_head(tmp_path / "head.safetensors")
    fitted = load_fitted_identity(output, model.sha256)
    assert fitted.identity_code.shape == (1344,) and fitted.facts["error_unit"] == "mm"
    assert set(fitted.facts["to_scan"]) == {"scale", "rotation", "translation"}
    assert fitted.facts["to_scan"]["scale"] == pytest.approx(100.0, rel=0.02)
    assert max(abs(value) for value in fitted.facts["parameters"].values()) < 0.5  # it is the mean head
    encoder = write_untrained_weights(tmp_path)[-1]
    command = ["fit", "expressions", clip, "--output", tmp_path / "out", "--identity", output, "--encoder", encoder]
    assert run(*command, "--recorded-rate", 48, *setting)[0] == ExitCode.DONE
    other = write_head_model(tmp_path / "other.safetensors", seed=1)
    code, messages = run(*command, "--head-weights", other)
    assert code == ExitCode.BACKEND and "another head model" in messages[-1]["text"]


def test_a_model_of_other_heads_takes_aligned_scans_only(tmp_path: Path, setting: list[str]) -> None:
    write_head_model(tmp_path / "head.safetensors", built_in=False)
    np.save(tmp_path / "scan.npy", np.random.default_rng(0).normal(size=(500, 3)) * 0.2)
    command = ["fit", "identity", tmp_path / "scan.npy", "--output", tmp_path / "me.safetensors", *setting]
    code, messages = run(*command)
    assert code == ExitCode.BAD_INPUT and "align" in messages[-1]["text"]
    found = load_fitted_head(tmp_path / "head.safetensors")
    assert found.space is None and found.priors.identity.directions.shape == (3, 1344)


def test_clips_are_looked_at_before_anything_is_fitted(tmp_path: Path) -> None:
    assert nearest_rows(7, 60.0, 24.0).tolist() == [0, 3, 5]
    assert nearest_rows(4, 24.0, 24.0).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="24 frames a second or more"):
        nearest_rows(4, 12.0, 24.0)
    clip = write_clip(tmp_path / "clip")
    assert len(open_clip(clip, 24.0, 24.0).scans) == 2 * NUM_FRAMES - 1
    soundfile.write(clip / "second.wav", make_speech(0.5), 16_000)
    with pytest.raises(BadInputError, match="several recordings"):
        open_clip(clip, 24.0, 24.0)
    (clip / "second.wav").unlink()
    np.save(clip / "landmarks.npy", np.zeros((3, 68, 3)))
    with pytest.raises(BadInputError, match="3 frames"):
        open_clip(clip, 24.0, 24.0)


def test_broken_identity_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="missing"):
        load_fitted_identity(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"junk")
    with pytest.raises(BackendError, match="broken"):
        load_fitted_identity(tmp_path / "bad.safetensors")
