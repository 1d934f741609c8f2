"""Opens, renders and saves .blend files for the headless command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..contract.errors import BadInputError, OutputError
from ..scene.film_file import is_complete_mp4
from ..terminal import silence, stop_if_interrupted


def open_scene_file(file: Path | None, starts_empty: bool = False) -> bool:
    """Open a .blend file. Without one, keep the open file; a session without a file starts empty.

    Args:
        file: the file.
        starts_empty: without a file, start empty even where one is open.

    Returns:
        Whether the scene is a new one.

    Raises:
        BadInputError: the file is missing or not a .blend file.
    """
    if file is not None:
        if not file.is_file():
            raise BadInputError(f"there is no file {file}")
        try:
            bpy.ops.wm.open_mainfile(filepath=str(file), load_ui=False)
        except RuntimeError as error:
            raise BadInputError(f"cannot open {file}: {str(error).strip()}") from error
        return False
    if bpy.data.filepath and not starts_empty:
        return False
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return True


def render(scene: Any, path: Path, animation: bool = False) -> None:
    """Render a prepared scene into its file.

    Raises:
        OutputError: the picture or film was not written.
    """
    try:
        stop_if_interrupted()
        with silence():
            bpy.ops.render.render(animation=animation, write_still=not animation, scene=scene.name)
    except RuntimeError as error:
        stop_if_interrupted()
        raise OutputError(f"cannot render {path.name}: {str(error).strip()}") from error
    stop_if_interrupted()
    if not path.is_file() or path.stat().st_size == 0 or (animation and not is_complete_mp4(path)):
        raise OutputError(f"cannot write {path.name}; is the disk full?")


def save_copy(path: Path) -> None:
    """Save the session as a compressed .blend file, without making it the open one.

    Raises:
        OutputError: the disk is full or not writable.
    """
    path.unlink(missing_ok=True)  # Blender would keep the reserved empty file as a backup
    try:
        with silence():  # a path that is right where the file will lie is reported as missing here
            bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True, compress=True, relative_remap=True)
    except RuntimeError as error:
        raise OutputError(f"cannot save the .blend file: {str(error).strip()}") from error


def open_file() -> Path | None:
    """Return the .blend file that is open, if any."""
    return Path(bpy.data.filepath) if bpy.data.filepath else None
