"""Installs the backend: an environment of its own with torch and what the models need, on a thread.

The environment appears under its name only when the backend has answered from it.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..contract.errors import BackendError, CancelledError, OutputError, TalkHeadError
from .child_process import ChildProcess
from .environment_folder import (
    EnvironmentFacts,
    new_folder_of,
    only_installation,
    recover_environment,
    replace_environment,
    write_environment,
)
from .install_plan import (
    InstallPlan,
    all_requirements,
    download_bytes,
    download_source,
    needed_bytes,
    others_command,
    pip_environment,
    torch_command,
    validate_plan,
    wheel_pythons,
)
from .pip_progress import PipProgress, explain_pip_failure
from .python_candidates import environment_python, find_base_pythons
from .python_environment import PythonReport, backend_environment, check_python, run_to_end
from .requirements import load_requirements

__all__ = ["BackendInstaller", "InstallPlan", "download_bytes", "download_source", "needed_bytes"]

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.2
_EXIT_SECONDS = 3.0
_ESTIMATE_FROM_FRACTION = 0.04
_PROBE = "import json, sys, venv, ensurepip; print(json.dumps('%d.%d.%d' % sys.version_info[:3]))"

# Where each step ends, as part of the whole installation.
_MADE, _TORCH_INSTALLED, _ALL_INSTALLED = 0.04, 0.62, 0.94


class BackendInstaller:
    """One installation; `start` it, then ask `poll` and read the attributes now and then.

    Args:
        plan: what to install, from where, into which folder. An environment that is there is replaced when the new one
            works (a repair).
        online_allowed: whether packages may be downloaded (`bpy.app.online_access`).

    Raises:
        TalkHeadError: the plan cannot work out, as far as that can be known now; nothing was made.
    """

    def __init__(self, plan: InstallPlan, online_allowed: bool) -> None:
        validate_plan(plan, online_allowed)
        self._plan = plan
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began = time.monotonic()
        self._finished = threading.Event()
        self.phase = "starting"
        """What is being done, for people."""
        self.fraction = 0.0
        """Done part of the installation, 0..1, never falling."""
        self.seconds_left: float | None = None
        """Estimate; None while unknown."""
        self.error = ""
        """Why it failed, with the remedy; empty otherwise."""
        self.exit_code = 0
        """The error's exit code."""
        self.was_cancelled = False
        self.report: PythonReport | None = None
        """What the new environment has; None before the end."""
        self.log = ""
        """The end of the last step's log."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self._finished.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._began = time.monotonic()
        atexit.register(self._end_with_program)
        self._thread.start()

    def poll(self) -> bool:
        """Return whether it is finished; never blocks."""
        return self.is_finished

    def cancel(self) -> None:
        """Stop it and remove what it has made; `is_finished` tells when that is done."""
        self._cancelled.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; returns whether it has come."""
        return self._finished.wait(seconds)

    def _end_with_program(self) -> None:
        self.cancel()
        self.wait(_EXIT_SECONDS)

    def _run(self) -> None:
        try:
            with only_installation(self._plan.folder):
                recover_environment(self._plan.folder)
                try:
                    self._install()
                finally:
                    shutil.rmtree(new_folder_of(self._plan.folder), ignore_errors=True)
            self._tell("done", 1.0)
        except CancelledError:
            self.was_cancelled = True
        except TalkHeadError as error:
            self.error, self.exit_code = str(error), int(error.exit_code)
        except OSError as error:
            problem = OutputError(f"cannot install into {self._plan.folder}: {error.strerror or error}")
            self.error, self.exit_code = str(problem), int(problem.exit_code)
        except Exception as error:
            logger.exception("the installation failed")
            self.error, self.exit_code = f"unexpected error, {type(error).__name__}: {error}", 1
        finally:
            self.seconds_left = None
            atexit.unregister(self._end_with_program)
            self._finished.set()

    def _install(self) -> None:
        plan, folder = self._plan, new_folder_of(self._plan.folder)
        self._tell("looking for a Python", 0.0)
        base, version = self._choose_base()
        self._tell("making the environment", 0.01)
        command = [str(base), "-m", "venv", str(folder)]
        if self._run_step(command, pip_environment(plan), lambda line: None, lambda child: None) != 0:
            raise BackendError(f"{base} cannot make an environment: {self.log.strip()[-500:]}")
        python = environment_python(folder)
        source = load_requirements().torch[plan.build]
        self._run_pip(torch_command(plan, python), source.download_bytes, _MADE, _TORCH_INSTALLED)
        others = others_command(plan, python, version)
        self._run_pip(others, load_requirements().others_bytes, _TORCH_INSTALLED, _ALL_INSTALLED)
        self._tell("checking", _ALL_INSTALLED)
        report = check_python(python, "installed by TalkHead", stop=self._cancelled)
        self._stop_if_cancelled()
        if not report.is_usable:
            raise BackendError(f"the new environment does not work: {report.problem}")
        packages = tuple(all_requirements(version))
        write_environment(folder, EnvironmentFacts(plan.build, report.python_version, report.torch_version, packages))
        self._tell("putting it in place", 0.99)
        replace_environment(plan.folder)
        self.report = dataclasses.replace(report, python=environment_python(plan.folder))

    def _choose_base(self) -> tuple[Path, str]:
        """A Python that can make environments, of a version that the packages are for; tested versions first."""
        versions = wheel_pythons(self._plan)
        named = self._plan.base_python
        candidates = [named] if named is not None else find_base_pythons(dict.fromkeys(versions))
        fitting: list[tuple[Path, str]] = []
        problems: list[str] = []
        for python in candidates:
            code, output, log = run_to_end([str(python), "-c", _PROBE], 30.0, self._cancelled, backend_environment())
            self._stop_if_cancelled()
            version = _read_version(output) if code == 0 else ""
            if ".".join(version.split(".")[:2]) in versions:
                fitting.append((python, version))
            elif version:
                problems.append(f"{python} is Python {version}")
            else:
                problems.append(_explain_probe(python, log))
        tested = [each for each in fitting if each[1].startswith(load_requirements().tested_pythons)]
        if fitting:
            return (tested or fitting)[0]
        raise BackendError(
            f"no Python {' or '.join(versions)} that can make an environment was found: install one, then try again. "
            f"{'; '.join(problems[:4])}"
        )

    def _run_pip(self, command: list[str], expected_bytes: int, first: float, last: float) -> None:
        has_wheels = self._plan.wheel_folder is not None
        folder = new_folder_of(self._plan.folder)
        sites = [*folder.glob("lib/python3*/site-packages"), *folder.glob("Lib/site-packages")]
        progress = PipProgress(0 if has_wheels else expected_bytes, sites[0] if sites else None)

        def follow(child: ChildProcess) -> None:
            self._tell(progress.describe(), first + (last - first) * progress.measure(child.scratch_folder))

        if self._run_step(command, pip_environment(self._plan), progress.read_line, follow) != 0:
            raise BackendError(f"the packages could not be installed: {explain_pip_failure(self.log, has_wheels)}")

    def _run_step(
        self,
        command: list[str],
        environment: Mapping[str, str],
        read_line: Callable[[str], None],
        follow: Callable[[ChildProcess], None],
    ) -> int:
        """Run a program to its end; returns its exit code. A cancel kills it and all that it has started."""
        logger.info("running %s", " ".join(command))

        def take(line: str) -> bool:
            read_line(line)
            return False

        # Downloads lie on the environment's disk: the system's place for temporary files may be small.
        folder = new_folder_of(self._plan.folder)
        child = ChildProcess(
            command, environment, folder.parent, take, scratch_parent=folder if folder.is_dir() else folder.parent
        )
        child.close_input()
        while not child.wait(_TICK_SECONDS):
            if self._cancelled.is_set():
                child.kill()
                child.wait(5.0)
                raise CancelledError("cancelled")
            follow(child)
        self.log = child.log_tail(40)
        self._stop_if_cancelled()
        return child.exit_code or 0

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("cancelled")

    def _tell(self, phase: str, fraction: float) -> None:
        self.phase = phase
        self.fraction = max(self.fraction, fraction)
        elapsed = time.monotonic() - self._began
        if self.fraction > _ESTIMATE_FROM_FRACTION:
            self.seconds_left = elapsed * (1.0 - self.fraction) / self.fraction


def _read_version(output: str) -> str:
    try:
        return str(json.loads(output.strip().splitlines()[-1]))
    except (ValueError, IndexError):
        return ""


def _explain_probe(python: Path, log: str) -> str:
    if "ensurepip" in log or "venv" in log:
        return f"{python} cannot make environments (Debian, Ubuntu: apt install python3-venv)"
    return f"{python} does not start: {(log.strip().splitlines() or ['no reason given'])[-1][:200]}"
