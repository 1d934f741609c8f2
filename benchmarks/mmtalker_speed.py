"""How many times faster than real time MMTalker animates, speech encoder included.

    python -m benchmarks.mmtalker_speed [--vertices 5000] [--seconds 10] [--threads 2] [--weights FILE]

Prints one line a precision and block size; the best of several runs counts, because other programs disturb.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from torch_backend.inference import mmtalker as inference
from torch_backend.inference.mmtalker import MMTalkerPlan, MMTalkerPredictor, Precision

SAMPLE_RATE = 16_000
BLOCKS = (4, inference.BLOCK_FRAMES, 16)


def make_sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllable-like bursts: the cost does not depend on what is said."""
    random = np.random.default_rng(seed)
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    envelope = np.clip(np.sin(2 * np.pi * 4 * times), 0, 1)
    return (0.1 * envelope * random.standard_normal(len(times))).astype(np.float32)


def measure(predictor: MMTalkerPredictor, plan: MMTalkerPlan, samples: np.ndarray, repeats: int) -> float:
    """Seconds of sound over the seconds that animating it takes, the best of `repeats`."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        for _first_frame, _offsets in predictor.animate(samples, plan):
            pass
        best = min(best, time.perf_counter() - start)
    return len(samples) / SAMPLE_RATE / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vertices", type=int, default=5000, help="vertices of the skin")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the sound")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    samples = make_sound(arguments.seconds)
    precisions: list[Precision] = ["float32"]
    if inference.has_fast_bfloat16():
        precisions.append("bfloat16")
    for precision in precisions:
        predictor = MMTalkerPredictor.load(arguments.weights, precision=precision)
        plan = predictor.plan(arguments.vertices)
        for block in BLOCKS:
            inference.BLOCK_FRAMES = block
            speed = measure(predictor, plan, samples, arguments.repeats)
            print(f"{precision} {arguments.vertices} vertices, blocks of {block}: {speed:.1f} x real time")


if __name__ == "__main__":
    main()
