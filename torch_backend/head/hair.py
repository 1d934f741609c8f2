"""Short hair with a side parting, combed by rules with a fixed seed; `python -m torch_backend.head.hair` freezes it.

Strands are traced over the implicit skin: each runs along the combing direction at a height above the scalp that its
place and its layer give it, then leans to the strand in the middle of its lock. They are no part of the head's
vertices: nothing moves them against the skull, so a clip carries them once (author space, cm, while they are made).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torch_backend.head.author_space import Array, author_to_backend, smoothstep
from torch_backend.head.identity import warp_points
from torch_backend.head.implicit_surface import field_gradient, project_to_skin, skin_field
from torch_backend.head.rings import ear_rings
from torch_backend.head.template import surface_candidates

logger = logging.getLogger(__name__)

HAIR_PATH = Path(__file__).with_name("hair.npy")
SEED = 5
NUM_STRANDS = 7200
NUM_POINTS = 8
"""Of a strand."""
NUM_LOCKS = 420
PARTING_X = 2.5
"""x of the parting, on the head's left."""
_CLEARANCE = 0.05
_EAR_CLEARANCE = 0.22
_SPARE_STRANDS = 300
"""Traced beyond NUM_STRANDS, in place of those that would run through an ear."""
_HAIRLINE = ((-3.2, -4.9), (-2.4, -2.4), (-1.9, 0.9), (0.5, 1.1), (0.7, -1.3), (1.5, -1.2), (1.9, 1.5), (3.6, 3.2),
             (5.0, 5.2), (7.0, 6.2), (9.0, 6.5))  # fmt: skip
"""(f, z) of the lowest hairs: nape, behind and above the ear, sideburn, temple, forehead."""


@lru_cache(maxsize=1)
def load_hair() -> NDArray[np.float32] | None:
    """Return the strands (S, P, 3) of the mean head, root first, backend metres; None where they do not ship."""
    if not HAIR_PATH.is_file():
        return None
    strands = np.load(HAIR_PATH, allow_pickle=False).astype(np.float32)
    strands.setflags(write=False)
    return strands


def hair_of_identity(parameters: Mapping[str, float]) -> NDArray[np.float32] | None:
    """Return the strands (S, P, 3) on an identity's head, backend metres; None where no hair ships.

    Raises:
        ValueError: when a parameter is unknown or out of range.
    """
    strands = load_hair()
    if strands is None or not any(parameters.values()):
        return strands
    # Identities bend space gently: a parabola through three points of a strand is within 0.1 mm of all of them.
    num_points = strands.shape[1]
    nodes = [0, num_points // 2, num_points - 1]
    moved = warp_points(strands[:, nodes].reshape(-1, 3), parameters).reshape(len(strands), 3, 3)
    return (strands + np.einsum("np,snc->spc", _parabola(num_points, nodes), moved - strands[:, nodes])).astype(
        np.float32
    )


def _parabola(num_points: int, nodes: list[int]) -> Array:
    """Return Lagrange's weights (3, P) of three nodes at the points 0 .. P - 1."""
    places = np.arange(num_points)
    factors = [[(places - other) / (node - other) for other in nodes if other != node] for node in nodes]
    return np.array([np.prod(each, axis=0) for each in factors])


def hairline_height(forward: Array) -> Array:
    """Return z of the lowest hairs at f (any shape), without their irregularity."""
    return np.interp(forward, *np.array(_HAIRLINE).T)


def hair_cover(points: Array) -> Array:
    """Return how densely hair grows at skin points (n, 3), 0..1."""
    x, f, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    ragged = 0.10 * np.sin(2.1 * points[:, 0] + 0.7) + 0.07 * np.sin(5.3 * x + 3.0 * f)
    inner = np.exp(-(((x - 4.6) / 0.9) ** 2)) * (f > 3.0) * 0.25  # the temples recede a little
    cover = smoothstep(z - hairline_height(f) - ragged - inner, -0.25, 0.55)
    under_ear = np.hypot((f + 0.85) / 1.25, (z + 1.35) / 2.35) < 1.0
    return cover * ~(under_ear & (x > 4.5))


def build_hair() -> NDArray[np.float32]:
    """Return the strands (S, P, 3) of the mean head, root first, backend metres; takes some seconds."""
    rng = np.random.default_rng(SEED)
    roots = _roots(rng)
    layer = rng.uniform(0.12, 1.0, len(roots)) ** 0.8
    heading = _turned(roots, _combing(roots), np.radians(5.0) * rng.normal(size=len(roots)) + _waves(roots))
    length = _lengths(roots) * rng.uniform(0.78, 1.05, len(roots))
    strands = _trace(roots, heading, length, _volume(roots) * layer)
    strands = _gather_locks(strands, heading, rng)
    strands = _keep_outside(strands)
    strands = strands[_distance_to_ears(strands) > _EAR_CLEARANCE][:NUM_STRANDS]
    if len(strands) < NUM_STRANDS:
        raise ValueError(f"expected {NUM_STRANDS} strands beside the ears, got {len(strands)}")
    return author_to_backend(strands).astype(np.float32)


def _distance_to_ears(strands: Array) -> Array:
    """Return how near (S,) strands come to the middle of an ear's folds, cm."""
    rings, _ = ear_rings()
    left = np.concatenate(rings[3:])
    tree = cKDTree(np.concatenate([left, left * np.array([-1.0, 1.0, 1.0])]))
    return tree.query(strands.reshape(-1, 3))[0].reshape(len(strands), -1).min(axis=1)


def _roots(rng: np.random.Generator) -> Array:
    half = surface_candidates()
    half = half[hair_cover(half) > 0.02]
    points = np.concatenate([half, half * np.array([-1.0, 1.0, 1.0])])
    # Candidates crowd where the surface runs along the grid; thinning by distance evens them out.
    points = points[rng.permutation(len(points))]
    taken = np.zeros(len(points), dtype=bool)
    blocked = np.zeros(len(points), dtype=bool)
    tree = cKDTree(points)
    for index, near in enumerate(tree.query_ball_point(points, 0.145)):
        if not blocked[index]:
            taken[index] = True
            blocked[near] = True
    points = points[taken]
    nape = smoothstep(-points[:, 1], 1.5, 4.0) * (
        1.0 - smoothstep(points[:, 2] - hairline_height(points[:, 1]), 0.3, 1.8)
    )
    points = points[rng.uniform(size=len(points)) < hair_cover(points) * (1.0 - 0.7 * nape)]
    wanted = NUM_STRANDS + _SPARE_STRANDS
    chosen = rng.choice(len(points), wanted, replace=len(points) < wanted)
    jitter = 0.06 * rng.normal(size=(wanted, 3))
    return project_to_skin(points[chosen] + jitter, 3)


def _normals(points: Array) -> Array:
    gradient = field_gradient(points)
    return gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-9)


def _combing(points: Array) -> Array:
    """Return the direction (n, 3) that hair at points is combed in; its length means nothing."""
    normal = _normals(points)
    x, f, z = points.T
    # Over the forehead nothing is combed down into the face.
    top = np.maximum(smoothstep(normal[:, 2], 0.30, 0.78), smoothstep(f, 3.5, 6.0) * smoothstep(z, 4.6, 5.8))
    back = smoothstep(-normal[:, 1], 0.1, 0.7)
    burn = smoothstep(f, 0.0, 0.8) * (1.0 - smoothstep(z, 0.8, 2.4)) * (np.abs(x) > 4.5)
    side = np.tanh((x - PARTING_X) / 0.35) * smoothstep(f, -4.0, 0.0)
    ones = np.ones_like(x)
    over = np.stack([0.95 * side, -0.62 * ones, -0.25 * np.abs(side)], axis=1)
    down = np.stack([0.0 * x, -0.62 + 0.45 * back, -0.85 * ones], axis=1)
    straight = np.stack([0.0 * x, -0.12 * ones, -ones], axis=1)
    direction = top[:, None] * over + (1.0 - top)[:, None] * ((1.0 - burn)[:, None] * down + burn[:, None] * straight)
    tangent = direction - (direction * normal).sum(axis=1, keepdims=True) * normal
    return tangent / np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)


def _waves(points: Array) -> Array:
    """Return slow turns (n,) of the combing in radians, so that neighbouring locks differ."""
    x, f, z = points.T
    waves: Array = (
        0.16 * np.sin(1.9 * x + 0.8 * f) + 0.12 * np.sin(1.3 * f - 2.3 * z + 1.0) + 0.08 * np.sin(4.1 * x - z)
    )
    return waves


def _turned(points: Array, direction: Array, angle: Array) -> Array:
    normal = _normals(points)
    return np.cos(angle)[:, None] * direction + np.sin(angle)[:, None] * np.cross(normal, direction)


def _is_top(points: Array) -> Array:
    return smoothstep(points[:, 2], 4.6, 7.6)


def _lengths(points: Array) -> Array:
    _, f, z = points.T
    sides = np.interp(z, [-5.0, -2.0, 0.5, 3.0, 5.5], [0.55, 0.75, 1.1, 1.7, 2.6])
    top = 3.6 + 1.1 * smoothstep(f, 0.0, 7.0) - 0.5 * smoothstep(-f, 2.0, 7.0)
    part = _is_top(points)
    short = 1.0 - 0.35 * (1.0 - smoothstep(z - hairline_height(f), 0.0, 1.0)) * (1.0 - part)
    lengths: Array = (part * top + (1.0 - part) * sides) * short
    return lengths


def _volume(points: Array) -> Array:
    """Return how high (n,) the outermost hairs lie above the scalp, cm."""
    x, f, z = points.T
    front = 1.0 - 0.72 * smoothstep(f, 2.0, 5.5) * (1.0 - smoothstep(z - hairline_height(f), 0.2, 3.0))
    top = (0.95 + 0.45 * smoothstep(f, 1.0, 6.5)) * front
    gap = 1.0 - 0.75 * np.exp(-(((x - PARTING_X) / 0.45) ** 2)) * smoothstep(f, -2.5, 0.5)
    sides = np.interp(z, [-5.0, -2.0, 1.0, 4.0, 6.0], [0.10, 0.16, 0.32, 0.6, 0.85])
    part = _is_top(points)
    volume: Array = (part * top + (1.0 - part) * sides) * gap
    return volume


def _trace(roots: Array, heading: Array, length: Array, height: Array) -> Array:
    """Return strands (S, P, 3) that run over the skin and rise to `height` above it."""
    points = [roots]
    current, direction = roots, heading
    step = (length / (NUM_POINTS - 1))[:, None]
    for number in range(1, NUM_POINTS):
        t = number / (NUM_POINTS - 1)
        combed = _combing(current)
        direction = 0.65 * direction + 0.35 * combed
        normal = _normals(current)
        direction = direction - (direction * normal).sum(axis=1, keepdims=True) * normal
        direction = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
        wanted = height * (1.0 - (1.0 - t) ** 2.4) * (1.0 - 0.30 * t**2) + _CLEARANCE
        rise = np.clip(wanted - skin_field(current), -1.0, 1.0)[:, None] * normal
        rise = rise * np.minimum(1.0, 0.85 * step / np.maximum(np.linalg.norm(rise, axis=1, keepdims=True), 1e-9))
        along = np.sqrt(np.maximum(step**2 - (rise**2).sum(axis=1, keepdims=True), 0.0))
        current = current + along * direction + rise
        points.append(current)
    return np.stack(points, axis=1)


def _gather_locks(strands: Array, heading: Array, rng: np.random.Generator) -> Array:
    """Lean strands towards the strand in the middle of their lock, the more the nearer to the tip."""
    middles = rng.choice(len(strands), NUM_LOCKS, replace=False)
    features = np.concatenate([strands[:, 0], 1.2 * heading], axis=1)
    lock = middles[cKDTree(features[middles]).query(features)[1]]
    t = np.linspace(0.0, 1.0, NUM_POINTS)[None, :, None]
    spread = (strands[:, :1] - strands[lock][:, :1]) * (1.0 - 0.55 * t)
    pull = 0.55 * t * rng.uniform(0.5, 1.0, len(strands))[:, None, None]
    return strands + pull * (strands[lock] + spread - strands)


def _keep_outside(strands: Array) -> Array:
    flat = strands[:, 1:].reshape(-1, 3)
    for _ in range(2):
        missing = np.maximum(0.5 * _CLEARANCE - skin_field(flat), 0.0)
        flat = flat + missing[:, None] * _normals(flat)
    return np.concatenate([strands[:, :1], flat.reshape(len(strands), -1, 3)], axis=1)


def main() -> None:
    """Comb the built-in head's hair and freeze it."""
    parser = argparse.ArgumentParser(description="Comb the hair of the built-in head.")
    parser.add_argument("--output", type=Path, default=HAIR_PATH, help="npy file to write")
    output = parser.parse_args().output
    logging.basicConfig(level=logging.INFO)
    strands = build_hair()
    np.save(output, strands.astype(np.float16), allow_pickle=False)
    logger.info("%s: %d strands, %.2f MB", output, len(strands), output.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
