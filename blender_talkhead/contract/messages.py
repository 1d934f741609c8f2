"""The one vocabulary between the backend and its callers: one JSON object a line on the backend's stdout.

stdout belongs to these messages and stderr to the log. `Hello` comes first; a run ends with `Done` or `Error`. Arrays
never travel in a message: a message names the folder that holds them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar

PROTOCOL_VERSION = 1
"""Raised whenever a message changes its meaning; both sides must agree."""


@dataclass(frozen=True)
class HelloMessage:
    """First line of a run: which protocol the backend speaks."""

    type: ClassVar[str] = "hello"
    protocol_version: int = PROTOCOL_VERSION
    talkhead_version: str = ""


@dataclass(frozen=True)
class ProgressMessage:
    """How far a run has come."""

    type: ClassVar[str] = "progress"
    phase: str
    """What is being done, as shown to the user, such as "listening" or "animating"."""
    fraction: float
    """Done part of the whole run, 0..1, never falling."""
    seconds_left: float | None = None
    """Estimate of the time left in the whole run; None while unknown."""


@dataclass(frozen=True)
class WarningMessage:
    """Something the user should know; the run goes on."""

    type: ClassVar[str] = "warning"
    text: str


@dataclass(frozen=True)
class ErrorMessage:
    """The run failed; the process ends with the same exit code."""

    type: ClassVar[str] = "error"
    exit_code: int
    text: str


@dataclass(frozen=True)
class DoneMessage:
    """The run succeeded and its result lies complete in a folder."""

    type: ClassVar[str] = "done"
    folder: str


Message = HelloMessage | ProgressMessage | WarningMessage | ErrorMessage | DoneMessage

_MESSAGE_CLASSES: dict[str, type[Any]] = {
    message_class.type: message_class
    for message_class in (HelloMessage, ProgressMessage, WarningMessage, ErrorMessage, DoneMessage)
}
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}


def encode_message(message: Message) -> str:
    """Return a message as one line of JSON, without the line end.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps({"type": message.type, **dataclasses.asdict(message)}, allow_nan=False)


def decode_message(line: str) -> Message:
    """Read one line of JSON into its message. Unknown fields are ignored, so that newer backends can add some.

    Raises:
        ValueError: not JSON, an unknown type, or a missing or mistyped field.
    """
    content = json.loads(line)
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise ValueError(f'expected a JSON object with a "type", got {line[:80]!r}')
    message_class = _MESSAGE_CLASSES.get(content["type"])
    if message_class is None:
        raise ValueError(f"expected a message of type {sorted(_MESSAGE_CLASSES)}, got {content['type']!r}")
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(message_class):
        if entry.name in content:
            value = content[entry.name]
            if not isinstance(value, _FIELD_TYPES[str(entry.type)]) or isinstance(value, bool):
                raise ValueError(f"{content['type']}: {entry.name} must be {entry.type}, got {value!r}")
            values[entry.name] = value
    try:
        message: Message = message_class(**values)
    except TypeError as error:
        raise ValueError(f"{content['type']}: {error}") from error
    return message
