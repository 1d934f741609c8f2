"""The version of the extension; it is written in the manifest alone."""

from __future__ import annotations

import tomllib
from pathlib import Path

UNKNOWN_VERSION = "unknown"


def read_version() -> str:
    """Return the version in blender_manifest.toml, or "unknown" where the manifest does not travel along."""
    manifest = Path(__file__).resolve().parents[2] / "blender_manifest.toml"
    try:
        return str(tomllib.loads(manifest.read_text(encoding="utf-8"))["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return UNKNOWN_VERSION
