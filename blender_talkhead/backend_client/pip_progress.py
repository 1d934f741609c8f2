"""How far a run of pip is, from what it prints and from the files that grow: every version of pip since 2023."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_DOWNLOADED_PART = 0.6
"""Of a run of pip: the rest is unpacking."""


class PipProgress:
    """Follows one run of pip; `read_line` on any thread, the rest on one.

    Args:
        expected_bytes: what will be downloaded, about; 0 when nothing is.
        site_packages: where the packages go; some may lie there already.
    """

    def __init__(self, expected_bytes: int, site_packages: Path | None) -> None:
        self._expected_bytes = expected_bytes
        self._site_packages = site_packages
        self._announced_bytes = 0.0
        self._installing: list[str] = []
        self._package = ""
        self._present: set[str] = set()

    def read_line(self, line: str) -> None:
        """Take a line of pip's stdout."""
        line = line.strip()
        if found := re.match(r"Downloading (?:\S*/)?([A-Za-z0-9_.]+?)-\S* \(([\d.]+) (bytes|kB|MB|GB)\)", line):
            self._package = found.group(1)
            self._announced_bytes += float(found.group(2)) * _UNITS[found.group(3)]
        elif found := re.match(r"Processing \S*?([A-Za-z0-9_.]+?)-[^/\\]*$", line):
            self._package = found.group(1)
        elif line.startswith("Installing collected packages: "):
            self._present = self._list_installed()
            self._installing = line.partition(": ")[2].split(", ")

    def describe(self) -> str:
        """Return what pip is doing, for people."""
        if self._installing:
            done = len(self._list_installed() - self._present)
            return f"installing {self._installing[min(len(self._installing) - 1, done)]}"
        verb = "downloading" if self._expected_bytes else "reading"
        return f"{verb} {self._package}" if self._package else "looking for packages"

    def measure(self, scratch_folder: Path | None) -> float:
        """Return the done part of the run, 0..1.

        Args:
            scratch_folder: the process's folder for temporary files, where downloads grow.
        """
        if self._installing:
            done = len(self._list_installed() - self._present) / len(self._installing)
            return _DOWNLOADED_PART + (1.0 - _DOWNLOADED_PART) * min(1.0, done)
        if not self._expected_bytes:
            return 0.0
        downloaded = min(_count_bytes(scratch_folder), self._announced_bytes)
        return _DOWNLOADED_PART * downloaded / max(self._expected_bytes, self._announced_bytes)

    def _list_installed(self) -> set[str]:
        if self._site_packages is not None:
            with contextlib.suppress(OSError):
                names = os.listdir(self._site_packages)  # noqa: PTH208 - quick
                return {name for name in names if name.endswith(".dist-info")}
        return set()


def explain_pip_failure(log: str, has_wheels: bool) -> str:
    """Return why pip failed, with a remedy, from the end of its log."""
    errors = [line.partition("ERROR:")[2].strip() for line in log.splitlines() if "ERROR:" in line]
    reason = errors[-1] if errors else (log.strip().splitlines() or ["it said nothing"])[-1]
    text = log.lower()
    if "no space left" in text:
        return f"the disk is full ({reason}); free some room, then try again"
    if "no matching distribution" in text and has_wheels:
        return f"{reason}: the folder of wheels lacks it for this Python and system; add it, then try again"
    if any(words in text for words in ("connection", "timed out", "resolve", "ssl", "proxy", "http error")):
        return f"{reason}. Check the internet connection and the proxy, or give a folder of wheels"
    return f"{reason}. Try again, or give a folder of wheels or a Python of your own"


def _count_bytes(folder: Path | None) -> int:
    total = 0
    if folder is not None:
        with contextlib.suppress(OSError):
            for parent, _, names in os.walk(folder):
                for name in names:
                    with contextlib.suppress(OSError):
                        total += os.path.getsize(os.path.join(parent, name))  # noqa: PTH118, PTH202 - quick
    return total
