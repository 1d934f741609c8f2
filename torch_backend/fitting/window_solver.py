"""Codes of the frames of one window: the objective of FaceTalk's equations 16-18, by Adam or by Gauss-Newton.

Codes count as their living entries, less the prior's mean, in units of the prior's size; figures of official models,
whose codes have about length 1, hold for every model then. The unknowns are these entries; or, where the model's codes
are made of blendshape weights, those within 0..1. Points on a surface say little of motion along it, and the bounds say
what a face can do. Lengths are in the model's unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from torch.nn import functional

from torch_backend.fitting.code_prior import CodePrior
from torch_backend.fitting.config import ExpressionFitConfig
from torch_backend.models.nphm import BackwardNPHM
from torch_backend.modules.denormal_numbers import flushed_denormals

POSE_UNIT = 0.02
"""Turn in radians and shift in units that counts as much as codes that differ by their size."""
_SMALLEST_RESIDUAL = 2e-4
"""Distances below this have the weight of this: 0.05 mm of the built-in head."""
_SMALLEST_LENGTH = 0.05
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-6, 1e4
_SETTLED = 1e-4
"""Relative gain of a round at which the rounds end."""
_TINY = 1e-12
_PROBES = 4
_POOL = 4
"""Points are drawn from this many times their number."""
_STEADINESS = 1e-3
"""Chooses the smallest of weights that look alike."""


@dataclass(frozen=True, eq=False)
class WindowProblem:
    """What the codes of a window depend on."""

    model: BackwardNPHM
    identity: torch.Tensor
    """(I,)."""
    prior: CodePrior
    """Of expression codes."""
    clouds: list[NDArray[np.float32]]
    """n arrays (p, 3); an empty one leaves its frame to its neighbours."""
    start_codes: NDArray[np.float32]
    """(n, X) first guess."""
    start_poses: NDArray[np.float32]
    """(n, 6) first guess."""
    before: NDArray[np.float32] | None
    """(X,) code of the frame before the window, which the first frame's is tied to (ours)."""
    generator: np.random.Generator
    """Draws the points."""


@dataclass(frozen=True, eq=False)
class FittedWindow:
    """Codes (n, X), poses (n, 6), mean |signed distance| (n,) of a window."""

    codes: NDArray[np.float32]
    poses: NDArray[np.float32]
    surface_errors: NDArray[np.float32]


def solve_window(problem: WindowProblem, config: ExpressionFitConfig) -> FittedWindow:
    """Minimise the objective of a window."""
    solver = _GaussNewton(problem, config) if config.solver == "gauss_newton" else _Adam(problem, config)
    with flushed_denormals():
        return solver.solve()


def temporal_loss(codes: torch.Tensor, threshold: float) -> torch.Tensor:
    """Huber loss of the changes between frames, summed over frames and entries (FaceTalk, equation 18).

    Args:
        codes: (n, K).
        threshold: change of an entry above which the loss grows linearly.
    """
    return functional.huber_loss(codes[1:], codes[:-1], reduction="sum", delta=threshold)


def expression_motion(
    model: BackwardNPHM, identity: torch.Tensor, prior: CodePrior, points: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(p,) how far expressions move the head about points (p, 3), by a few random codes; model's unit."""
    generator = torch.Generator().manual_seed(0)
    codes = prior.mean + torch.randn(_PROBES, len(prior.mean), generator=generator) * prior.spread
    places = torch.from_numpy(points)[None].expand(_PROBES, -1, -1)
    with torch.no_grad():
        offsets, _ = model.deform(places, identity.expand(_PROBES, -1), codes)
        motion = (offsets - offsets.mean(dim=0)).norm(dim=-1).mean(dim=0)
    return motion.double().numpy()


def rotation_matrices(vectors: torch.Tensor) -> torch.Tensor:
    """(n, 3, 3) of rotation vectors (n, 3) in radians."""
    zero = torch.zeros_like(vectors[:, 0])
    x, y, z = vectors.unbind(dim=1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)


class _Solver:
    """What both share."""

    def __init__(self, problem: WindowProblem, config: ExpressionFitConfig) -> None:
        self.problem, self.config = problem, config
        prior = problem.prior
        self.alive, self.size = prior.alive, prior.size
        generators = prior.generators if config.bounded else None
        self.is_bounded = generators is not None
        # (U, K): entries of codes = unknowns @ to_entries.
        self.to_entries = torch.eye(len(self.alive), dtype=torch.float64)
        if generators is not None:
            self.to_entries = generators[:, self.alive].double() / self.size
        entries = self.entries_of(torch.from_numpy(problem.start_codes))
        self.start = self._weights_of(entries) if self.is_bounded else entries
        self.before = None if problem.before is None else self.entries_of(torch.from_numpy(problem.before)[None])
        self.has_points = torch.tensor([len(cloud) > 0 for cloud in problem.clouds])
        self._clouds = [self._thinned(cloud) for cloud in problem.clouds]
        self._shares = [self._drawing_shares(cloud) for cloud in self._clouds]

    def entries_of(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, K) float64 of codes (n, X)."""
        return (codes.double() - self._base())[:, self.alive] / self.size

    def to_codes(self, unknowns: torch.Tensor) -> torch.Tensor:
        """(n, X) float32 of unknowns (n, U)."""
        entries = unknowns.double() @ self.to_entries
        base = self._base().expand(len(unknowns), -1)
        return base.index_add(1, self.alive, entries * self.size).float()

    def _base(self) -> torch.Tensor:
        """Weights of 0 have the code 0, whatever the mean is."""
        mean = self.problem.prior.mean.double()
        return torch.zeros_like(mean) if self.is_bounded else mean

    def _weights_of(self, entries: torch.Tensor) -> torch.Tensor:
        """(n, U) weights within 0..1 whose entries (n, K) are nearest."""
        matrix = torch.cat([self.to_entries.T, torch.eye(len(self.to_entries)).double() * _STEADINESS]).numpy()
        found: dict[bytes, torch.Tensor] = {}
        for row in entries.numpy():
            if row.tobytes() not in found:
                target = np.concatenate([row, np.zeros(len(self.to_entries))])
                solved = lsq_linear(matrix, target, (0.0, 1.0)).x if row.any() else np.zeros(len(self.to_entries))
                found[row.tobytes()] = torch.from_numpy(solved).clamp(0.0, 1.0)
        return torch.stack([found[row.tobytes()] for row in entries.numpy()])

    def _thinned(self, cloud: NDArray[np.float32]) -> NDArray[np.float32]:
        """No more points of a cloud than are worth weighing."""
        most = _POOL * self.config.points_per_frame
        if len(cloud) <= most or self.config.moving_share == 0.0:
            return cloud
        return cloud[self.problem.generator.choice(len(cloud), most, replace=False, shuffle=False)]

    def _drawing_shares(self, cloud: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """(p,) chances of a cloud's points; None where all are alike."""
        share = self.config.moving_share
        if share == 0.0 or not len(cloud):
            return None
        motion = expression_motion(self.problem.model, self.problem.identity, self.problem.prior, cloud)
        total = motion.sum()
        if total <= 0:
            return None
        chances = (1.0 - share) / len(cloud) + share * motion / total
        return chances / chances.sum()

    def draw(self, number: int) -> torch.Tensor:
        """(n, S, 3) points, with repeats where a cloud has fewer; zeros for empty clouds."""
        generator, drawn = self.problem.generator, []
        for cloud, shares in zip(self._clouds, self._shares, strict=True):
            if not len(cloud):
                drawn.append(np.zeros((number, 3), np.float32))
            elif shares is None and len(cloud) >= number:
                drawn.append(cloud[generator.choice(len(cloud), number, replace=False, shuffle=False)])
            else:
                drawn.append(cloud[generator.choice(len(cloud), number, p=shares)])
        return torch.from_numpy(np.stack(drawn))

    def steadiness(self, unknowns: torch.Tensor) -> torch.Tensor:
        """Temporal and regularising terms of equation 16, for unknowns (n, U)."""
        entries = unknowns.double() @ self.to_entries
        known = entries if self.before is None else torch.cat([self.before, entries])
        cost = self.config.temporal_weight * temporal_loss(known, self.config.huber_threshold)
        if self.is_bounded:
            return cost + self.config.sparsity_weight * unknowns.double().sum()
        return cost + self.config.regularization_weight * (entries.square().sum(dim=1) + _TINY).sqrt().sum()

    def distances(self, points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """(n, S) signed distances."""
        identity = self.problem.identity.expand(len(codes), -1)
        return self.problem.model.signed_distance(points, identity, codes)

    def finish(self, unknowns: torch.Tensor, poses: torch.Tensor, points: torch.Tensor) -> FittedWindow:
        codes = self.to_codes(unknowns)
        with torch.no_grad():
            errors = self.distances(_posed(points, poses.float()), codes).abs().mean(dim=1).numpy()
        errors[~self.has_points.numpy()] = np.nan
        return FittedWindow(codes.detach().numpy(), poses.detach().float().numpy(), errors)


class _Adam(_Solver):
    """As in the paper: new points in each step, two learning rates."""

    def solve(self) -> FittedWindow:
        """Run all steps."""
        config = self.config
        unknowns = self.start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([unknowns], config.learning_rate)
        poses = torch.from_numpy(self.problem.start_poses)
        for step in range(config.iterations):
            rate = config.learning_rate if step < config.late_from else config.late_learning_rate
            optimizer.param_groups[0]["lr"] = rate
            points = self.draw(config.points_per_frame)
            with torch.enable_grad():
                distances = self.distances(points, self.to_codes(unknowns)).abs().mean(dim=1)
                loss = config.sdf_weight * (distances * self.has_points).sum() + self.steadiness(unknowns)
                (unknowns.grad,) = torch.autograd.grad(loss, [unknowns])
            optimizer.step()
            if self.is_bounded:
                with torch.no_grad():
                    unknowns.clamp_(0.0, 1.0)
        return self.finish(unknowns.detach(), poses, self.draw(config.points_per_frame))


class _GaussNewton(_Solver):
    """The same objective by reweighted least squares with damping; each point's gradient comes from one pass back."""

    def __init__(self, problem: WindowProblem, config: ExpressionFitConfig) -> None:
        super().__init__(problem, config)
        self.points = self.draw(config.points_per_frame)
        self.num_poses = 6 if config.refine_pose else 0

    def solve(self) -> FittedWindow:
        """Rounds until the objective settles."""
        start_poses = torch.from_numpy(self.problem.start_poses).double() / POSE_UNIT
        unknowns = torch.cat([self.start, start_poses[:, : self.num_poses]], dim=1)
        damping = _FIRST_DAMPING
        value = self._objective(unknowns)
        for _ in range(self.config.rounds):
            matrix, slope = self._normal_equations(unknowns)
            gained = 0.0
            while damping <= _MOST_DAMPING:
                tried = self._stepped(unknowns, matrix, slope, damping)
                new_value = self._objective(tried)
                if new_value < value:
                    gained = value - new_value
                    unknowns, value, damping = tried, new_value, max(damping / 5.0, _LEAST_DAMPING)
                    break
                damping *= 4.0
            if gained <= _SETTLED * value:
                break
        codes, poses = self._split(unknowns)
        return self.finish(codes, poses, self.points)

    def _stepped(
        self, unknowns: torch.Tensor, matrix: torch.Tensor, slope: torch.Tensor, damping: float
    ) -> torch.Tensor:
        """A damped step; weights that are at a bound and would leave it stay there, others are cut at it."""
        free = torch.ones_like(unknowns, dtype=torch.bool)
        count = len(self.to_entries)
        if self.is_bounded:
            weights, pull = unknowns[:, :count], slope.view_as(unknowns)[:, :count]
            free[:, :count] = ~(((weights <= 0.0) & (pull > 0)) | ((weights >= 1.0) & (pull < 0)))
        rows = torch.nonzero(free.flatten()).flatten()
        part = matrix[rows][:, rows]
        step = torch.zeros_like(slope)
        step[rows] = torch.linalg.solve(part + torch.diag(part.diagonal() * damping + _TINY), slope[rows])
        tried = unknowns - step.view_as(unknowns)
        if self.is_bounded:
            tried[:, :count] = tried[:, :count].clamp(0.0, 1.0)
        return tried

    def _split(self, unknowns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes' unknowns (n, U), and poses (n, 6) in radians and units."""
        count = len(self.to_entries)
        if not self.num_poses:
            return unknowns, torch.from_numpy(self.problem.start_poses).double()
        return unknowns[:, :count], unknowns[:, count:] * POSE_UNIT

    def _objective(self, unknowns: torch.Tensor) -> float:
        codes, poses = self._split(unknowns)
        with torch.no_grad():
            distances = self.distances(_posed(self.points, poses.float()), self.to_codes(codes))
            data = (distances.abs().mean(dim=1) * self.has_points).sum().double()
            value = self.config.sdf_weight * data + self.steadiness(codes)
            if self.num_poses:
                value = value + self._pose_cost(poses / POSE_UNIT)
            return float(value)

    def _pose_cost(self, poses: torch.Tensor) -> torch.Tensor:
        changes = poses.diff(dim=0).square().sum() * self.config.temporal_weight
        return 0.5 * (changes + poses.square().sum() * self.config.regularization_weight)

    def _normal_equations(self, unknowns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Matrix (nD, nD) and gradient (nD,) of the reweighted least squares at the unknowns."""
        config = self.config
        codes, poses = self._split(unknowns)
        entries = codes @ self.to_entries
        count, width = len(unknowns), entries.shape[1] + self.num_poses
        posed, all_codes = _posed(self.points, poses.float()), self.to_codes(codes)
        matrix = torch.zeros(count, width, count, width, dtype=torch.float64)
        slope = torch.zeros(count, width, dtype=torch.float64)
        for frame in torch.nonzero(self.has_points).flatten().tolist():
            values, rows = self._jacobian(posed[frame], all_codes[frame])
            shares = config.sdf_weight / (len(values) * values.abs().clamp_min(_SMALLEST_RESIDUAL))
            weighted = rows * shares[:, None]
            matrix[frame, :, frame] += weighted.T @ rows
            slope[frame] += weighted.T @ values
        self._add_steadiness(matrix, slope, entries)
        if self.num_poses:
            self._add_pose_cost(matrix, slope, poses / POSE_UNIT)
        if self.is_bounded:
            way = torch.block_diag(self.to_entries, torch.eye(self.num_poses, dtype=torch.float64))
            matrix = torch.einsum("ua,iajb,vb->iujv", way, matrix, way)
            slope = slope @ way.T
            slope[:, : len(self.to_entries)] += config.sparsity_weight
        return matrix.reshape(slope.numel(), -1), slope.flatten()

    def _jacobian(self, points: torch.Tensor, code: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances (S,) of one frame's posed points and their derivatives (S, D) by its unknowns, float64.

        Each point gets the code as a row of its own, so that one pass back gives the derivatives of all points.
        """
        model, identity = self.problem.model, self.problem.identity
        with torch.enable_grad():
            rows = code.expand(len(points), -1).clone().requires_grad_(True)
            places = points.clone().requires_grad_(True)
            offsets, hyper = model.deform(places[:, None], identity.expand(len(points), -1), rows)
            canonical = torch.cat([places + offsets[:, 0], hyper[:, 0]], dim=-1)
            distances = model.canonical_signed_distance(canonical[None], identity[None])[0]
            by_code, by_place = torch.autograd.grad(distances.sum(), [rows, places])
        columns = by_code[:, self.alive] * self.size
        if self.num_poses:
            by_pose = torch.cat([torch.linalg.cross(points, by_place), by_place], dim=1) * POSE_UNIT
            columns = torch.cat([columns, by_pose], dim=1)
        return distances.detach().double(), columns.double()

    def _add_steadiness(self, matrix: torch.Tensor, slope: torch.Tensor, codes: torch.Tensor) -> None:
        config, (count, alive) = self.config, codes.shape
        entries = torch.arange(alive)
        known = codes if self.before is None else torch.cat([self.before, codes])
        changes = known.diff(dim=0)
        threshold = config.huber_threshold
        shares = config.temporal_weight * (threshold / changes.abs().clamp_min(threshold))
        first = count - len(changes)
        for number, (change, share) in enumerate(zip(changes, shares, strict=True), start=first):
            matrix[number, entries, number, entries] += share
            slope[number, :alive] += share * change
            if number > 0:
                matrix[number - 1, entries, number - 1, entries] += share
                matrix[number, entries, number - 1, entries] -= share
                matrix[number - 1, entries, number, entries] -= share
                slope[number - 1, :alive] -= share * change
        if self.is_bounded:
            return
        pull = config.regularization_weight / codes.norm(dim=1).clamp_min(_SMALLEST_LENGTH)
        for number in range(count):
            matrix[number, entries, number, entries] += pull[number]
            slope[number, :alive] += pull[number] * codes[number]

    def _add_pose_cost(self, matrix: torch.Tensor, slope: torch.Tensor, poses: torch.Tensor) -> None:
        count = len(poses)
        chain = torch.eye(count, dtype=torch.float64).diff(dim=0)
        cost = self.config.temporal_weight * (chain.T @ chain)
        cost += self.config.regularization_weight * torch.eye(count, dtype=torch.float64)
        for entry in range(6):
            place = matrix.shape[1] - 6 + entry
            matrix[:, place, :, place] += cost
            slope[:, place] += cost @ poses[:, entry]


def _posed(points: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    """(n, S, 3) points carried by poses (n, 6)."""
    if not bool(poses.any()):
        return points
    return points @ rotation_matrices(poses[:, :3]).transpose(1, 2) + poses[:, None, 3:]
