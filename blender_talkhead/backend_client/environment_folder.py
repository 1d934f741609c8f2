"""The folder of the environment that TalkHead installs: complete or not there, whatever happens on the way.

A new environment is made beside the old one under another name, and takes its place when it works. A file in it tells
what it is made of.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..contract.errors import BackendError, OutputError

MARKER_FILE = "talkhead-environment.json"
_FORMAT_VERSION = 1
_RENAME_ATTEMPTS = 6
_RENAME_PAUSE_SECONDS = 0.5
"""On Windows a virus scanner may hold a new file for a moment."""
_MAX_SCRIPT_BYTES = 200_000


@dataclass(frozen=True)
class EnvironmentFacts:
    """What an installed environment is made of."""

    build: str
    """PyTorch's build, "cpu" or "cuda"."""
    python_version: str
    torch_version: str
    requirements: tuple[str, ...]


def read_environment(folder: Path) -> EnvironmentFacts | None:
    """Return what an installed environment is made of; None when there is none, or it is not complete."""
    try:
        content = json.loads((folder / MARKER_FILE).read_text(encoding="utf-8"))
        if content.pop("format_version") != _FORMAT_VERSION:
            return None
        return EnvironmentFacts(**{**content, "requirements": tuple(content["requirements"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_environment(folder: Path, facts: EnvironmentFacts) -> None:
    """Note in an environment that it is complete."""
    content = {"format_version": _FORMAT_VERSION, **asdict(facts)}
    (folder / MARKER_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def require_own_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than an environment.

    Raises:
        BackendError: it exists, is not empty and is no environment.
    """
    is_free = not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not any((folder / name).is_file() for name in (MARKER_FILE, "pyvenv.cfg")):
        raise BackendError(f"{folder} exists and is no environment of TalkHead; move it away, then try again")


def new_folder_of(folder: Path) -> Path:
    """Return the name under which an environment's successor is made; short, for the sake of Windows' path limit."""
    return folder.with_name(folder.name + ".new")


def replace_environment(folder: Path) -> None:
    """Put the environment's successor in its place; the old one goes.

    Raises:
        OutputError: a program still uses the old one, or the folder cannot be written. The old one then stays.
    """
    new, old = new_folder_of(folder), _old_folder_of(folder)
    shutil.rmtree(old, ignore_errors=True)
    try:
        if os.path.lexists(folder):
            _rename(folder, old)
        try:
            _rename(new, folder)
        except OSError:
            if os.path.lexists(old):
                _rename(old, folder)
            raise
    except OSError as error:
        raise OutputError(
            f"cannot replace {folder}: {error.strerror or error}. Close other Blenders that animate, then try again"
        ) from error
    _correct_scripts(folder, new)
    shutil.rmtree(old, ignore_errors=True)


def recover_environment(folder: Path) -> None:
    """Take away what an interrupted installation has left; an environment that had just stepped aside comes back."""
    old = _old_folder_of(folder)
    if os.path.lexists(old) and not os.path.lexists(folder):
        with contextlib.suppress(OSError):
            old.rename(folder)
    for leftover in (old, new_folder_of(folder)):
        shutil.rmtree(leftover, ignore_errors=True)


def remove_environment(folder: Path) -> None:
    """Remove an installed environment. It is gone at once; its thousands of files are deleted in the background.

    Raises:
        OutputError: a program still uses it, or it cannot be deleted.
    """
    if not os.path.lexists(folder):
        return
    doomed = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.old")
    try:
        folder.rename(doomed)
    except OSError as error:
        raise OutputError(
            f"cannot remove {folder}: {error.strerror or error}. Close other Blenders that animate, then try again"
        ) from error
    threading.Thread(target=shutil.rmtree, args=(doomed,), kwargs={"ignore_errors": True}).start()


@contextmanager
def only_installation(folder: Path) -> Iterator[None]:
    """Hold the lock of an environment, so that two Blenders do not install into one folder.

    Raises:
        BackendError: another one installs.
        OutputError: the folder's parent cannot be written.
    """
    path = folder.with_name(folder.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise OutputError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    with file:
        if not _lock(file.fileno()):
            raise BackendError(f"another Blender is installing into {folder}; wait for it")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _lock(descriptor: int) -> bool:
    """Lock a file until it is closed; False when another process has it. A disk that has no locks does without."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _old_folder_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _rename(source: Path, target: Path) -> None:
    for attempt in range(_RENAME_ATTEMPTS):
        try:
            source.rename(target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == _RENAME_ATTEMPTS - 1:
                raise
            time.sleep(_RENAME_PAUSE_SECONDS)


def _correct_scripts(folder: Path, old_name: Path) -> None:
    """Let the environment's scripts (bin/accelerate and the like) name the folder's final name."""
    before, after = os.fsencode(old_name), os.fsencode(folder)
    for path in [*folder.glob("bin/*"), *folder.glob("Scripts/*"), folder / "pyvenv.cfg"]:
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_SCRIPT_BYTES:
                continue
            content = path.read_bytes()
            if before in content and b"\0" not in content:
                path.write_bytes(content.replace(before, after))
