"""My scan as a FaceTalk head: from a file of a mesh to an identity of the head model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BadInputError
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from torch_backend.fitting.coarse_alignment import align_coarsely
from torch_backend.fitting.config import FittingConfig
from torch_backend.fitting.fitted_head import FittedHead
from torch_backend.fitting.fitted_identity import FittedIdentity
from torch_backend.fitting.identity_fit import IdentityFit, fit_identity, sample_scan
from torch_backend.fitting.parametric_fit import ParametricFit, ParametricFitter, start_from_landmarks
from torch_backend.fitting.scan_files import Scan, load_scan
from torch_backend.fitting.similarity import Similarity, identity_similarity
from torch_backend.fitting.template_model import LOWEST_Y_M, build_template_model
from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.identity_codes import load_identity_codes

logger = logging.getLogger(__name__)

_CLOUD_POINTS = 20_000
_TEMPLATE_POINTS = 2500
_LANDMARKS = 68
_ALIGNED = 0.2
"""Share of the time."""
_NEAR_UNITS = 0.03
"""How far beside the surface of a model without a known unit points are drawn."""


@dataclass(frozen=True)
class ScanSettings:
    """How a scan is taken."""

    fitting: FittingConfig
    is_aligned: bool = False
    """The scan lies in the head's frame already: metres of the built-in head, or the unit of another model."""
    landmarks: Path | None = None
    """(68 or 478, 3) array in the scan's unit and axes; None aligns without."""
    seed: int = 0


def fit_scan(
    path: Path, head: FittedHead, settings: ScanSettings, report: Callable[[float], None] | None = None
) -> FittedIdentity:
    """Fit the identity of a scan.

    Args:
        path: a mesh or a point cloud of a head, or of a face.
        head: the head model.
        settings: see there.
        report: called with the fraction done; may raise to stop.

    Raises:
        BadInputError: the scan or the landmarks are not usable, or do not lie on the head.
    """
    scan = load_scan(path)
    if head.space is None and not settings.is_aligned:
        raise BadInputError("scans can be aligned with a model of the built-in head only; align the scan, and say so")
    tell = report or (lambda fraction: None)
    try:
        if head.space is None:
            found = _fit(scan, head, settings, None, None, tell)
            return FittedIdentity(found.identity, _facts(path, head, found, None))
        aligned = _align(scan, settings)
        tell(_ALIGNED)
        in_head = aligned.to_scan[0].inverse().apply(scan.points)
        kept = in_head[:, 1] > LOWEST_Y_M
        moved = _without(Scan(head.space.to_model(in_head).astype(np.float64), scan.triangles), kept)
        values = {name: float(np.clip(value, -1.0, 1.0)) for name, value in aligned.parameters.items()}
        start = torch.from_numpy(load_identity_codes().encode(values))
        expression = torch.from_numpy(load_expression_space().encode(aligned.weights[0]))
        found = _fit(moved, head, settings, start, expression, lambda done: tell(_ALIGNED + (1 - _ALIGNED) * done))
    except ValueError as error:
        raise BadInputError(f"{path}: {error}") from error
    return FittedIdentity(found.identity, _facts(path, head, found, aligned))


def _align(scan: Scan, settings: ScanSettings) -> ParametricFit:
    """The built-in parametric head on the scan, its mouth shut and its face at rest unless that is to be fitted."""
    head, config = load_head(), settings.fitting.alignment
    cloud = scan.points
    if len(cloud) > _CLOUD_POINTS:
        cloud = cloud[np.random.default_rng(settings.seed).choice(len(cloud), _CLOUD_POINTS, replace=False)]
    landmarks = None if settings.landmarks is None else _read_landmarks(settings.landmarks)
    number = _LANDMARKS if landmarks is None else landmarks.shape[1]
    template = build_template_model(head, number, _TEMPLATE_POINTS, settings.seed)
    if settings.is_aligned:
        start: list[Similarity] = [identity_similarity()]
    elif landmarks is not None:
        start = start_from_landmarks(template.landmarks, landmarks, config.outlier_m)
    else:
        found = align_coarsely(cloud, head, settings.seed)
        if found.is_doubtful:
            logger.warning(
                "the scan lies %.1f mm off the head after its alignment without landmarks; check the result, or give "
                "landmarks",
                found.distance_m * 1e3,
            )
        start = [found.similarity.inverse()]
    at_rest = None if settings.fitting.identity.fit_expression else np.zeros((1, len(ARKIT_BLENDSHAPES)), np.float32)
    return ParametricFitter(template, [cloud], start, landmarks, config).fit(at_rest)


def _fit(
    scan: Scan,
    head: FittedHead,
    settings: ScanSettings,
    start: torch.Tensor | None,
    expression: torch.Tensor | None,
    report: Callable[[float], None],
) -> IdentityFit:
    config = settings.fitting.identity
    near = _NEAR_UNITS if head.space is None else config.near_mm * 1e-3 / head.space.metres_per_unit
    inside = np.median(scan.points, axis=0) if head.space is None else np.zeros(3)
    samples = sample_scan(scan.points, scan.triangles, near, inside, settings.seed)
    return fit_identity(
        head.model,
        samples,
        head.priors,
        config,
        start=start,
        expression=expression,
        seed=settings.seed,
        report=report,
    )


def _facts(path: Path, head: FittedHead, found: IdentityFit, aligned: ParametricFit | None) -> dict[str, Any]:
    unit, scale = ("model unit", 1.0) if head.space is None else ("mm", head.space.metres_per_unit * 1e3)
    facts: dict[str, Any] = {
        "head_model_sha256": head.sha256,
        "scan": path.name,
        "error_unit": unit,
        "mean_error": found.mean_error * scale,
        "error_95": found.percentile_95 * scale,
        "far_share": found.far_share,
        "expression_code": found.expression.tolist(),
    }
    if aligned is not None:
        facts["parameters"] = aligned.parameters
        facts["to_scan"] = aligned.to_scan[0].as_dict()
        facts["parametric_error_mm"] = float(aligned.surface_errors_m[0]) * 1e3
    return facts


def _without(scan: Scan, kept: NDArray[np.bool_]) -> Scan:
    """The scan's kept points, and the triangles that have only such."""
    numbers = np.cumsum(kept) - 1
    triangles = scan.triangles[kept[scan.triangles].all(axis=1)]
    if kept.sum() < 3 or (len(scan.triangles) and not len(triangles)):
        raise ValueError("nothing of the scan lies on the head; check its alignment, unit and axes")
    return Scan(scan.points[kept], numbers[triangles])


def _read_landmarks(path: Path) -> NDArray[np.float64]:
    """(1, L, 3)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(f"{path} is no array of landmarks: {error}") from error
    if array.ndim != 2 or array.shape[1] != 3 or array.shape[0] not in (68, 478) or array.dtype.kind != "f":
        raise BadInputError(f"{path}: expected landmarks (68 or 478, 3), got {array.shape} of {array.dtype}")
    return array.astype(np.float64)[None]
