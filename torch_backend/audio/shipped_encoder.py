"""The encoder that ships: the hidden layer of the phone network, beside loudness, voicing and pitch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blender_talkhead.contract.errors import BackendError
from torch_backend.audio.frame_grid import compute_row_positions, find_row_range, interpolate_rows
from torch_backend.audio.log_mel import compute_channel_mean, compute_log_mel, count_mel_rows, normalize_log_mel
from torch_backend.audio.prosody import (
    ROW_RATE,
    VOICED_THRESHOLD,
    SpeakerReference,
    compute_log_energy,
    count_rows,
    measure_rows,
    measure_speaker_reference,
)
from torch_backend.audio.speech_encoder import SAMPLE_RATE, Normalization
from torch_backend.config import config_from_dict
from torch_backend.models.checkpoints import load_checkpoint
from torch_backend.models.phone_encoder import PhoneEncoder, PhoneEncoderConfig

WEIGHTS_PATH = Path(__file__).resolve().parents[1] / "weights" / "phone_encoder.safetensors"
CHECKPOINT_KIND = "phone_encoder"
PHONE_RATE = 50.0
"""Rows of posteriors and hidden features per second; row k is centred at (k + 0.5) / 50 s."""
NUM_PROSODY_CHANNELS = 3

_CHUNK_ROWS = 1_500
_ENERGY_CENTRE, _ENERGY_SCALE = -2.5, 2.5
_VOICING_SCALE = 2.0
_SEMITONE_SCALE = 4.0
_LARGEST_SEMITONES = 12.0


@dataclass(frozen=True)
class ShippedNormalization(Normalization):
    """What the shipped encoder makes a recording relative to."""

    channel_mean: np.ndarray
    """(64,) float32 mean log-mels of the speech."""
    speaker: SpeakerReference


class ShippedEncoder:
    """Phone network and prosody on a frame grid."""

    def __init__(self, network: PhoneEncoder, name: str, device: str | torch.device = "cpu") -> None:
        self.name = name
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.feature_size = network.config.channels + NUM_PROSODY_CHANNELS
        self.context_seconds = (network.context_rows + 1) / PHONE_RATE + 0.1

    @classmethod
    def load(cls, path: Path | None = None, device: str | torch.device = "cpu") -> ShippedEncoder:
        """Load the shipped weights, or others of the same kind.

        Raises:
            BackendError: the file is missing, broken or of another kind.
        """
        path = path or WEIGHTS_PATH
        state, metadata = load_checkpoint(path, CHECKPOINT_KIND)
        try:
            network = PhoneEncoder(config_from_dict(PhoneEncoderConfig, metadata["config"]["network"]))
            network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
            missing = set(network.state_dict()) - set(state)
            missing = {name for name in missing if not name.endswith("num_batches_tracked")}
            if missing:
                raise ValueError(f"tensors {sorted(missing)} are missing")
        except (KeyError, ValueError, RuntimeError) as error:
            raise BackendError(f"{path} does not hold a phone encoder of this version: {error}") from error
        return cls(network, metadata["config"].get("name", "shipped"), device)

    def fit_normalization(self, samples: np.ndarray) -> ShippedNormalization:
        """Measure the channel means and the speaker's loudness and pitch.

        Args:
            samples: (S,) float32 at 16 kHz, may be memory-mapped.

        Raises:
            ValueError: samples is not one-dimensional.
        """
        _check_samples(samples)
        return ShippedNormalization(compute_channel_mean(samples), measure_speaker_reference(samples))

    def encode(
        self, samples: np.ndarray, first_frame: int, num_frames: int, frame_rate: float, normalization: Normalization
    ) -> Tensor:
        """Encode frames; see SpeechEncoder.encode.

        Returns:
            (num_frames, C + 3) float32: hidden channels of about unit variance; log energy, voicing, pitch.

        Raises:
            ValueError: an argument is out of range or the normalization is another encoder's.
        """
        own = _check_normalization(normalization)
        _check_samples(samples)
        if first_frame < 0 or num_frames < 0:
            raise ValueError(f"expected first_frame and num_frames >= 0, got {first_frame} and {num_frames}")
        positions = compute_row_positions(
            first_frame, num_frames, frame_rate, PHONE_RATE, count_phone_rows(len(samples))
        )
        first_row, stop_row = find_row_range(positions)
        hidden = np.empty((stop_row - first_row, self.network.config.channels), np.float32)
        for start, _, values in self._run(samples, first_row, stop_row, own):
            hidden[start - first_row : start - first_row + len(values)] = values
        prosody = self._encode_prosody(samples, first_frame, num_frames, frame_rate, own)
        features = np.concatenate([interpolate_rows(hidden, first_row, positions), prosody], axis=1)
        return torch.from_numpy(features).to(self.device)

    def phone_posteriors(self, samples: np.ndarray, normalization: Normalization) -> np.ndarray:
        """Return (A, 40) float32 probabilities of PHONES; row k is centred at (k + 0.5) / 50 s.

        Raises:
            ValueError: samples is not one-dimensional, or the normalization is another encoder's.
        """
        own = _check_normalization(normalization)
        _check_samples(samples)
        parts = [probabilities for _, probabilities, _ in self._run(samples, 0, count_phone_rows(len(samples)), own)]
        return np.concatenate(parts)

    def _run(
        self, samples: np.ndarray, first_row: int, stop_row: int, normalization: ShippedNormalization
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (first row, (n, 40) posteriors, (n, C) standardised hidden values), chunk by chunk.

        Every chunk has its full context within the recording, so that the padding of the convolutions reaches no row
        that is kept, but those at the ends of the recording: there it pads as it did at the ends of training windows.
        """
        context = self.network.context_rows
        num_rows = count_phone_rows(len(samples))
        for start in range(first_row, stop_row, _CHUNK_ROWS):
            count = min(_CHUNK_ROWS, stop_row - start)
            low, high = max(0, start - context), min(num_rows, start + count + context)
            log_mel = compute_log_mel(samples, 2 * low, 2 * (high - low))
            normalized = normalize_log_mel(log_mel, normalization.channel_mean)
            with torch.inference_mode():
                logits, hidden = self.network(torch.from_numpy(normalized[None]).to(self.device))
                kept = slice(start - low, start - low + count)
                posteriors = torch.softmax(logits[0, kept].float(), dim=-1)
                values = self.network.standardize(hidden[0, kept].float())
            yield start, posteriors.cpu().numpy(), values.cpu().numpy()

    def _encode_prosody(
        self,
        samples: np.ndarray,
        first_frame: int,
        num_frames: int,
        frame_rate: float,
        normalization: ShippedNormalization,
    ) -> np.ndarray:
        """(T, 3) float32: log energy, voicing, pitch (0 where voiceless), each of about unit size."""
        positions = compute_row_positions(first_frame, num_frames, frame_rate, ROW_RATE, count_rows(len(samples)))
        first_row, stop_row = find_row_range(positions)
        rows = measure_rows(samples, first_row, stop_row - first_row)
        reference = normalization.speaker
        energy = (compute_log_energy(rows, reference) - _ENERGY_CENTRE) / _ENERGY_SCALE
        voiced = (rows.voicing > VOICED_THRESHOLD) & (reference.median_f0_hz > 0)
        semitones = 12.0 * np.log2(np.where(voiced, rows.f0_hz / max(reference.median_f0_hz, 1.0), 1.0))
        semitones = np.clip(semitones, -_LARGEST_SEMITONES, _LARGEST_SEMITONES)
        channels = np.stack([energy, (rows.voicing - 0.5) * _VOICING_SCALE, semitones / _SEMITONE_SCALE], axis=1)
        return interpolate_rows(channels.astype(np.float32), first_row, positions)


def count_phone_rows(num_samples: int) -> int:
    """Return the number of rows at 50 per second, at least one."""
    return max(1, count_mel_rows(num_samples) // 2)


def _check_samples(samples: np.ndarray) -> None:
    if samples.ndim != 1:
        raise ValueError(f"expected samples of shape (S,) at {SAMPLE_RATE} Hz, got {samples.shape}")


def _check_normalization(normalization: Normalization) -> ShippedNormalization:
    if not isinstance(normalization, ShippedNormalization):
        raise ValueError(f"expected a ShippedNormalization, got {type(normalization).__name__}")
    return normalization
