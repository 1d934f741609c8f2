"""Phone names of the English voices of flite and festival, brought to PHONES."""

from __future__ import annotations

from torch_backend.speech_corpus.phones import PHONE_INDEX

_RENAMED = {
    "ax": "AH",
    "ix": "IH",
    "axr": "ER",
    "dx": "T",
    "el": "L",
    "em": "M",
    "en": "N",
    "nx": "N",
    "hv": "HH",
    "pau": "SIL",
    "h#": "SIL",
    "brth": "SIL",
    "#": "SIL",
}


def convert_radio_phone(name: str) -> str:
    """Return the member of PHONES for a phone of the radio / CMU sets of flite and festival.

    Raises:
        ValueError: the phone is unknown.
    """
    phone = _RENAMED.get(name, name.upper())
    if phone not in PHONE_INDEX:
        raise ValueError(f"expected a phone of the radio set, got {name!r}")
    return phone
