"""Fixtures shared by all tiers of tests (no torch, no bpy: the tiers run in different environments)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Backend and integration tests need torch: an environment without it runs the other tiers only."""
    del config
    if collection_path.is_dir() and collection_path.name in {"backend", "integration"} and not has_module("torch"):
        return True
    if collection_path.is_dir() and collection_path.name == "in_blender" and not has_module("bpy"):
        return True
    return None


def has_module(name: str) -> bool:
    """Whether a module can be found, without importing it."""
    from importlib.util import find_spec

    return find_spec(name) is not None


@pytest.fixture(scope="session")
def check_data() -> Path:
    """The folder of real recordings; tests that use it are skipped where it is absent."""
    folder = Path(os.environ.get("TALKHEAD_CHECK_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "speech" / "clips.tsv").is_file():
        pytest.skip(f"no check recordings at {folder} (set TALKHEAD_CHECK_DATA)")
    return folder


@pytest.fixture(scope="session")
def demo_recording() -> Path:
    """The recording that ships with the extension."""
    path = REPOSITORY / "blender_talkhead" / "demo" / "demo_sentence.wav"
    assert path.is_file()
    return path
