"""The 52 ARKit blendshapes of the skin, each from named motions of jaw, lips, lids and patches (author space, cm).

One-sided shapes are authored on the left and mirrored, so left and right agree exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from torch_backend.head.author_space import Array, smoothstep
from torch_backend.head.blink import move_lids
from torch_backend.head.field_solver import FieldSolver
from torch_backend.head.implicit_surface import frontal_ridge
from torch_backend.head.jaw import (
    CORNER_PULL,
    JAW_SHIFT,
    JAW_SHIFT_OPENS,
    compute_jaw_weights,
    open_jaw,
    smooth_over_mesh,
)
from torch_backend.head.lip_field import LipField, LipMove, Vector
from torch_backend.head.skin_labels import NOT_ON_RING, SkinLabels

LID_RING_SHARE = (0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.45, 0.7, 0.9, 1.0)
"""How much of a patch's motion each eyelid ring takes, from the lid's inside outwards: patches must not open lids."""


CORNER_RELAX_CENTER = (3.0, 0.0, 6.9)
"""x and depth below the eyes of the skin that mouthClose relaxes, cm."""
CORNER_RELAX_RADIUS = 1.9
CORNER_RELAX_PASSES = 300


@dataclass(frozen=True)
class Patch:
    """A Gaussian patch of skin that moves as one: centre, radii and displacement (cm), on the left side."""

    center: Vector
    radii: Vector
    offset: Vector


@dataclass(frozen=True)
class Furrow:
    """A line of skin, seen from the front, that sinks or swells as one on the left side (cm)."""

    start: tuple[float, float]
    """(x, z) of the line's ends."""
    stop: tuple[float, float]
    width: float
    """Gaussian half width of the band."""
    offset: Vector
    """Displacement on the line itself."""


SMILE_FOLDS = (
    Furrow((1.95, -3.65), (3.25, -5.9), 0.32, (-0.03, -0.34, 0.02)),
    Furrow((2.85, -3.6), (4.0, -5.0), 0.80, (0.10, 0.46, 0.26)),
)
"""The naso-labial fold of a smile: the furrow itself, and the cheek that swells beside it."""
DIMPLE = (
    Furrow((3.3, -6.0), (3.25, -7.2), 0.36, (-0.12, -0.27, 0.0)),
    Furrow((4.1, -5.5), (4.0, -7.3), 0.65, (0.16, 0.26, 0.0)),
)
"""The dimple beside a tucked mouth corner, and the cheek round it."""

FROWN = (
    Furrow((2.75, -7.2), (2.95, -8.7), 0.34, (-0.04, -0.20, 0.0)),
    Furrow((3.6, -7.2), (3.6, -8.6), 0.60, (0.04, 0.14, -0.06)),
)
"""The line from a lowered mouth corner to the jaw, and the pouch beside it."""
OPEN_CHEEK = Patch((4.3, 5.4, -5.2), (1.5, 2.6, 2.6), (-0.42, -0.16, -0.30))
"""How the cheek is drawn in and down over an open jaw."""


class ExpressionBuilder:
    """Builds displacements (V, 3) of the skin for each blendshape."""

    def __init__(self, labels: SkinLabels, normals: Array) -> None:
        self._labels = labels
        self._vertices = labels.vertices
        self._solver = FieldSolver(labels.vertices, labels.triangles)
        self._lips = LipField(labels, self._solver)
        self.jaw_weights = compute_jaw_weights(labels, normals, self._solver)
        share = np.ones(len(self._vertices))
        for ring, value in enumerate(LID_RING_SHARE):
            share[labels.eyelid_ring == ring] = value
        share[(labels.mouth_ring > NOT_ON_RING) & (labels.mouth_ring < 0)] = 0.0
        self._patch_share = share

    def patch(self, *patches: Patch, side: int = 1) -> Array:
        """Return the sum of Gaussian patches on the left (side 1) or both sides (side 0)."""
        total = np.zeros_like(self._vertices)
        for one in patches:
            for sign in (1.0, -1.0) if side == 0 else (1.0,):
                flip = np.array([sign, 1.0, 1.0])
                distance = (self._vertices - np.array(one.center) * flip) / np.array(one.radii)
                weight = np.exp(-(distance**2).sum(axis=1)) * self._patch_share
                total += weight[:, None] * np.array(one.offset) * flip
        return total

    def furrows(self, *lines: Furrow) -> Array:
        """Return the sum of furrows on the left side of the face."""
        x, f, z = self._vertices.T
        total = np.zeros_like(self._vertices)
        for line in lines:
            weight = frontal_ridge(x, z, line.start, line.stop, line.width) * self._patch_share
            total += (weight * (f > 4.0) * smoothstep(x, 0.0, 1.0))[:, None] * np.array(line.offset)
        return total

    def jaw(self, rigid: Array) -> Array:
        """Return a rigid motion's displacements (V, 3) weighted by the jaw weights."""
        return rigid * self.jaw_weights[:, None]

    def build(self) -> dict[str, Array]:
        """Return displacements (V, 3) of all 52 blendshapes by name."""
        left = {**self._brow_and_eye_shapes(), **self._cheek_and_nose_shapes(), **self._mouth_side_shapes()}
        shapes = self._whole_mouth_shapes()
        for stem, offsets in left.items():
            shapes[stem + "Left"] = offsets
            shapes[stem + "Right"] = self._mirrored(offsets)
        shapes["browInnerUp"] = self._symmetric(
            self.patch(Patch((1.6, 9.4, 2.2), (1.5, 2.0, 1.4), (0.05, -0.05, 0.60)), side=0)
        )
        shapes["tongueOut"] = np.zeros_like(self._vertices)
        return {name: shapes[name] for name in ARKIT_BLENDSHAPES}

    def _mirrored(self, offsets: Array) -> Array:
        return offsets[self._labels.mirror] * np.array([-1.0, 1.0, 1.0])

    def _symmetric(self, offsets: Array) -> Array:
        return 0.5 * (offsets + self._mirrored(offsets))

    def _lids(self, amount: float, **options: bool | float) -> Array:
        return move_lids(self._vertices, amount, 1, **options)  # type: ignore[arg-type]

    def _brow_and_eye_shapes(self) -> dict[str, Array]:
        lower_lid = self._lids(1.0, upper=False, meeting=0.40)
        no_motion = np.zeros_like(self._vertices)
        return {
            "browDown": self.patch(
                Patch((2.0, 9.3, 2.1), (1.7, 2.0, 1.1), (-0.22, 0.05, -0.50)),
                Patch((4.2, 8.3, 2.5), (1.5, 2.0, 1.0), (0.0, 0.0, -0.30)),
            ),
            "browOuterUp": self.patch(Patch((4.3, 8.2, 2.6), (1.9, 2.5, 1.4), (0.0, -0.10, 0.62))),
            "eyeBlink": self._lids(1.0) + self.patch(Patch((3.3, 8.0, -1.7), (1.7, 1.6, 0.8), (0.0, 0.06, 0.12))),
            "eyeSquint": lower_lid
            + self._lids(0.18)
            + self.patch(Patch((3.4, 7.9, -1.7), (1.7, 2.0, 1.0), (0.0, 0.10, 0.28))),
            "eyeWide": self._lids(-0.42) + self.patch(Patch((3.2, 8.5, 2.4), (1.9, 2.0, 1.0), (0.0, 0.0, 0.24))),
            "eyeLookDown": self._lids(0.34, meeting=0.0, overlap=False) - 0.25 * lower_lid,
            "eyeLookUp": self._lids(-0.18),
            "eyeLookIn": no_motion,
            "eyeLookOut": no_motion,
        }

    def _cheek_and_nose_shapes(self) -> dict[str, Array]:
        return {
            "cheekSquint": self.patch(Patch((3.6, 7.6, -2.5), (1.8, 2.2, 1.4), (0.05, 0.34, 0.74)))
            + 0.55 * self._lids(1.0, upper=False, meeting=0.35),
            "noseSneer": self.patch(
                Patch((1.35, 9.8, -3.4), (0.9, 1.3, 1.0), (0.12, -0.02, 0.52)),
                Patch((2.1, 9.0, -3.0), (1.1, 1.6, 1.8), (-0.02, 0.16, 0.36)),
                Patch((1.5, 9.6, -5.2), (1.1, 1.4, 0.7), (0.0, 0.06, 0.34)),
                Patch((0.9, 9.2, -0.9), (0.7, 1.2, 0.8), (-0.05, 0.10, 0.16)),
                Patch((1.7, 9.2, 1.8), (1.2, 1.5, 0.9), (-0.08, 0.04, -0.20)),
            )
            + 0.75 * self.furrows(SMILE_FOLDS[0]),
        }

    def _mouth_side_shapes(self) -> dict[str, Array]:
        lips = self._lips
        lower_lid = self._lids(1.0, upper=False, meeting=0.40)
        smile = LipMove(upper=(0, -0.14, 0.02), lower=(0, -0.14, 0.0), corner=(0.90, -0.70, 1.12), fullness=3.0)
        frown = LipMove(upper=(0, 0.04, 0.06), lower=(0, 0.06, 0.06), corner=(0.18, -0.14, -0.98))
        return {
            "mouthSmile": lips.move(smile, side=1)
            + self.patch(
                Patch((3.8, 7.3, -3.9), (1.8, 2.3, 1.7), (0.36, 0.46, 0.84)),
                Patch((3.6, 7.8, -2.2), (1.7, 2.0, 1.0), (0.03, 0.18, 0.40)),
            )
            + self.furrows(*SMILE_FOLDS)
            + 0.34 * lower_lid,
            "mouthFrown": lips.move(frown, side=1) + self.furrows(*FROWN),
            "mouthDimple": lips.move(LipMove(corner=(0.62, -0.72, 0.14)), side=1) + self.furrows(*DIMPLE),
            "mouthStretch": lips.stretch(out=1.05, back=-0.62, up=0.10, thin=0.18, side=1),
            "mouthUpperUp": lips.move(LipMove(upper=(0, 0.06, 0.48), corner=(0, 0, 0.10)), side=1)
            + self.patch(Patch((2.3, 9.2, -4.4), (1.0, 1.4, 1.0), (0.05, 0.08, 0.15))),
            "mouthLowerDown": lips.move(LipMove(lower=(0.05, 0.02, -0.50), corner=(0, 0, -0.08)), side=1),
            "mouthPress": lips.move(LipMove(press=1.0), side=1),
        }

    def _whole_mouth_shapes(self) -> dict[str, Array]:
        lips, vertices = self._lips, self._vertices
        symmetric: dict[str, Callable[[], Array]] = {
            "jawOpen": lambda: self.jaw(open_jaw(vertices)) + lips.narrow(*CORNER_PULL) + self._open_cheek(),
            "jawForward": lambda: self.jaw(
                np.tile([0.0, JAW_SHIFT, 0.0], (len(vertices), 1)) + 0.5 * JAW_SHIFT_OPENS * open_jaw(vertices)
            ),
            "mouthFunnel": lambda: lips.pucker(0.62, forward=0.75, part=0.62, evert=0.5),
            "mouthPucker": lambda: lips.pucker(1.0, forward=0.75, part=0.0, evert=0.25),
            "mouthRollLower": lambda: lips.move(LipMove(roll_lower=0.55)),
            "mouthRollUpper": lambda: lips.move(LipMove(roll_upper=0.50)),
            "mouthShrugLower": lambda: (
                lips.move(LipMove(lower=(0, 0.22, 0.30), upper=(0, 0.12, 0.30)))
                + self.patch(Patch((0.0, 9.7, -9.1), (1.7, 1.4, 0.75), (0.0, 0.06, 0.30)))
            ),
            "mouthShrugUpper": lambda: lips.move(LipMove(upper=(0, 0.16, 0.30))),
            "cheekPuff": lambda: (
                self.patch(Patch((3.7, 6.6, -6.2), (1.8, 2.4, 1.9), (0.80, 0.62, 0.0)), side=0)
                + lips.move(LipMove(press=0.5))
            ),
        }
        shapes = {name: self._symmetric(make()) for name, make in symmetric.items()}
        shapes["mouthClose"] = self._symmetric(
            self._without_corner_kink(shapes["jawOpen"], lips.seal(shapes["jawOpen"]))
        )
        self._seal_exactly(shapes)
        # A jaw that shifts drops a little, or the lower lip's curve would slide into the upper lip's.
        sideways = self.jaw(np.tile([JAW_SHIFT, 0.0, 0.0], (len(vertices), 1)))
        shapes["jawLeft"] = sideways + JAW_SHIFT_OPENS * shapes["jawOpen"]
        shapes["mouthLeft"] = lips.shift(1)
        shapes["jawRight"] = self._mirrored(shapes["jawLeft"])
        shapes["mouthRight"] = self._mirrored(shapes["mouthLeft"])
        return shapes

    def _open_cheek(self) -> Array:
        """Return how the cheeks go with an open jaw (V, 3): neither lips, what is rigid with the jaw, nor eyes move."""
        free = (1.0 - self.jaw_weights) * ~self._labels.on_mouth
        free = free * (1.0 - smoothstep(self._vertices[:, 2], -3.2, -1.8))
        return free[:, None] * self.patch(OPEN_CHEEK, side=0)

    def _without_corner_kink(self, opened: Array, sealed: Array) -> Array:
        """Return the seal (V, 3) with the skin relaxed beside the mouth corners, where it would fold."""
        ring = self._labels.mouth_ring
        free = ~self._labels.on_mouth | (ring > 6) | ((ring >= 2) & (self._labels.corner_coordinate > 0.9))
        posed = opened + sealed
        relaxed = smooth_over_mesh(posed, self._labels.triangles, free, CORNER_RELAX_PASSES)
        distance = (np.abs(self._vertices) - np.array(CORNER_RELAX_CENTER)) * [1, 0, 1]
        window = np.exp(-((np.linalg.norm(distance, axis=1) / CORNER_RELAX_RADIUS) ** 4)) * (self._vertices[:, 1] > 4.0)
        return sealed + window[:, None] * (relaxed - posed)

    def _seal_exactly(self, shapes: dict[str, Array]) -> None:
        """Remove the rounding left on the contact ring after the seal's interpolation and symmetrization."""
        upper, lower = self._labels.contact_pairs.T
        posed = shapes["jawOpen"] + shapes["mouthClose"]
        rest = posed[upper] - posed[lower]
        shapes["mouthClose"][upper] -= 0.5 * rest
        shapes["mouthClose"][lower] += 0.5 * rest
