"""mesh_sequence folders: a triangle mesh of its own in every frame, for surfaces whose topology changes with time.

Arrays are in backend model space: metres, x to the head's left, y up, z out of the face. Letters: T frames, N vertices
and M triangles of all frames together. Plain .npy files, read without object loading; the large ones are memory-mapped.
A folder is written under a temporary name and renamed, so an incomplete one never has the final name.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError, OutputError
from .result import RESULT_FILE, ResultInfo
from .result_folder import replace_folder, require_array, require_range, require_replaceable

KIND = "mesh_sequence"

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
ColorArray = NDArray[np.uint8]

_COLORS_FILE = "vertex_colors"


@dataclass(frozen=True)
class FrameMesh:
    """The mesh of one frame."""

    vertices: FloatArray
    """(V, 3) metres."""
    faces: IntArray
    """(F, 3) vertices of this frame, counter-clockwise seen from outside."""
    colors: ColorArray | None = None
    """(V, 3) sRGB, 0..255."""


@dataclass
class MeshSequence:
    """A loaded mesh sequence."""

    info: ResultInfo
    vertices: FloatArray
    """(N, 3) metres; memory-mapped."""
    faces: IntArray
    """(M, 3) vertices counted from the first one of their frame; memory-mapped."""
    vertex_starts: NDArray[np.int64]
    """(T + 1,) first vertex of each frame, then N."""
    face_starts: NDArray[np.int64]
    """(T + 1,) first triangle of each frame, then M."""
    vertex_colors: ColorArray | None = None
    """(N, 3) sRGB, 0..255; memory-mapped."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.vertex_starts) - 1

    @property
    def num_vertices(self) -> int:
        """Vertices of the largest frame."""
        return int(np.diff(self.vertex_starts).max())

    def read_frame(self, index: int) -> FrameMesh:
        """Return the mesh of a frame, in memory.

        Raises:
            BackendError: a face names a vertex that its frame does not have, or a position is not finite.
        """
        part = int(self.vertex_starts[index]), int(self.vertex_starts[index + 1])
        rows = int(self.face_starts[index]), int(self.face_starts[index + 1])
        mesh = FrameMesh(
            _read_rows(self.vertices, *part),
            _read_rows(self.faces, *rows),
            None if self.vertex_colors is None else _read_rows(self.vertex_colors, *part),
        )
        try:
            _require_mesh(mesh, mesh.colors is not None)
        except ValueError as error:
            raise BackendError(f"the mesh sequence is damaged at frame {index}: {error}") from error
        return mesh


class MeshSequenceWriter:
    """Writes a mesh sequence frame by frame in constant memory; a context manager.

    Leaving the block without `commit()`, or by an exception, removes everything that was written.

    Args:
        folder: the result folder.
        info: of kind "mesh_sequence", with the number of frames to come.
        has_colors: whether every frame has colours.

    Raises:
        ValueError: `info` is not that of a mesh sequence.
        OutputError: the folder cannot be written, or exists and is not a result folder.
    """

    def __init__(self, folder: Path, info: ResultInfo, has_colors: bool = False) -> None:
        if info.kind != KIND:
            raise ValueError(f"expected a result of kind {KIND!r}, got {info.kind!r}")
        self._target = Path(folder)
        self._info = info
        self._has_colors = has_colors
        self._vertex_starts, self._face_starts = [0], [0]
        require_replaceable(self._target)
        self._partial = self._target.parent / f".{self._target.name}.{uuid.uuid4().hex[:12]}.partial"
        self._files: dict[str, _GrowingArray] = {}
        self._guarded(self._begin)

    def __enter__(self) -> MeshSequenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    @property
    def partial_folder(self) -> Path:
        """Where the sequence is written until `commit`."""
        return self._partial

    @property
    def num_written(self) -> int:
        """Frames appended so far."""
        return len(self._vertex_starts) - 1

    def append(self, vertices: FloatArray, faces: IntArray, colors: ColorArray | None = None) -> None:
        """Append a frame.

        Args:
            vertices: (V, 3) metres, float32.
            faces: (F, 3) vertices of this frame, int32.
            colors: (V, 3) sRGB uint8, where the sequence has colours.

        Raises:
            ValueError: an array has the wrong type, shape or range, or there are more frames than announced.
            OutputError: the disk is full or not writable.
        """
        mesh = FrameMesh(vertices, faces, colors)
        _require_mesh(mesh, self._has_colors)
        if self.num_written >= self._info.num_frames:
            raise ValueError(f"expected {self._info.num_frames} frames in all, got more")
        if not self._files:
            raise ValueError("the sequence was committed or discarded already")
        arrays: dict[str, NDArray[Any]] = {"vertices": vertices, "faces": faces}
        if colors is not None:
            arrays[_COLORS_FILE] = colors
        self._guarded(lambda: self._append(arrays))
        self._vertex_starts.append(self._vertex_starts[-1] + len(vertices))
        self._face_starts.append(self._face_starts[-1] + len(faces))

    def commit(self) -> Path:
        """Check that the sequence is complete and give it its final name.

        Returns:
            The final folder.

        Raises:
            ValueError: frames are missing.
            OutputError: the disk is full or not writable.
        """
        if self.num_written != self._info.num_frames:
            raise ValueError(f"expected {self._info.num_frames} frames, got {self.num_written}")
        self._guarded(self._finish)
        return self._target

    def discard(self) -> None:
        """Remove what was written, unless it was committed."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # flushing to a full disk fails; the file is removed anyway
                file.close()
        self._files = {}
        shutil.rmtree(self._partial, ignore_errors=True)

    def _begin(self) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._partial.mkdir()
        types = {"vertices": "<f4", "faces": "<i4"} | ({_COLORS_FILE: "|u1"} if self._has_colors else {})
        for name, dtype in types.items():
            self._files[name] = _GrowingArray(self._partial / f"{name}.npy", dtype)

    def _append(self, arrays: dict[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            self._files[name].append(array)

    def _finish(self) -> None:
        for file in self._files.values():
            file.finish()
        self._files = {}
        np.save(self._partial / "vertex_starts.npy", np.array(self._vertex_starts, np.int64), allow_pickle=False)
        np.save(self._partial / "face_starts.npy", np.array(self._face_starts, np.int64), allow_pickle=False)
        (self._partial / RESULT_FILE).write_text(self._info.to_json(), encoding="utf-8")
        replace_folder(self._partial, self._target)

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.discard()
            raise OutputError(f"cannot write the result folder {self._target}: {error.strerror or error}") from error


class _GrowingArray:
    """A .npy file of rows of 3 that is written before their number is known."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._dtype = dtype
        self._num_rows = 0
        self._file: BinaryIO = path.open("wb")  # closed by finish or close
        self._write_header()
        self._data_start = self._file.tell()

    def append(self, rows: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self._num_rows += len(rows)

    def finish(self) -> None:
        """Write the number of rows into the header, which numpy pads so that it can grow in place."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._data_start:
            raise OSError(f"the header of an array with {self._num_rows} rows does not fit in its place")
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": self._dtype, "fortran_order": False, "shape": (self._num_rows, 3)}
        np.lib.format.write_array_header_1_0(self._file, header)


def load_mesh_sequence(folder: Path) -> MeshSequence:
    """Open a mesh sequence; the large arrays stay on disk (memory-mapped), `read_frame` checks them.

    Raises:
        BackendError: missing, incomplete, damaged, or of another format version.
    """
    folder = Path(folder)
    try:
        info = ResultInfo.from_json((folder / RESULT_FILE).read_text(encoding="utf-8"))
        if info.kind != KIND:
            raise BackendError(f"expected a result of kind {KIND!r} in {folder}, got {info.kind!r}")
        vertex_starts = _load_starts(folder, "vertex_starts", info.num_frames)
        face_starts = _load_starts(folder, "face_starts", info.num_frames)
        vertices = _load_rows(folder, "vertices", np.float32, int(vertex_starts[-1]))
        faces = _load_rows(folder, "faces", np.int32, int(face_starts[-1]))
        colors = None
        if (folder / f"{_COLORS_FILE}.npy").exists():
            colors = _load_rows(folder, _COLORS_FILE, np.uint8, int(vertex_starts[-1]))
    except (OSError, ValueError, TypeError, EOFError, OverflowError) as error:
        raise BackendError(f"the mesh sequence {folder} is missing or damaged: {error}") from error
    return MeshSequence(info, vertices, faces, vertex_starts, face_starts, colors)


def _load_starts(folder: Path, name: str, num_frames: int) -> NDArray[np.int64]:
    starts: NDArray[np.int64] = np.load(folder / f"{name}.npy", allow_pickle=False)
    require_array(name, starts, np.int64, (num_frames + 1,))
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ValueError(f"{name} must rise from 0, got {starts[:4]}...")
    return starts


def _load_rows(folder: Path, name: str, dtype: type, num_rows: int) -> Any:
    path = folder / f"{name}.npy"
    # An array without rows cannot be mapped.
    rows = np.load(path, mmap_mode="r" if num_rows else None, allow_pickle=False)
    require_array(name, rows, dtype, (num_rows, 3))
    return rows


def _read_rows(source: NDArray[Any], first: int, stop: int) -> NDArray[Any]:
    """Return rows of 3 of a mapped file by reading it: mapped pages count as memory of the process."""
    if not isinstance(source, np.memmap) or source.filename is None:
        return np.array(source[first:stop])
    row_bytes = 3 * source.dtype.itemsize
    offset = source.offset + first * row_bytes
    rows = np.fromfile(source.filename, source.dtype, 3 * (stop - first), offset=offset)
    if len(rows) != 3 * (stop - first):
        raise BackendError(f"the mesh sequence is damaged: {Path(source.filename).name} ends before row {stop}")
    return rows.reshape(-1, 3)


def _require_mesh(mesh: FrameMesh, has_colors: bool) -> None:
    num_vertices = len(mesh.vertices)
    require_array("vertices", mesh.vertices, np.float32, (num_vertices, 3))
    require_array("faces", mesh.faces, np.int32, (len(mesh.faces), 3))
    require_range("faces", mesh.faces.reshape(-1), num_vertices)
    if not np.isfinite(mesh.vertices).all():
        raise ValueError("vertices must be finite everywhere")
    if (mesh.colors is not None) != has_colors:
        raise ValueError(f"expected {'colours' if has_colors else 'no colours'} in every frame of this sequence")
    if mesh.colors is not None:
        require_array("colors", mesh.colors, np.uint8, (num_vertices, 3))
