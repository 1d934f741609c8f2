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
    """Return the controls of an object at scene frames, from the curves of its own action.

    Args:
        head: the object; None, or one without the properties (the extension is off), gives neutral controls.
        frames: (T,) scene frames, also between two.
        frame_rate: of `frames` in seconds, for the time that one expression takes to become another.
    """
    group = None if head is None else getattr(head, PROPERTY, None)
    if group is None:
        return Controls.neutral(len(frames))
    curves = {curve.data_path: curve for curve in action_fcurves(head)}
    sampled = {name: _sample(curves, name, getattr(group, name), frames) for name in STRENGTHS}
    expression = _sample(curves, "expression", EXPRESSIONS.index(group.expression), frames)
    rows = np.clip(np.round(expression).astype(int), 0, len(EXPRESSIONS) - 1)
    chosen = np.zeros((len(frames), len(EXPRESSIONS)), np.float32)
    chosen[np.arange(len(frames)), rows] = 1.0
    amounts = crossfade(chosen, frame_rate) * sampled.pop("expression_strength")[:, None]
    return Controls(**sampled, expressions=amounts.astype(np.float32))


def _sample(curves: dict[str, Any], name: str, value: float, frames: NDArray[np.float64]) -> NDArray[np.float32]:
    curve = curves.get(f"{PROPERTY}.{name}")
    if curve is None or curve.mute or curve.is_empty:
        return np.full(len(frames), value, np.float32)
    return np.array([curve.evaluate(float(frame)) for frame in frames], np.float32)
