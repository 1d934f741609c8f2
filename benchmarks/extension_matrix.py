"""The table of Blenders in docs/results.md, from what really runs here.

`BLENDER=LAUNCHER:LAUNCHER python -m benchmarks.extension_matrix --write` builds the zip, installs it in each bpy module
of the environments here and in each program named by BLENDER, animates by operator, Python API and headless command in
every bake mode, reopens each file and compares all frames with the clip. Without --write it only prints the table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import build
from tests.extension.matrix import MODES, WAYS, check_row, prepare_material, try_program
from tests.extension.programs import ROOT, find_programs

RESULTS = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- extension matrix: begin -->", "<!-- extension matrix: end -->"
HEADER = (
    "| Blender | Python | enabling, ms | basis, mm | one key a frame, mm | cache, mm | ways differ by, mm "
    "| operator, s | API, s | command, s |"
)


def main() -> int:
    """Parses the options; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/results.md")
    parser.add_argument("--only", default="", metavar="NAME", help="programs with this in their names")
    options = parser.parse_args()
    lines, failed = [], False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        material = prepare_material(folder, build.write_extension_zip(folder / "talkhead.zip"))
        for number, program in enumerate(program for program in find_programs() if options.only in program.name):
            place = folder / str(number)
            place.mkdir()
            try:
                row = try_program(program, material, place)
                check_row(row, material)
                lines.append(format_row(row))
            except AssertionError as error:
                print(error, file=sys.stderr)
                lines.append(f"| {program.name} | failed |" + " |" * 8)
                failed = True
            print(lines[-1], flush=True)
    table = "\n".join([HEADER, "| --- | --- |" + " ---: |" * 8, *lines])
    if options.write:
        replace_table(RESULTS, table)
    return int(failed)


def format_row(row: dict[str, Any]) -> str:
    """One line of the table; the errors are the largest of the three ways."""
    errors = [max(row[f"{way} {mode}"]["max_error_m"] for way in WAYS) * 1000.0 for mode in MODES]
    seconds = ["{:.1f} / {:.1f} / {:.1f}".format(*(row[f"{way} {mode}"]["seconds"] for mode in MODES)) for way in WAYS]
    difference = largest_difference(row) * 1000.0
    cells = [row["program"], row["python"], f"{row['enable_ms']:.0f}", f"{errors[0]:.4f}"]
    cells += [f"{error:.6f}" for error in errors[1:]] + [f"{difference:.6f}", *seconds]
    return "| " + " | ".join(cells) + " |"


def largest_difference(row: dict[str, Any]) -> float:
    """Metres between any vertex of the operator's file and of another way's, over all modes."""
    worst = 0.0
    for mode in MODES:
        shown = [np.load(row[f"{way} {mode}"]["positions"]) for way in WAYS]
        worst = max(worst, *(float(np.abs(other - shown[0]).max()) for other in shown[1:]))
    return worst


def replace_table(page: Path, table: str) -> None:
    """Puts the table between the page's two marks.

    Raises:
        ValueError: the page lacks them.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page.name} must hold {BEGIN} and {END} once each")
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
