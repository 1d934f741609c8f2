"""Clips of any unit and orientation brought into the frame of the built-in head, frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_backend.fitting.clip import Clip
from torch_backend.fitting.coarse_alignment import align_coarsely, follow_alignment
from torch_backend.fitting.config import AlignmentConfig
from torch_backend.fitting.parametric_fit import ParametricFit, ParametricFitter, start_from_landmarks
from torch_backend.fitting.similarity import Similarity
from torch_backend.fitting.template_model import TemplateModel, build_template_model
from torch_backend.head import Head

logger = logging.getLogger(__name__)

CHUNK_FRAMES = 120
"""Frames whose expressions and poses are found together; their number bounds the memory."""
SHAPE_FRAMES = 24
"""Frames that shape and scale are found from, evenly over the clip."""
_CLOUD_POINTS = 6000
_TEMPLATE_POINTS = 1200
_FEW_LANDMARKS = 68


@dataclass(frozen=True, eq=False)
class AlignedClip:
    """Where each frame's head is."""

    to_scan: list[Similarity]
    """T similarities from the built-in head's metres to the scans."""
    parameters: dict[str, float]
    """Identity parameters of the built-in head that come nearest."""
    weights: NDArray[np.float32]
    """(T, 52) blendshape weights that come nearest."""
    surface_errors_m: NDArray[np.float64]
    """(T,) of the parametric head."""


def align_clip(
    clip: Clip,
    head: Head,
    config: AlignmentConfig,
    seed: int,
    report: Callable[[float], None] | None = None,
) -> AlignedClip:
    """Fit the built-in parametric head to a clip (FaceTalk, supplement D), in chunks of bounded memory.

    With landmarks the first guess of each frame comes from them; without, the first frame is brought in coarsely and
    each further one follows the one before.

    Args:
        clip: the clip.
        head: the mean head.
        config: the settings.
        seed: draws points.
        report: called with the fraction done; may raise to stop.

    Raises:
        BadInputError: a scan is not usable.
        ValueError: too few landmarks fit the head, or too few points.
    """
    count = len(clip.scans)
    number = _FEW_LANDMARKS if clip.landmarks is None else clip.landmarks.shape[1]
    template = build_template_model(head, number, _TEMPLATE_POINTS, seed)
    clouds = _Clouds(clip, seed)
    starts = _first_guesses(clip, clouds, head, template, config, seed)
    chosen = np.unique(np.linspace(0, count - 1, min(count, SHAPE_FRAMES)).round().astype(int))
    shape = _fit(clouds, chosen, starts, template, clip.landmarks, config, None)
    parts = []
    for first in range(0, count, CHUNK_FRAMES):
        rows = np.arange(first, min(first + CHUNK_FRAMES, count))
        parts.append(_fit(clouds, rows, starts, template, clip.landmarks, config, shape))
        if report is not None:
            report((rows[-1] + 1) / count)
    errors = np.concatenate([part.surface_errors_m for part in parts])
    logger.info("%s: parametric head within %.2f mm", clip.name, float(np.nanmean(errors)) * 1e3)
    return AlignedClip(
        [pose for part in parts for pose in part.to_scan],
        shape.parameters,
        np.concatenate([part.weights for part in parts]),
        errors,
    )


class _Clouds:
    """Points of frames, thinned out."""

    def __init__(self, clip: Clip, seed: int) -> None:
        self._clip, self._seed = clip, seed

    def __call__(self, frame: int) -> NDArray[np.float64]:
        points = self._clip.read_points(frame)
        if len(points) <= _CLOUD_POINTS:
            return points
        return points[np.random.default_rng([self._seed, frame]).choice(len(points), _CLOUD_POINTS, replace=False)]


def _first_guesses(
    clip: Clip, clouds: _Clouds, head: Head, template: TemplateModel, config: AlignmentConfig, seed: int
) -> list[Similarity]:
    if clip.landmarks is not None:
        return start_from_landmarks(template.landmarks, clip.landmarks, config.outlier_m)
    found = align_coarsely(clouds(0), head, seed)
    if found.is_doubtful:
        logger.warning(
            "%s lies %.1f mm off the head after its alignment without landmarks; check the result, or give landmarks",
            clip.name,
            found.distance_m * 1e3,
        )
    guesses = [found.similarity]
    for frame in range(1, len(clip.scans)):
        guesses.append(follow_alignment(clouds(frame), head, guesses[-1], seed))
    return [guess.inverse() for guess in guesses]


def _fit(
    clouds: _Clouds,
    rows: NDArray[np.int64],
    starts: list[Similarity],
    template: TemplateModel,
    landmarks: NDArray[np.float64] | None,
    config: AlignmentConfig,
    shape: ParametricFit | None,
) -> ParametricFit:
    """The parametric head on some frames; with the shape and scale of another fit where one is given."""
    chosen = [starts[row] for row in rows]
    if shape is not None:
        scale = shape.to_scan[0].scale
        center = template.landmarks.mean(axis=0)
        chosen = [each.with_scale(scale, center) for each in chosen]
    fitter = ParametricFitter(
        template, [clouds(row) for row in rows], chosen, None if landmarks is None else landmarks[rows], config
    )
    return fitter.fit(fixed_shape=None if shape is None else shape.parameters)
