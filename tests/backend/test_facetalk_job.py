"""Jobs of FaceTalk: takes, surfaces, the cache, and sequences that go on where they were stopped or killed."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from blender_talkhead.contract.errors import BadInputError, CancelledError, ExitCode, OutputError, UsageError
from blender_talkhead.contract.jobs import AnimateJob, take_folders
from blender_talkhead.contract.mesh_sequence import load_mesh_sequence
from blender_talkhead.contract.messages import DoneMessage, ProgressMessage, decode_message
from blender_talkhead.contract.motion_clip import load_motion_clip
from tests.facetalk_stub import StubPredictor
from tests.running_worker import running_worker
from tests.untrained_weights import make_speech
from torch_backend import handlers
from torch_backend.command_line import main
from torch_backend.emitter import Emitter
from torch_backend.inference import facetalk
from torch_backend.result_cache import locked

SECONDS = 1.5
NUM_FRAMES = 37


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, make_speech(SECONDS), 16_000, subtype="PCM_16")
    return path


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facetalk, "FaceTalkPredictor", StubPredictor)
    for name in ("num_extracted", "num_drawn"):
        monkeypatch.setattr(StubPredictor, name, 0)


@pytest.fixture
def job(tmp_path: Path, speech: Path) -> AnimateJob:
    return AnimateJob(speech, tmp_path / "out" / "clip", method="facetalk", surface="sequence", grid=64, threads=1)


@pytest.fixture
def cached(job: AnimateJob, tmp_path: Path) -> AnimateJob:
    return replace(job, cache=tmp_path / "cache")


def quiet(check: object = None) -> Emitter:
    return Emitter(True, io.StringIO(), io.StringIO(), check=check or (lambda: None))  # type: ignore[arg-type]


def stopping_after(num_frames: int) -> Emitter:
    """An emitter that cancels once so many frames were made."""

    def check() -> None:
        if StubPredictor.num_extracted >= num_frames:
            raise CancelledError("cancelled")

    return quiet(check)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def entries(cache: Path) -> Iterator[Path]:
    return (path for path in sorted(cache.iterdir()) if path.suffix != ".lock")


def test_a_sequence_and_its_takes(job: AnimateJob) -> None:
    both = replace(job, takes=2)
    assert handlers.animate(both, quiet()) == job.output
    first, second = (load_mesh_sequence(folder) for folder in take_folders(both))
    assert first.num_frames == second.num_frames == NUM_FRAMES
    assert (first.info.options["take"], second.info.options["take"]) == (1, 2)
    assert first.info.options["grid"] == 64 and first.vertex_colors is not None
    assert not np.array_equal(first.read_frame(3).vertices, second.read_frame(3).vertices)
    handlers.animate(replace(job, take=2, output=job.output.with_name("alone")), quiet())
    alone = load_mesh_sequence(job.output.with_name("alone"))
    np.testing.assert_array_equal(alone.vertices, second.vertices)
    assert sorted(path.name for path in job.output.parent.iterdir()) == ["alone", "clip", "clip-2"]


def test_tracked_takes_are_motion_clips(job: AnimateJob) -> None:
    tracked = replace(job, surface="tracked", takes=2, basis_error_limit_mm=0.02, vertices=900)
    handlers.animate(tracked, quiet())
    clips = [load_motion_clip(folder) for folder in take_folders(tracked)]
    assert all(clip.num_frames == NUM_FRAMES and clip.num_vertices == 900 for clip in clips)
    assert all(clip.basis_shapes is not None and len(clip.basis_shapes) == 1 for clip in clips)
    assert not np.array_equal(clips[0].vertex_offsets, clips[1].vertex_offsets)
    assert clips[0].info.options["grid"] is None and clips[0].info.options["vertices"] == 900


def test_a_kept_result_is_not_made_again(cached: AnimateJob) -> None:
    assert cached.cache is not None
    handlers.animate(cached, quiet())
    made = folder_bytes(cached.output)
    assert StubPredictor.num_extracted == NUM_FRAMES
    shutil.rmtree(cached.output)
    handlers.animate(replace(cached, scene_frame_rate=25.0), quiet())
    assert StubPredictor.num_extracted == NUM_FRAMES, "it came from the cache"
    again = folder_bytes(cached.output)
    assert again.pop("result.json") != made.pop("result.json"), "the scene's rate is that of this job"
    assert again == made
    handlers.animate(replace(cached, seed=1), quiet())
    assert StubPredictor.num_extracted == 2 * NUM_FRAMES
    assert folder_bytes(cached.output)["vertices.npy"] != made["vertices.npy"]
    assert len(list(entries(cached.cache))) == 2


def test_of_several_takes_only_those_missing_are_made(cached: AnimateJob) -> None:
    handlers.animate(replace(cached, take=2), quiet())
    handlers.animate(replace(cached, takes=3), quiet())
    assert StubPredictor.num_extracted == 3 * NUM_FRAMES


def test_a_cancelled_sequence_goes_on_where_it_stopped(cached: AnimateJob, job: AnimateJob) -> None:
    assert cached.cache is not None
    with pytest.raises(CancelledError):
        handlers.animate(cached, stopping_after(10))
    assert not cached.output.parent.exists(), "nothing was written where the result is to lie"
    stopped_at = StubPredictor.num_extracted
    assert 10 <= stopped_at < NUM_FRAMES
    handlers.animate(cached, quiet())
    assert StubPredictor.num_extracted <= NUM_FRAMES + 1
    handlers.animate(replace(job, output=job.output.with_name("whole")), quiet())
    assert folder_bytes(cached.output) == folder_bytes(job.output.with_name("whole"))
    assert [path.name.split("-")[0] for path in entries(cached.cache)] == ["mesh_sequence"]


def test_without_a_cache_nothing_stays_of_a_cancelled_job(job: AnimateJob) -> None:
    with pytest.raises(CancelledError):
        handlers.animate(replace(job, takes=2), stopping_after(NUM_FRAMES + 5))
    assert not job.output.parent.exists()


def test_progress_never_falls_and_begins_where_the_sequence_stopped(cached: AnimateJob) -> None:
    with pytest.raises(CancelledError):
        handlers.animate(cached, stopping_after(30))
    output = io.StringIO()
    handlers.animate(cached, Emitter(True, output, io.StringIO()))
    messages = [decode_message(line) for line in output.getvalue().splitlines()]
    shown = [(each.phase, each.fraction) for each in messages if isinstance(each, ProgressMessage)]
    fractions = [fraction for _, fraction in shown]
    assert fractions == sorted(fractions)
    assert list(dict(shown)) == [
        "reading audio", "loading the model", "drawing takes", "making surfaces", "writing",
    ]  # fmt: skip


def test_one_writer_at_a_time(cached: AnimateJob) -> None:
    handlers.animate(cached, quiet())
    assert cached.cache is not None
    (entry,) = entries(cached.cache)
    with locked(entry), pytest.raises(OutputError, match="another TalkHead"):
        handlers.animate(cached, quiet())
    handlers.animate(cached, quiet())


@pytest.mark.skipif(os.name == "nt", reason="kills with POSIX signals")
def test_a_killed_sequence_goes_on_where_it_stopped(cached: AnimateJob, job: AnimateJob) -> None:
    code = (
        "import sys; from tests import facetalk_stub; facetalk_stub.install(); "
        "facetalk_stub.StubPredictor.seconds_a_frame = 0.05; "
        "from torch_backend.command_line import main; sys.exit(main(sys.argv[1:]))"
    )

    def far(message: object) -> bool:
        return isinstance(message, ProgressMessage) and message.phase == "making surfaces" and message.fraction > 0.4

    with running_worker(code=code) as worker:
        worker.submit("a", replace(cached, takes=2))
        worker.until(far)
        worker.kill()
    with running_worker(code=code) as worker:
        worker.submit("b", replace(cached, takes=2))
        messages = worker.until(lambda message: isinstance(message, DoneMessage))
    assert messages[-1] == DoneMessage(str(cached.output), "b", (f"{cached.output}-2",))
    begun = [
        each.fraction for each in messages if isinstance(each, ProgressMessage) and each.phase == "making surfaces"
    ]
    assert begun[0] >= 0.3
    whole = replace(job, takes=2, output=job.output.with_name("whole"))
    handlers.animate(whole, quiet())
    for killed, expected in zip(take_folders(cached), take_folders(whole), strict=False):
        assert folder_bytes(killed) == folder_bytes(expected)


def test_identities(job: AnimateJob, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="identity"):
        handlers.animate(replace(job, identity="nobody"), quiet())
    with pytest.raises(BadInputError, match="fit identity"):
        handlers.animate(replace(job, identity=str(tmp_path / "none.safetensors")), quiet())
    scan = tmp_path / "scan.safetensors"
    scan.write_bytes(b"a")
    handlers.animate(replace(job, identity=str(scan)), quiet())
    options = load_mesh_sequence(job.output).info.options
    assert options["identity"] == str(scan) and options["identity_parameters"] is None


def test_the_command(speech: Path, tmp_path: Path) -> None:
    output = tmp_path / "clip"
    options = ["--method", "facetalk", "--surface", "sequence", "--grid", "40", "--takes", "2", "--guidance", "1.5"]
    arguments = ["animate", str(speech), "--output", str(output), *options]
    told = io.StringIO()
    assert main([*arguments, "--json"], told, io.StringIO()) == ExitCode.DONE
    assert decode_message(told.getvalue().splitlines()[-1]) == DoneMessage(str(output), "", (f"{output}-2",))
    assert load_mesh_sequence(output).info.options["guidance"] == 1.5
    assert main(["animate", str(speech), "--output", str(output), "--grid", "40"]) == ExitCode.USAGE
