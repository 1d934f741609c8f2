"""The one headless command: `blender -b --command talkhead ...` and `python -m blender_talkhead ...`.

Its jobs are in headless/, which alone, beside operators/, calls Blender's operators: it opens, renders and saves.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy

from . import compat
from .backend_client.backend_info import ask_backend_info
from .backend_client.shared_worker import close_shared_worker
from .bake.inventory import list_heads, remove_head
from .bake.mesh_cache import cache_path
from .bake.provenance import take_action
from .command_options import (
    AnimateOptions,
    BatchOptions,
    InfoOptions,
    Options,
    RemoveOptions,
    parse_options,
)
from .contract.errors import BackendError, BadInputError, ExitCode, TalkHeadError
from .contract.version import read_version
from .headless.animation import HeadlessAnimation, describe_result
from .headless.batch import run_batch
from .headless.files import open_file, open_scene_file, save_copy
from .output_files import OutputFiles
from .reporting import JobReporter, WarningForwarder
from .terminal import mute_stderr, take_over_stdout, termination_as_interrupt

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
            if isinstance(options, BatchOptions):
                return run_batch(options, reporter)
            if isinstance(options, AnimateOptions):
                result = HeadlessAnimation(options, reporter).run()
                reporter.done(result, describe_result(result))
            elif isinstance(options, RemoveOptions):
                remove(options, reporter)
            else:
                show_info(options, reporter)
    except TalkHeadError as error:
        reporter.error(error.exit_code, str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        kept = "the jobs before this one are done" if isinstance(options, BatchOptions) else "nothing was written"
        reporter.error(ExitCode.CANCELLED, f"cancelled; {kept}")
        return int(ExitCode.CANCELLED)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        logger.debug("the job failed", exc_info=True)
        reporter.error(ExitCode.FAILED, f"{type(error).__name__}: {error}")
        return int(ExitCode.FAILED)
    finally:
        close_shared_worker()
        package_logger.removeHandler(forwarder)
    return int(ExitCode.DONE)


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
    blend_file = options.output or options.file or open_file()
    if blend_file is None:
        raise BadInputError("remove needs a file: give --file FILE.blend")
    stored = cache_path(head)
    cache = None if stored is None else Path(bpy.path.abspath(stored))
    with OutputFiles() as files:
        partial = files.reserve(blend_file)
        remove_head(head)
        save_copy(partial)
        files.commit()
    if cache is not None and blend_file in (options.file, open_file()) and cache.parent == blend_file.parent:
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
    if options.file is not None or open_file() is not None:
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
