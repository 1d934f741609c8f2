"""One zip in every Blender here: it installs, animates in three ways and three modes, and reopens as the clip."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extension.matrix import Material, check_row, try_program
from tests.extension.programs import BlenderProgram, find_programs

PROGRAMS = find_programs()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.replace(" ", "-"))
def test_zip_in(program: BlenderProgram, material: Material, tmp_path: Path) -> None:
    check_row(try_program(program, material, tmp_path), material)
