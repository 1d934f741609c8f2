"""The built-in parametric head on a sequence's landmarks and points: pose, shape, expression (FaceTalk, supplement D).

The paper fits FLAME this way, to bring its recordings into the head model's frame; here it is the built-in head, whose
shape parameters and blendshape weights are bounded. Lengths are metres of the template; s, R, t lead to the scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torch_backend.fitting.config import AlignmentConfig
from torch_backend.fitting.scan_normals import estimate_normals
from torch_backend.fitting.similarity import Similarity, align_landmarks
from torch_backend.fitting.template_model import TemplateModel
from torch_backend.fitting.window_solver import rotation_matrices

_POINT_SHARE, _PLANE_SHARE = 0.1, 0.9
"""Of equation 24."""
_MATCH_EVERY = 20
_FARTHEST_M = 0.02
"""Points of the template without a scan's point this near are not compared: scans are partial."""
_LEAST_COSINE = 0.5
"""Between normals of a match, either way round."""
_POSE_RATE = 0.2
"""Of the learning rate, in radians and decimetres."""
_TRANSLATION_UNIT_M = 0.1
_LAST_THIRD = 0.2
"""Factor of the learning rate in the last third of the steps."""


@dataclass(frozen=True, eq=False)
class ParametricFit:
    """The built-in head on a sequence."""

    parameters: dict[str, float]
    """Identity parameters in -1..1, as `--identity` takes them."""
    weights: NDArray[np.float32]
    """(T, 52) blendshape weights in ARKit order."""
    to_scan: list[Similarity]
    """T similarities from the built-in head's metres to the scans; one scale."""
    landmark_errors_m: NDArray[np.float64]
    """(T,) mean distance of the landmarks, in metres of the template; NaN without."""
    surface_errors_m: NDArray[np.float64]
    """(T,) mean distance to the planes of the matched points, likewise."""


class ParametricFitter:
    """Holds a sequence while it is fitted."""

    def __init__(
        self,
        template: TemplateModel,
        clouds: list[NDArray[np.floating]],
        start: list[Similarity],
        landmarks: NDArray[np.floating] | None,
        config: AlignmentConfig,
    ) -> None:
        """Prepare the clouds.

        Args:
            template: the built-in head.
            clouds: T arrays (n, 3) in the scan's own unit and axes.
            start: T first guesses, template to scan; all of one scale.
            landmarks: (T, L, 3) of the scans; rows that are not finite are missing. None for none.
            config: the settings.

        Raises:
            ValueError: the numbers of frames or landmarks do not go together.
        """
        if not clouds or len(start) != len(clouds):
            raise ValueError(f"expected as many starts as clouds, got {len(start)} and {len(clouds)}")
        expected = (len(clouds), *template.landmarks.shape)
        if landmarks is not None and landmarks.shape != expected:
            raise ValueError(f"expected landmarks of shape {expected}, got {landmarks.shape}")
        self._template, self._config, self._start = template, config, start
        # The scans are brought to the template by the first guess, so that the unknowns are small.
        self._clouds = [each.inverse().apply(cloud) for each, cloud in zip(start, clouds, strict=True)]
        self._normals = [estimate_normals(cloud) for cloud in self._clouds]
        self._trees = [cKDTree(cloud) if len(cloud) else None for cloud in self._clouds]
        self._landmarks, self._known = self._prepare_landmarks(landmarks)
        self._rest = torch.from_numpy(np.concatenate([template.landmarks, template.points]))
        self._shapes = torch.from_numpy(np.concatenate([template.landmark_shapes, template.point_shapes], axis=1))
        self._expressions = torch.from_numpy(
            np.concatenate([template.landmark_expressions, template.point_expressions], axis=1)
        )

    def fit(
        self,
        fixed_weights: NDArray[np.floating] | None = None,
        fixed_shape: dict[str, float] | None = None,
        report: Callable[[float], None] | None = None,
    ) -> ParametricFit:
        """Minimise equation 31.

        Args:
            fixed_weights: (T, 52) expression where it is known, such as zeros of a scan at rest.
            fixed_shape: identity parameters where they are known; the scale of the first guess is then kept too.
            report: called with the fraction done; may raise to stop.

        Returns:
            The fit.
        """
        config, count = self._config, len(self._clouds)
        weights = torch.zeros(count, len(self._expressions))
        if fixed_weights is not None:
            weights = torch.from_numpy(np.asarray(fixed_weights, np.float32)).reshape(weights.shape).clone()
        unknowns = {
            "shape": torch.tensor([(fixed_shape or {}).get(name, 0.0) for name in self._template.names]),
            "weights": weights,
            "poses": torch.zeros(count, 6),
            "scale": torch.zeros(1),
        }
        fixed = {"weights"} if fixed_weights is not None else set()
        fixed |= {"shape", "scale"} if fixed_shape is not None else set()
        trained = [name for name in unknowns if name not in fixed]
        groups = [
            {"params": [unknowns[name].requires_grad_(True)], "lr": self._rate(name), "rate": self._rate(name)}
            for name in trained
        ]
        optimizer = torch.optim.Adam(groups)
        matches = None
        for step in range(config.iterations):
            if step % _MATCH_EVERY == 0:
                matches = self._match(unknowns)
                if report is not None:
                    report(step / config.iterations)
            slow = _LAST_THIRD if step * 3 >= config.iterations * 2 else 1.0
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * slow
            optimizer.zero_grad()
            with torch.enable_grad():
                self._loss(unknowns, matches).backward()
            optimizer.step()
            with torch.no_grad():
                unknowns["shape"].clamp_(-1.0, 1.0)
                unknowns["weights"].clamp_(0.0, 1.0)
        return self._result(unknowns)

    def _rate(self, name: str) -> float:
        return self._config.learning_rate * (_POSE_RATE if name in ("poses", "scale") else 1.0)

    def _prepare_landmarks(self, landmarks: NDArray[np.floating] | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(T, L, 3) in the template's frame, and (T, L) which of them count."""
        count, shape = len(self._clouds), self._template.landmarks.shape
        if landmarks is None:
            return torch.zeros(count, *shape), torch.zeros(count, shape[0], dtype=torch.bool)
        moved = np.stack([each.inverse().apply(frame) for each, frame in zip(self._start, landmarks, strict=True)])
        known = np.isfinite(moved).all(axis=-1)
        for frame in range(count):
            known[frame] &= _near(self._template.landmarks, moved[frame], self._config.outlier_m)
        return torch.from_numpy(np.nan_to_num(moved)).float(), torch.from_numpy(known)

    def _posed(self, unknowns: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Landmarks (T, L, 3) and points (T, N, 3) of the template, posed."""
        shape = self._rest + torch.tensordot(unknowns["shape"], self._shapes, dims=1)
        moved = shape + (unknowns["weights"] @ self._expressions.flatten(1)).view(-1, *shape.shape)
        turned = moved @ rotation_matrices(unknowns["poses"][:, :3]).transpose(1, 2)
        shifted = turned * unknowns["scale"].exp() + unknowns["poses"][:, None, 3:] * _TRANSLATION_UNIT_M
        number = len(self._template.landmarks)
        return shifted[:, :number], shifted[:, number:]

    def _match(self, unknowns: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Nearest points (T, N, 3) of the scans, their normals (T, N, 3), and (T, N) shares of 1 or 0."""
        with torch.no_grad():
            posed = self._posed(unknowns)[1].double().numpy()
            turned = rotation_matrices(unknowns["poses"][:, :3]).numpy()
        places, normals = np.zeros(posed.shape, np.float32), np.zeros(posed.shape, np.float32)
        shares = np.zeros(posed.shape[:2], np.float32)
        for frame, tree in enumerate(self._trees):
            if tree is None:
                continue
            distances, nearest = tree.query(posed[frame])
            places[frame], normals[frame] = self._clouds[frame][nearest], self._normals[frame][nearest]
            cosines = np.abs((normals[frame] * (self._template.point_normals @ turned[frame].T)).sum(axis=1))
            shares[frame] = (distances < _FARTHEST_M) & (cosines > _LEAST_COSINE)
        return torch.from_numpy(places), torch.from_numpy(normals), torch.from_numpy(shares)

    def _loss(
        self, unknowns: dict[str, torch.Tensor], matches: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        """Equation 31; sums over landmarks and vertices are means here, so that their numbers need no weights."""
        config = self._config
        landmarks, points = self._posed(unknowns)
        total = config.landmark_weight * self._landmark_loss(landmarks)
        if matches is not None:
            total = total + config.geometry_weight * _geometry_loss(points, *matches)
        total = total + config.regularization_weight * regularization(unknowns)
        return total + config.smoothness_weight * smoothness(unknowns)

    def _landmark_loss(self, landmarks: torch.Tensor) -> torch.Tensor:
        """Equation 21 with weights by region."""
        shares = self._known * torch.from_numpy(self._template.landmark_weights)
        distances = (landmarks - self._landmarks).abs().sum(dim=-1)
        return (distances * shares).sum() / shares.sum().clamp_min(1.0)

    def _result(self, unknowns: dict[str, torch.Tensor]) -> ParametricFit:
        matches = self._match(unknowns)
        with torch.no_grad():
            landmarks, points = self._posed(unknowns)
            lengths = (landmarks - self._landmarks).norm(dim=-1).numpy()
            planes = ((points - matches[0]) * matches[1]).sum(dim=-1).abs().numpy()
            rotations = rotation_matrices(unknowns["poses"][:, :3]).double().numpy()
            shifts = unknowns["poses"][:, 3:].double().numpy() * _TRANSLATION_UNIT_M
            scale = math.exp(float(unknowns["scale"]))
        poses = [
            first.after(Similarity(scale, rotation, shift))
            for first, rotation, shift in zip(self._start, rotations, shifts, strict=True)
        ]
        values = unknowns["shape"].detach().numpy()
        return ParametricFit(
            parameters={name: float(value) for name, value in zip(self._template.names, values, strict=True)},
            weights=unknowns["weights"].detach().numpy().astype(np.float32),
            to_scan=poses,
            landmark_errors_m=_masked_means(lengths, self._known.numpy()) / scale,
            surface_errors_m=_masked_means(planes, matches[2].numpy() > 0) / scale,
        )


def regularization(unknowns: dict[str, torch.Tensor]) -> torch.Tensor:
    """Equations 25 to 28: lengths of shape, mean lengths of expressions and of poses' changes from the first guess."""
    rigid = _length(unknowns["poses"][:, :3]) / (2 * math.pi) + _length(unknowns["poses"][:, 3:])
    sizes = _length(unknowns["scale"][None])
    return _length(unknowns["shape"][None]).sum() + _length(unknowns["weights"]).mean() + (rigid + sizes).mean()


def smoothness(unknowns: dict[str, torch.Tensor]) -> torch.Tensor:
    """Equations 29 and 30: changes of expression and pose between frames, over the number of frames."""
    count = len(unknowns["weights"])
    changes = {name: unknowns[name].diff(dim=0) for name in ("weights", "poses")}
    rigid = _length(changes["poses"][:, :3]) / (2 * math.pi) + _length(changes["poses"][:, 3:])
    return (_length(changes["weights"]).sum() + rigid.sum()) / count


def start_from_landmarks(
    template_landmarks: NDArray[np.floating], landmarks: NDArray[np.floating], outlier_m: float
) -> list[Similarity]:
    """First guesses of a sequence: a similarity for each frame, then one scale for all.

    Args:
        template_landmarks: (L, 3) metres.
        landmarks: (T, L, 3) of the scans, in any unit; a frame without gets the one before.
        outlier_m: in metres of the template.

    Raises:
        ValueError: no frame has enough landmarks that fit.
    """
    found: list[Similarity | None] = []
    problem = "no landmarks"
    for frame in landmarks:
        try:
            # Fitted from scan to template, so that the threshold is in the template's metres.
            found.append(align_landmarks(frame, template_landmarks, outlier_m)[0].inverse())
        except ValueError as error:
            problem = str(error)
            found.append(None)
    usable = [each for each in found if each is not None]
    if not usable:
        raise ValueError(f"no frame's landmarks fit the head: {problem}")
    scale = float(np.median([each.scale for each in usable]))
    center = np.nanmean(template_landmarks, axis=0)
    guesses, last = [], usable[0]
    for each in found:
        last = each or last
        guesses.append(last.with_scale(scale, center))
    return guesses


def _near(template: NDArray[np.floating], landmarks: NDArray[np.floating], outlier: float) -> NDArray[np.bool_]:
    """(L,) which landmarks lie where the template's do; expressions may carry lips and chin twice as far."""
    distances = np.linalg.norm(landmarks - template, axis=1)
    return np.asarray(np.nan_to_num(distances, nan=np.inf) <= 2.0 * outlier)


def _geometry_loss(
    points: torch.Tensor, places: torch.Tensor, normals: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """Equations 22 to 24 over the matched points."""
    away = points - places
    point = away.abs().sum(dim=-1)
    plane = (away * normals).sum(dim=-1).abs()
    return ((_POINT_SHARE * point + _PLANE_SHARE * plane) * shares).sum() / shares.sum().clamp_min(1.0)


def _length(values: torch.Tensor) -> torch.Tensor:
    return (values.square().sum(dim=-1) + 1e-12).sqrt()


def _masked_means(values: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1, dtype=np.float64)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
