"""Animating with FaceTalk: takes of one recording, each as a motion clip of one tracked mesh or as a mesh sequence.

First the expression codes of all takes are drawn, from one batch; then each take gets its surface. With a cache a take
that was made before is only copied, and a mesh sequence that was stopped goes on at its next frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract import mesh_sequence, motion_clip
from blender_talkhead.contract.errors import BackendError, BadInputError, OutputError, UsageError
from blender_talkhead.contract.jobs import MAX_SEED, SCAN_SUFFIX, AnimateJob, take_folders
from blender_talkhead.contract.mesh_sequence import MeshSequenceWriter
from blender_talkhead.contract.motion_clip import MotionClipWriter
from blender_talkhead.contract.result import ResultInfo
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from blender_talkhead.facial.identities import resolve_identity
from torch_backend.clip_output import (
    EXPECTED_SHAPES,
    FITTED,
    LOADED,
    end_of_animating,
    fit_basis,
    require_room,
    require_room_for_clip,
)
from torch_backend.emitter import Emitter
from torch_backend.info import import_torch, read_version
from torch_backend.model_cache import ModelCache, model_key
from torch_backend.models.checkpoints import file_sha256
from torch_backend.result_cache import copy_result, entry_name, is_finished, locked, mark_used
from torch_backend.unfinished import unfinished_folder

if TYPE_CHECKING:
    from torch_backend.audio.loading import DecodedAudio
    from torch_backend.inference.facetalk import FaceTalkPredictor

_VERTICES_OF_CELL = 2.5
"""Vertices of a head's surface for each cell of a square as wide as the grid."""
_BYTES_OF_VERTEX = 50
"""Of a mesh sequence: position, colour, places in the pictures, two triangles."""
# Part of the time between loading and the end in which codes are drawn.
_DRAWING_OF_TRACKED, _DRAWING_OF_SEQUENCE = 0.3, 0.05
_SEED_STEP = 1_000_003

Report = Callable[[float], None]


@dataclass(frozen=True)
class _Take:
    """One take of a job."""

    number: int
    """From 1; it decides the noise that the codes come from."""
    info: ResultInfo
    output: Path
    """Where it is asked for."""
    folder: Path
    """Where it is made: `output`, or its entry of the cache."""
    is_ready: bool
    """Whether it lies in the cache already."""

    @property
    def seed(self) -> int:
        """Of all that is random beside the codes, such as blinks."""
        return (self.info.seed + (self.number - 1) * _SEED_STEP) % (MAX_SEED + 1)


@dataclass(frozen=True)
class _Work:
    """What all takes of a job share."""

    job: AnimateJob
    predictor: FaceTalkPredictor
    audio: DecodedAudio
    emitter: Emitter
    open_files: ExitStack
    """Closes what a take has opened when the job ends, however it ends."""

    @property
    def is_sequence(self) -> bool:
        """Whether each frame gets a mesh of its own."""
        return self.job.surface == "sequence"


def animate_facetalk(
    job: AnimateJob, device: str, audio: DecodedAudio, emitter: Emitter, models: ModelCache | None
) -> None:
    """Write the result folders of all takes; none appears before all are complete.

    Args:
        job: what to do.
        device: resolved.
        audio: the recording, or its section.
        emitter: told the progress.
        models: where the model is kept for the next job; None loads it for this one.

    Raises:
        BadInputError: the identity's file is missing, or the disk has too little room.
        BackendError: weights are missing or broken, or belong to something else.
        UsageError: an option is out of its range.
        OutputError: the results cannot be written.
    """
    require_identity(job.identity)
    predictor, plans = _load(job, device, models)
    with ExitStack() as open_files:
        work = _Work(job, predictor, audio, emitter, open_files)
        takes = _plan_takes(work)
        if not all(take.is_ready for take in takes):
            _make_takes(work, takes, plans)
        emitter.phase("writing", FITTED, 1.0)
        if job.cache is not None:
            for take in takes:
                emitter.check()
                mark_used(take.folder)
                copy_result(take.folder, take.output, take.info)


def require_identity(identity: str | None) -> None:
    """Check an identity: of the built-in head, or the file of a fitted scan.

    Raises:
        UsageError: there is no such identity.
        BadInputError: there is no such file.
    """
    if identity is None:
        return
    if identity.endswith(SCAN_SUFFIX):
        if not Path(identity).is_file():
            raise BadInputError(f"there is no identity {identity}; fit one to a scan (`fit identity`), or name another")
        return
    try:
        resolve_identity(identity)
    except ValueError as error:
        raise UsageError(f"--identity: {error}") from error


def _load(job: AnimateJob, device: str, models: ModelCache | None) -> tuple[FaceTalkPredictor, ModelCache]:
    """The model, and where its plans are kept."""

    def load() -> tuple[FaceTalkPredictor, ModelCache]:
        from torch_backend.audio.speech_encoder import load_speech_encoder
        from torch_backend.inference.facetalk import FaceTalkPredictor

        encoder = None if job.encoder is None else load_speech_encoder(job.encoder, device)
        loaded = FaceTalkPredictor.load(job.weights, encoder, device, job.precision, job.head_weights)
        return loaded, ModelCache()

    found: tuple[FaceTalkPredictor, ModelCache]
    found = load() if models is None else models.get(model_key(job, device), load)
    return found


def _plan_takes(work: _Work) -> list[_Take]:
    job = work.job
    takes = []
    for index, output in enumerate(take_folders(job)):
        info = _describe(work, job.take + index)
        folder = output if job.cache is None else job.cache / entry_name(info)
        if job.cache is not None:
            work.open_files.enter_context(locked(folder))
        is_ready = job.cache is not None and is_finished(folder)
        takes.append(_Take(job.take + index, info, output, folder, is_ready))
    return takes


def _make_takes(work: _Work, takes: list[_Take], plans: ModelCache) -> None:
    """Make what the cache does not hold; without a cache the folders get their names when all takes are complete."""
    job = work.job
    plan = _plan_surface(job, work.predictor, plans)
    _require_room(job, takes, plan)
    drawn = LOADED + (FITTED - LOADED) * (_DRAWING_OF_SEQUENCE if work.is_sequence else _DRAWING_OF_TRACKED)
    codes = _draw_codes(work, work.emitter.phase("drawing takes", LOADED, drawn))
    missing = [take for take in takes if not take.is_ready]
    commits = []
    for number, take in enumerate(missing):
        first, last = (drawn + (FITTED - drawn) * end / len(missing) for end in (number, number + 1))
        write = _write_sequence if work.is_sequence else _write_clip
        commit = write(work, take, plan, codes[take.number - job.take], (first, last))
        if job.cache is None:
            commits.append(commit)
        else:
            commit()
    for commit in commits:
        commit()


def _plan_surface(job: AnimateJob, predictor: FaceTalkPredictor, plans: ModelCache) -> Any:
    key: tuple[Hashable, ...]
    if job.surface == "sequence":
        key = ("sequence", job.identity, _file_stamp(job.identity), job.grid)
        return plans.get(key, lambda: predictor.surface_plan(job.identity, job.grid))
    key = ("tracked", job.identity, _file_stamp(job.identity), job.vertices, job.seed)
    return plans.get(key, lambda: predictor.plan(job.vertices, job.identity, job.seed))


def _require_room(job: AnimateJob, takes: list[_Take], plan: Any) -> None:
    num_frames = takes[0].info.num_frames
    copies = 1 if job.cache is None else 2
    num_missing = sum(not take.is_ready for take in takes)
    if job.surface == "sequence":
        num_vertices = int(_VERTICES_OF_CELL * job.grid**2)
        needed = copies * num_missing * num_frames * num_vertices * _BYTES_OF_VERTEX
        what = f"{num_frames} meshes of about {num_vertices:,} vertices"
        require_room(takes[0].folder, needed, what, "a smaller --grid")
        return
    num_shapes = min(EXPECTED_SHAPES, num_frames) if job.basis_error_limit_mm is not None else 0
    num_shapes += len(ARKIT_BLENDSHAPES) if job.performance else 0
    rows = copies * num_missing * (num_frames + num_shapes)
    require_room_for_clip(takes[0].folder, rows, plan, 0)


def _draw_codes(work: _Work, report: Report) -> NDArray[np.float32]:
    """Expression codes (K, T, E) of all takes, in a file: they may be long."""
    from torch_backend.inference.facetalk_sampling import SamplingConfig

    job, predictor, samples = work.job, work.predictor, work.audio.samples
    config = SamplingConfig(
        sampler=job.sampler,
        steps=job.sampler_steps,
        guidance=job.guidance,
        takes=job.takes,
        seed=job.seed,
        first_take=job.take - 1,
        diversity=job.diversity,
    )
    try:
        place = tempfile.TemporaryDirectory(prefix="talkhead-", ignore_cleanup_errors=True)
        folder = work.open_files.enter_context(place)
        work.open_files.enter_context(unfinished_folder(Path(folder)))
        codes: NDArray[np.float32] | None = None
        num_frames = predictor.count_frames(len(samples))
        for first, block in predictor.sample(samples, config, report):
            if codes is None:
                shape = (job.takes, num_frames, block.shape[-1])
                codes = np.lib.format.open_memmap(Path(folder) / "codes.npy", "w+", np.float32, shape)
            codes[:, first : first + block.shape[1]] = block
    except OSError as error:
        raise OutputError(f"cannot keep the expression codes: {error.strerror or error}") from error
    if codes is None:
        raise BackendError("the decoder gave no frames; report this")
    return codes


def _write_sequence(
    work: _Work, take: _Take, plan: Any, codes: NDArray[np.float32], part: tuple[float, float]
) -> Callable[[], object]:
    """Write the frames that are missing; returns what gives the folder its name."""
    is_resumable = work.job.cache is not None
    sequence = MeshSequenceWriter(take.folder, take.info, plan.has_colors, is_resumable, plan.pictures)
    writer = work.open_files.enter_context(sequence)
    if not is_resumable:
        work.open_files.enter_context(unfinished_folder(writer.partial_folder))
    begun, num_frames = writer.num_written, take.info.num_frames
    first, last = part
    report = work.emitter.phase("making surfaces", first + (last - first) * begun / num_frames, last)
    if begun < num_frames:
        performed = work.job.performance
        for mesh in work.predictor.extract(codes, work.audio.samples, plan, take.seed, begun, performed):
            writer.append(mesh.vertices, mesh.faces, mesh.colors, mesh.places)
            report((writer.num_written - begun) / (num_frames - begun))
    return writer.commit


def _write_clip(
    work: _Work, take: _Take, plan: Any, codes: NDArray[np.float32], part: tuple[float, float]
) -> Callable[[], object]:
    """Write the frames, and a basis where one is asked for; returns what gives the folder its name."""
    first, last = part
    limit_mm = work.job.basis_error_limit_mm
    share = 1.0 if limit_mm is None else (end_of_animating(plan) - LOADED) / (FITTED - LOADED)
    animated = first + (last - first) * share
    report = work.emitter.phase("animating", first, animated)
    writer = work.open_files.enter_context(MotionClipWriter(take.folder, take.info, plan))
    work.open_files.enter_context(unfinished_folder(writer.partial_folder))
    motion = work.predictor.animate(codes, work.audio.samples, plan, take.seed, work.job.performance)
    for _, vertex_offsets in motion.animate(report):
        writer.append(vertex_offsets)
    tracks = motion.tracks()
    if limit_mm is not None:
        report = work.emitter.phase("fitting shapes", animated, last)
        fit_basis(limit_mm, writer, plan.template_vertices, tracks, work.emitter, report)
    if tracks is None:
        return writer.commit
    if tracks.performance is not None:
        writer.write_performance(tracks.performance)
    return lambda: writer.commit(tracks.blendshape_weights, tracks.head_rotation, tracks.eye_rotations)


def _describe(work: _Work, take: int) -> ResultInfo:
    """Everything that the arrays of a take depend on; None for what was not asked for."""
    job, predictor, is_sequence = work.job, work.predictor, work.is_sequence
    num_samples = len(work.audio.samples)
    is_scan = job.identity is not None and job.identity.endswith(SCAN_SUFFIX)
    options: dict[str, Any] = {
        "surface": job.surface,
        "grid": job.grid if is_sequence else None,
        "vertices": None if is_sequence else job.vertices,
        "identity": job.identity,
        "identity_parameters": None if is_scan else resolve_identity(job.identity),
        "identity_sha256": file_sha256(Path(str(job.identity))) if is_scan else None,
        "take": take,
        "guidance": job.guidance,
        "diversity": job.diversity,
        "sampler": job.sampler,
        "sampler_steps": job.sampler_steps,
        "head_weights_sha256": predictor.head_weights_sha256,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "performance": job.performance,
        "basis_error_limit_mm": None if is_sequence else job.basis_error_limit_mm,
        "threads": import_torch().get_num_threads(),
        "encoder": predictor.encoder.name,
        "scene_frame_rate": job.scene_frame_rate,
        "audio_start_seconds": job.audio_start_seconds,
        "audio_duration_seconds": job.audio_duration_seconds,
    }
    return ResultInfo(
        kind=mesh_sequence.KIND if is_sequence else motion_clip.KIND,
        method=job.method,
        frame_rate=float(predictor.frame_rate),
        num_frames=predictor.count_frames(num_samples),
        audio_path=str(job.audio.absolute()),
        audio_sha256=work.audio.sha256,
        weights_sha256=predictor.weights_sha256,
        seed=job.seed,
        options=options,
        talkhead_version=read_version(),
    )


def _file_stamp(identity: str | None) -> Hashable:
    if identity is None or not identity.endswith(SCAN_SUFFIX):
        return None
    status = Path(identity).stat()
    return status.st_mtime_ns, status.st_size
