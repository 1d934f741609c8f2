"""One zip in every Blender here: it installs, animates in three ways and three modes, and reopens as the clip."""

from __future__ import annotations

from pathlib import Path

import pytest

import build
from tests.extension.matrix import Material, check_row, prepare_material, try_program
from tests.extension.programs import BlenderProgram, find_programs

PROGRAMS = find_programs()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("matrix")
    return prepare_material(folder, build.write_extension_zip(folder / "talkhead.zip"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.replace(" ", "-"))
def test_zip_in(program: BlenderProgram, material: Material, tmp_path: Path) -> None:
    check_row(try_program(program, material, tmp_path), material)
