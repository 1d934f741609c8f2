"""Which character a head shows, and which it is wanted to show (no numpy: the panel asks at every drawing).

Both are custom properties, so that undo, copies and files keep them. What a mesh shows is noted on the mesh. What the
sliders ask for is noted on the object, or on the scene for a head to come; between a slider's move and the backend's
answer the two differ.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from ..facial.identities import MEAN, format_identity, resolve_identity, shorten_identity

SHOWN_PROPERTY = "talkhead_shape"
"""Custom property of a mesh: JSON of ShownCharacter."""
WANTED_PROPERTY = "talkhead_identity"
"""Custom property of an object or a scene: an identity as one line of text."""
_MAX_TEXT = 4_000


@dataclass(frozen=True)
class ShownCharacter:
    """What a head's mesh was made as."""

    identity: str
    """As one line of text."""
    vertices: int | None
    """Of the skin, as asked for; None is the head's own mesh."""
    seed: int
    """Of the points on the skin."""
    num_vertices: int
    """Of all parts; a mesh with another number was edited."""


def write_shown_character(mesh: Any, shown: ShownCharacter) -> None:
    """Note on a mesh which character it shows."""
    mesh[SHOWN_PROPERTY] = json.dumps(asdict(shown), sort_keys=True)


def read_shown_character(mesh: Any) -> ShownCharacter | None:
    """Return which character a mesh shows; None for one that TalkHead did not make, or with a damaged note."""
    text = mesh.get(SHOWN_PROPERTY) if mesh is not None else None
    return _decode_shown(text) if isinstance(text, str) and len(text) <= _MAX_TEXT else None


def wanted_identity(owner: Any) -> str:
    """Return the identity that the sliders of an object or a scene ask for."""
    text = owner.get(WANTED_PROPERTY)
    if isinstance(text, str) and len(text) <= _MAX_TEXT and _is_identity(text):
        return text
    shown = read_shown_character(getattr(owner, "data", None))
    return MEAN if shown is None else shown.identity


def write_wanted_identity(owner: Any, identity: str) -> None:
    """Note what the sliders of an object or a scene ask for."""
    owner[WANTED_PROPERTY] = identity


def wanted_parameters(owner: Any) -> dict[str, float]:
    """Return the parameters that the sliders of an object or a scene ask for; those left out are 0."""
    return dict(_resolve(wanted_identity(owner)))


def write_wanted_parameters(owner: Any, parameters: dict[str, float]) -> None:
    """Note the parameters that the sliders of an object or a scene ask for."""
    write_wanted_identity(owner, shorten_identity(parameters))


def shows_what_is_wanted(head: Any) -> bool:
    """Whether a head's mesh has the shape that its sliders ask for."""
    shown = read_shown_character(head.data)
    return shown is None or is_same_identity(shown.identity, wanted_identity(head))


def is_same_identity(first: str | None, second: str | None) -> bool:
    """Whether two identities, as text, have the same parameters."""
    return format_identity(dict(_resolve(first or MEAN))) == format_identity(dict(_resolve(second or MEAN)))


def is_character(item: Any) -> bool:
    """Whether an object is a head that can be shaped."""
    return item.type == "MESH" and read_shown_character(item.data) is not None


@lru_cache(maxsize=64)
def _resolve(identity: str) -> tuple[tuple[str, float], ...]:
    return tuple(resolve_identity(identity).items())


def _is_identity(text: str) -> bool:
    try:
        _resolve(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=64)
def _decode_shown(text: str) -> ShownCharacter | None:
    try:
        content = json.loads(text)
        shown = ShownCharacter(**content)
        _resolve(shown.identity)
    except (ValueError, TypeError, AttributeError):
        return None
    numbers = (shown.seed, shown.num_vertices, *(() if shown.vertices is None else (shown.vertices,)))
    return shown if all(type(each) is int for each in numbers) else None
