"""What an installation will do: where to, from where, how much it takes, and the commands."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..contract.errors import BackendError, BadInputError, UsageError
from .environment_folder import require_own_folder
from .python_environment import backend_environment
from .requirements import TORCH_BUILDS, TorchBuild, load_requirements

_WHEELS_PER_DISK_BYTE = 4.0
"""An environment takes about so many times the bytes of its wheels."""


@dataclass(frozen=True)
class InstallPlan:
    """What to install, from where, into which folder."""

    folder: Path
    """The environment; replaced when it exists."""
    build: TorchBuild = "cpu"
    wheel_folder: Path | None = None
    """Where the wheels lie; nothing is downloaded then."""
    index_url: str | None = None
    """A package index in place of PyTorch's and of pip's."""
    base_python: Path | None = None
    """The Python to make the environment from; None finds one."""


def needed_bytes(build: str) -> int:
    """Return what an installation takes on the disk, about."""
    return load_requirements().torch[build].disk_bytes


def download_bytes(build: str) -> int:
    """Return what an installation downloads, about."""
    requirements = load_requirements()
    return requirements.torch[build].download_bytes + requirements.others_bytes


def download_source(plan: InstallPlan) -> str:
    """Return where torch comes from, as shown to the user who is asked."""
    return str(plan.wheel_folder or plan.index_url or load_requirements().torch[plan.build].index)


def validate_plan(plan: InstallPlan, online_allowed: bool) -> None:
    """Check what can be known before anything is made.

    Raises:
        UsageError: an unknown build.
        BadInputError: the folder of wheels has no torch, or the disk has too little room.
        BackendError: nothing may be downloaded, or the folder holds something else.
    """
    if plan.build not in TORCH_BUILDS:
        raise UsageError(f"build: expected one of {', '.join(TORCH_BUILDS)}, got {plan.build!r}")
    needed = needed_bytes(plan.build)
    if plan.wheel_folder is not None:
        wheels = _list_wheels(plan.wheel_folder)
        if not any(name.startswith("torch-") for name in wheels):
            raise BadInputError(
                f"{plan.wheel_folder} holds no wheel of torch; fill it on a computer with internet: "
                f"python -m pip download -d FOLDER {' '.join(all_requirements('3.11'))}"
            )
        needed = int(_WHEELS_PER_DISK_BYTE * sum(wheels.values()))
    elif not online_allowed:
        raise BackendError(
            "online access is off in Blender: allow it in Preferences > System > Network, or give a folder of wheels"
        )
    require_own_folder(plan.folder)
    _require_room(plan.folder, needed)


def wheel_pythons(plan: InstallPlan) -> list[str]:
    """Return the Python versions ("3.11") that the folder's wheels of torch are for; without a folder all supported."""
    supported = list(load_requirements().numpy)
    if plan.wheel_folder is None:
        return supported
    names = [name for name in _list_wheels(plan.wheel_folder) if name.startswith("torch-")]
    tags = {tag for name in names for tag in re.findall(r"-cp(3\d+)-", name)}
    fitting = [version for version in supported if version.replace(".", "") in tags]
    return fitting or supported


def all_requirements(python_version: str) -> list[str]:
    """Return what is installed into a Python ("3.11.7"), torch first."""
    requirements = load_requirements()
    return [requirements.torch_requirement(), *requirements.others_for(python_version)]


def torch_command(plan: InstallPlan, python: Path) -> list[str]:
    """Return the command that installs torch."""
    index = plan.index_url or load_requirements().torch[plan.build].index
    return [*_pip_install(plan, python, index), load_requirements().torch_requirement()]


def others_command(plan: InstallPlan, python: Path, python_version: str) -> list[str]:
    """Return the command that installs everything else; torch stands in it, so that nothing replaces it."""
    return [*_pip_install(plan, python, plan.index_url), *all_requirements(python_version)]


def pip_environment(plan: InstallPlan) -> dict[str, str]:
    """Return the environment variables for pip: its settings count for downloads, never for a folder of wheels."""
    variables = backend_environment()
    del variables["PYTHONPATH"]
    if plan.wheel_folder is not None:
        variables = {name: value for name, value in variables.items() if not name.upper().startswith("PIP_")}
        variables["PIP_CONFIG_FILE"] = os.devnull
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"):
        variables.pop(name, None)
    return {**variables, "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _pip_install(plan: InstallPlan, python: Path, index: str | None) -> list[str]:
    command = [str(python), "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--progress-bar=off"]
    command += ["--only-binary=:all:", "--no-warn-script-location", "--retries=3", "--timeout=30"]
    if plan.wheel_folder is not None:
        return [*command, "--no-index", "--find-links", str(plan.wheel_folder)]
    return command if index is None else [*command, "--index-url", index]


def _list_wheels(folder: Path) -> dict[str, int]:
    """Names and sizes of the wheels in a folder."""
    try:
        return {path.name: path.stat().st_size for path in folder.iterdir() if path.suffix == ".whl"}
    except OSError as error:
        raise BadInputError(f"cannot read the folder of wheels {folder}: {error.strerror or error}") from error


def _require_room(folder: Path, needed: int) -> None:
    ancestor = next(parent for parent in folder.absolute().parents if parent.is_dir())
    try:
        free = shutil.disk_usage(ancestor).free
    except OSError:
        return
    if needed > free:
        raise BadInputError(
            f"the backend needs about {needed / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free; free some"
        )
