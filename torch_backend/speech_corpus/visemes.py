"""Which phones look alike on a mouth: 15 classes, the usual set of viseme names."""

from __future__ import annotations

import numpy as np

from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES

VISEMES: tuple[str, ...] = (
    "sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou",
)  # fmt: skip

_MEMBERS = {
    "sil": "SIL", "PP": "P B M", "FF": "F V", "TH": "TH DH", "DD": "T D", "kk": "K G NG HH", "CH": "CH JH SH ZH",
    "SS": "S Z", "nn": "N L", "RR": "R ER", "aa": "AA AY AW AH", "E": "AE EH EY", "ih": "IH IY Y", "oh": "AO OW OY",
    "ou": "UH UW W",
}  # fmt: skip

VISEME_OF_PHONE: dict[str, str] = {phone: viseme for viseme, group in _MEMBERS.items() for phone in group.split()}


def build_viseme_matrix() -> np.ndarray:
    """Return (40, 15) float32, one where the phone belongs to the viseme: posteriors @ matrix sums to visemes."""
    matrix = np.zeros((len(PHONES), len(VISEMES)), np.float32)
    for phone, viseme in VISEME_OF_PHONE.items():
        matrix[PHONE_INDEX[phone], VISEMES.index(viseme)] = 1.0
    return matrix


_LIP_GROUPS = (("sil",), ("PP",), ("FF",), ("TH", "DD", "kk", "CH", "SS", "nn"), ("RR", "aa", "E", "ih", "oh", "ou"))


def build_lip_matrix() -> np.ndarray:
    """Return (40, 5) float32 of coarse classes: silence, lips shut, lip on teeth, other consonants, vowels and R."""
    visemes = build_viseme_matrix()
    columns = [visemes[:, [VISEMES.index(name) for name in group]].sum(axis=1) for group in _LIP_GROUPS]
    return np.stack(columns, axis=1)
