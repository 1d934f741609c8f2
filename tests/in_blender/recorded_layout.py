"""Stands in for Blender's layout where there is no window: notes what a panel draws."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class RecordedLayout:
    """Takes every call that a `UILayout` takes; rows, columns and boxes note into their parent.

    Attributes:
        texts: the labels in order, and the texts in progress bars.
        operators: ids of the buttons.
        properties: names of the fields.
    """

    def __init__(self, parent: RecordedLayout | None = None) -> None:
        self.texts: list[str] = [] if parent is None else parent.texts
        self.operators: list[str] = [] if parent is None else parent.operators
        self.properties: list[str] = [] if parent is None else parent.properties

    @property
    def text(self) -> str:
        """All labels, as one text."""
        return " ".join(self.texts)

    def row(self, **_: Any) -> RecordedLayout:
        return RecordedLayout(self)

    column = box = split = row

    def label(self, *, text: str = "", icon: str = "NONE") -> None:
        del icon
        self.texts.append(text)

    def progress(self, *, factor: float, type: str, text: str) -> None:  # noqa: A002 - Blender's name
        assert 0.0 <= factor <= 1.0 and type == "BAR"
        self.texts.append(text)

    def panel(self, idname: str, *, default_closed: bool = False) -> tuple[RecordedLayout, RecordedLayout]:
        del idname, default_closed
        return RecordedLayout(self), RecordedLayout(self)

    def menu(self, name: str, *, text: str = "", icon: str = "NONE") -> None:
        del icon
        self.operators.append(name)
        self.texts.append(text)

    def separator(self, *, factor: float = 1.0) -> None:
        del factor

    def prop(self, data: Any, name: str, **_: Any) -> None:
        if hasattr(data, "bl_rna"):
            assert name in data.bl_rna.properties, f"{data} has no property {name}"
        self.properties.append(name)

    def operator(self, name: str, **_: Any) -> SimpleNamespace:
        self.operators.append(name)
        return SimpleNamespace()
