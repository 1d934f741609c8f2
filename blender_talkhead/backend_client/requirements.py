"""What the backend's environment consists of: requirements.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

TorchBuild = Literal["cpu", "cuda"]
TORCH_BUILDS: tuple[TorchBuild, ...] = ("cpu", "cuda")

_FILE = Path(__file__).with_name("requirements.toml")


@dataclass(frozen=True)
class TorchSource:
    """One of PyTorch's builds."""

    index: str
    """URL of its wheel index."""
    download_bytes: int
    """What torch and its dependencies take to download, about."""
    disk_bytes: int
    """What the whole environment takes on the disk, about."""


@dataclass(frozen=True)
class Requirements:
    """Packages as pip requirements ("torch==2.13.0")."""

    required: tuple[str, ...]
    """Without these nothing can be animated; numpy comes on top."""
    optional: tuple[str, ...]
    tested_pythons: tuple[str, ...]
    others_bytes: int
    """What the packages beside torch take to download, about."""
    numpy: dict[str, str]
    """numpy's requirement by the Python version that it is for ("3.11"); these versions are supported, oldest first."""
    torch: dict[str, TorchSource]
    """By the name of the build."""

    def required_for(self, python_version: str) -> tuple[str, ...]:
        """Return what a Python ("3.11.7") must have; an unknown version gets the newest numpy."""
        version = ".".join(python_version.split(".")[:2])
        return (*self.required, self.numpy.get(version, list(self.numpy.values())[-1]))

    def others_for(self, python_version: str) -> tuple[str, ...]:
        """Return everything beside torch that is installed into a Python ("3.11.7")."""
        torch = self.torch_requirement()
        return tuple(each for each in self.required_for(python_version) + self.optional if each != torch)

    def torch_requirement(self) -> str:
        """Return the requirement of torch itself."""
        return next(each for each in self.required if each.startswith("torch=="))


@cache
def load_requirements() -> Requirements:
    """Read requirements.toml."""
    content = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return Requirements(
        required=tuple(content["required"]),
        optional=tuple(content["optional"]),
        tested_pythons=tuple(content["tested_pythons"]),
        others_bytes=content["others_bytes"],
        numpy=dict(content["numpy"]),
        torch={name: TorchSource(**values) for name, values in content["torch"].items()},
    )
