import json
import math

import numpy as np
import pytest
import soundfile
import torch

from torch_backend.audio.shipped_encoder import ShippedEncoder
from torch_backend.metrics.phone_accuracy import PhoneAccuracy, find_runs
from torch_backend.models.checkpoints import load_checkpoint
from torch_backend.speech_corpus.corpus import compute_corpus_hash
from torch_backend.speech_corpus.phones import PHONE_INDEX, PHONES, PhoneSegment
from torch_backend.speech_corpus.visemes import build_lip_matrix
from torch_backend.training.loop import LoopConfig
from torch_backend.training.phone_encoder import (
    PhoneEncoderRecipe,
    PhoneTrainingConfig,
    compute_phone_loss,
    stretch_rows,
    warp_mels,
)
from torch_backend.training.phone_encoder_run import (
    DEFAULT_CONFIG,
    export_phone_encoder,
    load_run_config,
    train_phone_encoder,
)
from torch_backend.training.phone_features import build_phone_features, label_rows, load_phone_features

TONES = {"AA": 700.0, "S": 5000.0, "M": 200.0}
SETTINGS = """
augmented_copies = 1
[recipe]
batch_size = 4
window_rows = 100
background_share = 0.1
[recipe.network]
channels = 16
dilations = [1, 2]
[loop]
steps = {steps}
learning_rate = 5e-3
warmup = 5
average_decay = 0.9
device = "cpu"
"""


@pytest.fixture(scope="module")
def tone_corpus(tmp_path_factory):
    """Thirty "utterances" whose phones are tones of known pitch; the format is that of build_corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for index in range(30):
        names = [*generator.permutation(list(TONES)), "SIL"]
        phones = [[0.3 * i, 0.3 * (i + 1), str(name)] for i, name in enumerate(names)]
        times = np.arange(4_800) / 16_000
        parts = [0.2 * np.sin(2 * np.pi * TONES.get(name, 0.0) * times) for name in names]
        sound = (np.concatenate(parts) + generator.normal(0, 1e-4, 19_200)).astype(np.float32)
        soundfile.write(folder / "audio" / f"{index}.wav", sound, 16_000, subtype="PCM_16")
        rows.append({"id": str(index), "audio": f"audio/{index}.wav", "num_samples": 19_200, "engine": "tone",
                     "voice": "a", "language": "en", "text": "", "settings": {}, "phones": phones})  # fmt: skip
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    description = {"format_version": 1, "corpus_hash": compute_corpus_hash(rows, {"tone": "1"})}
    (folder / "corpus.json").write_text(json.dumps(description))
    return folder


def test_labels_are_the_phones_at_row_centres():
    segments = (PhoneSegment(0.0, 0.026, "AA"), PhoneSegment(0.026, 0.04, "B"))
    labels = label_rows(segments, 6)  # centres at 5, 15, 25, 35, 45, 55 ms
    assert [PHONES[label] for label in labels] == ["AA", "AA", "AA", "B", "SIL", "SIL"]


def test_loss_of_hand_computed_rows():
    logits = torch.zeros(2, 2, 40)
    logits[0, 0, PHONE_INDEX["P"]] = math.log(3.0)
    labels = torch.tensor([[PHONE_INDEX["P"], -100], [PHONE_INDEX["B"], -100]])
    weights = torch.ones(40)
    weights[PHONE_INDEX["B"]] = 2.0
    lips = torch.from_numpy(build_lip_matrix())
    loss = compute_phone_loss(logits, labels, torch.tensor([False, True]), weights, lips, 0.1)
    # first row: probabilities 3/42 and 1/42; second: three bilabials of forty
    exact = -0.9 * math.log(3 / 42) - 0.1 * (math.log(3 / 42) + 39 * math.log(1 / 42)) / 40
    assert loss.item() == pytest.approx((exact + 2.0 * -math.log(3 / 40)) / 3.0, rel=1e-5)


def test_loss_gradient_matches_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 40, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 40, (2, 3), generator=generator)
    labels[0, 1] = -100
    lips = torch.from_numpy(build_lip_matrix()).double()

    def compute(values):
        return compute_phone_loss(values, labels, torch.tensor([True, False]), torch.ones(40).double(), lips, 0.05)

    assert torch.autograd.gradcheck(compute, (logits,))


def test_loss_without_any_label_is_zero():
    labels = torch.full((1, 4), -100)
    lips = torch.from_numpy(build_lip_matrix())
    assert compute_phone_loss(torch.randn(1, 4, 40), labels, torch.tensor([False]), torch.ones(40), lips, 0.1) == 0


def test_warping_a_line_scales_it():
    line = np.arange(64, dtype=np.float32)[None]
    np.testing.assert_allclose(warp_mels(line, 0.9)[0], np.arange(64) * 0.9, atol=1e-4)
    np.testing.assert_allclose(warp_mels(line, 1.1)[0], np.minimum(np.arange(64) * 1.1, 63.0), atol=1e-4)


def test_stretching_scales_rows_and_labels_together():
    rows = np.repeat(np.arange(50, dtype=np.float32)[:, None], 64, axis=1)
    stretched, labels = stretch_rows(rows, np.arange(50), 1.25, 100)
    assert len(stretched) == len(labels) == 40
    np.testing.assert_allclose(stretched[:, 0], 1.25 * np.arange(40), atol=1e-4)
    assert np.abs(labels - stretched[:, 0]).max() <= 0.5
    assert len(stretch_rows(rows, np.arange(50), 0.5, 60)[0]) == 60


def test_accuracy_of_hand_made_posteriors():
    labels = np.array([PHONE_INDEX[p] for p in ("SIL", "P", "P", "AA", "F", "AA")])
    claimed = [PHONE_INDEX[p] for p in ("SIL", "B", "AA", "AY", "AA", "M")]
    posteriors = np.full((6, 40), 1e-4)
    posteriors[np.arange(6), claimed] = 1.0
    accuracy = PhoneAccuracy()
    accuracy.accumulate(posteriors, labels)
    figures = accuracy.compute()
    assert figures["phone"] == pytest.approx(1 / 6)
    assert figures["viseme"] == pytest.approx(3 / 6)  # SIL, B for P, AY for AA
    assert figures["viseme_speech"] == pytest.approx(2 / 5)
    assert figures["bilabial_recall"] == 1.0 and figures["labiodental_recall"] == 0.0
    assert figures["bilabial_precision"] == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="shape"):
        accuracy.accumulate(posteriors[:3], labels)


def test_runs():
    assert find_runs(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [(0, 2), (3, 4), (6, 7)]
    assert find_runs(np.zeros(3, bool)) == []


def test_features_do_not_depend_on_the_number_of_processes(tone_corpus, tmp_path):
    build_phone_features(tone_corpus, tmp_path / "one", 1, seed=0, num_processes=1, num_backgrounds=3)
    build_phone_features(tone_corpus, tmp_path / "two", 1, seed=0, num_processes=2, num_backgrounds=3)
    one, two = load_phone_features(tmp_path / "one"), load_phone_features(tmp_path / "two")
    np.testing.assert_array_equal(one.log_mels, two.log_mels)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert len(one.utterances) == 33 and one.utterances[0].copies[0] == (0, 120)
    assert (one.labels[-1500:] == PHONE_INDEX["SIL"]).all()
    # the clean copy of a tone is loudest in the filter at its pitch
    start, _ = one.utterances[0].copies[0]
    spoken = one.labels[start : start + 120] == PHONE_INDEX["AA"]
    assert set(one.log_mels[start : start + 120][spoken].argmax(axis=1)) <= {16, 17, 18}


def test_batches_come_from_the_generator_alone(tone_corpus, tmp_path):
    build_phone_features(tone_corpus, tmp_path, 1, seed=0, num_backgrounds=3)
    config = PhoneTrainingConfig(tmp_path, batch_size=6, window_rows=80, warp=0.1, stretch=0.1, tilt_deviation=0.2,
                                 noise_floor_probability=0.5)  # fmt: skip
    recipe = PhoneEncoderRecipe(config)
    first, again = (recipe.sample_batch(3, np.random.default_rng(8)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["log_mels"].shape == (6, 80, 64) and first["labels"].shape == (6, 40)
    assert first["log_mels"].isfinite().all()
    with pytest.raises(ValueError, match="hold out"):
        PhoneEncoderRecipe(PhoneTrainingConfig(tmp_path, held_out_voices=("no/body",)))
    with pytest.raises(ValueError, match="held out"):
        PhoneEncoderRecipe(PhoneTrainingConfig(tmp_path, held_out_voices=("tone/a", "background/none")))


def test_training_learns_tones_and_exports_an_encoder(tone_corpus, tmp_path):
    (tmp_path / "tiny.toml").write_text(SETTINGS.format(steps=60))
    figures = train_phone_encoder(tone_corpus, tmp_path / "run", tmp_path / "tiny.toml")
    losses = [json.loads(line)["means"]["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.6 * losses[0] and figures["clean_viseme"] > 0.8
    export_phone_encoder(tmp_path / "run" / "model.safetensors", tmp_path / "out.safetensors", "tones")
    state, metadata = load_checkpoint(tmp_path / "out.safetensors", "phone_encoder")
    assert state["classify.weight"].dtype == torch.float16 and metadata["config"]["voices"] == ["tone/a"]
    encoder = ShippedEncoder.load(tmp_path / "out.safetensors")
    sound, _ = soundfile.read(tone_corpus / "audio" / "0.wav", dtype="float32")
    features = encoder.encode(sound, 0, 37, 30.0, encoder.fit_normalization(sound))[:, :16]
    assert encoder.name == "tones" and 0.4 < features.std().item() < 2.0


def test_the_shipped_settings_are_valid(tmp_path):
    config = load_run_config(DEFAULT_CONFIG, tmp_path, steps=7)
    assert isinstance(config.loop, LoopConfig) and config.loop.steps == 7
    assert config.recipe.features == tmp_path / "features" and config.recipe.network.channels == 192
