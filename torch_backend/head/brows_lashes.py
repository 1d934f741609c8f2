"""Eyebrows and eyelashes as thin tapered strips, made by rules with a fixed seed (author space, cm)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from torch_backend.head import profile_curves as profile
from torch_backend.head.attachments import Attachments, Hair, attach
from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.implicit_surface import cast_from_front, field_gradient
from torch_backend.head.part_mesh import PartMesh, merge_parts
from torch_backend.head.rings import LID_POINTS
from torch_backend.head.template import Template

SEED = 11
BROW_HAIRS = 88
"""Of one side."""
UPPER_LASHES, LOWER_LASHES = 36, 20
BROW_COLOR = (0.085, 0.052, 0.035)
LASH_COLOR = (0.018, 0.012, 0.010)
BROW_ENDS = (1.38, 5.15)
"""x of the inner and the outer end."""
_UPPER_SPAN, _LOWER_SPAN = (3.2, 15.4), (17.0, 26.5)
"""Where lashes grow on a lid ring, in points; the inner corner is point 0, the outer one LID_POINTS / 2."""
_LASH_RINGS = (2, 3, 4)
_RIM_SHARE = 0.72
"""Where they grow on the margin, from its inner edge (0) to its outer one (1)."""
_BROW_NEIGHBOURS = 14
_BROW_REACH = 0.55


def brow_middle(x: Array) -> Array:
    """Return z of the brow's middle line at distances x (any shape) from the midline."""
    along = np.clip((x - 1.45) / (5.2 - 1.45), 0.0, 1.0)
    middle: Array = 1.70 + 0.36 * np.sin(np.pi * 0.78 * along**0.95)
    return middle


def brow_half_height(x: Array) -> Array:
    """Return half the brow's height at distances x (any shape) from the midline."""
    along = np.clip((x - BROW_ENDS[0]) / (BROW_ENDS[1] - BROW_ENDS[0]), 0.0, 1.0)
    half: Array = 0.37 * smoothstep(along, -0.20, 0.12) * (1.0 - 0.66 * along**1.5)
    return half


def build_brows_and_lashes(template: Template) -> Attachments:
    """Return both parts; the right side is the exact mirror image of the left."""
    brows = _brow_hairs(template, np.random.default_rng(SEED))
    lashes = _lash_hairs(template, np.random.default_rng(SEED + 1))
    rng = np.random.default_rng(SEED + 2)
    hairs: dict[str, list[Hair]] = {}
    parts: dict[str, PartMesh] = {}
    for name, left, polygons, color in (
        ("brows", brows, [[0, 1, 2, 3]], BROW_COLOR),
        ("lashes", lashes, [[0, 1, 3, 2], [2, 3, 4]], LASH_COLOR),
    ):
        hairs[name] = [*left, *(_mirror_hair(hair, template) for hair in left)]
        shades = np.tile(rng.uniform(0.7, 1.35, len(left)), 2)
        meshes = [
            _hair_mesh(hair, polygons if number < len(left) else [p[::-1] for p in polygons], color, shade)
            for number, (hair, shade) in enumerate(zip(hairs[name], shades, strict=True))
        ]
        parts[name] = merge_parts(meshes)
    return attach(hairs, parts, template.vertices)


def _hair_mesh(hair: Hair, polygons: list[list[int]], color: Sequence[float], shade: float) -> PartMesh:
    count = len(hair.vertices)
    colors = np.tile(np.array(color) * shade, (count, 1))
    return PartMesh(hair.vertices, polygons, colors, np.zeros(count, dtype=bool))


def _mirror_hair(hair: Hair, template: Template) -> Hair:
    return Hair(
        hair.vertices * np.array([-1.0, 1.0, 1.0]), template.mirror[hair.anchors], hair.nearness, hair.root_shares
    )


def _brow_hairs(template: Template, rng: np.random.Generator) -> list[Hair]:
    """Hairs of the left brow: upright at its head, swept outwards along it, leaning to the middle line of its tail."""
    low, high = BROW_ENDS
    along = (np.arange(BROW_HAIRS) + rng.uniform(0.1, 0.9, BROW_HAIRS)) / BROW_HAIRS
    along = along**1.3  # denser at the head
    across = rng.permutation(np.linspace(-1.0, 1.0, BROW_HAIRS)) * 0.9
    x = low + (high - 0.35 - low) * along
    z = brow_middle(x) + across * brow_half_height(x) - 0.08
    step = 0.01
    slope = np.arctan2(brow_middle(x + step) - brow_middle(x - step), 2.0 * step)
    lean = np.radians(66.0) * (1.0 - smoothstep(along, -0.05, 0.30)) + np.radians(22.0) * smoothstep(along, 0.0, 0.3)
    lean = lean * (1.0 - 0.55 * smoothstep(along, 0.55, 1.0))
    lean = lean - np.radians(26.0) * across * smoothstep(along, 0.1, 0.4)
    angle = slope + lean + np.radians(7.0) * rng.normal(size=BROW_HAIRS)
    length = (0.56 + 0.26 * smoothstep(along, 0.0, 0.25) - 0.16 * smoothstep(along, 0.7, 1.0)) * rng.uniform(
        0.82, 1.12, BROW_HAIRS
    )
    heading = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    bend = np.stack([np.cos(angle - 0.22), np.sin(angle - 0.22)], axis=1)
    root = np.stack([x, z], axis=1)
    middle = root + 0.5 * length[:, None] * heading
    tip = middle + 0.5 * length[:, None] * bend
    lifted = [_above_skin(place, lift) for place, lift in ((root, 0.005), (middle, 0.075), (tip, 0.055))]
    side = np.cross(lifted[2] - lifted[0], _normals(lifted[1]))
    side *= 0.5 * rng.uniform(0.056, 0.080, BROW_HAIRS)[:, None] / np.linalg.norm(side, axis=1, keepdims=True)
    corners = np.stack([lifted[0], lifted[1] - side, lifted[2], lifted[1] + side], axis=1)
    tree = cKDTree(template.vertices)
    hairs = []
    for vertices in corners:
        distance, anchors = tree.query(vertices[1], _BROW_NEIGHBOURS)
        hairs.append(Hair(vertices, anchors.astype(np.int64), np.exp(-((distance / _BROW_REACH) ** 2)) + 1e-3))
    return hairs


def _above_skin(places: Array, lift: float) -> Array:
    points = cast_from_front(places[:, 0], places[:, 1])
    return points + lift * _normals(points)


def _normals(points: Array) -> Array:
    gradient = field_gradient(points)
    return gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)


def _lash_hairs(template: Template, rng: np.random.Generator) -> list[Hair]:
    """Lashes of the left eye, from the rim of the lids forwards and in a curve away from the opening."""
    rings = [template.rings["eyelid"][number] for number in _LASH_RINGS]
    hairs = []
    for count, (start, stop), lengths, lift in (
        (UPPER_LASHES, _UPPER_SPAN, (0.46, 1.02), 1.0),
        (LOWER_LASHES, _LOWER_SPAN, (0.25, 0.44), -1.0),
    ):
        share = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
        for at, part in zip(start + (stop - start) * share, share, strict=True):
            outer = part if lift > 0 else 1.0 - part
            length = (lengths[0] + (lengths[1] - lengths[0]) * np.sin(np.pi * (0.12 + 0.60 * outer))) * rng.uniform(
                0.85, 1.08
            )
            j, t = int(at), at - int(at)
            steps = np.arange(-2, 4)
            near = (j + steps) % LID_POINTS
            between = np.where(steps == 0, 1.0 - t, 0.0) + np.where(steps == 1, t, 0.0)
            shares = np.concatenate([between * part for part in (1.0 - _RIM_SHARE, _RIM_SHARE, 0.0)])
            anchors = np.concatenate([ring[near] for ring in rings])
            root = shares @ template.vertices[anchors]
            tangent = template.vertices[rings[1][near[3]]] - template.vertices[rings[1][near[2]]]
            fan = (outer - 0.42) * 0.95 + 0.10 * rng.normal()
            vertices = _lash(root, tangent, float(length), lift, fan, rng.uniform(0.040, 0.054), rng.uniform(-1, 1))
            nearness = np.exp(-(((steps - t) / 1.3) ** 2))
            nearness = np.concatenate([nearness * part for part in (1.0, 1.0, 0.25)])
            hairs.append(Hair(vertices, anchors, nearness, shares))
    return hairs


def _lash(root: Array, along: Array, length: float, lift: float, fan: float, width: float, turn: float) -> Array:
    """Return the 5 vertices of one lash; `turn` in radians is that of the strip about itself."""
    outward = root - profile.EYE_CENTER
    outward = outward / np.linalg.norm(outward)
    across = along - (along @ outward) * outward
    across = across / np.linalg.norm(across) * np.sign(along[0])
    upward = np.cross(across, outward)
    upward = upward * np.sign(upward[2]) * lift
    forward = outward + np.array([0.0, 0.45, 0.0])
    first = forward - 0.22 * upward + 0.35 * fan * across
    curl = 0.80 if lift > 0 else 0.65
    last = 0.72 * forward + curl * upward + fan * across
    first, last = (v / np.linalg.norm(v) for v in (first, last))
    control = root + 0.45 * length * first
    tip = root + 0.30 * length * first + 0.70 * length * last
    middle = 0.25 * root + 0.5 * control + 0.25 * tip
    # Strips of one orientation would vanish when seen edge-on.
    side = 0.5 * width * (np.cos(turn) * across + np.sin(turn) * np.cross(across, tip - root) / length)
    return np.stack([root - side, root + side, middle - 0.7 * side, middle + 0.7 * side, tip])
