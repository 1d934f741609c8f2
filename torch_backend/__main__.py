"""`python -m torch_backend`: stdout belongs to the messages, whatever libraries print goes to the log."""

from __future__ import annotations

import os
import sys

from torch_backend.command_line import main


def run_process() -> int:
    """Run the command of this process; returns its exit code."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return main(output=output)


if __name__ == "__main__":
    sys.exit(run_process())
