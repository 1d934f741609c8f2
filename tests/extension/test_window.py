"""The extension in a real window, as a person uses it: window_story.py in each program that BLENDER names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import build
from tests.extension.programs import BlenderProgram, real_programs
from tests.extension.window import missing_tools
from tests.extension.window_story import tell_story

PROGRAMS = real_programs()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not PROGRAMS, reason="no Blender program named by BLENDER")
@pytest.mark.skipif(bool(missing_tools()), reason=f"not on this machine: {', '.join(missing_tools())}")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.replace(" ", "-"))
def test_story(program: BlenderProgram, tmp_path: Path) -> None:
    """Screenshots of each step go to TALKHEAD_PICTURES, else to pytest's folder."""
    zip_file = build.write_extension_zip(tmp_path / "package" / "talkhead.zip")
    python = Path(os.environ.get("TALKHEAD_PYTHON", sys.executable))
    kept = os.environ.get("TALKHEAD_PICTURES")
    name = program.name.replace(" ", "-").lower()
    pictures = Path(kept) / name if kept else tmp_path / "pictures"
    facts = tell_story(program, zip_file, python, tmp_path / "user", pictures)
    assert facts["fractions"] >= 5, f"the progress bar showed only {facts['fractions']} values"
