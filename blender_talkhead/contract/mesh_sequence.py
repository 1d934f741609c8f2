"""mesh_sequence folders: a triangle mesh of its own in every frame, for surfaces whose topology changes with time.

Arrays are in backend model space: metres, x to the head's left, y up, z out of the face. Letters: T frames, N vertices
and M triangles of all frames together. Plain .npy files, read without object loading; the large ones are memory-mapped.
A folder is written under a temporary name and renamed, so an incomplete one never has the final name. A sequence may be
written so that another process can go on with what one that was stopped or killed has left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
PlaceArray = NDArray[np.uint16]

_COLORS_FILE = "vertex_colors"
_PLACES_FILE = "vertex_places"
PICTURE_FILES = {
    "skin_color": "skin_color.png",
    "skin_roughness": "skin_roughness.jpg",
    "eye_color": "eye_color.jpg",
}
"""Pictures that vertex places point into, by name."""
PLACE_SCALE = 65_535
"""What stands for 1 in vertex places."""
_LOG_FILE = "frames.bin"
"""Of an unfinished sequence: vertices and triangles of each complete frame, written after these."""
_SHAPE_FILE = "unfinished.json"


@dataclass(frozen=True)
class FrameMesh:
    """The mesh of one frame."""

    vertices: FloatArray
    """(V, 3) metres."""
    faces: IntArray
    """(F, 3) vertices of this frame, counter-clockwise seen from outside."""
    colors: ColorArray | None = None
    """(V, 3) sRGB, 0..255."""
    places: PlaceArray | None = None
    """(V, 5) in parts of PLACE_SCALE: texture coordinates u, v in the pictures of the skin, u, v in that of the eyes,
    and how far the vertex belongs to an eye."""


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
    vertex_places: PlaceArray | None = None
    """(N, 5) as in FrameMesh; memory-mapped."""
    pictures: dict[str, Path] = field(default_factory=dict)
    """Pictures that the places point into, by the names of PICTURE_FILES."""

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
            None if self.vertex_places is None else _read_rows(self.vertex_places, *part),
        )
        try:
            _require_mesh(mesh, mesh.colors is not None, mesh.places is not None)
        except ValueError as error:
            raise BackendError(f"the mesh sequence is damaged at frame {index}: {error}") from error
        return mesh


class MeshSequenceWriter:
    """Writes a mesh sequence frame by frame in constant memory; a context manager.

    Leaving the block without `commit()`, or by an exception, removes everything that was written; a resumable sequence
    stays under its temporary name instead, and the next writer of it begins with the frames that it holds.

    Args:
        folder: the result folder.
        info: of kind "mesh_sequence", with the number of frames to come.
        has_colors: whether every frame has colours.
        resumable: whether to keep and to continue. One writer at a time; that the frames belong together is up to the
            caller, who names the folder by what they depend on.
        pictures: bytes of pictures by the names of PICTURE_FILES; with any, every frame has places in them.

    Raises:
        ValueError: `info` is not that of a mesh sequence.
        OutputError: the folder cannot be written, or exists and is not a result folder.
    """

    def __init__(
        self,
        folder: Path,
        info: ResultInfo,
        has_colors: bool = False,
        resumable: bool = False,
        pictures: Mapping[str, bytes] | None = None,
    ) -> None:
        if info.kind != KIND:
            raise ValueError(f"expected a result of kind {KIND!r}, got {info.kind!r}")
        self._pictures = dict(pictures or {})
        unknown = sorted(set(self._pictures) - set(PICTURE_FILES))
        if unknown:
            raise ValueError(f"pictures must be named {', '.join(PICTURE_FILES)}, got {', '.join(unknown)}")
        self._target = Path(folder)
        self._info = info
        self._has_colors = has_colors
        self._vertex_starts, self._face_starts = [0], [0]
        require_replaceable(self._target)
        self._resumable = resumable
        self._log: BinaryIO | None = None
        if resumable:
            self._partial = unfinished_sequence(self._target)
        else:
            self._partial = self._target.parent / f".{self._target.name}.{uuid.uuid4().hex[:12]}.partial"
        self._files: dict[str, _GrowingArray] = {}
        self._guarded(self._continue if resumable and self._partial.is_dir() else self._begin)

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
        """Frames appended so far, those of earlier writers included."""
        return len(self._vertex_starts) - 1

    def append(
        self,
        vertices: FloatArray,
        faces: IntArray,
        colors: ColorArray | None = None,
        places: PlaceArray | None = None,
    ) -> None:
        """Append a frame.

        Args:
            vertices: (V, 3) metres, float32.
            faces: (F, 3) vertices of this frame, int32.
            colors: (V, 3) sRGB uint8, where the sequence has colours.
            places: (V, 5) uint16, where it has pictures.

        Raises:
            ValueError: an array has the wrong type, shape or range, or there are more frames than announced.
            OutputError: the disk is full or not writable.
        """
        mesh = FrameMesh(vertices, faces, colors, places)
        _require_mesh(mesh, self._has_colors, bool(self._pictures))
        if self.num_written >= self._info.num_frames:
            raise ValueError(f"expected {self._info.num_frames} frames in all, got more")
        if not self._files:
            raise ValueError("the sequence was committed or discarded already")
        arrays: dict[str, NDArray[Any]] = {"vertices": vertices, "faces": faces}
        if colors is not None:
            arrays[_COLORS_FILE] = colors
        if places is not None:
            arrays[_PLACES_FILE] = places
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
        """Remove what was written, unless it was committed or is resumable."""
        self._close()
        if not self._resumable:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _begin(self) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._partial.mkdir()
        for name, (dtype, columns) in self._types().items():
            self._files[name] = _GrowingArray(self._partial / f"{name}.npy", dtype, columns)
        if self._resumable:
            self._log = (self._partial / _LOG_FILE).open("wb", buffering=0)
            (self._partial / _SHAPE_FILE).write_text(self._shape(), encoding="utf-8")

    def _continue(self) -> None:
        """Take over the complete frames of an earlier writer; anything doubtful begins anew."""
        try:
            counts = self._read_log()
            for name, (dtype, columns) in self._types().items():
                num_rows = int(counts[:, 1 if name == "faces" else 0].sum())
                self._files[name] = _GrowingArray(self._partial / f"{name}.npy", dtype, columns, num_rows)
        except (OSError, ValueError):
            self._close()
            shutil.rmtree(self._partial)
            self._begin()
            return
        self._log = (self._partial / _LOG_FILE).open("r+b", buffering=0)
        self._log.truncate(counts.nbytes)
        self._log.seek(counts.nbytes)
        self._vertex_starts += np.cumsum(counts[:, 0]).tolist()
        self._face_starts += np.cumsum(counts[:, 1]).tolist()

    def _read_log(self) -> NDArray[np.int64]:
        """Return (n, 2) vertices and triangles of the complete frames."""
        if (self._partial / _SHAPE_FILE).read_text(encoding="utf-8") != self._shape():
            raise ValueError("the unfinished sequence is another one")
        content = (self._partial / _LOG_FILE).read_bytes()
        counts = np.frombuffer(content[: len(content) // 16 * 16], "<i8").astype(np.int64).reshape(-1, 2)
        if len(counts) > self._info.num_frames or (counts < 0).any():
            raise ValueError("the unfinished sequence is damaged")
        return counts

    def _shape(self) -> str:
        kept = {"num_frames": self._info.num_frames, "arrays": sorted(self._types())}
        return json.dumps(kept, sort_keys=True)

    def _types(self) -> dict[str, tuple[str, int]]:
        """Type and columns of each growing array."""
        types = {"vertices": ("<f4", 3), "faces": ("<i4", 3)}
        if self._has_colors:
            types[_COLORS_FILE] = ("|u1", 3)
        if self._pictures:
            types[_PLACES_FILE] = ("<u2", 5)
        return types

    def _append(self, arrays: dict[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            self._files[name].append(array)
        if self._log is not None:  # last, so that a frame it tells of is there
            for file in self._files.values():
                file.flush()
            self._log.write(np.array([len(arrays["vertices"]), len(arrays["faces"])], "<i8").tobytes())

    def _finish(self) -> None:
        for file in self._files.values():
            file.finish()
        self._close()
        np.save(self._partial / "vertex_starts.npy", np.array(self._vertex_starts, np.int64), allow_pickle=False)
        np.save(self._partial / "face_starts.npy", np.array(self._face_starts, np.int64), allow_pickle=False)
        for name, content in self._pictures.items():
            (self._partial / PICTURE_FILES[name]).write_bytes(content)
        (self._partial / RESULT_FILE).write_text(self._info.to_json(), encoding="utf-8")
        for name in (_SHAPE_FILE, _LOG_FILE):
            (self._partial / name).unlink(missing_ok=True)
        replace_folder(self._partial, self._target)

    def _close(self) -> None:
        for file in (*self._files.values(), *((self._log,) if self._log is not None else ())):
            with contextlib.suppress(OSError):  # flushing to a full disk fails; such a frame is not in the log
                file.close()
        self._files, self._log = {}, None

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.discard()
            raise OutputError(f"cannot write the result folder {self._target}: {error.strerror or error}") from error


class _GrowingArray:
    """A .npy file of rows that is written before their number is known."""

    def __init__(self, path: Path, dtype: str, columns: int = 3, num_rows: int | None = None) -> None:
        """Begin a file, or go on behind the first `num_rows` of one.

        Raises:
            ValueError: the file has fewer.
        """
        self._dtype = dtype
        self._columns = columns
        self._num_rows = 0
        self._file: BinaryIO = path.open("wb" if num_rows is None else "r+b")  # closed by finish or close
        self._write_header()
        self._data_start = self._file.tell()
        if num_rows is not None:
            end = self._data_start + num_rows * columns * np.dtype(dtype).itemsize
            if self._file.seek(0, os.SEEK_END) < end:
                self._file.close()
                raise ValueError(f"{path.name} ends before row {num_rows}")
            self._file.truncate(end)
            self._file.seek(end)
            self._num_rows = num_rows

    def append(self, rows: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self._num_rows += len(rows)

    def flush(self) -> None:
        self._file.flush()

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
        header = {"descr": self._dtype, "fortran_order": False, "shape": (self._num_rows, self._columns)}
        np.lib.format.write_array_header_1_0(self._file, header)


def unfinished_sequence(folder: Path) -> Path:
    """Return where a resumable sequence lies until it is complete."""
    return folder.with_name(f".{folder.name}.unfinished")


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
        places = None
        if (folder / f"{_PLACES_FILE}.npy").exists():
            places = _load_rows(folder, _PLACES_FILE, np.uint16, int(vertex_starts[-1]), 5)
        pictures = {name: folder / file for name, file in PICTURE_FILES.items() if (folder / file).is_file()}
    except (OSError, ValueError, TypeError, EOFError, OverflowError) as error:
        raise BackendError(f"the mesh sequence {folder} is missing or damaged: {error}") from error
    return MeshSequence(info, vertices, faces, vertex_starts, face_starts, colors, places, pictures)


def _load_starts(folder: Path, name: str, num_frames: int) -> NDArray[np.int64]:
    starts: NDArray[np.int64] = np.load(folder / f"{name}.npy", allow_pickle=False)
    require_array(name, starts, np.int64, (num_frames + 1,))
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ValueError(f"{name} must rise from 0, got {starts[:4]}...")
    return starts


def _load_rows(folder: Path, name: str, dtype: type, num_rows: int, columns: int = 3) -> Any:
    path = folder / f"{name}.npy"
    # An array without rows cannot be mapped.
    rows = np.load(path, mmap_mode="r" if num_rows else None, allow_pickle=False)
    require_array(name, rows, dtype, (num_rows, columns))
    return rows


def _read_rows(source: NDArray[Any], first: int, stop: int) -> NDArray[Any]:
    """Return rows of a mapped file by reading it: mapped pages count as memory of the process."""
    if not isinstance(source, np.memmap) or source.filename is None:
        return np.array(source[first:stop])
    columns = source.shape[1]
    offset = source.offset + first * columns * source.dtype.itemsize
    rows = np.fromfile(source.filename, source.dtype, columns * (stop - first), offset=offset)
    if len(rows) != columns * (stop - first):
        raise BackendError(f"the mesh sequence is damaged: {Path(source.filename).name} ends before row {stop}")
    return rows.reshape(-1, columns)


def _require_mesh(mesh: FrameMesh, has_colors: bool, has_places: bool) -> None:
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
    if (mesh.places is not None) != has_places:
        raise ValueError(f"expected {'places' if has_places else 'no places'} in every frame of this sequence")
    if mesh.places is not None:
        require_array("places", mesh.places, np.uint16, (num_vertices, 5))
