"""Every failure of a job as an exit code and a text that a user can act on."""

from __future__ import annotations

import sys

from blender_talkhead.contract.errors import ExitCode, TalkHeadError
from torch_backend.info import PACKAGES_REMEDY

_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def explain_failure(error: BaseException) -> tuple[ExitCode, str]:
    """Return the exit code of an error and what the user is told."""
    if isinstance(error, TalkHeadError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt | BrokenPipeError):
        return ExitCode.CANCELLED, "cancelled"
    if isinstance(error, MemoryError):
        return ExitCode.FAILED, "not enough memory: close other programs, or choose fewer --vertices"
    if isinstance(error, ImportError):
        text = f"{sys.executable} lacks a package of the backend ({_first_line(error)}). {PACKAGES_REMEDY}"
        return ExitCode.BACKEND, text
    if is_out_of_memory(error):
        text = f"not enough memory on the device: use --device cpu or fewer --vertices ({_first_line(error)[:200]})"
        return ExitCode.FAILED, text
    text = f"unexpected error, {type(error).__name__}: {_first_line(error)}"[:500]
    return ExitCode.FAILED, f"{text} (--verbose logs the details)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine or of the device ran out."""
    text = str(error).lower()
    is_torch_error = isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY_WORDS)
    return isinstance(error, MemoryError) or is_torch_error


def _first_line(error: BaseException) -> str:
    text = str(error)
    return text.splitlines()[0] if text else type(error).__name__
