"""`python -m blender_talkhead`: the headless command with the bpy module instead of the Blender program."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from .command_options import parse_options
from .contract.errors import ExitCode

PROGRAM = "python -m blender_talkhead"


def main() -> int:
    """Run the command; returns its exit code."""
    parse_options(sys.argv[1:], PROGRAM)  # --help and wrong options answer before Blender is loaded
    if find_spec("bpy") is None:
        sys.stderr.write("error: this Python has no bpy module; `python3 build.py demo` makes one that has\n")
        return int(ExitCode.FAILED)
    from .command_line import main as run_command

    return run_command(sys.argv[1:], PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
