"""Where a Python that has torch may be: what the user named, what TalkHead installed, the usual places.

Only files are looked at, no program is started; whether a candidate really works, `check_python` finds out.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..contract.errors import BackendError

PYTHON_VARIABLE = "TALKHEAD_PYTHON"
IS_WINDOWS = os.name == "nt"

_HOME_ENVIRONMENTS = (".venv", "venv", ".virtualenvs/*", ".local/share/virtualenvs/*", ".pyenv/versions/*")
_CONDA_HOMES = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")
_SITE_FOLDERS = (
    "lib/python3*/site-packages",
    "lib64/python3*/site-packages",
    "lib/python3*/dist-packages",
    "local/lib/python3*/dist-packages",
    "Lib/site-packages",
)
_MAX_PER_PLACE = 20
"""Environments looked at in one folder, newest names first, so that a crowded home costs little."""


@dataclass(frozen=True)
class Candidate:
    """A Python that may run the backend."""

    python: Path
    origin: str
    """Where it was found, as shown to the user."""


def backend_root() -> Path:
    """Return the folder that holds both packages: the repository, or the installed extension."""
    return Path(__file__).resolve().parents[2]


def environment_python(folder: Path) -> Path:
    """Return where a virtual environment has its Python on this system, whether it exists or not."""
    return folder / "Scripts" / "python.exe" if IS_WINDOWS else folder / "bin" / "python"


def named_python(preferred: str, environment: Mapping[str, str]) -> Candidate | None:
    """Return the Python that the preferences or TALKHEAD_PYTHON name; None when neither does.

    Raises:
        BackendError: what is named is no program.
    """
    for named, origin in ((preferred, "preferences"), (environment.get(PYTHON_VARIABLE, ""), PYTHON_VARIABLE)):
        if not named.strip():
            continue
        path = Path(named.strip()).expanduser()
        if path.is_dir():
            path = _python_in(path) or path
        if not _is_program(path):
            where = "in the add-on's preferences" if origin == "preferences" else f"in {PYTHON_VARIABLE}"
            raise BackendError(f"the Python for the backend, {named}, is not a program; correct it {where}")
        return Candidate(path.absolute(), origin)  # not resolved: a virtual environment's Python is a link
    return None


def candidate_pythons(
    preferred: str = "", own_environment: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[Candidate]:
    """List the Pythons that may have torch, best first, each once.

    A named one (preferences, TALKHEAD_PYTHON) stands alone: it is what the user wants, or there is a message. Others
    are listed when torch lies among their packages.

    Args:
        preferred: path of a Python or of its environment from the preferences; empty when unset.
        own_environment: folder of the environment that TalkHead installs.
        environment: environment variables; None for those of this process.

    Raises:
        BackendError: what is named is no program.
    """
    environment = os.environ if environment is None else environment
    named = named_python(preferred, environment)
    if named is not None:
        return [named]
    found: dict[str, Candidate] = {}
    for candidate in _unnamed_candidates(own_environment, environment):
        found.setdefault(os.path.normcase(candidate.python), candidate)
    return list(found.values())


def holds_torch(python: Path) -> bool:
    """Whether torch lies among the packages of a Python, as far as its files tell."""
    prefixes = [
        python.parent.parent,
        python.parent,
    ]  # bin/python or Scripts/python.exe; conda's and Windows' python.exe
    settings = _read_settings(python.parent.parent / "pyvenv.cfg")
    if not settings:
        prefixes.append(python.resolve().parent.parent)
    elif settings.get("include-system-site-packages") == "true" and "home" in settings:
        prefixes.append(Path(settings["home"]).parent)
    if any((site / "torch").is_dir() for prefix in prefixes for site in _site_folders(prefix)):
        return True
    return not settings and any((site / "torch").is_dir() for site in _user_site_folders(python.resolve()))


def find_base_pythons(versions: Mapping[str, object]) -> list[Path]:
    """List Pythons that an environment may be made from, best first: this one, those on PATH, those in usual places.

    Args:
        versions: supported versions such as "3.11", best first.
    """
    found = []
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if own in versions and _is_python_name(Path(sys.executable)):
        found.append(Path(sys.executable))
    names = [f"python{version}" for version in versions] + ["python3", "python"]
    found += [path for path in map(_on_path, names) if path is not None]
    if IS_WINDOWS:
        for version in versions:
            found += list(_windows_installations(version.replace(".", "")))
    else:
        found += [Path(folder, f"python{version}") for version in versions for folder in ("/usr/bin", "/usr/local/bin")]
        found += [Path("/opt/homebrew/bin", f"python{version}") for version in versions]
    programs = [path for path in found if _is_program(path)]
    resolved = [path.resolve() for path in programs]
    return [path for index, path in enumerate(programs) if resolved[index] not in resolved[:index]]


def _unnamed_candidates(own_environment: Path | None, environment: Mapping[str, str]) -> Iterator[Candidate]:
    if own_environment is not None and _is_program(environment_python(own_environment)):
        yield Candidate(environment_python(own_environment), "installed by TalkHead")
    if find_spec("torch") is not None and _is_python_name(Path(sys.executable)):
        yield Candidate(Path(sys.executable), "this Python")
    for prefix, origin in _usual_prefixes(environment):
        python = _python_in(prefix)
        if python is not None and holds_torch(python):
            yield Candidate(python, origin)
    for python in find_base_pythons({"3.11": 0, "3.13": 0, "3.12": 0, "3.14": 0}):
        if holds_torch(python):
            yield Candidate(python, "on PATH")


def _usual_prefixes(environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environment.get(variable):
            yield Path(environment[variable]), variable
    for name in (".venv", "venv"):
        yield backend_root() / name, "beside TalkHead"
    try:
        home = Path.home()
    except RuntimeError:
        return
    for pattern in _HOME_ENVIRONMENTS:
        for prefix in _expand(home, pattern):
            yield prefix, "home folder"
    roots = [home / name for name in _CONDA_HOMES] + [Path("/opt/conda"), Path("/opt/miniconda3")]
    if IS_WINDOWS and environment.get("LOCALAPPDATA"):
        roots += [Path(environment["LOCALAPPDATA"], name) for name in ("miniconda3", "anaconda3", "miniforge3")]
    for root in roots:
        yield root, "conda"
        for prefix in _expand(root, "envs/*"):
            yield prefix, "conda"


def _windows_installations(digits: str) -> Iterator[Path]:
    for variable, below in (("LOCALAPPDATA", "Programs/Python"), ("ProgramFiles", ""), ("SystemDrive", "/")):
        if os.environ.get(variable):
            yield Path(os.environ[variable], below, f"Python{digits}", "python.exe")


def _python_in(prefix: Path) -> Path | None:
    """The Python of an environment's folder: virtual environments and conda, every system."""
    names = ("Scripts/python.exe", "python.exe") if IS_WINDOWS else ("bin/python", "bin/python3")
    return next((prefix / name for name in names if _is_program(prefix / name)), None)


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    if found is None or (IS_WINDOWS and "WindowsApps" in found):  # a stub that opens the store
        return None
    return Path(found).absolute()


def _is_program(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except (OSError, ValueError):
        return False


def _is_python_name(path: Path) -> bool:
    return path.name.lower().startswith("python")


def _expand(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern), reverse=True)[:_MAX_PER_PLACE]
    except OSError:
        return []


def _site_folders(prefix: Path) -> Iterator[Path]:
    for pattern in _SITE_FOLDERS:
        yield from _expand(prefix, pattern)


def _user_site_folders(python: Path) -> Iterator[Path]:
    found = re.search(r"(3\.\d+)", python.name)
    version = found.group(1) if found else "3*"
    try:
        home = Path.home()
    except RuntimeError:
        return
    yield from _expand(home, f".local/lib/python{version}/site-packages")
    yield from _expand(home, f"Library/Python/{version}/lib/python/site-packages")
    if os.environ.get("APPDATA"):
        digits = version.replace(".", "")
        yield from _expand(Path(os.environ["APPDATA"]), f"Python/Python{digits}/site-packages")


def _read_settings(path: Path) -> dict[str, str]:
    """A pyvenv.cfg: its lines `name = value`; empty when there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
