"""The zip: what is in it, what is not, and that the same tree gives the same bytes."""

from __future__ import annotations

import ast
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import build

MAX_MEGABYTES = 30.0
"""Weights of two methods are 20 of them."""
RIG_FILE = "blender_talkhead/scene/rig.blend"


@pytest.fixture(scope="module")
def zip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.write_extension_zip(tmp_path_factory.mktemp("package") / "talkhead.zip")


def test_same_tree_same_bytes(zip_file: Path, tmp_path: Path) -> None:
    assert build.write_extension_zip(tmp_path / "again" / "talkhead.zip").read_bytes() == zip_file.read_bytes()


def test_entries_are_sane(zip_file: Path) -> None:
    with zipfile.ZipFile(zip_file) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    names = [entry.filename for entry in entries]
    assert names == sorted(names) and len({name.lower() for name in names}) == len(names)
    for entry in entries:
        path = PurePosixPath(entry.filename)
        assert not path.is_absolute() and ".." not in path.parts and "\\" not in entry.filename
        assert not any(part.startswith(".") or part in {"__pycache__", "tests"} for part in path.parts), path
        assert path.suffix not in {".pyc", ".blend1", ".log", ".part"}, path
        assert path.suffix != ".blend" or entry.filename == RIG_FILE, path
        assert entry.external_attr >> 16 == 0o100644, path
        assert len(entry.filename) < 100, "Windows limits whole paths to 260 characters"
    assert {path.split("/")[0] for path in names} == {
        "blender_manifest.toml", "LICENSE", "__init__.py", "blender_talkhead", "torch_backend",
    }  # fmt: skip
    assert zip_file.stat().st_size < MAX_MEGABYTES * 1e6


def test_all_that_runs_is_inside(zip_file: Path) -> None:
    """Every module of both packages, the shipped weights with their cards, and the demo recording."""
    with zipfile.ZipFile(zip_file) as archive:
        names = set(archive.namelist())
    modules = {
        path.relative_to(build.ROOT).as_posix() for package in build.EXTENSION_PACKAGES
        for path in (build.ROOT / package).rglob("*.py")
    }  # fmt: skip
    assert modules <= names
    for weights in (build.ROOT / "torch_backend" / "weights").glob("*.safetensors"):
        inside = weights.relative_to(build.ROOT)
        assert {inside.as_posix(), inside.with_suffix(".md").as_posix()} <= names
    assert {"blender_talkhead/demo/demo_sentence.wav", RIG_FILE} <= names


def test_the_rig_file_opens_from_the_oldest_blender_on(zip_file: Path) -> None:
    """A file of a newer Blender than the oldest supported one is refused by that one."""
    with zipfile.ZipFile(zip_file) as archive:
        data = archive.read(RIG_FILE)
    assert data[:4] == b"\x28\xb5\x2f\xfd", "compressed"
    assert len(data) < 100_000


def test_sources_are_for_the_oldest_python(zip_file: Path) -> None:
    with zipfile.ZipFile(zip_file) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                ast.parse(archive.read(name), name, feature_version=(3, 11))


def test_manifest(zip_file: Path) -> None:
    with zipfile.ZipFile(zip_file) as archive:
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
        entry = archive.read("__init__.py").decode()
    assert (manifest["id"], manifest["name"], manifest["blender_version_min"]) == ("talkhead", "TalkHead", "4.2.0")
    assert set(manifest["permissions"]) == {"files", "network"}
    assert all(len(reason) <= 64 and not reason.endswith(".") for reason in manifest["permissions"].values())
    assert "__package__" in entry and "import bpy" not in entry
