"""Lists of jobs for `talkhead batch`: CSV or TOML files whose columns or keys are the options of `animate` (no bpy)."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Any

from .contract.errors import BadInputError

AUDIO = "audio"
_PATHS = ("file", "output", "preview", "avatar", "cache", "head-weights")
_PERHAPS_PATH, _PATH_SUFFIXES = "identity", (".json", ".safetensors")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def read_job_list(path: Path, switches: tuple[str, ...]) -> list[list[str]]:
    """Read a list of jobs as command lines of `animate`.

    A CSV file has a header; in a TOML file each job is a table `[[job]]`, and a table `[defaults]` holds for all.
    Names are those of the long options, with or without dashes; empty cells are not given. Relative paths start at the
    list's folder.

    Args:
        path: the list, ending in .csv or .toml.
        switches: names of the options that take no value; they are given as true or false.

    Returns:
        For each job the arguments after `animate`.

    Raises:
        BadInputError: missing, not readable, empty, or a job without `audio`.
    """
    try:
        rows = _read_toml(path) if path.suffix.lower() == ".toml" else _read_csv(path)
    except OSError as error:
        raise BadInputError(f"cannot read the job list {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, tomllib.TOMLDecodeError) as error:
        raise BadInputError(f"the job list {path.name} is not readable: {error}") from error
    if not rows:
        raise BadInputError(f"the job list {path.name} has no jobs; give a row or a [[job]] for each")
    return [_arguments(row, number, path, switches) for number, row in enumerate(rows, start=1)]


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        rows = [row for row in reader if any(value for value in row.values())]
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise BadInputError(f"{path.name}, job {number}: more cells than the header has names; quote commas")
    return [dict(row) for row in rows]


def _read_toml(path: Path) -> list[dict[str, Any]]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = sorted(set(content) - {"job", "defaults"})
    jobs, defaults = content.get("job", []), content.get("defaults", {})
    if unknown or not isinstance(defaults, dict) or not isinstance(jobs, list):
        raise BadInputError(f"{path.name}: expected tables [[job]] and [defaults], got {unknown or 'something else'}")
    return [{**defaults, **job} for job in jobs]


def _arguments(row: dict[str, Any], number: int, path: Path, switches: tuple[str, ...]) -> list[str]:
    values = {str(name).strip().lstrip("-").replace("_", "-"): value for name, value in row.items()}
    audio = _text(values.pop(AUDIO, None))
    if not audio:
        raise BadInputError(f"{path.name}, job {number}: expected a recording under {AUDIO!r}, got none")
    arguments = [str(path.parent / audio)]
    for name, value in values.items():
        text = _text(value)
        if not text:
            continue
        if name in switches:
            if text.lower() not in (*_TRUE, *_FALSE):
                raise BadInputError(f"{path.name}, job {number}: {name} must be true or false, got {text!r}")
            arguments += [f"--{name}"] if text.lower() in _TRUE else []
        else:
            is_path = name in _PATHS or (name == _PERHAPS_PATH and text.lower().endswith(_PATH_SUFFIXES))
            arguments.append(f"--{name}={path.parent / text if is_path else text}")
    # After "--" nothing is an option: a recording may begin with a dash.
    return [*arguments[1:], "--", arguments[0]]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()
