"""espeak-ng: formant speech in many accents and timbres, phone times from its event stream.

The library is called through ctypes, because only it (not the program) reports phones with sample positions.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product

import numpy as np

from torch_backend.speech_corpus.synthesis import (
    SynthesisError,
    SynthesisRequest,
    Utterance,
    fit_segments,
    resample_to_corpus_rate,
)

_LOGGER = logging.getLogger(__name__)

_ACCENTS = ("en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029")
_VARIANTS = (
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky",
    "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "adam", "anika", "antonio", "aunty", "belinda",
    "benjamin", "boris", "caleb", "david", "ed", "edward", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa",
    "iven", "iven2", "john", "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "linda", "m1", "m2", "m3",
    "m4", "m5", "m6", "m7", "m8", "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro",
    "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2", "travis", "victor", "zac", "whisper",
)  # fmt: skip

# ruff: noqa: RUF001
# IPA without length and stress marks -> one or two phones of PHONES
_IPA = {
    "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "ɡ": "G", "g": "G", "f": "F", "v": "V", "θ": "TH", "ð": "DH",
    "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "tʃ": "CH", "dʒ": "JH", "h": "HH", "m": "M", "n": "N", "ŋ": "NG",
    "l": "L", "ɫ": "L", "ɹ": "R", "r": "R", "j": "Y", "w": "W", "ʍ": "W", "ɾ": "T", "ʔ": "T", "ɐ": "AH", "ə": "AH",
    "ʌ": "AH", "ɚ": "ER", "ɜ": "ER", "ɝ": "ER", "ɑ": "AA", "ɒ": "AA", "ɔ": "AO", "o": "AO", "æ": "AE", "a": "AE",
    "ɛ": "EH", "e": "EH", "ɪ": "IH", "ᵻ": "IH", "i": "IY", "ʊ": "UH", "u": "UW", "ʉ": "UW", "eɪ": "EY", "aɪ": "AY",
    "ɔɪ": "OY", "aʊ": "AW", "oʊ": "OW", "əʊ": "OW", "ɪə": "IH R", "iə": "IY", "eə": "EH", "ɛə": "EH", "ʊə": "UH",
    "əl": "L", "x": "K", "ɲ": "N", "ɬ": "L", "æɪ": "EY", "ɑɪ": "AY", "əɪ": "AY", "ʌɪ": "AY", "ɔʊ": "OW", "ʌʊ": "AW",
    "aɪə": "AY", "aʊə": "AW", "aɪɚ": "AY ER", "ɹl": "R", "ʎ": "L", "æʊ": "AW", "ʌʉ": "AW", "aa": "AA", "a:": "AA",
}  # fmt: skip
_MARKS = re.compile("[ːˈˌ̩ʲˑ̪̃]")  # length, stress, and diacritics that do not change the mouth
_FIRST_OF_TWO = 0.6  # share of a joined sound that its first phone takes

_SYNCHRONOUS_OUTPUT = 2
_PHONEME_EVENTS_IN_IPA = 1 | 2
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END, _EVENT_PHONEME = 0, 7
_USUAL_RATE, _USUAL_PITCH, _USUAL_RANGE = 165, 50, 50


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Library:
    """libespeak-ng, initialised once a process: it keeps global state and cannot be loaded twice."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.espeak_Info.restype = ctypes.c_char_p
        self.version = self._library.espeak_Info(None).decode()
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS_OUTPUT, 0, None, _PHONEME_EVENTS_IN_IPA)
        if self.sample_rate <= 0:
            raise SynthesisError("espeak-ng: the library could not be initialised; is its data installed?")
        self._sound: list[np.ndarray] = []
        self._phonemes: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)  # kept, or ctypes would free what the library calls
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: object, count: int, events: object) -> int:
        if count > 0:
            self._sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:  # type: ignore[index]
            event = events[index]  # type: ignore[index]
            if event.type == _EVENT_PHONEME:
                name = bytes(event.id.string).split(b"\0")[0].decode("utf-8", errors="ignore")
                self._phonemes.append((event.sample, name))
            index += 1
        return 0

    def speak(self, text: str, voice: str, parameters: dict[int, int]) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Return (S,) int16 at `sample_rate` and (start sample, IPA) pairs.

        Raises:
            SynthesisError: the voice is unknown or nothing was spoken.
        """
        self._sound.clear()
        self._phonemes.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SynthesisError(f"espeak-ng: no voice {voice!r}")
        for parameter, value in parameters.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode("utf-8") + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._sound:
            raise SynthesisError(f"espeak-ng: {voice} spoke nothing for {text!r}")
        return np.concatenate(self._sound), list(self._phonemes)


@lru_cache(maxsize=1)
def _load_library() -> _Library | None:
    path = ctypes.util.find_library("espeak-ng")
    if path is None:
        return None
    try:
        return _Library(path)
    except OSError:
        _LOGGER.debug("espeak-ng: the library cannot be loaded", exc_info=True)
        return None


def convert_ipa(name: str) -> tuple[str, ...] | None:
    """Return the phones of PHONES for espeak's IPA name; a pause is ("SIL",), None is unknown."""
    plain = _MARKS.sub("", name)
    if plain == "":
        return ("SIL",)
    if plain in _IPA:
        return tuple(_IPA[plain].split())
    for ending, phone in (("ɹ", "R"), ("ə", "AH")):
        if plain.endswith(ending) and plain[: -len(ending)] in _IPA:
            return (*_IPA[plain[: -len(ending)]].split()[:1], phone)
    return None


class EspeakEngine:
    """espeak-ng with every English accent in every timbre variant."""

    name = "espeak"
    voices = tuple(f"{accent}+{variant}" for accent, variant in product(_ACCENTS, _VARIANTS))

    def find_version(self) -> str | None:
        """Return the installed version, or None when the library is not installed."""
        library = _load_library()
        return library.version if library else None

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> Iterator[Utterance | None]:
        """Speak every request in order; None for a sentence with a sound that has no phone.

        Raises:
            SynthesisError: espeak-ng is not installed, or a voice is unknown to it.
        """
        library = _load_library()
        if library is None:
            raise SynthesisError("espeak-ng: the library is not installed")
        for request in requests:
            yield self._speak(library, request)

    def _speak(self, library: _Library, request: SynthesisRequest) -> Utterance | None:
        rate = int(np.clip(_USUAL_RATE / request.tempo, 90, 260))
        pitch = int(np.clip(_USUAL_PITCH + 60.0 * np.log2(request.pitch), 10, 95))
        spread = int(np.clip(_USUAL_RANGE * request.pitch_range, 10, 95))
        parameters = {_RATE: rate, _PITCH: pitch, _RANGE: spread}
        sound, phonemes = library.speak(request.text, request.voice, parameters)
        ends = _phone_ends(phonemes, len(sound), library.sample_rate)
        if ends is None:
            return None
        samples = resample_to_corpus_rate(sound, library.sample_rate)
        segments = fit_segments(ends, len(samples) / 16_000)
        if segments is None:
            return None
        settings = {"rate": rate, "pitch": pitch, "range": spread}
        return Utterance(samples, segments, self.name, request.voice, request.text, settings)


def _phone_ends(
    phonemes: Sequence[tuple[int, str]], num_samples: int, sample_rate: int
) -> list[tuple[str, float]] | None:
    """Turn start positions into (phone, end seconds); a joined sound is split in two."""
    if not phonemes:
        return None
    ends: list[tuple[str, float]] = []
    if phonemes[0][0] > 0:
        ends.append(("SIL", phonemes[0][0] / sample_rate))
    stops = [start for start, _ in phonemes[1:]] + [num_samples]
    for (start, name), stop in zip(phonemes, stops, strict=True):
        phones = convert_ipa(name)
        if phones is None:
            return None
        if stop <= start:
            continue
        if len(phones) == 2:
            ends.append((phones[0], (start + _FIRST_OF_TWO * (stop - start)) / sample_rate))
        ends.append((phones[-1], stop / sample_rate))
    return ends
