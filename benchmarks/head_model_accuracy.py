"""How close the neural head comes to the built-in one: `python -m benchmarks.head_model_accuracy`.

Symmetric surface distance of extracted surfaces to the true head (skin and eyeballs, mouth bag apart) on expressions
that were held out of the training; points uniform by area on both surfaces, the same number on each. "floor" extracts
the true signed distance on the same grid: what no model can beat at this resolution.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from blender_talkhead.facial.identities import random_identity
from blender_talkhead.facial.identity_presets import IDENTITY_PRESETS
from torch_backend.geometry.grid import Bounds
from torch_backend.geometry.iso_surface import Surface, SurfaceOptions, extract_surface
from torch_backend.head import Head, load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.head_space import HeadSpace
from torch_backend.head.identity import apply_identity
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.head.signed_distance import signed_distance
from torch_backend.head.surface_distance import REGIONS, HeadDistanceMeasure
from torch_backend.inference.head_model import BuiltInHeadModel, load_built_in_head_model
from torch_backend.training.expression_draws import draw_expressions, make_speech_frames

SEED = 7_531
"""No other sentences or mixtures are drawn with it."""
SPEECH_SHARE = 0.5
FIRST_HELD_OUT_IDENTITY = 3_000_000
LIPSCHITZ = 1.5
"""Of a learned field, with a margin."""


def draw_held_out_expressions(count: int) -> np.ndarray:
    """(count, 52): half frames of articulated sentences as they are, half mixtures as the training draws them."""
    generator = np.random.default_rng(SEED)
    speech = make_speech_frames(60, SEED)
    spoken = speech[generator.integers(len(speech), size=round(count * SPEECH_SHARE))]
    return np.concatenate([spoken, draw_expressions(count - len(spoken), speech, generator)])


def describe(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    share = float((values > 1.0).mean())
    return {
        "mean_mm": round(float(values.mean()), 4),
        "p95_mm": round(float(np.percentile(values, 95)), 4),
        "over_1_mm": round(share, 5),
        "max_mm": round(float(values.max()), 3),
    }


def bounds_of(box: np.ndarray) -> Bounds:
    lower, upper = box.astype(float).tolist()
    return tuple(lower), tuple(upper)


def extract(head_model: BuiltInHeadModel, code: np.ndarray, weights: np.ndarray, resolution: int) -> Surface:
    identity = torch.from_numpy(code)[None]
    expression = torch.from_numpy(load_expression_space().encode(weights))[None]

    def distances(points: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            inputs = torch.from_numpy(points.astype(np.float32))[None]
            return head_model.model.signed_distance(inputs, identity, expression)[0].double().numpy()

    return extract_surface(distances, bounds_of(head_model.box), resolution, SurfaceOptions(lipschitz=LIPSCHITZ))


def extract_true(head: Head, weights: np.ndarray, space: HeadSpace, box: np.ndarray, resolution: int) -> Surface:
    def distances(points: np.ndarray) -> np.ndarray:
        return signed_distance(head, space.to_metres(points), weights) / space.metres_per_unit

    return extract_surface(distances, bounds_of(box), resolution)


def measure(
    head_model: BuiltInHeadModel, parameters: dict[str, float], weights: np.ndarray, options: argparse.Namespace
) -> dict:
    head = apply_identity(load_head(), parameters)
    code, space = load_identity_codes().encode(parameters), head_model.space
    judge = HeadDistanceMeasure(head, options.points)
    pools: dict[str, list[np.ndarray]] = {name: [] for name in ("all", *REGIONS, "to_truth", "to_reconstruction")}
    rows, evaluations, seconds = [], [], []
    for pose in weights:
        start = time.process_time()
        if options.floor:
            surface = extract_true(head, pose, space, head_model.box, options.resolution)
        else:
            surface = extract(head_model, code, pose, options.resolution)
        seconds.append(time.process_time() - start)
        evaluations.append(surface.num_evaluations)
        distances = judge.measure(pose, space.to_metres(surface.vertices), surface.faces)
        pools["all"].append(distances.pooled())
        pools["to_truth"].append(distances.to_truth)
        pools["to_reconstruction"].append(distances.to_reconstruction)
        for region in REGIONS:
            pools[region].append(distances.pooled(region))
        rows.append(float(distances.pooled().mean()))
    result = {name: describe(np.concatenate(parts)) for name, parts in pools.items()}
    result |= {"worst_expression_mean_mm": round(max(rows), 4), "expressions": len(rows)}
    result |= {"evaluations": int(np.mean(evaluations)), "cpu_seconds": round(float(np.mean(seconds)), 2)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--expressions", type=int, default=50)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--faces", choices=("mean", "presets", "random"), default="mean")
    parser.add_argument("--floor", action="store_true", help="the true distances instead of the model's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head_model = load_built_in_head_model(options.weights)
    weights = draw_held_out_expressions(options.expressions)
    if options.faces == "mean":
        faces = {"mean": {}}
    elif options.faces == "presets":
        faces = {name: preset.parameters for name, preset in IDENTITY_PRESETS.items() if name != "mean"}
    else:
        faces = {
            str(seed): random_identity(seed) for seed in range(FIRST_HELD_OUT_IDENTITY, FIRST_HELD_OUT_IDENTITY + 5)
        }
    for name, parameters in faces.items():
        found = measure(head_model, parameters, weights, options)
        print(json.dumps({"face": name, "resolution": options.resolution, "floor": options.floor, **found}), flush=True)


if __name__ == "__main__":
    main()
