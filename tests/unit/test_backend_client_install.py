"""Installing the backend: what is checked before, what pip says, the folder that is complete or not there."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from blender_talkhead.backend_client import environment_folder as folders
from blender_talkhead.backend_client.environment_folder import EnvironmentFacts
from blender_talkhead.backend_client.install_plan import (
    InstallPlan,
    all_requirements,
    download_bytes,
    download_source,
    needed_bytes,
    others_command,
    pip_environment,
    torch_command,
    validate_plan,
    wheel_pythons,
)
from blender_talkhead.backend_client.pip_progress import PipProgress, explain_pip_failure
from blender_talkhead.backend_client.requirements import load_requirements
from blender_talkhead.contract.errors import BackendError, BadInputError, OutputError, UsageError
from tests.tiny_wheels import write_wheel


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FACTS = EnvironmentFacts("cpu", "3.11.7", "2.13.0+cpu", ("torch==2.13.0",))


def test_nothing_is_downloaded_without_permission(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="Preferences > System > Network"):
        validate_plan(InstallPlan(tmp_path / "environment"), online_allowed=False)
    validate_plan(InstallPlan(tmp_path / "environment"), online_allowed=True)
    write_wheel(tmp_path / "wheels", "torch==2.13.0")
    validate_plan(InstallPlan(tmp_path / "environment", wheel_folder=tmp_path / "wheels"), online_allowed=False)
    assert names_in(tmp_path) == ["wheels"]


def test_what_cannot_work_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cpu, cuda"):
        validate_plan(InstallPlan(tmp_path / "e", build="rocm"), online_allowed=True)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="cannot read"):
        validate_plan(InstallPlan(tmp_path / "e", wheel_folder=tmp_path / "nothing"), online_allowed=False)
    write_wheel(tmp_path, "numpy==1.26.4")
    with pytest.raises(BadInputError, match=r"no wheel of torch.*pip download"):
        validate_plan(InstallPlan(tmp_path / "e", wheel_folder=tmp_path), online_allowed=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"")
    with pytest.raises(BackendError, match="no environment of TalkHead"):
        validate_plan(InstallPlan(tmp_path / "photos"), online_allowed=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    with pytest.raises(BadInputError, match=r"7\.0 GB.*1\.0 GB are free"):
        validate_plan(InstallPlan(tmp_path / "e", build="cuda"), online_allowed=True)


def test_commands_and_indexes(tmp_path: Path) -> None:
    indexes = load_requirements().torch
    python = Path("python")
    plan = InstallPlan(tmp_path / "e", build="cuda")
    command = torch_command(plan, python)
    assert command[:4] == ["python", "-m", "pip", "install"] and command[-1] == "torch==2.13.0"
    assert command[command.index("--index-url") + 1] == indexes["cuda"].index == download_source(plan)
    others = others_command(plan, python, "3.13.1")
    assert "--index-url" not in others and "numpy==2.4.6" in others and "torch==2.13.0" in others
    plan = InstallPlan(tmp_path / "e", index_url="https://mirror.example/simple")
    for command in (torch_command(plan, python), others_command(plan, python, "3.11.7")):
        assert command[command.index("--index-url") + 1] == "https://mirror.example/simple"
    plan = InstallPlan(tmp_path / "e", wheel_folder=tmp_path, index_url="https://mirror.example/simple")
    for command in (torch_command(plan, python), others_command(plan, python, "3.11.7")):
        assert "--no-index" in command and "--index-url" not in command
        assert command[command.index("--find-links") + 1] == str(tmp_path)
    assert needed_bytes("cuda") > needed_bytes("cpu") > download_bytes("cpu")


def test_settings_of_pip_do_not_reach_the_network_from_a_folder_of_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "https://example.invalid")
    monkeypatch.setenv("PIP_TARGET", "/somewhere")
    monkeypatch.setenv("PYTHONPATH", "/blender")
    with_wheels = pip_environment(InstallPlan(Path("e"), wheel_folder=Path("w")))
    assert "PIP_FIND_LINKS" not in with_wheels and with_wheels["PIP_CONFIG_FILE"] == os.devnull
    online = pip_environment(InstallPlan(Path("e")))
    assert online["PIP_FIND_LINKS"] == "https://example.invalid"
    for variables in (with_wheels, online):
        assert "PIP_TARGET" not in variables and "PYTHONPATH" not in variables and variables["PIP_USER"] == "0"


def test_pythons_that_the_wheels_are_for(tmp_path: Path) -> None:
    supported = list(load_requirements().numpy)
    assert wheel_pythons(InstallPlan(tmp_path / "e")) == supported
    for tag in ("cp311-cp311", "cp313-cp313", "cp39-cp39"):
        (tmp_path / f"torch-2.13.0+cpu-{tag}-win_amd64.whl").touch()
    assert wheel_pythons(InstallPlan(tmp_path / "e", wheel_folder=tmp_path)) == ["3.11", "3.13"]
    write_wheel(tmp_path / "pure", "torch==2.13.0")
    assert wheel_pythons(InstallPlan(tmp_path / "e", wheel_folder=tmp_path / "pure")) == supported
    assert all_requirements("3.11.7")[0] == "torch==2.13.0" and "numpy==1.26.4" in all_requirements("3.11.7")


def test_progress_of_a_download(tmp_path: Path) -> None:
    site, scratch = tmp_path / "site", tmp_path / "scratch"
    site.mkdir()
    (scratch / "pip-unpack-x").mkdir(parents=True)
    (site / "pip-24.0.dist-info").mkdir()
    progress = PipProgress(200_000, site)
    assert progress.describe() == "looking for packages" and progress.measure(scratch) == 0.0
    progress.read_line("Collecting torch==2.13.0")
    progress.read_line("  Downloading https://host/whl/torch-2.13.0%2Bcpu-cp311-linux_x86_64.whl (100.0 kB)")
    assert progress.describe() == "downloading torch"
    (scratch / "pip-unpack-x" / "torch.whl").write_bytes(bytes(50_000))
    assert progress.measure(scratch) == pytest.approx(0.6 * 0.25)
    (scratch / "pip-unpack-x" / "torch.whl").write_bytes(bytes(100_000))
    progress.read_line("  Downloading sympy-1.14.0-py3-none-any.whl.metadata (12 kB)")
    assert progress.measure(scratch) == pytest.approx(0.6 * 0.5)
    progress.read_line("Installing collected packages: mpmath, sympy, torch, typing-extensions")
    assert progress.describe() == "installing mpmath" and progress.measure(scratch) == pytest.approx(0.6)
    for done, name in ((1, "mpmath"), (2, "sympy")):
        (site / f"{name}-1.dist-info").mkdir()
        assert progress.measure(scratch) == pytest.approx(0.6 + 0.4 * done / 4)
    assert progress.describe() == "installing torch"


def test_progress_with_wheels() -> None:
    progress = PipProgress(0, None)
    progress.read_line("Processing /wheels/scipy-1.17.1-cp311-cp311-linux.whl (from accelerate)")
    assert progress.describe() == "reading scipy" and progress.measure(None) == 0.0


@pytest.mark.parametrize(
    ("log", "has_wheels", "words"),
    [
        ("ERROR: No matching distribution found for scipy==1", True, "lacks it for this Python"),
        ("WARNING: Retrying\nERROR: HTTPSConnectionPool: Max retries, Connection refused", False, "internet"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            False,
            "disk is full",
        ),
        ("", False, "it said nothing"),
        ("x\nsegfault", False, "segfault"),
    ],
)
def test_why_pip_failed(log: str, has_wheels: bool, words: str) -> None:
    assert words in explain_pip_failure(log, has_wheels)


def make_new(folder: Path, word: str) -> None:
    new = folders.new_folder_of(folder)
    (new / "bin").mkdir(parents=True)
    (new / "bin" / "accelerate").write_text(f"#!{new}/bin/python\n{word}\n")
    (new / "bin" / "python").symlink_to("/usr/bin/python3")
    folders.write_environment(new, FACTS)


def test_a_new_environment_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    for word in ("first", "second"):
        make_new(folder, word)
        folders.replace_environment(folder)
        assert (folder / "bin" / "accelerate").read_text() == f"#!{folder}/bin/python\n{word}\n"
        assert folders.read_environment(folder) == FACTS
        assert names_in(tmp_path) == ["environment"]


def test_the_old_environment_stays_when_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    make_new(folder, "first")
    folders.replace_environment(folder)
    with pytest.raises(OutputError, match="Close other Blenders"):
        folders.replace_environment(folder)  # there is no new one
    assert folders.read_environment(folder) == FACTS and names_in(tmp_path) == ["environment"]


def test_an_interrupted_swap_is_undone(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    make_new(folder, "old")
    folders.new_folder_of(folder).rename(tmp_path / "environment.old")
    make_new(folder, "new")
    folders.recover_environment(folder)
    assert names_in(tmp_path) == ["environment"] and "old" in (folder / "bin" / "accelerate").read_text()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format_version": 2}', '{"format_version": 1, "requirements": []}']
)
def test_a_marker_that_is_none(tmp_path: Path, content: str) -> None:
    assert folders.read_environment(tmp_path) is None
    (tmp_path / folders.MARKER_FILE).write_text(content)
    assert folders.read_environment(tmp_path) is None


def test_removing(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    folders.remove_environment(folder)
    make_new(folder, "")
    folders.replace_environment(folder)
    folders.remove_environment(folder)
    assert not folder.exists()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(5)
    assert names_in(tmp_path) == []


def test_only_one_installation_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "environment"
    with folders.only_installation(folder):
        second = folders.only_installation(folder)
        with pytest.raises(BackendError, match="another Blender"):
            second.__enter__()
    with folders.only_installation(folder):
        pass
    assert names_in(folder.parent) == []
