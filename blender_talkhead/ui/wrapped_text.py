"""Long texts in narrow panels: Blender's labels do not wrap."""

from __future__ import annotations

import textwrap
from typing import Any

_LETTER_PIXELS = 6.1
"""Mean width of a letter of the interface font at scale 1; a little wide, so that nothing is cut."""
_MARGIN_PIXELS = 62
_MIN_LETTERS = 24
_MAX_LETTERS = 160


def letters_per_line(region_width: float, ui_scale: float) -> int:
    """Return how many letters fit beside an icon into a box of a region."""
    width = region_width / max(ui_scale, 0.1) - _MARGIN_PIXELS
    return int(min(max(width / _LETTER_PIXELS, _MIN_LETTERS), _MAX_LETTERS))


def wrap_text(text: str, letters: int, max_lines: int = 12) -> list[str]:
    """Return the lines of a text; what goes beyond `max_lines` is left out, marked by dots."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        lines += textwrap.wrap(paragraph, letters, break_long_words=True) or [""]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1][: letters - 2] + " …"]
    return lines


def draw_text(layout: Any, context: Any, text: str, icon: str = "NONE", taken_letters: int = 0) -> None:
    """Draw a text as labels, wrapped to the region; the icon stands at its first line.

    Args:
        layout: where.
        context: the drawing context.
        text: the text; line ends stay.
        icon: icon at the first line.
        taken_letters: room that a button beside the text takes.
    """
    letters = letters_per_line(context.region.width, context.preferences.system.ui_scale) - taken_letters
    column = layout.column(align=True)
    column.scale_y = 0.85
    for number, line in enumerate(wrap_text(text, letters)):
        if icon == "NONE":
            column.label(text=line)
        else:
            column.label(text=line, icon=icon if number == 0 else "BLANK1")


def describe_seconds(seconds: float) -> str:
    """Return a time span for people: "8 s", "1 min 20 s", "2 h 5 min"."""
    whole = max(1, round(seconds))
    if whole >= 60:
        whole = round(whole / 5) * 5 if whole < 600 else round(whole / 60) * 60
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def describe_bytes(count: float) -> str:
    """Return a size for people: "640 KB", "12 MB", "1.4 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{max(1, round(count / 1e3))} KB"
