"""motion_clip folders: a template mesh and the displacement of every vertex in every frame.

Arrays are in backend model space: metres, x to the head's left, y up, z out of the face. Letters: T frames, V vertices,
P polygons. Plain .npy files, read without object loading; `vertex_offsets` is memory-mapped and may be far larger than
memory. A folder is written under a temporary name and renamed, so an incomplete one never has the final name.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .clip_basis import load_clip_basis, save_clip_basis, validate_clip_basis
from .clip_performance import ClipPerformance, load_clip_performance, save_clip_performance
from .errors import BackendError, OutputError
from .result import RESULT_FILE, ResultInfo
from .result_folder import replace_folder, require_array, require_range, require_replaceable

KIND = "motion_clip"
SKIN_TEXTURE_FILE = "skin_color.png"
HAIR_FILE = "hair.npy"
TEXTURE_FILES = {"skin_normal": "skin_normal.jpg", "skin_roughness": "skin_roughness.jpg", "eye_color": "eye_color.jpg"}
"""Further pictures that a clip may carry, by name."""
OFFSETS_FILE = "vertex_offsets.npy"

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]

_TEMPLATE_ARRAYS = ("template_vertices", "polygon_starts", "polygon_vertices", "corner_uvs", "vertex_colors")
_TRACKS: dict[str, tuple[int, ...]] = {
    "blendshape_weights": (52,),
    "head_rotation": (4,),
    "eye_rotations": (2, 4),
}
"""Optional arrays with one row a frame, and the shape of a row."""


@dataclass(frozen=True)
class ClipTemplate:
    """Everything of a motion clip that does not change with time."""

    template_vertices: FloatArray
    """(V, 3) rest positions, metres, float32."""
    polygon_starts: IntArray
    """(P + 1,) first corner of each polygon, then the number of corners; int32."""
    polygon_vertices: IntArray
    """(corners,) vertex of each corner, counter-clockwise seen from outside; int32."""
    corner_uvs: FloatArray
    """(corners, 2) texture coordinates of each corner, float32."""
    vertex_colors: FloatArray
    """(V, 3) linear RGB, 0..1, float32."""
    regions: dict[str, IntArray] = field(default_factory=dict)
    """Name -> int32 vertex indices, such as "lips"."""
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Name -> [start, stop) range of vertices, skin first; the ranges follow each other and cover all vertices."""
    skin_texture_png: bytes | None = None
    """Bytes of a PNG: sRGB colour of the skin over corner_uvs."""
    textures: dict[str, bytes] = field(default_factory=dict)
    """Bytes of JPEG pictures over corner_uvs, by the names of TEXTURE_FILES: the skin's normals in tangent space and
    its roughness (both without colour management), the eyes' colour (sRGB)."""
    hair: FloatArray | None = None
    """(S, P, 3) strands of hair, the root first, metres, float32; it moves with the skull and with nothing else."""

    def validate(self) -> None:
        """Check types, shapes and index ranges.

        Raises:
            ValueError: names the array, what was expected and what was found.
        """
        num_vertices = len(self.template_vertices)
        num_corners = len(self.polygon_vertices)
        require_array("template_vertices", self.template_vertices, np.float32, (num_vertices, 3))
        require_array("polygon_starts", self.polygon_starts, np.int32, (len(self.polygon_starts),))
        require_array("polygon_vertices", self.polygon_vertices, np.int32, (num_corners,))
        require_array("corner_uvs", self.corner_uvs, np.float32, (num_corners, 2))
        require_array("vertex_colors", self.vertex_colors, np.float32, (num_vertices, 3))
        require_range("polygon_vertices", self.polygon_vertices, num_vertices)
        for name in ("template_vertices", "corner_uvs", "vertex_colors"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite everywhere")
        starts = self.polygon_starts
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != num_corners or (np.diff(starts) < 3).any():
            raise ValueError(
                f"polygon_starts must rise from 0 to {num_corners} corners in steps of at least 3, got {starts[:4]}..."
            )
        for name, indices in self.regions.items():
            require_array(f"region {name}", indices, np.int32, (len(indices),))
            require_range(f"region {name}", indices, num_vertices)
        if self.hair is not None:
            _require_hair(self.hair)
        unknown = sorted(set(self.textures) - set(TEXTURE_FILES))
        if unknown:
            raise ValueError(f"textures must be named {', '.join(TEXTURE_FILES)}, got {', '.join(unknown)}")
        self._validate_parts(num_vertices)

    def _validate_parts(self, num_vertices: int) -> None:
        expected_start = 0
        for name, (start, stop) in self.parts.items():
            if start != expected_start or stop < start:
                raise ValueError(f"part {name} must start at vertex {expected_start}, got the range {start}..{stop}")
            expected_start = stop
        if self.parts and (expected_start != num_vertices or next(iter(self.parts)) != "skin"):
            raise ValueError(f"parts must begin with skin and cover all {num_vertices} vertices, got {self.parts}")


@dataclass
class MotionClip:
    """A loaded motion clip; see `ClipTemplate` for the arrays that do not change with time."""

    info: ResultInfo
    template_vertices: FloatArray
    polygon_starts: IntArray
    polygon_vertices: IntArray
    corner_uvs: FloatArray
    vertex_colors: FloatArray
    vertex_offsets: FloatArray
    """(T, V, 3) displacement from template_vertices, metres; memory-mapped, read it in chunks."""
    regions: dict[str, IntArray]
    parts: dict[str, tuple[int, int]]
    blendshape_weights: FloatArray | None = None
    """(T, 52) in ARKit order, where the method knows them."""
    head_rotation: FloatArray | None = None
    """(T, 4) unit quaternions, w first, about performance.pivots["head"]; never inside vertex_offsets."""
    eye_rotations: FloatArray | None = None
    """(T, 2, 4) unit quaternions of the left and the right eye relative to the head, w first, each about its pivot;
    never inside vertex_offsets."""
    skin_texture: Path | None = None
    """The PNG with the skin's colour over corner_uvs."""
    textures: dict[str, Path] = field(default_factory=dict)
    """Further pictures over corner_uvs, by the names of TEXTURE_FILES."""
    hair: FloatArray | None = None
    """(S, P, 3) strands of hair, the root first, metres."""
    basis_shapes: FloatArray | None = None
    """(K, V, 3) displacements at weight 1 whose weighted sum repeats vertex_offsets (or the remainder, see
    `basis_is_remainder`), metres, most important first; memory-mapped. None when no basis was asked for, or it would
    need too many shapes."""
    basis_weights: FloatArray | None = None
    """(T, K) within -1..1."""
    basis_error_limit_m: float | None = None
    """Largest distance between basis and vertex_offsets that was asked for, metres."""
    basis_max_error_m: float | None = None
    """Largest distance of any vertex in any frame, measured, metres."""
    basis_is_remainder: bool = False
    """The basis repeats vertex_offsets less blendshape_weights times the blendshapes of the performance."""
    performance: ClipPerformance | None = None
    """What controls need beside blendshape_weights, head_rotation and eye_rotations."""

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.vertex_offsets)

    @property
    def num_vertices(self) -> int:
        """V, of all parts."""
        return len(self.template_vertices)

    def read_offsets(self, first: int, stop: int) -> FloatArray:
        """Return the vertex offsets (stop - first, V, 3) of some frames.

        A memory-mapped file is read, not mapped: mapped pages count as memory of the process until others need it.

        Raises:
            BackendError: the file ends too early.
        """
        source = self.vertex_offsets
        if not isinstance(source, np.memmap) or source.filename is None:
            return np.array(source[first:stop], np.float32)
        return _read_frames(Path(source.filename), source.offset, self.num_vertices, first, stop)


class MotionClipWriter:
    """Writes a motion clip frame by frame in constant memory; a context manager.

    Leaving the block without `commit()`, or by an exception, removes everything that was written.

    Raises:
        ValueError: the template is not valid, or `info` is not that of a motion clip.
        OutputError: the folder cannot be written, or exists and is not a result folder.
    """

    def __init__(self, folder: Path, info: ResultInfo, template: ClipTemplate) -> None:
        if info.kind != KIND:
            raise ValueError(f"expected a result of kind {KIND!r}, got {info.kind!r}")
        template.validate()
        self._target = Path(folder)
        self._info = info
        self._num_vertices = len(template.template_vertices)
        self._num_written = 0
        self._offsets: BinaryIO | None = None
        self._data_start = 0
        require_replaceable(self._target)
        self._partial = self._target.parent / f".{self._target.name}.{uuid.uuid4().hex[:12]}.partial"
        self._guarded(lambda: self._begin(template))

    def __enter__(self) -> MotionClipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    @property
    def partial_folder(self) -> Path:
        """Where the clip is written until `commit`."""
        return self._partial

    @property
    def num_written(self) -> int:
        """Frames appended so far."""
        return self._num_written

    def append(self, vertex_offsets: FloatArray) -> None:
        """Append frames.

        Args:
            vertex_offsets: (n, V, 3) displacements from the template, metres.

        Raises:
            ValueError: wrong shape, not finite, or more frames than announced.
            OutputError: the disk is full or not writable.
        """
        expected = (len(vertex_offsets), self._num_vertices, 3)
        if vertex_offsets.shape != expected:
            raise ValueError(f"vertex_offsets must have the shape {expected}, got {vertex_offsets.shape}")
        if self._num_written + len(vertex_offsets) > self._info.num_frames:
            raise ValueError(f"expected {self._info.num_frames} frames in all, got more")
        if not np.isfinite(vertex_offsets).all():
            raise ValueError(f"vertex_offsets are not finite after frame {self._num_written}")
        if self._offsets is None:
            raise ValueError("the clip was committed or discarded already")
        data = np.ascontiguousarray(vertex_offsets, dtype="<f4")
        file = self._offsets
        self._guarded(lambda: file.write(data.data))
        self._num_written += len(vertex_offsets)

    def read_offsets(self, first: int, stop: int) -> FloatArray:
        """Return frames that were appended, (stop - first, V, 3).

        Raises:
            ValueError: they were not, or the clip was committed or discarded already.
            OutputError: the disk is full or not readable.
        """
        file = self._offsets
        if file is None or not 0 <= first <= stop <= self._num_written:
            raise ValueError(f"expected frames within 0..{self._num_written} of a clip being written, got {stop}")
        self._guarded(file.flush)
        return _read_frames(self._partial / OFFSETS_FILE, self._data_start, self._num_vertices, first, stop)

    def write_basis(
        self,
        shapes: FloatArray,
        weights: FloatArray,
        error_limit_m: float,
        max_error_m: float,
        is_remainder: bool = False,
    ) -> None:
        """Add shapes and weights that repeat the motion, or what its blendshape_weights leave out.

        Args:
            shapes: (K, V, 3) displacements at weight 1, metres, most important first, float32.
            weights: (T, K) within -1..1, float32.
            error_limit_m: largest distance from the clip that was asked for, metres.
            max_error_m: largest distance of any vertex in any frame, measured, metres.
            is_remainder: they repeat vertex_offsets less blendshape_weights times the blendshapes.

        Raises:
            ValueError: an array has the wrong type, shape or range, or the clip was committed or discarded already.
            OutputError: the disk is full or not writable.
        """
        validate_clip_basis(shapes, weights, self._info.num_frames, self._num_vertices)
        if self._offsets is None:
            raise ValueError("the clip was committed or discarded already")
        self._guarded(lambda: save_clip_basis(self._partial, shapes, weights, error_limit_m, max_error_m, is_remainder))

    def write_performance(self, performance: ClipPerformance) -> None:
        """Add what controls need to change the clip later.

        Raises:
            ValueError: a value is not valid, or the clip was committed or discarded already.
            OutputError: the disk is full or not writable.
        """
        performance.validate(self._num_vertices)
        if self._offsets is None:
            raise ValueError("the clip was committed or discarded already")
        self._guarded(lambda: save_clip_performance(self._partial, performance))

    def commit(
        self,
        blendshape_weights: FloatArray | None = None,
        head_rotation: FloatArray | None = None,
        eye_rotations: FloatArray | None = None,
    ) -> Path:
        """Check that the clip is complete and give it its final name.

        Args:
            blendshape_weights: (T, 52) or None.
            head_rotation: (T, 4) quaternions or None.
            eye_rotations: (T, 2, 4) quaternions or None.

        Returns:
            The final folder.

        Raises:
            ValueError: frames are missing, or an array has the wrong shape.
            OutputError: the disk is full or not writable.
        """
        if self._num_written != self._info.num_frames:
            raise ValueError(f"expected {self._info.num_frames} frames, got {self._num_written}")
        tracks = {
            "blendshape_weights": blendshape_weights,
            "head_rotation": head_rotation,
            "eye_rotations": eye_rotations,
        }
        for name, track in tracks.items():
            if track is not None:
                require_array(name, track, np.float32, (self._info.num_frames, *_TRACKS[name]))
        self._guarded(lambda: self._finish({name: track for name, track in tracks.items() if track is not None}))
        return self._target

    def discard(self) -> None:
        """Remove what was written, unless it was committed."""
        if self._offsets is not None:
            with contextlib.suppress(OSError):  # flushing to a full disk fails; the file is removed anyway
                self._offsets.close()
            self._offsets = None
        shutil.rmtree(self._partial, ignore_errors=True)

    def _begin(self, template: ClipTemplate) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._partial.mkdir()
        for name in _TEMPLATE_ARRAYS:
            np.save(self._partial / f"{name}.npy", getattr(template, name), allow_pickle=False)
        regions = {name: indices.tolist() for name, indices in template.regions.items()}
        (self._partial / "regions.json").write_text(json.dumps(regions), encoding="utf-8")
        parts = {name: [int(start), int(stop)] for name, (start, stop) in template.parts.items()}
        (self._partial / "parts.json").write_text(json.dumps(parts), encoding="utf-8")
        if template.skin_texture_png is not None:
            (self._partial / SKIN_TEXTURE_FILE).write_bytes(template.skin_texture_png)
        for name, data in template.textures.items():
            (self._partial / TEXTURE_FILES[name]).write_bytes(data)
        if template.hair is not None:
            np.save(self._partial / HAIR_FILE, template.hair.astype(np.float16), allow_pickle=False)
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._info.num_frames, self._num_vertices, 3)}
        self._offsets = (self._partial / OFFSETS_FILE).open("wb")  # closed by commit or discard
        np.lib.format.write_array_header_1_0(self._offsets, header)
        self._data_start = self._offsets.tell()

    def _finish(self, tracks: dict[str, FloatArray]) -> None:
        if self._offsets is not None:
            self._offsets.close()
            self._offsets = None
        for name, track in tracks.items():
            np.save(self._partial / f"{name}.npy", track, allow_pickle=False)
        (self._partial / RESULT_FILE).write_text(self._info.to_json(), encoding="utf-8")
        replace_folder(self._partial, self._target)

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self.discard()
            raise OutputError(f"cannot write the result folder {self._target}: {error.strerror or error}") from error


def load_motion_clip(folder: Path) -> MotionClip:
    """Open a motion clip; `vertex_offsets` stays on disk (memory-mapped).

    Raises:
        BackendError: missing, incomplete, damaged, or of another format version.
    """
    folder = Path(folder)
    try:
        info = ResultInfo.from_json((folder / RESULT_FILE).read_text(encoding="utf-8"))
        if info.kind != KIND:
            raise BackendError(f"expected a result of kind {KIND!r} in {folder}, got {info.kind!r}")
        texture = folder / SKIN_TEXTURE_FILE
        template = ClipTemplate(
            **{name: _load_array(folder / f"{name}.npy") for name in _TEMPLATE_ARRAYS},
            regions={name: np.asarray(ids, np.int32) for name, ids in _load_json(folder / "regions.json").items()},
            parts={name: (int(start), int(stop)) for name, (start, stop) in _load_json(folder / "parts.json").items()},
        )
        template.validate()
        hair = _load_array(folder / HAIR_FILE).astype(np.float32) if (folder / HAIR_FILE).exists() else None
        if hair is not None:
            _require_hair(hair)
        offsets = _load_array(folder / OFFSETS_FILE, mmap=True)
        require_array("vertex_offsets", offsets, np.float32, (info.num_frames, len(template.template_vertices), 3))
        tracks = {name: _load_array(folder / f"{name}.npy") for name in _TRACKS if (folder / f"{name}.npy").exists()}
        for name, track in tracks.items():
            require_array(name, track, np.float32, (info.num_frames, *_TRACKS[name]))
        basis = load_clip_basis(folder, info.num_frames, len(template.template_vertices))
        performance = load_clip_performance(folder, len(template.template_vertices))
        if basis.get("basis_is_remainder") and (performance is None or "blendshape_weights" not in tracks):
            raise ValueError("its basis repeats what curves leave out, but it has no curves")
    except (OSError, ValueError, TypeError, EOFError, OverflowError) as error:
        raise BackendError(f"the motion clip {folder} is missing or damaged: {error}") from error
    return MotionClip(
        info=info,
        vertex_offsets=offsets,
        regions=template.regions,
        parts=template.parts,
        skin_texture=texture if texture.exists() else None,
        textures={name: folder / file for name, file in TEXTURE_FILES.items() if (folder / file).exists()},
        hair=hair,
        **{name: getattr(template, name) for name in _TEMPLATE_ARRAYS},
        **tracks,
        **basis,
        performance=performance,
    )


def _read_frames(path: Path, data_start: int, num_vertices: int, first: int, stop: int) -> FloatArray:
    row = num_vertices * 3
    count = (stop - first) * row
    values = np.fromfile(path, "<f4", count, offset=data_start + first * row * 4)
    if len(values) != count:
        raise BackendError(f"the motion clip is damaged: {path} ends before frame {stop}")
    return values.astype(np.float32, copy=False).reshape(-1, num_vertices, 3)


def _load_array(path: Path, mmap: bool = False) -> Any:
    return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)


def _load_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(content).__name__}")
    return content


def _require_hair(hair: NDArray[Any]) -> None:
    if hair.ndim != 3 or hair.shape[2] != 3 or hair.shape[1] < 2 or hair.dtype != np.float32 or not len(hair):
        raise ValueError(f"hair must be float32 (S, P >= 2, 3), got {hair.dtype} {hair.shape}")
    if not np.isfinite(hair).all():
        raise ValueError("hair must be finite everywhere")
