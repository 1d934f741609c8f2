"""Which Python runs the backend, and the environment it gets."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ..contract.errors import BackendError

PYTHON_VARIABLE = "TALKHEAD_PYTHON"
_DROPPED_PREFIXES = ("PYTHON", "LD_LIBRARY", "DYLD_")
"""Blender's own Python and library paths would break another Python."""


def backend_root() -> Path:
    """Return the folder that holds both packages: the repository, or the installed extension."""
    return Path(__file__).resolve().parents[2]


def find_backend_python(environment: Mapping[str, str] | None = None, preferred: str = "") -> Path:
    """Return the Python that has torch.

    Args:
        environment: environment variables; None for those of this process.
        preferred: path from the preferences, empty when unset; it comes first, then TALKHEAD_PYTHON, then this Python.

    Raises:
        BackendError: none has torch, or the named one is no program.
    """
    environment = os.environ if environment is None else environment
    named = preferred or environment.get(PYTHON_VARIABLE, "")
    if named:
        path = Path(named).expanduser()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise BackendError(f"the Python for the backend, {named}, is not a program; correct {PYTHON_VARIABLE}")
        return path.absolute()  # not resolved: a virtual environment's Python is a link
    if find_spec("torch") is None:
        raise BackendError(
            f"this Python has no torch; set {PYTHON_VARIABLE} to the Python of the backend's environment "
            "(`python3 build.py demo` makes one in .venv)"
        )
    return Path(sys.executable)


def backend_environment(environment: Mapping[str, str] | None = None, root: Path | None = None) -> dict[str, str]:
    """Return the environment variables for the backend: ours without Python's and the loader's, both packages found."""
    environment = os.environ if environment is None else environment
    kept = {name: value for name, value in environment.items() if not name.startswith(_DROPPED_PREFIXES)}
    kept["PYTHONPATH"] = str(backend_root() if root is None else root)
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONUTF8"] = "1"
    return kept
