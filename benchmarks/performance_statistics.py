"""Blinks, head motion, brows and gaze of clips beside published ranges. Nothing is tuned on the recordings given.

    python -m benchmarks.performance_statistics RECORDING ... [--seeds N] [--json]
    python -m benchmarks.performance_statistics --made-up 600       ten minutes of made-up phrases, silence after them

Everything is measured from what a clip holds, curves and quaternions at 30 frames per second, not from the plan behind
them. A recording is performed with several seeds, because a short one has few blinks. What is published:

- Blinks a minute: at rest 17, in conversation 26, reading 4.5 on average. A. R. Bentivoglio et al., "Analysis of blink
  rate patterns in normal subjects", Movement Disorders 12 (1997).
- Duration of a spontaneous blink: a few hundred milliseconds, its closing phase well under its opening phase.
  F. VanderWerf et al., "Eyelid movements", Journal of Neurophysiology 89 (2003). The ranges printed for closing (70 to
  100 ms) and for the whole (100 to 400 ms) are those that the performance was designed for.
- Blinks gather where speech pauses: T. Nakano and S. Kitazawa, "Eyeblink entrainment at breakpoints of speech",
  Experimental Brain Research 205 (2010).
- Intervals between blinks are skewed to long ones; their logarithm is nearly normal.
- Head: slow movements below 1.8 Hz, ordinary ones to 3.7, rapid ones to 7 Hz. U. Hadar, T. J. Steiner, E. C. Grant,
  F. C. Rose, "Kinematics of head movements accompanying speech during conversation", Human Movement Science 2 (1983).
  The head follows pitch and loudness: K. G. Munhall et al., "Visual prosody and speech intelligibility", Psychological
  Science 15 (2004). Neither gives one figure of speed for everybody: none is printed as a range.
- Brows: 71 % of rises go with a rise of pitch, in C. Cave et al., "About the relationship between eyebrow movements and
  F0 variations", ICSLP 1996. The share printed counts raises whose peak has a pitch above the speaker's median; the
  correlation has no published range of its own.
- Saccades last 21 + 2.2 A ms for A degrees (R. H. S. Carpenter, "Movements of the Eyes", 1988); at 30 frames per second
  that is one or two frames. Speakers look at the viewer for 3.1 s, away for 0.9 s: S. P. Lee, J. B. Badler,
  N. I. Badler, "Eyes Alive", SIGGRAPH 2002.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torch_backend.audio.frame_grid import count_frames
from torch_backend.audio.loading import decode_audio
from torch_backend.audio.prosody import SAMPLE_RATE, VOICED_THRESHOLD, ProsodyTrack, compute_prosody
from torch_backend.head import load_head
from torch_backend.performance.perform import UPPER_FACE, Performance, perform_prosody
from torch_backend.performance.rotations import multiply_quaternions, rotate_vectors

FRAME_RATE = 30.0
SHUT = 0.6
"""A peak of the lids' closure above this is a blink."""
DOUBLE_SECONDS = 0.6
AWAY_DEGREES = 3.6
PUBLISHED = {
    "blinks_per_minute": "17 at rest, 26 in conversation (Bentivoglio 1997); wanted 15 to 20",
    "blink_milliseconds": "100 to 400",
    "closing_milliseconds": "70 to 100",
    "blink_interval_median_seconds": "",
    "blink_interval_log_deviation": "log-normal",
    "blink_interval_log_skew": "0 when log-normal",
    "double_blinks_share": "about 0.1 wanted",
    "blinks_at_phrase_ends_over_chance": "above 1 (Nakano and Kitazawa 2010)",
    "head_degrees_per_second_mean": "",
    "head_degrees_per_second_95": "",
    "head_power_below_1.8_hz": "most; some to 7 Hz (Hadar 1983)",
    "head_power_above_7_hz": "none (Hadar 1983)",
    "head_degrees_from_rest_95": "",
    "brow_rises_with_high_pitch_share": "0.71 with a rise of F0 (Cave 1996)",
    "brow_pitch_correlation": "",
    "gaze_away_share": "0.23 in speech (Lee 2002)",
    "fixation_median_seconds": "0.2 to 1",
}


@dataclass(frozen=True)
class Take:
    """One performance and the sound behind it."""

    prosody: ProsodyTrack
    performance: Performance

    @property
    def seconds(self) -> float:
        """Length of the take."""
        return len(self.performance.head_rotation) / FRAME_RATE


def measure_takes(takes: Sequence[Take]) -> dict[str, float]:
    """All figures over all takes together."""
    seconds = sum(take.seconds for take in takes)
    blinks = [find_peaks(lids(take)) for take in takes]
    gaps = np.concatenate([np.diff(starts) for starts, _, _ in blinks] or [np.zeros(0)])
    doubles = int((gaps < DOUBLE_SECONDS).sum())
    single = gaps[gaps >= DOUBLE_SECONDS]
    logs = np.log(single) if len(single) > 2 else np.array([0.0, 1.0])
    speeds = np.concatenate([head_speed(take.performance.head_rotation) for take in takes])
    turned = np.concatenate(
        [2 * np.degrees(np.arccos(np.clip(t.performance.head_rotation[:, 0], -1, 1))) for t in takes]
    )
    low, high = head_power(takes)
    return {
        "takes": len(takes),
        "seconds": seconds,
        "blinks_per_minute": 60.0 * sum(len(starts) for starts, _, _ in blinks) / seconds,
        "blink_milliseconds": 1000.0 * float(np.mean(np.concatenate([each[1] for each in blinks]))),
        "closing_milliseconds": 1000.0 * float(np.mean(np.concatenate([each[2] for each in blinks]))),
        "blink_interval_median_seconds": float(np.median(single)) if len(single) else 0.0,
        "blink_interval_log_deviation": float(logs.std()),
        "blink_interval_log_skew": float(np.mean((logs - logs.mean()) ** 3) / logs.std() ** 3),
        "double_blinks_share": doubles / max(1, sum(len(starts) for starts, _, _ in blinks) - doubles),
        "blinks_at_phrase_ends_over_chance": phrase_end_ratio(takes, [starts for starts, _, _ in blinks]),
        "head_degrees_per_second_mean": float(speeds.mean()),
        "head_degrees_per_second_95": float(np.percentile(speeds, 95)),
        "head_power_below_1.8_hz": low,
        "head_power_above_7_hz": high,
        "head_degrees_from_rest_95": float(np.percentile(turned, 95)),
        **brow_figures(takes),
        **gaze_figures(takes),
    }


def lids(take: Take) -> np.ndarray:
    return take.performance.upper_face[:, UPPER_FACE.index("eyeBlinkLeft")].astype(np.float64)


def find_peaks(closure: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peak times, durations and closing times in seconds of blinks; crossings of 2 % are found between the frames."""
    times = np.arange(len(closure)) / FRAME_RATE
    peaks = [
        i for i in range(1, len(closure) - 1)
        if closure[i] >= SHUT and closure[i] > closure[i - 1] and closure[i] >= closure[i + 1]
    ]  # fmt: skip
    durations, closings = [], []
    for peak in peaks:
        begin, end = peak, peak
        while begin > 0 and closure[begin] > 0.02 and closure[begin - 1] < closure[begin]:
            begin -= 1
        while end < len(closure) - 1 and closure[end] > 0.02 and closure[end + 1] <= closure[end]:
            end += 1
        durations.append(max(times[end] - times[begin] - 1.0 / FRAME_RATE, 1.0 / FRAME_RATE))
        closings.append(max(times[peak] - times[begin] - 0.5 / FRAME_RATE, 0.5 / FRAME_RATE))
    return times[peaks], np.array(durations), np.array(closings)


def phrase_end_ratio(takes: Sequence[Take], blinks: Sequence[np.ndarray]) -> float:
    """Share of blinks within 0.1 s before to 0.4 s behind a phrase's end, over the share of time that this is."""
    near, expected = 0.0, 0.0
    for take, starts in zip(takes, blinks, strict=True):
        ends = [end for _, end in take.performance.phrasing.phrases if end < take.seconds - 0.5]
        near += sum(any(-0.1 <= start - end <= 0.4 for end in ends) for start in starts)
        expected += len(starts) * min(1.0, 0.5 * len(ends) / take.seconds)
    return near / expected if expected else 0.0


def head_speed(rotations: np.ndarray) -> np.ndarray:
    """Degrees per second between the frames of (T, 4) quaternions."""
    rotations = rotations.astype(np.float64)
    conjugate = rotations[:-1] * np.array([1.0, -1.0, -1.0, -1.0])
    change = multiply_quaternions(rotations[1:], conjugate)
    return np.degrees(2.0 * np.arctan2(np.linalg.norm(change[:, 1:], axis=1), np.abs(change[:, 0]))) * FRAME_RATE


def head_power(takes: Sequence[Take]) -> tuple[float, float]:
    """Share of the power of the head's turning speed below 1.8 Hz, and above 7 Hz."""
    low, high, total = 0.0, 0.0, 0.0
    for take in takes:
        speed = np.diff(take.performance.head_rotation[:, 1:].astype(np.float64), axis=0)
        power = (np.abs(np.fft.rfft(speed * np.hanning(len(speed))[:, None], axis=0)) ** 2).sum(axis=1)
        frequencies = np.fft.rfftfreq(len(speed), 1.0 / FRAME_RATE)
        low += power[frequencies < 1.8].sum()
        high += power[frequencies > 7.0].sum()
        total += power.sum()
    return low / total, high / total


def brow_figures(takes: Sequence[Take]) -> dict[str, float]:
    """Correlation of the inner brows with pitch over voiced frames, and how many raises have a high pitch."""
    brows, pitches, high, raises = [], [], 0, 0
    for take in takes:
        times = np.arange(len(take.performance.upper_face)) / FRAME_RATE
        brow = take.performance.upper_face[:, UPPER_FACE.index("browInnerUp")].astype(np.float64)
        pitch = np.interp(times, take.prosody.times, take.prosody.f0_semitones)
        voiced = np.interp(times, take.prosody.times, take.prosody.voicing) > VOICED_THRESHOLD
        brows.append(brow[voiced])
        pitches.append(pitch[voiced])
        peaks = np.flatnonzero((brow[1:-1] > 0.1) & (brow[1:-1] > brow[:-2]) & (brow[1:-1] >= brow[2:])) + 1
        raises += len(peaks)
        high += int((pitch[peaks] > 0.0).sum())
    brow, pitch = np.concatenate(brows), np.concatenate(pitches)
    moves = len(brow) > 2 and brow.std() > 0 and pitch.std() > 0
    return {
        "brow_rises_with_high_pitch_share": high / raises if raises else 0.0,
        "brow_pitch_correlation": float(np.corrcoef(brow, pitch)[0, 1]) if moves else 0.0,
    }


def gaze_figures(takes: Sequence[Take]) -> dict[str, float]:
    """Share of time that the gaze, in the room, is off the viewer, and how long fixations last."""
    away, fixations = [], []
    for take in takes:
        performance = take.performance
        gaze = multiply_quaternions(performance.head_rotation[:, None], performance.eye_rotations)
        ray = rotate_vectors(gaze, np.array([0.0, 0.0, 1.0])).mean(axis=1)
        away.append(np.degrees(np.hypot(ray[:, 0], ray[:, 1])) > AWAY_DEGREES)
        moves = np.degrees(np.linalg.norm(np.diff(ray, axis=0), axis=1)) > 0.25
        starts = np.flatnonzero(moves & ~np.concatenate([[False], moves[:-1]]))
        fixations.append(np.diff(starts) / FRAME_RATE)
    return {
        "gaze_away_share": float(np.concatenate(away).mean()),
        "fixation_median_seconds": float(np.median(np.concatenate(fixations))),
    }


def perform_file(path: Path, seeds: int) -> list[Take]:
    with tempfile.TemporaryDirectory() as folder:
        audio = decode_audio(path, Path(folder))
        prosody = compute_prosody(audio.samples)
        num_frames = count_frames(len(audio.samples) / SAMPLE_RATE, FRAME_RATE)
        del audio
    return perform_track(prosody, num_frames, seeds)


def perform_track(prosody: ProsodyTrack, num_frames: int, seeds: int) -> list[Take]:
    times, centers = np.arange(num_frames) / FRAME_RATE, load_head().eye_centers
    return [Take(prosody, perform_prosody(prosody, times, centers, seed)) for seed in range(seeds)]


def make_up_prosody(seconds: float) -> ProsodyTrack:
    """Phrases of 1 to 6 s with accents and declination, pauses of 0.25 to 1.2 s."""
    generator = np.random.default_rng(0)
    times = (np.arange(round(seconds * 100)) + 0.5) / 100
    energy, voicing, pitch = np.full(len(times), -8.0), np.zeros(len(times)), np.zeros(len(times))
    start = 0.3
    while start < seconds:
        stop = start + generator.uniform(1.0, 6.0)
        inside = (times >= start) & (times < stop)
        since = times[inside] - start
        energy[inside] = -0.5 + 0.4 * np.sin(2 * np.pi * 4.3 * since)
        voicing[inside] = 0.9
        pitch[inside] = 1.5 - 1.5 * since
        for accent in np.arange(generator.uniform(0.3, 0.9), stop - start, 1.6):
            pitch[inside] += generator.uniform(2.0, 6.0) * np.exp(-(((since - accent) / 0.1) ** 2))
        start = stop + generator.uniform(0.25, 1.2)
    return ProsodyTrack(*(each.astype(np.float32) for each in (times, energy, voicing, pitch)))


def print_figures(name: str, figures: dict[str, float]) -> None:
    print(f"{name}: {figures['takes']:.0f} takes, {figures['seconds']:.0f} s")
    for key, published in PUBLISHED.items():
        print(f"  {key:36} {figures[key]:8.3f}   {published}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=20, help="performances of each recording")
    parser.add_argument("--made-up", type=float, metavar="SECONDS", help="perform made-up phrases of this length")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    takes = {str(path.name): perform_file(path, options.seeds) for path in options.recordings}
    if options.made_up:
        takes["made-up"] = perform_track(make_up_prosody(options.made_up), round(options.made_up * FRAME_RATE), 5)
    if not takes:
        parser.error("expected a recording, or --made-up SECONDS")
    results = {name: measure_takes(each) for name, each in takes.items()}
    if len(takes) > 1:
        results["all"] = measure_takes([take for each in takes.values() for take in each])
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for name, figures in results.items():
        print_figures(name, figures)


if __name__ == "__main__":
    main()
