"""Phone decoding against a search over every path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from torch_backend.speech_corpus import viterbi
from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES, PhoneSegment
from torch_backend.speech_corpus.viterbi import PhoneBigram


def random_bigram(generator: np.random.Generator) -> PhoneBigram:
    transitions = generator.dirichlet(np.ones(len(PHONES)), len(PHONES))
    return PhoneBigram(np.log(transitions), np.log(generator.dirichlet(np.ones(len(PHONES)))))


@pytest.mark.parametrize("seed", range(4))
def test_best_path_equals_the_best_of_all_paths(seed):
    generator = np.random.default_rng(seed)
    allowed = [PHONE_INDEX[phone] for phone in ("AA", "P", "SIL")]  # others are made too improbable to matter
    posteriors = np.full((5, len(PHONES)), 0.0)
    posteriors[:, allowed] = generator.dirichlet(np.ones(3), 5)
    bigram = random_bigram(generator)
    transitions = np.full_like(bigram.log_transitions, -1e3)
    transitions[np.ix_(allowed, allowed)] = bigram.log_transitions[np.ix_(allowed, allowed)]
    bigram = PhoneBigram(transitions, bigram.log_priors)

    def score(path):
        total = sum(np.log(posteriors[row, p] + 1e-5) - 0.3 * bigram.log_priors[p] for row, p in enumerate(path))
        return total + 0.5 * sum(bigram.log_transitions[a, b] for a, b in itertools.pairwise(path))

    best = max(itertools.product(allowed, repeat=5), key=score)
    assert tuple(viterbi.decode_phones(posteriors, bigram)) == best


def test_bigram_smooths_a_flicker_away():
    posteriors = np.zeros((9, len(PHONES)))
    posteriors[:, PHONE_INDEX["IY"]] = 0.9
    posteriors[4] = 0.0
    posteriors[4, PHONE_INDEX["S"]], posteriors[4, PHONE_INDEX["IY"]] = 0.6, 0.4
    stay = np.full((len(PHONES), len(PHONES)), np.log(0.001))
    np.fill_diagonal(stay, np.log(0.9))
    bigram = PhoneBigram(stay, np.log(np.full(len(PHONES), 1 / 40)))
    assert set(viterbi.decode_phones(posteriors, bigram)) == {PHONE_INDEX["IY"]}
    alone = viterbi.decode_phones(posteriors, bigram, transition_weight=0.0)
    assert alone[4] == PHONE_INDEX["S"]


def test_bigram_counts_by_hand():
    """AA AA SIL AA at 50 rows a second: from AA one AA and one SIL, from SIL one AA; half is added everywhere."""
    segments = [PhoneSegment(0.0, 0.04, "AA"), PhoneSegment(0.04, 0.06, "SIL"), PhoneSegment(0.06, 0.0801, "AA")]
    bigram = viterbi.estimate_bigram([segments])
    aa, sil = PHONE_INDEX["AA"], PHONE_INDEX["SIL"]
    assert np.exp(bigram.log_transitions[aa, aa]) == pytest.approx(1.5 / (20 + 2))
    assert np.exp(bigram.log_transitions[sil, aa]) == pytest.approx(1.5 / (20 + 1))
    assert np.exp(bigram.log_priors[aa]) == pytest.approx(0.75 + 1e-4)
    np.testing.assert_allclose(np.exp(bigram.log_transitions).sum(axis=1), 1.0)


def test_rows_and_segments_are_inverse():
    segments = [PhoneSegment(0.0, 0.1, "SIL"), PhoneSegment(0.1, 0.16, "M"), PhoneSegment(0.16, 0.4, "AY")]
    joined = viterbi.join_rows(viterbi.label_rows(segments, 20))
    assert [s.phone for s in joined] == ["SIL", "M", "AY"]
    np.testing.assert_allclose([s[:2] for s in joined], [s[:2] for s in segments])
    assert viterbi.join_rows(np.zeros(0, int)) == []


def test_file_round_trip(tmp_path):
    bigram = random_bigram(np.random.default_rng(0))
    viterbi.save_bigram(bigram, tmp_path / "bigram.npz")
    loaded = viterbi.load_bigram(tmp_path / "bigram.npz")
    np.testing.assert_allclose(loaded.log_transitions, bigram.log_transitions, rtol=1e-6)
    np.testing.assert_allclose(loaded.log_priors, bigram.log_priors, rtol=1e-6)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="40"):
        viterbi.decode_phones(np.zeros((3, 41)), random_bigram(np.random.default_rng(0)))
    assert len(viterbi.decode_phones(np.zeros((0, 40)), random_bigram(np.random.default_rng(0)))) == 0


def test_shipped_bigram_is_a_bigram():
    if not viterbi.BIGRAM_PATH.exists():
        pytest.skip("phone_bigram.npz is not there yet")
    bigram = viterbi.load_bigram()
    np.testing.assert_allclose(np.exp(bigram.log_transitions).sum(axis=1), 1.0, rtol=1e-4)
    stay = np.exp(np.diag(bigram.log_transitions))
    assert stay[PHONE_INDEX["SIL"]] > 0.8 and stay[PHONE_INDEX["AA"]] > 0.5
