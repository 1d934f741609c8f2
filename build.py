#!/usr/bin/env python3
"""The one tool of this repository: `python3 build.py demo | test | check | package`.

Standard library only. It makes `.venv` with pinned dependencies, bakes the demo, runs every test, lints, and packages.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OUT = ROOT / "out"
SUPPORTED_PYTHONS = ((3, 11), (3, 13))
DEMO_RECORDING = ROOT / "blender_talkhead" / "demo" / "demo_sentence.wav"
EXTENSION_PACKAGES = ("blender_talkhead", "torch_backend")

# Libraries that the bpy module loads from the system, and the Debian package of each, for a helpful message.
SYSTEM_LIBRARIES = {
    "libX11.so.6": "libx11-6",
    "libXi.so.6": "libxi6",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libXfixes.so.3": "libxfixes3",
    "libXrender.so.1": "libxrender1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
}

GENERATED_INIT = '''"""Entry point that Blender loads; it hands its own name to the extension's packages."""
from .blender_talkhead.registration import register as _register, unregister as _unregister


def register():
    _register(__package__)


def unregister():
    _unregister(__package__)
'''


class BuildError(Exception):
    """A failure whose message is all that the user needs."""


def run(command: list[str | Path], **options: object) -> None:
    """Runs a command in the repository and raises BuildError if it fails."""
    result = subprocess.run([str(part) for part in command], cwd=ROOT, check=False, **options)  # type: ignore[call-overload]
    if result.returncode != 0:
        shown = " ".join([Path(str(command[0])).name, *map(str, command[1:4])])
        raise BuildError(f"{shown} ended with code {result.returncode}")


def run_blender_module(command: list[str | Path], environment: dict[str, str]) -> None:
    """Runs a command that renders; where the bpy module itself crashes (seen once in 20 runs), tries once more."""
    code = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False).returncode
    if code < 0:
        print(f"Blender's module crashed (signal {-code}); trying once more", flush=True)
        run(command, env=environment)
    elif code != 0:
        raise BuildError(f"animate ended with code {code}")


def load_settings() -> dict:
    """The [tool.talkhead] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["talkhead"]


def load_manifest() -> dict:
    """blender_manifest.toml: the only place that holds the version."""
    return tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))


def check_python() -> str:
    """Returns "3.11" or "3.13"; any other Python gets a clear message."""
    if sys.version_info[:2] not in SUPPORTED_PYTHONS:
        raise BuildError(
            f"This is Python {sys.version_info.major}.{sys.version_info.minor}. Blender's Python module exists for "
            "Python 3.11 (Blender 4.5 LTS) and 3.13 (Blender 5.2 LTS): run build.py with one of them, "
            "for example `python3.11 build.py demo`."
        )
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def environment_python(folder: Path) -> Path:
    """The interpreter of a virtual environment on this system."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_environment(folder: Path, base_python: str | Path, version: str, requirements: list[str]) -> Path:
    """Makes or updates a virtual environment; returns its interpreter. Does nothing when it is up to date.

    requirements/python-VERSION.txt pins what the named packages bring along.
    """
    python = environment_python(folder)
    stamp = folder / "talkhead-requirements.txt"
    constraints = ROOT / "requirements" / f"python-{version}.txt"
    wanted = "\n".join(requirements) + "\n" + (constraints.read_text(encoding="utf-8") if constraints.is_file() else "")
    if python.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"Installing into {folder.relative_to(ROOT)} (first time only): {', '.join(requirements)}", flush=True)
    started = time.monotonic()
    if not python.is_file():
        run([base_python, "-m", "venv", folder])
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if constraints.is_file():
        command += ["--constraint", constraints]
    # torch and numpy first: where the machine's pip configuration prefers a CPU build, nothing later replaces it.
    first = [r for r in requirements if r.startswith(("torch==", "numpy=="))]
    for batch in (first, requirements):
        if batch:
            run([*command, *batch])
    stamp.write_text(wanted, encoding="utf-8")
    print(f"  done in {time.monotonic() - started:.0f} s", flush=True)
    return python


def main_environment(with_tests: bool) -> Path:
    """`.venv`: backend, bpy module and, for developers, the test tools. A missing system library is named."""
    version = check_python()
    settings = load_settings()
    requirements = [
        *settings["backend"][version],
        *settings["backend"]["common"],
        *settings["blender"][version],
        *(settings["test"]["common"] if with_tests or test_tools_installed() else []),
    ]
    python = make_environment(ROOT / ".venv", sys.executable, version, requirements)
    check_blender_module(python)
    return python


def test_tools_installed() -> bool:
    """Whether `.venv` already has the test tools, so that `demo` after `test` reinstalls nothing."""
    stamp = ROOT / ".venv" / "talkhead-requirements.txt"
    return stamp.is_file() and "pytest==" in stamp.read_text(encoding="utf-8")


def check_blender_module(python: Path) -> None:
    """Imports bpy in a child process; a missing system library gets a message that names it and its package."""
    result = subprocess.run([str(python), "-c", "import bpy"], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return
    missing = re.search(r"(lib[\w+.-]+\.so[.\d]*)", result.stderr)
    if missing:
        library = missing.group(1)
        package = SYSTEM_LIBRARIES.get(library)
        remedy = f"install the package {package} (Debian, Ubuntu: apt install {package})" if package else "install it"
        others = [name for name in SYSTEM_LIBRARIES.values() if name != package]
        raise BuildError(
            f"Blender's module needs the system library {library}, which is not here: {remedy}. "
            f"It also needs: {', '.join(others)}."
        )
    raise BuildError(f"Blender's module does not start:\n{result.stderr.strip()[-2000:]}")


def find_python(version: str) -> str | None:
    """An interpreter of that version ("3.13"), or None."""
    candidates = [sys.executable, shutil.which(f"python{version}")]
    candidates += [str(path) for path in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for candidate in candidates:
        if not candidate:
            continue
        probe = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        result = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
        if result.returncode == 0 and result.stdout.strip() == version:
            return candidate
    return None


def build_demo(_arguments: argparse.Namespace) -> None:
    """Bakes the shipped recording onto the built-in head: out/demo/demo.blend, preview.mp4, preview.png."""
    started = time.monotonic()
    python = main_environment(with_tests=False)
    folder = OUT / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TALKHEAD_PYTHON": str(python)}
    animate: list[str | Path] = [python, "-m", "blender_talkhead", "animate", DEMO_RECORDING]
    run_blender_module([*animate, "--output", folder / "demo.blend", "--preview", folder / "preview.mp4"], environment)
    run_blender_module([*animate, "--preview", folder / "preview.png"], environment)
    for name in ("demo.blend", "preview.mp4", "preview.png"):
        if not (folder / name).is_file():
            raise BuildError(f"the demo ended without out/demo/{name}")
    print(f"out/demo/demo.blend, preview.mp4 and preview.png made in {time.monotonic() - started:.0f} s")


def matrix_environments() -> dict[str, Path | None]:
    """Makes the environments of the other bpy modules: name -> interpreter, None where its Python is not here."""
    settings = load_settings()
    tools = [r for r in settings["test"]["common"] if r.startswith(("pytest", "hypothesis"))]
    made: dict[str, Path | None] = {}
    for name, (version, *packages) in settings["matrix"].items():
        base = find_python(version)
        folder = ROOT / ".venvs" / name
        made[name] = None if base is None else make_environment(folder, base, version, [*packages, *tools])
    return made


def run_tests(arguments: argparse.Namespace) -> None:
    """Every test in the main environment, then tests/in_blender and tests/unit once per bpy module of the matrix.

    The real programs named by BLENDER take part in the main environment's run only.
    """
    python = main_environment(with_tests=True)
    others = {} if arguments.main_only else matrix_environments()  # tests/extension runs in all of them
    environment = {**os.environ, "TALKHEAD_PYTHON": str(python), "OPENBLAS_NUM_THREADS": "1"}
    failures = []
    summary = []

    def run_pytest(name: str, interpreter: Path, *paths: str) -> None:
        print(f"\n== tests: {name} ==", flush=True)
        started = time.monotonic()
        command = [str(interpreter), "-m", "pytest", "-q", *paths, *arguments.pytest_arguments]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        took = f"{time.monotonic() - started:.0f} s"
        summary.append(f"{name}: {'passed' if code == 0 else f'FAILED (code {code})'}, {took}")
        if code != 0:
            failures.append(name)

    run_pytest("main environment", python)
    environment.pop("BLENDER", None)
    for name, interpreter in others.items():
        if interpreter is None:
            summary.append(f"{name}: skipped, its Python is not on this machine")
        else:
            run_pytest(name, interpreter, "tests/unit", "tests/in_blender")
    print("\n" + "\n".join(summary))
    if failures:
        raise BuildError("tests failed: " + ", ".join(failures))


def shipped_files() -> list[str]:
    """Repository paths of both packages, sorted: what git tracks, and new files that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *EXTENSION_PACKAGES]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    if not names:  # an unpacked source archive
        found = [path for package in EXTENSION_PACKAGES for path in (ROOT / package).rglob("*")]
        names = [path.relative_to(ROOT).as_posix() for path in found]
    return sorted({name for name in names if (ROOT / name).is_file() and not name.endswith((".pyc", ".pyo"))})


def extension_contents() -> dict[str, bytes]:
    """Every file of the extension: zip path -> bytes, sorted. The source tree is never edited."""
    contents = {name: (ROOT / name).read_bytes() for name in (*shipped_files(), "blender_manifest.toml", "LICENSE")}
    contents["__init__.py"] = GENERATED_INIT.encode()
    return dict(sorted(contents.items()))


def write_extension_zip(target: Path) -> Path:
    """Writes the extension's zip; the same tree gives the same bytes (sorted names, fixed date and permissions)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    with zipfile.ZipFile(partial, "w") as archive:
        for name, data in extension_contents().items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whichever system packs: the permissions below are read as such
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, compresslevel=9)
    partial.replace(target)
    return target


def validate_extension(python: Path, path: Path) -> None:
    """Runs Blender's own extension validator on a folder or zip."""
    find = "import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec('bpy').origin).parent)"
    module = Path(subprocess.run([str(python), "-c", find], capture_output=True, text=True, check=True).stdout.strip())
    tools = sorted(module.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    if not tools:
        raise BuildError("Blender's extension validator was not found in the bpy module")
    run([python, tools[0], "validate", path])


def package_extension(_arguments: argparse.Namespace) -> None:
    """Writes out/talkhead-VERSION.zip and validates it."""
    python = main_environment(with_tests=False)
    target = write_extension_zip(OUT / f"talkhead-{load_manifest()['version']}.zip")
    validate_extension(python, target)
    with zipfile.ZipFile(target) as archive:
        entries = archive.infolist()
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    unpacked = sum(entry.file_size for entry in entries) / 1e6
    print(f"{target.relative_to(ROOT)}  {target.stat().st_size / 1e6:.1f} MB, {len(entries)} files, {unpacked:.1f} MB")
    print(f"sha256 {digest}")


def check(_arguments: argparse.Namespace) -> None:
    """Lints, checks formatting and types, and validates the extension's zip."""
    python = main_environment(with_tests=True)
    run([python, "-m", "ruff", "check", "."])
    run([python, "-m", "ruff", "format", "--check", "."])
    run([python, "-m", "mypy"])
    with tempfile.TemporaryDirectory() as temporary:
        validate_extension(python, write_extension_zip(Path(temporary) / "talkhead.zip"))


def main() -> int:
    """Parses the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="bake the shipped recording onto the built-in head").set_defaults(call=build_demo)
    test = commands.add_parser("test", help="run every test")
    test.add_argument("--main-only", action="store_true", help="leave out the other bpy modules")
    test.add_argument("pytest_arguments", nargs="*", help="passed on to pytest (after --)")
    test.set_defaults(call=run_tests)
    commands.add_parser("check", help="lint, type-check, validate").set_defaults(call=check)
    commands.add_parser("package", help="write and validate the extension zip").set_defaults(call=package_extension)
    arguments = parser.parse_args()
    try:
        arguments.call(arguments)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
