"""Whether a fast sampler of FaceTalk gives what the paper's 1000 steps give, paired over takes.

    python -m benchmarks.facetalk_samplers --output DIR [--takes 20] [--recordings 4] [--weights FILE]

Both samplers start from the noise of the same (seed, take). Compared are the ruler's figures of each take (closure
recall, AUC, r of opening and width; pooled over the recordings) and mean length, spread and velocity of the codes. For
each stand the two means, the difference in percent, and the 95 % interval of the mean difference over the takes (t
distribution). A figure agrees when the difference is at most 5 %, or the interval holds 0.

DDPM at 1000 steps needs 50 times the evaluations. Codes are kept in DIR, so that a stopped comparison goes on.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from benchmarks.lip_sync_scores import load_lipcheck, score_system
from benchmarks.real_speech import Recording, curves_of_weights, read_recordings
from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.inference.facetalk import FaceTalkPredictor
from torch_backend.inference.facetalk_sampling import SamplingConfig

_LOGGER = logging.getLogger("facetalk_samplers")
SCORES = ("closure_recall", "closure_auc", "r", "width_r", "lag_ms")
LIMIT_PERCENT = 5.0


def draw(
    predictor: FaceTalkPredictor, recording: Recording, config: SamplingConfig, folder: Path, at_once: int
) -> np.ndarray:
    """Codes (K, T, E) of all takes, a few from one batch; read where they were drawn before."""
    takes = []
    for first in range(0, config.takes, at_once):
        count = min(at_once, config.takes - first)
        path = folder / f"{recording.path.stem}_{config.sampler}{config.steps}_{config.seed}_{first}_{count}.npy"
        if not path.is_file():
            # One window holds the recording: then nothing is kept for a next one, which 1000 steps make large.
            frames = predictor.count_frames(len(recording.samples))
            part = SamplingConfig(
                config.sampler, config.steps, takes=count, first_take=first, seed=config.seed, window_frames=frames
            )
            drawn = np.concatenate([codes for _, codes in predictor.sample(recording.samples, part)], axis=1)
            np.save(path, drawn.astype(np.float32), allow_pickle=False)
            _LOGGER.info("%s", path.name)
        takes.append(np.load(path, allow_pickle=False))
    return np.concatenate(takes)


def measure_takes(recordings: Sequence[Recording], codes: Sequence[np.ndarray], rate: float) -> dict[str, np.ndarray]:
    """Figures (K,) of every take."""
    head, space = load_head(), load_expression_space()
    rows = []
    for take in range(len(codes[0])):
        curves = [
            curves_of_weights(head, space.decode(each[take]), recording.num_rows, rate)
            for recording, each in zip(recordings, codes, strict=True)
        ]
        scores = score_system([recording.clip for recording in recordings], curves)
        every = np.concatenate([each[take] for each in codes])
        steps = np.concatenate([np.diff(each[take], axis=0) for each in codes])
        figures = {name: scores[name].value for name in SCORES}
        figures["codes: mean length"] = float(np.linalg.norm(every, axis=1).mean())
        figures["codes: spread"] = float(np.sqrt(every.var(axis=0).sum()))
        figures["codes: velocity"] = float(np.linalg.norm(steps, axis=1).mean())
        rows.append(figures)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def compare(fast: dict[str, np.ndarray], slow: dict[str, np.ndarray], names: tuple[str, str]) -> str:
    """Markdown table of the paired differences."""
    lines = [f"| figure | {names[0]} | {names[1]} | difference | 95 % of the difference | agrees |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name in fast:
        difference = fast[name] - slow[name]
        mean, count = float(difference.mean()), len(difference)
        reach = float(stats.t.ppf(0.975, count - 1) * difference.std(ddof=1) / math.sqrt(count)) if count > 1 else 0.0
        reference = float(slow[name].mean())
        percent = 100.0 * mean / abs(reference) if reference else math.inf
        agrees = abs(percent) <= LIMIT_PERCENT or mean - reach <= 0.0 <= mean + reach
        lines.append(
            f"| {name} | {fast[name].mean():.3f} | {reference:.3f} | {percent:+.1f} % | "
            f"{mean - reach:+.4f} to {mean + reach:+.4f} | {'yes' if agrees else 'no'} |"
        )
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="default: the shipped ones")
    parser.add_argument("--takes", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=5, help="takes from one batch")
    parser.add_argument("--recordings", type=int, default=4, help="the shortest ones of those there are")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--reference-steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tools", type=Path, default=Path("../shared/tools"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not (options.data / "speech" / "clips.tsv").is_file() or not (options.tools / "lipcheck.py").is_file():
        print(f"skipped: needs clips.tsv in {options.data / 'speech'} and lipcheck.py in {options.tools}")
        return 0
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    recordings = read_recordings(options.data, load_lipcheck(options.tools))
    chosen = sorted(recordings, key=lambda recording: len(recording.samples))[: options.recordings]
    predictor = FaceTalkPredictor.load(options.weights)
    measured = []
    for sampler, steps in (("dpm_solver++", options.steps), ("ddpm", options.reference_steps)):
        config = SamplingConfig(sampler, steps, takes=options.takes, seed=options.seed)  # type: ignore[arg-type]
        codes = [draw(predictor, recording, config, options.output, options.at_once) for recording in chosen]
        measured.append(measure_takes(chosen, codes, predictor.frame_rate))
    table = compare(measured[0], measured[1], (f"{options.steps} steps", f"{options.reference_steps} steps"))
    seconds = sum(len(recording.samples) for recording in chosen) / 16_000
    note = f"{options.takes} takes of {len(chosen)} recordings, {seconds:.0f} s."
    print(f"{table}\n\n{note}")
    (options.output / "table.md").write_text(f"{table}\n\n{note}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
