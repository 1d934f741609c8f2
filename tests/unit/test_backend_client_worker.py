"""The warm worker as its caller sees it: jobs, cancels, deaths, noise; nothing blocks and nothing is left behind."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blender_talkhead.backend_client import shared_worker as shared
from blender_talkhead.backend_client.child_process import LineCutter
from blender_talkhead.backend_client.message_queue import MessageQueue
from blender_talkhead.backend_client.worker_process import BackendWorker, describe_death
from blender_talkhead.contract.errors import (
    BackendError,
    BadInputError,
    CancelledError,
    ExitCode,
    OutputError,
    TalkHeadError,
    UsageError,
)
from blender_talkhead.contract.jobs import AnimateJob, DummyJob, InfoJob
from blender_talkhead.contract.messages import (
    PROTOCOL_VERSION,
    DoneMessage,
    ErrorMessage,
    InfoMessage,
    Message,
    ProgressMessage,
    WarningMessage,
)

PREAMBLE = """
import json, os, signal, sys, time
def emit(type, **content):
    sys.stdout.write(json.dumps({"type": type, **content}) + "\\n"); sys.stdout.flush()
def hello(version=PROTOCOL): emit("hello", protocol_version=version, pid=os.getpid())
def requests():
    for line in sys.stdin: yield json.loads(line)
""".replace("PROTOCOL", str(PROTOCOL_VERSION))

WILLING = """
hello()
for request in requests():
    if request["type"] == "shutdown": break
    if request["type"] == "job":
        name = request["id"]
        emit("progress", phase="a", fraction=0.5, job=name)
        emit("done", folder="%d" % os.getpid(), job=name)
"""


@pytest.fixture
def make_python(tmp_path: Path) -> Callable[[str], Path]:
    """A function that makes a program which, called as the backend's Python, runs a given script instead."""

    def make(script: str) -> Path:
        (tmp_path / "script.py").write_text(PREAMBLE + script)
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "script.py"}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return make


@pytest.fixture
def make_worker(make_python: Callable[[str], Path]) -> Iterator[Callable[..., BackendWorker]]:
    """A function that makes a worker of a script; all are closed at the end."""
    workers: list[BackendWorker] = []

    def make(script: str, **options: float) -> BackendWorker:
        workers.append(BackendWorker(make_python(script), **{"patience_seconds": 0.4, **options}))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def collect(worker: BackendWorker, job: str, seconds: float = 20.0) -> list[Message]:
    """The messages of a job up to its end; every poll must be quick."""
    seen: list[Message] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen += worker.poll(job)
        if seen and isinstance(seen[-1], DoneMessage | ErrorMessage | InfoMessage):
            return seen
        time.sleep(0.01)
    raise AssertionError(f"no end within {seconds} s: {seen}, {worker.log_tail()}")


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_jobs_on_one_process(make_worker) -> None:
    worker = make_worker(WILLING)
    assert worker.state == "dead" and worker.process_id is None
    first, second = worker.submit(InfoJob()), worker.submit(InfoJob())
    assert first != second and worker.state == "starting" and worker.has_jobs
    done_first, done_second = collect(worker, first), collect(worker, second)
    assert done_first[0] == ProgressMessage("a", 0.5, None, first)
    assert done_first[-1] == DoneMessage(str(worker.process_id), first)
    assert done_second[-1] == DoneMessage(str(worker.process_id), second)
    assert worker.state == "idle" and not worker.has_jobs and worker.poll() == []


def test_jobs_are_sent_one_at_a_time_after_the_hello(make_worker, tmp_path: Path) -> None:
    worker = make_worker("""
time.sleep(0.3); hello()
for request in requests():
    if request["type"] == "job":
        emit("warning", text="begun", job=request["id"]); time.sleep(0.3)
        import select
        emit("warning", text="more: %s" % bool(select.select([sys.stdin], [], [], 0)[0]), job=request["id"])
        emit("done", folder="", job=request["id"])
""")
    worker.start()
    assert worker.state == "starting"
    first, second = worker.submit(InfoJob()), worker.submit(InfoJob())
    assert worker.state == "starting"
    assert [m.text for m in collect(worker, first) if isinstance(m, WarningMessage)] == ["begun", "more: False"]
    collect(worker, second)


def test_a_paused_worker_blocks_nobody(make_worker) -> None:
    worker = make_worker("hello(); time.sleep(60)")
    job = worker.submit(DummyJob(phases=("x" * 1000,) * 500))  # half a megabyte, more than a pipe holds
    wait_until(lambda: worker.poll() == [] and worker._is_ready)
    begun = time.monotonic()
    worker.poll(job)
    worker.cancel(job)
    assert time.monotonic() - begun < 0.05
    assert collect(worker, job)[-1] == ErrorMessage(ExitCode.CANCELLED, "cancelled", job)


@pytest.mark.parametrize(
    ("code", "kind"), [(1, OutputError), (2, UsageError), (3, BadInputError), (4, BackendError), (5, CancelledError)]
)
def test_run_job_raises_the_backends_error(make_worker, code: int, kind: type[TalkHeadError]) -> None:
    worker = make_worker(f"""
hello()
for request in requests():
    if request["type"] == "job":
        emit("error", exit_code={code}, text="because", job=request["id"])
""")
    for _ in range(2):  # the worker lives on
        with pytest.raises(kind) as caught:
            worker.run_job(InfoJob())
        assert str(caught.value) == "because" and caught.value.exit_code == code
    assert worker.state == "idle"


def test_run_job_forwards_and_returns(make_worker) -> None:
    worker = make_worker("""
hello(); print("noise"); print('{"type": "later invention"}'); print("[" * 50000, flush=True)
for request in requests():
    if request["type"] == "job":
        for phase in "ab": emit("progress", phase=phase, fraction=0.5, seconds_left=None, job=request["id"])
        emit("warning", text="w", job=request["id"])
        emit("info", facts={"torch": "1"}, job=request["id"])
""")
    seen: list[Message] = []
    answer = worker.run_job(InfoJob(), seen.append)
    assert isinstance(answer, InfoMessage) and answer.facts == {"torch": "1"}
    assert [type(m).__name__ for m in seen] == ["ProgressMessage", "ProgressMessage", "WarningMessage"]
    assert "noise" in worker.log_tail() and "later invention" in worker.log_tail()


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("os._exit(9)", ["exit code 9", "animating", "last words"]),
        ("os.kill(os.getpid(), 9)", ["SIGKILL", "memory ran out", "fewer vertices"]),
        ("os.kill(os.getpid(), 11)", ["SIGSEGV"]),
        ("raise RuntimeError('boom')", ["boom", "last words"]),
        ("sys.exit(0)", ["exit code 0"]),
    ],
)
def test_a_death_is_told_with_its_phase_and_the_log(make_worker, ending: str, words: list[str]) -> None:
    worker = make_worker(f"""
hello()
for request in requests():
    if request["type"] == "job":
        emit("progress", phase="animating", fraction=0.5, job=request["id"])
        sys.stderr.write("last words\\n"); sys.stderr.flush()
        {ending}
""")
    job = worker.submit(InfoJob())
    end = collect(worker, job)[-1]
    assert isinstance(end, ErrorMessage) and end.exit_code == ExitCode.BACKEND
    assert all(word in end.text for word in words), end.text
    assert worker.state == "dead" and "last words" in worker.log_tail()


def test_a_death_before_the_hello_fails_all_jobs(make_worker) -> None:
    worker = make_worker("import a_module_that_is_not_there")
    first, second = worker.submit(InfoJob()), worker.submit(InfoJob())
    for job in (first, second):
        end = collect(worker, job)[-1]
        assert isinstance(end, ErrorMessage) and end.exit_code == ExitCode.BACKEND
        assert "a_module_that_is_not_there" in end.text and "preferences" in end.text


def test_a_waiting_job_survives_the_crash_of_the_one_before(make_worker, tmp_path: Path) -> None:
    worker = make_worker(f"""
hello()
for request in requests():
    if request["type"] == "job":
        if not os.path.exists({str(tmp_path / "crashed")!r}):
            open({str(tmp_path / "crashed")!r}, "w").close(); os._exit(1)
        emit("done", folder="second", job=request["id"])
""")
    first, second = worker.submit(InfoJob()), worker.submit(InfoJob())
    assert isinstance(collect(worker, first)[-1], ErrorMessage)
    assert collect(worker, second)[-1] == DoneMessage("second", second)


def test_a_job_that_meets_the_end_of_an_idle_worker_gets_another(make_worker, tmp_path: Path) -> None:
    worker = make_worker(f"""
hello()
for request in requests():
    if not os.path.exists({str(tmp_path / "ended")!r}):
        open({str(tmp_path / "ended")!r}, "w").close(); sys.exit(0)
    emit("done", folder="", job=request["id"])
""")
    assert isinstance(worker.run_job(InfoJob()), DoneMessage)


def test_a_dead_worker_is_started_again(make_worker) -> None:
    worker = make_worker(WILLING)
    worker.run_job(InfoJob())
    old = worker.process_id
    os.kill(old, 9)
    wait_until(lambda: worker.state == "dead")
    assert worker.run_job(InfoJob()).folder not in ("", str(old))


def test_another_protocol_is_refused_and_its_process_ended(make_worker) -> None:
    worker = make_worker("hello(99); time.sleep(60)")
    worker.start()
    process = worker.process_id
    job = worker.submit(InfoJob())
    end = collect(worker, job)[-1]
    assert isinstance(end, ErrorMessage) and end.exit_code == ExitCode.BACKEND
    assert "protocol 99" in end.text and "Restart Blender" in end.text
    assert worker.state == "dead"
    wait_until(lambda: not is_alive(process))


def test_no_hello_in_time(make_worker) -> None:
    worker = make_worker("print('busy', flush=True); time.sleep(60)", hello_seconds=0.5)
    job = worker.submit(InfoJob())
    process = worker.process_id
    end = collect(worker, job)[-1]
    assert isinstance(end, ErrorMessage) and "did not start" in end.text
    wait_until(lambda: not is_alive(process))


def test_a_cancel_is_a_message_first(make_worker) -> None:
    worker = make_worker("""
hello()
for request in requests():
    if request["type"] == "cancel":
        emit("error", exit_code=5, text="stopped", job=request["id"])
""")
    job = worker.submit(InfoJob())
    wait_until(lambda: worker.poll() == [] and worker._running is not None)
    worker.cancel(job)
    worker.cancel(job)
    process = worker.process_id
    assert collect(worker, job) == [ErrorMessage(ExitCode.CANCELLED, "cancelled", job)]
    time.sleep(1.0)  # longer than the patience: the worker is left alone
    assert worker.state == "idle" and is_alive(process)


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("polling", [False, True])
def test_a_job_that_does_not_stop_is_killed(make_worker, stubborn: bool, polling: bool, tmp_path: Path) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if stubborn else ""
    worker = make_worker(f"""
import subprocess
{ignore}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
hello()
for request in requests():
    emit("warning", text=str(child.pid), job=request["id"]); time.sleep(60)
""")
    output = tmp_path / "clip[1]"
    unfinished = tmp_path / ".clip[1].0123456789ab.partial"
    unfinished.mkdir()
    job = worker.submit(AnimateJob(tmp_path / "a.wav", output))
    seen: list[Message] = []
    wait_until(lambda: seen.extend(worker.poll()) or seen)
    process, below = worker.process_id, int(seen[0].text)
    worker.cancel(job)
    if not polling:
        wait_until(lambda: not is_alive(process))
    assert collect(worker, job) == [ErrorMessage(ExitCode.CANCELLED, "cancelled", job)]
    assert not is_alive(process) and worker.state == "dead"
    wait_until(lambda: not is_alive(below) and not unfinished.exists())


def test_a_waiting_job_is_cancelled_at_once(make_worker) -> None:
    worker = make_worker("time.sleep(60)")
    first, second = worker.submit(InfoJob()), worker.submit(InfoJob())
    worker.cancel(second)
    worker.cancel(first)
    worker.cancel("no such job")
    assert worker.poll() == [ErrorMessage(ExitCode.CANCELLED, "cancelled", job) for job in (second, first)]


def test_messages_of_other_jobs_wait_for_their_own_poll(make_worker) -> None:
    worker = make_worker(WILLING)
    first = worker.submit(InfoJob())
    assert isinstance(worker.run_job(InfoJob()), DoneMessage)
    assert worker.poll("other") == []
    assert isinstance(worker.poll(first)[-1], DoneMessage)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupt_cancels_the_job(make_worker, error: type[BaseException]) -> None:
    worker = make_worker("""
hello()
for request in requests():
    if request["type"] == "cancel": emit("error", exit_code=5, text="", job=request["id"])
    if request["type"] == "job": emit("warning", text="begun", job=request["id"])
""")

    def interrupt(message: Message) -> None:
        raise error

    with pytest.raises(error):
        worker.run_job(InfoJob(), interrupt)
    assert worker.state == "idle" and worker.poll() == []


@pytest.mark.parametrize("lines", ["(b'x' * 99 + b'\\n') * 700", "b'x' * 70000", "b'\\r' * 70000"])
def test_a_flood_on_stderr_costs_no_memory(make_worker, lines: str) -> None:
    worker = make_worker(f"""
hello()
for request in requests():
    block = {lines}
    for _ in range(40 * 2**20 // len(block)): os.write(2, block)
    emit("done", folder="", job=request["id"])
""")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker.run_job(InfoJob())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 15_000  # kB
    assert len(worker.log_tail(1000)) <= 200 * 2_001


def test_garbage_on_stdout_costs_no_memory_and_no_message(make_worker) -> None:
    worker = make_worker("""
hello()
for request in requests():
    out = sys.stdout.buffer
    out.write(b"x" * 5_000_000 + b"\\n"); out.write(bytes(range(256)) * 100 + b"\\n")
    out.write(b'{"type": "progress"}\\n{"type": "done"}\\n[1]\\nnull\\n'); out.flush()
    emit("done", folder="f", job=request["id"])
""")
    seen: list[Message] = []
    assert worker.run_job(InfoJob(), seen.append).folder == "f"
    assert seen == [] and "dropped a line" in worker.log_tail(200)


def test_a_poll_is_quick(make_worker) -> None:
    worker = make_worker("""
hello()
for request in requests():
    for i in range(3000): emit("progress", phase="p%d" % (i % 7), fraction=0.5, job=request["id"]); time.sleep(0.0003)
    emit("done", folder="", job=request["id"])
""")
    job = worker.submit(InfoJob())
    durations, seen = [], []
    while not (seen and isinstance(seen[-1], DoneMessage)):
        begun = time.thread_time()
        seen += worker.poll(job)
        durations.append(time.thread_time() - begun)
        time.sleep(0.02)
    durations.sort()
    assert durations[int(0.95 * len(durations))] < 0.001


def test_untaken_messages_are_bounded() -> None:
    messages = MessageQueue()
    for index in range(100_000):
        messages.put(ProgressMessage(f"phase {index // 50_000}", index / 100_000, None, "a"))
    assert len(messages) == 2 and messages.take(1)[0].fraction == pytest.approx(0.5, abs=1e-4)
    for index in range(5_000):
        messages.put(WarningMessage(str(index), "a"))
    messages.put(DoneMessage("f", "a"))
    assert len(messages) <= 1_001
    assert messages.take(2_000)[-1] == DoneMessage("f", "a")


def test_lines_are_cut_in_bounded_memory() -> None:
    cutter = LineCutter(5)
    assert cutter.feed(b"one\n\ntw") == [(b"one", False)]
    assert cutter.feed(b"o\r\nlonger than that") == [(b"two\r", False)]
    assert cutter.feed(b" and longer\nx") == [(b"longe", True)]
    assert cutter.finish() == [(b"x", False)] and cutter.finish() == []
    last = LineCutter(100, at_returns=True, keep=2)
    assert last.feed(b"a\rb\nc\r\nd\n\ne") == [(b"c", False), (b"d", False)]
    assert last.feed(b"f\n") == [(b"ef", False)]
    assert last.feed(b"\r\n" * 10) == []


def test_closing_leaves_no_process_and_no_file(make_worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    worker = make_worker("""
import tempfile
hello()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for request in requests():
    tempfile.mkdtemp(); emit("warning", text="", job=request["id"]); time.sleep(60)
""")
    job = worker.submit(InfoJob())
    seen: list[Message] = []
    wait_until(lambda: seen.extend(worker.poll()) or seen)
    assert list(scratch.glob("*/*"))
    process = worker.process_id
    begun = time.monotonic()
    worker.close(0.3)
    assert time.monotonic() - begun < 2
    assert not is_alive(process) and list(scratch.iterdir()) == []
    assert worker.poll(job) == [ErrorMessage(ExitCode.CANCELLED, "cancelled", job)] and worker.state == "dead"
    worker.close()


def test_a_program_that_cannot_start(tmp_path: Path) -> None:
    worker = BackendWorker(tmp_path / "nothing")
    with pytest.raises(BackendError, match="cannot start"):
        worker.submit(InfoJob())
    assert worker.state == "dead"


def test_a_job_out_of_range_is_not_sent(make_worker, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        make_worker(WILLING).submit(AnimateJob(tmp_path / "a.wav", tmp_path / "clip", vertices=1))


def test_the_shared_worker_is_reused_and_closed(make_python) -> None:
    python = make_python(WILLING)
    worker = shared.shared_worker(python)
    try:
        worker.run_job(InfoJob())
        process = worker.process_id
        assert shared.shared_worker(python) is worker
        other = shared.shared_worker(Path(sys.executable))
        assert other is not worker
        wait_until(lambda: not is_alive(process))
    finally:
        shared.close_shared_worker()
    shared.close_shared_worker()
    assert shared.shared_worker(python) is not worker
    shared.close_shared_worker()


@pytest.mark.parametrize(("code", "word"), [(-9, "memory"), (-99, "signal 99"), (-15, "SIGTERM"), (3, "exit code 3")])
def test_what_a_death_says(code: int, word: str) -> None:
    assert word in describe_death(code, "", "", Path("python"))


def test_no_job_goes_to_a_worker_that_was_told_to_end(make_worker) -> None:
    """A worker that stops at SIGTERM answers its cancelled job, and lives on for a moment."""
    worker = make_worker("""
hello()
job = ""
def end(number, frame):
    emit("error", exit_code=5, text="", job=job); time.sleep(0.5); os._exit(5)
signal.signal(signal.SIGTERM, end)
for request in requests():
    if request["type"] == "job" and not request["job"]["seconds"]: emit("done", folder="", job=request["id"])
    elif request["type"] == "job": job = request["id"]; emit("warning", text="", job=job); time.sleep(60)
""")
    first = worker.submit(DummyJob(60.0))
    wait_until(lambda: worker.poll(first))
    worker.cancel(first)
    assert collect(worker, first)[-1] == ErrorMessage(ExitCode.CANCELLED, "cancelled", first)
    assert worker.state == "dead"
    second = worker.submit(DummyJob(0.0))
    assert worker.state == "starting"
    assert collect(worker, second) == [DoneMessage("", second)]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_writing_to_a_process_that_does_not_listen_harms_nobody(tmp_path: Path) -> None:
    """Blender, unlike Python, does not ignore SIGPIPE: the host stands in for it by undoing Python's choice."""
    host = tmp_path / "host.py"
    host.write_text(
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from blender_talkhead.backend_client.child_process import ChildProcess\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "deaf = [sys.executable, '-c', 'import os, time; os.close(0); print(1, flush=True); time.sleep(1)']\n"
        "lines = []\n"
        "child = ChildProcess(deaf, dict(os.environ), Path.cwd(), lambda line: bool(lines.append(line)))\n"
        "while not lines: time.sleep(0.01)\n"
        "for _ in range(20): child.send('x' * 1000); time.sleep(0.01)\n"
        "child.end()\n"
        "print('alive')\n"
    )
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, str(host)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "alive\n"), result.stderr
