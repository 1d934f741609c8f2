"""Expression codes of a sequence of point clouds, in windows that overlap (FaceTalk, section 5)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from torch_backend.fitting.code_prior import CodePrior
from torch_backend.fitting.config import ExpressionFitConfig
from torch_backend.fitting.window_solver import FittedWindow, WindowProblem, solve_window
from torch_backend.models.nphm import BackwardNPHM

logger = logging.getLogger(__name__)

ReadPoints = Callable[[int], NDArray[np.floating]]
"""Frame -> (n, 3) points in the model's unit and head frame, n may be 0."""


@dataclass(frozen=True, eq=False)
class FittedExpressions:
    """Codes of a sequence."""

    codes: NDArray[np.float32]
    """(T, X)."""
    poses: NDArray[np.float32]
    """(T, 6) rotation vector and translation that carry a frame's points to the model; zeros unless refined."""
    surface_errors: NDArray[np.float32]
    """(T,) mean |signed distance| of the frame's points in the model's unit; NaN for frames without points."""


class ExpressionFitter:
    """Fits sequences of one person with one head model."""

    def __init__(
        self, model: BackwardNPHM, identity: torch.Tensor, prior: CodePrior, config: ExpressionFitConfig
    ) -> None:
        """Hold what all windows share.

        Args:
            model: the head, in evaluation mode; its weights do not change.
            identity: (I,) the person's identity code.
            prior: of expression codes.
            config: the settings.

        Raises:
            ValueError: the identity or the prior are of another model.
        """
        if tuple(identity.shape) != (model.sizes.code_size,):
            raise ValueError(f"expected an identity code ({model.sizes.code_size},), got {tuple(identity.shape)}")
        if tuple(prior.mean.shape) != (model.expression_size,):
            raise ValueError(f"expected a prior of {model.expression_size} entries, got {len(prior.mean)}")
        self.model, self.prior, self.config = model, prior, config
        self.identity = identity.detach().float()

    def fit(
        self,
        num_frames: int,
        read_points: ReadPoints,
        seed: int,
        report: Callable[[float], None] | None = None,
    ) -> FittedExpressions:
        """Fit a sequence; memory holds the points of one window.

        Args:
            num_frames: T.
            read_points: the clouds.
            seed: decides which points are drawn.
            report: called with the fraction done; may raise to stop.

        Returns:
            Codes, poses and errors.

        Raises:
            ValueError: no frames, or points of a wrong shape.
        """
        if num_frames < 1:
            raise ValueError("expected at least one frame")
        config, size = self.config, self.model.expression_size
        codes = np.zeros((num_frames, size), np.float32)
        poses, errors = np.zeros((num_frames, 6), np.float32), np.full(num_frames, np.nan, np.float32)
        filled = 0
        for start, stop in window_ranges(num_frames, config.window_frames, config.overlap_frames):
            clouds = [_checked(read_points(frame), frame) for frame in range(start, stop)]
            window = self._fit_window(clouds, codes, poses, start, filled, seed)
            shares = blend_shares(stop - start, filled - start)[:, None]
            codes[start:stop] += (window.codes - codes[start:stop]) * shares
            poses[start:stop] += (window.poses - poses[start:stop]) * shares
            errors[start:stop] = window.surface_errors
            filled = stop
            logger.info(
                "frames %d to %d: mean error %.5f units", start, stop - 1, float(np.nanmean(errors[start:stop]))
            )
            if report is not None:
                report(stop / num_frames)
        return FittedExpressions(codes, poses, errors)

    def _fit_window(
        self,
        clouds: list[NDArray[np.float32]],
        codes: NDArray[np.float32],
        poses: NDArray[np.float32],
        start: int,
        filled: int,
        seed: int,
    ) -> FittedWindow:
        """One window, started from the codes of the window before and continued with its last ones."""
        count = len(clouds)
        known = np.arange(start, start + count).clip(max=max(filled - 1, 0))
        mean = self.prior.mean.numpy()
        first_codes = codes[known] if filled else np.repeat(mean[None], count, axis=0)
        problem = WindowProblem(
            model=self.model,
            identity=self.identity,
            prior=self.prior,
            clouds=clouds,
            start_codes=first_codes,
            start_poses=poses[known],
            before=codes[start - 1] if start > 0 else None,
            generator=np.random.default_rng([seed, start]),
        )
        return solve_window(problem, self.config)


def window_ranges(num_frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Ranges [start, stop) that cover the frames; adjacent ones share `overlap` frames, the last may be shorter."""
    ranges = [(0, min(window, num_frames))]
    while ranges[-1][1] < num_frames:
        start = ranges[-1][1] - overlap
        ranges.append((start, min(start + window, num_frames)))
    return ranges


def blend_shares(count: int, shared: int) -> NDArray[np.float32]:
    """(count,) how much of a window's result counts: rising over the `shared` frames that another has fitted."""
    shares = np.ones(count, np.float32)
    shared = max(0, min(shared, count))
    shares[:shared] = np.arange(1, shared + 1) / (shared + 1)
    return shares


def _checked(points: NDArray[np.floating], frame: int) -> NDArray[np.float32]:
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"expected finite points (n, 3) in frame {frame}, got {points.shape}")
    return points.astype(np.float32)
