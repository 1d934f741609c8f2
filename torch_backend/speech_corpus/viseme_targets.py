"""Where the jaw and the lips aim for each phone, how strongly they insist on it, and how early they start.

The tables are data with phonetic reasons, not measurements of one speaker. Weights are ARKit blendshape weights of the
built-in head, on which jawOpen = 1 parts the lips by 36 mm, mouthFunnel = 1 by 8 mm, both mouthUpperUp = 1 by 5 mm and
both mouthLowerDown = 1 by 5 mm; mouthPucker = 1 narrows the mouth by 21 mm, mouthFunnel = 1 by 13 mm, and both
mouthStretch = 1 widen it by 21 mm. A sustained /aa/ parts the lips by 14 mm, one of 200 ms between consonants by about
11 mm; the other phones are ordered by vowel height (aperture) and lip shape (rounded, neutral, spread).

Four groups of articulators move with time constants of their own (ARTICULATORS):

- jaw: heavy, symmetric, vowels insist on their height, sibilants on a nearly closed jaw (the teeth make the noise);
- rounding (orbicularis oris): starts about 100 ms ahead of u, o, w and passes through labials and indifferent phones
  ("boot", "poem", "screw"): a phone without a lip shape of its own has almost no weight here;
- spreading (risorius, zygomaticus): near-symmetric, weaker look-ahead;
- parting (levator and depressor labii): which teeth a phone shows.

Bilabial closure and labiodental contact are no targets but gates (articulation.py), because contact does not blend.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from torch_backend.speech_corpus.phones import BILABIALS, LABIODENTALS, PHONE_INDEX, PHONES, SILENCE, VOWELS

CURVES: tuple[str, ...] = (
    "jawOpen", "jawForward", "mouthPucker", "mouthFunnel", "mouthStretch", "mouthSmile", "mouthUpperUp",
    "mouthLowerDown",
)  # fmt: skip
"""Blendshapes with a target per phone; a name that exists as Left and Right drives both sides alike."""


class Articulator(NamedTuple):
    """A group of curves that move together."""

    curves: tuple[str, ...]
    ahead_seconds: float
    """Time constant with which the pull of a phone rises before it."""
    after_seconds: float
    """Time constant with which the pull of a phone fades behind it."""


ARTICULATORS: dict[str, Articulator] = {
    "jaw": Articulator(("jawOpen", "jawForward"), 0.050, 0.050),
    "rounding": Articulator(("mouthPucker", "mouthFunnel"), 0.060, 0.060),
    "spreading": Articulator(("mouthStretch", "mouthSmile"), 0.055, 0.050),
    "parting": Articulator(("mouthUpperUp", "mouthLowerDown"), 0.050, 0.050),
}

ROUNDING_AHEAD_SECONDS = 0.100
"""Look-ahead of the phones in ROUNDED_EARLY: lip rounding starts one or two segments before the vowel."""
ROUNDED_EARLY = frozenset({"W", "UW", "OW", "UH", "OY"})

# Aperture: low vowels open the jaw most, high vowels least; alveolars, palatals and sibilants need the jaw high;
# velars, /l/ and /h/ take what their neighbours leave; th parts the incisors, which overlap at rest, by the tongue's
# blade. Rounded vowels get part of their aperture from the funnel, spread ones from the parted lips, so that the sums
# (module docstring) follow vowel height.
JAW_OPEN: dict[str, float] = {
    "AA": 0.43, "AE": 0.33, "AY": 0.36, "AW": 0.38, "AO": 0.27, "AH": 0.25, "EH": 0.23, "OY": 0.21, "EY": 0.19,
    "OW": 0.19, "IH": 0.14, "ER": 0.14, "IY": 0.09, "UH": 0.11, "UW": 0.05,
    "HH": 0.17, "L": 0.12, "R": 0.09, "K": 0.12, "G": 0.12, "NG": 0.12, "N": 0.09, "T": 0.08, "D": 0.08,
    "TH": 0.15, "DH": 0.15, "Y": 0.08, "W": 0.01, "S": 0.02, "Z": 0.02, "SH": 0.01, "ZH": 0.01, "CH": 0.01,
    "JH": 0.01, "F": 0.04, "V": 0.04, "P": 0.03, "B": 0.03, "M": 0.03,
}  # fmt: skip
# Sibilants and palato-alveolars bring the lower teeth under or before the upper ones.
JAW_FORWARD: dict[str, float] = {"SH": 0.20, "ZH": 0.20, "CH": 0.20, "JH": 0.20, "S": 0.15, "Z": 0.15}

# Rounding: close rounded vowels and /w/ narrow the lips most; /r/, "er" and the palato-alveolars are weakly rounded.
PUCKER: dict[str, float] = {
    "W": 0.62, "UW": 0.60, "OW": 0.46, "UH": 0.38, "OY": 0.36, "AO": 0.26, "R": 0.22, "ER": 0.22, "AW": 0.06,
    "SH": 0.22, "CH": 0.22, "JH": 0.22, "ZH": 0.22,
}  # fmt: skip
# Funnel: rounded with the lips apart and turned out (open rounded vowels, palato-alveolars).
FUNNEL: dict[str, float] = {
    "SH": 0.28, "ZH": 0.28, "CH": 0.28, "JH": 0.28, "AO": 0.30, "OY": 0.30, "OW": 0.25, "UH": 0.20, "W": 0.22,
    "UW": 0.20, "R": 0.16, "ER": 0.10, "AW": 0.12,
}  # fmt: skip
# Spreading: front vowels, most for /iy/; low vowels need some so that the falling jaw does not narrow the mouth.
STRETCH: dict[str, float] = {
    "IY": 0.38, "EY": 0.31, "IH": 0.26, "Y": 0.26, "EH": 0.26, "AE": 0.30, "AY": 0.24, "AA": 0.19, "AH": 0.10,
    "AW": 0.08, "S": 0.16, "Z": 0.16, "F": 0.04, "V": 0.04,
}  # fmt: skip
SMILE: dict[str, float] = {"IY": 0.16, "EY": 0.12, "IH": 0.08, "Y": 0.10, "AE": 0.08, "EH": 0.06, "S": 0.05, "Z": 0.05}

# Parting: sibilants show the teeth although the jaw is high; front vowels show the upper, low vowels the lower teeth.
UPPER_UP: dict[str, float] = {
    "S": 0.16, "Z": 0.16, "SH": 0.14, "ZH": 0.14, "CH": 0.14, "JH": 0.14, "EH": 0.18, "AE": 0.20, "IY": 0.14,
    "EY": 0.17, "IH": 0.10, "AY": 0.14, "AA": 0.12, "AH": 0.08, "TH": 0.10, "DH": 0.10, "Y": 0.08,
}  # fmt: skip
LOWER_DOWN: dict[str, float] = {
    "S": 0.28, "Z": 0.28, "IY": 0.24, "IH": 0.22, "EH": 0.28, "AE": 0.30, "EY": 0.26, "T": 0.14, "D": 0.14, "N": 0.14,
    "L": 0.16, "SH": 0.22, "ZH": 0.22, "CH": 0.22, "JH": 0.22, "AA": 0.24, "AH": 0.16, "AY": 0.24, "AW": 0.14,
    "TH": 0.18, "DH": 0.18, "K": 0.12, "G": 0.12, "NG": 0.12, "Y": 0.14, "HH": 0.10, "R": 0.06, "ER": 0.08,
}  # fmt: skip

_TABLES: dict[str, dict[str, float]] = {
    "jawOpen": JAW_OPEN,
    "jawForward": JAW_FORWARD,
    "mouthPucker": PUCKER,
    "mouthFunnel": FUNNEL,
    "mouthStretch": STRETCH,
    "mouthSmile": SMILE,
    "mouthUpperUp": UPPER_UP,
    "mouthLowerDown": LOWER_DOWN,
}

# Phones whose lips are free take their neighbours' shape: tongue consonants in rounding and spreading, labials too
# (their contact is a matter of height, not of width), so that rounding passes through them.
_FREE_LIPS = frozenset({"T", "D", "N", "L", "K", "G", "NG", "HH", "TH", "DH"})
_FREE_LIPS_WEIGHT = 0.02
_LABIAL_LIPS_WEIGHT = 0.10

DIPHTHONGS: dict[str, tuple[str, float]] = {
    "AY": ("IH", 0.60),
    "AW": ("UH", 0.55),
    "OY": ("IH", 0.50),
    "EY": ("IY", 0.50),
    "OW": ("UW", 0.45),
}
"""Diphthong -> (vowel that its offglide moves to, share of the way to it)."""
OFFGLIDE_SHARE = 0.35
"""Last share of a diphthong that aims at the offglide."""

NEUTRAL_JAW_OPEN = 0.10
"""Jaw of the neutral articulatory setting, to which short vowels undershoot (Lindblom 1963)."""
UNDERSHOOT_SECONDS = 0.030
"""Time constant of undershoot: a vowel of duration d reaches the share 1 - exp(-d / UNDERSHOOT_SECONDS)."""


def _jaw_weight(phone: str) -> float:
    if phone in VOWELS or phone == SILENCE:
        return 0.50
    if phone in BILABIALS:
        return 0.45
    if phone in LABIODENTALS:
        return 0.80
    if phone in {"S", "Z", "SH", "ZH", "CH", "JH"}:
        return 0.35
    return 0.50 if phone == "W" else 0.25


def _lip_weight(phone: str) -> float:
    if phone in BILABIALS or phone in LABIODENTALS:
        return _LABIAL_LIPS_WEIGHT
    if phone in _FREE_LIPS:
        return _FREE_LIPS_WEIGHT
    if phone in VOWELS or phone == SILENCE:
        return 0.50
    return 0.70 if phone == "W" else 0.25


def _parting_weight(phone: str) -> float:
    return _LABIAL_LIPS_WEIGHT if phone in BILABIALS or phone in LABIODENTALS else _jaw_weight(phone)


def build_targets() -> np.ndarray:
    """Table of targets.

    Returns:
        (len(PHONES), len(CURVES)) float64 blendshape weights in 0..1; silence is all zero (rest).
    """
    table = np.zeros((len(PHONES), len(CURVES)))
    for column, curve in enumerate(CURVES):
        for phone, weight in _TABLES[curve].items():
            table[PHONE_INDEX[phone], column] = weight
    return table


def build_dominance() -> dict[str, np.ndarray]:
    """How strongly each phone insists on its targets, for each articulator.

    Returns:
        articulator name -> (len(PHONES),) positive weights.
    """
    lips = np.array([_lip_weight(phone) for phone in PHONES])
    return {
        "jaw": np.array([_jaw_weight(phone) for phone in PHONES]),
        "rounding": lips,
        "spreading": lips,
        "parting": np.array([_parting_weight(phone) for phone in PHONES]),
    }


def build_time_constants() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Time constants with which each phone's pull rises before it and fades behind it.

    Returns:
        articulator name -> (ahead (len(PHONES),), after (len(PHONES),)) in seconds.
    """
    constants = {}
    for name, articulator in ARTICULATORS.items():
        ahead = np.full(len(PHONES), articulator.ahead_seconds)
        after = np.full(len(PHONES), articulator.after_seconds)
        if name == "rounding":
            for phone in ROUNDED_EARLY:
                ahead[PHONE_INDEX[phone]] = ROUNDING_AHEAD_SECONDS
        constants[name] = (ahead, after)
    return constants
