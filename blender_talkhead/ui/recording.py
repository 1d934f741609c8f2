"""What the panel knows of the chosen recording: where it lies, whether it is there, how long it lasts.

Panels are drawn many times a second, so files are looked at every few seconds only.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from .. import compat

_LOOK_AGAIN_SECONDS = 2.0
_MAX_ENTRIES = 64


@dataclass(frozen=True)
class RecordingFacts:
    """A file on disk."""

    exists: bool
    seconds: float | None
    """Length; None where it cannot be told before the backend reads it."""


@dataclass
class _Entry:
    looked_at: float
    modified: float | None
    facts: RecordingFacts


_entries: dict[str, _Entry] = {}


def recording_path(text: str, library: Any = None) -> Path:
    """Return the absolute path of a path property; `//` is the .blend file's folder."""
    return Path(bpy.path.abspath(text.strip(), library=library))


def look_at_recording(path: Path) -> RecordingFacts:
    """Return what is known of a recording, at most a few seconds old."""
    key = str(path)
    now = time.monotonic()
    entry = _entries.get(key)
    if entry is not None and now - entry.looked_at < _LOOK_AGAIN_SECONDS:
        return entry.facts
    modified = None
    with contextlib.suppress(OSError, ValueError):
        modified = path.stat().st_mtime if path.is_file() else None
    if entry is not None and entry.modified == modified:
        entry.looked_at = now
        return entry.facts
    facts = RecordingFacts(modified is not None, None if modified is None else _measure_seconds(path))
    if len(_entries) >= _MAX_ENTRIES:
        _entries.clear()
    _entries[key] = _Entry(now, modified, facts)
    return facts


def forget_recordings() -> None:
    """Look at every file anew."""
    _entries.clear()


def _measure_seconds(path: Path) -> float | None:
    if path.suffix.lower() == ".wav":
        import wave

        with contextlib.suppress(OSError, EOFError, wave.Error, ZeroDivisionError), wave.open(str(path), "rb") as sound:
            return sound.getnframes() / sound.getframerate()
    return compat.sound_seconds(path)
