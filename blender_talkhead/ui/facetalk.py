"""What the panel asks of FaceTalk alone: take, guidance, diversity, surface, resolution."""

from __future__ import annotations

from typing import Any

from ..properties import GRIDS


def makes_sequence(settings: Any) -> bool:
    """Whether each frame will get a mesh of its own."""
    return bool(settings.method == "facetalk" and settings.surface == "sequence")


def uses_scan(settings: Any) -> bool:
    """Whether the new head's identity is a fitted scan."""
    return bool(settings.method == "facetalk" and settings.target_kind == "NEW" and settings.scan.strip())


def draw_takes_and_surface(layout: Any, settings: Any) -> None:
    """Draw which performance it is to be, and what it becomes."""
    column = section(layout, "Performance")
    row = column.row(align=True)
    row.prop(settings, "take")
    count = row.row(align=True)
    count.enabled = settings.target_kind == "NEW" or settings.takes > 1
    count.prop(settings, "takes", text="How Many")
    row = column.row(align=True)
    row.prop(settings, "guidance")
    row.prop(settings, "diversity", slider=True)
    section(layout, "Surface").row(align=True).prop(settings, "surface", expand=True)


def draw_grid(layout: Any, settings: Any) -> None:
    """Draw the resolution of a mesh sequence."""
    column = section(layout, "Detail")
    column.prop(settings, "grid", slider=True)
    row = column.row(align=True)
    for name, cells, _ in GRIDS:
        button = row.operator("talkhead.set_grid", text=name, depress=settings.grid == cells)
        button.grid = cells


def section(layout: Any, title: str) -> Any:
    """Draw a heading and return the joined column under it, whose rows take the whole width."""
    layout.label(text=title)
    column = layout.column(align=True)
    column.use_property_split = False
    return column
