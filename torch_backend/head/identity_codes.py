"""Identity codes of the built-in head: its identity parameters, and how its surface lies about each member's anchor.

A code is laid out as the official ones: 64 numbers for the whole head, then 32 for each of 39 members and the global
one. The first are the identity's parameters, in the order of IDENTITY_PARAMETERS, the rest of the 64 are 0. A
member's part says, in millimetres, how far 10 places of the skin about its anchor have moved against the mean head,
relative to the anchor; a mirrored member's are mirrored. The mean head's code is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.identities import validate_identity
from blender_talkhead.facial.identity_parameters import IDENTITY_PARAMETERS
from torch_backend.head.head import Head, load_head
from torch_backend.head.identity import shape_identity
from torch_backend.head.member_anchors import NUM_PAIRS, member_anchor_vertices

GLOBAL_SIZE, LOCAL_SIZE = 64, 32
PLACES = 10
"""Places of the skin that a member's part describes."""
_NEAREST = 400
"""Skin vertices about an anchor, among which its places are chosen as far from each other as possible."""
_MILLIMETRES = 1e3
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class IdentityCodes:
    """The map from identity parameters to codes."""

    head: Head
    """The mean head."""
    anchors: NDArray[np.int32]
    """(39,) vertices of the members' anchors."""
    places: NDArray[np.int32]
    """(40, 10) vertices; the last row is the global member's."""

    @property
    def code_size(self) -> int:
        """Length of a code, 1344."""
        return GLOBAL_SIZE + len(self.places) * LOCAL_SIZE

    def encode(self, parameters: Mapping[str, float]) -> NDArray[np.float32]:
        """Return the code (1344,) of an identity by parameters, -1..1; missing ones are 0.

        Raises:
            ValueError: a parameter is unknown or out of range.
        """
        validate_identity(parameters)
        code = np.zeros(self.code_size, dtype=np.float32)
        for index, parameter in enumerate(IDENTITY_PARAMETERS):
            code[index] = parameters.get(parameter, 0.0)
        if not any(parameters.values()):
            return code
        moved = (shape_identity(self.head, parameters).vertices - self.head.vertices).astype(np.float64)
        local = moved[self.places] * _MILLIMETRES
        local[:-1] -= moved[self.anchors][:, None] * _MILLIMETRES
        local[1 : 2 * NUM_PAIRS : 2] *= _MIRROR
        parts = code[GLOBAL_SIZE:].reshape(len(self.places), LOCAL_SIZE)
        parts[:, : 3 * PLACES] = local.reshape(len(local), -1)
        return code


def build_identity_codes(head: Head) -> IdentityCodes:
    """Choose the places about each anchor of the mean head."""
    anchors = member_anchor_vertices(head)
    skin = head.vertices[: head.num_skin_vertices].astype(np.float64)
    mirror = np.asarray(head.mirror)
    rows: list[NDArray[np.integer]] = []
    for index, anchor in enumerate(anchors):
        if index < 2 * NUM_PAIRS and index % 2:
            rows.append(mirror[rows[-1]])
            continue
        order = np.argsort(np.linalg.norm(skin - skin[anchor], axis=1), kind="stable")
        rows.append(_spread(skin, order[:_NEAREST]))
    rows.append(_spread(skin, np.arange(len(skin))))
    return IdentityCodes(head, anchors, np.array(rows, dtype=np.int32))


@lru_cache(maxsize=1)
def load_identity_codes() -> IdentityCodes:
    """Return the built-in head's; made once and shared."""
    return build_identity_codes(load_head())


def _spread(skin: NDArray[np.float64], candidates: NDArray[np.integer]) -> NDArray[np.integer]:
    """The first candidate, then each time the one farthest from all chosen ones."""
    chosen = [int(candidates[0])]
    distances = np.full(len(candidates), np.inf)
    while len(chosen) < PLACES:
        distances = np.minimum(distances, np.linalg.norm(skin[candidates] - skin[chosen[-1]], axis=1))
        chosen.append(int(candidates[int(distances.argmax())]))
    return np.array(chosen)
