"""Errors that a user sees, each with the exit code of the headless commands (design: exit codes)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `talkhead` and of `python -m torch_backend`."""

    DONE = 0
    FAILED = 1
    """Anything without a code of its own: disk full, output not writable."""
    USAGE = 2
    """An unknown option, or an option out of its range."""
    BAD_INPUT = 3
    BACKEND = 4
    """The backend or its weights are missing, broken or of another version."""
    CANCELLED = 5


class TalkHeadError(Exception):
    """An error whose message is shown to the user as it stands; it names the remedy."""

    exit_code: ExitCode = ExitCode.FAILED


class OutputError(TalkHeadError):
    """The output cannot be written: disk full, folder not writable."""

    exit_code = ExitCode.FAILED


class UsageError(TalkHeadError):
    """An option is out of its range."""

    exit_code = ExitCode.USAGE


class BadInputError(TalkHeadError):
    """A file or scene that the user gave cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class BackendError(TalkHeadError):
    """The backend or its weights are missing, broken or of another version."""

    exit_code = ExitCode.BACKEND


class CancelledError(TalkHeadError):
    """The user cancelled the job."""

    exit_code = ExitCode.CANCELLED
