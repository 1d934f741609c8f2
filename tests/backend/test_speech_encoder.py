import dataclasses

import numpy as np
import pytest
import torch

from blender_talkhead.contract.errors import BackendError
from torch_backend.audio.shipped_encoder import WEIGHTS_PATH, ShippedEncoder, count_phone_rows
from torch_backend.audio.speech_encoder import Normalization, load_speech_encoder
from torch_backend.audio.transformers_encoder import TransformersEncoder
from torch_backend.models.checkpoints import save_checkpoint
from torch_backend.models.phone_encoder import PhoneEncoder, PhoneEncoderConfig
from torch_backend.speech_corpus.phones import PHONE_INDEX

SMALL = PhoneEncoderConfig(channels=16, dilations=(1, 2, 4), dropout=0.0)


def make_sound(seconds, seed=0):
    generator = np.random.default_rng(seed)
    envelope = np.repeat(generator.uniform(0.0, 0.3, int(seconds * 8) + 1), 2_000)[: int(seconds * 16_000)]
    return (generator.normal(0, 1, len(envelope)) * envelope).astype(np.float32)


@pytest.fixture(scope="module")
def small_encoder():
    torch.manual_seed(0)
    return ShippedEncoder(PhoneEncoder(SMALL), "small")


def make_waveform_model(kind):
    import transformers

    sizes = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "vocab_size": 8,
    }  # fmt: skip
    classes = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
    torch.manual_seed(1)
    config = getattr(transformers, classes[kind] + "Config")(**sizes)
    return getattr(transformers, classes[kind] + "Model")(config)


def test_network_gives_one_row_for_two_and_refuses_odd_counts():
    network = PhoneEncoder(SMALL).eval()
    logits, hidden = network(torch.zeros(2, 40, 64))
    assert logits.shape == (2, 20, 40) and hidden.shape == (2, 20, 16)
    with pytest.raises(ValueError, match="even"):
        network(torch.zeros(1, 41, 64))


def test_a_row_depends_on_exactly_the_stated_context():
    torch.manual_seed(2)
    network = PhoneEncoder(SMALL).eval()
    log_mels = torch.zeros(1, 80, 64, requires_grad=True)
    network(log_mels)[0][0, 20].sum().backward()
    touched = np.flatnonzero(log_mels.grad[0].abs().sum(dim=1).numpy())
    # halving: rows 2k - 1 .. 2k + 2; widening: two more; blocks: their dilations in rows of two
    assert touched[0] == 40 - 1 - 2 - 2 * 7 and touched[-1] == 40 + 2 + 2 + 2 * 7
    assert touched[0] >= 2 * (20 - network.context_rows) and touched[-1] < 2 * (21 + network.context_rows)


def test_windows_agree_with_the_whole(small_encoder):
    sound = make_sound(40.0)
    normalization = small_encoder.fit_normalization(sound)
    whole = small_encoder.encode(sound, 0, 1201, 30.0, normalization)
    assert whole.shape == (1201, 19) and whole.dtype == torch.float32
    for first, count in ((0, 50), (400, 90), (890, 40), (1180, 21)):
        part = small_encoder.encode(sound, first, count, 30.0, normalization)
        torch.testing.assert_close(part, whole[first : first + count], atol=1e-4, rtol=0)


def test_only_the_window_and_its_context_are_read(small_encoder):
    sound = make_sound(20.0)
    normalization = small_encoder.fit_normalization(sound)
    near = small_encoder.encode(sound, 300, 30, 30.0, normalization)
    margin = int((small_encoder.context_seconds) * 16_000)
    masked = np.full_like(sound, np.nan)
    kept = slice(160_000 - margin, 160_000 + 16_000 + margin)
    masked[kept] = sound[kept]
    torch.testing.assert_close(small_encoder.encode(masked, 300, 30, 30.0, normalization), near, atol=1e-5, rtol=0)


def test_frames_lie_between_rows_with_the_half_row(small_encoder):
    # at 100 frames per second, frame 2k + 1 is at (k + 0.5) / 50 s: exactly on row k
    sound = make_sound(3.0)
    normalization = small_encoder.fit_normalization(sound)
    features = small_encoder.encode(sound, 0, 100, 100.0, normalization)[:, :16]
    rows = np.concatenate([values for _, _, values in small_encoder._run(sound, 0, 50, normalization)])
    np.testing.assert_allclose(features[1::2].numpy(), rows, atol=1e-5)
    np.testing.assert_allclose(features[2::2].numpy(), 0.5 * (rows[:-1] + rows[1:])[:49], atol=1e-5)


def test_posteriors_are_probabilities_at_fifty_per_second(small_encoder):
    sound = make_sound(65.0)
    posteriors = small_encoder.phone_posteriors(sound, small_encoder.fit_normalization(sound))
    assert posteriors.shape == (3250, 40) == (count_phone_rows(len(sound)), 40)
    np.testing.assert_allclose(posteriors.sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(32_000, np.float32),
        np.zeros(100, np.float32),
        np.ones(32_000, np.float32),
        np.sign(make_sound(2.0)),
        make_sound(2.0) * 1e-6,
        np.eye(1, 32_000, 16_000, dtype=np.float32)[0],
    ],
    ids=["zero", "short", "constant", "clipped", "quiet", "click"],
)
def test_odd_sound_gives_finite_features(small_encoder, sound):
    normalization = small_encoder.fit_normalization(sound)
    assert small_encoder.encode(sound, 0, 80, 30.0, normalization).isfinite().all()
    assert np.isfinite(small_encoder.phone_posteriors(sound, normalization)).all()


def test_the_normalization_of_another_encoder_is_refused(small_encoder):
    with pytest.raises(ValueError, match="ShippedNormalization"):
        small_encoder.encode(make_sound(1.0), 0, 10, 30.0, Normalization())
    with pytest.raises(ValueError, match="first_frame"):
        sound = make_sound(1.0)
        small_encoder.encode(sound, -1, 10, 30.0, small_encoder.fit_normalization(sound))


def test_weights_survive_the_round_trip(tmp_path, small_encoder):
    metadata = {"kind": "phone_encoder", "config": {"network": dataclasses.asdict(SMALL), "name": "small"}}
    save_checkpoint(tmp_path / "weights.safetensors", small_encoder.network.state_dict(), metadata)
    loaded = load_speech_encoder(str(tmp_path / "weights.safetensors"))
    sound = make_sound(2.0)
    expected = small_encoder.encode(sound, 0, 60, 30.0, small_encoder.fit_normalization(sound))
    torch.testing.assert_close(loaded.encode(sound, 0, 60, 30.0, loaded.fit_normalization(sound)), expected)
    assert loaded.name == "small"


def test_missing_or_foreign_weights_are_a_backend_error(tmp_path):
    with pytest.raises(BackendError):
        load_speech_encoder(str(tmp_path / "none.safetensors"))
    save_checkpoint(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"kind": "phone_encoder"})
    with pytest.raises(BackendError, match="phone encoder"):
        load_speech_encoder(str(tmp_path / "other.safetensors"))
    with pytest.raises(BackendError, match="cannot load"):
        load_speech_encoder(str(tmp_path / "no-such-model"))


@pytest.mark.skipif(not WEIGHTS_PATH.exists(), reason="the shipped weights are not here")
def test_shipped_weights_hear_silence_and_noise_as_silence():
    encoder = load_speech_encoder()
    generator = np.random.default_rng(5)
    for sound in (np.zeros(48_000, np.float32), generator.normal(0, 0.003, 48_000).astype(np.float32)):
        silence = encoder.phone_posteriors(sound, encoder.fit_normalization(sound))[:, PHONE_INDEX["SIL"]]
        assert silence[5:-5].min() > 0.5


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
def test_waveform_models_load_from_a_folder_and_windows_agree(kind, tmp_path):
    make_waveform_model(kind).save_pretrained(tmp_path)
    encoder = load_speech_encoder(str(tmp_path))
    assert isinstance(encoder, TransformersEncoder) and encoder.feature_size == 16 and encoder.name.startswith(kind)
    sound = make_sound(25.0)
    whole = encoder.encode(sound, 0, 751, 30.0, encoder.fit_normalization(sound))
    assert whole.shape == (751, 16) and whole.isfinite().all()
    normalization = encoder.fit_normalization(sound)
    for first, count in ((700, 51), (290, 60), (0, 10)):
        part = encoder.encode(sound, first, count, 30.0, normalization)
        torch.testing.assert_close(part, whole[first : first + count], atol=1e-5, rtol=0)


def test_waveform_rows_are_those_of_the_model_on_a_short_clip(tmp_path):
    model = make_waveform_model("wav2vec2").eval()
    encoder = TransformersEncoder(model, "plain", normalize=True)
    sound = make_sound(2.0)
    normalized = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    with torch.no_grad():
        rows = model(torch.from_numpy(normalized[None])).last_hidden_state[0].numpy()
    # at 400 frames per second frame 8k + 5 is at (8k + 5) / 400 = (k + 0.625) / 50 s: the centre of row k
    features = encoder.encode(sound, 0, 8 * 90, 400.0, encoder.fit_normalization(sound)).numpy()
    np.testing.assert_allclose(features[5::8], rows[:90], atol=1e-4)


def test_waveform_normalization_is_streamed_and_level_free():
    encoder = TransformersEncoder(make_waveform_model("wav2vec2"), "plain", normalize=True)
    sound = make_sound(70.0) + 0.01
    normalization = encoder.fit_normalization(sound)
    assert normalization.mean == pytest.approx(sound.astype(np.float64).mean(), abs=1e-7)
    assert normalization.deviation == pytest.approx(sound.astype(np.float64).std(), rel=1e-4)
    short = np.zeros(50, np.float32)
    assert encoder.encode(short, 0, 3, 30.0, encoder.fit_normalization(short)).shape == (3, 16)


def test_other_kinds_of_models_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    with pytest.raises(BackendError, match="bert"):
        load_speech_encoder(str(tmp_path))
