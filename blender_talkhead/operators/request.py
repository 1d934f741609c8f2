"""Turns what the panel says into an animation's settings, and starts it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backend_client.python_environment import find_backend_python
from ..backend_client.shared_worker import close_shared_worker, shared_worker
from ..contract.errors import BadInputError, OutputError
from ..contract.jobs import MAX_VERTICES, MIN_VERTICES, SCAN_SUFFIX, FaceTalkSettings
from ..preferences import PreferenceValues, cache_folder, environment_folder, read_preferences, results_folder
from ..scene.character_store import wanted_identity
from ..session import session
from ..ui.choices import audible_seconds, estimate_of
from ..ui.estimates import OWN_MESH_VERTICES, PARTS_VERTICES
from ..ui.reasons import NO_NUMPY, find_strip, has_numpy
from ..ui.recording import recording_path
from .animation_job import AnimationJob, left_over_folders
from .kept_results import trim_results

if TYPE_CHECKING:
    from ..bake.animation import AnimationSettings


def start_job(context: Any) -> AnimationJob:
    """Start what the panel asks for.

    Raises:
        TalkHeadError: it cannot be started; the text says why and what to do.
    """
    if not has_numpy():
        raise BadInputError(NO_NUMPY)
    values = read_preferences(context)
    settings = read_settings(context.scene, values)
    python = backend_python(values)
    folder = ready_folder(cache_folder(values))
    seconds = audible_seconds(context.scene)
    worker = shared_worker(python, values.idle_seconds)
    if settings.facetalk.cache is not None:
        trim_results(settings.facetalk.cache, values.kept_gigabytes * 1e9)
    job = AnimationJob(settings, context.scene.name, worker, folder, close_shared_worker)
    if seconds is not None:
        job.estimated_seconds = estimate_of(context, seconds).seconds
    return job


def backend_python(values: PreferenceValues) -> Path:
    """Return the Python of the backend: the one that was checked, else the first that looks right.

    Raises:
        BackendError: there is none.
    """
    if session.report is not None and session.report.is_usable:
        return session.report.python
    return find_backend_python(preferred=values.python, own_environment=environment_folder())


def read_settings(scene: Any, values: PreferenceValues) -> AnimationSettings:
    """Return what a scene's panel and the preferences ask for.

    Raises:
        BadInputError: the recording, strip or target is not chosen or cannot be used.
    """
    from ..bake.animation import OWN_MESH, AnimationSettings

    chosen = scene.talkhead
    target = _read_target(chosen)
    options: dict[str, Any] = {
        "target": None if target is None else target.name,
        "method": chosen.method,
        "vertices": vertices_for(target, OWN_MESH if chosen.detail == "ARTIST" else chosen.vertices),
        "identity": wanted_identity(scene) if target is None else None,
        "seed": chosen.seed,
        "device": values.device,
        "bake": chosen.bake,
        "start": chosen.start,
        "extend_range": chosen.extend_range,
        **_read_sound(scene, chosen),
    }
    if chosen.method == "facetalk":
        options["facetalk"] = _read_facetalk(chosen, values)
        if target is None and chosen.scan.strip():
            options["identity"] = _read_scan(chosen)
    return AnimationSettings(**options)


def _read_scan(chosen: Any) -> str:
    path = recording_path(chosen.scan, chosen.id_data.library)
    if path.suffix != SCAN_SUFFIX:
        raise BadInputError(f"{path.name} is no fitted scan (a {SCAN_SUFFIX} file); choose one, or leave it empty")
    return str(path)


def _read_facetalk(chosen: Any, values: PreferenceValues) -> FaceTalkSettings:
    is_kept = values.kept_gigabytes > 0
    return FaceTalkSettings(
        surface=chosen.surface,
        grid=chosen.grid,
        take=chosen.take,
        takes=chosen.takes,
        guidance=chosen.guidance,
        diversity=chosen.diversity,
        sampler_steps=chosen.sampler_steps,
        cache=results_folder(values).absolute() if is_kept else None,
    )


def vertices_for(target: Any | None, chosen: int) -> int | None:
    """Return the vertices of the skin to ask for; None leaves it to the target's last take, or is the head's own mesh.

    A head of ours takes any resolution; a mesh of the user's keeps its vertices, so the motion must have as many.
    """
    from ..bake.provenance import is_own_object, read_provenance, take_action

    if target is None or is_own_object(target):
        return chosen
    skin = len(target.data.vertices) - PARTS_VERTICES
    has_take = read_provenance(take_action(target)) is not None
    if has_take or skin == OWN_MESH_VERTICES or not MIN_VERTICES <= skin <= MAX_VERTICES:
        return None
    return skin


def ready_folder(folder: Path) -> Path:
    """Make the cache folder, and clear what jobs of a Blender that crashed left in it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the cache folder {folder}: {error.strerror or error}; choose another in the preferences"
        ) from error
    for left in left_over_folders(folder):
        if not is_in_use(left):
            shutil.rmtree(left, ignore_errors=True)
    return folder


def is_in_use(folder: Path) -> bool:
    """Whether a job's folder was written to lately: another Blender may be at work in it."""
    try:
        return time.time() - folder.stat().st_mtime < 24 * 3600
    except OSError:
        return False


def _read_sound(scene: Any, chosen: Any) -> dict[str, Any]:
    if chosen.source == "FILE":
        if not chosen.audio.strip():
            raise BadInputError("no recording is chosen; choose one in the TalkHead panel")
        return {"audio": recording_path(chosen.audio, chosen.id_data.library)}
    from ..scene.sound_strips import audio_of_strip

    strip = find_strip(scene, chosen.strip)
    if strip is None:
        raise BadInputError(f'the sequencer of "{scene.name}" has no sound strip "{chosen.strip}"; choose another')
    audio, start_seconds, duration_seconds, start_frame = audio_of_strip(strip, scene)
    return {
        "audio": audio,
        "audio_start_seconds": start_seconds,
        "audio_duration_seconds": duration_seconds,
        "start": start_frame,
        "sound_strip": strip.name,
    }


def _read_target(chosen: Any) -> Any | None:
    if chosen.target_kind == "NEW":
        return None
    if chosen.target is None:
        raise BadInputError("no object is chosen; choose the one that will speak, or New Head")
    return chosen.target
