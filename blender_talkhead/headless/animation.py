"""One `animate` of the headless command: recording -> backend -> take -> preview -> .blend file."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, cast

import bpy

from ..backend_client.python_environment import find_backend_python
from ..backend_client.shared_worker import shared_worker
from ..bake.animation import (
    TYPICAL_VERTICES,
    AnimationSettings,
    free_object_name,
    prepare_animation,
    require_recording,
)
from ..bake.disk_space import count_clip_frames, require_free_space
from ..bake.mesh_cache import MODIFIER_NAME, free_cache_file
from ..bake.results import bake_results, read_kind
from ..bake.take import BakeMode, Take
from ..bake.targets import find_target
from ..command_options import AnimateOptions
from ..contract import mesh_sequence as mesh_sequences
from ..contract.errors import BackendError
from ..contract.jobs import CLIP_RATES
from ..contract.mesh_sequence import load_mesh_sequence
from ..contract.messages import DoneMessage, Message, ProgressMessage, WarningMessage
from ..contract.motion_clip import load_motion_clip
from ..output_files import OutputFiles
from ..preferences import environment_folder, read_preferences
from ..reporting import JobReporter
from ..scene import preview, stage, timeline
from ..scene.coordinates import to_blender_axes
from ..scene.mesh import read_rest_positions
from ..scene.restore import unchanged_on_error
from ..terminal import stop_if_interrupted
from .files import open_file, open_scene_file, render, save_copy

_BYTES_PER_PICTURE = 400_000
_BACKEND_PART, _BAKE_PART, _PREVIEW_PART = 0.55, 0.6, 0.97
"""Fractions of the whole job at which its steps end."""

logger = logging.getLogger(__name__)


def backend_python() -> Path:
    """Return the Python that has torch: that of the preferences, of TALKHEAD_PYTHON, the extension's own, and so on.

    Raises:
        BackendError: there is none.
    """
    return find_backend_python(preferred=read_preferences().python, own_environment=environment_folder())


class HeadlessAnimation:
    """One recording onto one head, in a file of its own.

    On any error nothing was written and the open file is as it was.

    Args:
        options: what to do.
        reporter: is told progress and warnings.
        starts_empty: without a file, begin with an empty scene even where a file is open.
    """

    def __init__(self, options: AnimateOptions, reporter: JobReporter, starts_empty: bool = False) -> None:
        self._options = options
        self._starts_empty = starts_empty
        self._reporter = reporter
        self._is_new = True
        self._scene: Any = None

    def run(self) -> dict[str, Any]:
        """Do the job; returns what `done` tells.

        Raises:
            TalkHeadError: as the exit codes say.
        """
        options = self._options
        require_recording(options.audio)
        self._is_new = open_scene_file(options.file, self._starts_empty)
        self._scene = bpy.context.scene
        target = find_target(options.target)
        blend_file = options.output or options.file or (open_file() if options.preview is None else None)
        home = (blend_file or options.preview or Path.cwd()).parent
        with OutputFiles() as files, unchanged_on_error(self._scene, target):
            self._set_rate(target)
            cache = self._cache_file(blend_file)
            partial_preview = None
            settings = self._settings(files.reserve(cache) if cache else None)
            if options.preview is not None:
                partial_preview = files.reserve(options.preview)
                self._require_space_for_film(home)
            partial_blend = files.reserve(blend_file) if blend_file else None
            folders = self._run_backend(settings, files.scratch_folder(home) / "clip")
            take = self._bake(settings, folders)
            self._dress_and_preview(folders[0], take, partial_preview, files)
            if partial_blend is not None and blend_file is not None:
                self._reporter.progress("saving", _PREVIEW_PART)
                self._point_to_files(take, cache, blend_file.parent)
                save_copy(partial_blend)
            stop_if_interrupted()
            files.commit()
        if settings.makes_sequence and options.bake != "basis":
            self._reporter.warning(f"--bake {options.bake} does not apply to a mesh sequence")
        for warning in (text for each in (take, *take.further) for text in each.warnings):
            self._reporter.warning(warning)
        return self._result(take, blend_file, cache)

    def _settings(self, cache_file: Path | None) -> AnimationSettings:
        options = self._options
        return AnimationSettings(
            audio=options.audio,
            target=options.target,
            method=options.method,
            vertices=options.vertices,
            identity=options.identity,
            seed=options.seed,
            device=options.device,
            bake=cast(BakeMode, options.bake),
            start=options.start,
            extend_range=options.extend_range or self._is_new,
            cache_file=cache_file,
            facetalk=options.facetalk,
        )

    def _set_rate(self, target: Any | None) -> None:
        fps = self._options.fps
        if self._is_new and target is None:
            timeline.set_scene_rate(self._scene, fps or CLIP_RATES[self._options.method])
        elif fps is not None:
            rate = timeline.scene_rate(self._scene)
            logger.warning("--fps is for a new scene; this file keeps its %.6g frames per second", rate)

    def _cache_file(self, blend_file: Path | None) -> Path | None:
        if self._options.bake != "cache" or blend_file is None or self._options.facetalk.surface == "sequence":
            return None
        return free_cache_file(blend_file, self._options.target or free_object_name(), is_new=True)

    def _require_space_for_film(self, home: Path) -> None:
        """Check the free disk for the pictures of a film, which lie beside it until it is made."""
        options = self._options
        seconds = timeline.measure_duration(options.audio)
        if options.preview is None or options.preview.suffix.lower() != ".mp4" or seconds is None:
            return
        rate = CLIP_RATES[options.method]
        num_frames = count_clip_frames(seconds, rate, timeline.scene_rate(self._scene))
        motion = int(seconds * rate) * (options.vertices or TYPICAL_VERTICES) * 12
        require_free_space(home, motion + num_frames * _BYTES_PER_PICTURE, "the preview, while it is being made,")

    def _run_backend(self, settings: AnimationSettings, output: Path) -> list[Path]:
        """Return the result folders, one for each take."""
        job = prepare_animation(settings, self._scene, output)
        worker = shared_worker(backend_python())

        def forward(message: Message) -> None:
            if isinstance(message, ProgressMessage):
                self._reporter.progress(message.phase, _BACKEND_PART * message.fraction, message.seconds_left)
            elif isinstance(message, WarningMessage):
                self._reporter.warning(message.text)

        self._reporter.progress("starting the backend", 0.0)
        done = worker.run_job(job, forward)
        if not isinstance(done, DoneMessage):
            raise BackendError(f"the backend ended without a result folder, with {done}; install it again")
        return [Path(folder) for folder in (done.folder, *done.more_folders)]

    def _bake(self, settings: AnimationSettings, folders: list[Path]) -> Take:
        take = bake_results(settings, folders, self._scene, self._reporter.step("baking", _BACKEND_PART, _BAKE_PART))
        if self._is_new:
            timeline.set_frame_range(self._scene, settings.start, take.num_scene_frames, is_new=True)
            self._scene.use_audio_scrub = True
        return take

    def _dress_and_preview(self, result: Path, take: Take, partial_preview: Path | None, files: OutputFiles) -> None:
        """Light a new scene; render the preview in a scene of its own, which is gone afterwards."""
        if not self._is_new and partial_preview is None:
            return
        head = bpy.data.objects[take.object_name]
        rest = read_rest_positions(head.data)
        if not len(rest):  # a mesh sequence, whose object shows others
            rest = to_blender_axes(load_mesh_sequence(result).read_frame(0).vertices)
        set_, world = stage.build_stage(head, rest), stage.create_world()
        if partial_preview is not None:
            frame = self._scene.frame_current
            scene = preview.create_preview_scene(self._scene, head, set_, world)
            if partial_preview.suffix.lower() == ".png":
                self._render_still(scene, result, take, partial_preview)
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

    def _render_still(self, scene: Any, result: Path, take: Take, picture: Path) -> None:
        self._reporter.progress("rendering", _BAKE_PART)
        if read_kind(result) == mesh_sequences.KIND:
            frame = self._options.start + take.num_scene_frames // 2
        else:
            clip = load_motion_clip(result)
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

    def _point_to_files(self, take: Take, cache: Path | None, folder: Path) -> None:
        """Let the .blend file refer to its recording and cache relative to itself."""
        strips = [(strip, each) for each in (take, *take.further) for strip in self._strips_of(each)]
        for strip, each in strips:
            if strip.name == each.strip_name and strip.sound is not None:
                strip.sound.filepath = _path_for_saving(self._options.audio, folder)
        if cache is not None:
            modifier = bpy.data.objects[take.object_name].modifiers[MODIFIER_NAME]
            modifier.filepath = _path_for_saving(cache, folder)

    def _strips_of(self, take: Take) -> list[Any]:
        return timeline.strips_of_head(self._scene, take.object_name)

    def _result(self, take: Take, blend_file: Path | None, cache: Path | None) -> dict[str, Any]:
        preview_file = self._options.preview
        is_sequence = self._options.facetalk.surface == "sequence"
        return {
            "output": None if blend_file is None else str(blend_file),
            "preview": None if preview_file is None else str(preview_file),
            "cache": None if cache is None else str(cache),
            "object": take.object_name,
            "action": take.action_name,
            "bake": "mesh-sequence" if is_sequence else self._options.bake,
            "num_frames": take.num_scene_frames,
            "num_shape_keys": take.num_shape_keys,
            "max_error_mm": round(take.max_error_mm, 6),
            "further": [{"object": each.object_name, "action": each.action_name} for each in take.further],
        }


def describe_result(result: dict[str, Any]) -> str:
    """Return the result of `HeadlessAnimation.run` as a line for people."""
    detail = f"{result['num_frames']} frames"
    if result["bake"] == "basis":
        detail += f", {result['num_shape_keys']} shape keys, at most {result['max_error_mm']:.3f} mm from the motion"
    if result["further"]:
        count = len(result["further"])
        detail += f", and {count} further take{'s' if count > 1 else ''}"
    written = " and ".join(result[name] for name in ("output", "preview") if result[name] is not None)
    return f"done: {written} ({detail})"


def _path_for_saving(path: Path, folder: Path) -> str:
    """Return the path that becomes relative to `folder` when a copy of the open file is saved there.

    Blender moves the relative paths of a saved file along, and leaves those of an unsaved one as they are.
    """
    base = Path(bpy.data.filepath).parent if bpy.data.filepath else folder
    try:
        return "//" + os.path.relpath(path, base).replace(os.sep, "/")
    except ValueError:  # another drive
        return str(path)
