"""Similarities of space: s R x + t, fitted to pairs of points, with outliers left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
OUTLIER_M = 0.020
"""Landmarks farther than this from their places after the rigid fit are left out (FaceTalk, supplement D: 0.020)."""
_FEWEST = 4
_LEAST_SHARE = 0.4
"""Of the landmarks that are there: fewer agree by chance, when the scale shrinks."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: NDArray[np.float64]
    """(3, 3), determinant 1."""
    translation: NDArray[np.float64]
    """(3,)."""

    def apply(self, points: Points) -> NDArray[np.float64]:
        """Carry points (..., 3)."""
        moved: NDArray[np.float64] = self.scale * (points.astype(np.float64) @ self.rotation.T) + self.translation
        return moved

    def inverse(self) -> Similarity:
        """The way back."""
        rotation = self.rotation.T
        return Similarity(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def after(self, first: Similarity) -> Similarity:
        """This one after another: the similarity x -> self(first(x))."""
        return Similarity(
            self.scale * first.scale,
            self.rotation @ first.rotation,
            self.scale * (self.rotation @ first.translation) + self.translation,
        )

    def with_scale(self, scale: float, center: Points) -> Similarity:
        """Another scale, with a point (3,) of the source kept where it goes."""
        shift = self.translation + (self.scale - scale) * (self.rotation @ center)
        return Similarity(scale, self.rotation, shift)

    def as_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {"scale": self.scale, "rotation": self.rotation.tolist(), "translation": self.translation.tolist()}


def identity_similarity() -> Similarity:
    """The similarity that changes nothing."""
    return Similarity(1.0, np.eye(3), np.zeros(3))


def fit_similarity(
    source: Points, target: Points, *, with_scale: bool = True, weights: NDArray[np.floating] | None = None
) -> Similarity:
    """Least squares in closed form (Umeyama 1991).

    Args:
        source: (n, 3).
        target: (n, 3) where they belong.
        with_scale: False keeps lengths.
        weights: (n,) shares, not negative.

    Raises:
        ValueError: shapes do not go together, or fewer than 3 points have weight.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise ValueError(f"expected two arrays (n, 3) of points, got {source.shape} and {target.shape}")
    shares = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if (shares > 0).sum() < 3:
        raise ValueError(f"expected at least 3 pairs of points, got {(shares > 0).sum()}")
    shares = shares / shares.sum()
    source_mean, target_mean = shares @ source, shares @ target
    source_rest, target_rest = source - source_mean, target - target_mean
    left, lengths, right = np.linalg.svd((target_rest * shares[:, None]).T @ source_rest)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    spread = float((shares[:, None] * source_rest**2).sum())
    scale = float((lengths * signs).sum()) / spread if with_scale and spread > 0 else 1.0
    return Similarity(scale, rotation, target_mean - scale * (rotation @ source_mean))


def align_landmarks(source: Points, target: Points, outlier: float = OUTLIER_M) -> tuple[Similarity, NDArray[np.bool_]]:
    """Similarity of landmarks, outliers left out (FaceTalk, supplement D).

    A rigid fit finds the outliers, then the similarity is fitted to the others. Our rigid fit leaves them out as well,
    worst first, so that a few gross ones cannot bend it; and it takes both sets in the target's size, so that a unit
    or a head of another size makes no outliers.

    Args:
        source: (L, 3) landmarks of the template; rows that are not finite are taken as missing.
        target: (L, 3) landmarks of the scan, likewise.
        outlier: distance in the target's unit at which a landmark is left out.

    Returns:
        The similarity from source to target, and (L,) which landmarks it was fitted to.

    Raises:
        ValueError: too few landmarks are left.
    """
    kept = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    least = max(_FEWEST, int(_LEAST_SHARE * kept.sum()))
    _require_enough(kept, least, outlier)
    while True:
        fitted = fit_similarity(source[kept], target[kept])
        distances = np.full(len(source), -1.0)
        distances[kept] = np.linalg.norm(fitted.apply(source[kept]) - target[kept], axis=1)
        worst = int(distances.argmax())
        if distances[worst] <= outlier:
            return fitted, kept
        kept[worst] = False
        _require_enough(kept, least, outlier)


def _require_enough(kept: NDArray[np.bool_], least: int, outlier: float) -> None:
    if kept.sum() < least:
        raise ValueError(
            f"only {kept.sum()} of {len(kept)} landmarks fit the head within {outlier:g}; at least {least} are "
            "needed: check the landmarks' order and unit"
        )
