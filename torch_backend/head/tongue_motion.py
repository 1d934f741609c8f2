"""Gestures of the tongue as displacements: linear shapes, weighted so that the tongue arrives where it should.

A gesture is a place relative to the teeth and the palate. The jaw carries the tongue, so a jaw that is further open
needs more of a shape for the same contact. Between the teeth the tongue only goes when they are far enough apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from torch_backend.head.author_space import author_to_backend, author_vectors_to_backend, backend_to_author
from torch_backend.head.head import Head
from torch_backend.head.identity import identity_jacobians, warp_points
from torch_backend.head.tongue import tongue_back_up, tongue_tip_up

SHAPE_NAMES = ("tip", "back", "tongueOut")
"""The last one is the head's own blendshape."""
RIDGE = (0.0, 8.0, -6.24)
"""Where the tip touches the ridge behind the upper teeth, author space, cm."""
PALATE = (0.0, 4.3, -5.2)
"""Where the back of the tongue comes to at the palate."""
BEFORE_TEETH = (0.0, 8.95, -6.6)
"""Where the tip lies between the teeth: a little in front of the upper ones."""
BEHIND_TEETH_SHARE = 0.35
"""How far towards that it comes while the teeth are together."""
ROOM_M = (0.0008, 0.0022)
"""Gap of the incisors from which on the blade begins to pass, and passes."""
LARGEST_WEIGHTS = (1.7, 1.4, 0.5)
_FORWARD, _UP = 2, 1
_INCISORS_M = 0.005
"""Teeth vertices nearer to the midline are those of the middle incisors."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class TongueMotion:
    """The shapes of one head's tongue and the places it reaches."""

    shapes: FloatArray
    """(3, Vt, 3) displacements at weight 1, metres, in the order of SHAPE_NAMES."""
    tip: int
    """The vertex of the tongue that arrives at ridge and teeth."""
    back: int
    """The vertex that arrives at the palate."""
    ways_m: tuple[float, float, float]
    """How far tip and back must rise, and the tip come forward, with the jaw at rest."""
    overlap_m: float
    """How far the upper incisors cover the lower ones at rest."""

    def weights(self, gestures: NDArray[np.floating], jaw_offsets: NDArray[np.floating]) -> FloatArray:
        """Return the weights (n, 3) of the shapes.

        Args:
            gestures: (n, 3) degrees, 0..1: tip at the ridge, back at the palate, blade between the teeth.
            jaw_offsets: (n, Vt, 3) what the jaw does to the tongue, metres.
        """
        at_tip, at_back = jaw_offsets[:, self.tip], jaw_offsets[:, self.back]
        missing = np.stack(
            [
                self.ways_m[0] - at_tip[:, _UP],
                self.ways_m[1] - at_back[:, _UP],
                self.ways_m[2] - at_tip[:, _FORWARD],
            ],
            axis=1,
        )
        reach = (
            self.shapes[0, self.tip, _UP],
            self.shapes[1, self.back, _UP],
            self.shapes[2, self.tip, _FORWARD],
        )
        degrees = np.array(gestures, dtype=np.float64)
        degrees[:, 0] = np.minimum(degrees[:, 0], 1.0 - degrees[:, 2])  # between the teeth there is no way up
        weights = np.clip(missing / np.array(reach), 0.0, LARGEST_WEIGHTS) * degrees
        gap = -at_tip[:, _UP] - self.overlap_m
        room = np.clip((gap - ROOM_M[0]) / (ROOM_M[1] - ROOM_M[0]), 0.0, 1.0)
        weights[:, 2] *= BEHIND_TEETH_SHARE + (1.0 - BEHIND_TEETH_SHARE) * room * room * (3.0 - 2.0 * room)
        result: FloatArray = weights.astype(np.float32)
        return result

    def displace(self, weights: FloatArray) -> FloatArray:
        """Return the displacements (n, Vt, 3) of the tongue within the jaw."""
        moved: FloatArray = np.tensordot(weights, self.shapes, axes=1).astype(np.float32)
        return moved


def build_tongue_motion(mean_head: Head, head: Head, parameters: Mapping[str, float]) -> TongueMotion:
    """Return the shapes of the tongue of an identity.

    Args:
        mean_head: the built-in head.
        head: the same with the identity applied.
        parameters: of the identity; empty for the mean head.
    """
    start, stop = mean_head.parts["tongue"]
    rest = backend_to_author(mean_head.vertices[start:stop])
    own = np.stack([author_vectors_to_backend(shape(rest)) for shape in (tongue_tip_up, tongue_back_up)])
    if parameters:
        jacobians = identity_jacobians(mean_head, parameters)[start:stop].astype(np.float64)
        own = np.einsum("vij,kvj->kvi", jacobians, own)
    out = head.blendshapes[BLENDSHAPE_INDEX["tongueOut"], start:stop]
    places = author_to_backend(np.array([RIDGE, PALATE, BEFORE_TEETH]))
    if parameters:
        places = warp_points(places, parameters)
    tongue = head.vertices[start:stop].astype(np.float64)
    tip = int(tongue[:, _FORWARD].argmax())
    back = int(own[1, :, _UP].argmax())
    ways = (
        float(places[0, _UP] - tongue[tip, _UP]),
        float(places[1, _UP] - tongue[back, _UP]),
        float(places[2, _FORWARD] - tongue[tip, _FORWARD]),
    )
    shapes = np.concatenate([own, out[None]]).astype(np.float32)
    return TongueMotion(shapes, tip, back, ways, _incisor_overlap(head))


def _incisor_overlap(head: Head) -> float:
    teeth = np.arange(*head.parts["teeth"])
    middle = teeth[np.abs(head.vertices[teeth, 0]) < _INCISORS_M]
    is_lower = np.isin(middle, head.regions["jaw_parts"])
    return float(head.vertices[middle[is_lower], _UP].max() - head.vertices[middle[~is_lower], _UP].min())
