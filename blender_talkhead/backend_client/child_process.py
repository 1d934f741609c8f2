"""A child process that never blocks its caller: threads move its streams, wait for its end, and clear up after it.

The threads never touch bpy. Memory stays bounded whatever the child prints.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..contract.errors import BackendError

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 65536
_MAX_LINE_BYTES = 1_000_000
"""A longer line on stdout is dropped."""
_LOG_TAIL_LINES = 200
_LOG_LINE_BYTES = 2_000
_DRAIN_SECONDS = 1.0
"""How long output is still read after the process has ended."""


class LineCutter:
    """Cuts a stream of bytes into lines; never holds more than one line of `limit` bytes.

    Args:
        limit: bytes kept of a line; the rest of a longer one is skipped.
        at_returns: a carriage return ends a line too.
        keep: only so many of the last lines of a chunk are wanted; 0 is all.
    """

    def __init__(self, limit: int, at_returns: bool = False, keep: int = 0) -> None:
        self._limit = limit
        self._ends = re.compile(rb"[\r\n]+" if at_returns else rb"\n+")
        self._keep = keep
        self._line = bytearray()
        self._is_cut = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """Return the lines that this chunk completes, without empty ones, each with whether it was cut at the limit."""
        lines: list[tuple[bytes, bool]] = []
        chunk = self._ends.sub(b"\n", chunk)
        *complete, rest = chunk.rsplit(b"\n", self._keep) if self._keep else chunk.split(b"\n")
        if self._keep and len(complete) == self._keep:
            complete[0] = complete[0].rpartition(b"\n")[2]
        for piece in complete:
            self._append(piece)
            lines += self.finish()
        self._append(rest)
        return lines

    def finish(self) -> list[tuple[bytes, bool]]:
        """Return what has been read since the last line end, when that is anything."""
        lines = [(bytes(self._line), self._is_cut)] if self._line else []
        self._line.clear()
        self._is_cut = False
        return lines

    def _append(self, piece: bytes) -> None:
        room = self._limit - len(self._line)
        self._is_cut = self._is_cut or len(piece) > room
        self._line += piece[:room]


class ChildProcess:
    """A running program in a process group of its own, with a folder of its own for temporary files.

    Starting takes a few milliseconds; apart from `end` nothing here waits.

    Args:
        command: the program and its arguments.
        environment: its environment variables.
        folder: its working folder.
        on_line: called on a thread with each line of stdout, without its end; where it returns False the line joins the
            tail of the log.
        scratch_parent: where the folder for temporary files is made; None is the system's place.

    Raises:
        BackendError: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        on_line: Callable[[str], bool],
        scratch_parent: Path | None = None,
    ) -> None:
        self._on_line = on_line
        self._log_tail: deque[str] = deque(maxlen=_LOG_TAIL_LINES)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._exit_code: int | None = None
        self._is_told_to_end = False
        self._input: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._scratch = _make_scratch_folder(scratch_parent)
        variables = dict(environment)
        if self._scratch is not None:
            variables |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._scratch))
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=folder,
                env=variables,
                **_own_group(),
            )
        except OSError as error:
            self._remove_scratch()
            raise BackendError(f"cannot start {command[0]}: {error.strerror or error}") from error
        self._readers = [
            threading.Thread(target=self._read_output, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(self._process.stderr,), daemon=True),
        ]
        others = [
            threading.Thread(target=self._write_input, args=(self._process.stdin,), daemon=True),
            threading.Thread(target=self._wait, daemon=True),
        ]
        for thread in self._readers + others:
            thread.start()

    @property
    def exit_code(self) -> int | None:
        """None while the process runs or output is still being read; negative when a signal ended it."""
        return self._exit_code

    @property
    def is_ending(self) -> bool:
        """Whether the process was told to end, or has ended."""
        return self._is_told_to_end or self._exit_code is not None

    @property
    def is_told_to_end(self) -> bool:
        """Whether `terminate` or `kill` was called."""
        return self._is_told_to_end

    @property
    def process_id(self) -> int:
        """The system's number for the process."""
        return self._process.pid

    @property
    def scratch_folder(self) -> Path | None:
        """Where the process puts its temporary files; it goes when the process ends. None where none could be made."""
        return self._scratch

    def send(self, line: str) -> None:
        """Write a line to the process's stdin, in the background; a process that has ended does not get it."""
        self._input.put(line.encode("utf-8") + b"\n")

    def close_input(self) -> None:
        """End the process's stdin after what was sent."""
        self._input.put(None)

    def note(self, line: str) -> None:
        """Add a line to the tail of the log."""
        self._log_tail.append(line.rstrip()[:_LOG_LINE_BYTES])

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of the process's stderr, and of what it printed that was no message."""
        for _ in range(3):
            with contextlib.suppress(RuntimeError):  # a thread may append meanwhile
                return "\n".join(list(self._log_tail)[-lines:])
        return ""

    def terminate(self, whole_group: bool = False) -> None:
        """Ask the process to end (Windows: end it).

        Args:
            whole_group: also the processes that it has started.
        """
        self._signal(signal.SIGTERM, whole_group)

    def kill(self) -> None:
        """End the process and those that it has started, at once."""
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM), whole_group=True)

    def end_unless(self, stopped: threading.Event, patience_seconds: float, whole_group: bool = False) -> None:
        """In the background: terminate the process unless an event comes within some seconds, then kill it.

        Args:
            stopped: set when what the process was doing has ended by itself.
            patience_seconds: how long to wait for it, and again after the terminate.
            whole_group: terminate the processes that it has started as well.
        """

        def escalate() -> None:
            deadline = time.monotonic() + patience_seconds
            while time.monotonic() < deadline:
                if stopped.wait(0.05) or self._ended.is_set():
                    return
            self.terminate(whole_group)
            if not self._ended.wait(patience_seconds):
                self.kill()

        threading.Thread(target=escalate, daemon=True).start()

    def end(self, patience_seconds: float = 1.0) -> None:
        """End the process: close its stdin, terminate, kill. Waits three times the patience at most."""
        self.close_input()
        steps = [self.kill] if self._is_told_to_end else [self.terminate, self.kill]
        for step in steps:
            if self._ended.wait(patience_seconds):
                break
            step()
        self._ended.wait(patience_seconds)
        self._remove_scratch()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the process; returns whether it has ended."""
        return self._ended.wait(seconds)

    def _read_output(self, stream: IO[bytes]) -> None:
        for line, is_cut in self._lines_of(stream, LineCutter(_MAX_LINE_BYTES)):
            if is_cut:
                self.note(f"(dropped a line of over {_MAX_LINE_BYTES:,} bytes)")
                continue
            text = line.decode("utf-8", "replace").rstrip("\r")
            if not self._on_line(text):
                self.note(text)

    def _read_log(self, stream: IO[bytes]) -> None:
        for line, _ in self._lines_of(stream, LineCutter(_LOG_LINE_BYTES, True, _LOG_TAIL_LINES)):
            text = line.decode("utf-8", "replace")
            self.note(text)
            logger.debug("child process: %s", text)

    @staticmethod
    def _lines_of(stream: IO[bytes], cutter: LineCutter) -> Any:
        with stream, contextlib.suppress(OSError, ValueError):
            while chunk := stream.read(_CHUNK_BYTES):
                yield from cutter.feed(chunk)
        yield from cutter.finish()

    def _write_input(self, stream: IO[bytes]) -> None:
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            # Blender leaves SIGPIPE at its default, and to write to a process that has ended would end Blender.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        with contextlib.suppress(OSError, ValueError), stream:  # the process may be gone
            while (line := self._input.get()) is not None:
                view = memoryview(line)
                while view:
                    view = view[stream.write(view) :]

    def _wait(self) -> None:
        if hasattr(os, "waitid"):  # not on Windows and macOS
            # Until it is reaped the number stays its own: what it started can be ended without hitting others.
            with contextlib.suppress(OSError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                code = self._process.wait()
        else:
            code = self._process.wait()
        deadline = time.monotonic() + _DRAIN_SECONDS
        for thread in self._readers:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._input.put(None)
        self._exit_code = code
        self._ended.set()
        self._remove_scratch()

    def _signal(self, number: int, whole_group: bool) -> None:
        self._is_told_to_end = True
        with self._lock, contextlib.suppress(OSError):  # it may end at this moment
            if self._process.returncode is not None:
                return
            if os.name == "nt":
                if not (whole_group and _end_tree_on_windows(self._process.pid)):
                    self._process.terminate()
            elif whole_group:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._process.pid, number)

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _own_group() -> dict[str, Any]:
    """A group of its own: Ctrl-C in the terminal reaches only the caller, which then ends the child in order."""
    if os.name == "nt":
        names = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
        return {"creationflags": sum(getattr(subprocess, name, 0) for name in names)}
    return {"start_new_session": True}


def _end_tree_on_windows(process_id: int) -> bool:
    """End a process and those below it; returns whether the system's tool for it could be started."""
    command = ["taskkill", "/T", "/F", "/PID", str(process_id)]
    try:
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **_own_group())
    except OSError:
        return False
    return True


def _make_scratch_folder(parent: Path | None) -> Path | None:
    """A place for temporary files that goes with the process, even when it is killed."""
    try:
        return Path(tempfile.mkdtemp(prefix="talkhead-", dir=parent))
    except OSError:
        return None
