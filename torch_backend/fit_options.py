"""Options of the command `fit` (imports no torch)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blender_talkhead.contract.jobs import MAX_SEED, MAX_THREADS
from blender_talkhead.contract.option_types import integer_within
from torch_backend.jobs import FIT_CONDITIONS, FitExpressionsJob, FitIdentityJob

FIT_JOBS: dict[str, Callable[..., FitIdentityJob | FitExpressionsJob]] = {
    "identity": FitIdentityJob,
    "expressions": FitExpressionsJob,
}


def add_fit_options(
    parser: argparse.ArgumentParser,
    parser_class: type[argparse.ArgumentParser],
    target: Callable[[str], Path],
    number_within: Callable[[float, float], Callable[[str], float]],
) -> list[argparse.ArgumentParser]:
    """Add what can be fitted; returns its parsers, for the options of all commands."""
    kinds = parser.add_subparsers(dest="fitted", required=True, metavar="WHAT", parser_class=parser_class)

    def add_kind(name: str, text: str) -> argparse.ArgumentParser:
        return kinds.add_parser(name, help=text, description=text, allow_abbrev=False)

    identity = add_kind("identity", "Make the head of a scan an identity of FaceTalk's head model.")
    add: Callable[..., Any] = identity.add_argument
    add("scan", type=Path, metavar="SCAN", help="mesh or point cloud of a head or a face: PLY, OBJ, or an array (n, 3)")
    add("--landmarks", type=Path, metavar="FILE.npy", help="(68 or 478, 3), in the scan's unit; else found without")
    add("--output", type=target, required=True, metavar="FILE.safetensors")

    clips = add_kind("expressions", "Turn clips of scans with sound into code sequences that FaceTalk is trained on.")
    add = clips.add_argument
    add("clips", type=Path, nargs="+", metavar="CLIP", help="folder of scans, a recording, landmarks.npy if there are")
    add("--output", type=target, required=True, metavar="DIR", help="folder of code sequences; a second run goes on")
    add("--identity", type=Path, metavar="FILE.safetensors", help="of `fit identity`; else the built-in head's nearest")
    add(
        "--recorded-rate",
        type=number_within(1.0, 1000.0),
        default=24.0,
        metavar="RATE",
        help="scans per second; codes have 24",
    )
    add("--condition", choices=FIT_CONDITIONS, default="speech", help="what the codes are learned from")
    add("--encoder", metavar="FOLDER|NAME", help="speech encoder; default: the shipped one")
    add("--gain-db", type=number_within(-60.0, 60.0), default=0.0, metavar="DB", help="amplify the recordings")
    add("--auto-gain", action="store_true", help="amplify to the usual level of speech")
    add("--reduce-noise", action="store_true", help="take steady noise out of the recordings")
    add(
        "--held-out-every", type=integer_within(0, 10**6), default=0, metavar="N", help="every N-th clip to evaluate on"
    )
    for parser_of_kind in (identity, clips):
        add = parser_of_kind.add_argument
        add("--aligned", action="store_true", help="the scans lie in the head's frame already")
        add("--head-weights", type=Path, metavar="FILE", help="head model; default: the shipped one")
        add("--config", type=Path, metavar="TOML", help="settings; default: configs/fitting.toml")
        add("--seed", type=integer_within(0, MAX_SEED), default=0, metavar="N")
        add("--threads", type=integer_within(1, MAX_THREADS), metavar="N")
    return [identity, clips]
