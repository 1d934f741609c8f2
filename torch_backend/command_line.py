"""The backend's command: arguments in, one job run, an exit code out. torch is imported only when a job needs it.

python -m torch_backend animate AUDIO --method mmtalker --output DIR
python -m torch_backend train mmtalker|facetalk --corpus DIR --output DIR
python -m torch_backend train nphm --output DIR
python -m torch_backend evaluate --corpus DIR
python -m torch_backend corpus --output DIR --seed N
python -m torch_backend fit identity SCAN --output FILE.safetensors
python -m torch_backend fit expressions CLIP ... --output DIR
python -m torch_backend info
python -m torch_backend serve
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from blender_talkhead.contract.errors import BadInputError, ExitCode, UsageError
from blender_talkhead.contract.jobs import (
    DEVICES,
    MAX_SEED,
    MAX_THREADS,
    MAX_VERTICES,
    METHODS,
    MIN_VERTICES,
    PRECISIONS,
    SCAN_SUFFIX,
    AnimateJob,
    InfoJob,
    take_folders,
    validate_job,
)
from blender_talkhead.contract.option_types import (
    add_facetalk_options,
    integer_within,
    number_within,
    take_facetalk_settings,
)
from blender_talkhead.facial.identities import read_identity_option
from torch_backend.emitter import Emitter
from torch_backend.failures import explain_failure
from torch_backend.fit_options import FIT_JOBS, add_fit_options
from torch_backend.info import describe_backend, read_version
from torch_backend.jobs import (
    TRAINED_MODELS,
    CorpusJob,
    EvaluateJob,
    FitExpressionsJob,
    FitIdentityJob,
    ServeJob,
    TrainJob,
)
from torch_backend.signals import signals_interrupt

Job = AnimateJob | TrainJob | EvaluateJob | CorpusJob | FitIdentityJob | FitExpressionsJob | InfoJob | ServeJob

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, output: TextIO | None = None, log: TextIO | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows `python -m torch_backend`; None takes this process's.
        output: in place of stdout.
        log: in place of stderr.

    Returns:
        The exit code (blender_talkhead.contract.errors.ExitCode).
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    emitter = Emitter("--json" in arguments or "serve" in arguments[:1], output, log)
    try:
        with signals_interrupt():
            return _run(arguments, emitter, output, log)
    except (Exception, KeyboardInterrupt) as error:
        logger.debug("the run failed", exc_info=True)
        return _fail(emitter, *explain_failure(error))


def parse_job(arguments: Sequence[str]) -> tuple[Job, argparse.Namespace]:
    """Read the arguments into a job, and the options that are not the job's (verbose, json).

    Raises:
        UsageError: an unknown option, or one out of its range.
        SystemExit: after --help.
    """
    values = _build_parser().parse_args(list(arguments))
    others = {"command", "fitted", "json", "verbose"}
    fields = {name: value for name, value in vars(values).items() if name not in others}
    if values.command == "animate":
        fields |= take_facetalk_settings(fields).as_fields()
    job_classes: dict[str, Callable[..., Job]] = {
        "animate": AnimateJob,
        "train": TrainJob,
        "evaluate": EvaluateJob,
        "corpus": CorpusJob,
        "info": InfoJob,
        "serve": ServeJob,
    }
    job_class = FIT_JOBS[values.fitted] if values.command == "fit" else job_classes[values.command]
    return job_class(**fields), values


def _run(arguments: list[str], emitter: Emitter, output: TextIO | None, log: TextIO | None) -> int:
    try:
        job, values = parse_job(arguments)
    except SystemExit:  # --help
        return ExitCode.DONE
    _start_logging(values.verbose, log)
    if isinstance(job, InfoJob):
        emitter.report(describe_backend(values.json))
        return ExitCode.DONE
    if isinstance(job, ServeJob):
        from torch_backend.worker import Worker, take_stdin

        return Worker(take_stdin(), sys.stdout if output is None else output, log, job).run()
    from torch_backend import fit_jobs, handlers

    if isinstance(job, EvaluateJob):
        emitter.report(handlers.evaluate(job))
        return ExitCode.DONE
    if isinstance(job, AnimateJob):
        validate_job(job)
    emitter.hello(read_version())
    with emitter.forwarding_warnings():
        further: list[str] = []
        if isinstance(job, AnimateJob):
            folder = handlers.animate(job, emitter)
            further = [str(each) for each in take_folders(job)[1:]]
        elif isinstance(job, TrainJob):
            folder = handlers.train(job, emitter)
        elif isinstance(job, FitIdentityJob):
            folder = fit_jobs.fit_identity(job, emitter)
        elif isinstance(job, FitExpressionsJob):
            folder = fit_jobs.fit_expressions(job, emitter)
        else:
            folder = handlers.make_corpus(job, emitter)
    emitter.done(str(folder), further)
    return ExitCode.DONE


def _fail(emitter: Emitter, exit_code: ExitCode, text: str) -> int:
    with contextlib.suppress(BrokenPipeError):  # nobody is left to be told
        emitter.error(exit_code, text)
    return exit_code


class _LogHandler(logging.StreamHandler):
    """The log of a run."""


def _start_logging(verbose: bool, log: TextIO | None) -> None:
    """Log to stderr: everything of our own with --verbose, else errors only (warnings travel as messages)."""
    handler = _LogHandler(log)
    handler.setLevel(logging.DEBUG if verbose else logging.ERROR)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _LogHandler)]:
        root.removeHandler(old)  # of an earlier run in this process
    root.addHandler(handler)
    logging.getLogger("torch_backend").setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.captureWarnings(True)


class _Parser(argparse.ArgumentParser):
    """Raises UsageError in place of ending the process, so that --json callers get a message too."""

    def error(self, message: str) -> NoReturn:
        """Raise."""
        raise UsageError(f"{message}\n{self.format_usage().strip()}")


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m torch_backend", description="TalkHead's torch backend.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def add_command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    _add_animate_options(add_command("animate", "Turn a recording into a result folder."))
    _add_train_options(add_command("train", "Train a model."))
    evaluate = add_command("evaluate", "Compare MMTalker with the articulated motion on held-out utterances.")
    evaluate.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--weights", type=Path, metavar="FILE", help="default: the shipped ones")
    evaluate.add_argument("--encoder", metavar="FOLDER|NAME", help="default: the one that the weights name")
    evaluate.add_argument("--limit", type=integer_within(1, 10**6), default=40, metavar="N", help="utterances")
    _add_machine_options(evaluate)
    corpus = add_command("corpus", "Synthesise training speech.")
    corpus.add_argument("--output", type=_target_folder, required=True, metavar="DIR")
    corpus.add_argument("--seed", type=integer_within(0, MAX_SEED), default=0, metavar="N")
    corpus.add_argument("--minutes", type=number_within(0.1, 1e5), metavar="N", help="in all; default: the whole plan")
    corpus.add_argument("--processes", type=integer_within(1, MAX_THREADS), default=1, metavar="N")
    corpus.add_argument("--allow-missing", action="store_true", help="leave out engines that are not installed")
    fit = add_command("fit", "Fit FaceTalk's head model to scans.")
    kinds = add_fit_options(fit, _Parser, _target_folder, number_within)
    add_command("info", "Tell versions, devices and shipped weights.")
    serve = add_command("serve", "Be a worker: do jobs from stdin, one after another (docs/protocol.md).")
    add_seconds: Callable[..., Any] = serve.add_argument
    seconds = number_within(0.0, 1e6)
    add_seconds("--idle-seconds", type=seconds, default=120.0, metavar="N", help="then let go of models")
    add_seconds("--exit-after-idle-seconds", type=seconds, default=1800.0, metavar="N", help="then end")
    for command in [*(each for each in commands.choices.values() if each is not fit), *kinds]:
        command.add_argument("--json", action="store_true", help="one JSON object a line on stdout (docs/protocol.md)")
        command.add_argument("--verbose", action="store_true", help="log details to stderr")
    return parser


def _add_animate_options(parser: argparse.ArgumentParser) -> None:
    add: Callable[..., Any] = parser.add_argument
    add("audio", type=Path, metavar="AUDIO", help="recording, in any format that FFmpeg reads")
    add("--method", choices=METHODS, default="mmtalker")
    add("--output", type=_target_folder, required=True, metavar="DIR", help="result folder to write")
    add("--vertices", type=integer_within(MIN_VERTICES, MAX_VERTICES), metavar="M", help="of the skin")
    add(
        "--identity",
        type=_identity,
        metavar="NAME|SEED|NAME=VALUE,...|FILE.json",
        help="identity of the built-in head: preset, random by its number, parameters, or a character's file; "
        "FaceTalk: also a scan that was fitted (FILE.safetensors)",
    )
    add("--seed", type=integer_within(0, MAX_SEED), default=0, metavar="N")
    add(
        "--fps",
        type=number_within(1, 240),
        dest="scene_frame_rate",
        metavar="RATE",
        help="frame rate of the scene, noted in the result; the clip keeps the method's",
    )
    add("--weights", type=Path, metavar="FILE", help="default: the shipped ones")
    add("--encoder", metavar="FOLDER|NAME", help="speech encoder; default: the one that the weights name")
    add("--precision", choices=PRECISIONS, default="auto")
    add(
        "--no-projection",
        action="store_false",
        dest="project_motion",
        help="the network's own output, not projected on the space of its training motion",
    )
    add(
        "--performance",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="natural blinks, brows, gaze, head motion and breathing; without, the network's motion alone",
    )
    add_facetalk_options(parser.add_argument_group("FaceTalk").add_argument, _target_folder)
    _add_machine_options(parser)


def _identity(text: str) -> str:
    if text.endswith(SCAN_SUFFIX):
        return str(Path(text).absolute())
    try:
        return read_identity_option(text)
    except OSError as error:
        raise BadInputError(f"cannot read the character {text}: {error.strerror or error}") from error
    except ValueError as error:
        if text.lower().endswith(".json"):
            raise BadInputError(f"{text} is no character of TalkHead: {error}") from error
        raise UsageError(f"--identity: {error}") from error


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    add: Callable[..., Any] = parser.add_argument
    add("model", choices=TRAINED_MODELS)
    add(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="folder made by the command corpus; facetalk: or of code sequences; nphm needs none",
    )
    add("--output", type=_target_folder, required=True, metavar="DIR", help="folder of the run")
    add("--config", type=Path, metavar="TOML", help="settings; default: those of the shipped weights")
    add("--encoder", metavar="FOLDER|NAME", help="mmtalker, facetalk: speech encoder; default: the shipped one")
    add("--resume", action="store_true", help="go on from the run's last checkpoint")
    add("--steps", type=integer_within(1, 10**9), metavar="N")
    add("--seed", type=integer_within(0, MAX_SEED), metavar="N")
    _add_machine_options(parser)


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--threads", type=integer_within(1, MAX_THREADS), metavar="N")


def _target_folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("expected a folder name, got an empty one")
    return Path(os.path.abspath(text))  # noqa: PTH100 - drops ".." without following links
