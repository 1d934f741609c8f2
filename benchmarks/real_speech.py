"""How well the lips follow recordings of real people, with intervals. Nothing is tuned on these recordings.

    python -m benchmarks.real_speech [--vertices 5000] [--output DIR]     animate, bake, read the .blend back
    python -m benchmarks.real_speech --curves-only                        the same mesh without Blender, quickly
    python -m benchmarks.real_speech --method facetalk [--takes 5]        FaceTalk's tracked mesh, each take a row

The recordings (TALKHEAD_CHECK_DATA) and the ruler (TALKHEAD_CHECK_TOOLS: lipcheck.py, mouth_curve.py) live outside this
repository. The ruler aligns each transcript to its recording by a recogniser that has nothing to do with TalkHead.
Beside the method stand the articulation rules on the same head: on the aligned phones (the ceiling of the ruler), and
on the shipped encoder's own phones, as soft posteriors and decoded.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

from benchmarks.lip_sync_scores import (
    CURVE_RATE,
    Curves,
    Figure,
    load_lipcheck,
    mouth_speed,
    score_system,
    to_curve_rate,
)
from blender_talkhead.contract.errors import BackendError
from torch_backend.audio.frame_grid import count_frames
from torch_backend.audio.prosody import SAMPLE_RATE, compute_prosody
from torch_backend.head.head import Head, load_head
from torch_backend.metrics.mouth_shape import measure_mouth
from torch_backend.speech_corpus.articulation import articulate, articulate_posteriors
from torch_backend.speech_corpus.phones import PhoneSegment
from torch_backend.speech_corpus.viterbi import decode_segments

_LOGGER = logging.getLogger("real_speech")
_ROOT = Path(__file__).resolve().parents[1]
_REVERBERATED = "_reverb"  # twin of another clip: would count its speaker twice
_FRAME_RATE = 30.0
_NOISE_SECONDS, _NOISE_LEVEL = 10.0, 10.0 ** (-50.0 / 20.0)
_BLOCK_FRAMES = 60


@dataclass(frozen=True)
class Recording:
    """A recording with its samples and its aligned phones."""

    path: Path
    samples: np.ndarray
    """(S,) float32 at 16 kHz."""
    phones: tuple[PhoneSegment, ...]
    clip: Any
    """lipcheck.Clip; None for sound without speech."""

    @property
    def num_rows(self) -> int:
        """Rows of its curves."""
        return len(self.samples) * CURVE_RATE // SAMPLE_RATE


System = Callable[[Recording], Curves]


def read_recordings(data: Path, lipcheck: ModuleType) -> list[Recording]:
    """Read and align the recordings of clips.tsv, without reverberated twins."""
    recordings = []
    for line in (data / "speech" / "clips.tsv").read_text(encoding="utf-8").splitlines():
        name, text, *rest = line.split("\t")
        if not line.strip() or line.startswith("#") or _REVERBERATED in name:
            continue
        path = data / "speech" / name
        pronunciations = dict(
            entry.strip().split("=", 1) for field in rest for entry in field.split(";") if "=" in entry
        )
        wave = lipcheck.load16k(str(path))
        phones = lipcheck.align(wave, text, {word.lower(): phones for word, phones in pronunciations.items()})
        clip = lipcheck.Clip(phones, len(wave) // 160)
        segments = tuple(PhoneSegment(float(start), float(end), phone) for start, end, phone in phones)
        recordings.append(Recording(path, wave.astype(np.float32) / 32768.0, segments, clip))
    return recordings


def make_room_noise(folder: Path, seed: int) -> Recording:
    """Ten seconds of quiet noise, stronger at low frequencies, as a room's."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft(generator.normal(size=int(_NOISE_SECONDS * SAMPLE_RATE)))
    frequencies = np.fft.rfftfreq(int(_NOISE_SECONDS * SAMPLE_RATE), 1.0 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 50.0)))
    samples = (noise / noise.std() * _NOISE_LEVEL).astype(np.float32)
    path = folder / "room_noise.wav"
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
    return Recording(path, samples, (), None)


def curves_of_motion(
    positions: Iterable[np.ndarray],
    head_rest: np.ndarray,
    regions: dict,
    num_rows: int,
    frame_rate: float = _FRAME_RATE,
) -> Curves:
    """Opening above rest and width of blocks of positions (n, V, 3) in metres, on the scored rows."""
    gap_at_rest, _ = measure_mouth(head_rest[None], regions)
    measured = [measure_mouth(block, regions) for block in positions]
    gap = np.concatenate([block[0] for block in measured]) - gap_at_rest[0]
    width = np.concatenate([block[1] for block in measured])
    times = np.arange(len(gap)) / frame_rate
    return to_curve_rate(gap, times, num_rows), to_curve_rate(width, times, num_rows)


def curves_of_weights(head: Head, weights: np.ndarray, num_rows: int, frame_rate: float = _FRAME_RATE) -> Curves:
    """Curves of the built-in head under blendshape weights (T, 52)."""
    names = ("lips_inner_upper", "lips_inner_lower", "mouth_corner_left", "mouth_corner_right", "eye_region")
    used = np.unique(np.concatenate([head.regions[name] for name in names]))
    regions = {name: np.searchsorted(used, head.regions[name]) for name in names}
    rest, shapes = head.vertices[used], head.blendshapes[:, used]
    blocks = [
        rest + np.tensordot(weights[start : start + _BLOCK_FRAMES], shapes, axes=1)
        for start in range(0, len(weights), _BLOCK_FRAMES)
    ]
    return curves_of_motion(blocks, rest, regions, num_rows, frame_rate)


def rules_systems(head: Head, weights: str | None) -> dict[str, System]:
    """The articulation rules on aligned phones, on soft posteriors, on decoded phones."""

    def frame_times(recording: Recording) -> np.ndarray:
        return np.arange(count_frames(len(recording.samples) / SAMPLE_RATE, _FRAME_RATE)) / _FRAME_RATE

    @lru_cache(maxsize=1)
    def encoder() -> Any:
        from torch_backend.audio.speech_encoder import load_speech_encoder  # torch: only for these rows

        return load_speech_encoder(weights, "cpu")

    def posteriors(recording: Recording) -> np.ndarray:
        model = encoder()
        found = model.phone_posteriors(recording.samples, model.fit_normalization(recording.samples))
        return np.asarray(found, np.float64)

    def aligned(recording: Recording) -> Curves:
        prosody = compute_prosody(recording.samples)
        curves = articulate(recording.phones, frame_times(recording), prosody)
        return curves_of_weights(head, curves, recording.num_rows)

    def soft(recording: Recording) -> Curves:
        rows = posteriors(recording)
        centres = (np.arange(len(rows)) + 0.5) / 50.0
        prosody = compute_prosody(recording.samples)
        curves = articulate_posteriors(rows, centres, frame_times(recording), prosody)
        return curves_of_weights(head, curves, recording.num_rows)

    def decoded(recording: Recording) -> Curves:
        segments = decode_segments(posteriors(recording))
        curves = articulate(segments, frame_times(recording), compute_prosody(recording.samples))
        return curves_of_weights(head, curves, recording.num_rows)

    rows: dict[str, System] = {"rules, aligned phones": aligned}
    try:
        encoder()
    except (ImportError, BackendError) as error:
        _LOGGER.warning("no rows on the encoder's phones: %s", error)
        return rows
    return rows | {"rules, encoder's posteriors": soft, "rules, encoder's phones": decoded}


def predictor_system(num_vertices: int, weights: str | None, seed: int) -> System:
    """MMTalker in this process, measured on its own mesh without Blender."""
    from torch_backend.inference.mmtalker import MMTalkerPredictor

    predictor: Any = MMTalkerPredictor.load(Path(weights) if weights else None)
    plan = predictor.plan(num_vertices, None, seed)

    def run(recording: Recording) -> Curves:
        template = getattr(plan, "template", plan)
        blocks = (
            template.template_vertices + offsets for _, offsets in predictor.animate(recording.samples, plan, None)
        )
        return curves_of_motion(blocks, template.template_vertices, template.regions, recording.num_rows)

    return run


def facetalk_system(options: argparse.Namespace, take: int) -> System:
    """A take of FaceTalk in this process, measured on its tracked mesh without Blender."""
    from torch_backend.inference.facetalk_sampling import SamplingConfig

    predictor, plan = _load_facetalk(options.vertices, options.weights, options.head_weights, options.seed)
    config = SamplingConfig(steps=options.steps, guidance=options.guidance, seed=options.seed, first_take=take - 1)

    def run(recording: Recording) -> Curves:
        drawn = [codes[0] for _, codes in predictor.sample(recording.samples, config)]
        motion = predictor.animate(np.concatenate(drawn), recording.samples, plan, options.seed, performance=False)
        blocks = (plan.template_vertices + offsets for _, offsets in motion.animate())
        rate = predictor.frame_rate
        return curves_of_motion(blocks, plan.template_vertices, plan.regions, recording.num_rows, rate)

    return run


@lru_cache(maxsize=1)
def _load_facetalk(num_vertices: int, weights: str | None, head_weights: str | None, seed: int) -> tuple[Any, Any]:
    from torch_backend.inference.facetalk import FaceTalkPredictor

    paths = (None if path is None else Path(path) for path in (weights, head_weights))
    predictor = FaceTalkPredictor.load(next(paths), head_weights=next(paths))
    return predictor, predictor.plan(num_vertices, None, seed)


def blender_system(folder: Path, tools: Path, lipcheck: ModuleType, name: str, arguments: Sequence[str]) -> System:
    """The whole product: the headless command, then the mouth read from the .blend by mouth_curve.py."""

    def run(recording: Recording) -> Curves:
        blend, table = (folder / f"{recording.path.stem}{name}{ending}" for ending in (".blend", ".csv"))
        command = [sys.executable, "-m", "blender_talkhead", "animate", str(recording.path), "--output", str(blend)]
        _run([*command, "--device", "cpu", *arguments])
        _run([sys.executable, str(tools / "mouth_curve.py"), str(blend), str(table)])
        opening, width = lipcheck.read_curve(str(table), None, recording.num_rows)
        return np.asarray(opening), np.asarray(width)

    return run


def _run(command: list[str]) -> None:
    result = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[:5])} ... exited with {result.returncode}:\n{result.stderr[-2000:]}")


def measure_system(recordings: Sequence[Recording], noise: Recording, system: System, seed: int) -> dict[str, Figure]:
    """Score one system on all recordings and on the room noise."""
    curves = [system(recording) for recording in recordings]
    figures = score_system([recording.clip for recording in recordings], curves, seed)
    speech = [mouth_speed(opening, r.clip.sp) for r, (opening, _) in zip(recordings, curves, strict=True)]
    seconds = [float(recording.clip.sp.sum()) for recording in recordings]
    in_noise = mouth_speed(system(noise)[0])
    draws = np.random.default_rng(seed).integers(len(speech), size=(2_000, len(speech)))
    means = [in_noise / max(np.average(np.take(speech, d), weights=np.take(seconds, d)), 1e-9) for d in draws]
    value = in_noise / max(float(np.average(speech, weights=seconds)), 1e-9)
    figures["noise_motion"] = Figure(value, *(float(v) for v in np.percentile(means, [2.5, 97.5])))
    return figures


COLUMNS = {
    "closure_recall": ("closure recall", "{:.2f}"),
    "recall_minus_null": ("recall - null", "{:.2f}"),
    "closure_auc": ("AUC", "{:.3f}"),
    "r": ("r opening", "{:.3f}"),
    "width_r": ("r width", "{:.3f}"),
    "lag_ms": ("lag ms", "{:+.0f}"),
    "silence_motion": ("pause motion", "{:.3f}"),
    "noise_motion": ("noise motion", "{:.3f}"),
    "gap_mm": ("gap at p b m, mm", "{:.2f}"),
}


def format_table(results: dict[str, dict[str, Figure]]) -> str:
    """Markdown table: a system a row, each figure with its interval in brackets."""
    lines = [
        "| system | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
    ]
    for system, figures in results.items():
        cells = []
        for name, (_, form) in COLUMNS.items():
            figure = figures[name]
            cells.append(f"{form.format(figure.value)} ({form.format(figure.low)} to {form.format(figure.high)})")
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TALKHEAD_CHECK_DATA", "../shared/data")))
    parser.add_argument("--tools", type=Path, default=Path(os.environ.get("TALKHEAD_CHECK_TOOLS", "../shared/tools")))
    parser.add_argument("--vertices", type=int, default=5_000, help="vertices of the skin (default: 5000)")
    parser.add_argument("--method", choices=("mmtalker", "facetalk"), default="mmtalker")
    parser.add_argument("--weights", help="the method's checkpoint (default: the shipped one); only with --curves-only")
    parser.add_argument("--head-weights", help="FaceTalk: head model (default: the shipped one); with --curves-only")
    parser.add_argument("--takes", type=int, default=1, help="FaceTalk: takes of the seed, a row each")
    parser.add_argument("--steps", type=int, default=20, help="FaceTalk: steps of the sampler")
    parser.add_argument("--guidance", type=float, default=1.0, help="FaceTalk")
    parser.add_argument("--encoder", help="speech encoder of the rules (default: the shipped one)")
    parser.add_argument("--curves-only", action="store_true", help="measure the prediction without Blender")
    parser.add_argument("--rules-only", action="store_true", help="leave the method out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="folder for table.md, figures.json and the .blend files")
    return parser.parse_args(arguments)


def choose_systems(options: argparse.Namespace, folder: Path, tools: Path, lipcheck: ModuleType) -> dict[str, System]:
    """The systems that the options ask for, by the name of their row."""
    systems: dict[str, System] = {}
    is_facetalk = options.method == "facetalk"
    takes = range(1, options.takes + 1) if is_facetalk else range(1, 2)
    for take in takes if not options.rules_only else ():
        method = "FaceTalk" if is_facetalk else "MMTalker"
        name = f"{method}, {options.vertices} vertices" + (f", take {take}" if is_facetalk else "")
        if options.curves_only and is_facetalk:
            systems[f"{name}, prediction"] = facetalk_system(options, take)
        elif options.curves_only:
            systems[f"{name}, prediction"] = predictor_system(options.vertices, options.weights, options.seed)
        else:
            arguments = ["--vertices", str(options.vertices), "--seed", str(options.seed)]
            if is_facetalk:
                arguments += ["--method", "facetalk", "--take", str(take), "--guidance", str(options.guidance)]
                arguments += ["--sampler-steps", str(options.steps)]
            suffix = f"_{take}" if is_facetalk else ""
            systems[f"{name}, .blend"] = blender_system(folder, tools, lipcheck, suffix, arguments)
    return systems | rules_systems(load_head(), options.encoder)


def write_results(results: dict[str, dict[str, Figure]], note: str, output: Path | None) -> None:
    """Print the table; write it and the figures into `output` where one is given."""
    table = format_table(results)
    print(f"{table}\n\n{note}")
    if output is not None:
        (output / "table.md").write_text(f"{table}\n\n{note}\n", encoding="utf-8")
        figures = {name: {key: asdict(figure) for key, figure in row.items()} for name, row in results.items()}
        (output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    data, tools = ((path if path.is_absolute() else _ROOT / path) for path in (options.data, options.tools))
    if not (data / "speech" / "clips.tsv").is_file() or not (tools / "lipcheck.py").is_file():
        print(f"skipped: needs clips.tsv in {data / 'speech'} and lipcheck.py in {tools}")
        return 0
    lipcheck = load_lipcheck(tools)
    recordings = read_recordings(data, lipcheck)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        noise = make_room_noise(folder, options.seed)
        results = {}
        for name, system in choose_systems(options, folder, tools, lipcheck).items():
            _LOGGER.info("%s ...", name)
            results[name] = measure_system(recordings, noise, system, options.seed)
    closures = sum(len(recording.clip.clos) for recording in recordings)
    seconds = sum(len(recording.samples) for recording in recordings) / SAMPLE_RATE
    note = f"{len(recordings)} recordings, {seconds:.0f} s, {closures} p b m; in brackets 95 % by bootstrap over them."
    write_results(results, note, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
