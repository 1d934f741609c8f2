"""How well the head of a scan is recovered: random identities of the built-in head, scanned, turned, in millimetres.

    python benchmarks/identity_fitting.py [--head-weights FILE] [--scans 4] [--landmarks]

Each scan is the visible skin as a mesh with noise at its vertices, in a random orientation; every other one shows the
face alone. Distances are those of the true surface, brought back by the alignment that was found, from the fitted one:
after the parametric alignment alone, and after the fit. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import igl
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from blender_talkhead.facial.identities import random_identity
from torch_backend.fitting.config import load_fitting_config
from torch_backend.fitting.fitted_head import FittedHead, load_fitted_head
from torch_backend.fitting.scan_identity import ScanSettings, fit_scan
from torch_backend.fitting.similarity import Similarity
from torch_backend.fitting.template_model import visible_vertices
from torch_backend.head import load_head
from torch_backend.head.identity import apply_identity
from torch_backend.head.identity_codes import load_identity_codes

FIRST_SEED = 9000
"""Identities from here on are nobody's training identities."""


def make_scan(seed: int, face_only: bool, noise_mm: float, folder: Path) -> tuple[Path, np.ndarray, Similarity]:
    """A scan's file, the true vertices that it shows (metres of the head), and the way to the scan."""
    generator = np.random.default_rng(seed)
    mean = load_head()
    head = apply_identity(mean, random_identity(seed))
    visible = visible_vertices(mean)
    if face_only:
        visible = visible[mean.vertices[visible, 2] > 0.02]
    numbers = np.full(mean.num_skin_vertices, -1)
    numbers[visible] = np.arange(len(visible))
    triangles = numbers[mean.skin_triangles]
    triangles = triangles[(triangles >= 0).all(axis=1)]
    true = head.vertices[visible].astype(np.float64)
    way = Similarity(1000.0, Rotation.random(random_state=seed).as_matrix(), generator.normal(size=3) * 300.0)
    path = folder / f"scan{seed}.obj"
    igl.writeOBJ(str(path), way.apply(true + generator.normal(size=true.shape) * noise_mm * 1e-3), triangles)
    np.save(path.with_suffix(".npy"), way.apply(head.vertices[head.landmarks68]))
    return path, true, way


def distances_mm(head: FittedHead, identity: torch.Tensor, points: np.ndarray) -> np.ndarray:
    """Of points (n, 3) in metres of the built-in head from the surface of an identity at rest."""
    places = torch.from_numpy(head.space.to_model(points))[None]
    with torch.no_grad():
        found = head.model.signed_distance(places, identity[None], torch.zeros(1, head.model.expression_size))
    return found[0].abs().numpy() * head.space.metres_per_unit * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head-weights", type=Path)
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--noise-mm", type=float, default=0.2)
    parser.add_argument("--landmarks", action="store_true", help="give the fit landmarks, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = load_fitted_head(options.head_weights)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.scans):
            path, true, way = make_scan(FIRST_SEED + number, number % 2 == 1, options.noise_mm, Path(folder))
            landmarks = path.with_suffix(".npy") if options.landmarks else None
            started = time.process_time()
            fitted = fit_scan(path, head, ScanSettings(load_fitting_config(), landmarks=landmarks))
            seconds = time.process_time() - started
            to_scan = fitted.facts["to_scan"]
            found = Similarity(to_scan["scale"], np.array(to_scan["rotation"]), np.array(to_scan["translation"]))
            points = found.inverse().after(way).apply(true)
            start = torch.from_numpy(load_identity_codes().encode(fitted.facts["parameters"]))
            exact = torch.from_numpy(load_identity_codes().encode(random_identity(FIRST_SEED + number)))
            row = {"scan": "face" if number % 2 else "head", "seconds": seconds}
            cases = {
                "parametric": (start, points),
                "fitted": (fitted.identity_code, points),
                "true code": (exact, true),
            }
            for name, (code, places) in cases.items():
                distances = distances_mm(head, code, places)
                row |= {f"{name} mean": distances.mean(), f"{name} 95": np.quantile(distances, 0.95)}
            rows.append({key: value if isinstance(value, str) else float(value) for key, value in row.items()})
            print(
                "  ".join(f"{key} {value if isinstance(value, str) else round(value, 3)}" for key, value in row.items())
            )
    print(json.dumps({"options": {key: str(value) for key, value in vars(options).items()}, "rows": rows}))


if __name__ == "__main__":
    main()
