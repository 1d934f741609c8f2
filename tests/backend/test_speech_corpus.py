# ruff: noqa: RUF001 - phone names are in IPA
import json

import numpy as np
import pytest

from torch_backend.speech_corpus.corpus import build_corpus, load_corpus, read_corpus_hash
from torch_backend.speech_corpus.espeak import EspeakEngine, convert_ipa
from torch_backend.speech_corpus.festival import FestivalEngine
from torch_backend.speech_corpus.festival_voices import UNRELIABLE_PHONES, VOICES
from torch_backend.speech_corpus.flite import FliteEngine
from torch_backend.speech_corpus.lexicon import compute_word_weights, load_lexicon
from torch_backend.speech_corpus.phones import PHONES, PhoneSegment
from torch_backend.speech_corpus.sentences import generate_sentences
from torch_backend.speech_corpus.synthesis import (
    SynthesisError,
    SynthesisRequest,
    fit_segments,
    resample_to_corpus_rate,
)
from torch_backend.speech_corpus.visemes import VISEME_OF_PHONE, VISEMES, build_lip_matrix, build_viseme_matrix

ENGINES = {"flite": FliteEngine(), "festival": FestivalEngine(), "espeak": EspeakEngine()}


def require(engine_name):
    engine = ENGINES[engine_name]
    if engine.find_version() is None:
        pytest.skip(f"{engine_name} is not installed")
    return engine


def test_lexicon_holds_every_phone_and_weights_favour_rare_ones():
    lexicon = load_lexicon()
    assert set(PHONES) - {"SIL"} == {phone for phones in lexicon.values() for phone in phones}
    words, weights = compute_word_weights()
    assert weights.sum() == pytest.approx(1.0)
    weight = dict(zip(words, weights, strict=True))
    assert weight["joy"] > weight["better"] > 0


def test_sentences_are_repeatable_and_plain():
    first, again, other = generate_sentences(200, 1), generate_sentences(200, 1), generate_sentences(200, 2)
    assert first == again != other
    assert all(set(s.lower()) <= set("abcdefghijklmnopqrstuvwxyz ',") and len(s.split()) >= 2 for s in first)
    with pytest.raises(ValueError, match="count"):
        generate_sentences(-1, 0)


def test_visemes_cover_the_phones_once():
    assert set(VISEME_OF_PHONE) == set(PHONES) and set(VISEME_OF_PHONE.values()) == set(VISEMES)
    np.testing.assert_array_equal(build_viseme_matrix().sum(axis=1), 1)
    lips = build_lip_matrix()
    np.testing.assert_array_equal(lips.sum(axis=1), 1)
    assert {PHONES[i] for i in np.flatnonzero(lips[:, 1])} == {"P", "B", "M"}


def test_segments_cover_the_sound_and_join_silences():
    segments = fit_segments([("SIL", 0.1), ("SIL", 0.2), ("AA", 0.2), ("B", 0.5)], 0.7)
    assert segments == (PhoneSegment(0.0, 0.2, "SIL"), PhoneSegment(0.2, 0.5, "B"), PhoneSegment(0.5, 0.7, "SIL"))
    assert fit_segments([("AA", 1.0)], 0.3) is None
    assert fit_segments([], 0.3) is None
    with pytest.raises(ValueError, match="XX"):
        fit_segments([("XX", 0.1)], 0.2)


def test_resampling_keeps_the_duration_and_the_pitch():
    times = np.arange(22_050) / 22_050
    sound = resample_to_corpus_rate((8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16), 22_050)
    assert len(sound) == 16_000 and sound.dtype == np.int16
    assert np.abs(np.fft.rfft(sound.astype(float))).argmax() == 440


@pytest.mark.parametrize(
    ("name", "phones"),
    [("", ("SIL",)), ("iː", ("IY",)), ("ˈaɪɚ", ("AY", "ER")), ("oːɹ", ("AO", "R")), ("tʃ", ("CH",)), ("ʘ", None)],
)
def test_ipa_names(name, phones):
    assert convert_ipa(name) == phones


def test_festival_voices_name_known_phones():
    for voice in VOICES.values():
        assert voice.phone_map is None or set(voice.phone_map.values()) <= set(PHONES)
        assert voice.language == "en" or voice.language in UNRELIABLE_PHONES
    assert VOICES["lj"].convert_phone("p:") == "P" and VOICES["kal"].convert_phone("ax") == "AH"
    with pytest.raises(ValueError, match="qq"):
        VOICES["lp"].convert_phone("qq")


@pytest.mark.parametrize(("engine_name", "voice"), [("flite", "slt"), ("festival", "kal"), ("espeak", "en-us+f2")])
def test_phone_times_cover_the_sound_of_an_engine(engine_name, voice):
    engine = require(engine_name)
    try:
        utterance = next(engine.synthesize([SynthesisRequest("my puppy bought five movies", voice, tempo=1.1)]))
    except SynthesisError as error:
        pytest.skip(f"the voice is not installed: {error}")
    assert utterance.segments[0].start_seconds == 0.0
    assert utterance.segments[-1].end_seconds == pytest.approx(utterance.duration_seconds)
    assert all(
        a.end_seconds == b.start_seconds for a, b in zip(utterance.segments, utterance.segments[1:], strict=False)
    )
    spoken = [segment.phone for segment in utterance.segments if segment.phone != "SIL"]
    assert spoken[:2] == ["M", "AY"] and spoken[-1] == "Z" and spoken.count("P") == 2 and "V" in spoken
    # a vowel is far louder than the last pause
    assert measure_level(utterance, "AY") > 10 * measure_level(utterance, "SIL")


def measure_level(utterance, phone):
    """Root mean square of the last segment of a phone."""
    segment = [segment for segment in utterance.segments if segment.phone == phone][-1]
    start, stop = int(segment.start_seconds * 16_000), int(segment.end_seconds * 16_000)
    return np.sqrt(np.square(utterance.samples[start:stop].astype(float)).mean())


def test_the_same_seed_gives_the_same_corpus(tmp_path):
    require("flite")
    minutes = {"flite/slt": 0.03, "espeak/*": 0.03} if ENGINES["espeak"].find_version() else {"flite/slt": 0.03}
    first = build_corpus(tmp_path / "a", seed=3, minutes=minutes)
    again = build_corpus(tmp_path / "b", seed=3, minutes=minutes)
    assert first.corpus_hash == again.corpus_hash == read_corpus_hash(tmp_path / "a")
    utterances = load_corpus(tmp_path / "a")
    assert len(utterances) == first.num_utterances
    assert sum(u.num_samples for u in utterances) / 960_000 == pytest.approx(first.minutes)
    assert all(len(u.load_samples()) == u.num_samples for u in utterances)
    with pytest.raises(ValueError, match="empty folder"):
        build_corpus(tmp_path / "a", minutes=minutes)


def test_a_broken_corpus_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"corpus\.json"):
        load_corpus(tmp_path)
    (tmp_path / "corpus.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(ValueError, match="99"):
        load_corpus(tmp_path)


def test_a_missing_engine_is_named(tmp_path):
    engine = FliteEngine("no-such-flite")
    assert engine.find_version() is None
    with pytest.raises(SynthesisError, match="flite"):
        next(engine.synthesize([SynthesisRequest("hello", "slt")]))
    with pytest.raises(ValueError, match="no-such-engine"):
        build_corpus(tmp_path / "corpus", minutes={"no-such-engine/voice": 0.1})
