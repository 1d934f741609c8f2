"""Face landmarks as the condition of a motion model, in the place of speech features."""

from __future__ import annotations

from torch import Tensor


def compute_landmark_features(landmarks: Tensor, rest: Tensor, unit_metres: float = 0.01) -> Tensor:
    """How far landmarks have moved from their place at rest, so that the shape of the face has no part in it.

    Args:
        landmarks: (..., L, 3) metres, in the head's own frame: its rotation and translation taken out.
        rest: (L, 3) metres, the same face at rest.
        unit_metres: size of the unit of the result.

    Returns:
        (..., 3 L).

    Raises:
        ValueError: the shapes do not fit.
    """
    if rest.ndim != 2 or rest.shape[1] != 3 or landmarks.shape[-2:] != rest.shape:
        raise ValueError(
            "expected landmarks of shape (..., L, 3) and rest of shape (L, 3), "
            f"got {tuple(landmarks.shape)} and {tuple(rest.shape)}"
        )
    return ((landmarks - rest) / unit_metres).flatten(-2)
