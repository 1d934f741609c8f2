"""Checks of command-line options that the headless command and the backend share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .jobs import (
    DEFAULT_SAMPLER_STEPS,
    MAX_DIVERSITY,
    MAX_GRID,
    MAX_GUIDANCE,
    MAX_SAMPLER_STEPS,
    MAX_TAKE,
    MAX_TAKES,
    MIN_GRID,
    SAMPLERS,
    SURFACES,
    FaceTalkSettings,
)


def integer_within(lowest: int, highest: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from `lowest` to `highest`; anything else is a usage error."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"expected {lowest} to {highest}, got {value}")
        return value

    return parse


def number_within(lowest: float, highest: float) -> Callable[[str], float]:
    """Return an argparse type for numbers from `lowest` to `highest`; anything else is a usage error."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
        if not (math.isfinite(value) and lowest <= value <= highest):
            raise argparse.ArgumentTypeError(f"expected {lowest:g} to {highest:g}, got {text}")
        return value

    return parse


def add_facetalk_options(add: Callable[..., Any], folder_type: Callable[[str], Path]) -> None:
    """Add the options of FaceTalk that both commands have, without defaults: None is not given.

    Args:
        add: `add_argument` of a parser or a group.
        folder_type: argparse type of a folder.
    """
    add("--surface", choices=SURFACES, help="one mesh for all frames (default), or a mesh of its own for each frame")
    grid = integer_within(MIN_GRID, MAX_GRID)
    add(
        "--grid",
        type=grid,
        metavar="N",
        help=f"sequence: cells along the head's longest side, {MIN_GRID} to {MAX_GRID}",
    )
    add("--take", type=integer_within(1, MAX_TAKE), metavar="N", help="number of the first take, default 1")
    add("--takes", type=integer_within(1, MAX_TAKES), metavar="N", help="how many, default 1")
    guidance = number_within(0.0, MAX_GUIDANCE)
    add("--guidance", type=guidance, metavar="W", help="1: as learned; above exaggerates what the speech asks for")
    diversity = number_within(0.0, MAX_DIVERSITY)
    add("--diversity", type=diversity, metavar="D", help="how far takes lie apart: 1 as learned, 0 all the same")
    add("--sampler", choices=SAMPLERS, help="default dpm_solver++")
    steps = integer_within(1, MAX_SAMPLER_STEPS)
    add("--sampler-steps", type=steps, metavar="N", help=f"evaluations of the network, default {DEFAULT_SAMPLER_STEPS}")
    add("--head-weights", type=Path, metavar="FILE", help="head model; default: the shipped one")
    add("--cache", type=folder_type, metavar="DIR", help="keep results, and go on with a sequence that was stopped")


def take_facetalk_settings(values: dict[str, Any]) -> FaceTalkSettings:
    """Take the options of `add_facetalk_options` out of parsed ones; those not given have their defaults."""
    given = {name: values.pop(name) for name in FaceTalkSettings().as_fields()}
    return FaceTalkSettings(**{name: value for name, value in given.items() if value is not None})
