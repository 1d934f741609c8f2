"""The phone set of the corpus and of the shipped speech encoder: 39 ARPAbet phones without stress, and silence."""

from __future__ import annotations

from typing import NamedTuple

PHONES: tuple[str, ...] = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH", "SIL",
)  # fmt: skip

PHONE_INDEX: dict[str, int] = {phone: index for index, phone in enumerate(PHONES)}
SILENCE = "SIL"
VOWELS = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"})
BILABIALS = frozenset({"P", "B", "M"})
LABIODENTALS = frozenset({"F", "V"})


class PhoneSegment(NamedTuple):
    """One phone of an utterance."""

    start_seconds: float
    end_seconds: float
    phone: str
    """A member of PHONES."""
