"""Checks of command-line options that the headless command and the backend share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


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
