"""One take of FaceTalk on a mesh of a fixed topology: codes into curves, curves into vertices of the whole head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.clip_performance import ClipPerformance
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.blinks import encode_blinks
from blender_talkhead.facial.remainder import round_curves
from torch_backend.audio.speech_encoder import SpeechEncoder
from torch_backend.head import Head, load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.tongue_motion import build_tongue_motion
from torch_backend.inference.lip_seal import CurveSeal
from torch_backend.inference.mmtalker import MMTalkerPlan, anchor_points, carry_to_identity, complete_motion
from torch_backend.inference.performed_motion import PerformedTracks, build_clip_blendshapes, build_pivots
from torch_backend.inference.skin_mesh import interpolate_points
from torch_backend.inference.spoken_tongue import SpokenTongue
from torch_backend.models.facetalk import FRAME_RATE
from torch_backend.performance.perform import UPPER_FACE, Performance, perform_recording
from torch_backend.performance.rotations import rotate_vectors

BLOCK_FRAMES = 24
"""Frames whose vertices are computed at once."""
_PLANNED = tuple(name for name in UPPER_FACE if name.startswith(("eyeBlink", "eyeLook")))
_PLANNED_COLUMNS = [BLENDSHAPE_INDEX[name] for name in _PLANNED]
_PLANNED_PLACES = [UPPER_FACE.index(name) for name in _PLANNED]
_GAZE_COLUMNS = [BLENDSHAPE_INDEX[name] for name in UPPER_FACE if name.startswith("eyeLook")]
_TONGUE_OUT = BLENDSHAPE_INDEX["tongueOut"]


class SkinMotion(Protocol):
    """What moves the skin points of a plan and its anchors."""

    def move(self, curves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Displacements (n, M + A, 3) of the identity's points in metres for curves (n, 52)."""


class CurvesOfTake:
    """Codes of a take as curves of the built-in head, with the performance's blinks and gaze."""

    def __init__(
        self,
        codes: NDArray[np.float32],
        samples: NDArray[np.float32],
        eye_centers: NDArray[np.floating],
        seed: int,
        performance: bool,
    ) -> None:
        """Plan the performance.

        Args:
            codes: (T, E), may be memory-mapped.
            samples: (S,) float32 at 16 kHz, may be memory-mapped.
            eye_centers: (2, 3) of the left and the right eye, metres.
            seed: of the performance.
            performance: put in planned blinks and gaze, and tell head and eye rotations.
        """
        self._codes = codes
        self._space = load_expression_space()
        self._seal = CurveSeal(load_head())
        self.performance: Performance | None = None
        if performance:
            self.performance = perform_recording(samples, len(codes), FRAME_RATE, eye_centers, seed)

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self._codes)

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Curves (stop - first, 52) within 0..1."""
        curves = self._space.decode(np.asarray(self._codes[first:stop], np.float32))
        curves[:, _TONGUE_OUT] = 0.0  # moves no skin; the tongue listens for itself
        curves[:, _GAZE_COLUMNS] = 0.0  # gaze is not in the codes: what is read there is noise
        curves = self._seal(curves)
        if self.performance is not None:
            curves[:, _PLANNED_COLUMNS] = self.performance.upper_face[first:stop, _PLANNED_PLACES]
        return curves

    def eye_turns(self, frame: int) -> NDArray[np.float64] | None:
        """Rotations (2, 3, 3) of the left and the right eye relative to the head; None without a performance."""
        if self.performance is None:
            return None
        turns = self.performance.eye_rotations[frame].astype(np.float64)
        columns = [rotate_vectors(turns, np.broadcast_to(axis, (2, 3))) for axis in np.eye(3)]
        return np.stack(columns, axis=-1)


class TakeOnSkin:
    """One take on a mesh: iterate over `animate`, then ask for `tracks`."""

    def __init__(
        self,
        head: Head,
        plan: MMTalkerPlan,
        skin: SkinMotion,
        curves: CurvesOfTake,
        samples: NDArray[np.float32],
        encoder: SpeechEncoder,
    ) -> None:
        """Prepare; nothing is computed yet but the performance and the tongue's gestures.

        Args:
            head: the mean head.
            plan: the mesh.
            skin: moves its skin.
            curves: of the take.
            samples: (S,) float32 at 16 kHz, may be memory-mapped.
            encoder: the tongue listens to it.
        """
        self._head, self._plan, self._skin, self._curves = head, plan, skin, curves
        motion = build_tongue_motion(head, plan.head, plan.identity)
        self._tongue = SpokenTongue(motion, plan.parts["tongue"], encoder, samples, curves.num_frames, FRAME_RATE)
        # One array, made beforehand: small pieces kept between large ones that are freed would scatter the memory.
        self._weights = np.zeros((curves.num_frames, len(ARKIT_BLENDSHAPES)), np.float32)
        self._error = _ErrorOfCurves(head, plan)

    def animate(self, progress: Callable[[float], None] | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Displacements of every vertex of the clip, block by block.

        Args:
            progress: called with the fraction done; may raise to stop.

        Yields:
            First frame of a block, and vertex_offsets (n, V, 3) float32 in metres. The blocks follow each other.
        """
        num_frames = self._curves.num_frames
        for first in range(0, num_frames, BLOCK_FRAMES):
            stop = min(first + BLOCK_FRAMES, num_frames)
            weights = round_curves(self._curves.read(first, stop))
            self._weights[first:stop] = weights
            moved = self._skin.move(weights)
            self._error.add(weights, moved)
            vertex_offsets = complete_motion(moved, self._plan)
            self._tongue.move(first, vertex_offsets)
            yield first, vertex_offsets
            if progress is not None:
                progress(stop / num_frames)

    def tracks(self) -> PerformedTracks | None:
        """Curves and rotations of all frames, once `animate` is through; None without a performance."""
        performance = self._curves.performance
        if performance is None:
            return None
        weights = self._weights.copy()
        weights[:, _TONGUE_OUT] = round_curves(self._tongue.out_weights)
        clip_performance = ClipPerformance(
            blendshapes=build_clip_blendshapes(self._head, self._plan),
            blinks=encode_blinks(performance.blinks),
            pivots=build_pivots(self._plan),
            max_error_m=self._error.largest_m,
            mean_error_m=self._error.mean_m,
        )
        return PerformedTracks(weights, performance.head_rotation, performance.eye_rotations, clip_performance)


class _ErrorOfCurves:
    """How far the curves' own shapes are from what the skin does."""

    def __init__(self, head: Head, plan: MMTalkerPlan) -> None:
        skin = head.blendshapes[:, : head.num_skin_vertices].transpose(1, 0, 2)
        points = plan.points.joined(anchor_points(head))
        shapes = interpolate_points(points, skin).transpose(1, 0, 2).astype(np.float32)
        self._num_points = len(plan.points)
        shapes = carry_to_identity(shapes, plan)[:, : self._num_points]
        self._shapes = np.ascontiguousarray(shapes.reshape(len(shapes), -1))
        self.largest_m, self._total, self._count = 0.0, 0.0, 0

    @property
    def mean_m(self) -> float:
        return self._total / max(1, self._count)

    def add(self, weights: NDArray[np.float32], moved: NDArray[np.float32]) -> None:
        own = (weights @ self._shapes).reshape(len(weights), -1, 3)
        distances = np.linalg.norm(moved[:, : self._num_points] - own, axis=2)
        self.largest_m = max(self.largest_m, float(distances.max()))
        self._total, self._count = self._total + float(distances.sum()), self._count + distances.size
