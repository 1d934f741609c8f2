"""Options of the headless command, checked before anything starts (no bpy: `--help` answers at once)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contract.errors import BadInputError, ExitCode
from .contract.jobs import MAX_SAMPLER_STEPS, SCAN_SUFFIX, FaceTalkSettings
from .contract.jobs import METHODS as SHIPPED_METHODS
from .contract.option_types import add_facetalk_options, integer_within, take_facetalk_settings
from .facial.identities import read_identity_option
from .job_list import read_job_list

METHODS = ("mmtalker", "facetalk", "hicode", "fg3dgs")
DEFAULT_METHOD = "mmtalker"
BAKE_MODES = ("basis", "per-frame", "cache")
DEVICES = ("auto", "cpu", "cuda", "mps")
MIN_VERTICES, MAX_VERTICES = 500, 50_000
OWN_MESH, NATIVE = 0, "native"
"""In place of a number of vertices: the head's own mesh; as bake.animation has it."""
MIN_FPS, MAX_FPS = 1.0, 240.0
MIN_START, MAX_START = -100_000, 1_000_000
MAX_SEED = 2**32 - 1

SWITCHES = ("extend-range",)
"""Options of `animate` without a value."""
_AVATAR_OPTIONS = ("avatar",)


@dataclass(frozen=True)
class AnimateOptions:
    """Options of `animate`, resolved: paths are absolute, None means not given."""

    audio: Path
    file: Path | None
    target: str | None
    method: str
    vertices: int | None
    """Of the skin; OWN_MESH is the head's own mesh."""
    identity: str | None
    """As one line of text, also where a file was given."""
    bake: str
    start: int
    extend_range: bool
    fps: float | None
    seed: int | None
    device: str
    output: Path | None
    preview: Path | None
    json: bool
    facetalk: FaceTalkSettings = field(default_factory=FaceTalkSettings)
    """What FaceTalk alone is asked for."""


@dataclass(frozen=True)
class BatchOptions:
    """Options of `batch`."""

    jobs: tuple[AnimateOptions, ...]
    stop_on_error: bool
    json: bool


@dataclass(frozen=True)
class RemoveOptions:
    """Options of `remove`."""

    name: str
    file: Path | None
    output: Path | None
    json: bool


@dataclass(frozen=True)
class InfoOptions:
    """Options of `info`."""

    file: Path | None
    json: bool


Options = AnimateOptions | BatchOptions | RemoveOptions | InfoOptions


def parse_options(arguments: Sequence[str], program: str = "talkhead") -> Options:
    """Parse and check the arguments after the command's name.

    Raises:
        SystemExit: code 2 with a message on stderr for a wrong option; code 0 after --help.
    """
    parser, animate = _build_parsers(program)
    values = parser.parse_args(list(arguments))
    if values.command == "remove":
        return RemoveOptions(values.name, _absolute(values.file), _absolute(values.output), values.json)
    if values.command == "info":
        return InfoOptions(_absolute(values.file), values.json)
    if values.command == "batch":
        return _batch_options(parser, animate, values)
    return _animate_options(animate, values)


def _batch_options(
    parser: argparse.ArgumentParser, animate: argparse.ArgumentParser, values: argparse.Namespace
) -> BatchOptions:
    """Parse every job of a list before the first one starts."""
    path = values.jobs.absolute()
    try:
        rows = read_job_list(path, SWITCHES)
    except BadInputError as error:
        parser.exit(int(error.exit_code), f"error: {error}\n")
    jobs = []
    for number, row in enumerate(rows, start=1):
        animate.prog = f"{path.name}, job {number}"
        jobs.append(_animate_options(animate, animate.parse_args(row)))
    return BatchOptions(tuple(jobs), values.stop_on_error, values.json)


def _animate_options(parser: argparse.ArgumentParser, values: argparse.Namespace) -> AnimateOptions:
    _check_animate(parser, values)
    facetalk = take_facetalk_settings(vars(values))
    _check_facetalk(parser, values, facetalk)
    return AnimateOptions(
        audio=values.audio.absolute(),
        file=_absolute(values.file),
        target=values.target,
        method=values.method,
        vertices=values.vertices,
        identity=_identity(parser, values.identity),
        bake=values.bake,
        start=values.start,
        extend_range=values.extend_range,
        fps=values.fps,
        seed=values.seed,
        device=values.device,
        output=_absolute(values.output),
        preview=_absolute(values.preview),
        json=values.json,
        facetalk=facetalk,
    )


def _identity(parser: argparse.ArgumentParser, text: str | None) -> str | None:
    if text is not None and text.endswith(SCAN_SUFFIX):
        return str(Path(text).absolute())
    try:
        return None if text is None else read_identity_option(text)
    except OSError as error:
        parser.exit(int(ExitCode.BAD_INPUT), f"error: cannot read the character {text}: {error.strerror or error}\n")
    except ValueError as error:
        if text is not None and text.lower().endswith(".json"):
            parser.exit(int(ExitCode.BAD_INPUT), f"error: {text} is no character of TalkHead: {error}\n")
        parser.error(f"--identity: {error}")


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def _check_animate(parser: argparse.ArgumentParser, values: argparse.Namespace) -> None:
    if values.method not in SHIPPED_METHODS:
        shipped = " and ".join(SHIPPED_METHODS)
        parser.error(f"--method {values.method} is not in this version of TalkHead, which has {shipped}")
    others: list[tuple[tuple[str, ...], str]] = [(_AVATAR_OPTIONS, "HiCoDe and FG-3DGS")]
    if values.method != "facetalk":
        others.append((tuple(FaceTalkSettings().as_fields()), "FaceTalk"))
        if values.identity is not None and values.identity.endswith(SCAN_SUFFIX):
            parser.error(f"--identity: the fitted scan {values.identity} belongs to FaceTalk, not to {values.method}")
    for names, owner in others:
        for name in names:
            if getattr(values, name) is not None:
                parser.error(f"--{name.replace('_', '-')} belongs to {owner}, not to --method {values.method}")
    if values.output is None and values.file is None and values.preview is None:
        parser.error("nothing to write: give --output FILE.blend or --preview FILE.png|FILE.mp4")
    if values.bake == "cache" and values.output is None and values.file is None:
        parser.error("--bake cache needs --output FILE.blend: the cache lies beside it")


def _check_facetalk(parser: argparse.ArgumentParser, values: argparse.Namespace, facetalk: FaceTalkSettings) -> None:
    """Refuse options of FaceTalk that do not go together."""
    is_sequence = facetalk.surface == "sequence"
    if facetalk.sampler != "dpm_solver++" and MAX_SAMPLER_STEPS % facetalk.sampler_steps:
        parser.error(f"--sampler-steps: {facetalk.sampler} takes a divisor of {MAX_SAMPLER_STEPS}")
    if is_sequence and values.vertices is not None:
        parser.error("--vertices belongs to --surface tracked; the vertices of a sequence follow from --grid")
    for is_wrong, what in ((is_sequence, "--surface sequence"), (facetalk.takes > 1, "--takes")):
        if is_wrong and values.target is not None:
            parser.error(f"{what} makes new objects, so it does not go with --target")
    if facetalk.takes > 1 and not is_sequence and values.bake == "cache":
        parser.error("--bake cache holds one take; ask for one after the other with --take, or use --bake basis")


def _build_parsers(program: str) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the whole parser and that of `animate`."""
    parser = argparse.ArgumentParser(prog=program, description="Turn recorded speech into facial animation.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    animate = commands.add_parser(
        "animate", help="animate a head from a recording", description="Animate a head from a recording."
    )
    _add_animate_options(animate)
    batch = commands.add_parser(
        "batch",
        help="animate many recordings with one warm backend",
        description="Animate many recordings: one row of a CSV file, or one table [[job]] of a TOML file, is one job. "
        "Columns and keys are named like the options of animate, and audio; relative paths start at the list's folder.",
    )
    batch.add_argument("jobs", type=_path_with((".csv", ".toml")), metavar="JOBS.csv|JOBS.toml")
    batch.add_argument("--stop-on-error", action="store_true", help="do not go on after a job that failed")
    batch.add_argument("--json", action="store_true", help="one JSON object a line on stdout (docs/protocol.md)")
    remove = commands.add_parser("remove", help="remove an animated head, its takes, sound and cache from a file")
    remove.add_argument("name", metavar="NAME", help="object to remove")
    remove.add_argument("--output", type=_path_with((".blend",)), metavar="FILE.blend", help="default: the same file")
    info = commands.add_parser("info", help="print versions, the backend's state and the heads in a file")
    for command in (animate, remove, info):
        command.add_argument("--file", type=Path, metavar="FILE.blend", help="open this file first")
        command.add_argument("--json", action="store_true", help="one JSON object a line on stdout (docs/protocol.md)")
    return parser, animate


def _add_animate_options(parser: argparse.ArgumentParser) -> None:
    add: Callable[..., Any] = parser.add_argument
    add("audio", type=Path, metavar="AUDIO", help="recording, in any format that FFmpeg reads")
    add("--method", choices=METHODS, default=DEFAULT_METHOD)
    add("--target", metavar="NAME", help="an object in the file, from an earlier take; without it a new head is made")
    add(
        "--vertices",
        type=_vertices,
        metavar="M|native",
        help=f"vertices of the skin, {MIN_VERTICES} to {MAX_VERTICES}, or native: the head's own mesh "
        "(default: as the target has them, else native)",
    )
    add(
        "--identity",
        metavar="NAME|SEED|NAME=VALUE,...|FILE",
        help="face of the built-in head: a preset, the number of a random one, parameters from -1 to 1 (also after a "
        "preset or a number and a comma), or a character saved from the panel; FaceTalk: or a fitted scan "
        "(FILE.safetensors)",
    )
    add("--bake", choices=BAKE_MODES, default="basis")
    add("--start", type=integer_within(MIN_START, MAX_START), default=1, metavar="FRAME", help="default 1")
    add("--extend-range", action="store_true", help="widen the file's frame range to hold the take")
    add("--fps", type=_frame_rate, metavar="RATE", help="frame rate of a new scene, such as 24, 25 or 29.97")
    add("--seed", type=integer_within(0, MAX_SEED), metavar="N")
    add("--device", choices=DEVICES, default="auto")
    add("--output", type=_path_with((".blend",)), metavar="FILE.blend")
    add("--preview", type=_path_with((".png", ".mp4")), metavar="FILE.png|FILE.mp4")
    add_facetalk_options(parser.add_argument_group("FaceTalk").add_argument, lambda text: Path(text).absolute())
    add("--avatar", type=Path, metavar="DIR", help="HiCoDe and FG-3DGS; not in this version")


def _vertices(text: str) -> int:
    return OWN_MESH if text == NATIVE else integer_within(MIN_VERTICES, MAX_VERTICES)(text)


def _frame_rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected frames per second, got {text!r}") from None
    if not (math.isfinite(value) and MIN_FPS <= value <= MAX_FPS):
        raise argparse.ArgumentTypeError(f"expected {MIN_FPS:g} to {MAX_FPS:g} frames per second, got {text}")
    return value


def _path_with(suffixes: tuple[str, ...]) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"expected a file name ending in {' or '.join(suffixes)}, got {text!r}")
        return path

    return parse
