"""Animate from Audio, the one path of operator, headless command and Python API.

`prepare_animation` checks and gives the backend's job; `bake_animation_steps` turns its result into a take, a piece at
a time, and changes the scene only in its last step.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import bpy

from ..backend_client.python_environment import find_backend_python
from ..backend_client.shared_worker import shared_worker
from ..contract.errors import BackendError, BadInputError, OutputError, UsageError
from ..contract.jobs import CLIP_RATES, METHODS, SCAN_SUFFIX, AnimateJob, Device, FaceTalkSettings, validate_job
from ..contract.messages import DoneMessage, Message, ProgressMessage, WarningMessage
from ..contract.motion_clip import MotionClip
from ..output_files import OutputFiles
from ..scene import timeline
from ..scene.character_store import read_shown_character, wanted_identity
from ..scene.created import CreatedBlocks
from ..scene.mesh import OBJECT_NAME
from ..scene.restore import unchanged_on_error
from .diagnosis import diagnose_take
from .disk_space import count_clip_frames, require_free_space, require_possible_bake
from .mesh_cache import free_cache_file
from .provenance import is_own_object, read_provenance, take_action
from .take import (
    BAKE_MODES,
    DEFAULT_ERROR_LIMIT_MM,
    BakeMode,
    BakeSettings,
    Take,
    build_take_steps,
    drop_replaced_meshes,
    exhaust,
    install_take,
    require_last_frame,
)
from .targets import find_target, require_usable_target

MIN_START, MAX_START = -100_000, 1_000_000
TYPICAL_VERTICES = 12_000
FACETALK_ERROR_LIMIT_MM = 0.1
"""The neural head is right to about a quarter of a millimetre; shape keys for less would store its own small errors."""
OWN_MESH = 0
"""In place of a number of vertices: the head's own mesh."""
_BUILD_PART = 0.95
_BACKEND_PART = 0.9


@dataclass(frozen=True)
class AnimationSettings:
    """What Animate from Audio is asked for."""

    audio: Path
    audio_start_seconds: float = 0.0
    """Where the animated section of the recording begins; it is heard and seen from `start` on."""
    audio_duration_seconds: float | None = None
    """Length of the section; None is all that follows."""
    target: str | None = None
    """Name of the object to animate; None makes a new head."""
    method: str = "mmtalker"
    vertices: int | None = None
    """Vertices of the skin; OWN_MESH is the head's own mesh; None is as the target has them, else OWN_MESH."""
    identity: str | None = None
    """Of the built-in head, as `facial.identities` reads it; None is that of the target, else the mean head."""
    seed: int | None = None
    """None is that of the target's last take, else 0."""
    device: str = "auto"
    bake: BakeMode = "basis"
    start: int = 1
    """Scene frame at which the section begins."""
    extend_range: bool = False
    """Widen the scene's frame range to hold the take."""
    cache_file: Path | None = None
    """Bake mode cache: the PC2 file; None is a new name beside the .blend file."""
    sound_strip: str | None = None
    """Name of a strip of the scene that plays the recording already: no other is added."""
    error_limit_mm: float | None = None
    """Bake mode basis: largest distance of any vertex in any frame from the motion; None is what the method's motion is
    worth (`basis_limit_mm`)."""
    facetalk: FaceTalkSettings = field(default_factory=FaceTalkSettings)
    """What FaceTalk alone is asked for; other methods ignore it."""

    @property
    def basis_limit_mm(self) -> float:
        """The limit of the bake mode basis."""
        if self.error_limit_mm is not None:
            return self.error_limit_mm
        return FACETALK_ERROR_LIMIT_MM if self.method == "facetalk" else DEFAULT_ERROR_LIMIT_MM

    @property
    def makes_sequence(self) -> bool:
        """Whether each frame gets a mesh of its own."""
        return self.method == "facetalk" and self.facetalk.surface == "sequence"


def prepare_animation(settings: AnimationSettings, scene: Any, output: Path) -> AnimateJob:
    """Check everything that can be known before the backend runs. Nothing is changed.

    Args:
        settings: what is asked for.
        scene: the scene to animate in, with its final frame rate.
        output: the result folder that the backend will write; its disk must have room.

    Returns:
        The job for the backend.

    Raises:
        BadInputError: recording, target or .blend file cannot be used, or there is too little free disk.
        UsageError: a setting is out of its range.
        OutputError: a folder cannot be written.
    """
    _require_settings(settings)
    require_recording(settings.audio)
    target = find_target(settings.target)
    if target is not None:
        _require_new_head(settings, target)
        require_usable_target(target, settings.bake)
    if settings.bake == "cache" and not settings.makes_sequence:
        _require_writable(cache_file_for(settings).parent)
    _require_possible(settings, scene, target, output)
    known = {} if target is None else _earlier_options(target)
    identity = known.get("identity") if settings.identity is None else settings.identity
    _require_scan(identity, settings.method)
    job = AnimateJob(
        audio=settings.audio.absolute(),
        output=output.absolute(),
        method=settings.method,
        vertices=(known.get("vertices") if settings.vertices is None else settings.vertices) or None,
        identity=None if identity is None else str(identity),
        seed=int(known.get("seed") or 0) if settings.seed is None else settings.seed,
        device=cast(Device, settings.device),
        scene_frame_rate=timeline.scene_rate(scene),
        audio_start_seconds=settings.audio_start_seconds,
        audio_duration_seconds=settings.audio_duration_seconds,
        basis_error_limit_mm=settings.basis_limit_mm if settings.bake == "basis" else None,
        **(settings.facetalk.as_fields() if settings.method == "facetalk" else {}),
    )
    validate_job(job)
    return job


def bake_animation_steps(settings: AnimationSettings, clip: MotionClip, scene: Any) -> Generator[float, None, Take]:
    """Turn the backend's result into a take with its sound; yields the done fraction, 0..1, about every millisecond.

    Everything heavy happens beside the scene; the last step puts it in, so a run that is closed or fails before
    (`generator.close()`) leaves the file as it was. Between two steps nothing may undo or load a file.

    Args:
        settings: as given to `prepare_animation`.
        clip: the result.
        scene: the scene, with its final frame rate.

    Returns:
        The take, with its warnings.

    Raises:
        BadInputError: the target does not fit the motion, or no longer exists.
        OutputError: the cache cannot be written, for one because the disk is full.
    """
    target = find_target(settings.target)
    spared = set() if target is None else {target.data.session_uid}
    with OutputFiles() as files, CreatedBlocks() as created:
        cache = cache_file_for(settings) if settings.bake == "cache" else None
        partial = None if cache is None else files.reserve(cache)
        folder = Path(bpy.data.filepath or bpy.app.tempdir).parent if cache is None else cache.parent
        rate = timeline.scene_rate(scene)
        num_frames = count_clip_frames((clip.num_frames - 1) / clip.info.frame_rate, clip.info.frame_rate, rate)
        require_possible_bake(settings.bake, num_frames, clip.num_vertices, folder)
        bake = BakeSettings(settings.bake, settings.start, settings.basis_limit_mm, partial)
        steps = build_take_steps(clip, bake, scene, target, created)
        while True:
            try:
                yield _BUILD_PART * next(steps)
            except StopIteration as stop:
                built = stop.value
                break
        with unchanged_on_error(scene, target), created.recording():
            take = install_take(built, clip, bake, scene, target)
            head = bpy.data.objects[take.object_name]
            if cache is not None:
                head.modifiers["TalkHead cache"].filepath = path_for_file(cache)
            strip = place_sound(settings, scene, head, take.warnings)
            if settings.extend_range:
                timeline.set_frame_range(scene, settings.start, take.num_scene_frames, is_new=False)
            files.commit()
    drop_replaced_meshes(spared)
    warnings = [*take.warnings, *diagnose_take(head, scene)]
    yield 1.0
    strip_name = None if strip is None else strip.name
    return dataclasses.replace(take, warnings=warnings, cache_file=cache, strip_name=strip_name)


def bake_animation(
    settings: AnimationSettings,
    clip: MotionClip,
    scene: Any,
    report: Callable[[float], None] = lambda fraction: None,
) -> Take:
    """Run `bake_animation_steps` to its end; `report` is called with the done fraction, 0..1."""
    return cast(Take, exhaust(bake_animation_steps(settings, clip, scene), report))


def animate_blocking(
    settings: AnimationSettings,
    scene: Any,
    python: Path | None = None,
    report: Callable[[str, float, float | None], None] = lambda phase, fraction, seconds_left: None,
) -> Take:
    """Animate from Audio in one call, for scripts: checks, backend, bake. On any error the file is as it was.

    Args:
        settings: what is asked for.
        scene: the scene to animate in, with its final frame rate.
        python: the Python that has torch; None finds it as the headless command does.
        report: called with phase, done fraction 0..1 and seconds left (or None).

    Returns:
        The take, with further ones where several were asked for; its warnings include those of the backend.

    Raises:
        TalkHeadError: its subclass tells whose fault it is, its text what to do.
    """
    from .results import bake_results  # which builds on this module

    found = find_backend_python() if python is None else python
    warnings: list[str] = []

    def on_message(message: Message) -> None:
        if isinstance(message, ProgressMessage):
            report(message.phase, _BACKEND_PART * message.fraction, message.seconds_left)
        elif isinstance(message, WarningMessage):
            warnings.append(message.text)

    with tempfile.TemporaryDirectory(prefix="talkhead-", ignore_cleanup_errors=True) as folder:
        job = prepare_animation(settings, scene, Path(folder) / "clip")
        report("starting the backend", 0.0, None)
        done = shared_worker(found).run_job(job, on_message)
        if not isinstance(done, DoneMessage):
            raise BackendError(f"the backend ended without a result, with {done}; restart Blender")
        take = bake_results(
            settings,
            [Path(folder) for folder in (done.folder, *done.more_folders)],
            scene,
            lambda fraction: report("baking", _BACKEND_PART + (1 - _BACKEND_PART) * fraction, None),
        )
    return dataclasses.replace(take, warnings=[*warnings, *take.warnings])


def require_recording(audio: Path) -> None:
    """Check that a recording is there.

    Raises:
        BadInputError: it is not.
    """
    if audio.is_dir():
        raise BadInputError(f"expected a recording, got the folder {audio}; choose a sound file")
    if not audio.is_file():
        raise BadInputError(f"there is no recording {audio}; was it moved? Choose it again")
    if not os.access(audio, os.R_OK):
        raise BadInputError(f"the recording {audio} cannot be read; check its permissions")


def cache_file_for(settings: AnimationSettings) -> Path:
    """Return the mesh cache of a take: as asked for, else a new name beside the open .blend file.

    Raises:
        BadInputError: the .blend file was never saved.
    """
    if settings.cache_file is not None:
        return settings.cache_file
    if not bpy.data.filepath:
        raise BadInputError("the bake mode cache writes a file beside the .blend file; save that first, or use basis")
    return free_cache_file(Path(bpy.data.filepath), settings.target or free_object_name())


def free_object_name() -> str:
    """Return the name that a new head will get."""
    name, number = OBJECT_NAME, 0
    while name in bpy.data.objects:
        number += 1
        name = f"{OBJECT_NAME}.{number:03d}"
    return name


def place_sound(settings: AnimationSettings, scene: Any, head: Any, warnings: list[str]) -> Any | None:
    """Let the scene play the recording in sync; strips of the object's earlier takes go."""
    earlier = [strip for strip in timeline.strips_of_head(scene, head.name) if strip.name != settings.sound_strip]
    timeline.remove_strips(scene, earlier)
    if settings.sound_strip is not None:
        return None
    section = (settings.audio_start_seconds, settings.audio_duration_seconds)
    strip = timeline.add_sound_strip(scene, settings.audio, settings.start, head.name, section)
    if strip is None:
        warnings.append(f"there is no sound strip: this Blender cannot load {settings.audio.name}")
    elif bpy.data.filepath and bpy.context.preferences.filepaths.use_relative_paths:
        strip.sound.filepath = path_for_file(settings.audio)
    return strip


def path_for_file(path: Path) -> str:
    """Return a path as the open .blend file stores it: relative to itself where it can be."""
    if not bpy.data.filepath:
        return str(path)
    try:
        return "//" + os.path.relpath(path, Path(bpy.data.filepath).parent).replace(os.sep, "/")
    except ValueError:  # another drive
        return str(path)


def _require_scan(identity: object, method: str) -> None:
    """Check that a fitted scan that is named as identity is there, and for FaceTalk."""
    if not isinstance(identity, str) or not identity.endswith(SCAN_SUFFIX):
        return
    if method != "facetalk":
        raise BadInputError(f"the fitted scan {identity} can speak by FaceTalk only; choose that method")
    if not Path(identity).is_file():
        raise BadInputError(f"there is no fitted scan {identity}; choose it again, or a built-in face")


def _require_new_head(settings: AnimationSettings, target: Any) -> None:
    """Refuse what makes objects of its own where one was named."""
    if settings.makes_sequence:
        raise BadInputError(
            f'a mesh sequence is a new object and cannot be put onto "{target.name}"; choose New Head (no target), or '
            "the tracked surface"
        )
    if settings.method == "facetalk" and settings.facetalk.takes > 1:
        raise BadInputError(
            f'several takes make several heads and cannot be put onto "{target.name}"; choose New Head (no target), or '
            "one take"
        )


def _require_settings(settings: AnimationSettings) -> None:
    if settings.method not in METHODS:
        raise UsageError(f"method: expected one of {', '.join(METHODS)}, got {settings.method!r}")
    if settings.bake not in BAKE_MODES:
        raise UsageError(f"bake: expected one of {', '.join(BAKE_MODES)}, got {settings.bake!r}")
    if not MIN_START <= settings.start <= MAX_START:
        raise UsageError(f"start: expected a frame from {MIN_START:,} to {MAX_START:,}, got {settings.start:,}")
    duration = settings.audio_duration_seconds
    if not math.isfinite(settings.audio_start_seconds) or settings.audio_start_seconds < 0:
        raise UsageError(f"audio_start_seconds: expected 0 or more, got {settings.audio_start_seconds}")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise UsageError(f"audio_duration_seconds: expected more than 0, got {duration}")


def _require_writable(folder: Path) -> None:
    with OutputFiles() as files:
        try:
            files.reserve(folder / "talkhead.pc2")
        except OutputError as error:
            raise OutputError(
                f"{error}; save the .blend file in a folder that can be written, or use the bake mode basis"
            ) from error


def _require_possible(settings: AnimationSettings, scene: Any, target: Any | None, output: Path) -> None:
    """Check frames and free disk as far as the recording's length is known; the bake checks the exact numbers.

    The backend checks what a mesh sequence needs.
    """
    seconds = timeline.measure_duration(settings.audio)
    if seconds is None:
        return
    seconds -= settings.audio_start_seconds
    if settings.audio_duration_seconds is not None:
        seconds = min(seconds, settings.audio_duration_seconds)
    if seconds <= 0:
        raise BadInputError(
            f"the section begins at {settings.audio_start_seconds:.2f} s, after the end of {settings.audio.name}"
        )
    num_vertices = settings.vertices or (TYPICAL_VERTICES if target is None else len(target.data.vertices))
    rate = CLIP_RATES[settings.method]
    num_frames = count_clip_frames(seconds, rate, timeline.scene_rate(scene))
    require_last_frame(settings.start, num_frames)
    if settings.makes_sequence:
        return
    folder = next(parent for parent in output.absolute().parents if parent.is_dir())
    home = cache_file_for(settings).parent if settings.bake == "cache" else folder
    require_possible_bake(settings.bake, num_frames, num_vertices, home)
    require_free_space(folder, int(seconds * rate) * num_vertices * 12, "the motion, while it is being baked,")


def _earlier_options(target: Any) -> dict[str, Any]:
    shown = read_shown_character(target.data)
    earlier = read_provenance(take_action(target))
    options = {} if earlier is None else {**earlier.get("options", {}), "seed": earlier.get("seed")}
    if shown is not None and is_own_object(target):
        options |= {"vertices": shown.vertices, "identity": wanted_identity(target)}
        options["seed"] = shown.seed if shown.vertices is not None else options.get("seed", shown.seed)
    return options
