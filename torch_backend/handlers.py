"""What each command does. Models and torch are imported inside the functions, so that the command starts quickly."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blender_talkhead.contract.errors import BackendError, BadInputError, OutputError, UsageError
from blender_talkhead.contract.jobs import AnimateJob, take_folders
from blender_talkhead.contract.motion_clip import KIND, MotionClipWriter
from blender_talkhead.contract.result import RESULT_FILE, ResultInfo
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from blender_talkhead.facial.identities import resolve_identity
from torch_backend.clip_output import (
    EXPECTED_SHAPES,
    FITTED,
    LOADED,
    READ,
    end_of_animating,
    existing_ancestor,
    fit_basis,
    require_room_for_clip,
)
from torch_backend.emitter import Emitter
from torch_backend.info import import_torch, read_version, resolve_device
from torch_backend.jobs import CorpusJob, EvaluateJob, TrainJob
from torch_backend.model_cache import ModelCache, model_key
from torch_backend.unfinished import unfinished_folder

if TYPE_CHECKING:
    from torch_backend.audio.loading import DecodedAudio
    from torch_backend.inference.mmtalker import MMTalkerPlan, MMTalkerPredictor
    from torch_backend.inference.performed_motion import PerformedTracks

logger = logging.getLogger(__name__)


def animate(job: AnimateJob, emitter: Emitter, models: ModelCache | None = None) -> Path:
    """Turn a recording into a result folder: a motion_clip, or a mesh_sequence; one for each take.

    Args:
        job: what to do.
        emitter: told the progress.
        models: where models are kept for the next job; None loads them for this job alone.

    Returns:
        The folder; the others are beside it (`take_folders`).

    Raises:
        BadInputError: the recording is not usable, or the disk has too little room for the result.
        BackendError: torch, the device or the weights are missing or broken.
        UsageError: an option is out of its range.
        OutputError: the folder cannot be written.
    """
    outputs = take_folders(job)
    for output in outputs:
        _require_result_place(output)
    with ExitStack() as stack:
        for output in outputs:
            stack.enter_context(_restored_on_failure(output))
        work = stack.enter_context(_work_folder())
        audio = _read_audio(job, work, emitter.phase("reading audio", 0.0, READ))
        # The mapped samples need no name any more (Windows keeps the file): a process that is killed leaves no sound.
        shutil.rmtree(work, ignore_errors=True)
        try:
            emitter.phase("loading the model", READ, LOADED)
            device = _prepare_torch(job.device, job.threads, job.seed)
            emitter.check()
            if job.method == "facetalk":
                from torch_backend.facetalk_job import animate_facetalk

                animate_facetalk(job, device, audio, emitter, models)
            else:
                predictor, plan = _load_mmtalker(job, device) if models is None else _load_warm(job, device, models)
                _write_clip(job, predictor, plan, audio, emitter)
        finally:
            del audio  # closes the file before its folder goes
    return job.output


def train(job: TrainJob, emitter: Emitter) -> Path:
    """Train a model; the folder keeps its checkpoints after a failure or a cancel, for --resume.

    Returns:
        The folder of the run.

    Raises:
        BadInputError: the corpus or the settings are not usable.
        BackendError: torch, the device or the speech encoder's weights are missing or broken.
        OutputError: the folder cannot be written.
    """
    corpus = _check_training(job)
    device = _prepare_torch(job.device, job.threads, job.seed or 0)
    changes: dict[str, Any] = {"resume": job.resume, "device": "cpu" if device == "cpu" else "auto"}
    changes |= {name: getattr(job, name) for name in ("steps", "seed") if getattr(job, name) is not None}
    report_phase = emitter.phase("training", 0.0, 1.0)

    def report(fraction: float, figures: dict[str, float]) -> None:
        report_phase(fraction)
        logger.info("%s", figures)

    try:
        if job.model == "mmtalker":
            from torch_backend.training.mmtalker import train_mmtalker

            train_mmtalker(corpus, job.output, job.config, job.encoder, report, **changes)
        elif job.model == "facetalk":
            from torch_backend.training.facetalk import train_facetalk

            train_facetalk(corpus, job.output, job.config, job.encoder, report, **changes)
        elif job.model == "nphm":
            from torch_backend.training.nphm_run import train_head_model

            train_head_model(job.output, job.config, report=report, **changes)
        else:
            from torch_backend.training.phone_encoder_run import train_phone_encoder

            train_phone_encoder(corpus, job.output, job.config, report, **changes)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    except OSError as error:
        raise OutputError(f"the run in {job.output} failed: {error.strerror or error}") from error
    return job.output


def _check_training(job: TrainJob) -> Path:
    """The corpus to train on; for a model that needs none, a folder that is not looked at."""
    if job.config is not None and not job.config.is_file():
        raise BadInputError(f"the settings {job.config} do not exist.")
    if job.model == "nphm":
        if job.corpus is not None or job.encoder is not None:
            raise UsageError("nphm learns the built-in head: it takes neither --corpus nor --encoder")
        return job.output
    if job.corpus is None:
        raise UsageError(f"{job.model} needs --corpus DIR")
    has_codes = job.model == "facetalk" and (job.corpus / "codes.npy").is_file()
    if not has_codes and not (job.corpus / "corpus.json").is_file():
        raise BadInputError(f"{job.corpus} is not a corpus. Make one with `python -m torch_backend corpus`.")
    if job.encoder is not None and (job.model not in ("mmtalker", "facetalk") or has_codes):
        what = "code sequences" if has_codes else job.model
        raise UsageError(f"--encoder belongs to mmtalker and facetalk on a corpus, not to {what}")
    return job.corpus


def evaluate(job: EvaluateJob) -> str:
    """Score MMTalker and a face that does not move on held-out utterances.

    Returns:
        A JSON object: name -> scores.

    Raises:
        BadInputError: the corpus is not usable.
        BackendError: torch, the device or the weights are missing or broken.
    """
    device = _prepare_torch(job.device, job.threads, 0)
    from torch_backend.audio.speech_encoder import load_speech_encoder
    from torch_backend.evaluation import HELD_OUT_EVERY, StillFace, evaluate_predictor, template_of_head
    from torch_backend.head import load_head
    from torch_backend.inference.mmtalker import MMTalkerPredictor
    from torch_backend.speech_corpus.corpus import load_corpus

    try:
        held_out = load_corpus(job.corpus)[::HELD_OUT_EVERY]
    except (ValueError, OSError) as error:
        raise BadInputError(f"{job.corpus} is not a usable corpus: {error}") from error
    chosen = held_out[:: max(1, len(held_out) // job.limit)][: job.limit]
    head = load_head()
    encoder = None if job.encoder is None else load_speech_encoder(job.encoder, device)
    predictors: dict[str, Any] = {
        "mmtalker": MMTalkerPredictor.load(job.weights, encoder, device),
        "still_face": StillFace(template_of_head(head)),
    }
    scores = {name: asdict(evaluate_predictor(each, chosen, head)) for name, each in predictors.items()}
    return json.dumps(scores, indent=2)


def make_corpus(job: CorpusJob, emitter: Emitter) -> Path:
    """Synthesise a corpus under a temporary name, then rename it.

    Returns:
        The corpus folder.

    Raises:
        BadInputError: a speech engine is missing or failed.
        OutputError: the folder exists or cannot be written.
    """
    from torch_backend.speech_corpus.corpus import DEFAULT_MINUTES, build_corpus
    from torch_backend.speech_corpus.synthesis import SynthesisError

    if os.path.lexists(job.output):
        raise OutputError(f"{job.output} exists; name another folder or remove it")
    scale = 1.0 if job.minutes is None else job.minutes / sum(DEFAULT_MINUTES.values())
    minutes = {name: amount * scale for name, amount in DEFAULT_MINUTES.items()}
    emitter.phase("synthesising", 0.0, 1.0)
    partial = job.output.with_name(f".{job.output.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        summary = build_corpus(partial, job.seed, minutes, job.processes, job.allow_missing)
        partial.rename(job.output)
    except (SynthesisError, ValueError) as error:
        raise BadInputError(f"{error} (--allow-missing leaves out engines that are not installed)") from error
    except OSError as error:
        raise OutputError(f"cannot write the corpus {job.output}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("%d utterances, %.1f minutes, hash %s", summary.num_utterances, summary.minutes, summary.corpus_hash)
    return job.output


def _read_audio(job: AnimateJob, folder: Path, report: Callable[[float], None]) -> DecodedAudio:
    try:
        from torch_backend.audio.loading import Section, decode_audio
    except ImportError as error:
        raise BackendError(
            f"the backend's Python cannot read sound ({error}). Install PyAV, or run `python3 build.py demo`."
        ) from error
    section = Section(job.audio_start_seconds, job.audio_duration_seconds)
    return decode_audio(job.audio, folder, report, section)


def _load_mmtalker(job: AnimateJob, device: str) -> tuple[MMTalkerPredictor, MMTalkerPlan]:
    """The model, and the mesh of the clip."""
    predictor = _load_predictor(job, device)
    return predictor, predictor.plan(job.vertices, job.identity, job.seed)


def _load_warm(job: AnimateJob, device: str, models: ModelCache) -> tuple[MMTalkerPredictor, MMTalkerPlan]:
    """The model and the mesh of the clip, both kept for later jobs."""
    _require_identity(job.identity)
    key = model_key(job, device)
    predictor, plans = models.get(key, lambda: (_load_predictor(job, device), ModelCache()))
    mesh_key = (job.vertices, job.identity, job.seed)
    return predictor, plans.get(mesh_key, lambda: predictor.plan(job.vertices, job.identity, job.seed))


def _load_predictor(job: AnimateJob, device: str) -> MMTalkerPredictor:
    from torch_backend.audio.speech_encoder import load_speech_encoder
    from torch_backend.inference.mmtalker import MMTalkerPredictor

    _require_identity(job.identity)
    encoder = None if job.encoder is None else load_speech_encoder(job.encoder, device)
    return MMTalkerPredictor.load(job.weights, encoder, device, job.precision, job.project_motion)


def _require_identity(identity: str | None) -> None:
    if identity is not None:
        try:
            resolve_identity(identity)
        except ValueError as error:
            raise UsageError(f"--identity: {error}") from error


def _write_clip(
    job: AnimateJob, predictor: MMTalkerPredictor, plan: MMTalkerPlan, audio: DecodedAudio, emitter: Emitter
) -> None:
    """Animate straight into the result folder, which appears under its name only when it is complete."""
    num_frames = predictor.count_frames(len(audio.samples))
    wants_basis = job.basis_error_limit_mm is not None
    num_shapes = min(EXPECTED_SHAPES, num_frames) if wants_basis else 0
    num_shapes += len(ARKIT_BLENDSHAPES) if job.performance else 0
    require_room_for_clip(job.output, num_frames, plan, num_shapes)
    animated = end_of_animating(plan) if wants_basis else FITTED
    info = ResultInfo(
        kind=KIND,
        method=job.method,
        frame_rate=float(predictor.frame_rate),
        num_frames=num_frames,
        audio_path=str(job.audio.absolute()),
        audio_sha256=audio.sha256,
        weights_sha256=predictor.weights_sha256,
        seed=job.seed,
        options=_describe_options(job, predictor),
        talkhead_version=read_version(),
    )
    report = emitter.phase("animating", LOADED, animated)
    with MotionClipWriter(job.output, info, plan) as writer, unfinished_folder(writer.partial_folder):
        tracks = _append_frames(job, predictor, plan, audio, writer, report)
        if job.basis_error_limit_mm is not None:
            report = emitter.phase("fitting shapes", animated, FITTED)
            fit_basis(job.basis_error_limit_mm, writer, plan.template_vertices, tracks, emitter, report)
        emitter.phase("writing", FITTED, 1.0)
        if tracks is None:
            writer.commit()
            return
        if tracks.performance is not None:
            writer.write_performance(tracks.performance)
        writer.commit(tracks.blendshape_weights, tracks.head_rotation, tracks.eye_rotations)


def _append_frames(
    job: AnimateJob,
    predictor: MMTalkerPredictor,
    plan: MMTalkerPlan,
    audio: DecodedAudio,
    writer: MotionClipWriter,
    report: Callable[[float], None],
) -> PerformedTracks | None:
    """Animate all frames; returns what goes with them, None without a performance."""
    if not job.performance:
        for _, vertex_offsets in predictor.animate(audio.samples, plan, report):
            writer.append(vertex_offsets)
        return None
    from torch_backend.inference.performed_motion import PerformedMotion

    motion = PerformedMotion(predictor, plan, audio.samples, job.seed)
    for _, vertex_offsets in motion.animate(report):
        writer.append(vertex_offsets)
    return motion.tracks()


def _describe_options(job: AnimateJob, predictor: MMTalkerPredictor) -> dict[str, Any]:
    """Everything that the arrays depend on beside recording, weights and seed; None for what was not asked for."""
    torch = import_torch()
    return {
        "vertices": job.vertices,
        "identity": job.identity,
        "identity_parameters": resolve_identity(job.identity),
        "device": str(predictor.model.device),
        "precision": predictor.precision,
        "project_motion": predictor.project_motion,
        "performance": job.performance,
        "threads": torch.get_num_threads(),
        "encoder": predictor.encoder.name,
        "scene_frame_rate": job.scene_frame_rate,
        "audio_start_seconds": job.audio_start_seconds,
        "audio_duration_seconds": job.audio_duration_seconds,
    }


def _prepare_torch(device: str, threads: int | None, seed: int) -> str:
    """Import torch, make it repeatable; returns the resolved device."""
    # Matrix products on CUDA repeat bit for bit only with this, and it is read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch = import_torch()
    resolved = resolve_device(device)
    default_threads = _default_threads()
    torch.set_num_threads(default_threads if threads is None else threads)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return resolved


@cache
def _default_threads() -> int:
    """What torch takes by itself, read before any job changed it."""
    num_threads: int = import_torch().get_num_threads()
    return num_threads


def _require_result_place(output: Path) -> None:
    """Refuse what could only fail after the work: something else in the way, or a place that cannot be written."""
    if os.path.lexists(output) and not (output / RESULT_FILE).is_file() and not _is_empty_folder(output):
        raise OutputError(f"{output} exists and is not a result folder; name another output folder or remove it")
    ancestor = existing_ancestor(output)
    if not ancestor.is_dir():
        raise OutputError(f"{ancestor} is a file; name another output folder")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise OutputError(f"{ancestor} cannot be written; name another output folder or change its permissions")


@contextmanager
def _restored_on_failure(output: Path) -> Iterator[None]:
    """Make way where an empty folder has the result's name; after a failure everything is as it was.

    Folders above the result that did not exist are made on the way, and go again.
    """
    new_parents = [parent for parent in output.absolute().parents if not os.path.lexists(parent)]
    was_empty_folder = _is_empty_folder(output)
    try:
        if was_empty_folder:
            output.rmdir()
        yield
    except BaseException:
        for parent in new_parents:
            with suppress(OSError):  # never made, or something else lies in it by now
                parent.rmdir()
        if was_empty_folder:
            output.mkdir(exist_ok=True)
        raise


def _is_empty_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    except OSError:
        return False


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder for the decoded sound, removed at the end."""
    try:
        folder = tempfile.mkdtemp(prefix="talkhead-")
    except OSError as error:
        raise OutputError(f"no temporary folder can be made: {error.strerror or error}") from error
    with unfinished_folder(Path(folder)):
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
