"""Scans from files: PLY (text, binary), OBJ and arrays, as points with triangles where there are any.

Only positions, normals and faces are read; names of textures and materials in a file are never followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BadInputError

SUFFIXES = (".ply", ".obj", ".npy")
"""What can be read."""
MAX_POINTS = 50_000_000
_REMEDY = "Export the scan again, as PLY or OBJ with positions, or as an array (n, 3) in a .npy file."
_MAX_HEADER_LINES = 1000
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_LENGTH_OF = "length of "
_SHORTEST_LOOK = 64
_FACE_LISTS = ("vertex_indices", "vertex_index")


@dataclass(frozen=True, eq=False)
class Scan:
    """Points of a surface, in the file's own unit and axes."""

    points: NDArray[np.float64]
    """(n, 3)."""
    triangles: NDArray[np.int64]
    """(m, 3), none for a point cloud; polygons are cut into fans."""


def load_scan(path: Path) -> Scan:
    """Read a mesh or a point cloud.

    Raises:
        BadInputError: missing, of another kind, damaged, empty, or not finite; the message names the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInputError(f"the scan {path} does not exist. Check its name.")
    readers = {".ply": _read_ply, ".obj": _read_obj, ".npy": _read_array}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInputError(f"{path} is no scan that can be read ({', '.join(SUFFIXES)}). {_REMEDY}")
    try:
        points, polygons = reader(path)
        triangles = _fans(polygons)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is damaged, or no {path.suffix[1:].upper()} file ({error}). {_REMEDY}") from error
    if len(points) == 0:
        raise BadInputError(f"{path} holds no points. {_REMEDY}")
    if not np.isfinite(points).all():
        raise BadInputError(f"{path} holds positions that are not finite. {_REMEDY}")
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(points)):
        raise BadInputError(f"{path} has faces of vertices that are not there. {_REMEDY}")
    return Scan(points, triangles)


def list_scans(folder: Path, ignored: str = "") -> list[Path]:
    """Scans of a folder by name, those of one kind only; hidden files and the one named `ignored` are left out.

    Raises:
        BadInputError: no folder, no scan in it, or scans of several kinds.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder} is no folder of scans.")
    files = sorted(each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES and each.name[0] != ".")
    files = [each for each in files if each.name != ignored]
    if not files:
        raise BadInputError(f"{folder} holds no scans ({', '.join(SUFFIXES)}).")
    kinds = {each.suffix.lower() for each in files}
    if len(kinds) > 1:
        raise BadInputError(f"{folder} holds scans of several kinds ({', '.join(sorted(kinds))}); keep one kind.")
    return files


def _fans(polygons: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Triangles of polygons given as (count, corners) arrays of equal corners each."""
    parts = [np.zeros((0, 3), np.int64)]
    for corners in polygons:
        for second in range(1, corners.shape[1] - 1):
            parts.append(corners[:, [0, second, second + 1]])
    return np.concatenate(parts)


def _read_array(path: Path) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    points = np.load(path, mmap_mode="r", allow_pickle=False)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise ValueError(f"expected an array (n, 3) of numbers, got {points.shape} of {points.dtype}")
    return np.array(points, np.float64), []


def _read_obj(path: Path) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    points: list[list[float]] = []
    by_corners: dict[int, list[list[int]]] = {}
    with path.open("r", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                points.append([float(word) for word in words[1:4]])
            elif words[0] == "f":
                numbers = [int(word.split("/", 1)[0]) for word in words[1:]]
                if len(numbers) < 3 or 0 in numbers:
                    raise ValueError(f"a face of {' '.join(words[1:])[:60]!r}")
                face = [number - 1 if number > 0 else len(points) + number for number in numbers]
                by_corners.setdefault(len(face), []).append(face)
    return np.array(points, np.float64).reshape(-1, 3), [np.array(faces, np.int64) for faces in by_corners.values()]


@dataclass
class _Element:
    """One table of a PLY file."""

    name: str
    count: int
    properties: list[tuple[str, str, str]]
    """Name, type, and the type of the length where it is a list (else "")."""

    @property
    def has_lists(self) -> bool:
        return any(length for _, _, length in self.properties)


def _read_ply(path: Path) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    with path.open("rb") as file:
        order, elements = _read_ply_header(file)
        content = file.read()
    reader = _TextTables(content) if order == "" else _BinaryTables(content, order)
    points, polygons = np.zeros((0, 3)), []
    for element in elements:
        if element.name == "vertex" and not element.has_lists:
            points = reader.columns(element, ("x", "y", "z"))
        elif element.name == "face":
            polygons = reader.lists(element)
        else:
            reader.skip(element)
    return points, polygons


def _read_ply_header(file: BinaryIO) -> tuple[str, list[_Element]]:
    if file.readline(100).strip() != b"ply":
        raise ValueError("it does not begin with 'ply'")
    order: str | None = None
    elements: list[_Element] = []
    for _ in range(_MAX_HEADER_LINES):
        words = file.readline(1000).decode("ascii", errors="replace").split()
        if not words:
            raise ValueError("its header does not end")
        if words[0] == "end_header":
            if order is None:
                raise ValueError("its header names no format")
            return order, elements
        if words[0] == "format":
            order = _PLY_ORDERS[words[1]]
        elif words[0] == "element":
            count = int(words[2])
            if not 0 <= count <= MAX_POINTS:
                raise ValueError(f"{count} entries of {words[1]}, expected 0 to {MAX_POINTS}")
            elements.append(_Element(words[1], count, []))
        elif words[0] == "property" and words[1] == "list":
            elements[-1].properties.append((words[4], _PLY_TYPES[words[3]], _PLY_TYPES[words[2]]))
        elif words[0] == "property":
            elements[-1].properties.append((words[2], _PLY_TYPES[words[1]], ""))
    raise ValueError("its header is too long")


class _BinaryTables:
    """Tables of a binary PLY, one after another."""

    def __init__(self, content: bytes, order: str) -> None:
        self._content, self._order, self._position = content, order, 0

    def columns(self, element: _Element, names: tuple[str, ...]) -> NDArray[np.float64]:
        table = self._table(element)
        return np.stack([table[name].astype(np.float64) for name in names], axis=1)

    def skip(self, element: _Element) -> None:
        if element.has_lists:
            self.lists(element)
        else:
            self._table(element)

    def lists(self, element: _Element) -> list[NDArray[np.int64]]:
        """Faces by number of corners, read in runs of equal length; looking ahead grows with the runs."""
        found: dict[int, list[NDArray[np.int64]]] = {}
        done, ahead = 0, _SHORTEST_LOOK
        while done < element.count:
            kind = self._row_type(element)
            rows = self._whole_rows(kind, min(ahead, element.count - done))
            table = np.frombuffer(self._content, kind, rows, self._position)
            same = np.ones(rows, bool)
            for name in kind.names or ():
                if name.startswith(_LENGTH_OF):
                    same &= table[name] == table[name][0]
            run = rows if same.all() else int(np.argmin(same))
            for name in _FACE_LISTS:
                if name in (kind.names or ()):
                    corners = table[name][:run].astype(np.int64)
                    found.setdefault(corners.shape[1], []).append(corners)
            ahead = ahead * 2 if run == rows else _SHORTEST_LOOK
            done += run
            self._position += run * kind.itemsize
        return [np.concatenate(parts) for parts in found.values()]

    def _table(self, element: _Element) -> NDArray:
        kind = np.dtype([(name, self._order + typ) for name, typ, _ in element.properties])
        if element.count and self._whole_rows(kind, element.count) < element.count:
            raise ValueError("it ends too early")
        table = np.frombuffer(self._content, kind, element.count, self._position)
        self._position += element.count * kind.itemsize
        return table

    def _row_type(self, element: _Element) -> np.dtype:
        """Type of the row at the current place, whose lists have the lengths that stand there."""
        fields: list[tuple] = []
        place = self._position
        for name, typ, length_type in element.properties:
            if length_type:
                length = int(np.frombuffer(self._content, self._order + length_type, 1, place)[0])
                if length < 0:
                    raise ValueError(f"a list of {length}")
                fields += [(_LENGTH_OF + name, self._order + length_type), (name, self._order + typ, (length,))]
                place += np.dtype(length_type).itemsize + length * np.dtype(typ).itemsize
            else:
                fields.append((name, self._order + typ))
                place += np.dtype(typ).itemsize
        return np.dtype(fields)

    def _whole_rows(self, kind: np.dtype, wanted: int) -> int:
        rows = min(wanted, (len(self._content) - self._position) // kind.itemsize)
        if rows < 1:
            raise ValueError("it ends too early")
        return rows


class _TextTables:
    """Tables of a PLY in text: one entry a line."""

    def __init__(self, content: bytes) -> None:
        self._lines = content.decode("ascii").splitlines()
        self._position = 0

    def columns(self, element: _Element, names: tuple[str, ...]) -> NDArray[np.float64]:
        lines = self._take(element.count)
        if not lines:
            return np.zeros((0, len(names)))
        table = np.array([line.split() for line in lines], dtype=np.float64)
        places = [name for name, _, _ in element.properties]
        return table[:, [places.index(name) for name in names]]

    def skip(self, element: _Element) -> None:
        self._take(element.count)

    def lists(self, element: _Element) -> list[NDArray[np.int64]]:
        by_corners: dict[int, list[list[int]]] = {}
        for line in self._take(element.count):
            words, place = line.split(), 0
            for name, _, length_type in element.properties:
                length = int(words[place]) if length_type else 1
                start = place + (1 if length_type else 0)
                if name in _FACE_LISTS:
                    face = [int(word) for word in words[start : start + length]]
                    if len(face) != length or length < 3:
                        raise ValueError(f"a face of {line[:60]!r}")
                    by_corners.setdefault(length, []).append(face)
                place = start + length
        return [np.array(faces, np.int64) for faces in by_corners.values()]

    def _take(self, count: int) -> list[str]:
        lines = self._lines[self._position : self._position + count]
        if len(lines) < count:
            raise ValueError("it ends too early")
        self._position += count
        return lines
