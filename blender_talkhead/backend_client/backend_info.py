"""What the backend says of itself: versions, devices, shipped weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..contract.errors import BackendError
from .python_environment import check_python, find_backend_python


def ask_backend_info(python: Path | None = None) -> dict[str, Any]:
    """Return the JSON object of `python -m torch_backend info --json`, with the Python that runs it.

    A backend that lacks packages answers too, and says so.

    Args:
        python: the Python of the backend; None finds one.

    Raises:
        BackendError: no Python has torch, or the backend fails or does not answer.
    """
    report = check_python(find_backend_python() if python is None else python)
    if not report.facts:
        raise BackendError(report.problem)
    return {"python": str(report.python), **report.facts}
