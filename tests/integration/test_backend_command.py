"""`python -m torch_backend`: messages, exit codes, and an output folder that is either complete or untouched."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from blender_talkhead.contract import motion_clip
from blender_talkhead.contract.messages import (
    DoneMessage,
    ErrorMessage,
    HelloMessage,
    ProgressMessage,
    WarningMessage,
    decode_message,
)
from blender_talkhead.contract.motion_clip import ClipTemplate, load_motion_clip
from tests.synthetic_clip import make_template
from tests.untrained_weights import make_speech, write_untrained_weights
from torch_backend import handlers
from torch_backend.command_line import main
from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class SteadyPlan(ClipTemplate):
    """A mesh with eyes."""

    head: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(eye_centers=np.array([[0.03, 0.0, 0.08], [-0.03, 0.0, 0.08]]))
    )


class SteadyPredictor:
    """In the model's place: every vertex rises by a millimetre a frame."""

    frame_rate = 30.0
    weights_sha256 = "ef" * 32
    precision = "float32"
    project_motion = False
    model = SimpleNamespace(device="cpu")
    encoder = SimpleNamespace(name="steady")

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.animated = False

    def count_frames(self, num_samples: int) -> int:
        return int(num_samples / 16_000 * 30 + 1e-9) + 1

    def spoken_tongue(self, samples: np.ndarray, plan: ClipTemplate) -> None:
        """This head has none."""

    def animate(self, samples: np.ndarray, plan: ClipTemplate, progress: Any) -> Iterator[tuple[int, np.ndarray]]:
        self.animated = True
        for frame in range(self.count_frames(len(samples))):
            if frame == 5 and self.failure is not None:
                raise self.failure
            progress(frame / self.count_frames(len(samples)))
            yield frame, np.full((1, len(plan.template_vertices), 3), frame * 1e-3, np.float32)


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> SteadyPredictor:
    steady = SteadyPredictor()
    plan = SteadyPlan(**vars(make_template()))
    monkeypatch.setattr(handlers, "_load_mmtalker", lambda job, device: (steady, plan))
    return steady


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, make_speech(1.5), 16_000)
    return path


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_untrained_weights(tmp_path_factory.mktemp("weights"))


def run(*arguments: object) -> tuple[int, list[Any], str]:
    """Exit code, messages and log of a run in this process."""
    output, log = io.StringIO(), io.StringIO()
    code = main([str(argument) for argument in arguments], output, log)
    return code, [decode_message(line) for line in output.getvalue().splitlines()], log.getvalue()


def failed_with(code: int, folder: Path, result: tuple[int, list[Any], str]) -> str:
    """Check a failure: its code, one error message at the end, nothing written; returns the message."""
    assert result[0] == code, result
    assert [type(message) for message in result[1]].count(ErrorMessage) == 1
    assert result[1][-1].exit_code == code
    assert list(folder.iterdir()) == []
    assert "Traceback" not in result[2]
    return str(result[1][-1].text)


def test_messages_and_result(tmp_path: Path, speech: Path, predictor: SteadyPredictor) -> None:
    code, messages, log = run("animate", speech, "--output", tmp_path / "clip", "--json", "--seed", 5, "--fps", 25)
    assert (code, log) == (0, "")
    assert isinstance(messages[0], HelloMessage)
    assert messages[-1] == DoneMessage(str(tmp_path / "clip"))
    progress = [message for message in messages if isinstance(message, ProgressMessage)]
    assert len(progress) == len(messages) - 2
    phases = list(dict.fromkeys(message.phase for message in progress))
    assert phases == ["reading audio", "loading the model", "animating", "writing"]
    fractions = [message.fraction for message in progress]
    assert fractions == sorted(fractions)
    clip = load_motion_clip(tmp_path / "clip")
    assert clip.num_frames == 46
    assert np.allclose(clip.vertex_offsets[:, 0, 1], np.arange(46) * 1e-3)
    assert clip.info.seed == 5
    assert clip.info.frame_rate == 30.0
    assert clip.info.options["scene_frame_rate"] == 25.0
    assert clip.head_rotation is not None and clip.head_rotation.shape == (46, 4)
    assert clip.info.audio_path == str(speech)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_people_read_the_log_and_stdout_stays_empty(tmp_path: Path, speech: Path, predictor: SteadyPredictor) -> None:
    code, messages, log = run("animate", speech, "--output", tmp_path / "clip")
    assert (code, messages) == (0, [])
    assert "animating" in log
    assert log.splitlines()[-1] == f"done: {tmp_path / 'clip'}"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["animate"],
        ["animate", "a.wav"],
        ["animate", "a.wav", "--output", ""],
        ["animate", "a.wav", "--output", "OUT", "--vertices", "499"],
        ["animate", "a.wav", "--output", "OUT", "--vertices", "50001"],
        ["animate", "a.wav", "--output", "OUT", "--vertices", "many"],
        ["animate", "a.wav", "--output", "OUT", "--seed", "-1"],
        ["animate", "a.wav", "--output", "OUT", "--seed", str(2**32)],
        ["animate", "a.wav", "--output", "OUT", "--fps", "nan"],
        ["animate", "a.wav", "--output", "OUT", "--fps", "0"],
        ["animate", "a.wav", "--output", "OUT", "--threads", "0"],
        ["animate", "a.wav", "--output", "OUT", "--device", "abacus"],
        ["animate", "a.wav", "--output", "OUT", "--method", "hicode"],
        ["animate", "a.wav", "--output", "OUT", "--takes", "0"],
        ["animate", "a.wav", "--output", "OUT", "--precision", "float16"],
        ["animate", "a.wav", "--output", "OUT", "--vertice", "1000"],
        ["animate", "a.wav", "b.wav", "--output", "OUT"],
        ["train", "poetry", "--corpus", "c", "--output", "OUT"],
        ["train", "mmtalker", "--corpus", "c", "--output", "OUT", "--steps", "0"],
        ["corpus", "--output", "OUT", "--minutes", "0"],
        ["evaluate"],
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str]) -> None:
    arguments = [argument.replace("OUT", str(tmp_path / "out")) for argument in arguments]
    text = failed_with(2, tmp_path, run(*arguments, "--json"))
    assert "usage:" in text
    code, messages, log = run(*arguments)
    assert (code, messages) == (2, [])
    assert "usage:" in log


def test_takes_belong_to_facetalk(tmp_path: Path) -> None:
    arguments = ["animate", "a.wav", "--output", str(tmp_path / "out"), "--takes", "2", "--json"]
    assert "belongs to facetalk" in failed_with(2, tmp_path, run(*arguments))


def test_unknown_identity_is_a_usage_error(tmp_path: Path, speech: Path, untrained: list[str]) -> None:
    result = run("animate", speech, "--output", tmp_path / "clip", "--identity", "nobody", "--json", *untrained)
    assert "nobody" in failed_with(2, tmp_path, result)


def test_help_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help")[0] == 0
    assert run("animate", "--help")[0] == 0
    assert "--vertices" in capsys.readouterr().out


def test_bad_recording(tmp_path: Path, predictor: SteadyPredictor) -> None:
    text = failed_with(3, tmp_path, run("animate", tmp_path / "no.wav", "--output", tmp_path / "clip", "--json"))
    assert "does not exist" in text


def test_missing_device_names_the_others(tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("animate", speech, "--output", tmp_path / "clip", "--device", "cuda", "--json")
    text = failed_with(4, tmp_path, result)
    assert "cuda is not available" in text
    assert "cpu" in text


def test_missing_torch_is_a_message(tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run("animate", speech, "--output", tmp_path / "clip", "--json")
    assert "cannot import torch" in failed_with(4, tmp_path, result)
    output = io.StringIO()
    assert main(["info", "--json"], output) == 0
    assert "cannot import torch" in json.loads(output.getvalue())["torch_error"]


def rewrite(path: Path, kind: str, target: Path, **changes: object) -> Path:
    """The checkpoint with its header changed."""
    tensors, metadata = load_checkpoint(path, kind)
    save_checkpoint(target, tensors, metadata)
    content = target.read_bytes()
    for old, new in changes.items():
        before = f'\\"{old}\\": '.encode()
        assert before in content
        start = content.index(before) + len(before)
        content = content[:start] + str(new).encode() + content[start + len(str(new)) :]
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("case", ["missing", "truncated", "text", "other kind", "other version"])
def test_weights_that_cannot_be_used(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, speech: Path, untrained: list[str], case: str
) -> None:
    _, weights, *encoder = untrained
    broken = tmp_path_factory.mktemp("broken") / "weights.safetensors"
    if case == "truncated":
        broken.write_bytes(Path(weights).read_bytes()[:-1000])
    elif case == "text":
        broken.write_text("these are no weights")
    elif case == "other kind":
        shutil.copy(encoder[1], broken)
    elif case == "other version":
        rewrite(Path(weights), "mmtalker", broken, format_version=9)
    result = run("animate", speech, "--output", tmp_path / "clip", "--json", "--weights", broken, *encoder)
    assert str(broken) in failed_with(4, tmp_path, result)


def test_weights_of_another_encoder(tmp_path: Path, speech: Path, untrained: list[str]) -> None:
    folder = Path(untrained[1]).parent
    tensors, metadata = load_checkpoint(folder / "encoder.safetensors", "phone_encoder")
    metadata["config"]["name"] = "another"
    save_checkpoint(folder / "another.safetensors", tensors, metadata)
    options = [*untrained[:2], "--encoder", str(folder / "another.safetensors")]
    text = failed_with(4, tmp_path, run("animate", speech, "--output", tmp_path / "clip", "--json", *options))
    assert "another" in text


@pytest.mark.parametrize("place", ["file", "folder", "below a file"])
def test_something_in_the_way_stays_as_it_was(
    tmp_path: Path, speech: Path, predictor: SteadyPredictor, place: str
) -> None:
    target = tmp_path / "target"
    if place == "folder":
        target.mkdir()
        (target / "precious.txt").write_text("mine")
    else:
        target.write_text("mine")
    code, messages, _ = run(
        "animate", speech, "--output", target / "clip" if place == "below a file" else target, "--json"
    )
    assert code == 1
    assert isinstance(messages[-1], ErrorMessage)
    assert not predictor.animated
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "precious.txt" if place == "folder" else target).read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody may write: /proc")
def test_folder_that_nobody_may_write(speech: Path, predictor: SteadyPredictor) -> None:
    code, messages, _ = run("animate", speech, "--output", "/proc/clip", "--json")
    assert code == 1
    assert "cannot" in messages[-1].text


def test_full_disk_half_way(
    tmp_path: Path, speech: Path, predictor: SteadyPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(motion_clip.MotionClipWriter):
        def append(self, vertex_offsets: np.ndarray) -> None:
            if self.num_written == 7:
                file = self._offsets
                self._offsets = SimpleNamespace(write=self._no_space, close=file.close)  # type: ignore[assignment]
            super().append(vertex_offsets)

        @staticmethod
        def _no_space(data: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(handlers, "MotionClipWriter", FullDisk)
    text = failed_with(1, tmp_path, run("animate", speech, "--output", tmp_path / "clip", "--json"))
    assert os.strerror(errno.ENOSPC) in text


def test_disk_too_small_for_the_result_is_told_before_the_work(
    tmp_path: Path, speech: Path, predictor: SteadyPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 10**7, 10**7)
    monkeypatch.setattr(handlers.shutil, "disk_usage", lambda path: usage)
    text = failed_with(3, tmp_path, run("animate", speech, "--output", tmp_path / "clip", "--json"))
    assert "10 MB are free" in text
    assert not predictor.animated


def test_cancel_leaves_nothing(tmp_path: Path, speech: Path, predictor: SteadyPredictor) -> None:
    predictor.failure = KeyboardInterrupt()
    failed_with(5, tmp_path, run("animate", speech, "--output", tmp_path / "clip", "--json"))


def test_new_and_empty_folders_on_the_way(tmp_path: Path, speech: Path, predictor: SteadyPredictor) -> None:
    arguments = ["animate", speech, "--json", "--output"]
    predictor.failure = KeyboardInterrupt()
    failed_with(5, tmp_path, run(*arguments, tmp_path / "new" / "newer" / "clip"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run(*arguments, empty)[0] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list(empty.iterdir()) == []
    predictor.failure = None
    for folder in (empty, tmp_path / "new" / "newer" / "clip"):
        assert run(*arguments, folder)[0] == 0
        assert load_motion_clip(folder).num_frames == 46


def test_caller_that_goes_away_cancels(tmp_path: Path, speech: Path, predictor: SteadyPredictor) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    arguments = ["animate", str(speech), "--output", str(tmp_path / "clip"), "--json"]
    assert main(arguments, Closed(), io.StringIO()) == 5
    assert list(tmp_path.iterdir()) == []


def test_unexpected_errors_are_short_and_verbose_ones_are_not(
    tmp_path: Path, speech: Path, predictor: SteadyPredictor
) -> None:
    predictor.failure = ZeroDivisionError("oh\nno")
    arguments = ["animate", speech, "--output", tmp_path / "clip", "--json"]
    assert "ZeroDivisionError: oh" in failed_with(1, tmp_path, run(*arguments))
    code, _, log = run(*arguments, "--verbose")
    assert code == 1
    assert "Traceback" in log
    predictor.failure = RuntimeError("CUDA out of memory. Tried to allocate")
    assert "--device cpu" in failed_with(1, tmp_path, run(*arguments))


def test_older_result_is_replaced_but_survives_a_failure(
    tmp_path: Path, speech: Path, predictor: SteadyPredictor
) -> None:
    arguments = ["animate", speech, "--output", tmp_path / "clip", "--json"]
    assert run(*arguments)[0] == 0
    predictor.failure = KeyboardInterrupt()
    assert run(*arguments, "--seed", 1)[0] == 5
    assert load_motion_clip(tmp_path / "clip").info.seed == 0
    predictor.failure = None
    assert run(*arguments, "--seed", 2)[0] == 0
    assert load_motion_clip(tmp_path / "clip").info.seed == 2
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_logged_warnings_become_messages(
    tmp_path: Path, speech: Path, predictor: SteadyPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(job: object, device: str) -> tuple[SteadyPredictor, ClipTemplate]:
        handlers.logger.warning("mind the %s", "gap")
        return predictor, make_template()

    monkeypatch.setattr(handlers, "_load_mmtalker", load)
    _, messages, _ = run("animate", speech, "--output", tmp_path / "clip", "--json")
    assert [message.text for message in messages if isinstance(message, WarningMessage)] == ["mind the gap"]


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    output = io.StringIO()
    assert main(["info", "--json"], output) == 0
    content = json.loads(output.getvalue())
    assert content["packages"]["torch"] == torch.__version__.split("+")[0] or content["packages"]["torch"]
    assert content["methods"] == ["mmtalker", "facetalk"]
    assert content["devices"][0]["name"] == "cpu"
    assert {"mp3", "vorbis", "flac"} <= set(content["sound_codecs"])
    for weights in content["weights"]:
        assert len(weights["sha256"]) == 64
    page = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [name for name in content if f"`{name}`" not in page] == []
    output = io.StringIO()
    assert main(["info"], output) == 0
    assert "devices:" in output.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", [["train", "mmtalker"], ["train", "phone_encoder"], ["evaluate"]])
def test_folder_that_is_no_corpus(tmp_path: Path, command: list[str]) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    output = [] if command == ["evaluate"] else ["--output", str(tmp_path / "run")]
    code, messages, _ = run(*command, "--corpus", corpus, *output, "--json")
    assert code == 3
    assert "corpus" in messages[-1].text
    assert not (tmp_path / "run").exists()


def test_same_seed_gives_the_same_bytes(tmp_path: Path, speech: Path, untrained: list[str]) -> None:
    options = [*untrained, "--vertices", "600", "--threads", str(torch.get_num_threads()), "--identity", "3"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        code, _, log = run("animate", speech, "--output", tmp_path / name, "--seed", seed, *options)
        assert code == 0, log
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "vertex_offsets.npy" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "vertex_offsets.npy").read_bytes() != (tmp_path / "c" / "vertex_offsets.npy").read_bytes()
    clip = load_motion_clip(tmp_path / "a")
    assert clip.parts["skin"] == (0, 600)
    assert np.ptp(clip.vertex_offsets, axis=0).max() > 1e-5


# --- real processes


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch_backend", *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_process_speaks_json_only(tmp_path: Path, speech: Path, untrained: list[str]) -> None:
    process = start("animate", speech, "--output", tmp_path / "clip", "--json", *untrained)
    output, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    messages = [decode_message(line) for line in output.splitlines()]
    assert isinstance(messages[0], HelloMessage)
    assert messages[-1] == DoneMessage(str(tmp_path / "clip"))
    assert load_motion_clip(tmp_path / "clip").num_frames == 46


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM: a terminated process cannot clean up")
def test_terminated_process_leaves_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, untrained: list[str]
) -> None:
    recording = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(recording, np.tile(make_speech(30.0), 10), 16_000)
    process = start("animate", recording, "--output", tmp_path / "clip", "--json", *untrained)
    assert process.stdout is not None
    last = None
    for line in process.stdout:
        message = decode_message(line)
        if isinstance(message, ProgressMessage) and message.phase == "animating" and message.fraction > 0.08:
            assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
            process.send_signal(signal.SIGTERM)
        last = message
    assert process.wait(timeout=30) == 5
    assert isinstance(last, ErrorMessage)
    assert list(tmp_path.iterdir()) == []
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_process_without_torch(tmp_path: Path, speech: Path) -> None:
    """The command itself needs the standard library and numpy only."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from torch_backend.command_line import main\n"
        f"sys.exit(main(['animate', {str(speech)!r}, '--output', {str(tmp_path / 'clip')!r}]))"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 4
    assert "cannot import torch" in done.stderr
    assert time.monotonic() - begun < 30
