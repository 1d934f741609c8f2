"""Results that are kept on disk, so that the same job asked again is answered from there or goes on where it stopped.

An entry is named by a hash of everything that its arrays depend on. A finished one is a result folder; an unfinished
mesh sequence lies beside its name (`contract.mesh_sequence.unfinished_sequence`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blender_talkhead.contract.errors import OutputError
from blender_talkhead.contract.result import RESULT_FILE, ResultInfo
from blender_talkhead.contract.result_folder import replace_folder, require_replaceable
from torch_backend.unfinished import unfinished_folder

_LOCK_SUFFIX = ".lock"
_UNRELATED_OPTIONS = frozenset({"scene_frame_rate"})
"""Options that change nothing in the arrays."""


def entry_name(info: ResultInfo) -> str:
    """Return the name of a result's entry: equal for equal recording, weights, seed and options."""
    content = dataclasses.asdict(info)
    del content["audio_path"]
    content["options"] = {name: value for name, value in info.options.items() if name not in _UNRELATED_OPTIONS}
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return f"{info.kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def is_finished(entry: Path) -> bool:
    """Whether an entry holds a complete result."""
    return (entry / RESULT_FILE).is_file()


def mark_used(entry: Path) -> None:
    """Note that an entry was asked for now: those unused for longest go first where a cache grows too large."""
    with suppress(OSError):
        os.utime(entry)


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Keep other processes from writing an entry; the system gives the lock back when the process dies.

    Raises:
        OutputError: another process writes it now, or the folder cannot be written.
    """
    path = entry.with_name(f".{entry.name}{_LOCK_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise OutputError(
            f"cannot write the cache folder {entry.parent}: {error.strerror or error}; choose another one"
        ) from error
    with file:
        if not _try_lock(file.fileno()):
            raise OutputError("another TalkHead is making this very result now; wait for it, or choose another seed")
        yield


def copy_result(entry: Path, output: Path, info: ResultInfo) -> None:
    """Copy a finished entry to where it is asked for.

    Args:
        entry: a result folder.
        output: replaced when it is an older result.
        info: what result.json of the copy tells.

    Raises:
        OutputError: the disk is full or not writable.
    """
    require_replaceable(output)
    partial = output.parent / f".{output.name}.{uuid.uuid4().hex[:12]}.partial"
    with unfinished_folder(partial):
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(entry, partial)
            (partial / RESULT_FILE).write_text(info.to_json(), encoding="utf-8")
            replace_folder(partial, output)
        except (OSError, shutil.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"cannot write the result folder {output}: {reason}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
