"""The Python that runs the backend: found, checked, and given an environment of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract.errors import BackendError
from ..contract.messages import PROTOCOL_VERSION
from .child_process import ChildProcess
from .python_candidates import PYTHON_VARIABLE, Candidate, backend_root, candidate_pythons
from .requirements import load_requirements

CHECK_SECONDS = 120.0
"""How long one Python may take to answer; the first import of torch from a slow disk takes a while."""

_DROPPED_PREFIXES = ("PYTHON", "LD_LIBRARY", "DYLD_")
"""Blender's own Python and library paths would break another Python."""
_REMEDY = (
    f"install the backend in the add-on's preferences, or name a Python that has torch there or in {PYTHON_VARIABLE}"
)


def find_backend_python(
    preferred: str = "", own_environment: Path | None = None, environment: Mapping[str, str] | None = None
) -> Path:
    """Return the Python that runs the backend: the first of `candidate_pythons`. No program is started.

    Args:
        preferred: path from the preferences, empty when unset.
        own_environment: folder of the environment that TalkHead installs.
        environment: environment variables; None for those of this process.

    Raises:
        BackendError: no Python with torch was found, or the named one is no program.
    """
    candidates = candidate_pythons(preferred, own_environment, environment)
    if not candidates:
        raise BackendError(f"no Python with torch was found; {_REMEDY}")
    return candidates[0].python


def backend_environment(environment: Mapping[str, str] | None = None, root: Path | None = None) -> dict[str, str]:
    """Return the environment variables for the backend: ours without Python's and the loader's, both packages found."""
    environment = os.environ if environment is None else environment
    kept = {name: value for name, value in environment.items() if not name.upper().startswith(_DROPPED_PREFIXES)}
    kept["PYTHONPATH"] = str(backend_root() if root is None else root)
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONUTF8"] = "1"
    return kept


@dataclass(frozen=True)
class DeviceReport:
    """A device that torch can use."""

    name: str
    """As a job names it: "cpu", "cuda" or "mps"."""
    description: str
    has_bfloat16: bool
    """Whether bfloat16 is fast on it."""


@dataclass(frozen=True)
class PythonReport:
    """What a check found out about a Python."""

    python: Path
    origin: str = ""
    """Where the Python was found, as shown to the user."""
    python_version: str = ""
    torch_version: str = ""
    devices: tuple[DeviceReport, ...] = ()
    missing: tuple[str, ...] = ()
    """Packages without which nothing can be animated, as pip names them, with their versions."""
    missing_optional: tuple[str, ...] = ()
    """Packages for speech encoders of the user's own and for training."""
    problem: str = ""
    """Why the Python cannot be used, with the remedy; empty when it can."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The backend's `info`; empty when it gave none."""

    @property
    def is_usable(self) -> bool:
        """Whether the backend can animate with this Python."""
        return not self.problem

    @property
    def summary(self) -> str:
        """One line for the panel: versions and devices, or the problem."""
        if self.problem:
            return self.problem.splitlines()[0]
        devices = ", ".join(f"{device.name} ({device.description})" for device in self.devices)
        return f"Python {self.python_version}, torch {self.torch_version}; {devices}"


def check_python(
    python: Path, origin: str = "", timeout_seconds: float = CHECK_SECONDS, stop: threading.Event | None = None
) -> PythonReport:
    """Run the backend's `info` with a Python and report what it has and lacks. Blocks; see `BackgroundCheck`.

    Args:
        python: the program.
        origin: noted in the report.
        timeout_seconds: how long it may take.
        stop: ends the check early, as a failed one, when it is set.
    """
    exit_code, output, log = run_to_end([str(python), "-m", "torch_backend", "info", "--json"], timeout_seconds, stop)
    facts = _read_facts(output)
    if exit_code == 0 and facts is not None:
        return _report(python, origin, facts)
    if exit_code is None:
        return PythonReport(python, origin, problem=f"{log}; {_REMEDY}")
    version = _ask_version(python, stop)
    supported = list(load_requirements().numpy)
    if version and tuple(map(int, version.split(".")[:2])) < tuple(map(int, supported[0].split("."))):
        problem = f"{python} is Python {version}, the backend needs {supported[0]} or newer; {_REMEDY}"
    else:
        last_words = log.strip().splitlines()[-1:] or [f"exit code {exit_code}"]
        problem = f"{python} cannot run the backend ({last_words[0]}); {_REMEDY}"
    return PythonReport(python, origin, python_version=version, problem=problem)


class BackgroundCheck:
    """Looks for a Python that can run the backend, on a thread. Ask `poll` for the result now and then.

    Args:
        preferred: path from the preferences; when set, only that one is checked.
        own_environment: folder of the environment that TalkHead installs.
        python: check just this one.
    """

    def __init__(self, preferred: str = "", own_environment: Path | None = None, python: Path | None = None) -> None:
        self._find: Callable[[], list[Candidate]] = lambda: (
            candidate_pythons(preferred, own_environment) if python is None else [Candidate(python, "")]
        )
        self._stop = threading.Event()
        self._result: PythonReport | BackendError | None = None
        self._now = ""
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def now(self) -> str:
        """The Python that is being checked, for the panel."""
        return self._now

    def poll(self) -> PythonReport | None:
        """Return the report of the first Python that can be used, else of the best; None while the check runs.

        Raises:
            BackendError: there is no Python to check, or the named one is no program.
        """
        result = self._result
        if isinstance(result, BackendError):
            raise result
        return result

    def cancel(self) -> None:
        """End the check; `poll` then raises."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._result = self._check_all()
        except BackendError as error:
            self._result = error
        except Exception as error:
            self._result = BackendError(f"the check failed, {type(error).__name__}: {error}")
            raise

    def _check_all(self) -> PythonReport:
        reports: list[PythonReport] = []
        for candidate in self._find():
            self._now = str(candidate.python)
            reports.append(check_python(candidate.python, candidate.origin, stop=self._stop))
            if self._stop.is_set():
                raise BackendError("the check was cancelled")
            if reports[-1].is_usable:
                return reports[-1]
        if not reports:
            raise BackendError(f"no Python with torch was found; {_REMEDY}")
        return reports[0]


def run_to_end(
    command: list[str],
    timeout_seconds: float,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int | None, str, str]:
    """Run a program to its end and return its exit code, stdout and the end of its log.

    Args:
        command: the program and its arguments.
        timeout_seconds: it is killed when it takes longer.
        stop: it is killed when this is set.
        environment: variables; None is `backend_environment()`.

    Returns:
        Exit code, None when the program was killed or could not be started; stdout; the log's tail, or the reason.
    """
    lines: list[str] = []

    def keep(line: str) -> bool:
        if len(lines) < 1_000:
            lines.append(line)
        return True

    try:
        child = ChildProcess(
            command, backend_environment() if environment is None else environment, backend_root(), keep
        )
    except BackendError as error:
        return None, "", str(error)
    child.close_input()
    deadline = time.monotonic() + timeout_seconds
    while not child.wait(0.05):
        if time.monotonic() > deadline or (stop is not None and stop.is_set()):
            child.kill()
            child.wait(5.0)
            return None, "\n".join(lines), f"{command[0]} did not answer within {timeout_seconds:.0f} s"
    return child.exit_code, "\n".join(lines), child.log_tail()


def _read_facts(output: str) -> dict[str, Any] | None:
    for line in reversed(output.splitlines()):  # what a library prints may stand before it
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict) and isinstance(content.get("packages"), dict):
            return content
    return None


def _report(python: Path, origin: str, facts: dict[str, Any]) -> PythonReport:
    packages: dict[str, Any] = facts["packages"]
    version = str(facts.get("python_version", ""))
    requirements = load_requirements()
    absent = {name for name, installed in packages.items() if installed is None}
    missing = tuple(each for each in requirements.required_for(version) if _package_name(each) in absent)
    missing_optional = tuple(each for each in requirements.optional if _package_name(each) in absent)
    return PythonReport(
        python=python,
        origin=origin,
        python_version=version,
        torch_version=str(packages.get("torch") or ""),
        devices=_read_devices(facts.get("devices")),
        missing=missing,
        missing_optional=missing_optional,
        problem=_find_problem(python, facts, missing),
        facts=facts,
    )


def _find_problem(python: Path, facts: dict[str, Any], missing: tuple[str, ...]) -> str:
    if missing:
        install = subprocess.list2cmdline([str(python), "-m", "pip", "install", *missing])
        names = ", ".join(_package_name(each) for each in missing)
        return f"{python} lacks {names}; {_REMEDY}\nor run: {install}"
    if facts.get("torch_error"):
        return f"{python} has a torch that cannot be used: {facts['torch_error']}"
    if facts.get("protocol_version") != PROTOCOL_VERSION:
        versions = f"protocol {facts.get('protocol_version')}, this add-on has {PROTOCOL_VERSION}"
        return f"{python} runs a backend with {versions}; install the extension again"
    return ""


def _read_devices(content: object) -> tuple[DeviceReport, ...]:
    devices = content if isinstance(content, list) else []
    return tuple(
        DeviceReport(str(each.get("name", "")), str(each.get("description", "")), bool(each.get("bfloat16")))
        for each in devices
        if isinstance(each, dict)
    )


def _ask_version(python: Path, stop: threading.Event | None) -> str:
    """A Python's version such as "3.9.2"; empty when it does not say."""
    question = "import sys; sys.stdout.write('%d.%d.%d' % sys.version_info[:3])"
    _, output, _ = run_to_end([str(python), "-c", question], 20.0, stop)
    return output.strip() if re.fullmatch(r"\d+\.\d+\.\d+", output.strip()) else ""


def _package_name(requirement: str) -> str:
    return re.split(r"[=<>!~\[ ]", requirement, maxsplit=1)[0]
