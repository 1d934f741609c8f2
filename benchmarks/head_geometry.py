"""Geometric faults of the built-in head over identities, blendshapes and random speech.

    python -m benchmarks.head_geometry [--identities 100] [--frames 200] [--seed 0] [--extremes]

Each identity (seeds 0, 1, ...; the first is the mean head) is posed with every blendshape at weight 1, with blinks a
quarter, half and three quarters closed, with random speech frames (blinks, gaze and all expressions with it) and with
closed lips at every jaw opening. Printed are the worst lid cut, lip overlap, count of teeth
through lips and seal gap of each identity, and how many identities keep all limits. The exit code is 1 if one does not.

With `--extremes` the heads are others: every slider of a character alone at either end, and a few heads whose sliders
all stand at one of their ends, drawn by the seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from blender_talkhead.facial.expressions import EXPRESSIONS
from blender_talkhead.facial.identities import random_identity
from blender_talkhead.facial.identity_parameters import IDENTITY_PARAMETERS
from blender_talkhead.facial.performance import Controls, Performance, compose_performance
from torch_backend.head.head import Head, load_head
from torch_backend.head.identity import apply_identity
from torch_backend.metrics.face_collisions import FaceCollisions, measure_collisions, measure_seal_gap
from torch_backend.metrics.lip_gap import measure_lip_gap
from torch_backend.speech_corpus.articulation import articulate
from torch_backend.speech_corpus.phones import BILABIALS, PHONES, PhoneSegment

LID_CUT_LIMIT_MM = 0.2
LIP_OVERLAP_LIMIT_MM = 0.3
SEAL_GAP_LIMIT_MM = 0.2
ALL_EXTREME_HEADS = 20
_RATE = 60.0
_JAW_OPENINGS = (0.1, 0.25, 0.5, 0.75, 1.0)
_CLOSURE_SHARE = 0.15
"""How many of the phones are a p, b or m at least, so that every seed has some."""
_LID_STEPS = (0.25, 0.5, 0.75)
_BESIDE_A_BLINK = (("eyeBlink", 0.0), ("eyeWide", 0.5), ("eyeLookUp", 1.0), ("eyeLookDown", 1.0), ("eyeSquint", 1.0),
                   ("cheekSquint", 1.0))  # fmt: skip


@dataclass(frozen=True)
class IdentityReport:
    """Worst faults of one identity."""

    name: str
    collisions: FaceCollisions
    seal_gap_mm: float

    @property
    def is_clean(self) -> bool:
        """Whether every limit is kept."""
        found = self.collisions
        return (
            found.lid_cut_mm <= LID_CUT_LIMIT_MM
            and found.lip_overlap_mm <= LIP_OVERLAP_LIMIT_MM
            and found.teeth_through_lips == 0
            and self.seal_gap_mm <= SEAL_GAP_LIMIT_MM
        )


def single_shapes() -> NDArray[np.float64]:
    """Return poses (n, 52): each blendshape at weight 1, then the lids' shapes half way and on their way to a blink.

    mouthClose comes with the opening it closes, tongueOut with a jaw half open.
    """
    weights = np.eye(len(ARKIT_BLENDSHAPES))
    weights[BLENDSHAPE_INDEX["mouthClose"], BLENDSHAPE_INDEX["jawOpen"]] = 1.0
    weights[BLENDSHAPE_INDEX["tongueOut"], BLENDSHAPE_INDEX["jawOpen"]] = 0.5
    blinks = []
    for closing, (name, amount) in product(_LID_STEPS, _BESIDE_A_BLINK):
        pose = np.zeros(len(ARKIT_BLENDSHAPES))
        for side in ("Left", "Right"):
            pose[BLENDSHAPE_INDEX[name + side]] = amount
            pose[BLENDSHAPE_INDEX["eyeBlink" + side]] = closing
        blinks.append(pose)
    return np.concatenate([weights, np.array(blinks)])


def random_speech(head: Head, frames: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights (frames, 52) of random speech, and (n, 52) of the middles of its p, b and m.

    Lids blink and follow the gaze, brows move, and each of EXPRESSIONS holds a share of the time at full strength,
    composed with the speech as the add-on does it.
    """
    random = np.random.default_rng(seed)
    segments, start = [], 0.3
    spoken = [phone for phone in PHONES if phone != "SIL"]
    while start < frames / _RATE + 0.6:
        duration = float(random.uniform(0.04, 0.18))
        phone = random.choice(sorted(BILABIALS) if random.random() < _CLOSURE_SHARE else spoken)
        segments.append(PhoneSegment(start, start + duration, str(phone)))
        start += duration
    regular = 0.3 + np.arange(frames) / _RATE
    middles = [(s.start_seconds + s.end_seconds) / 2 for s in segments if s.phone in BILABIALS]
    middles = np.array([time for time in middles if time < regular[-1]])
    times = np.sort(np.concatenate([regular, middles]))
    weights = articulate(segments, times).astype(np.float64)
    for side in ("Left", "Right"):
        blink = np.clip(np.sin(2.0 * np.pi * 0.7 * times) * 3.0 - 1.5, 0.0, 1.0)
        weights[:, BLENDSHAPE_INDEX["eyeBlink" + side]] = blink
        for name, rate, phase in (("eyeLookUp", 0.31, 0.0), ("eyeLookDown", 0.31, np.pi), ("browOuterUp", 0.4, 1.0)):
            wave = np.clip(np.sin(2.0 * np.pi * rate * times + phase), 0.0, 1.0)
            weights[:, BLENDSHAPE_INDEX[name + side]] = wave
    weights = _with_expressions(head, weights, times)
    return weights[np.searchsorted(times, regular)], weights[np.searchsorted(times, middles)]


def _with_expressions(head: Head, weights: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    shown = np.floor((times - times[0]) / (times[-1] - times[0] + 1e-9) * len(EXPRESSIONS)).astype(int)
    posed = head.vertices + head.blendshapes
    performance = Performance(
        frame_rate=_RATE,
        weights=weights.astype(np.float32),
        residual=np.zeros((len(weights), 0), np.float32),
        lip_gaps=measure_lip_gap(posed, head.lip_contact_pairs, head.vertices).astype(np.float32),
    )
    controls = replace(Controls.neutral(len(weights)), expressions=np.eye(len(EXPRESSIONS), dtype=np.float32)[shown])
    return compose_performance(performance, controls).weights.astype(np.float64)


def closed_lips() -> NDArray[np.float64]:
    """Return poses (n, 52) of lips closed at every jaw opening."""
    weights = np.zeros((len(_JAW_OPENINGS), len(ARKIT_BLENDSHAPES)))
    for name in ("jawOpen", "mouthClose"):
        weights[:, BLENDSHAPE_INDEX[name]] = _JAW_OPENINGS
    return weights


def check_identity(head: Head, name: str, frames: int, seed: int) -> IdentityReport:
    """Measure one head."""
    speech, closures = random_speech(head, frames, seed)
    collisions = measure_collisions(head, np.concatenate([single_shapes(), speech]))
    return IdentityReport(name, collisions, measure_seal_gap(head, np.concatenate([closed_lips(), closures])))


def describe(report: IdentityReport) -> str:
    """Return one line of the table."""
    found = report.collisions
    return (
        f"{report.name:>20}  lid cut {found.lid_cut_mm:6.2f} mm  lip overlap {found.lip_overlap_mm:5.2f} mm  "
        f"teeth out {found.teeth_through_lips:4d}  seal gap {report.seal_gap_mm:5.2f} mm"
    )


def random_heads(count: int) -> Iterator[tuple[str, Head]]:
    """Yield the mean head, and those of the seeds 1 to count - 1, with their names."""
    mean = load_head()
    yield "mean", mean
    for number in range(1, count):
        yield str(number), apply_identity(mean, random_identity(number))


def extreme_heads(seed: int) -> Iterator[tuple[str, Head]]:
    """Yield a head for each end of each slider, and ALL_EXTREME_HEADS whose sliders all stand at an end."""
    mean, random = load_head(), np.random.default_rng(seed)
    for name, amount in product(IDENTITY_PARAMETERS, (-1.0, 1.0)):
        yield f"{name} {amount:+.0f}", apply_identity(mean, {name: amount})
    for number in range(ALL_EXTREME_HEADS):
        ends = random.choice([-1.0, 1.0], size=len(IDENTITY_PARAMETERS))
        yield f"all {number}", apply_identity(mean, dict(zip(IDENTITY_PARAMETERS, ends.tolist(), strict=True)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all identities and print a line for each; return 0 if all keep the limits."""
    parser = argparse.ArgumentParser(description="Geometric faults of the built-in head.")
    parser.add_argument("--identities", type=int, default=100, help="how many, the mean head included")
    parser.add_argument("--frames", type=int, default=200, help="random speech frames of each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the speech")
    parser.add_argument("--extremes", action="store_true", help="sliders at their ends in place of random identities")
    options = parser.parse_args(arguments)
    heads = extreme_heads(options.seed) if options.extremes else random_heads(options.identities)
    reports = []
    for number, (name, head) in enumerate(heads):
        reports.append(check_identity(head, name, options.frames, options.seed + number))
        sys.stdout.write(describe(reports[-1]) + "\n")
        sys.stdout.flush()
    clean = sum(report.is_clean for report in reports)
    sys.stdout.write(f"{clean} of {len(reports)} identities keep all limits\n")
    return 0 if clean == len(reports) else 1


if __name__ == "__main__":
    sys.exit(main())
