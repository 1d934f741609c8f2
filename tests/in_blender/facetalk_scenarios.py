"""FaceTalk from the panel, the command and the API: takes side by side, mesh sequences, what is kept on disk.

A made-up backend answers (tests/integration/fake_backend.py). Run by run_scenario.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead import command_line, compat
from blender_talkhead.backend_client.python_environment import PythonReport
from blender_talkhead.backend_client.shared_worker import close_shared_worker, shared_worker
from blender_talkhead.bake.animation import AnimationSettings, animate_blocking, prepare_animation
from blender_talkhead.bake.inventory import remove_head
from blender_talkhead.bake.provenance import read_provenance, take_action
from blender_talkhead.bake.results import TAKE_DISTANCE_M, bake_results, bake_results_steps
from blender_talkhead.command_options import parse_options
from blender_talkhead.contract.errors import BackendError, BadInputError, TalkHeadError
from blender_talkhead.contract.jobs import FaceTalkSettings
from blender_talkhead.operators.kept_results import list_results, trim_results
from blender_talkhead.operators.request import start_job
from blender_talkhead.preferences import read_preferences, results_folder
from blender_talkhead.reporting import JobReporter
from blender_talkhead.scene import preview
from blender_talkhead.scene.mesh import read_evaluated_positions
from blender_talkhead.session import session
from blender_talkhead.ui.performance import why_not_apply
from blender_talkhead.ui.reasons import why_not_animate
from blender_talkhead.ui.takes import list_takes
from tests.in_blender.file_state import file_state
from tests.in_blender.scenarios import START, expect_error, new_scene
from tests.in_blender.ui_scenarios import enabled, recording, use_fake_backend
from tests.synthetic_clip import make_ball

NUM_FRAMES = 10


def takes_of_facetalk(folder: Path, surface: str) -> None:
    """Three takes from the panel: heads side by side, one that is heard, provenance, and none of it after removal."""
    audio = begin(folder)
    with enabled(folder):
        settings = choose(audio, surface, takes=3, take=2)
        bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
        before = file_state()
        assert why_not_animate(bpy.context) == ""
        assert bpy.ops.talkhead.animate() == {"FINISHED"}
        take = session.job.take if session.job is not None else None
        assert take is not None and len(take.further) == 2
        heads = [bpy.data.objects[each.object_name] for each in (take, *take.further)]
        assert len({head.name for head in heads}) == 3
        for number, head in enumerate(heads):
            expected = (1.0 + number * TAKE_DISTANCE_M, 2.0, 3.0)
            np.testing.assert_allclose(head.matrix_world.translation, expected, atol=1e-6)
            provenance = read_provenance(take_action(head))
            assert provenance is not None and provenance["method"] == "facetalk"
            assert provenance["options"]["take"] == 2 + number and provenance["bake"]["start"] == START
        strips = sorted(compat.existing_strips(bpy.context.scene), key=lambda strip: strip.channel)
        if compat.has_sound():
            assert [strip.mute for strip in strips] == [False, True, True]
            assert [strip.get("talkhead_object") for strip in strips] == [head.name for head in heads]
        assert sorted(row.object_name for row in list_takes()) == sorted(head.name for head in heads)
        assert f"speak: {take.num_scene_frames} frames" in session.notes[-1].text
        assert take.num_scene_frames == NUM_FRAMES, "24 frames a second in a scene of 24"
        if surface == "sequence":
            check_balls(heads[0], take=2)
            settings.target_kind, settings.target = "OBJECT", heads[0]
            settings.surface, settings.takes = "tracked", 1
            assert "shows a mesh sequence" in why_not_animate(bpy.context)
            bpy.context.view_layer.objects.active = heads[0]
            assert "no controls" in why_not_apply(bpy.context)
            bpy.context.view_layer.objects.active = None
            settings.target_kind, settings.target = "NEW", None
            settings.surface, settings.takes = surface, 3
        for head in heads:
            remove_head(head)
        bpy.context.scene.sync_mode = "NONE"
        bpy.context.scene.frame_set(1)
        assert file_state() == before
        close_shared_worker()


def failed_takes_leave_nothing(folder: Path, surface: str) -> None:
    """A second take that is damaged, or a bake that is closed, takes the first one back."""
    audio = begin(folder)
    python = use_fake_backend(folder, "damage")
    settings = facetalk(audio, surface, takes=2, bake="cache" if surface == "tracked" else "basis")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    scene = bpy.context.scene
    before = file_state()
    expect_error(BackendError, "damaged", lambda: animate_blocking(settings, scene, python))
    assert file_state() == before and not list(folder.glob("*.pc2"))
    close_shared_worker()
    os.environ["FAKE_BACKEND"] = ""
    results = [folder / "clip", folder / "clip-2"]
    make_results(settings, python, results[0])
    steps = bake_results_steps(settings, results, scene)
    while next(steps) < 0.7:
        pass
    assert len(bpy.data.objects) > 0
    steps.close()
    assert file_state() == before and not list(folder.glob("*.pc2"))
    take = bake_results(settings, results, scene)
    assert len(take.further) == 1
    close_shared_worker()


def sequences_from_the_command(folder: Path) -> None:
    """The command bakes a sequence at 24 frames a second, tells its takes, renders a preview, keeps its results."""
    audio = begin(folder)
    log = folder / "log"
    os.environ["FAKE_BACKEND_LOG"] = str(log)
    preview.STILL_SIZE_PX = 48
    words = f"animate {audio} --method facetalk --surface sequence --grid 48 --takes 2 --cache {folder / 'kept'}"
    words += f" --output {folder / 'out.blend'} --preview {folder / 'out.png'} --bake per-frame"
    for _ in range(2):
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        reporter = Remembering()
        assert command_line.run(parse_options(words.split()), reporter) == 0
        (result,) = reporter.results
        assert result["bake"] == "mesh-sequence" and result["num_frames"] == NUM_FRAMES
        assert [each["object"] for each in result["further"]] == ["TalkHead surface.001"]
        assert "--bake per-frame does not apply to a mesh sequence" in reporter.warnings
        bpy.ops.wm.open_mainfile(filepath=str(folder / "out.blend"))
        assert bpy.context.scene.render.fps == 24 and bpy.context.scene.frame_end == NUM_FRAMES
        check_balls(bpy.data.objects[result["object"]], take=1, start=1)
        assert (folder / "out.png").stat().st_size > 1000
    begun = [line for line in log.read_text().splitlines() if line.startswith("take")]
    assert begun == ["take 1 from frame 0", "take 2 from frame 0"], "the second run found both"


def stopped_sequences_go_on(folder: Path) -> None:
    """A sequence whose backend was killed goes on where it stopped when the panel asks for it again."""
    audio = begin(folder)
    log = folder / "log"
    os.environ |= {"FAKE_BACKEND_LOG": str(log), "FAKE_BACKEND_SECONDS": "0.1"}
    with enabled(folder):
        choose(audio, "sequence")
        before = file_state()
        job = session.job = start_job(bpy.context)
        tick_until(lambda: job.phase == "making surfaces" and job.fraction > 0.4)
        job.cancel()
        assert "goes on where it stopped" in job.cancel_remark
        job.abandon()
        assert job.was_cancelled and file_state() == before
        os.environ["FAKE_BACKEND_SECONDS"] = "0"
        assert bpy.ops.talkhead.animate() == {"FINISHED"}
        check_balls(bpy.data.objects["TalkHead surface"], take=1)
        first, second = (int(line.split()[-1]) for line in log.read_text().splitlines() if line.startswith("take"))
        assert first == 0 < second < NUM_FRAMES
        kept = results_folder(read_preferences())
        assert len(list_results(kept)) == 1
        assert bpy.ops.talkhead.clear_cache() == {"FINISHED"}
        assert not list_results(kept)
        close_shared_worker()


def kept_results_are_trimmed(folder: Path) -> None:
    """What was unused for longest goes first; nothing else is touched."""
    for number in range(4):
        entry = folder / f"entry-{number}"
        entry.mkdir()
        (entry / "vertices.npy").write_bytes(bytes(1000))
        os.utime(entry, (1e9 + number, 1e9 + number))
    (folder / "mine.txt").write_text("a")
    os.utime(folder / "entry-0", (2e9, 2e9))
    assert trim_results(folder, 2500.0) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["entry-0", "entry-3", "mine.txt"]
    assert trim_results(folder, 0.0) == 2 and trim_results(folder / "nowhere", 0.0) == 0


def facetalk_says_why_not(folder: Path) -> None:
    """What the panel refuses with a reason, the job refuses too."""
    audio = begin(folder)
    with enabled(folder):
        settings = choose(audio, "tracked")
        mesh = bpy.data.meshes.new("face")
        mesh.from_pydata([(0.0, 0.0, 0.001 * number) for number in range(200)], [], [])
        face = bpy.data.objects.new("face", mesh)
        bpy.context.scene.collection.objects.link(face)
        bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))

        def reason(**values: Any) -> str:
            kept = {name: getattr(settings, name) for name in values}
            for name, value in values.items():
                setattr(settings, name, value)
            text = why_not_animate(bpy.context)
            if text:
                try:
                    start_job(bpy.context).abandon()
                except TalkHeadError:
                    pass
                else:
                    assert "weights" in text or "cache file" in text, text
            for name, value in kept.items():
                setattr(settings, name, value)
            return text

        assert reason() == ""
        on_face = {"target_kind": "OBJECT", "target": face}
        assert "New Head" in reason(surface="sequence", **on_face)
        assert "one take" in reason(takes=2, **on_face)
        assert "one take" in reason(takes=2, bake="cache")
        assert reason(surface="sequence", takes=2, bake="cache") == ""
        assert "no fitted scan" in reason(scan=str(audio)) and "There is no" in reason(scan="//gone.safetensors")
        (folder / "scan.safetensors").write_bytes(b"a")
        assert reason(scan=str(folder / "scan.safetensors")) == ""
        assert reason(scan="//scan.safetensors", surface="sequence") == ""
        session.report = PythonReport(Path("python"), facts={"weights": [{"name": "mmtalker"}]})
        assert "weights of FaceTalk" in reason()
        session.report = PythonReport(Path("python"), facts={"weights": [{"name": "facetalk"}]})
        assert reason() == "" and "weights of the neural head" in reason(surface="sequence")
        session.report = None
        for wrong in ({"takes": 2}, {"surface": "sequence"}):
            refuse(AnimationSettings(audio, target="face", facetalk=FaceTalkSettings(**wrong)), "New Head", folder)
        refuse(AnimationSettings(audio, identity=str(folder / "gone.safetensors")), "no fitted scan", folder)
        close_shared_worker()


def refuse(settings: AnimationSettings, text: str, folder: Path) -> None:
    asked = dataclasses.replace(settings, method="facetalk")
    expect_error(BadInputError, text, lambda: prepare_animation(asked, bpy.context.scene, folder / "x"))


class Remembering(JobReporter):
    """Keeps results and warnings."""

    def __init__(self) -> None:
        super().__init__(as_json=False)
        self.results: list[dict[str, Any]] = []

    def done(self, result: dict[str, Any], text: str) -> None:
        self.results.append(json.loads(json.dumps(result)))
        super().done(result, text)


def begin(folder: Path) -> Path:
    """An empty scene at 24 frames a second, a recording, and the made-up backend."""
    new_scene(24.0)
    use_fake_backend(folder)
    os.environ["FAKE_BACKEND_FRAMES"] = str(NUM_FRAMES)
    return recording(folder)


def choose(audio: Path, surface: str, **values: Any) -> Any:
    bpy.context.scene.render.fps = 24
    settings = bpy.context.scene.talkhead
    settings.audio, settings.start, settings.method, settings.surface = str(audio), START, "facetalk", surface
    settings.grid = 48
    for name, value in values.items():
        setattr(settings, name, value)
    return settings


def facetalk(audio: Path, surface: Any, takes: int = 1, bake: Any = "basis") -> AnimationSettings:
    chosen = FaceTalkSettings(surface=surface, takes=takes, grid=48)
    return AnimationSettings(audio, method="facetalk", start=START, bake=bake, facetalk=chosen)


def make_results(settings: AnimationSettings, python: Path, output: Path) -> None:
    job = prepare_animation(settings, bpy.context.scene, output)
    shared_worker(python).run_job(job, lambda message: None)


def check_balls(item: Any, take: int, start: int = START) -> None:
    """Every frame shows its own ball, whose size is that of its take and frame."""
    for index in (0, 4, NUM_FRAMES - 1):
        bpy.context.scene.frame_set(start + index)
        positions = read_evaluated_positions(item, bpy.context.evaluated_depsgraph_get())
        ball = make_ball(6 + index % 3, 0.1 * index + take)
        expected = ball.vertices[:, [0, 2, 1]] * (1.0, -1.0, 1.0)
        np.testing.assert_allclose(positions, expected, atol=1e-6)


def tick_until(is_there: Any) -> None:
    job = session.job
    assert job is not None
    for _ in range(1200):
        job.tick()
        if is_there():
            return
        assert not job.is_finished, job.error
        time.sleep(0.05)
    raise AssertionError(f"still {job.phase} {job.fraction}")
