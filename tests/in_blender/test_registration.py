"""Enabling the extension registers the headless command and disabling it leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SCENARIO = """
import bpy
taken = []
register = bpy.utils.register_cli_command
bpy.utils.register_cli_command = lambda name, call: taken.append((name, call)) or register(name, call)
from blender_talkhead import registration
for _ in range(2):
    registration.register("talkhead")
    registration.unregister("talkhead")
assert [name for name, _ in taken] == ["talkhead", "talkhead"], taken
assert registration._commands == []
assert taken[0][1](["animate"]) == 2  # the recording is missing: a usage error, as an exit code
print("registered")
"""


def test_register_twice() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCENARIO], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "registered" in result.stdout, result.stdout + result.stderr
