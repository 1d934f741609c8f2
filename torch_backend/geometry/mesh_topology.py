"""Connectivity of triangle meshes: edges, boundary loops, manifoldness, Euler number.

Triangles are (F, 3) integer arrays of vertex indices, counter-clockwise when seen from outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

IntArray = NDArray[np.int64]


def as_triangles(triangles: NDArray[np.integer], num_vertices: int | None = None) -> IntArray:
    """Return `triangles` as a contiguous (F, 3) int64 array after checking shape and index range.

    Args:
        triangles: (F, 3) vertex indices.
        num_vertices: number of vertices the indices may address; unchecked when None.

    Raises:
        ValueError: wrong shape, no triangles, an index out of range, or a triangle that repeats a vertex.
    """
    checked = np.ascontiguousarray(triangles, dtype=np.int64)
    if checked.ndim != 2 or checked.shape[1] != 3 or len(checked) == 0:
        raise ValueError(f"triangles: expected shape (F, 3) with F >= 1, got {checked.shape}")
    if checked.min() < 0 or (num_vertices is not None and checked.max() >= num_vertices):
        raise ValueError(
            f"triangles: expected indices in [0, {num_vertices}), got {int(checked.min())}..{int(checked.max())}"
        )
    ordered = np.sort(checked, axis=1)
    repeated = (ordered[:, :-1] == ordered[:, 1:]).any(axis=1)
    if repeated.any():
        raise ValueError(f"triangles: expected three distinct vertices, triangle {int(repeated.argmax())} repeats one")
    return checked


def directed_edges(triangles: NDArray[np.integer]) -> IntArray:
    """Return the (3F, 2) directed edges; row `3 * face + k` leads from corner k to corner k + 1."""
    faces = np.asarray(triangles, dtype=np.int64)
    return np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)


def unique_edges(triangles: NDArray[np.integer]) -> IntArray:
    """Return the (E, 2) undirected edges, smaller index first, in lexicographic order."""
    return np.unique(np.sort(directed_edges(triangles), axis=1), axis=0)


def euler_characteristic(triangles: NDArray[np.integer]) -> int:
    """Return vertices - edges + faces, counting only vertices that some triangle uses."""
    faces = np.asarray(triangles)
    return int(len(np.unique(faces)) - len(unique_edges(faces)) + len(faces))


def count_components(triangles: NDArray[np.integer]) -> int:
    """Return the number of connected components (vertices joined by edges; unused vertices do not count)."""
    compact = np.unique(np.asarray(triangles), return_inverse=True)[1].reshape(-1, 3)
    edges = directed_edges(compact)
    size = int(compact.max()) + 1
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return int(connected_components(graph, directed=False, return_labels=False))


def find_manifold_problem(triangles: NDArray[np.integer]) -> str | None:
    """Return why the mesh is no consistently oriented manifold (with boundary), or None if it is one.

    Checked: every directed edge at most once (else three faces share an edge, or two neighbours are oriented
    against each other), and the faces round each vertex form a single fan.
    """
    faces = as_triangles(triangles)
    edges = directed_edges(faces)
    size = int(faces.max()) + 1
    keys = edges[:, 0] * size + edges[:, 1]
    values, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        start, stop = divmod(int(values[counts.argmax()]), size)
        return (
            f"{int((counts > 1).sum())} directed edges are used more than once (first: {start} -> {stop}): "
            "more than two faces meet there, or neighbours are oriented differently"
        )
    num_fans, num_used = _count_corner_fans(faces, keys, size), len(np.unique(faces))
    if num_fans != num_used:
        return f"{num_fans - num_used} vertices join separate fans of faces (the surface touches itself in a point)"
    return None


def _count_corner_fans(faces: IntArray, keys: IntArray, size: int) -> int:
    """Count groups of corners at the same vertex that are linked through shared edges."""
    edges = directed_edges(faces)
    order = np.argsort(keys)
    opposite = edges[:, 1] * size + edges[:, 0]
    place = np.minimum(np.searchsorted(keys[order], opposite), len(keys) - 1)
    has_twin = keys[order][place] == opposite
    here = np.flatnonzero(has_twin)
    twin = order[place[here]]
    # Corner k of a face is row 3 * face + k: the tail of that row's edge; its head is the next corner.
    next_corner = (here // 3) * 3 + (here % 3 + 1) % 3
    twin_next = (twin // 3) * 3 + (twin % 3 + 1) % 3
    left = np.concatenate([here, next_corner])
    right = np.concatenate([twin_next, twin])
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(len(edges), len(edges)))
    return int(connected_components(graph, directed=False, return_labels=False))


def boundary_loops(triangles: NDArray[np.integer]) -> list[IntArray]:
    """Return the boundary loops as vertex index arrays, each in the direction of its faces' edges.

    The surface lies to the left of a loop. The loops are sorted by descending length (number of vertices),
    each starts at its smallest index, so that the result does not depend on the order of the triangles.

    Raises:
        ValueError: the mesh is no oriented manifold.
    """
    problem = find_manifold_problem(triangles)
    if problem is not None:
        raise ValueError(f"boundary_loops: expected an oriented manifold, got a mesh where {problem}")
    edges = directed_edges(triangles)
    present = {(int(start), int(stop)) for start, stop in edges}
    following = {start: stop for start, stop in present if (stop, start) not in present}
    loops = []
    for first in sorted(following):
        if first not in following:
            continue
        loop = [first]
        vertex = following.pop(first)
        while vertex != first:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(np.array(loop, dtype=np.int64))
    return sorted(loops, key=len, reverse=True)


def loop_length(vertices: NDArray[np.floating], loop: IntArray) -> float:
    """Return the length of the closed polygon through `vertices[loop]`, in the unit of the vertices."""
    points = np.asarray(vertices, dtype=np.float64)[loop]
    return float(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum())
