"""A real worker process for tests: requests in, messages out, with a time limit on every wait."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from blender_talkhead.contract.jobs import WorkerJob
from blender_talkhead.contract.messages import (
    DoneMessage,
    ErrorMessage,
    InfoMessage,
    JobMessage,
    Message,
    Request,
    decode_message,
    encode_message,
)

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 60.0


class RunningWorker:
    """`python -m torch_backend serve`, its messages as they come, and every line that is no message."""

    def __init__(self, *arguments: object, code: str | None = None, environment: dict[str, str] | None = None) -> None:
        start = ["-m", "torch_backend", "serve"] if code is None else ["-c", code, "serve"]
        self.process = subprocess.Popen(
            [sys.executable, *start, *map(str, arguments)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.garbage: list[str] = []
        self.log = b""
        self.log_bytes = 0
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read_output, self._read_log)]
        for thread in self._threads:
            thread.start()

    def send(self, request: Request) -> None:
        self.send_line(encode_message(request).encode())

    def send_line(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def submit(self, job_id: str, job: WorkerJob) -> None:
        self.send(JobMessage(job_id, job))

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def next(self, timeout: float = PATIENCE_SECONDS) -> Message | None:
        """The next message; None at the end of the output."""
        return self._messages.get(timeout=timeout)

    def until(self, wanted: Callable[[Message], bool], timeout: float = PATIENCE_SECONDS) -> list[Message]:
        """All messages up to the first wanted one."""
        end = time.monotonic() + timeout
        found: list[Message] = []
        while True:
            message = self.next(max(0.0, end - time.monotonic()))
            assert message is not None, f"the worker ended, after {found}; log: {self.log.decode()[-2000:]}"
            found.append(message)
            if wanted(message):
                return found

    def answer(self, job_id: str, timeout: float = PATIENCE_SECONDS) -> Message:
        """The message that ends a job."""

        def ends(message: Message) -> bool:
            assert not (isinstance(message, ErrorMessage) and not message.job), message
            return isinstance(message, DoneMessage | ErrorMessage | InfoMessage) and message.job == job_id

        return self.until(ends, timeout)[-1]

    def rest(self, timeout: float = PATIENCE_SECONDS) -> list[Message]:
        """All messages to the end of the output."""
        found = []
        while (message := self.next(timeout)) is not None:
            found.append(message)
        return found

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return code

    def resident_bytes(self) -> int:
        """Memory that the process holds now."""
        import psutil

        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self._messages.put(decode_message(line.decode()))
            except ValueError:
                self.garbage.append(line.decode())
        self._messages.put(None)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        while block := self.process.stderr.read1(65536):
            self.log_bytes += len(block)
            self.log = (self.log + block)[-20_000:]


@contextlib.contextmanager
def running_worker(
    *arguments: object, code: str | None = None, environment: dict[str, str] | None = None
) -> Iterator[RunningWorker]:
    """A worker that is gone at the end of the block."""
    worker = RunningWorker(*arguments, code=code, environment=environment)
    try:
        yield worker
    finally:
        worker.kill()
