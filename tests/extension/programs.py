"""The Blenders that the extension is tried in: bpy modules of the environments here, and the programs in BLENDER."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside_blender.py")
LIMIT_SECONDS = 300


@dataclass(frozen=True)
class BlenderProgram:
    """One Blender, as a Python module or as the real program."""

    name: str
    executable: Path
    is_module: bool

    def script(self, script: Path, *arguments: object, blend_file: Path | None = None) -> list[str]:
        """The command that runs a Python script in it, with the user's preferences and extensions."""
        if self.is_module:
            return [str(self.executable), str(script), *map(str, arguments)]
        opened = [] if blend_file is None else [str(blend_file)]
        flags = ["--python-exit-code", "1", "-P", str(script), "--"]
        return [str(self.executable), "-b", *opened, *flags, *map(str, arguments)]

    def talkhead(self, *arguments: object) -> list[str]:
        """The headless command, in the form that this Blender has."""
        if self.is_module:
            return [str(self.executable), "-m", "blender_talkhead", *map(str, arguments)]
        return [str(self.executable), "-b", "--command", "talkhead", *map(str, arguments)]


@dataclass(frozen=True)
class Sandbox:
    """A user's folders of one Blender: fresh, and away from those of the person who runs the tests."""

    program: BlenderProgram
    folder: Path

    @property
    def extension(self) -> Path:
        """Where Blender unpacks the zip."""
        return self.folder / "resources" / "extensions" / "user_default" / "talkhead"

    def environment(self, backend_python: Path | None = None) -> dict[str, str]:
        """Variables of the child process: its own home and Blender folders, and the Python that has torch."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BLENDER"))}
        folders = {"HOME": "home", "BLENDER_USER_RESOURCES": "resources", "TMPDIR": "temporary"}
        for variable, name in folders.items():
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            kept[variable] = str(self.folder / name)
        kept.pop("TALKHEAD_PYTHON", None)
        if backend_python is not None:
            kept["TALKHEAD_PYTHON"] = str(backend_python)
        if self.program.is_module and self.extension.is_dir():
            kept["PYTHONPATH"] = str(self.extension)  # `python -m blender_talkhead` takes the installed copy
        return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def run(self, command: list[str], backend_python: Path | None = None, limit: float = LIMIT_SECONDS) -> str:
        """Run a command in the sandbox, away from the repository, without a network where the system can do that.

        Returns:
            What it wrote to stdout and stderr.

        Raises:
            AssertionError: it failed; the text holds the end of its log.
        """
        result = subprocess.run(
            [*without_network(), *command],
            cwd=self.folder,
            env=self.environment(backend_python),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
        shown = " ".join(Path(part).name if part.startswith("/") else part for part in command[:6])
        assert result.returncode == 0, f"{shown} ended with code {result.returncode}\n{result.stdout[-4000:]}"
        return result.stdout


@functools.cache
def without_network() -> tuple[str, ...]:
    """What to put before a command so that it has no network; nothing where this user may not do that."""
    prefix = ("unshare", "--net")
    if shutil.which(prefix[0]) is None:
        return ()
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else ()


def environment_python(folder: Path) -> Path:
    """The interpreter of a virtual environment on this system."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find_programs() -> list[BlenderProgram]:
    """The bpy modules in `.venv` and `.venvs/*` (as build.py makes them) and the programs named by BLENDER."""
    environments = [ROOT / ".venv", *sorted((ROOT / ".venvs").glob("bpy-*"))]
    modules = []
    for folder in environments:
        version = module_version(folder)
        if version is not None:
            modules.append(BlenderProgram(f"bpy {version}", environment_python(folder), is_module=True))
    return sorted(modules, key=lambda program: program.name) + real_programs()


def module_version(folder: Path) -> str | None:
    """Version of the bpy module in an environment, without starting it."""
    found = [
        *folder.glob("lib/python3*/site-packages/bpy-*.dist-info"),
        *folder.glob("Lib/site-packages/bpy-*.dist-info"),
    ]
    return found[0].name.removeprefix("bpy-").removesuffix(".dist-info") if found else None


def real_programs() -> list[BlenderProgram]:
    """The programs named by BLENDER (launchers with ":" between them), by the version that they tell."""
    programs = []
    for text in os.environ.get("BLENDER", "").split(os.pathsep):
        if text:
            told = subprocess.run(
                [text, "-b", "--version"], capture_output=True, text=True, timeout=60, check=False
            ).stdout
            lines = [line for line in told.splitlines() if line.startswith("Blender ")]
            name = lines[0].split(" (")[0].removesuffix(" LTS") if lines else f"Blender ({text})"
            programs.append(BlenderProgram(name, Path(text), is_module=False))
    return programs
