"""Blender's memory after many bakes and removes: flat, in a bpy module and in a real program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extension.matrix import Material, ask, install
from tests.extension.programs import BlenderProgram, Sandbox, find_programs, real_programs

ROUNDS = 20
SETTLED = 4
"""Rounds after which caches and allocators are warm."""
LIMIT = 1.05
VERTICES = 1500
PROGRAMS = [*[program for program in find_programs() if program.is_module][-1:], *real_programs()[:1]]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name.replace(" ", "-"))
def test_memory_is_flat(program: BlenderProgram, material: Material, tmp_path: Path) -> None:
    sandbox = Sandbox(program, tmp_path)
    install(sandbox, material.zip_file)
    facts = ask(sandbox, "grow", material.recording, VERTICES, ROUNDS, backend_python=material.backend_python)
    megabytes = facts["megabytes"]
    assert len(megabytes) == ROUNDS
    warm = max(megabytes[:SETTLED])  # single rounds end some MB lower, when the allocator gives pages back
    assert megabytes[-1] <= LIMIT * warm, [round(value, 1) for value in megabytes]
    assert facts["after"] == facts["before"]
