"""FaceTalk's ablations on our data, by Tables 2 and 5 of the paper, each with the same processor time.

    python -m torch_backend train facetalk --corpus CORPUS --output RUN --steps 1      makes RUN/sequences
    python -m benchmarks.facetalk_ablations --sequences RUN/sequences --output DIR --minutes 30 [--seeds 3]

Every variant is trained from the shipped settings with what is ablated changed, for as many steps as fit into the
budget: the steps of the full model are timed first, then those of each variant. The rate falls to its end within the
steps that there are. A run that was stopped goes on; what is finished is not made again. The full model and the four
variants of Table 2 are trained with as many seeds as are asked for, the variants of Table 5 with one.

The measures: takes of held-out utterances against the articulated truth (training/facetalk_evaluation.py), diversity by
eq. 20 over K takes, and with --data and --tools the ruler's figures on recordings of people, of take 1. The paper's
LSE-D needs SyncNet, which is not used here.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_backend.inference.facetalk_sampling import SamplingConfig
from torch_backend.models.builders import load_facetalk
from torch_backend.training.code_sequences import CodeSequences, load_code_sequences
from torch_backend.training.facetalk import (
    DEFAULT_CONFIG,
    FaceTalkRecipe,
    FaceTalkTrainingConfig,
    load_training_config,
)
from torch_backend.training.facetalk_evaluation import evaluate_facetalk
from torch_backend.training.loop import MODEL_FILE, batch_generator, train
from torch_backend.training.mouth_codes import load_mouth_of_codes

_LOGGER = logging.getLogger("facetalk_ablations")

VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "full": ("full model (FiLM)", {}, {}),
    "no_film": ("w/o FiLM (time added to the input)", {"injection": "input"}, {}),
    "no_alignment": ("w/o alignment mask", {"align_condition": False}, {}),
    "no_augmentation": ("w/o augmentation", {}, {"lowest_modulation": 1.0, "highest_modulation": 1.0}),
    "no_diffusion": ("w/o diffusion", {"use_diffusion": False}, {}),
    "scale_shift": ("scale-shift", {"injection": "scale_shift"}, {}),
    "squeeze_excite": ("squeeze-excite", {"injection": "squeeze_excite"}, {}),
    "attention": ("dot-product attention", {"injection": "attention"}, {}),
}
"""Name -> row title, changes of the model, changes of the data. The first five are Table 2's, the rest Table 5's."""
REPEATED = ("full", "no_film", "no_alignment", "no_augmentation", "no_diffusion")
TIMED_STEPS = 20
EVALUATED_SEQUENCES = 24
RESULT_FILE = "result.json"
PLAN_FILE = "plan.json"

COLUMNS = {
    "closures_met": ("closures met", "{:.2f}"),
    "closure_gap_mm": ("gap at closures, mm", "{:.2f}"),
    "opening_r": ("r opening", "{:.3f}"),
    "width_r": ("r width", "{:.3f}"),
    "lid_r": ("r lids", "{:.3f}"),
    "motion_share": ("motion of the lips / true", "{:.2f}"),
    "diversity": ("diversity", "{:.3f}"),
    "real_closure_recall": ("people: recall", "{:.2f}"),
    "real_closure_auc": ("AUC", "{:.3f}"),
    "real_r": ("r opening", "{:.3f}"),
    "real_width_r": ("r width", "{:.3f}"),
}

RealScores = Callable[[Path], dict[str, float]]


def choose_settings(name: str, seed: int, steps: int, base: Path, output: Path) -> FaceTalkTrainingConfig:
    """The settings of a variant's run."""
    config = load_training_config(base, output, steps=steps, seed=seed, resume=True, device="cpu")
    _, model, data = VARIANTS[name]
    return replace(config, model=replace(config.model, **model), data=replace(config.data, **data))


def time_step(config: FaceTalkTrainingConfig, sequences: CodeSequences) -> float:
    """Processor seconds of a training step."""
    recipe = FaceTalkRecipe(config, sequences)
    model = recipe.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    start = 0.0
    for step in range(TIMED_STEPS + 3):
        if step == 3:  # the first steps allocate
            start = time.process_time()
        loss = recipe.compute_loss(model, recipe.sample_batch(step, batch_generator(0, step)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.process_time() - start) / TIMED_STEPS


def plan_steps(name: str, minutes: float, base: Path, sequences: CodeSequences, output: Path) -> int:
    """Steps that fit into the budget; kept, so that a run that goes on has the same number."""
    path = output / f"{name}_{PLAN_FILE}"
    if path.is_file():
        return int(json.loads(path.read_text(encoding="utf-8"))["steps"])
    seconds = time_step(choose_settings(name, 0, 1, base, output), sequences)
    steps = max(1, math.floor(60.0 * minutes / seconds))
    output.mkdir(parents=True, exist_ok=True)
    plan = {"steps": steps, "seconds_a_step": seconds, "minutes": minutes}
    path.write_text(json.dumps(plan) + "\n", encoding="utf-8")
    return steps


def run_variant(
    name: str, seed: int, steps: int, base: Path, sequences: CodeSequences, output: Path, takes: int, real: RealScores
) -> dict[str, float]:
    """Train and measure a variant, or read what was measured."""
    folder = output / f"{name}_{seed}"
    result = folder / RESULT_FILE
    if result.is_file():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    config = choose_settings(name, seed, steps, base, folder)
    start = time.process_time()
    train(FaceTalkRecipe(config, sequences), config.loop, _Reporter(f"{name}, seed {seed}"))
    spent = time.process_time() - start
    model, _ = load_facetalk(folder / MODEL_FILE)
    held_out = sequences.indices(held_out=True)
    chosen = [held_out[int(i)] for i in np.linspace(0, len(held_out) - 1, min(EVALUATED_SEQUENCES, len(held_out)))]
    sampling = SamplingConfig(takes=takes, seed=seed)
    figures = evaluate_facetalk(model, sequences, chosen, load_mouth_of_codes(), sampling)
    figures |= {"steps": float(steps), "processor_minutes": spent / 60.0} | real(folder / MODEL_FILE)
    result.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


class _Reporter:
    """Tells how far a run is, now and then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = 0.0

    def __call__(self, fraction: float, figures: dict[str, float]) -> None:
        if fraction >= self._next:
            _LOGGER.info("%s: %.0f %%, loss %.4f", self._name, 100 * fraction, figures.get("loss", math.nan))
            self._next = fraction + 0.1


def make_real_scores(data: Path, tools: Path) -> RealScores:
    """The ruler's figures of take 1 on recordings; nothing where they are not at hand."""
    if not (data / "speech" / "clips.tsv").is_file() or not (tools / "lipcheck.py").is_file():
        return lambda _: {}
    from benchmarks.lip_sync_scores import load_lipcheck, score_system
    from benchmarks.real_speech import curves_of_weights, read_recordings
    from torch_backend.head import load_head
    from torch_backend.head.expression_codes import load_expression_space
    from torch_backend.inference.facetalk import FaceTalkPredictor

    recordings = read_recordings(data, load_lipcheck(tools))

    def score(weights: Path) -> dict[str, float]:
        predictor, curves = FaceTalkPredictor.load(weights), []
        for recording in recordings:
            drawn = [codes[0] for _, codes in predictor.sample(recording.samples, SamplingConfig())]
            decoded = load_expression_space().decode(np.concatenate(drawn))
            curves.append(curves_of_weights(load_head(), decoded, recording.num_rows, predictor.frame_rate))
        figures = score_system([recording.clip for recording in recordings], curves)
        return {f"real_{name}": figure.value for name, figure in figures.items()}

    return score


def format_table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: a variant a row, the mean over its seeds, and the deviation of one seed where there are several."""
    shown = {key: entry for key, entry in COLUMNS.items() if any(key in runs[0] for runs in results.values())}
    titles = ["variant", "seeds", "steps", *(title for title, _ in shown.values())]
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for name, runs in results.items():
        cells = [VARIANTS[name][0], str(len(runs)), f"{runs[0]['steps']:.0f}"]
        for key, (_, form) in shown.items():
            values = np.array([run.get(key, math.nan) for run in runs])
            spread = f" +- {form.format(values.std(ddof=1))}" if len(runs) > 1 else ""
            cells.append(form.format(values.mean()) + spread)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, required=True, help="folder of code sequences")
    parser.add_argument("--output", type=Path, required=True, help="runs, results and table.md; go on by asking again")
    parser.add_argument("--minutes", type=float, default=30.0, help="processor minutes of each training (default: 30)")
    parser.add_argument("--seeds", type=int, default=3, help="of the full model and Table 2 (default: 3)")
    parser.add_argument("--takes", type=int, default=5, help="K of the diversity (default: 5)")
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tools", type=Path, default=Path("../shared/tools"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(options.threads)
    sequences = load_code_sequences(options.sequences)
    real = make_real_scores(options.data, options.tools)
    results: dict[str, list[dict[str, float]]] = {}
    for name in options.only:
        steps = plan_steps(name, options.minutes, options.config, sequences, options.output)
        for seed in range(options.seeds if name in REPEATED else 1):
            figures = run_variant(name, seed, steps, options.config, sequences, options.output, options.takes, real)
            results.setdefault(name, []).append(figures)
            note = f"{options.minutes:g} processor minutes each, {options.threads} thread(s), K = {options.takes}."
            (options.output / "table.md").write_text(f"{format_table(results)}\n\n{note}\n", encoding="utf-8")
    print((options.output / "table.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
