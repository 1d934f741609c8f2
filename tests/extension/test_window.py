"""The extension in a real window, as a person uses it: two stories in each program that BLENDER names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import build
from tests.extension.performance_story import key_controls
from tests.extension.programs import ROOT, BlenderProgram, real_programs
from tests.extension.window import missing_tools
from tests.extension.window_story import leave_mid_job, tell_story

PROGRAMS = real_programs()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAMS, reason="no Blender program named by BLENDER"),
    pytest.mark.skipif(bool(missing_tools()), reason=f"not on this machine: {', '.join(missing_tools())}"),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.replace(" ", "-"))
def test_story(program: BlenderProgram, tmp_path: Path) -> None:
    facts = tell_story(*setting(program, tmp_path, "story"))
    assert facts["fractions"] >= 5, f"the progress bar showed only {facts['fractions']} values"


@pytest.mark.parametrize("program", PROGRAMS[-1:], ids=lambda program: program.name.replace(" ", "-"))
def test_leaving_mid_job(program: BlenderProgram, tmp_path: Path) -> None:
    leave_mid_job(*setting(program, tmp_path, "leaving"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.replace(" ", "-"))
def test_keyed_controls(program: BlenderProgram, tmp_path: Path) -> None:
    data = Path(os.environ.get("TALKHEAD_CHECK_DATA", ROOT.parent / "shared" / "data"))
    person, demo = data / "speech" / "a2f_Mark_neutral.wav", ROOT / "blender_talkhead" / "demo" / "demo_sentence.wav"
    recording = person if person.is_file() else demo
    facts = key_controls(*setting(program, tmp_path, "performance"), recording)
    assert facts["apply"] < 20.0 and facts["lip_moved_mm"] > 2.0


def setting(program: BlenderProgram, folder: Path, name: str) -> tuple[BlenderProgram, Path, Path, Path, Path]:
    """Arguments of a story; screenshots of each step go to TALKHEAD_PICTURES, else to pytest's folder."""
    zip_file = build.write_extension_zip(folder / "package" / "talkhead.zip")
    python = Path(os.environ.get("TALKHEAD_PYTHON", sys.executable))
    kept = Path(os.environ.get("TALKHEAD_PICTURES", folder / "pictures"))
    return program, zip_file, python, folder / "user", kept / f"{program.name.replace(' ', '-').lower()}-{name}"
