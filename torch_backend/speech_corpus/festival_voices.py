"""The festival voices of the corpus: what they are called, what they speak, and how their phones map to PHONES.

All are free software in Debian and made from recordings of people. Few of them are English; the others read English
spelling by the rules of their own language, which gives real voices saying real bilabials, labiodentals and vowels at
exactly known times. Their phones are mapped to the nearest of PHONES, good to the viseme rather than to the phone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch_backend.speech_corpus.arpabet import convert_radio_phone

_CONSONANTS = {phone: phone.upper() for phone in ("p", "b", "t", "d", "k", "g", "f", "v", "s", "z", "m", "n", "l", "r")}

_ITALIAN = _CONSONANTS | {
    "#": "SIL", "a": "AA", "a1": "AA", "e": "EH", "e1": "EH", "E": "EH", "E1": "EH", "i": "IY", "i1": "IY",
    "o": "OW", "o1": "OW", "O": "AO", "O1": "AO", "u": "UW", "u1": "UW", "j": "Y", "w": "W", "ts": "S", "dz": "Z",
    "tS": "CH", "dZ": "JH", "S": "SH", "J": "N", "L": "L", "nf": "N", "ng": "NG",
}  # fmt: skip
_CZECH = _CONSONANTS | {
    "#": "SIL", "_": "SIL", "a": "AA", "a:": "AA", "e": "EH", "e:": "EH", "i": "IY", "i:": "IY", "o": "OW",
    "o:": "OW", "u": "UW", "u:": "UW", "j": "Y", "h": "HH", "ch": "HH", "c": "S", "dz": "Z", "c~": "CH", "dz~": "JH",
    "s~": "SH", "z~": "ZH", "t~": "T", "d~": "D", "n~": "N", "n*": "NG", "r~": "R", "r~*": "R", "w": "V",
}  # fmt: skip
_FINNISH = _CONSONANTS | {
    "#": "SIL", "##": "SIL", "a": "AA", "e": "EH", "i": "IY", "o": "OW", "u": "UW", "y": "UW", "@": "AE", "7": "ER",
    "j": "Y", "h": "HH", "T": "T", "S": "SH", "N": "NG",
}  # fmt: skip
_CATALAN = _CONSONANTS | {
    "pau": "SIL", "#": "SIL", "a": "AA", "a1": "AA", "ax": "AH", "e": "EH", "e1": "EH", "E": "EH", "E1": "EH",
    "i": "IY", "i1": "IY", "o": "OW", "o1": "OW", "O": "AO", "O1": "AO", "u": "UW", "u1": "UW", "w": "W", "y": "Y",
    "j": "Y", "uw": "W", "rr": "R", "S": "SH", "Z": "ZH", "tS": "CH", "dZ": "JH", "ts": "S", "dz": "Z", "J": "N",
    "L": "L", "N": "NG", "h": "HH", "x": "HH",
}  # fmt: skip

UNRELIABLE_PHONES: Mapping[str, frozenset[str]] = {
    "it": frozenset({"R"}),
    "cs": frozenset({"R", "HH"}),
    "fi": frozenset({"R"}),
    "ca": frozenset({"R", "B", "D", "G", "HH"}),
}
"""Language -> phones whose sound differs too much from the English one to learn from: trilled R, the Catalan b d g
that open between vowels, and the like."""


@dataclass(frozen=True)
class FestivalVoice:
    """One voice."""

    function: str
    """The Scheme function that selects it."""
    language: str
    phone_map: Mapping[str, str] | None
    """Its phones -> PHONES; None for the radio / CMU sets."""
    kind: Literal["diphone", "hts"]
    usual_pitch_hz: float
    """0 where the pitch cannot be set."""
    package: str
    """Debian package."""

    def convert_phone(self, name: str) -> str:
        """Return the member of PHONES.

        Raises:
            ValueError: the voice has no such phone.
        """
        if self.phone_map is None:
            return convert_radio_phone(name)
        plain = name if name in self.phone_map else name.rstrip(":")
        if plain == "":  # a lone ":" lengthens a silence in the Finnish voices
            return "SIL"
        if plain not in self.phone_map:
            raise ValueError(f"expected a phone of {self.function}, got {name!r}")
        return self.phone_map[plain]


VOICES: Mapping[str, FestivalVoice] = {
    "slt-hts": FestivalVoice("voice_cmu_us_slt_arctic_hts", "en", None, "hts", 180.0, "festvox-us-slt-hts"),
    "kal": FestivalVoice("voice_kal_diphone", "en", None, "diphone", 105.0, "festvox-kallpc16k"),
    "ked": FestivalVoice("voice_ked_diphone", "en", None, "diphone", 105.0, "festvox-kdlpc16k"),
    "lp": FestivalVoice("voice_lp_diphone", "it", _ITALIAN, "diphone", 0.0, "festvox-italp16k"),
    "pc": FestivalVoice("voice_pc_diphone", "it", _ITALIAN, "diphone", 0.0, "festvox-itapc16k"),
    "dita": FestivalVoice("voice_czech_dita", "cs", _CZECH, "diphone", 0.0, "festvox-czech-dita"),
    "krb": FestivalVoice("voice_czech_krb", "cs", _CZECH, "diphone", 0.0, "festvox-czech-krb"),
    "machac": FestivalVoice("voice_czech_machac", "cs", _CZECH, "diphone", 0.0, "festvox-czech-machac"),
    "ph": FestivalVoice("voice_czech_ph", "cs", _CZECH, "diphone", 0.0, "festvox-czech-ph"),
    "lj": FestivalVoice("voice_suo_fi_lj_diphone", "fi", _FINNISH, "diphone", 0.0, "festvox-suopuhe-lj"),
    "mv": FestivalVoice("voice_hy_fi_mv_diphone", "fi", _FINNISH, "diphone", 0.0, "festvox-suopuhe-mv"),
    "ona-hts": FestivalVoice("voice_upc_ca_ona_hts", "ca", _CATALAN, "hts", 0.0, "festvox-ca-ona-hts"),
}
