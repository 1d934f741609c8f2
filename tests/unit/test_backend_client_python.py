"""Which Python runs the backend: order of search, what a check says, the environment it gets."""

from __future__ import annotations

import json
import stat
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from blender_talkhead.backend_client import python_candidates, python_environment
from blender_talkhead.backend_client.backend_info import ask_backend_info
from blender_talkhead.backend_client.python_candidates import (
    Candidate,
    candidate_pythons,
    find_base_pythons,
    holds_torch,
)
from blender_talkhead.backend_client.python_environment import (
    BackgroundCheck,
    backend_environment,
    backend_root,
    check_python,
    find_backend_python,
    run_to_end,
)
from blender_talkhead.backend_client.requirements import load_requirements
from blender_talkhead.contract.errors import BackendError
from blender_talkhead.contract.messages import PROTOCOL_VERSION

FACTS = {
    "type": "info",
    "protocol_version": PROTOCOL_VERSION,
    "python_version": "3.11.7",
    "packages": {"torch": "2.13.0", "numpy": "1.26.4", "av": "18.1.0", "libigl": "2.6.3", "transformers": None},
    "torch_error": None,
    "devices": [{"name": "cpu", "description": "slow", "bfloat16": False}, {"name": "cuda", "bfloat16": True}],
}


@pytest.fixture
def make_python(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a program that runs a script, whatever its arguments are."""

    def make(script: str, name: str = "python") -> Path:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.with_suffix(".py").write_text("import json, os, sys, time\n" + script)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program.with_suffix(".py")}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return make


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without any Python, and no torch in this one; returns the home."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(python_candidates, "find_spec", lambda name: None)
    monkeypatch.setattr(python_candidates, "backend_root", lambda: tmp_path / "extension")
    monkeypatch.setattr(python_candidates, "find_base_pythons", lambda versions: [])
    return home


def make_environment(folder: Path, with_torch: bool = True) -> Path:
    """What a virtual environment looks like on the disk."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    (folder / "pyvenv.cfg").write_text("home = /nowhere/bin\ninclude-system-site-packages = false\n")
    site = folder / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    if with_torch:
        (site / "torch").mkdir()
    return python


def test_environment_is_cleaned() -> None:
    given = {"PATH": "/bin", "PYTHONPATH": "/blender", "PYTHONHOME": "/b", "LD_LIBRARY_PATH": "/b", "HOME": "/h"}
    environment = backend_environment(given)
    assert environment["PATH"] == "/bin" and environment["HOME"] == "/h"
    assert "PYTHONHOME" not in environment and "LD_LIBRARY_PATH" not in environment
    assert environment["PYTHONPATH"] == str(backend_root())
    assert (backend_root() / "blender_talkhead" / "contract").is_dir()


def test_a_named_python_stands_alone(tmp_path: Path, make_python, empty_machine: Path) -> None:
    first, second = make_python("", "a/python"), make_python("", "b/python")
    environment = {"TALKHEAD_PYTHON": str(second)}
    assert candidate_pythons(str(first), None, environment) == [Candidate(first, "preferences")]
    assert candidate_pythons("", None, environment) == [Candidate(second, "TALKHEAD_PYTHON")]
    assert find_backend_python(environment=environment) == second
    folder = tmp_path / "environment"
    make_environment(folder)
    assert find_backend_python(str(folder), None, {}) == folder / "bin" / "python"


@pytest.mark.parametrize(
    ("preferred", "variable", "named"), [("/nowhere", "", "preferences"), ("", "/no", "TALKHEAD_P")]
)
def test_a_named_python_that_is_none(preferred: str, variable: str, named: str, empty_machine: Path) -> None:
    with pytest.raises(BackendError, match=named):
        candidate_pythons(preferred, None, {"TALKHEAD_PYTHON": variable})


def test_order_of_the_usual_places(tmp_path: Path, empty_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = make_environment(tmp_path / "own")
    active = make_environment(tmp_path / "active")
    beside = make_environment(tmp_path / "extension" / ".venv")
    at_home = make_environment(empty_machine / ".virtualenvs" / "speech")
    conda = make_environment(empty_machine / "miniconda3" / "envs" / "torch")
    make_environment(empty_machine / "venv", with_torch=False)
    found = candidate_pythons("", tmp_path / "own", {"VIRTUAL_ENV": str(tmp_path / "active")})
    assert [each.python for each in found] == [own, active, beside, at_home, conda]
    monkeypatch.setattr(python_candidates, "find_spec", lambda name: object())
    found = candidate_pythons("", tmp_path / "own", {"CONDA_PREFIX": str(tmp_path / "own")})
    assert [each.python for each in found] == [own, Path(sys.executable), beside, at_home, conda]


def test_nothing_found(empty_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALKHEAD_PYTHON", raising=False)
    with pytest.raises(BackendError, match=r"no Python with torch.*install the backend"):
        find_backend_python("", empty_machine / "nothing", {})
    check = BackgroundCheck()
    deadline = time.monotonic() + 10
    with pytest.raises(BackendError, match="no Python with torch"):
        while check.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)


def test_torch_in_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "usr" / "bin" / "python3.11"
    python.parent.mkdir(parents=True)
    python.write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert not holds_torch(python)
    user_site = tmp_path / "home" / ".local" / "lib" / "python3.11" / "site-packages" / "torch"
    user_site.mkdir(parents=True)
    assert holds_torch(python)
    user_site.rmdir()
    (tmp_path / "usr" / "local" / "lib" / "python3.11" / "dist-packages" / "torch").mkdir(parents=True)
    assert holds_torch(python)


def test_base_pythons_are_programs_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3.13").write_text("#!/bin/sh\n")
    (folder / "python3.13").chmod(0o755)
    (folder / "python3").symlink_to(folder / "python3.13")
    monkeypatch.setenv("PATH", str(folder))
    assert folder / "python3.13" in find_base_pythons({"3.13": 0})
    assert folder / "python3" not in find_base_pythons({"3.13": 0})


def test_a_good_report(make_python) -> None:
    python = make_python(f"print('noise'); print({json.dumps(FACTS)!r}); print('more')")
    report = check_python(python, "preferences")
    assert report.is_usable and report.problem == "" and report.origin == "preferences"
    assert report.summary == "Python 3.11.7, torch 2.13.0; cpu (slow), cuda ()"
    assert report.missing == () and report.missing_optional == ("transformers==5.23.0",)
    assert [(d.name, d.has_bfloat16) for d in report.devices] == [("cpu", False), ("cuda", True)]
    assert report.facts["type"] == "info"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"packages": {"torch": None, "numpy": None}},
            ["lacks torch, numpy", "pip install torch==2.13.0 numpy==1.26.4"],
        ),
        ({"torch_error": "libc is too old"}, ["libc is too old"]),
        ({"protocol_version": 1}, ["protocol 1", "install the extension again"]),
    ],
)
def test_what_a_python_lacks_is_named(make_python, change: dict, words: list[str]) -> None:
    report = check_python(make_python(f"print({json.dumps({**FACTS, **change})!r})"))
    assert not report.is_usable
    assert all(word in report.problem for word in words), report.problem
    assert "\n" not in report.summary


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "if 'torch_backend' in sys.argv: sys.exit('no tomllib')\nprint('3.9.2')",
            "Python 3.9.2, the backend needs 3.11",
        ),
        ("sys.exit('it is broken')", "it is broken"),
        ("print('[1]'); print('{}')", "exit code 0"),
    ],
)
def test_a_python_that_cannot_run_the_backend(make_python, script: str, words: str) -> None:
    report = check_python(make_python(script))
    assert not report.is_usable and words in report.problem and "preferences" in report.problem


def test_no_program_and_no_answer(tmp_path: Path, make_python) -> None:
    assert "cannot start" in check_python(tmp_path / "nothing").problem
    assert "did not answer" in check_python(make_python("time.sleep(60)"), timeout_seconds=0.3).problem
    stop = threading.Event()
    stop.set()
    begun = time.monotonic()
    assert not check_python(make_python("time.sleep(60)"), stop=stop).is_usable
    assert time.monotonic() - begun < 5


def test_the_background_check_takes_the_first_that_works(make_python, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = make_python("sys.exit(1)", "bad"), make_python(f"print({json.dumps(FACTS)!r})", "good")
    for pythons, expected in (([bad, good], good), ([bad, bad], bad)):
        candidates = [Candidate(python, "home folder") for python in pythons]
        monkeypatch.setattr(python_environment, "candidate_pythons", lambda *_, found=candidates: found)
        check = BackgroundCheck()
        deadline = time.monotonic() + 20
        while (report := check.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert report is not None and report.python == expected and report.is_usable == (expected == good)


def test_a_cancelled_background_check_ends(make_python) -> None:
    check = BackgroundCheck(python=make_python("time.sleep(60)"))
    time.sleep(0.2)
    assert check.poll() is None
    check.cancel()
    deadline = time.monotonic() + 10
    with pytest.raises(BackendError, match="cancelled"):
        while check.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)


def test_a_run_to_the_end() -> None:
    code, output, log = run_to_end([sys.executable, "-c", "import sys; print('o'); sys.exit('e')"], 20)
    assert (code, output, log) == (1, "o", "e")


def test_requirements_are_those_of_the_locked_environment() -> None:
    settings = tomllib.loads((backend_root() / "pyproject.toml").read_text())["tool"]["talkhead"]["backend"]
    requirements = load_requirements()
    assert sorted(requirements.required + requirements.optional) == sorted(settings["common"])
    for version in ("3.11", "3.13"):
        assert [requirements.numpy[version]] == settings[version]
    assert requirements.torch_requirement() in settings["common"]
    assert list(requirements.torch) == ["cpu", "cuda"]


def test_info_of_the_backend(make_python, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {**FACTS, "packages": {"torch": None}}
    python = make_python(f"print({json.dumps(lacking)!r})")
    assert ask_backend_info(python) == {"python": str(python), **lacking}
    monkeypatch.setenv("TALKHEAD_PYTHON", str(python))
    assert ask_backend_info()["python"] == str(python)
    with pytest.raises(BackendError, match="it is broken"):
        ask_backend_info(make_python("sys.exit('it is broken')"))
