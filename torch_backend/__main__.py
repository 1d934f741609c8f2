"""`python -m torch_backend`: stdout belongs to the messages, whatever libraries print goes to the log."""

from __future__ import annotations

import os
import sys

from torch_backend.command_line import main


def run_process() -> int:
    """Run the command of this process; returns its exit code."""
    # Read when torch loads its threads. Threads that spin while they wait hold each other up on processors that Blender
    # and others use too: 1.6 x real time in place of 12 x was measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return main(output=output)


if __name__ == "__main__":
    sys.exit(run_process())
