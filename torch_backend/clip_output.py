"""What clips of every method share: room on the disk, shapes that repeat the motion, the phases of the job."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from blender_talkhead.contract.errors import BadInputError, OutputError
from blender_talkhead.contract.motion_clip import ClipTemplate, FloatArray, MotionClipWriter
from torch_backend.emitter import Emitter

if TYPE_CHECKING:
    from torch_backend.inference.performed_motion import PerformedTracks

_BYTES_PER_VERTEX_FRAME = 12
_TEMPLATE_BYTES = 8 * 1024 * 1024
_HEADROOM_BYTES = 32 * 1024 * 1024

_MAX_SHAPES = 512
"""More shapes than this are no basis any more."""
EXPECTED_SHAPES = 128
"""Room on the disk is asked for this many."""

# Where each phase of `animate` ends, as part of the whole job; animating and fitting shapes share what lies between.
READ, LOADED, FITTED = 0.03, 0.08, 0.99
# Seconds of fitting for a second of animating, as benchmarks/bake.py measures them.
_FITTING_AT_LEAST, _FITTING_OF_1000_VERTICES = 0.2, 0.11


def end_of_animating(template: ClipTemplate) -> float:
    """Where animating ends when a basis is fitted after it."""
    fitting = _FITTING_AT_LEAST + _FITTING_OF_1000_VERTICES * len(template.template_vertices) / 1000
    return LOADED + (FITTED - LOADED) / (1.0 + fitting)


def fit_basis(
    error_limit_mm: float,
    writer: MotionClipWriter,
    rest: FloatArray,
    tracks: PerformedTracks | None,
    emitter: Emitter,
    report: Callable[[float], None],
) -> None:
    """Add a basis to a clip whose frames are written; a motion that has none within reason is left as it is.

    With a performance it is that of what the clip's curves leave out.
    """
    from blender_talkhead.facial.motion_basis import fit_motion_basis
    from blender_talkhead.facial.remainder import remainder_reader

    def read_offsets(first: int, stop: int) -> FloatArray:
        emitter.check()
        return writer.read_offsets(first, stop)

    read: Callable[[int, int], FloatArray] = read_offsets
    curves = None if tracks is None else tracks.blendshape_weights
    performance = None if tracks is None else tracks.performance
    is_remainder = curves is not None and performance is not None
    if curves is not None and performance is not None:
        read = remainder_reader(read_offsets, curves, performance.blendshapes)
    limit = error_limit_mm / 1000.0
    try:
        basis = fit_motion_basis(writer.num_written, read, rest, limit, report)
    except ValueError as error:
        emitter.warning(f"no shapes were fitted: {error}; choose a larger error limit, or another bake mode")
        return
    if len(basis.shapes) > _MAX_SHAPES:
        emitter.warning(
            f"the motion needs {len(basis.shapes)} shapes to stay within {error_limit_mm:g} mm, more than "
            f"{_MAX_SHAPES}: choose the bake mode cache, or a larger error limit"
        )
        return
    writer.write_basis(basis.shapes, basis.weights, limit, basis.max_error_m, is_remainder)


def existing_ancestor(path: Path) -> Path:
    """The nearest folder above a path (never the path itself) that exists."""
    return next(parent for parent in path.absolute().parents if os.path.lexists(parent))


def require_room_for_clip(output: Path, num_frames: int, template: ClipTemplate, num_shapes: int) -> None:
    """Check the free disk for a motion clip.

    Raises:
        BadInputError: there is too little.
    """
    num_vertices = len(template.template_vertices)
    rows = num_frames + num_shapes
    needed = rows * num_vertices * _BYTES_PER_VERTEX_FRAME + _TEMPLATE_BYTES + _HEADROOM_BYTES
    require_room(output, needed, f"{num_frames} frames of {num_vertices} vertices", "fewer --vertices")


def require_room(output: Path, needed: int, what: str, instead: str) -> None:
    """Check the free disk.

    Args:
        output: what will be written.
        needed: bytes.
        what: needs them, for people.
        instead: an option that needs fewer, for people.

    Raises:
        BadInputError: there are fewer bytes free.
        OutputError: the disk cannot be examined.
    """
    try:
        total, _, free = shutil.disk_usage(existing_ancestor(output))
    except OSError as error:
        raise OutputError(f"cannot examine the disk of {output}: {error.strerror or error}") from error
    if needed > free and total > 0:  # what is no disk at all has none, and says so when it is written
        raise BadInputError(
            f"{what} need {needed / 1e6:,.0f} MB at {output}, "
            f"{free / 1e6:,.0f} MB are free; free some, choose another --output or {instead}"
        )
