"""The one headless command: `blender -b --command talkhead ...` and `python -m blender_talkhead ...`.

Only this module calls Blender's operators: it opens, renders and saves; everything else is a function of its own.
"""

from __future__ import annotations

import logging
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import bpy

from . import compat
from .backend_client.backend_info import ask_backend_info
from .backend_client.process import run_backend
from .backend_client.python_environment import find_backend_python
from .bake.disk_space import count_clip_frames, require_free_space, require_possible_bake
from .bake.inventory import list_heads, remove_head
from .bake.mesh_cache import cache_path
from .bake.provenance import read_provenance, take_action
from .bake.take import BakeMode, BakeSettings, Take, bake_take
from .command_options import AnimateOptions, InfoOptions, Options, RemoveOptions, parse_options
from .contract.errors import BackendError, BadInputError, ExitCode, OutputError, TalkHeadError
from .contract.messages import Message, ProgressMessage, WarningMessage
from .contract.motion_clip import MotionClip, load_motion_clip
from .contract.version import read_version
from .output_files import OutputFiles
from .reporting import JobReporter, WarningForwarder
from .scene import preview, stage, timeline
from .scene.film_file import is_complete_mp4
from .scene.mesh import OBJECT_NAME, read_rest_positions
from .scene.restore import unchanged_on_error
from .terminal import mute_stderr, silence, stop_if_interrupted, take_over_stdout, termination_as_interrupt

CLIP_RATE = 30.0
"""Frames per second of MMTalker: what can be checked before the backend has answered is checked with it."""
_TYPICAL_VERTICES = 12_000
_BYTES_PER_PICTURE = 400_000
_BACKEND_PART, _BAKE_PART, _PREVIEW_PART = 0.5, 0.6, 0.97
"""Fractions of the whole job at which its steps end."""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str], program: str = "talkhead") -> int:
    """Run the headless command in this process; returns its exit code.

    stdout carries only JSON lines (with --json): what Blender prints goes to stderr from here on.
    """
    try:
        options = parse_options(arguments, program)
    except SystemExit as stop:
        return int(stop.code or 0)
    code = run(options, JobReporter(options.json, output=take_over_stdout()))
    if code == ExitCode.CANCELLED:
        mute_stderr()
    return code


def run(options: Options, reporter: JobReporter) -> int:
    """Run parsed options; every error is reported. Returns the exit code."""
    forwarder = WarningForwarder(reporter)
    package_logger = logging.getLogger(__package__)
    package_logger.addHandler(forwarder)
    try:
        with termination_as_interrupt():
            if isinstance(options, AnimateOptions):
                AnimateJob(options, reporter).run()
            elif isinstance(options, RemoveOptions):
                remove(options, reporter)
            else:
                show_info(options, reporter)
    except TalkHeadError as error:
        reporter.error(error.exit_code, str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        reporter.error(ExitCode.CANCELLED, "cancelled; nothing was written")
        return int(ExitCode.CANCELLED)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        logger.debug("the job failed", exc_info=True)
        reporter.error(ExitCode.FAILED, f"{type(error).__name__}: {error}")
        return int(ExitCode.FAILED)
    finally:
        package_logger.removeHandler(forwarder)
    return int(ExitCode.DONE)


class AnimateJob:
    """One `animate`: recording -> backend -> take -> preview -> .blend file.

    On any error nothing was written and the open file is as it was.
    """

    def __init__(self, options: AnimateOptions, reporter: JobReporter) -> None:
        self._options = options
        self._reporter = reporter
        self._is_new = True
        self._scene: Any = None
        self._target: Any = None

    def run(self) -> Take:
        """Do the job.

        Raises:
            TalkHeadError: as the exit codes say.
        """
        options = self._options
        if not options.audio.is_file():
            raise BadInputError(f"there is no recording {options.audio}")
        self._is_new = open_scene_file(options.file)
        self._scene = bpy.context.scene
        self._target = self._find_target()
        if options.fps is not None and not self._is_new:
            logger.warning("--fps is for a new scene; this file keeps its %.6g frames per second", self._rate())
        blend_file = options.output or options.file or (_open_file() if options.preview is None else None)
        home = (blend_file or options.preview or Path.cwd()).parent
        with OutputFiles() as files:
            cache = self._cache_file(blend_file)
            partial_cache = files.reserve(cache) if cache else None
            partial_preview = files.reserve(options.preview) if options.preview else None
            partial_blend = files.reserve(blend_file) if blend_file else None
            self._refuse_impossible_job(home)
            clip = self._run_method(files.scratch_folder(home))
            with unchanged_on_error(self._scene, self._target):
                take, sound = self._bake(clip, partial_cache, home)
                self._dress_and_preview(clip, take, partial_preview, files)
                if partial_blend is not None and blend_file is not None:
                    self._reporter.progress("saving", _PREVIEW_PART)
                    self._point_to_files(take, sound, cache, blend_file.parent)
                    save_copy(partial_blend)
                stop_if_interrupted()
                files.commit()
        self._report(take, blend_file, cache)
        return take

    def _rate(self) -> float:
        if self._is_new and self._target is None:
            return self._options.fps or CLIP_RATE
        return timeline.scene_rate(self._scene)

    def _find_target(self) -> Any:
        name = self._options.target
        if name is None:
            return None
        target = bpy.data.objects.get(name)
        if target is None:
            raise BadInputError(f'there is no object "{name}" in the file; leave out --target to make a new head')
        if target.type != "MESH":
            raise BadInputError(f'--target "{name}" must be a mesh, it is a {target.type.lower()}')
        return target

    def _cache_file(self, blend_file: Path | None) -> Path | None:
        if self._options.bake != "cache" or blend_file is None:
            return None
        name = re.sub(r"[^\w.-]", "_", self._target.name if self._target else _free_object_name())
        return blend_file.with_name(f"{blend_file.stem}_{name}.pc2")

    def _refuse_impossible_job(self, home: Path) -> None:
        """Check what can be known before the backend runs; the exact numbers are checked again before the bake."""
        options = self._options
        seconds = timeline.measure_duration(options.audio)
        if seconds is None:
            return
        num_vertices = options.vertices or _TYPICAL_VERTICES
        if self._target is not None:
            num_vertices = len(self._target.data.vertices)
        num_frames = count_clip_frames(seconds, CLIP_RATE, self._rate())
        require_possible_bake(options.bake, num_frames, num_vertices, home)
        clip_bytes = int(seconds * CLIP_RATE) * num_vertices * 12
        if options.preview is not None and options.preview.suffix.lower() == ".mp4":
            clip_bytes += num_frames * _BYTES_PER_PICTURE
        require_free_space(home, clip_bytes, "the motion, while it is being baked,")

    def _run_method(self, folder: Path) -> MotionClip:
        options = self._options
        python = find_backend_python()
        earlier = read_provenance(take_action(self._target)) if self._target is not None else None
        known = {} if earlier is None else {**earlier.get("options", {}), "seed": earlier.get("seed")}
        result = folder / "clip"
        arguments = ["animate", str(options.audio), "--method", "mmtalker", "--output", str(result), "--json"]
        arguments += ["--device", options.device]
        for name in ("vertices", "identity", "seed"):
            given = getattr(options, name)
            value = known.get(name) if given is None else given
            if value is not None:
                arguments += [f"--{name}", str(value)]

        def forward(message: Message) -> None:
            if isinstance(message, ProgressMessage):
                self._reporter.progress(message.phase, _BACKEND_PART * message.fraction, message.seconds_left)
            elif isinstance(message, WarningMessage):
                self._reporter.warning(message.text)

        self._reporter.progress("starting the backend", 0.0)
        run_backend(python, arguments, forward)
        return load_motion_clip(result)

    def _bake(self, clip: MotionClip, partial_cache: Path | None, home: Path) -> tuple[Take, Any]:
        options, scene = self._options, self._scene
        if self._is_new and self._target is None:
            timeline.set_scene_rate(scene, options.fps or clip.info.frame_rate)
        rate = timeline.scene_rate(scene)
        num_frames = count_clip_frames((clip.num_frames - 1) / clip.info.frame_rate, clip.info.frame_rate, rate)
        require_possible_bake(options.bake, num_frames, clip.num_vertices, home)
        settings = BakeSettings(cast(BakeMode, options.bake), options.start, cache_file=partial_cache)
        take = bake_take(clip, settings, scene, self._target, self._reporter.step("baking", _BACKEND_PART, _BAKE_PART))
        timeline.remove_strips(scene, timeline.strips_of_head(scene, take.object_name))
        sound = timeline.add_sound_strip(scene, options.audio, options.start, take.object_name)
        timeline.set_frame_range(scene, options.start, take.num_scene_frames, self._is_new)
        return take, sound

    def _dress_and_preview(
        self, clip: MotionClip, take: Take, partial_preview: Path | None, files: OutputFiles
    ) -> None:
        """Light a new scene; render the preview in a scene of its own, which is gone afterwards."""
        if not self._is_new and partial_preview is None:
            return
        head = bpy.data.objects[take.object_name]
        set_, world = stage.build_stage(head, read_rest_positions(head.data)), stage.create_world()
        if partial_preview is not None:
            frame = self._scene.frame_current
            scene = preview.create_preview_scene(self._scene, head, set_, world)
            if partial_preview.suffix.lower() == ".png":
                self._render_still(scene, clip, partial_preview)
            else:
                self._render_film(scene, take, partial_preview, files)
            preview.remove_preview_scene(scene)
            self._scene.frame_set(frame)
        if self._is_new:
            self._scene.collection.children.link(set_)
            self._scene.camera = stage.stage_camera(set_)
            self._scene.world = world
            preview.set_render_look(self._scene)
        else:
            stage.remove_stage(set_, world)

    def _render_still(self, scene: Any, clip: MotionClip, picture: Path) -> None:
        self._reporter.progress("rendering", _BAKE_PART)
        frame = preview.choose_still_frame(clip, timeline.scene_rate(self._scene), self._options.start)
        preview.set_still(scene, self._scene, frame, picture)
        render(scene, picture)

    def _render_film(self, scene: Any, take: Take, film: Path, files: OutputFiles) -> None:
        folder = files.scratch_folder(film.parent)
        report = self._reporter.step("rendering", _BAKE_PART, _PREVIEW_PART)
        pictures = []
        for index in range(take.num_scene_frames):
            picture = folder / f"{index + 1:06d}.png"
            preview.set_film_frame(scene, self._scene, self._options.start + index, picture)
            render(scene, picture)
            pictures.append(picture)
            report((index + 1) / (take.num_scene_frames + 1))
        film_scene = preview.create_film_scene(scene, pictures, self._options.audio, film)
        render(film_scene, film, animation=True)
        preview.remove_preview_scene(film_scene)

    def _point_to_files(self, take: Take, sound: Any, cache: Path | None, folder: Path) -> None:
        """Let the .blend file refer to its recording and cache relative to itself."""
        if sound is not None:
            sound.sound.filepath = _path_for_saving(self._options.audio, folder)
        if cache is not None:
            modifier = next(m for m in bpy.data.objects[take.object_name].modifiers if m.type == "MESH_CACHE")
            modifier.filepath = _path_for_saving(cache, folder)

    def _report(self, take: Take, blend_file: Path | None, cache: Path | None) -> None:
        options = self._options
        result = {
            "output": None if blend_file is None else str(blend_file),
            "preview": None if options.preview is None else str(options.preview),
            "cache": None if cache is None else str(cache),
            "object": take.object_name,
            "action": take.action_name,
            "bake": options.bake,
            "num_frames": take.num_scene_frames,
            "num_shape_keys": take.num_shape_keys,
            "max_error_mm": round(take.max_error_mm, 6),
        }
        detail = f"{take.num_scene_frames} frames"
        if options.bake == "basis":
            detail += f", {take.num_shape_keys} shape keys, at most {take.max_error_mm:.3f} mm from the motion"
        written = " and ".join(str(path) for path in (blend_file, options.preview) if path is not None)
        self._reporter.done(result, f"done: {written} ({detail})")


def remove(options: RemoveOptions, reporter: JobReporter) -> None:
    """Remove a head with its takes, sound and, once the file is saved, its cache.

    Raises:
        BadInputError: no file, or no such head in it.
        OutputError: the file cannot be written.
    """
    if open_scene_file(options.file):
        raise BadInputError("remove needs a file: give --file FILE.blend")
    head = bpy.data.objects.get(options.name)
    if head is None or take_action(head) is None:
        raise BadInputError(f'there is no head "{options.name}" with a take of TalkHead in the file')
    blend_file = options.output or options.file or _open_file()
    if blend_file is None:
        raise BadInputError("remove needs a file: give --file FILE.blend")
    stored = cache_path(head)
    cache = None if stored is None else Path(bpy.path.abspath(stored))
    with OutputFiles() as files:
        partial = files.reserve(blend_file)
        remove_head(head)
        save_copy(partial)
        files.commit()
    if cache is not None and blend_file in (options.file, _open_file()) and cache.parent == blend_file.parent:
        cache.unlink(missing_ok=True)
    result = {"output": str(blend_file), "object": options.name}
    reporter.done(result, f'done: removed "{options.name}" from {blend_file}')


def show_info(options: InfoOptions, reporter: JobReporter) -> None:
    """Tell versions, the heads of the file, and what the backend says of itself.

    Raises:
        BackendError: the backend is missing or broken; the rest was told before.
    """
    facts: dict[str, Any] = {
        "talkhead": read_version(),
        "blender": compat.blender_version(),
        "python": platform.python_version(),
        "sound": compat.has_sound(),
        "video": compat.has_video(),
    }
    if options.file is not None or _open_file() is not None:
        open_scene_file(options.file)
        facts["heads"] = list_heads()
    failure: BackendError | None = None
    try:
        facts["backend"] = ask_backend_info()
    except BackendError as error:
        facts["backend"] = None
        failure = error
    reporter.done(facts, "\n".join(f"{name}: {value}" for name, value in facts.items()))
    if failure is not None:
        raise failure


def open_scene_file(file: Path | None) -> bool:
    """Open a .blend file. Without one, keep the open file; a session without a file starts empty.

    Returns:
        Whether the scene is a new one.

    Raises:
        BadInputError: the file is missing or not a .blend file.
    """
    if file is not None:
        if not file.is_file():
            raise BadInputError(f"there is no file {file}")
        try:
            bpy.ops.wm.open_mainfile(filepath=str(file), load_ui=False)
        except RuntimeError as error:
            raise BadInputError(f"cannot open {file}: {str(error).strip()}") from error
        return False
    if bpy.data.filepath:
        return False
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return True


def render(scene: Any, path: Path, animation: bool = False) -> None:
    """Render a prepared scene into its file.

    Raises:
        OutputError: the picture or film was not written.
    """
    try:
        stop_if_interrupted()
        with silence():
            bpy.ops.render.render(animation=animation, write_still=not animation, scene=scene.name)
    except RuntimeError as error:
        stop_if_interrupted()
        raise OutputError(f"cannot render {path.name}: {str(error).strip()}") from error
    stop_if_interrupted()
    if not path.is_file() or path.stat().st_size == 0 or (animation and not is_complete_mp4(path)):
        raise OutputError(f"cannot write {path.name}; is the disk full?")


def save_copy(path: Path) -> None:
    """Save the session as a compressed .blend file, without making it the open one.

    Raises:
        OutputError: the disk is full or not writable.
    """
    path.unlink(missing_ok=True)  # Blender would keep the reserved empty file as a backup
    try:
        with silence():  # a path that is right where the file will lie is reported as missing here
            bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True, compress=True, relative_remap=True)
    except RuntimeError as error:
        raise OutputError(f"cannot save the .blend file: {str(error).strip()}") from error


def _open_file() -> Path | None:
    return Path(bpy.data.filepath) if bpy.data.filepath else None


def _free_object_name() -> str:
    name, number = OBJECT_NAME, 0
    while name in bpy.data.objects:
        number += 1
        name = f"{OBJECT_NAME}.{number:03d}"
    return name


def _path_for_saving(path: Path, folder: Path) -> str:
    """Return the path that becomes relative to `folder` when a copy of the open file is saved there.

    Blender moves the relative paths of a saved file along, and leaves those of an unsaved one as they are.
    """
    base = Path(bpy.data.filepath).parent if bpy.data.filepath else folder
    try:
        return "//" + os.path.relpath(path, base).replace(os.sep, "/")
    except ValueError:  # another drive
        return str(path)
