"""Scans from files: each format, faces of any corners, and files that are broken or hostile."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from blender_talkhead.contract.errors import BadInputError
from torch_backend.fitting.scan_files import list_scans, load_scan

SQUARE = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0)]
HEADER = (
    "ply\nformat {order} 1.0\ncomment made by hand\nelement vertex 4\nproperty float x\nproperty float y\n"
    "property float z\nproperty uchar red\nelement face {faces}\nproperty list uchar int vertex_indices\n"
    "property float quality\nend_header\n"
)


def binary_ply(faces: list[tuple[int, ...]], order: str = "<") -> bytes:
    name = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    content = HEADER.format(order=name, faces=len(faces)).encode()
    content += b"".join(struct.pack(order + "3fB", *point, 200) for point in SQUARE)
    return content + b"".join(struct.pack(f"{order}B{len(face)}if", len(face), *face, 0.5) for face in faces)


def text_ply(faces: list[tuple[int, ...]]) -> bytes:
    lines = [" ".join(map(str, point)) + " 200" for point in SQUARE]
    lines += [f"{len(face)} {' '.join(map(str, face))} 0.5" for face in faces]
    return (HEADER.format(order="ascii", faces=len(faces)) + "\n".join(lines) + "\n").encode()


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [binary_ply, lambda faces: binary_ply(faces, ">"), text_ply])
def test_ply_with_polygons_of_several_lengths(tmp_path: Path, content) -> None:
    scan = load_scan(written(tmp_path, "a.ply", content([(0, 1, 2, 3), (0, 1, 2), (1, 2, 3, 0)])))
    np.testing.assert_array_equal(scan.points, SQUARE)
    found = sorted(tuple(triangle) for triangle in scan.triangles.tolist())
    assert found == [(0, 1, 2), (0, 1, 2), (0, 2, 3), (1, 2, 3), (1, 3, 0)]


def test_ply_with_long_runs_of_faces(tmp_path: Path) -> None:
    faces: list[tuple[int, ...]] = [(0, 1, 2)] * 1000 + [(0, 1, 2, 3)] * 7 + [(1, 2, 3)] * 300
    scan = load_scan(written(tmp_path, "a.ply", binary_ply(faces)))
    assert len(scan.triangles) == 1000 + 14 + 300


def test_ply_point_cloud_with_normals_and_colours(tmp_path: Path) -> None:
    header = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty double x\nproperty double y\n"
        "property double z\nproperty float nx\nproperty uchar red\nend_header\n"
    )
    content = header.encode() + struct.pack("<3dfB", 1, 2, 3, 0, 9) + struct.pack("<3dfB", 4, 5, 6, 0, 9)
    scan = load_scan(written(tmp_path, "fused.ply", content))
    np.testing.assert_array_equal(scan.points, [[1, 2, 3], [4, 5, 6]])
    assert scan.triangles.shape == (0, 3)


def test_obj_with_slashes_negative_numbers_and_quads(tmp_path: Path) -> None:
    text = "mtllib /etc/passwd\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE)
    text += "vt 0 0\nvn 0 0 1\nusemtl skin\nf 1/1/1 2/1/1 3/1/1 4/1/1\nf -4//1 -3//1 -2//1\n"
    scan = load_scan(written(tmp_path, "a.obj", text.encode()))
    np.testing.assert_array_equal(scan.points, SQUARE)
    assert sorted(map(tuple, scan.triangles.tolist())) == [(0, 1, 2), (0, 1, 2), (0, 2, 3)]


def test_array_of_points(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(SQUARE, np.float32))
    np.testing.assert_array_equal(load_scan(tmp_path / "a.npy").points, SQUARE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", b"hello"),
        ("a.ply", b"ply\n"),
        ("a.ply", binary_ply([(0, 1, 2)])[:-3]),
        ("a.ply", binary_ply([(0, 1, 2)])[:250]),
        ("a.ply", text_ply([(0, 1, 2)])[:-12]),
        ("a.ply", binary_ply([(0, 1, 9)])),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n"),
        ("a.ply", b"ply\nformat ascii 1.0\nproperty float x\nend_header\n"),
        ("a.ply", text_ply([(0, 1, 2)]).replace(b"1.0 1.0", b"nan 1.0")),
        ("a.obj", b"v 0 0\nv 1 0 0\n"),
        ("a.obj", b"\x00\x01 junk\n"),
        ("a.obj", b"v 0 0 0\nf 1 2 3\n"),
        ("a.obj", b"v 0 0 0\nf 0 0 0\n"),
        ("a.npy", b"\x93NUMPY junk"),
        ("a.stl", b"solid"),
        ("empty.obj", b""),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(BadInputError, match=str(path)):
        load_scan(path)


def test_missing_file_and_object_arrays(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        load_scan(tmp_path / "none.ply")
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInputError):
        load_scan(tmp_path / "a.npy")


def test_frames_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("f2.ply", "f1.ply", ".hidden.ply", "note.txt"):
        written(tmp_path, name, b"")
    assert [each.name for each in list_scans(tmp_path)] == ["f1.ply", "f2.ply"]
    written(tmp_path, "f3.obj", b"")
    with pytest.raises(BadInputError, match="several kinds"):
        list_scans(tmp_path)
