"""Points per CPU second of the neural head models, on one thread: `python -m benchmarks.head_model_speed`.

Processor time, so that other work on the machine counts less. Random weights; the arithmetic does not depend on them.
"dense" asks all 39 local members instead of the 8 nearest.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch

import torch_backend
from torch_backend.config import load_toml_config
from torch_backend.models.nphm import BackwardNPHM, ForwardNPHM
from torch_backend.models.nphm_config import BackwardNPHMConfig, ForwardNPHMConfig
from torch_backend.training.nphm_run import load_training_config

CONFIGS = Path(torch_backend.__file__).parent / "configs"


def points_per_second(work: Callable[[], object], num_points: int, repeats: int) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return num_points / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    anchors = torch.randn(39, 3, generator=generator) * 0.2
    points = torch.rand(1, options.points, 3, generator=generator) - 0.5
    identity, expression = torch.randn(1, 1344, generator=generator), torch.randn(1, 200, generator=generator)
    sizes = {
        "nphm": load_toml_config(CONFIGS / "nphm.toml", BackwardNPHMConfig),
        "nphm_head": load_training_config(CONFIGS / "nphm_head.toml", Path()).model,
    }
    for name, config in sizes.items():
        model = BackwardNPHM(config, anchors).eval()
        dense = BackwardNPHM(dataclasses.replace(config, num_neighbors=39), anchors).eval()
        hyper = torch.cat([points, points[..., : config.hyper_size]], dim=-1)
        tasks = {
            "deformation": lambda m=model: m.deform(points, identity, expression),
            "canonical distance": lambda m=model, x=hyper: m.canonical_signed_distance(x, identity),
            "canonical distance, dense": lambda m=dense, x=hyper: m.canonical_signed_distance(x, identity),
            "distance in a pose": lambda m=model: m.signed_distance(points, identity, expression),
        }
        with torch.no_grad():
            for task, work in tasks.items():
                rate = points_per_second(work, options.points, options.repeats)
                print(f"{name:12s} {task:26s} {rate:10.0f} points/CPU s")
    forward = ForwardNPHM(ForwardNPHMConfig(), anchors).eval()
    with torch.no_grad():
        rate = points_per_second(
            lambda: forward.canonical_signed_distance(points, identity), options.points, options.repeats
        )
    print(f"{'forward':12s} {'canonical distance':26s} {rate:10.0f} points/CPU s")


if __name__ == "__main__":
    main()
