"""Blinks, head motion, brows and gaze of clips beside published figures. Nothing is tuned on the recordings given.

    python -m benchmarks.performance_statistics RECORDING ... [--seeds N] [--made-up 600] [--json]

`--made-up` performs made-up phrases of so many seconds and then silence of a fifth of it. Everything is measured from
the motion itself, sampled 120 times a second, not from the plan behind it. A recording is performed with several seeds,
because a short one has few blinks; several are also joined to one, because intervals in short ones are cut off.
"Speech" is phrases and whatever is within 2 s of them, "silence" the rest.

Published figures were looked up in abstracts or full texts; those marked (*) are from memory of the paper, which was
found but whose text was not: they are printed, never used as limits. Where none is printed, none was found.

- A. R. Bentivoglio et al., "Analysis of blink rate patterns in normal subjects", Movement Disorders 12 (1997): means
  of 17 blinks a minute at rest, 26 in conversation, 4.5 reading.
- M. J. Doughty, "Consideration of three types of spontaneous eyeblink activity in normal humans", Optometry and Vision
  Science 78 (2001): 95 % intervals 10.5 to 32.5 in conversation, 8 to 21 in primary gaze and silence.
- D. M. Garcia et al., "Spontaneous interblink time distributions in patients with Graves' orbitopathy and normal
  subjects", IOVS 52 (2011): intervals skewed to long ones in everybody, coefficient of skewness above 1.
- "Kinematic comparison of spontaneously generated blinks and voluntary blinks in normal adult subjects" (scleral coil,
  7 people): lids fall within 66 ms. J. A. Stern et al., "The endogenous eyeblink", Psychophysiology 21 (1984), as
  cited: about 100 ms to full closure, no blink above 500. P. Homke et al. (PLOS ONE 2018): blinks of 208 ms are common
  in talk.
- C. Sforza et al., "Spontaneous blinking in healthy persons", Ophthalmic and Physiological Optics 28 (2008): closing
  is 40 to 47 % faster than opening; 44 % of young men's blinks are complete. G. W. Ousler et al., Clinical
  Ophthalmology 8 (2014): 47 %. L. C. Trutoiu et al., "Modeling and animating eye blinks", ACM TAP 8 (2011): those that
  shut are perceived as more natural, so we leave that range on purpose.
- T. Nakano, S. Kitazawa, "Eyeblink entrainment at breakpoints of speech", Experimental Brain Research 205 (2010).
- U. Hadar et al., "Involvement of head movement in speech production", Advances in Neurology 42 (1984): head movement
  accompanies speech almost continuously. "Kinematics of head movements accompanying speech during conversation", Human
  Movement Science 2 (1983): slow below 1.8 Hz, ordinary to 3.7, rapid to 7 (*). No published angular speed was found.
- K. G. Munhall et al., "Visual prosody and speech intelligibility", Psychological Science 15 (2004): head movement
  correlates strongly with pitch and amplitude.
- C. Cave et al., "About the relationship between eyebrow movements and F0 variations", ICSLP 1996: 71 % of quick brow
  raises go with a rise of pitch. V. Gast, Behavioral Sciences 13 (2023): brow height and pitch correlate.
- I. V. Malinov et al., Vision Research 40 (2000): of saccades among nearby targets 83 % are below 15 degrees, 53 %
  below 5. A. T. Duchowski et al., Journal of Eye Movement Research (2020): duration is linear in amplitude; R. H. S.
  Carpenter, "Movements of the Eyes" (1988): 21 ms + 2.2 ms a degree (*).
- S. L. Rogers et al., "Using dual eye tracking to uncover personal gaze patterns", Scientific Reports 8 (2018): mutual
  gaze at the face is 60 % of a conversation, so each looks there at least as much. S. P. Lee et al., "Eyes Alive",
  SIGGRAPH 2002: away from the other 23 % of the time when speaking, 5 % when listening (*).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torch_backend.audio.loading import decode_audio
from torch_backend.audio.prosody import VOICED_THRESHOLD, ProsodyTrack, compute_prosody
from torch_backend.head import load_head
from torch_backend.performance.gaze import compute_gaze
from torch_backend.performance.perform import UPPER_FACE, Performance, perform_prosody
from torch_backend.performance.rotations import multiply_quaternions, rotate_vectors

SAMPLES_PER_SECOND = 120
SHUT, COMPLETE = 0.6, 0.97
"""Peaks of the lids' closure above these are blinks, and complete ones."""
DOUBLE_SECONDS = 0.6
AWAY_DEGREES = 3.6
MOVING_DEGREES_PER_SECOND = 1.0
AROUND_SECONDS = 2.0
COLUMNS = ("log_energy", "voicing", "f0_semitones")
RISING_SEMITONES = 1.0


@dataclass(frozen=True)
class Figure:
    """What is printed in one line."""

    key: str
    published: str
    limits: tuple[float, float] | None = None
    """Published range, where there is one."""


FIGURES = (
    Figure("blinks_per_minute_speech", "26 (Bentivoglio 1997), 10.5-32.5 (Doughty 2001)", (10.5, 32.5)),
    Figure("blinks_per_minute_silence", "17 (Bentivoglio 1997), 8-21 (Doughty 2001)", (8.0, 21.0)),
    Figure("blink_milliseconds", "208 common in talk (Homke 2018), at most 500 (Stern 1984)", (200.0, 500.0)),
    Figure("closing_milliseconds", "66 (scleral coil) to 100 (Stern 1984)", (66.0, 100.0)),
    Figure("closing_over_opening_speed", "1.40-1.47 (Sforza 2008)", (1.40, 1.47)),
    Figure("complete_blinks_share", "0.44 (Sforza 2008), 0.47 (Ousler 2014); shut on purpose (Trutoiu 2011)"),
    Figure("blink_interval_median_seconds", ""),
    Figure("blink_interval_skew", "above 1 (Garcia 2011)", (1.0, np.inf)),
    Figure("blink_interval_log_deviation", ""),
    Figure("blink_interval_log_skew", "0 when log-normal"),
    Figure("double_blinks_share", ""),
    Figure("blinks_at_phrase_ends_share", ""),
    Figure("blinks_at_phrase_ends_over_chance", "above 1 (Nakano and Kitazawa 2010)", (1.0, np.inf)),
    Figure("head_degrees_per_second_mean_speech", ""),
    Figure("head_degrees_per_second_95_speech", ""),
    Figure("head_degrees_per_second_95_silence", ""),
    Figure("head_moving_share_speech", "almost continuously (Hadar 1984)", (0.8, 1.0)),
    Figure("head_power_below_1.8_hz", "slow prevails (*)"),
    Figure("head_power_above_7_hz", "none (*)"),
    Figure("head_degrees_from_rest_95", ""),
    Figure("head_pitch_correlation", "strong (Munhall 2004)"),
    Figure("brow_raises_with_rising_pitch_share", "0.71 (Cave 1996)"),
    Figure("brow_pitch_correlation", "positive (Gast 2023)", (0.0, 1.0)),
    Figure("gaze_at_viewer_share_speech", "at least 0.60 (Rogers 2018); 0.77 (*)", (0.60, 1.0)),
    Figure("gaze_at_viewer_share_silence", "at least 0.60 (Rogers 2018); 0.95 (*)", (0.60, 1.0)),
    Figure("saccades_below_5_degrees_share", "0.53 among nearby targets (Malinov 2000)"),
    Figure("saccades_below_15_degrees_share", "0.83 among nearby targets (Malinov 2000)"),
    Figure("saccade_milliseconds_at_0_degrees", "21 (*)"),
    Figure("saccade_milliseconds_per_degree", "2.2 (*), linear (Duchowski 2020)"),
    Figure("fixation_median_seconds", ""),
)


@dataclass(frozen=True)
class Take:
    """One performance and the sound behind it."""

    prosody: ProsodyTrack
    performance: Performance

    @property
    def seconds(self) -> float:
        """Length of the take."""
        return len(self.times) / SAMPLES_PER_SECOND

    @property
    def times(self) -> np.ndarray:
        """(T,) seconds."""
        return np.arange(len(self.performance.head_rotation)) / SAMPLES_PER_SECOND

    @property
    def speaks(self) -> np.ndarray:
        """(T,) whether there is speech, or was or will be soon."""
        passages = np.array(self.performance.phrasing.passages).reshape(-1, 2)
        index = np.searchsorted(passages[:, 0], self.times, "right") - 1
        inside = (index >= 0) & (self.times <= np.append(passages[:, 1], -1.0)[index])
        return widen(inside, round(AROUND_SECONDS * SAMPLES_PER_SECOND))


@dataclass(frozen=True)
class Blinks:
    """Blinks of one take, as its lids show them."""

    peaks: np.ndarray
    """Seconds."""
    closures: np.ndarray
    durations: np.ndarray
    closings: np.ndarray
    """Seconds from open to 98 % of the peak."""
    speed_ratios: np.ndarray
    """Top speed of closing over that of opening."""


def measure_takes(takes: Sequence[Take]) -> dict[str, float]:
    """All figures over all takes together."""
    seconds = sum(take.seconds for take in takes)
    turned = np.concatenate(
        [2 * np.degrees(np.arccos(np.clip(t.performance.head_rotation[:, 0], -1, 1))) for t in takes]
    )
    low, high = head_power(takes)
    return {
        "takes": len(takes),
        "seconds": seconds,
        **blink_figures(takes),
        **head_speed_figures(takes),
        "head_power_below_1.8_hz": low,
        "head_power_above_7_hz": high,
        "head_degrees_from_rest_95": float(np.percentile(turned, 95)),
        **pitch_figures(takes),
        **gaze_figures(takes),
        **saccade_figures(takes),
    }


def find_blinks(take: Take) -> Blinks:
    """Peaks of the lids' closure, and the way to them and back."""
    closure = take.performance.upper_face[:, UPPER_FACE.index("eyeBlinkLeft")].astype(np.float64)
    speed = np.diff(closure) * SAMPLES_PER_SECOND
    shut = closure >= SHUT
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shut, [False]]).astype(np.int8))).reshape(-1, 2)
    rows = []
    for first, last in edges:
        peak = first + int(closure[first:last].argmax())
        begin, end = peak, peak
        while begin > 0 and closure[begin - 1] < closure[begin] + 1e-9 and closure[begin] > 0.01:
            begin -= 1
        while end < len(closure) - 1 and closure[end + 1] < closure[end] + 1e-9 and closure[end] > 0.01:
            end += 1
        closed = begin + int(np.argmax(closure[begin : peak + 1] >= 0.98 * closure[peak]))
        if begin < closed and closed < end:
            falls, rises = speed[begin:closed].max(), -speed[closed:end].min()
            rows.append((peak, closure[peak], end - begin, closed - begin, falls / max(rises, 1e-9)))
    table = np.array(rows).reshape(-1, 5)
    step = 1.0 / SAMPLES_PER_SECOND
    return Blinks(table[:, 0] * step, table[:, 1], table[:, 2] * step, table[:, 3] * step, table[:, 4])


def blink_figures(takes: Sequence[Take]) -> dict[str, float]:
    """How often, how long, how far apart, and where."""
    blinks = [find_blinks(take) for take in takes]
    in_speech = [take.speaks[np.round(each.peaks * SAMPLES_PER_SECOND).astype(int)] for take, each in
                 zip(takes, blinks, strict=True)]  # fmt: skip
    spoken = sum(float(take.speaks.mean()) * take.seconds for take in takes)
    silent = sum(take.seconds for take in takes) - spoken
    count, during = sum(len(each.peaks) for each in blinks), sum(int(each.sum()) for each in in_speech)
    gaps = np.concatenate([np.diff(each.peaks) for each in blinks])
    single = gaps[gaps >= DOUBLE_SECONDS]
    doubles = len(gaps) - len(single)
    near, over_chance = phrase_ends(takes, [each.peaks for each in blinks])
    return {
        "blinks_per_minute_speech": 60.0 * during / spoken if spoken else np.nan,
        "blinks_per_minute_silence": 60.0 * (count - during) / silent if silent > 10.0 else np.nan,
        "blink_milliseconds": 1000.0 * float(np.mean(np.concatenate([each.durations for each in blinks]))),
        "closing_milliseconds": 1000.0 * float(np.mean(np.concatenate([each.closings for each in blinks]))),
        "closing_over_opening_speed": float(np.mean(np.concatenate([each.speed_ratios for each in blinks]))),
        "complete_blinks_share": float(np.mean(np.concatenate([each.closures for each in blinks]) >= COMPLETE)),
        "blink_interval_median_seconds": float(np.median(single)) if len(single) else np.nan,
        "blink_interval_skew": skew(gaps),
        "blink_interval_log_deviation": float(np.log(single).std()) if len(single) else np.nan,
        "blink_interval_log_skew": skew(np.log(single)),
        "double_blinks_share": doubles / max(1, count - doubles),
        "blinks_at_phrase_ends_share": near,
        "blinks_at_phrase_ends_over_chance": over_chance,
    }


def skew(values: np.ndarray) -> float:
    """Third standardized moment; NaN of fewer than three values."""
    if len(values) < 3 or values.std() == 0:
        return float("nan")
    return float(np.mean((values - values.mean()) ** 3) / values.std() ** 3)


def phrase_ends(takes: Sequence[Take], blinks: Sequence[np.ndarray]) -> tuple[float, float]:
    """Share of blinks within 0.1 s before to 0.5 s behind a phrase's end, and that over the share of time."""
    near, expected, count = 0, 0.0, 0
    for take, peaks in zip(takes, blinks, strict=True):
        times, ends = take.times, [end for _, end in take.performance.phrasing.phrases if end < take.seconds - 0.5]
        around = np.zeros(len(times), bool)
        for end in ends:
            around[np.searchsorted(times, end - 0.1) : np.searchsorted(times, end + 0.5)] = True
        near += int(around[np.round(peaks * SAMPLES_PER_SECOND).astype(int)].sum())
        expected += len(peaks) * float(around.mean())
        count += len(peaks)
    return near / max(1, count), near / expected if expected else float("nan")


def head_speed(rotations: np.ndarray) -> np.ndarray:
    """Degrees per second between the samples of (T, 4) quaternions."""
    rotations = rotations.astype(np.float64)
    conjugate = rotations[:-1] * np.array([1.0, -1.0, -1.0, -1.0])
    change = multiply_quaternions(rotations[1:], conjugate)
    angle = 2.0 * np.arctan2(np.linalg.norm(change[:, 1:], axis=1), np.abs(change[:, 0]))
    return np.degrees(angle) * SAMPLES_PER_SECOND


def head_speed_figures(takes: Sequence[Take]) -> dict[str, float]:
    """How fast the head turns in speech and in silence."""
    speeds = np.concatenate([head_speed(take.performance.head_rotation) for take in takes])
    spoken = np.concatenate([take.speaks[1:] for take in takes])
    away = ~spoken
    return {
        "head_degrees_per_second_mean_speech": float(speeds[spoken].mean()) if spoken.any() else np.nan,
        "head_degrees_per_second_95_speech": float(np.percentile(speeds[spoken], 95)) if spoken.any() else np.nan,
        "head_degrees_per_second_95_silence": float(np.percentile(speeds[away], 95)) if away.any() else np.nan,
        "head_moving_share_speech": float((speeds[spoken] > MOVING_DEGREES_PER_SECOND).mean())
        if spoken.any()
        else np.nan,
    }


def widen(flags: np.ndarray, reach: int) -> np.ndarray:
    """(T,) flags, with `reach` samples on both sides of each."""
    return np.convolve(np.pad(flags, reach), np.ones(2 * reach + 1), mode="valid") > 0.5


def head_power(takes: Sequence[Take]) -> tuple[float, float]:
    """Share of the power of the head's turning speed below 1.8 Hz, and above 7 Hz."""
    low, high, total = 0.0, 0.0, 0.0
    for take in takes:
        speed = np.diff(take.performance.head_rotation[:, 1:].astype(np.float64), axis=0)
        power = (np.abs(np.fft.rfft(speed * np.hanning(len(speed))[:, None], axis=0)) ** 2).sum(axis=1)
        frequencies = np.fft.rfftfreq(len(speed), 1.0 / SAMPLES_PER_SECOND)
        low += power[frequencies < 1.8].sum()
        high += power[frequencies > 7.0].sum()
        total += power.sum()
    return low / total, high / total


def pitch_figures(takes: Sequence[Take]) -> dict[str, float]:
    """Brows and the head's nodding against pitch over voiced samples, and how many raises go with a rise of pitch."""
    brows, nods, pitches, rising, raises = [], [], [], 0, 0
    for take in takes:
        brow = take.performance.upper_face[:, UPPER_FACE.index("browInnerUp")].astype(np.float64)
        pitch = np.interp(take.times, take.prosody.times, take.prosody.f0_semitones)
        voiced = np.interp(take.times, take.prosody.times, take.prosody.voicing) > VOICED_THRESHOLD
        nod = np.degrees(2.0 * take.performance.head_rotation[:, 1].astype(np.float64))
        brows.append(brow[voiced])
        nods.append(-nod[voiced])  # about the axis to the left: up is negative
        pitches.append(pitch[voiced])
        peaks = np.flatnonzero((brow[1:-1] > 0.1) & (brow[1:-1] > brow[:-2]) & (brow[1:-1] >= brow[2:])) + 1
        raises += len(peaks)
        rising += sum(has_rise(pitch, voiced, int(peak)) for peak in peaks)
    return {
        "head_pitch_correlation": correlate(np.concatenate(nods), np.concatenate(pitches)),
        "brow_raises_with_rising_pitch_share": rising / raises if raises else np.nan,
        "brow_pitch_correlation": correlate(np.concatenate(brows), np.concatenate(pitches)),
    }


def has_rise(pitch: np.ndarray, voiced: np.ndarray, peak: int) -> bool:
    """Whether pitch within 0.1 s of a raise's peak is RISING_SEMITONES above its lowest in the 0.4 s before."""
    now = slice(max(0, peak - SAMPLES_PER_SECOND // 10), peak + SAMPLES_PER_SECOND // 10)
    before = slice(max(0, now.start - 4 * SAMPLES_PER_SECOND // 10), now.start)
    if not voiced[now].any() or not voiced[before].any():
        return False
    return float(pitch[now][voiced[now]].max() - pitch[before][voiced[before]].min()) >= RISING_SEMITONES


def correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r; NaN where one does not change."""
    moves = len(first) > 2 and first.std() > 0 and second.std() > 0
    return float(np.corrcoef(first, second)[0, 1]) if moves else float("nan")


def gaze_figures(takes: Sequence[Take]) -> dict[str, float]:
    """Share of time that the gaze, in the room, is on the viewer, and how long fixations last."""
    near, spoken, fixations = [], [], []
    for take in takes:
        performance = take.performance
        gaze = multiply_quaternions(performance.head_rotation[:, None], performance.eye_rotations)
        ray = rotate_vectors(gaze, np.array([0.0, 0.0, 1.0])).mean(axis=1)
        near.append(np.degrees(np.hypot(ray[:, 0], ray[:, 1])) <= AWAY_DEGREES)
        spoken.append(take.speaks)
        moves = np.degrees(np.linalg.norm(np.diff(ray, axis=0), axis=1)) * SAMPLES_PER_SECOND > 8.0
        starts = np.flatnonzero(moves & ~np.concatenate([[False], moves[:-1]]))
        fixations.append(np.diff(starts) / SAMPLES_PER_SECOND)
    at, during = np.concatenate(near), np.concatenate(spoken)
    return {
        "gaze_at_viewer_share_speech": float(at[during].mean()) if during.any() else np.nan,
        "gaze_at_viewer_share_silence": float(at[~during].mean()) if (~during).any() else np.nan,
        "fixation_median_seconds": float(np.median(np.concatenate(fixations))),
    }


def saccade_figures(takes: Sequence[Take], longest_seconds: float = 120.0) -> dict[str, float]:
    """Sizes and the main sequence of saccades of 1 degree and more, from the gaze sampled 1,000 times a second."""
    sizes, durations = [], []
    for take in takes:
        times = np.arange(0.0, min(take.seconds, longest_seconds), 0.001)
        gaze = compute_gaze(take.performance.saccades, times)
        fast = np.linalg.norm(np.diff(gaze, axis=0), axis=1) > 0.005  # 5 degrees a second
        edges = np.flatnonzero(np.diff(np.concatenate([[False], fast, [False]]).astype(np.int8))).reshape(-1, 2)
        for begin, end in edges:
            size = float(np.linalg.norm(gaze[end] - gaze[begin]))
            if size >= 1.0:
                sizes.append(size)
                durations.append(float(end - begin))
    amplitude, length = np.array(sizes), np.array(durations)
    slope, constant = np.polyfit(amplitude, length, 1) if len(amplitude) > 2 else (np.nan, np.nan)
    return {
        "saccades_below_5_degrees_share": float((amplitude < 5.0).mean()) if len(amplitude) else np.nan,
        "saccades_below_15_degrees_share": float((amplitude < 15.0).mean()) if len(amplitude) else np.nan,
        "saccade_milliseconds_at_0_degrees": float(constant),
        "saccade_milliseconds_per_degree": float(slope),
    }


def read_prosody(path: Path) -> ProsodyTrack:
    with tempfile.TemporaryDirectory() as folder:
        audio = decode_audio(path, Path(folder))
        return compute_prosody(audio.samples)


def join_prosody(tracks: Sequence[ProsodyTrack], pause_seconds: float = 0.6) -> ProsodyTrack:
    """One recording of several, with pauses between them; each keeps its own loudness and median pitch."""
    rows = round(pause_seconds * 100)
    gap = ProsodyTrack(*(np.full(rows, value, np.float32) for value in (0.0, -9.0, 0.0, 0.0)))
    parts = [part for track in tracks for part in (track, gap)]
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS]
    return ProsodyTrack(((np.arange(len(columns[0])) + 0.5) / 100).astype(np.float32), *columns)


def perform_track(prosody: ProsodyTrack, seeds: int) -> list[Take]:
    times = np.arange(round(float(prosody.times[-1]) * SAMPLES_PER_SECOND)) / SAMPLES_PER_SECOND
    centers = load_head().eye_centers
    return [Take(prosody, perform_prosody(prosody, times, centers, seed)) for seed in range(seeds)]


def make_up_prosody(seconds: float) -> ProsodyTrack:
    """Phrases of 1 to 6 s with accents and declination, pauses of 0.25 to 1.2 s; then a fifth as much silence."""
    generator = np.random.default_rng(0)
    times = (np.arange(round(1.2 * seconds * 100)) + 0.5) / 100
    energy, voicing, pitch = np.full(len(times), -8.0), np.zeros(len(times)), np.zeros(len(times))
    start = 0.3
    while start < seconds:
        stop = min(start + generator.uniform(1.0, 6.0), seconds)
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
    for figure in FIGURES:
        value = figures[figure.key]
        limits = figure.limits
        outside = limits is not None and not np.isnan(value) and not limits[0] <= round(value, 2) <= limits[1]
        print(f"  {figure.key:38} {value:8.3f} {'OUTSIDE' if outside else '       '} {figure.published}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=20, help="performances of each recording")
    parser.add_argument("--made-up", type=float, metavar="SECONDS", help="perform made-up phrases of this length")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tracks = {path.name: read_prosody(path) for path in options.recordings}
    if len(tracks) > 1:
        tracks["all recordings, joined"] = join_prosody(list(tracks.values()))
    seeds = dict.fromkeys(tracks, options.seeds)
    if options.made_up:
        tracks["made-up"], seeds["made-up"] = make_up_prosody(options.made_up), 5
    if not tracks:
        parser.error("expected a recording, or --made-up SECONDS")
    results = {name: measure_takes(perform_track(track, seeds[name])) for name, track in tracks.items()}
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for name, figures in results.items():
        print_figures(name, figures)


if __name__ == "__main__":
    main()
