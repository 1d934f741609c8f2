"""A whole installation, by real pip, from a folder of tiny wheels: no network, no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blender_talkhead.backend_client.environment_folder import MARKER_FILE, read_environment
from blender_talkhead.backend_client.install_plan import all_requirements
from blender_talkhead.backend_client.installer import BackendInstaller, InstallPlan
from blender_talkhead.backend_client.python_candidates import candidate_pythons, environment_python
from tests.tiny_wheels import write_backend_wheels, write_wheel

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    write_backend_wheels(folder, all_requirements(VERSION))
    return folder


@pytest.fixture
def installations() -> Iterator[list[BackendInstaller]]:
    """Installations of a test; those that still run are cancelled."""
    made: list[BackendInstaller] = []
    yield made
    for each in made:
        each.cancel()
        each.wait(20)


def make_plan(folder: Path, wheels: Path) -> InstallPlan:
    return InstallPlan(folder, wheel_folder=wheels, base_python=Path(sys.executable))


def follow(installer: BackendInstaller) -> list[tuple[str, float]]:
    """Poll to the end, as the panel does; every poll must be quick."""
    seen: list[tuple[str, float]] = []
    installer.start()
    while True:
        begun = time.perf_counter()
        is_finished = installer.poll()
        assert time.perf_counter() - begun < 0.05
        if not seen or seen[-1] != (installer.phase, installer.fraction):
            seen.append((installer.phase, installer.fraction))
        if is_finished:
            return seen
        time.sleep(0.05)


def test_installation_and_repair(tmp_path: Path, wheels: Path, installations: list[BackendInstaller]) -> None:
    folder = tmp_path / "an environment"
    installer = BackendInstaller(make_plan(folder, wheels), online_allowed=False)
    installations.append(installer)
    seen = follow(installer)
    assert installer.error == "" and not installer.was_cancelled, installer.log
    phases = list(dict.fromkeys(phase for phase, _ in seen))
    assert "making the environment" in phases and "checking" in phases and phases[-1] == "done"
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    report = installer.report
    assert report is not None and report.is_usable and report.python == environment_python(folder)
    assert report.torch_version == "2.13.0" and report.python_version.startswith(VERSION)
    facts = read_environment(folder)
    assert facts is not None and facts.build == "cpu" and set(facts.requirements) == set(all_requirements(VERSION))
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert candidate_pythons("", folder, {})[0].python == report.python
    answer = subprocess.run([report.python, "-c", "import torch, sys; sys.exit(torch.__file__)"], capture_output=True)
    assert str(folder) in answer.stderr.decode()

    (folder / "lib" / f"python{VERSION}" / "site-packages" / "torch.py").unlink()
    (folder / MARKER_FILE).unlink()
    repair = BackendInstaller(make_plan(folder, wheels), online_allowed=False)
    installations.append(repair)
    follow(repair)
    assert repair.error == "" and repair.report is not None and repair.report.is_usable
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_failed_repair_keeps_the_old_environment(
    tmp_path: Path, wheels: Path, installations: list[BackendInstaller]
) -> None:
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / "pyvenv.cfg").write_text("old")
    few = tmp_path / "few"
    write_wheel(few, "torch==2.13.0")
    installer = BackendInstaller(make_plan(folder, few), online_allowed=False)
    installations.append(installer)
    follow(installer)
    assert "lacks it for this Python" in installer.error and installer.exit_code == 4
    assert "scipy" in installer.error or "safetensors" in installer.error
    assert (folder / "pyvenv.cfg").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["environment", "few"]


def test_an_environment_that_does_not_work_is_not_kept(tmp_path: Path, installations: list[BackendInstaller]) -> None:
    broken = tmp_path / "broken"
    write_backend_wheels(broken, all_requirements(VERSION))
    write_wheel(broken, "torch==2.13.0", "raise ImportError('libc is too old')")
    installer = BackendInstaller(make_plan(tmp_path / "environment", broken), online_allowed=False)
    installations.append(installer)
    follow(installer)
    assert "libc is too old" in installer.error and installer.report is None
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize("phase", ["making the environment", "checking"])
def test_a_cancel_leaves_nothing(
    tmp_path: Path, wheels: Path, installations: list[BackendInstaller], phase: str
) -> None:
    installer = BackendInstaller(make_plan(tmp_path / "environment", wheels), online_allowed=False)
    installations.append(installer)
    installer.start()
    deadline = time.monotonic() + 60
    while installer.phase != phase and time.monotonic() < deadline:
        time.sleep(0.005)
    begun = time.monotonic()
    installer.cancel()
    assert installer.wait(20) and time.monotonic() - begun < 8
    assert installer.was_cancelled and installer.error == "" and installer.report is None
    assert list(tmp_path.iterdir()) == []


def test_no_python_that_fits(tmp_path: Path, wheels: Path, installations: list[BackendInstaller]) -> None:
    old = tmp_path / "old_python"
    old.write_text("#!/bin/sh\necho '\"3.9.2\"'\n")
    without = tmp_path / "python_without_pip"
    without.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'ensurepip'\" >&2; exit 1\n")
    for python, words in (
        (old, "is Python 3.9.2"),
        (without, "apt install python3-venv"),
        (tmp_path / "no", "not start"),
    ):
        if python.exists():
            python.chmod(0o755)
        plan = InstallPlan(tmp_path / "environment", wheel_folder=wheels, base_python=python)
        installer = BackendInstaller(plan, online_allowed=False)
        installations.append(installer)
        follow(installer)
        assert words in installer.error and "no Python 3.11" in installer.error
    assert not (tmp_path / "environment").exists()


def test_a_program_that_ends_takes_its_installation_along(tmp_path: Path, wheels: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from blender_talkhead.backend_client.installer import BackendInstaller, InstallPlan
plan = InstallPlan(Path({str(tmp_path / "environment")!r}), wheel_folder=Path({str(wheels)!r}))
installer = BackendInstaller(plan, online_allowed=False)
installer.start()
while installer.phase != "making the environment": time.sleep(0.01)
time.sleep(0.3)
"""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)})
    assert time.monotonic() - begun < 30
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("environment")]
