"""The performance of a whole recording on its frame grid: a few floats a frame, whatever the windows of inference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.blinks import Blink, compute_blink_curve
from torch_backend.audio.prosody import ProsodyTrack, compute_prosody
from torch_backend.performance.blinks import plan_blinks
from torch_backend.performance.breathing import HEAD_DEGREES, compute_filling, plan_breaths
from torch_backend.performance.brows import compute_free_raises, plan_free_raises
from torch_backend.performance.gaze import Saccade, compute_gaze, plan_gaze
from torch_backend.performance.head_motion import compute_head_angles
from torch_backend.performance.phrasing import Phrasing, find_phrasing
from torch_backend.performance.rotations import conjugate_quaternions, quaternions_from_angles, rotate_vectors
from torch_backend.speech_corpus.expression import BROW_INNER_UP, BROW_OUTER_UP, compute_expression

VIEWER_DISTANCE_M = 1.0
"""Where the eyes converge."""
LOOK_DEGREES = 25.0
"""Turn of an eye at which its eyeLook curve is 1."""
_PAIRED = ("eyeBlink", "eyeSquint", "cheekSquint", "browOuterUp", "eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut")
UPPER_FACE = (*(name + side for name in _PAIRED for side in ("Left", "Right")), "browInnerUp")
"""Curves that the performance decides; all others are the network's."""

_CHUNK_FRAMES = 9_000


@dataclass(frozen=True)
class Performance:
    """Everything of a take that the network does not decide; T frames."""

    upper_face: NDArray[np.float32]
    """(T, 17) curves in the order of UPPER_FACE, 0..1."""
    head_rotation: NDArray[np.float32]
    """(T, 4) unit quaternions, w first."""
    eye_rotations: NDArray[np.float32]
    """(T, 2, 4) of the left and the right eye, relative to the head; they undo the head's turns."""
    blinks: tuple[Blink, ...]
    """Natural ones, and those that a raised blink rate adds."""
    saccades: tuple[Saccade, ...]
    phrasing: Phrasing


def perform_recording(
    samples: NDArray[np.float32], num_frames: int, frame_rate: float, eye_centers: NDArray[np.floating], seed: int
) -> Performance:
    """Plan the performance of a recording.

    Args:
        samples: (S,) float32 at 16 kHz, may be memory-mapped.
        num_frames: T.
        frame_rate: frame i is at i / frame_rate.
        eye_centers: (2, 3) of the left and the right eye, metres.
        seed: same seed, same performance.
    """
    return perform_prosody(compute_prosody(samples), np.arange(num_frames) / frame_rate, eye_centers, seed)


def perform_prosody(
    prosody: ProsodyTrack, times: NDArray[np.float64], eye_centers: NDArray[np.floating], seed: int
) -> Performance:
    """Plan the performance that goes with a prosody; see `perform_recording`.

    Args:
        prosody: of the whole recording.
        times: (T,) seconds, ascending.
        eye_centers: (2, 3), metres.
        seed: decides.
    """
    phrasing = find_phrasing(prosody)
    blinks = plan_blinks(prosody, phrasing, seed)
    saccades = plan_gaze(phrasing, tuple(blink for blink in blinks if blink.rate <= 1.0), seed)
    angles = compute_head_angles(prosody, phrasing, times, seed)
    angles[:, 0] += HEAD_DEGREES * compute_filling(plan_breaths(phrasing, seed), times)
    head_rotation = quaternions_from_angles(*angles.T)
    eye_angles = aim_eyes(compute_gaze(saccades, times), head_rotation, eye_centers)
    lids = compute_blink_curve(blinks, times)
    upper_face = _compose_upper_face(prosody, times, lids, eye_angles, seed)
    _rest(upper_face, phrasing.activity(times))
    _raise_brows(upper_face, compute_free_raises(plan_free_raises(phrasing, seed), times))
    return Performance(
        upper_face=upper_face,
        head_rotation=head_rotation.astype(np.float32),
        eye_rotations=quaternions_from_angles(eye_angles[..., 0], eye_angles[..., 1]).astype(np.float32),
        blinks=blinks,
        saccades=saccades,
        phrasing=phrasing,
    )


def aim_eyes(
    gaze: NDArray[np.float64], head_rotation: NDArray[np.float64], eye_centers: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Turn both eyes towards one point in the room.

    Args:
        gaze: (T, 2) degrees to the left and up, seen from between the eyes of the head at rest.
        head_rotation: (T, 4), about the origin.
        eye_centers: (2, 3) metres.

    Returns:
        (T, 2, 2) pitch and yaw of each eye in degrees, relative to the head.
    """
    yaw, pitch = np.radians(gaze).T
    direction = np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], axis=-1)
    centers = np.asarray(eye_centers, np.float64)
    point = centers.mean(axis=0) + VIEWER_DISTANCE_M * direction
    inside = rotate_vectors(conjugate_quaternions(head_rotation), point)  # as the head sees it
    toward = inside[:, None] - centers
    pitches = np.arctan2(toward[..., 1], np.hypot(toward[..., 0], toward[..., 2]))
    return np.degrees(np.stack([pitches, np.arctan2(toward[..., 0], toward[..., 2])], axis=-1))


def expand_upper_face(upper_face: NDArray[np.floating]) -> NDArray[np.float32]:
    """Curves (T, 17) of UPPER_FACE as (T, 52); the others are zero."""
    output = np.zeros((len(upper_face), len(ARKIT_BLENDSHAPES)), np.float32)
    output[:, [BLENDSHAPE_INDEX[name] for name in UPPER_FACE]] = upper_face
    return output


def _compose_upper_face(
    prosody: ProsodyTrack,
    times: NDArray[np.float64],
    lids: NDArray[np.float64],
    eye_angles: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float32]:
    """Brows and squints by the rule of speech_corpus/expression.py, the planned blinks, lids that follow the eyes."""
    columns = [BLENDSHAPE_INDEX[name] for name in UPPER_FACE]
    output = np.zeros((len(times), len(UPPER_FACE)), np.float32)
    for start in range(0, len(times), _CHUNK_FRAMES):  # a curve has 52 columns and few are wanted
        part = slice(start, start + _CHUNK_FRAMES)
        output[part] = compute_expression(prosody, times[part], seed, lids[part])[:, columns]
    place = {name: index for index, name in enumerate(UPPER_FACE)}
    for eye, (side, outward) in enumerate((("Left", 1.0), ("Right", -1.0))):
        pitch, yaw = (np.clip(each / LOOK_DEGREES, -1.0, 1.0) for each in eye_angles[:, eye].T)
        is_open = 1.0 - lids  # a lid that is shut is not lowered further
        output[:, place["eyeLookUp" + side]] = np.maximum(pitch, 0.0) * is_open
        output[:, place["eyeLookDown" + side]] = np.maximum(-pitch, 0.0) * is_open
        output[:, place["eyeLookOut" + side]] = np.maximum(yaw * outward, 0.0)
        output[:, place["eyeLookIn" + side]] = np.maximum(-yaw * outward, 0.0)
    return output


def _rest(upper_face: NDArray[np.float32], activity: NDArray[np.float64]) -> None:
    """Leave nothing but blinks and gaze where nobody speaks (T,), in place."""
    for column, name in enumerate(UPPER_FACE):
        if not name.startswith(("eyeBlink", "eyeLook")):
            upper_face[:, column] *= activity


def _raise_brows(upper_face: NDArray[np.float32], height: NDArray[np.float64]) -> None:
    """Hold the brows at least as high as (T,) says, in place."""
    for name, size in (
        ("browInnerUp", BROW_INNER_UP),
        ("browOuterUpLeft", BROW_OUTER_UP),
        ("browOuterUpRight", BROW_OUTER_UP),
    ):
        column = upper_face[:, UPPER_FACE.index(name)]
        np.maximum(column, (size * height).astype(np.float32), out=column)
