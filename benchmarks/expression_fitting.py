"""How well expression codes are recovered from noisy, partial point clouds, with and without the temporal term.

    python benchmarks/expression_fitting.py --sequences DIR [--head-weights FILE] [--frames 48] [--solver gauss_newton]

DIR is a folder of code sequences of the built-in head (`train facetalk` makes one of a corpus). Held-out sequences are
played on an identity of the built-in head; what a scanner in front of the face would see of each frame, with noise and
outliers, is given to the fit. Figures as in Table 4 of FaceTalk, and the distance of the true surface from the fitted
one. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from blender_talkhead.facial.identities import resolve_identity
from torch_backend.fitting.config import ExpressionFitConfig, load_fitting_config
from torch_backend.fitting.expression_fit import ExpressionFitter
from torch_backend.fitting.fitted_head import FittedHead, load_fitted_head
from torch_backend.fitting.template_model import visible_vertices
from torch_backend.head import Head, load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.identity import apply_identity
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.metrics.code_jitter import (
    frame_difference_mae,
    frame_difference_rmse,
    neighbor_correlation,
    second_difference_rmse,
)
from torch_backend.training.code_sequences import CodeSequences, load_code_sequences
from torch_backend.training.mouth_codes import load_mouth_of_codes

SCORED = 2000
"""Points of the true surface a frame."""
LEAST_COSINE = 0.25
"""Between a surface's normal and the way to the scanner."""


class Scanner:
    """Points that a scanner in front of the face sees."""

    def __init__(self, head: Head, noise_mm: float, outliers: float, number: int) -> None:
        self.head, self.noise_mm, self.outliers, self.number = head, noise_mm, outliers, number
        visible = visible_vertices(load_head())
        self.triangles = head.skin_triangles[np.isin(head.skin_triangles, visible).all(axis=1)]

    def points(self, weights: np.ndarray, generator: np.random.Generator, clean: bool = False) -> np.ndarray:
        """(n, 3) metres of a frame; clean ones are fewer, and lie on the surface."""
        number = SCORED if clean else self.number
        posed = self.head.pose(weights)[: self.head.num_skin_vertices].astype(np.float64)
        corners = posed[self.triangles]
        crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas = np.linalg.norm(crosses, axis=1)
        facing = crosses[:, 2] > LEAST_COSINE * areas
        chosen = generator.choice(len(areas), number, p=areas * facing / (areas * facing).sum())
        points = np.einsum("nc,nci->ni", generator.dirichlet([1, 1, 1], number), corners[chosen])
        if clean:
            return points
        points += generator.normal(size=points.shape) * self.noise_mm * 1e-3
        stray = generator.uniform(size=len(points)) < self.outliers
        points[stray] += generator.normal(size=(stray.sum(), 3)) * 0.02
        return points


def score(head: FittedHead, identity: torch.Tensor, scanner: Scanner, weights: np.ndarray, codes: np.ndarray) -> dict:
    """Distances of the true surface from the fitted one, in millimetres, all and at the lips."""
    generator, far, at_lips = np.random.default_rng(99), [], []
    mouth = load_head().vertices[load_head().regions["lips"]].astype(np.float64)
    low, high = mouth.min(axis=0) - 0.008, mouth.max(axis=0) + 0.008
    for row, code in zip(weights, codes, strict=True):
        points = scanner.points(row, generator, clean=True)
        places = torch.from_numpy(head.space.to_model(points))[None]
        with torch.no_grad():
            distances = head.model.signed_distance(places, identity[None], torch.from_numpy(code)[None])[0].abs()
        distances = distances.numpy() * head.space.metres_per_unit * 1e3
        far.append(distances)
        at_lips.append(distances[((points > low) & (points < high)).all(axis=1)])
    far, at_lips = np.concatenate(far), np.concatenate(at_lips)
    return {
        "surface_mm": float(far.mean()),
        "surface_95_mm": float(np.quantile(far, 0.95)),
        "lips_mm": float(at_lips.mean()),
    }


def jitter(codes: np.ndarray) -> dict:
    """Figures of Table 4 and Figure 9, and the second difference."""
    return {
        "mae": frame_difference_mae(codes),
        "rmse": frame_difference_rmse(codes),
        "second": second_difference_rmse(codes),
        "correlation": neighbor_correlation(codes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--head-weights", type=Path)
    parser.add_argument("--identity", default="7")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--points", type=int, default=1000, help="of a step")
    parser.add_argument("--scanned", type=int, default=8000, help="points a frame")
    parser.add_argument("--noise-mm", type=float, default=0.5)
    parser.add_argument("--outliers", type=float, default=0.02)
    parser.add_argument("--solver", default="gauss_newton", choices=("gauss_newton", "adam"))
    parser.add_argument("--temporal", type=float, nargs="+", help="weights; default: none and the shipped one")
    parser.add_argument("--as-paper", action="store_true", help="codes without bounds, points of the whole cloud")
    parser.add_argument("--regularization", type=float)
    parser.add_argument("--huber", type=float)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = load_fitted_head(options.head_weights)
    parameters = resolve_identity(options.identity)
    identity = torch.from_numpy(load_identity_codes().encode(parameters))
    scanner = Scanner(apply_identity(load_head(), parameters), options.noise_mm, options.outliers, options.scanned)
    sequences = load_code_sequences(options.sequences)
    clips = choose_clips(sequences, options.clips, options.frames)
    config = replace(load_fitting_config().expression, solver=options.solver, points_per_frame=options.points)
    config = replace(config, bounded=False, moving_share=0.0) if options.as_paper else config
    config = config if options.regularization is None else replace(config, regularization_weight=options.regularization)
    config = config if options.huber is None else replace(config, huber_threshold=options.huber)
    rows = {}
    for weight in options.temporal or [0.0, config.temporal_weight]:
        rows[f"temporal {weight:g}"] = measure(
            head, identity, scanner, clips,
            replace(config, temporal_weight=weight),
        )  # fmt: skip
    print_table(rows)
    print(json.dumps({"options": {k: str(v) for k, v in vars(options).items()}, "rows": rows}))


def choose_clips(sequences: CodeSequences, number: int, frames: int) -> list[np.ndarray]:
    """(frames, X) of the held-out sequences that move most, each where it moves most, no two of one utterance."""
    found = []
    for index in sequences.indices(True):
        codes = np.asarray(sequences.codes[sequences.rows(index)], np.float32)
        if len(codes) > frames:
            motion = np.cumsum(np.linalg.norm(np.diff(codes, axis=0), axis=1))
            gains = motion[frames - 1 :] - np.concatenate([[0.0], motion[: -frames + 1]])[: len(motion) - frames + 1]
            start = int(gains.argmax())
            found.append((float(gains[start]), sequences.names[index].rsplit("_", 1)[0], codes[start : start + frames]))
    found.sort(key=lambda each: -each[0])
    distinct = {name: codes for _, name, codes in reversed(found)}
    return list(distinct.values())[::-1][:: max(1, len(distinct) // (2 * number))][:number]


def opening(codes: np.ndarray, true_codes: np.ndarray) -> dict:
    """How far the lips stand apart in the middle, against the truth: error in millimetres, and correlation."""
    to_opening = load_mouth_of_codes().opening
    found, truth = codes @ to_opening, true_codes @ to_opening
    return {
        "opening_error_mm": float(np.abs(found - truth).mean()),
        "opening_correlation": float(np.corrcoef(found, truth)[0, 1]),
    }


def measure(
    head: FittedHead, identity: torch.Tensor, scanner: Scanner, clips: list[np.ndarray], config: ExpressionFitConfig
) -> dict:
    """Fit some clips and average the figures; truth's own beside them."""
    found = []
    for number, truth in enumerate(clips):
        weights = load_expression_space().decode(truth.astype(np.float32))
        true_codes = load_expression_space().encode(weights)
        generator = np.random.default_rng(number)
        clouds = [head.space.to_model(scanner.points(row, generator)) for row in weights]
        started = time.process_time()
        fitter = ExpressionFitter(head.model, identity, head.priors.expression, config)
        codes = fitter.fit(len(clouds), clouds.__getitem__, seed=0).codes
        seconds = (time.process_time() - started) / len(clouds)
        alive = head.priors.expression.alive.numpy()
        figures = score(head, identity, scanner, weights, codes)
        figures |= {
            f"true_model_{name}": value for name, value in score(head, identity, scanner, weights, true_codes).items()
        }
        figures |= jitter(codes[:, alive]) | {f"true_{k}": v for k, v in jitter(true_codes[:, alive]).items()}
        figures |= opening(codes, true_codes)
        figures["code_error"] = float(np.sqrt(np.square(codes - true_codes)[:, alive].sum(axis=1).mean()))
        figures["seconds_a_frame"] = seconds
        found.append(figures)
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def print_table(rows: dict[str, dict]) -> None:
    for name in next(iter(rows.values())):
        print(f"{name:28s}" + "".join(f"{row[name]:14.5f}" for row in rows.values()))
    print(" " * 28 + "".join(f"{name:>14s}" for name in rows))


if __name__ == "__main__":
    main()
