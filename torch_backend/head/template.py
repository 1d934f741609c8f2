"""Template mesh of the skin: structured rings, graded fill on the implicit surface, exact mirror symmetry.

The half head without its rings is a half disc under a stereographic map whose pole is in the neck, so a planar Delaunay
triangulation connects it; the rings are stitched in as quad strips and the half is mirrored (author space, cm).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from torch_backend.head.author_space import Array, mirrored, smoothstep
from torch_backend.head.head import Head
from torch_backend.head.implicit_surface import project_to_skin, skin_field
from torch_backend.head.landmarks import PINNED_MIDLINE, PINNED_SIDE
from torch_backend.head.profile_curves import bust_edge
from torch_backend.head.refit import FrozenFill, refit_fill
from torch_backend.head.rings import HalfMouth, ear_rings, eyelid_rings, mouth_rings, neck_ring, nostril_rings

MAP_CENTER = np.array([0.0, 0.3, -2.0])
SPACING_SCALE = 0.70
"""Scale of the fill's spacing: sets the skin's vertex count (about 5,000)."""
SMOOTHING_ROUNDS = 5


@dataclass
class Template:
    """The skin mesh in author space and the labels of its rings (left side; `mirror` gives the right)."""

    vertices: Array
    """(V, 3) cm; x >= 0 half first, then the mirror images of the off-midline vertices."""
    polygons: list[list[int]]
    """Counter-clockwise seen from outside in the left-handed author space; turned on conversion."""
    mirror: np.ndarray
    """(V,) index of each vertex's mirror image; midline vertices map to themselves."""
    rings: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """eyelid, mouth, nostril, ear: vertex indices of each ring on the left half."""
    caps: dict[str, int] = field(default_factory=dict)
    """mouth, nostril, ear: the single vertex closing the innermost ring."""
    pinned: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Vertices of the pinned landmarks, midline ones first."""
    neck: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Vertices of the half neck boundary."""
    mouth: HalfMouth | None = None


def stereographic(points: Array) -> Array:
    """Map author-space points (N, 3) to the plane (N, 2), the pole straight below the head's middle.

    Seen from the head's middle neck and shoulders are almost edge on; stretching them outwards keeps their rows apart.
    """
    direction = points - MAP_CENTER
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    below = np.maximum(-12.0 - points[:, 2:3], 0.0)
    flare = np.maximum(np.hypot(points[:, :1], points[:, 1:2] + 1.8) - 4.6, 0.0) * np.clip(below - 1.0, 0.0, 2.0)
    unrolled = 1.0 + 0.15 * below + 0.2 * flare
    return direction[:, :2] / (1.0 + direction[:, 2:3]) * unrolled


def fill_spacing(points: Array) -> Array:
    """Return the wanted edge length (N,) in cm at points (N, 3): fine at mouth, nose, eyes and jaw."""
    mouth = np.linalg.norm((points - [0, 9.3, -6.7]) * [0.75, 1, 1], axis=-1) - 2.3
    nose = np.linalg.norm(points - [0.6, 10.2, -3.6], axis=-1) - 1.5
    eye = np.linalg.norm(points - [3.2, 8.0, 0.3], axis=-1) - 2.0
    distance = np.maximum(np.minimum(np.minimum(mouth, nose), eye), 0.0)
    wing = np.linalg.norm(points - [1.6, 9.8, -3.6], axis=-1) - 0.7
    start, along = np.array([4.6, 1.0, -5.5]), np.array([-3.0, 6.2, -4.4])
    share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)[:, None]
    jaw = np.maximum(np.linalg.norm(points - start - share * along, axis=-1) - 1.2, 0.0)
    coarsest = 1.5 + 0.5 * smoothstep(points[:, 2], 2.5, 5.0)
    spacing = np.clip(np.minimum(0.30 + 0.15 * distance, 0.75 + 0.15 * jaw), 0.30, coarsest) * SPACING_SCALE
    return np.minimum(spacing, 0.16 + 0.10 * np.maximum(wing, 0.0))


def inside_polygon(points: Array, polygon: Array) -> np.ndarray:
    """Return which points (N, 2) lie inside the closed polygon (P, 2), by the even-odd rule."""
    inside = np.zeros(len(points), dtype=bool)
    previous = polygon[-1]
    for corner in polygon:
        crosses = (corner[1] > points[:, 1]) != (previous[1] > points[:, 1])
        rise = previous[1] - corner[1]
        x = (previous[0] - corner[0]) * (points[:, 1] - corner[1]) / (rise if rise else 1e-15) + corner[0]
        inside ^= crosses & (points[:, 0] < x)
        previous = corner
    return inside


def surface_candidates(step: float = 0.16) -> Array:
    """Return a dense set of points (N, 3) on the half skin (x >= 0), from a narrow band of grid points."""
    low, high, coarse = np.array([-0.2, -11.6, -21.2]), np.array([15.4, 12.6, 12.4]), 0.64
    axes = [np.arange(a, b, coarse) for a, b in zip(low, high, strict=True)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    cells = cells[np.abs(skin_field(cells)) < 1.5 * coarse]
    offsets = np.arange(0.0, coarse, step)
    offsets = np.stack(np.meshgrid(offsets, offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (cells[:, None] + offsets[None]).reshape(-1, 3)
    points = points[np.abs(skin_field(points)) < 0.6 * step]
    points = project_to_skin(points, 3)
    on_skin = (np.abs(skin_field(points)) < 0.01) & (points[:, 2] > bust_edge(points[:, 0]) - 0.2)
    return points[on_skin]


class _HalfFill:
    """Chooses the free vertices of the half head between the fixed rings, and connects them all."""

    def __init__(self, ring_loops: list[Array], mouth_loop: int, neck: Array) -> None:
        self.hole_polygons = [stereographic(loop) for loop in ring_loops]
        open_loop = self.hole_polygons[mouth_loop]
        # The half mouth's loop is closed on the far side of the midline.
        self.hole_polygons[mouth_loop] = np.concatenate(
            [open_loop, [[-0.5, open_loop[-1, 1]], [-0.5, open_loop[0, 1]]]]
        )
        edge = stereographic(neck)
        self.outline = np.concatenate([edge, [[-0.5, edge[-1, 1]], [-0.5, edge[0, 1]]]])
        mouth_ends = ring_loops[mouth_loop][[0, -1]]
        candidates = surface_candidates()
        fixed = np.concatenate(ring_loops)
        side_pins = project_to_skin(np.array(PINNED_SIDE))
        midline = self._midline_points(candidates, mouth_ends, neck[[0, -1]])
        half = candidates[candidates[:, 0] > 0.12]
        free = self._throw_darts(half, np.concatenate([fixed, side_pins]), midline, neck)
        self.points = np.concatenate([fixed, midline, neck, side_pins, free])
        counts = np.cumsum([0, len(fixed), len(midline), len(neck), len(side_pins)])
        self.midline_start, self.neck_start, self.pins_start, self.free_start = (int(c) for c in counts[1:])
        self.midline_pins = self.midline_start + self._nearest(midline, np.array(PINNED_MIDLINE))
        self.on_midline = self.points[:, 0] == 0.0
        self.triangles = self._smooth_and_connect()

    @staticmethod
    def _nearest(points: Array, targets: Array) -> np.ndarray:
        return np.asarray(cKDTree(points).query(targets)[1])

    def in_hole(self, points: Array) -> np.ndarray:
        plane = stereographic(points)
        return np.logical_or.reduce([inside_polygon(plane, polygon) for polygon in self.hole_polygons])

    def _midline_points(self, candidates: Array, mouth_ends: Array, neck_ends: Array) -> Array:
        curve = candidates[np.abs(candidates[:, 0]) < 0.09] * [0.0, 1.0, 1.0]
        curve = project_to_skin(curve) * [0.0, 1.0, 1.0]
        aside = curve + np.array([1e-6, 0.0, 0.0])
        back, front = stereographic(neck_ends)[:, 1]
        along = stereographic(curve)[:, 1]
        within = (along > 0.93 * back) & (along < 0.93 * front) & (curve[:, 2] > bust_edge(0.0) + 0.5)
        curve = curve[~self.in_hole(aside) & within]
        pins = project_to_skin(np.array(PINNED_MIDLINE)) * [0.0, 1.0, 1.0]
        chosen = list(pins)
        order = np.argsort(-np.arctan2(curve[:, 2] - MAP_CENTER[2], curve[:, 1]))
        for point in curve[order]:
            spacing = fill_spacing(point[None])[0]
            far = np.linalg.norm(np.array(chosen) - point, axis=1).min() > spacing * 0.88
            if far and np.linalg.norm(mouth_ends - point, axis=1).min() > spacing * 0.8:
                chosen.append(point)
        return np.array(chosen)

    def _throw_darts(self, half: Array, fixed: Array, midline: Array, neck: Array) -> Array:
        generator = np.random.default_rng(0)
        tree = cKDTree(half)
        taken = self.in_hole(half) | (half[:, 2] < bust_edge(half[:, 0]) + 0.3)

        def keep_clear(points: Array, radii: Array) -> None:
            for neighbours in tree.query_ball_point(points, radii):
                taken[neighbours] = True

        keep_clear(fixed, np.minimum(fill_spacing(fixed), 0.42) * 0.8)
        keep_clear(midline, fill_spacing(midline) * 0.85)
        keep_clear(neck, np.full(len(neck), 0.75))
        spacing = fill_spacing(half)
        chosen = []
        for index in np.argsort(spacing + generator.random(len(half)) * 0.25):
            if not taken[index]:
                chosen.append(index)
                taken[tree.query_ball_point(half[index], spacing[index])] = True
        return half[chosen]

    def _delaunay(self) -> np.ndarray:
        plane = stereographic(self.points)
        plane[self.on_midline, 0] = 0.0
        triangles = Delaunay(plane).simplices.astype(np.int64)
        corners = plane[triangles]
        area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        triangles[area < 0] = triangles[area < 0][:, [0, 2, 1]]
        # A hull is convex, the shoulders' outline is not.
        keep = (np.abs(area) > 1e-10) & inside_polygon(corners.mean(axis=1), self.outline)
        for polygon in self.hole_polygons:
            keep &= ~inside_polygon(corners.mean(axis=1), polygon)
        return triangles[keep]

    def _smooth_and_connect(self) -> np.ndarray:
        movable = np.arange(len(self.points)) >= self.free_start
        for _ in range(SMOOTHING_ROUNDS):
            triangles = flip_to_delaunay(self.points, self._delaunay())
            total, count = np.zeros_like(self.points), np.zeros(len(self.points))
            for a in range(3):
                for b in range(3):
                    if a != b:
                        np.add.at(total, triangles[:, a], self.points[triangles[:, b]])
                        np.add.at(count, triangles[:, a], 1.0)
            moved = self.points.copy()
            moved[movable] = 0.5 * self.points[movable] + 0.5 * (total / np.maximum(count, 1.0)[:, None])[movable]
            moved[movable] = project_to_skin(moved[movable], 2)
            rejected = movable & ((moved[:, 0] < 0.1) | self.in_hole(moved))
            moved[rejected] = self.points[rejected]
            self.points = moved
        return flip_to_delaunay(self.points, self._delaunay())


def flip_to_delaunay(points: Array, triangles: np.ndarray, passes: int = 12) -> np.ndarray:
    """Flip interior edges of an oriented mesh until opposite angles sum to at most 180 degrees in 3-D.

    The planar map squeezes the neck, so a planar Delaunay triangulation leaves slivers there.

    Args:
        points: (N, 3).
        triangles: (F, 3) consistently oriented, manifold.
        passes: most sweeps over all edges.

    Returns:
        (F, 3) triangles over the same points, with the same boundary.
    """
    faces = [list(map(int, t)) for t in triangles]
    for _ in range(passes):
        edges: dict[tuple[int, int], int] = {}
        for index, (a, b, c) in enumerate(faces):
            edges[(a, b)], edges[(b, c)], edges[(c, a)] = index, index, index
        touched: set[int] = set()
        flips = 0
        for (a, b), left in edges.items():
            right = edges.get((b, a))
            if right is None or a > b or left in touched or right in touched:
                continue
            c = next(v for v in faces[left] if v not in (a, b))
            d = next(v for v in faces[right] if v not in (a, b))
            if (c, d) in edges or (d, c) in edges or not _flip_helps(points, a, b, c, d):
                continue
            faces[left], faces[right] = [a, d, c], [d, b, c]
            touched.update((left, right))
            flips += 1
        if not flips:
            break
    return np.array(faces, dtype=np.int64)


def _flip_helps(points: Array, a: int, b: int, c: int, d: int) -> bool:
    """Say whether edge a-b (opposite c and d) should become c-d."""

    def angle(apex: int, p: int, q: int) -> float:
        u, v = points[p] - points[apex], points[q] - points[apex]
        return float(np.arccos(np.clip(u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-15), -1.0, 1.0)))

    if angle(c, a, b) + angle(d, a, b) <= np.pi + 1e-6:
        return False

    def normal(p: int, q: int, r: int) -> Array:
        return np.cross(points[q] - points[p], points[r] - points[p])

    before = normal(a, b, c) + normal(b, a, d)
    return bool(normal(a, d, c) @ before > 0 and normal(d, b, c) @ before > 0)


def turned(polygon: list[int]) -> list[int]:
    """Return the polygon seen from its other side, with the same first corner (so the same fan diagonal)."""
    return polygon[:1] + polygon[:0:-1]


def build_template(frozen: Head | None = None) -> Template:
    """Build the whole skin: fill, rings and mirror image.

    Args:
        frozen: a head whose connectivity is kept; None makes a new fill, which numbers the vertices anew.
    """
    eyelid, mouth = eyelid_rings(), mouth_rings()
    nostril, nostril_cap = nostril_rings()
    ear, ear_cap = ear_rings()
    loops = [eyelid[-1], mouth.rings[-1], ear[0], nostril[0]]
    fill: _HalfFill | FrozenFill
    if frozen is None:
        fill = _HalfFill(loops, mouth_loop=1, neck=neck_ring())
    else:
        inner = [*eyelid[:-1], *mouth.rings[:-1], *ear[1:], *nostril[1:]]
        fill = refit_fill(frozen, loops, neck_ring(), sum(len(ring) for ring in inner) + 3)
    starts = np.cumsum([0] + [len(loop) for loop in loops])
    outer = [np.arange(starts[i], starts[i + 1]) for i in range(len(loops))]
    half = _HalfMesh(fill.points, fill.triangles)
    rings = {
        "eyelid": half.add_strips(eyelid[:-1], outer[0], last=True, flip=True),
        "mouth": half.add_strips(mouth.rings[:-1], outer[1], last=True, flip=True, closed=False),
        "ear": half.add_strips(ear[1:], outer[2], last=False, flip=False),
        "nostril": half.add_strips(nostril[1:], outer[3], last=False, flip=False),
    }
    caps = {
        "mouth": half.add_fan(rings["mouth"][0], np.array([[0.0, 1.6, -6.9]]), closed=False),
        "ear": half.add_fan(rings["ear"][-1], ear_cap, closed=True),
        "nostril": half.add_fan(rings["nostril"][-1], nostril_cap, closed=True),
    }
    template = half.mirrored_template()
    template.rings, template.caps, template.mouth = rings, caps, mouth
    template.neck = np.arange(fill.neck_start, fill.pins_start)
    template.pinned = np.concatenate([fill.midline_pins, np.arange(fill.pins_start, fill.free_start)])
    return template


class _HalfMesh:
    """Grows the half mesh by strips and fans, then mirrors it."""

    def __init__(self, points: Array, triangles: np.ndarray) -> None:
        self.blocks = [points]
        self.count = len(points)
        self.polygons = [list(map(int, t)) for t in triangles]

    def _add_points(self, points: Array) -> np.ndarray:
        indices = np.arange(self.count, self.count + len(points))
        self.blocks.append(points)
        self.count += len(points)
        return indices

    def add_strips(
        self, rings: list[Array], outer: np.ndarray, *, last: bool, flip: bool, closed: bool = True
    ) -> list[np.ndarray]:
        """Add rings and quad strips between neighbours; `outer` exists already and is the last or first ring."""
        indices = [self._add_points(ring) for ring in rings]
        indices = [*indices, outer] if last else [outer, *indices]
        for a, b in pairwise(indices):
            count = len(a)
            for i in range(count if closed else count - 1):
                j = (i + 1) % count
                quad = [int(a[i]), int(a[j]), int(b[j]), int(b[i])]
                self.polygons.append(quad[::-1] if flip else quad)
        return indices

    def add_fan(self, ring: np.ndarray, point: Array, *, closed: bool) -> int:
        """Close a ring with triangles to one new point; return its index."""
        cap = int(self._add_points(point)[0])
        for i in range(len(ring) if closed else len(ring) - 1):
            a, b = int(ring[i]), int(ring[(i + 1) % len(ring)])
            self.polygons.append([a, b, cap] if closed else [cap, a, b])
        return cap

    def mirrored_template(self) -> Template:
        """Return the whole skin; vertices with x = 0 are shared by both halves."""
        points = np.concatenate(self.blocks)
        middle = points[:, 0] == 0.0
        image = np.arange(len(points))
        image[~middle] = len(points) + np.arange(int((~middle).sum()))
        vertices = np.concatenate([points, mirrored(points[~middle])])
        mirror = np.concatenate([image, np.nonzero(~middle)[0]])
        polygons = self.polygons + [[int(image[i]) for i in turned(polygon)] for polygon in self.polygons]
        return Template(vertices=vertices, polygons=polygons, mirror=mirror)
