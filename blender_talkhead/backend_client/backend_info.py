"""What the backend says of itself: versions, devices, shipped weights."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from ..contract.errors import BackendError
from .python_environment import backend_environment, backend_root, find_backend_python

_TIMEOUT_SECONDS = 120


def ask_backend_info() -> dict[str, Any]:
    """Return the JSON object of `python -m torch_backend info --json`, with the Python that runs it.

    Raises:
        BackendError: no Python has torch, or the backend fails or does not answer.
    """
    python = find_backend_python()
    try:
        answer = subprocess.run(
            [str(python), "-m", "torch_backend", "info", "--json"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            cwd=backend_root(),
            env=backend_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(f"the backend's Python {python} does not answer: {error}") from error
    if answer.returncode != 0:
        raise BackendError(f"the backend's info failed with exit code {answer.returncode}:\n{answer.stderr[-1500:]}")
    try:
        content = json.loads(answer.stdout)
    except ValueError as error:
        raise BackendError(f"the backend's info is not JSON: {answer.stdout[:200]!r}") from error
    if not isinstance(content, dict):
        raise BackendError(f"the backend's info must be a JSON object, got {type(content).__name__}")
    return {"python": str(python), **content}
