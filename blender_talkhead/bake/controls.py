"""The controls of a performance as an object has them: `Object.talkhead_performance`, and its curves over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compat import action_fcurves
from ..facial.expressions import EXPRESSIONS
from ..facial.performance import Controls, crossfade

PROPERTY = "talkhead_performance"
"""Of an Object: the group of the controls, while the extension is enabled."""
STRENGTHS = (
    "mouth_strength",
    "jaw_strength",
    "upper_face_strength",
    "blink_rate",
    "head_motion",
    "gaze",
    "smoothing",
    "expression_strength",
)


def sample_controls(head: Any | None, frames: NDArray[np.float64], frame_rate: float) -> Controls:
    """Return the controls of an object at scene frames, as its keyframes, drivers and NLA tracks say.

    Keyframes of its own action are read from their curves, in no time. Where a control has a driver or lies in an NLA
    track, the scene is evaluated at every frame, about 2 ms each, and then brought back to the frame it was at.

    Args:
        head: the object; None, or one without the properties (the extension is off), gives neutral controls.
        frames: (T,) scene frames, also between two.
        frame_rate: of `frames` in seconds, for the time that one expression takes to become another.
    """
    group = None if head is None else getattr(head, PROPERTY, None)
    if head is None or group is None:
        return Controls.neutral(len(frames))
    scene = next((each for each in head.users_scene), None) if _needs_evaluation(head) else None
    if scene is None:
        curves = {curve.data_path: curve for curve in action_fcurves(head)}
        names = (*STRENGTHS, "expression")
        sampled = {name: _sample(curves, name, _value(group, name), frames) for name in names}
    else:
        sampled = _evaluate(head, scene, frames)
    rows = np.clip(np.round(sampled.pop("expression")).astype(int), 0, len(EXPRESSIONS) - 1)
    chosen = np.zeros((len(frames), len(EXPRESSIONS)), np.float32)
    chosen[np.arange(len(frames)), rows] = 1.0
    amounts = crossfade(chosen, frame_rate) * sampled.pop("expression_strength")[:, None]
    return Controls(**sampled, expressions=amounts.astype(np.float32))


def _needs_evaluation(head: Any) -> bool:
    """Whether more than the object's own action decides about its controls."""
    animation = head.animation_data
    if animation is None:
        return False
    if any(curve.data_path.startswith(f"{PROPERTY}.") for curve in animation.drivers):
        return True
    return bool(animation.use_nla and any(track.strips for track in animation.nla_tracks))


def _evaluate(head: Any, scene: Any, frames: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """Return the controls at frames of a scene, by playing them."""
    layer = next(each for each in scene.view_layers if each.objects.get(head.name) == head)
    shown, subframe = scene.frame_current, scene.frame_subframe
    sampled = {name: np.empty(len(frames), np.float32) for name in (*STRENGTHS, "expression")}
    try:
        for row, frame in enumerate(frames):
            whole = int(np.floor(frame))
            scene.frame_set(whole, subframe=float(frame - whole))
            group = getattr(head.evaluated_get(layer.depsgraph), PROPERTY)
            for name, values in sampled.items():
                values[row] = _value(group, name)
    finally:
        scene.frame_set(shown, subframe=subframe)
    return sampled


def _value(group: Any, name: str) -> float:
    value = getattr(group, name)
    return float(EXPRESSIONS.index(value) if name == "expression" else value)


def _sample(curves: dict[str, Any], name: str, value: float, frames: NDArray[np.float64]) -> NDArray[np.float32]:
    curve = curves.get(f"{PROPERTY}.{name}")
    if curve is None or curve.mute or curve.is_empty or (curve.group is not None and curve.group.mute):
        return np.full(len(frames), value, np.float32)
    return np.array([curve.evaluate(float(frame)) for frame in frames], np.float32)
