"""Identities as text and as files: presets, random ones, parameters by name (no numpy, no bpy).

An identity travels as one line: a preset's name, a seed, or parameters, which may start from either:
"broad", "12", "nose_width=0.5,eye_size=-0.3", "broad,nose_width=0.5".
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from .identity_parameters import IDENTITY_PARAMETERS
from .identity_presets import IDENTITY_PRESETS

MEAN = "mean"
MAX_IDENTITY_SEED = 2**32 - 1
MAX_AMOUNT = 2.0
CHARACTER_FORMAT = "talkhead-character"
CHARACTER_VERSION = 1
MAX_CHARACTER_BYTES = 65_536
MAX_CHARACTER_NAME = 100
_DECIMALS = 3

RANDOM_SPREAD = 0.42
"""Standard deviation of a random identity's parameters, before tanh bounds them to -1..1."""

RANDOM_FACTORS: dict[str, dict[str, float]] = {
    "strong bones": {
        "jaw_width": 0.45, "jaw_angle": 0.5, "chin_projection": 0.4, "chin_width": 0.5, "chin_height": -0.3,
        "brow_ridge": 0.6, "brow_height": -0.45, "forehead": -0.35, "neck_width": 0.5, "nose_width": 0.3,
        "nose_bridge": 0.35, "nose_projection": 0.25, "cheekbone": 0.2, "eye_size": -0.4, "lip_thickness": -0.3,
        "ear_size": 0.2, "cranium_width": 0.2,
    },
    "full": {
        "cheek_fullness": 0.65, "face_width": 0.5, "neck_width": 0.4, "jaw_width": 0.3, "cheekbone": -0.3,
        "temple": 0.4, "eye_bag": 0.2, "nose_width": 0.2, "chin_projection": -0.15, "lip_thickness": 0.2,
        "cranium_width": 0.3,
    },
    "long": {
        "face_length": 0.6, "chin_height": -0.45, "nose_height": -0.55, "philtrum": -0.35, "face_width": -0.35,
        "nose_projection": 0.3, "cranium_height": 0.3, "cranium_width": -0.3, "jaw_width": -0.2,
    },
    "aged": {
        "eye_bag": 0.5, "eye_hood": 0.5, "ear_size": 0.5, "lip_thickness": -0.35, "cheek_fullness": -0.3,
        "nose_tip": -0.5, "nose_projection": 0.2, "eye_size": -0.25, "temple": -0.35, "eye_tilt": -0.35,
        "brow_height": -0.2,
    },
}  # fmt: skip
"""What tends to go together in a random identity: the share of each factor in a parameter's spread."""


@dataclass(frozen=True)
class Character:
    """An identity with a name, as a file holds it."""

    name: str
    parameters: dict[str, float]


def random_identity(seed: int, amount: float = 1.0) -> dict[str, float]:
    """Return all parameters of a random identity; the same seed and amount give the same face everywhere.

    Most parameters lie near 0, and those of RANDOM_FACTORS go together. Each number hangs on the seed and on its
    name alone, so that another parameter in a later version leaves the others as they are.

    Args:
        seed: from 0 on.
        amount: 0 is the mean head, 1 natural, up to MAX_AMOUNT for faces out of the ordinary.

    Raises:
        ValueError: the seed or the amount is out of its range.
    """
    if not 0 <= seed <= MAX_IDENTITY_SEED:
        raise ValueError(f"expected a seed from 0 to {MAX_IDENTITY_SEED}, got {seed}")
    if not 0.0 <= amount <= MAX_AMOUNT:
        raise ValueError(f"expected an amount from 0 to {MAX_AMOUNT:g}, got {amount}")
    factors = {name: _draw_normal(seed, name) for name in RANDOM_FACTORS}
    values = {}
    for name in IDENTITY_PARAMETERS:
        shares = {factor: loadings[name] for factor, loadings in RANDOM_FACTORS.items() if name in loadings}
        own = math.sqrt(1.0 - sum(share * share for share in shares.values()))
        drawn = own * _draw_normal(seed, name) + sum(share * factors[factor] for factor, share in shares.items())
        values[name] = round(math.tanh(RANDOM_SPREAD * amount * drawn), _DECIMALS)
    return values


def resolve_identity(identity: str | int | None) -> dict[str, float]:
    """Return the parameters of an identity: a preset's name, a seed, or parameters (see the module's docstring).

    Raises:
        ValueError: it is none of these, or a parameter is unknown or outside -1..1.
    """
    if identity is None:
        return {}
    first, *others = str(identity).split(",")
    if "=" in first:
        first, others = MEAN, [first, *others]
    parameters = _resolve_start(first.strip())
    for other in others:
        name, equals, value = other.partition("=")
        if not equals:
            raise ValueError(f"expected parameters like nose_width=0.5 after the first comma, got {other.strip()!r}")
        parameters[name.strip()] = _parse_value(name.strip(), value)
    validate_identity(parameters)
    return parameters


def format_identity(parameters: Mapping[str, float]) -> str:
    """Return parameters as the one line that `resolve_identity` reads; the mean head is its name.

    Raises:
        ValueError: a parameter is unknown or outside -1..1.
    """
    validate_identity(parameters)
    rounded = {name: round(float(parameters.get(name, 0.0)), _DECIMALS + 1) for name in IDENTITY_PARAMETERS}
    return ",".join(f"{name}={value:g}" for name, value in rounded.items() if value) or MEAN


def shorten_identity(parameters: Mapping[str, float]) -> str:
    """Return parameters as one line, by a preset's name where they are one.

    Raises:
        ValueError: a parameter is unknown or outside -1..1.
    """
    text = format_identity(parameters)
    return _preset_names().get(text, text)


def find_preset(parameters: Mapping[str, float]) -> str | None:
    """Return the name of the preset with these parameters; None where they are no preset."""
    return _preset_names().get(format_identity(parameters))


def validate_identity(parameters: Mapping[str, float]) -> None:
    """Check the names and the range of parameters.

    Raises:
        ValueError: one is unknown, not finite or outside -1..1.
    """
    unknown = sorted(set(parameters) - set(IDENTITY_PARAMETERS))
    if unknown:
        raise ValueError(f"expected identity parameters of {', '.join(IDENTITY_PARAMETERS)}; got {', '.join(unknown)}")
    for name, value in parameters.items():
        if not -1.0 <= value <= 1.0:
            raise ValueError(f"expected {name} in -1..1, got {value}")


def encode_character(character: Character) -> str:
    """Return a character as the text of its JSON file; parameters that are 0 are left out.

    Raises:
        ValueError: a parameter is unknown or outside -1..1.
    """
    validate_identity(character.parameters)
    rounded = {name: round(float(character.parameters.get(name, 0.0)), _DECIMALS + 1) for name in IDENTITY_PARAMETERS}
    content = {
        "format": CHARACTER_FORMAT,
        "format_version": CHARACTER_VERSION,
        "name": character.name,
        "parameters": {name: value for name, value in rounded.items() if value},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def decode_character(text: str) -> Character:
    """Read the text of a character's file, which may come from anywhere.

    Raises:
        ValueError: no character, of another version, or with a parameter that is unknown or out of its range.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(content, dict) or content.get("format") != CHARACTER_FORMAT:
        raise ValueError(f'expected a JSON object with "format": "{CHARACTER_FORMAT}"')
    version = content.get("format_version")
    if version != CHARACTER_VERSION or isinstance(version, bool):
        raise ValueError(f"expected format_version {CHARACTER_VERSION}, got {str(version)[:20]}; update TalkHead")
    unknown = sorted(set(content) - {"format", "format_version", "name", "parameters"})
    if unknown:
        raise ValueError(f"unknown entries {', '.join(each[:40] for each in unknown[:5])}")
    name, parameters = content.get("name", ""), content.get("parameters")
    if not isinstance(name, str) or len(name) > MAX_CHARACTER_NAME or not all(each.isprintable() for each in name):
        raise ValueError(f"expected a name of at most {MAX_CHARACTER_NAME} printable characters")
    if not isinstance(parameters, dict):
        raise ValueError('expected an object of numbers under "parameters"')
    values = {each: _read_number(each, value) for each, value in parameters.items()}
    validate_identity(values)
    return Character(name, values)


def load_character(path: Path) -> Character:
    """Read a character's file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no character; see `decode_character`.
    """
    with path.open("rb") as file:
        data = file.read(MAX_CHARACTER_BYTES + 1)
    if len(data) > MAX_CHARACTER_BYTES:
        raise ValueError(f"it is larger than {MAX_CHARACTER_BYTES} bytes")
    return decode_character(data.decode("utf-8-sig"))


@cache
def _preset_names() -> dict[str, str]:
    return {format_identity(preset.parameters): name for name, preset in IDENTITY_PRESETS.items()}


def _resolve_start(text: str) -> dict[str, float]:
    if text in IDENTITY_PRESETS:
        return dict(IDENTITY_PRESETS[text].parameters)
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_IDENTITY_SEED)):
        return random_identity(int(text))
    raise ValueError(
        f"expected an identity of {', '.join(IDENTITY_PRESETS)}, a seed from 0 on, or parameters like nose_width=0.5, "
        f"got {text[:80]!r}"
    )


def _parse_value(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number from -1 to 1 for {name[:40]}, got {text.strip()[:40]!r}") from None


def read_identity_option(text: str, folder: Path | None = None) -> str:
    """Return an identity given on a command line as one line of text: as it is, or from a character's file.

    Args:
        text: as `resolve_identity` reads it, or the path of a file that ends in .json.
        folder: where a relative path starts; None is the working folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no identity, or the file is no character.
    """
    if not text.lower().endswith(".json"):
        resolve_identity(text)
        return text
    return shorten_identity(load_character((folder or Path()) / text).parameters)


def _read_number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number for {name[:40]}, got {str(value)[:40]!r}")
    if not -1.0 <= value <= 1.0:  # before float(): a huge whole number would overflow
        raise ValueError(f"expected {name[:40]} in -1..1, got {str(value)[:40]}")
    return float(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _draw_normal(seed: int, name: str) -> float:
    """A draw of the standard normal distribution (Box and Muller 1958) that hangs on seed and name alone."""
    source = random.Random(f"{seed}/{name}")
    radius = math.sqrt(-2.0 * math.log(1.0 - source.random()))
    return radius * math.cos(2.0 * math.pi * source.random())
