"""Jobs: what the add-on asks the backend's worker to do. A closed set; each crosses the boundary as a JSON object."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from .errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]
Surface = Literal["tracked", "sequence"]
Sampler = Literal["dpm_solver++", "ddim", "ddpm"]

METHODS = ("mmtalker", "facetalk")
CLIP_RATES = {"mmtalker": 30.0, "facetalk": 24.0}
"""Frames per second of each method's results."""
SURFACES = ("tracked", "sequence")
SAMPLERS = ("dpm_solver++", "ddim", "ddpm")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")
MIN_VERTICES, MAX_VERTICES = 500, 50_000
MAX_SEED = 2**32 - 1
MAX_THREADS = 1024
SCAN_SUFFIX = ".safetensors"
"""FaceTalk: an identity that ends so is the file of a scan that was fitted."""
MIN_GRID, MAX_GRID, DEFAULT_GRID = 32, 512, 128
MAX_TAKES, MAX_TAKE = 8, 9999
MAX_GUIDANCE, DEFAULT_GUIDANCE = 10.0, 1.0
MAX_DIVERSITY, DEFAULT_DIVERSITY = 2.0, 1.0
MAX_SAMPLER_STEPS, DEFAULT_SAMPLER_STEPS = 1000, 20
BEHAVIOURS = ("succeed", "fail", "crash", "hang", "garbage", "flood", "allocate")


@dataclass(frozen=True)
class AnimateJob:
    """Turn a recording into a result folder. Paths are absolute when the job goes to a worker."""

    type: ClassVar[str] = "animate"
    audio: Path
    output: Path
    """The result folder; replaced when it is an older result."""
    method: str = "mmtalker"
    vertices: int | None = None
    """Vertices of the skin; None is the built-in head's own mesh."""
    identity: str | None = None
    """A preset's name, a seed, or parameters like "nose_width=0.5,eye_size=-0.3", which may start from either
    (facial.identities); None is the mean head. For FaceTalk also the path of a fitted scan (SCAN_SUFFIX)."""
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    """Processor threads; None leaves it to torch."""
    weights: Path | None = None
    """Another checkpoint than the shipped one."""
    project_motion: bool = True
    """Project the motion on the space of the training motion, where the weights hold one; False is the network's own
    output, which needs a shape key for nearly every frame."""
    encoder: str | None = None
    """Speech encoder: a folder, a file or a name; None is the one that the weights name."""
    scene_frame_rate: float | None = None
    """The scene's rate, noted in the result; the clip keeps the method's rate."""
    audio_start_seconds: float = 0.0
    """Where the animated section of the recording begins; frame 0 of the result shows this moment."""
    audio_duration_seconds: float | None = None
    """Length of the section, which ends with the recording at the latest; None is all that follows."""
    basis_error_limit_mm: float | None = None
    """Also fit signed basis shapes that repeat the motion within this distance; None leaves them out."""
    performance: bool = True
    """Add natural blinks, brows, gaze, head motion and breathing; False is the network's motion alone."""
    surface: Surface = "tracked"
    """FaceTalk: one mesh that is carried through all frames (a motion_clip), or a mesh of its own for each frame
    (a mesh_sequence). What follows is FaceTalk's too."""
    grid: int = DEFAULT_GRID
    """Surface "sequence": cells along the longest side of the head's box."""
    take: int = 1
    """Number of the first take: another one of a seed is another performance of the same line."""
    takes: int = 1
    """How many takes, from one batch; each is a result folder of its own (`take_folders`)."""
    guidance: float = DEFAULT_GUIDANCE
    """How closely the motion follows the speech: 1 as learned, above exaggerates what the speech asks for."""
    diversity: float = DEFAULT_DIVERSITY
    """How far takes lie apart: factor of the noise that they begin with, 0 to 2."""
    sampler: Sampler = "dpm_solver++"
    sampler_steps: int = DEFAULT_SAMPLER_STEPS
    """Evaluations of the network; ddim and ddpm take a divisor of 1000."""
    head_weights: Path | None = None
    """Another checkpoint of the head model than the shipped one."""
    cache: Path | None = None
    """Folder that keeps results and unfinished sequences: the same job asked again goes on where it stopped."""


@dataclass(frozen=True)
class CharacterJob:
    """Make the built-in head of an identity at rest: a motion clip of one frame in which nothing moves."""

    type: ClassVar[str] = "character"
    output: Path
    """The result folder; replaced when it is an older result."""
    vertices: int | None = None
    """Vertices of the skin; None is the head's own mesh, for which no weights are needed."""
    identity: str | None = None
    """As for AnimateJob."""
    seed: int = 0
    """Of the points on the skin; the head's own mesh has none."""
    weights: Path | None = None
    """Another checkpoint than the shipped one; it decides where the points lie."""


@dataclass(frozen=True)
class ReshapeJob:
    """Tell what changes when a head becomes another identity: an identity_change folder."""

    type: ClassVar[str] = "reshape"
    output: Path
    """The result folder, which must not exist."""
    vertices: int | None = None
    """As the head was made with, like the seed and the weights."""
    identity: str | None = None
    """What it becomes, as for AnimateJob."""
    previous_identity: str | None = None
    """What it is."""
    seed: int = 0
    weights: Path | None = None


@dataclass(frozen=True)
class InfoJob:
    """Tell versions, devices and shipped weights."""

    type: ClassVar[str] = "info"


@dataclass(frozen=True)
class DummyJob:
    """Do nothing for a while, or fail in a chosen way: for tests of everything around a job. `done.folder` is ""."""

    type: ClassVar[str] = "dummy"
    seconds: float = 1.0
    """In all, shared equally by the phases."""
    phases: tuple[str, ...] = ("waiting",)
    behaviour: str = "succeed"
    """One of BEHAVIOURS, half way: "fail" raises; "crash" ends the process at once; "hang" sleeps and ignores a cancel;
    "garbage" writes lines that are no messages to stdout; "flood" writes 100 MB to stderr; "allocate" asks for more
    memory than there is."""


@dataclass(frozen=True)
class FaceTalkSettings:
    """The fields of AnimateJob that no other method has; there they are described."""

    surface: Surface = "tracked"
    grid: int = DEFAULT_GRID
    take: int = 1
    takes: int = 1
    guidance: float = DEFAULT_GUIDANCE
    diversity: float = DEFAULT_DIVERSITY
    sampler: Sampler = "dpm_solver++"
    sampler_steps: int = DEFAULT_SAMPLER_STEPS
    head_weights: Path | None = None
    cache: Path | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return them by name."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}


WorkerJob = AnimateJob | CharacterJob | ReshapeJob | InfoJob | DummyJob

_JOB_CLASSES: dict[str, type[Any]] = {
    each.type: each for each in (AnimateJob, CharacterJob, ReshapeJob, InfoJob, DummyJob)
}
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "bool": (bool,),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "Path": (str,),
    "Path | None": (str, type(None)),
    "Device": (str,),
    "Precision": (str,),
    "Surface": (str,),
    "Sampler": (str,),
    "tuple[str, ...]": (list,),
}
"""Types of the dataclass fields, and what each is in JSON."""


def encode_job(job: WorkerJob) -> dict[str, Any]:
    """Return a job as plain JSON values: its fields and its `type`."""
    content: dict[str, Any] = {"type": job.type}
    for entry in dataclasses.fields(job):
        value = getattr(job, entry.name)
        content[entry.name] = str(value) if isinstance(value, Path) else value
    return content


def decode_job(content: object) -> WorkerJob:
    """Read a job from plain JSON values.

    Raises:
        ValueError: an unknown type or field, or a missing or mistyped field. Unknown fields are refused: a job that is
            done without one of its options would give another result than was asked for.
    """
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise ValueError(f'expected a job, an object with a "type", got {str(content)[:80]}')
    job_class = _JOB_CLASSES.get(content["type"])
    if job_class is None:
        raise ValueError(f"expected a job of type {sorted(_JOB_CLASSES)}, got {content['type']!r}")
    entries = {entry.name: str(entry.type) for entry in dataclasses.fields(job_class)}
    unknown = sorted(set(content) - set(entries) - {"type"})
    if unknown:
        raise ValueError(f"{content['type']}: unknown fields {unknown}; update the add-on and its backend together")
    values = {name: _read_field(name, entries[name], value) for name, value in content.items() if name != "type"}
    try:
        job: WorkerJob = job_class(**values)
    except TypeError as error:
        raise ValueError(f"{content['type']}: {error}") from error
    return job


def take_folders(job: AnimateJob) -> tuple[Path, ...]:
    """Return the result folders of a job's takes: `output`, then the same name with -2, -3 and so on."""
    further = (job.output.with_name(f"{job.output.name}-{number}") for number in range(2, job.takes + 1))
    return (job.output, *further)


def validate_job(job: WorkerJob) -> None:
    """Check the ranges of a job's options, as the command line does.

    Raises:
        UsageError: names the option, its range and its value.
    """
    if isinstance(job, AnimateJob):
        _validate_animate(job)
    elif isinstance(job, CharacterJob | ReshapeJob):
        _require_number("vertices", job.vertices, MIN_VERTICES, MAX_VERTICES)
        _require_number("seed", job.seed, 0, MAX_SEED)
        _require_paths(job, ("output", "weights"))
    elif isinstance(job, DummyJob):
        _require(job.behaviour in BEHAVIOURS, "behaviour", f"one of {', '.join(BEHAVIOURS)}", job.behaviour)
        _require_number("seconds", job.seconds, 0.0, 86_400.0)
        _require(len(job.phases) > 0, "phases", "at least one name", job.phases)


def _validate_animate(job: AnimateJob) -> None:
    _require(job.method in METHODS, "method", f"one of {', '.join(METHODS)}", job.method)
    _require(job.device in DEVICES, "device", f"one of {', '.join(DEVICES)}", job.device)
    _require(job.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", job.precision)
    _require_number("vertices", job.vertices, MIN_VERTICES, MAX_VERTICES)
    _require_number("seed", job.seed, 0, MAX_SEED)
    _require_number("threads", job.threads, 1, MAX_THREADS)
    _require_number("scene_frame_rate", job.scene_frame_rate, 1, 240)
    _require_number("audio_start_seconds", job.audio_start_seconds, 0.0, 1e7)
    _require_number("audio_duration_seconds", job.audio_duration_seconds, 0.0, 1e7)
    _require_number("basis_error_limit_mm", job.basis_error_limit_mm, 0.001, 100.0)
    _require_paths(job, ("audio", "output", "weights", "head_weights", "cache"))
    _validate_facetalk(job)


def _validate_facetalk(job: AnimateJob) -> None:
    _require(job.surface in SURFACES, "surface", f"one of {', '.join(SURFACES)}", job.surface)
    _require(job.sampler in SAMPLERS, "sampler", f"one of {', '.join(SAMPLERS)}", job.sampler)
    _require_number("grid", job.grid, MIN_GRID, MAX_GRID)
    _require_number("take", job.take, 1, MAX_TAKE)
    _require_number("takes", job.takes, 1, MAX_TAKES)
    _require_number("guidance", job.guidance, 0.0, MAX_GUIDANCE)
    _require_number("diversity", job.diversity, 0.0, MAX_DIVERSITY)
    _require_number("sampler_steps", job.sampler_steps, 1, MAX_SAMPLER_STEPS)
    if job.sampler != "dpm_solver++":
        is_divisor = MAX_SAMPLER_STEPS % job.sampler_steps == 0
        _require(is_divisor, "sampler_steps", f"a divisor of {MAX_SAMPLER_STEPS} for {job.sampler}", job.sampler_steps)
    if job.method != "facetalk":
        for name, default in FaceTalkSettings().as_fields().items():
            value = getattr(job, name)
            _require(value == default, name, f"none for {job.method}, since it belongs to facetalk", value)


def _require_paths(job: WorkerJob, names: tuple[str, ...]) -> None:
    for name in names:
        path = getattr(job, name)
        _require(path is None or "\0" not in str(path), name, "a path without null characters", path)


def _require_number(name: str, value: float | None, lowest: float, highest: float) -> None:
    if value is not None:
        within = math.isfinite(value) and lowest <= value <= highest
        _require(within, name, f"{lowest:g} to {highest:g}", value)


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise UsageError(f"{name}: expected {expected}, got {value!r}")


def _read_field(name: str, field_type: str, value: object) -> Any:
    if not isinstance(value, _FIELD_TYPES[field_type]) or isinstance(value, bool) != (field_type == "bool"):
        raise ValueError(f"{name} must be {field_type}, got {value!r}")
    if isinstance(value, list):
        if not all(isinstance(each, str) for each in value):
            raise ValueError(f"{name} must be {field_type}, got {value!r}")
        return tuple(value)
    if field_type.startswith("Path") and value is not None:
        return Path(str(value))
    return value
