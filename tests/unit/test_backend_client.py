"""The backend as a child process: messages, exit codes, death, cancel, environment."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from blender_talkhead.backend_client.backend_info import ask_backend_info
from blender_talkhead.backend_client.process import BackendProcess, run_backend
from blender_talkhead.contract.errors import (
    BackendError,
    BadInputError,
    CancelledError,
    OutputError,
    TalkHeadError,
    UsageError,
)
from blender_talkhead.contract.messages import Message, ProgressMessage, WarningMessage


@pytest.fixture
def make_python(tmp_path: Path):
    """A function that makes a program which, called as the backend's Python, runs a given script instead."""

    def make(script: str) -> Path:
        (tmp_path / "script.py").write_text("import json, os, sys, time\n" + script)
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "script.py"}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return make


def test_messages_in_order_and_noise_ignored(make_python) -> None:
    python = make_python("""
print('{"type": "hello", "protocol_version": 2}')
print("noise"); print('{"type": "later invention"}')
print('{"type": "progress", "phase": "a", "fraction": 0.5, "seconds_left": null}')
print('{"type": "warning", "text": "w"}')
print(json.dumps({"type": "done", "folder": " ".join(sys.argv[1:])}))
""")
    seen: list[Message] = []
    done = run_backend(python, ["animate", "a b"], seen.append)
    assert seen == [ProgressMessage("a", 0.5, None), WarningMessage("w")]
    assert done.folder == "-m torch_backend animate a b"


@pytest.mark.parametrize(
    ("code", "kind"), [(1, OutputError), (2, UsageError), (3, BadInputError), (4, BackendError), (5, CancelledError)]
)
def test_the_backends_error_is_raised_as_it_stands(make_python, code: int, kind: type[TalkHeadError]) -> None:
    python = make_python(f"""
print('{{"type": "error", "exit_code": {code}, "text": "because"}}')
sys.exit({code})
""")
    with pytest.raises(kind) as caught:
        run_backend(python, [])
    assert str(caught.value) == "because" and caught.value.exit_code == code


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("os._exit(9)", "exit code 9"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
        ("raise RuntimeError('boom')", "boom"),
        ("sys.exit(0)", "without a result"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
    ],
)
def test_a_death_without_a_word_is_a_backend_error_with_the_log(make_python, ending: str, words: str) -> None:
    python = make_python(f"sys.stderr.write('last words\\n'); sys.stderr.flush()\n{ending}\n")
    with pytest.raises(BackendError) as caught:
        run_backend(python, [])
    assert words in str(caught.value) and "last words" in str(caught.value)


def test_a_usage_error_without_a_message_keeps_its_code(make_python) -> None:
    with pytest.raises(UsageError, match="no such option"):
        run_backend(make_python("sys.stderr.write('no such option'); sys.exit(2)"), [])


def test_another_protocol_is_refused(make_python) -> None:
    python = make_python("""print('{"type": "hello", "protocol_version": 3}', flush=True); time.sleep(60)""")
    begun = time.monotonic()
    with pytest.raises(BackendError, match="protocol 3"):
        run_backend(python, [])
    assert time.monotonic() - begun < 20


def test_a_flood_on_stderr_does_not_block(make_python) -> None:
    python = make_python("""
for i in range(20000): sys.stderr.write(f"line {i} " + "x" * 90 + "\\n")
print('{"type": "done", "folder": "f"}')
""")
    assert run_backend(python, []).folder == "f"


@pytest.mark.parametrize("stubborn", [False, True])
def test_leaving_ends_the_process(make_python, stubborn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blender_talkhead.backend_client.process._TERMINATE_SECONDS", 0.5)
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    python = make_python(
        ignore
        + """
print(json.dumps({"type": "warning", "text": str(os.getpid())}), flush=True)
time.sleep(120)
"""
    )
    with pytest.raises(KeyboardInterrupt), BackendProcess(python, []) as process:
        for message in process.messages():
            if isinstance(message, WarningMessage):
                process_id = int(message.text)
                raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def test_silence_yields_none(make_python) -> None:
    python = make_python("time.sleep(1)")
    with BackendProcess(python, []) as process:
        assert next(process.messages(poll_seconds=0.01)) is None


def test_a_python_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "python").write_bytes(b"\x7fnot a program")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(BackendError, match="cannot start"):
        BackendProcess(tmp_path / "python", [])


def test_info(make_python, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKHEAD_PYTHON", str(make_python("print(json.dumps({'torch': '1'}))")))
    assert ask_backend_info()["torch"] == "1"
    monkeypatch.setenv("TALKHEAD_PYTHON", str(make_python("sys.exit(4)")))
    with pytest.raises(BackendError, match="exit code 4"):
        ask_backend_info()
    monkeypatch.setenv("TALKHEAD_PYTHON", str(make_python("print('hello')")))
    with pytest.raises(BackendError, match="not JSON"):
        ask_backend_info()
