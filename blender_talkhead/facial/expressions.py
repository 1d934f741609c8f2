"""What the expressions of a performance add to a face: few ARKit curves each, and which curves belong to what."""

from __future__ import annotations

from .blendshapes import ARKIT_BLENDSHAPES

EXPRESSIONS: tuple[str, ...] = ("neutral", "happy", "sad", "angry", "surprised")

_SIDED: dict[str, dict[str, float]] = {
    "happy": {"mouthSmile": 0.72, "mouthDimple": 0.12, "cheekSquint": 0.50, "eyeSquint": 0.14, "browOuterUp": 0.05},
    "sad": {"mouthFrown": 0.60, "browDown": 0.06, "eyeSquint": 0.18, "eyeBlink": 0.14},
    "angry": {"browDown": 0.90, "eyeSquint": 0.30, "noseSneer": 0.40, "mouthFrown": 0.30, "mouthPress": 0.25},
    "surprised": {"browOuterUp": 0.75, "eyeWide": 0.65},
}
_WHOLE: dict[str, dict[str, float]] = {
    "happy": {"browInnerUp": 0.06},
    "sad": {"browInnerUp": 0.75, "mouthShrugLower": 0.25},
    "angry": {"jawForward": 0.15},
    "surprised": {"browInnerUp": 0.70, "jawOpen": 0.20, "mouthFunnel": 0.12},
}


def expression_curves(name: str) -> dict[str, float]:
    """Return the ARKit curves of an expression at full strength, 0..1; none for neutral.

    Raises:
        ValueError: there is no such expression.
    """
    if name not in EXPRESSIONS:
        raise ValueError(f"expected one of {', '.join(EXPRESSIONS)}, got {name!r}")
    sided = {stem + side: value for stem, value in _SIDED.get(name, {}).items() for side in ("Left", "Right")}
    return {**sided, **_WHOLE.get(name, {})}


def _columns(*beginnings: str) -> tuple[int, ...]:
    return tuple(index for index, name in enumerate(ARKIT_BLENDSHAPES) if name.startswith(beginnings))


MOUTH = _columns("mouth", "jaw", "cheekPuff", "tongue")
"""Columns that speech moves."""
JAW = _columns("jaw", "mouthClose")
"""Columns of the jaw, and of the lips that stay together while it opens."""
UPPER_FACE = _columns("brow", "eyeSquint", "eyeWide", "cheekSquint", "noseSneer")
BLINK = _columns("eyeBlink")
LOOK = _columns("eyeLook")
LID_SHAPING = _columns("eyeSquint", "eyeWide", "cheekSquint")
"""Columns that shape the lids: they give way while the eye closes."""
ROUNDING = _columns("mouthPucker", "mouthFunnel")
SPREADING = _columns("mouthSmile", "mouthDimple", "mouthStretch", "mouthFrown")
"""Columns that pull the corners of the mouth: they give way to rounded lips."""
PRESSING = _columns("mouthPress")
"""Columns that press shut lips together."""
