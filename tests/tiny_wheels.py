"""Wheels of a few hundred bytes under the names and versions of the backend's packages, for tests without a network."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

TORCH = """
__version__ = "2.13.0"
class _Nothing:
    @staticmethod
    def is_available(): return False
    @staticmethod
    def get_capabilities(): return {}
cuda = cpu = _Nothing
class backends: mps = _Nothing
def get_num_threads(): return 1
"""
AV = "library_versions = {'libavcodec': (61, 0)}\ncodecs_available = {'flac'}\n"


def write_wheel(folder: Path, requirement: str, source: str = "", needs: Sequence[str] = (), tag: str = "py3") -> Path:
    """Write one wheel of one module, which has the distribution's name.

    Args:
        folder: where to.
        requirement: such as "torch==2.13.0".
        source: of the module.
        needs: requirements of its own.
        tag: the Python that it is for.
    """
    name, _, version = requirement.partition("==")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}-none-any.whl"
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in needs)
    files = {
        f"{name}.py": source,
        f"{information}/METADATA": metadata,
        f"{information}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{information}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**files, f"{information}/RECORD": record}.items():
            archive.writestr(file, content)
    return path


def write_backend_wheels(folder: Path, requirements: Sequence[str]) -> None:
    """Write a wheel for each requirement, with just what the backend's `info` asks of torch and av."""
    sources = {"torch": TORCH, "av": AV}
    for requirement in requirements:
        name = requirement.partition("==")[0]
        write_wheel(folder, requirement, sources.get(name, ""), ("tinydependency",) if name == "torch" else ())
    write_wheel(folder, "tinydependency==1.0")
