"""Lip motions: displacements given on the mouth rings, filled over the lower face by a biharmonic solve (cm)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.field_solver import FieldSolver
from torch_backend.head.profile_curves import MOUTH_HALF_WIDTH, lip_lines
from torch_backend.head.rings import MOUTH_POINTS
from torch_backend.head.skin_labels import SkinLabels

HANDLE_RINGS = (-3, 7)
"""Mouth rings whose displacement is prescribed."""
LAST_BAG_RING = -5
"""Rings up to this one are the still mouth bag."""
REACH = 3.4
"""How far, in mouth-shaped distance, a lip motion spreads."""
CORNER_RAISE = (0.28, 0.10, 0.50)
"""How far mouthClose moves the corner out, forward and up, cm."""
CLOSE_REACH = 3.9
"""The same for mouthClose, which moves farther than any other shape."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class LipPoints:
    """The handle vertices and their lip coordinates."""

    position: Array
    """(N, 3) rest positions."""
    corner: Array
    """(N,) 0 at the midline .. 1 at the corner."""
    sign: Array
    """(N,) sign of x."""
    side: Array
    """(N,) +1 upper lip, -1 lower lip, 0 corner."""
    ring: Array
    """(N,) ring number as float, 0 on the contact line."""
    height: Array
    """(N,) z above the contact line."""

    def sided(self, side: int) -> Array:
        """Return the share (N,) of a one-sided shape: side +1 left, -1 right, 0 both."""
        return np.ones(len(self.corner)) if side == 0 else smoothstep(side * self.position[:, 0], -0.6, 0.6)


@dataclass(frozen=True)
class LipMove:
    """One lip shape, in cm at weight 1: x outwards, f forward, z up."""

    upper: Vector = (0.0, 0.0, 0.0)
    """Displacement of the upper lip's middle."""
    lower: Vector = (0.0, 0.0, 0.0)
    """Displacement of the lower lip's middle."""
    corner: Vector = (0.0, 0.0, 0.0)
    """Displacement of the corner; x points outwards on either side."""
    roll_upper: float = 0.0
    roll_lower: float = 0.0
    """Turn of a lip inwards about its vermilion border."""
    press: float = 0.0
    """Flattening of both lips against each other."""
    fullness: float = field(default=2.0)
    """Exponent of the fall-off from the middle to the corner."""


class LipField:
    """Turns handle displacements on the mouth rings into displacements (V, 3) of the whole skin."""

    def __init__(self, labels: SkinLabels, solver: FieldSolver) -> None:
        self._labels = labels
        self._solver = solver
        x, f, z = labels.vertices.T
        self._distance = np.sqrt((x / 1.45) ** 2 + (z + 6.9) ** 2 + ((f - 9.3) / 1.7) ** 2)
        ring = labels.mouth_ring
        self._handles = (ring >= HANDLE_RINGS[0]) & (ring <= HANDLE_RINGS[1])
        at = self._handles
        self.points = LipPoints(
            position=labels.vertices[at],
            corner=labels.corner_coordinate[at],
            sign=np.sign(x[at]),
            side=labels.lip_side[at],
            ring=ring[at].astype(np.float64),
            height=z[at] - lip_lines(x[at])[0],
        )

    def fill(self, handle_offsets: Array, reach: float = REACH) -> Array:
        """Spread handle displacements (N, 3), given in the order of `points`, over the skin."""
        labels = self._labels
        still = (self._distance > reach) | (labels.vertices[:, 2] > -4.0)
        still |= labels.on_mouth & (labels.mouth_ring <= LAST_BAG_RING)
        offsets = np.zeros_like(labels.vertices)
        offsets[self._handles] = handle_offsets
        return self._solver.fill(self._handles | still, offsets)

    def move(self, shape: LipMove, side: int = 0) -> Array:
        """Return the displacements (V, 3) of a lip shape on one side (+1 left, -1 right) or both (0)."""
        p = self.points
        upper, lower = (p.side > 0).astype(float), (p.side < 0).astype(float)
        middle = 1.0 - p.corner**shape.fullness
        offsets = np.zeros_like(p.position)
        corner_share = p.corner**1.7 * (1.0 - 0.05 * np.clip(p.ring, 0.0, 8.0))
        for axis in range(3):
            outward = p.sign if axis == 0 else 1.0
            spread = p.corner if axis == 0 else 1.0
            offsets[:, axis] = (upper * shape.upper[axis] + lower * shape.lower[axis]) * middle * outward * spread
            offsets[:, axis] += shape.corner[axis] * corner_share * outward
        # The edge itself hardly rises: higher, a rolled lip would pass through the other one.
        edge = 1.0 - np.clip(p.ring, 0.0, 6.0) / 6.0
        roll_back = 0.15 + 0.75 * edge
        offsets[:, 1] -= (lower * shape.roll_lower + upper * shape.roll_upper) * middle * roll_back
        offsets[:, 2] += lower * shape.roll_lower * middle * (0.015 + 0.735 * (1.0 - edge))
        offsets[:, 2] -= upper * shape.roll_upper * middle * 0.75 * (1.0 - edge)
        offsets[:, 2] -= shape.press * 0.45 * p.height * (1.0 - p.corner**4)
        # Pressed lips draw in, the ring of muscle round them swells.
        offsets[:, 1] -= shape.press * (0.16 - 0.20 * smoothstep(p.ring, 3.0, 7.0)) * (1.0 - p.corner**2)
        return self.fill(offsets * p.sided(side)[:, None])

    def pucker(self, amount: float, forward: float, part: float, evert: float) -> Array:
        """Return the displacements (V, 3) of rounded lips.

        Args:
            amount: scale of the whole; 1 narrows the mouth by 44 %.
            forward: protrusion at amount 1, cm.
            part: how far each lip leaves the contact line at amount 1, cm.
            evert: how much the lips turn outwards, 0..1.
        """
        p = self.points
        outer = np.clip(p.ring / 6.0, 0.0, 1.2)
        offsets = np.zeros_like(p.position)
        offsets[:, 0] = -0.44 * p.position[:, 0] * (1.0 - 0.12 * outer)
        offsets[:, 1] = forward * (1.0 - 0.15 * outer) + 0.35 * forward * p.corner**2
        offsets[:, 1] += 0.5 * evert * np.sin(np.clip(p.ring, 0.0, 6.0) / 6.0 * np.pi) - 0.3 * evert * (p.ring < 0)
        offsets[:, 2] = 0.6 * evert * p.height + p.side * part * (1.0 - p.corner**2)
        return self.fill(amount * offsets)

    def stretch(self, out: float, back: float, up: float, thin: float, side: int) -> Array:
        """Return the displacements (V, 3) of a mouth corner drawn outwards (cm), the lips thinned by a share."""
        p = self.points
        pull = p.corner**1.3
        offsets = np.stack([p.sign * out * pull, back * pull**1.3 - 0.05, up * pull**1.6 - thin * p.height], axis=-1)
        return self.fill(offsets * p.sided(side)[:, None])

    def shift(self, side: int) -> Array:
        """Return the displacements (V, 3) of the mouth moved to one side (+1 left, -1 right)."""
        p = self.points
        toward = side * p.position[:, 0]
        offsets = np.zeros_like(p.position)
        offsets[:, 0] = 1.0 * side
        offsets[:, 1] = 0.05 - 0.22 * smoothstep(toward, 0.0, 0.8) * p.corner**2
        offsets[:, 2] = 0.16 * toward / MOUTH_HALF_WIDTH
        return self.fill(offsets)

    def narrow(self, inward: float, back: float) -> Array:
        """Return the displacements (V, 3) of both corners moved in and back by the given cm."""
        p = self.points
        fade = 1.0 - np.clip(p.ring / 14.0, 0.0, 1.0)
        offsets = np.zeros_like(p.position)
        offsets[:, 0] = -p.sign * p.corner**2 * inward * fade
        offsets[:, 1] = -back * p.corner**2
        return self.fill(offsets)

    def seal(self, opened: Array, lower_share: float = 0.82) -> Array:
        """Return displacements (V, 3) that close the lips when added to `opened` (V, 3), exactly on the contact ring.

        Because both are linear in their weight, equal weights of the opening and the seal close the lips at any weight.

        Args:
            opened: displacements of an opening shape, mirror symmetric.
            lower_share: how much of the gap the lower lip takes; the upper lip takes the rest.
        """
        labels, p = self._labels, self.points
        half = (MOUTH_POINTS - 1) // 2
        left = labels.contact_pairs[-half:]
        along = labels.corner_coordinate[left[:, 0]]
        gap = opened[left[:, 0]] - opened[left[:, 1]]
        # The gap is zero at the corner, which both lips share.
        along, gap = np.append(along, 1.0), np.concatenate([gap, np.zeros((1, 3))])
        here = np.stack([np.interp(p.corner, along, gap[:, axis]) for axis in range(3)], axis=-1)
        here[:, 0] *= p.sign
        upper, lower = (p.side > 0)[:, None], (p.side < 0)[:, None]
        offsets = np.where(upper, -here * (1.0 - lower_share), 0.0) + np.where(lower, here * lower_share, 0.0)
        offsets[:, 1] += 0.12 * (1.0 - p.corner**2)
        # Both lips rise alike towards the corner: the closed line would droop there.
        raised = p.corner**2 * (1.0 - 0.04 * np.clip(p.ring, 0.0, 8.0))
        offsets += raised[:, None] * np.array(CORNER_RAISE) * np.stack([p.sign, 1.0 + 0 * p.sign, 1.0 + 0 * p.sign], -1)
        return self.fill(offsets, CLOSE_REACH)
