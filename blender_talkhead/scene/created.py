"""Which data-blocks a job has made, so that they can go again when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import bpy

COLLECTIONS = (
    "scenes",
    "objects",
    "collections",
    "meshes",
    "hair_curves",
    "armatures",
    "materials",
    "node_groups",
    "images",
    "actions",
    "sounds",
    "lights",
    "cameras",
    "worlds",
)
"""Collections of bpy.data in which a bake makes data-blocks."""


def known_blocks() -> set[int]:
    """Return the session ids of all data-blocks of `COLLECTIONS`."""
    return {block.session_uid for name in COLLECTIONS for block in getattr(bpy.data, name)}


def find_blocks(uids: set[int]) -> list[Any]:
    """Return the data-blocks that have these session ids; one that is gone, or in a file no longer open, is left out.

    The shape keys of a mesh come with it: they would stay behind as an invalid data-block.
    """
    found = [block for name in COLLECTIONS for block in getattr(bpy.data, name) if block.session_uid in uids]
    keys = [mesh.shape_keys for mesh in bpy.data.meshes if mesh.session_uid in uids and mesh.shape_keys is not None]
    return [*found, *keys]


class CreatedBlocks:
    """Collects data-blocks as they are made, over many steps; a context manager that removes them on an error.

    Session ids are kept, not references: whatever else happens between two steps, nothing of the user's is touched.
    """

    def __init__(self) -> None:
        self._uids: set[int] = set()

    def __enter__(self) -> CreatedBlocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            bpy.data.batch_remove(find_blocks(self._uids))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what the block makes; it must run without a pause."""
        before = known_blocks()
        try:
            yield
        finally:
            self._uids |= known_blocks() - before
