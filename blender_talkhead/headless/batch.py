"""`talkhead batch`: many animations in one Blender and with one warm backend, each with files of its own."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from ..command_options import AnimateOptions, BatchOptions
from ..contract.errors import ExitCode, TalkHeadError
from ..reporting import JobReporter
from .animation import HeadlessAnimation, describe_result
from .files import open_file

logger = logging.getLogger(__name__)


def run_batch(options: BatchOptions, reporter: JobReporter) -> int:
    """Do one job after another; a failed one is reported and the next one goes on.

    A job without a file of its own starts from the .blend file that was open, or from an empty scene.

    Returns:
        0 when all succeeded, else the highest exit code of a job.
    """
    first_file = open_file()
    results: list[dict[str, Any]] = []
    for number, job in enumerate(options.jobs, start=1):
        if job.file is None and first_file is not None:
            job = dataclasses.replace(job, file=first_file)
        code, result = _run_job(job, reporter.for_job(number, len(options.jobs)), job.file is None)
        results.append({"job": str(number), "exit_code": code, "audio": str(job.audio), **result})
        if code != ExitCode.DONE and options.stop_on_error:
            break
    failed = sum(result["exit_code"] != ExitCode.DONE for result in results)
    summary = {"num_jobs": len(options.jobs), "num_done": len(results) - failed, "num_failed": failed, "jobs": results}
    text = f"{len(results) - failed} of {len(options.jobs)} jobs done"
    reporter.done(summary, text if not failed else f"{text}, {failed} failed")
    return max((int(result["exit_code"]) for result in results), default=0)


def _run_job(job: AnimateOptions, reporter: JobReporter, starts_empty: bool) -> tuple[int, dict[str, Any]]:
    try:
        result = HeadlessAnimation(job, reporter, starts_empty).run()
    except TalkHeadError as error:
        reporter.error(error.exit_code, str(error))
        return int(error.exit_code), {"error": str(error)}
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        logger.debug("the job failed", exc_info=True)
        reporter.error(ExitCode.FAILED, f"{type(error).__name__}: {error}")
        return int(ExitCode.FAILED), {"error": str(error)}
    reporter.done(result, describe_result(result))
    return int(ExitCode.DONE), result
