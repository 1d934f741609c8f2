"""The one vocabulary between the add-on and the backend: one JSON object a line, requests in, messages out.

The backend's stdout carries messages and nothing else, its stderr the log. `HelloMessage` comes first; a job ends with
one `DoneMessage`, `InfoMessage` or `ErrorMessage`. A worker (`serve`) reads requests from its stdin. Arrays never
travel in a message: a message names the folder that holds them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from .jobs import WorkerJob, decode_job, encode_job

PROTOCOL_VERSION = 2
"""Raised whenever a message changes its meaning; both sides must agree."""


@dataclass(frozen=True)
class HelloMessage:
    """First line of a process: which protocol the backend speaks."""

    type: ClassVar[str] = "hello"
    protocol_version: int = PROTOCOL_VERSION
    talkhead_version: str = ""
    pid: int = 0
    """Of the backend's process; it differs from the started one where a launcher stands between."""


@dataclass(frozen=True)
class ProgressMessage:
    """How far a job has come."""

    type: ClassVar[str] = "progress"
    phase: str
    """What is being done, as shown to the user, such as "animating"."""
    fraction: float
    """Done part of the whole job, 0..1, never falling."""
    seconds_left: float | None = None
    """Estimate of the time left in the whole job; None while unknown."""
    job: str = ""
    """The job's id; empty in a run of one command."""


@dataclass(frozen=True)
class WarningMessage:
    """Something the user should know; the job goes on."""

    type: ClassVar[str] = "warning"
    text: str
    job: str = ""


@dataclass(frozen=True)
class ErrorMessage:
    """The job failed; a process that runs one command ends with the same exit code, a worker lives on."""

    type: ClassVar[str] = "error"
    exit_code: int
    text: str
    job: str = ""
    """Empty also when a worker was sent a line that is no request."""


@dataclass(frozen=True)
class DoneMessage:
    """The job succeeded and its result lies complete in a folder."""

    type: ClassVar[str] = "done"
    folder: str
    job: str = ""
    more_folders: tuple[str, ...] = ()
    """Of a job with several takes: the results of the second and the following ones."""


@dataclass(frozen=True)
class InfoMessage:
    """A worker's answer to an InfoJob."""

    type: ClassVar[str] = "info"
    facts: dict[str, Any]
    """What `info --json` tells."""
    job: str = ""


@dataclass(frozen=True)
class ReleasedMessage:
    """A worker let go of its models; the next job loads them again."""

    type: ClassVar[str] = "released"


@dataclass(frozen=True)
class JobMessage:
    """Do this job after those that were asked for before."""

    type: ClassVar[str] = "job"
    id: str
    """Chosen by the caller, not empty, of no other waiting or running job; all messages of the job carry it."""
    job: WorkerJob


@dataclass(frozen=True)
class CancelMessage:
    """Stop a job. The answer is an ErrorMessage with exit code 5, or DoneMessage when the job had just ended."""

    type: ClassVar[str] = "cancel"
    id: str


@dataclass(frozen=True)
class ShutdownMessage:
    """Cancel all jobs and end. The end of the worker's stdin means the same."""

    type: ClassVar[str] = "shutdown"


Message = HelloMessage | ProgressMessage | WarningMessage | ErrorMessage | DoneMessage | InfoMessage | ReleasedMessage
"""From the backend."""
Request = JobMessage | CancelMessage | ShutdownMessage
"""To a worker."""

_MESSAGE_CLASSES: dict[str, type[Any]] = {
    each.type: each
    for each in (
        HelloMessage,
        ProgressMessage,
        WarningMessage,
        ErrorMessage,
        DoneMessage,
        InfoMessage,
        ReleasedMessage,
    )
}
_REQUEST_CLASSES: dict[str, type[Any]] = {each.type: each for each in (JobMessage, CancelMessage, ShutdownMessage)}
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "dict[str, Any]": (dict,),
    "WorkerJob": (dict,),
    "tuple[str, ...]": (list,),
}


def encode_message(message: Message | Request) -> str:
    """Return a message as one line of ASCII JSON, without the line end.

    Raises:
        ValueError: a number is not finite.
    """
    content: dict[str, Any] = {"type": message.type}
    for entry in dataclasses.fields(message):
        value = getattr(message, entry.name)
        content[entry.name] = encode_job(value) if entry.type == "WorkerJob" else value
    return json.dumps(content, allow_nan=False)


def decode_message(line: str) -> Message:
    """Read one line of the backend. Unknown fields are ignored, so that newer backends can add some.

    Raises:
        ValueError: not JSON, an unknown type, or a missing or mistyped field.
    """
    message: Message = _decode(line, _MESSAGE_CLASSES)
    return message


def decode_request(line: str) -> Request:
    """Read one line of a worker's caller.

    Raises:
        ValueError: not JSON, an unknown type, a missing or mistyped field, or a job that is none.
    """
    request: Request = _decode(line, _REQUEST_CLASSES)
    if isinstance(request, JobMessage) and not request.id:
        raise ValueError("job: id must not be empty")
    return request


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _decode(line: str, classes: dict[str, type[Any]]) -> Any:
    try:
        content = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError(f"expected a flat JSON object, got {line[:80]!r}") from error
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise ValueError(f'expected a JSON object with a "type", got {line[:80]!r}')
    message_class = classes.get(content["type"])
    if message_class is None:
        raise ValueError(f"expected a message of type {sorted(classes)}, got {content['type']!r}")
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(message_class):
        if entry.name in content:
            value = content[entry.name]
            if not isinstance(value, _FIELD_TYPES[str(entry.type)]) or isinstance(value, bool):
                raise ValueError(f"{content['type']}: {entry.name} must be {entry.type}, got {value!r}")
            values[entry.name] = _decode_value(content["type"], entry.name, str(entry.type), value)
    try:
        return message_class(**values)
    except TypeError as error:
        raise ValueError(f"{content['type']}: {error}") from error


def _decode_value(message: str, name: str, field_type: str, value: Any) -> Any:
    if field_type == "WorkerJob":
        return decode_job(value)
    if not isinstance(value, list):
        return value
    if not all(isinstance(each, str) for each in value):
        raise ValueError(f"{message}: {name} must be {field_type}, got {value!r}")
    return tuple(value)
