"""MMTalker's motion with a performance: its own mouth, jaw and cheeks, and planned lids, brows and gaze.

The network's lids, brows and squints only repeat what its expression controls ask for, and less exactly: where a motion
space is at hand, they are taken out of its motion and those of the performance are put in their place, so that a clip's
curves and its vertices tell the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.clip_performance import ClipPerformance
from blender_talkhead.contract.motion_clip import FloatArray
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.blinks import encode_blinks
from blender_talkhead.facial.remainder import round_curves
from torch_backend.head import Head
from torch_backend.inference.mmtalker import (
    MMTalkerPlan,
    MMTalkerPredictor,
    anchor_points,
    carry_to_identity,
    complete_motion,
)
from torch_backend.inference.skin_mesh import interpolate_points
from torch_backend.models.mmtalker import FRAME_RATE, OFFSET_UNIT_METRES
from torch_backend.performance.decomposition import MotionDecomposition
from torch_backend.performance.perform import Performance, expand_upper_face, perform_recording

_SHAPES_AT_ONCE = 13


@dataclass(frozen=True)
class PerformedTracks:
    """What a performed clip holds beside its vertices."""

    blendshape_weights: FloatArray | None
    """(T, 52), rounded as they are stored; None where the network's motion has no curves."""
    head_rotation: FloatArray
    eye_rotations: FloatArray
    performance: ClipPerformance | None


class PerformedMotion:
    """One take: iterate over `animate`, then ask for `tracks`."""

    def __init__(
        self, predictor: MMTalkerPredictor, plan: MMTalkerPlan, samples: NDArray[np.float32], seed: int
    ) -> None:
        self._predictor, self._plan, self._samples = predictor, plan, samples
        num_frames = predictor.count_frames(len(samples))
        self.performance: Performance = perform_recording(samples, num_frames, FRAME_RATE, plan.head.eye_centers, seed)
        self._decomposition = find_decomposition(predictor)
        # One array, made beforehand: small pieces kept between large ones that are freed would scatter the memory.
        num_shapes = 0 if self._decomposition is None else len(self._decomposition.upper_face_map)
        self._coefficients = np.zeros((num_frames, num_shapes), np.float32)
        self._tongue = predictor.spoken_tongue(samples, plan)

    def animate(self, progress: Callable[[float], None] | None = None) -> Iterator[tuple[int, FloatArray]]:
        """Displacements of every vertex of the clip, block by block; see `MMTalkerPredictor.animate`."""
        if self._decomposition is None:
            yield from self._predictor.animate(self._samples, self._plan, progress)
            return
        upper_face = expand_upper_face(self.performance.upper_face)
        used = [index for index in range(len(ARKIT_BLENDSHAPES)) if self._decomposition.upper_face_map[:, index].any()]
        used = sorted({*used, *(int(index) for index in np.flatnonzero(upper_face.any(axis=0)))})
        shapes = self._shapes_at_points(used)
        to_upper = self._decomposition.upper_face_map[:, used].astype(np.float32)

        def replace_upper_face(
            first: int, decoded: NDArray[np.float32], coefficients: NDArray[np.float32]
        ) -> NDArray[np.float32]:
            self._coefficients[first : first + len(decoded)] = coefficients
            change = upper_face[first : first + len(decoded), used] - coefficients @ to_upper
            moved: NDArray[np.float32] = decoded + (change @ shapes).reshape(decoded.shape)
            return moved

        yield from self._predictor.animate(self._samples, self._plan, progress, replace_upper_face, self._tongue)

    def tracks(self) -> PerformedTracks:
        """Curves and rotations of all frames, once `animate` is through."""
        performance = self.performance
        if self._decomposition is None:
            return PerformedTracks(None, performance.head_rotation, performance.eye_rotations, None)
        fitted = self._decomposition.fit(self._coefficients)
        curves = fitted.weights + expand_upper_face(performance.upper_face)
        curves[:, BLENDSHAPE_INDEX["tongueOut"]] = self._tongue.out_weights
        weights = round_curves(curves)
        clip_performance = ClipPerformance(
            blendshapes=build_clip_blendshapes(self._predictor.head, self._plan),
            blinks=encode_blinks(performance.blinks),
            pivots=build_pivots(self._plan),
            max_error_m=fitted.max_error_m,
            mean_error_m=fitted.mean_error_m,
        )
        return PerformedTracks(weights, performance.head_rotation, performance.eye_rotations, clip_performance)

    def _shapes_at_points(self, columns: list[int]) -> NDArray[np.float32]:
        """Curves (C, 3 M') of the mean head at the decoded points: those of the skin, then the anchors."""
        head = self._predictor.head
        skin = head.blendshapes[columns, : head.num_skin_vertices].transpose(1, 0, 2)
        points = self._predictor.decoded_points(self._plan)
        return interpolate_points(points, skin).transpose(1, 0, 2).reshape(len(columns), -1).astype(np.float32)


def find_decomposition(predictor: MMTalkerPredictor) -> MotionDecomposition | None:
    """The map from the model's motion to curves; None where predictions are not projected, or on another space."""
    space = predictor.model.motion_space if predictor.project_motion else None
    if space is None:
        return None
    try:
        return MotionDecomposition(predictor.head, space.shapes.cpu().numpy() * OFFSET_UNIT_METRES)
    except ValueError:
        return None


def build_clip_blendshapes(head: Head, plan: MMTalkerPlan) -> FloatArray:
    """The 52 curves of the mean head at the clip's vertices (52, V, 3), metres, all parts as the clip moves them."""
    points = plan.points.joined(anchor_points(head))
    parts = []
    for start in range(0, len(ARKIT_BLENDSHAPES), _SHAPES_AT_ONCE):  # their three corners need three times the memory
        skin = head.blendshapes[start : start + _SHAPES_AT_ONCE, : head.num_skin_vertices].transpose(1, 0, 2)
        shapes = interpolate_points(points, skin).transpose(1, 0, 2).astype(np.float32)
        parts.append(complete_motion(carry_to_identity(shapes, plan), plan))
    completed = np.concatenate(parts)
    tongue = BLENDSHAPE_INDEX["tongueOut"]  # moves the tongue alone, which no chin tells
    completed[tongue, len(plan.points) :] = plan.head.blendshapes[tongue, head.num_skin_vertices :]
    return completed


def build_pivots(plan: MMTalkerPlan) -> dict[str, tuple[float, float, float]]:
    """What head and eyes turn about: the origin, between the ears, and the centres of the balls."""
    left, right = (tuple(float(value) for value in center) for center in plan.head.eye_centers)
    return {"head": (0.0, 0.0, 0.0), "eye_left": left, "eye_right": right}  # type: ignore[dict-item]
