"""wav2vec 2.0, HuBERT and WavLM weights of the user's own, through transformers."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blender_talkhead.contract.errors import BackendError
from torch_backend.audio.frame_grid import compute_row_positions, find_row_range, interpolate_rows
from torch_backend.audio.speech_encoder import SAMPLE_RATE, Normalization

_LOGGER = logging.getLogger(__name__)

MODEL_TYPES = ("wav2vec2", "hubert", "wavlm")
BLOCK_SECONDS = 10.0
"""A recording is encoded in fixed blocks of this length: attention sees the whole block, so windows must share it."""
CONTEXT_SECONDS = 2.0
"""Sound on both sides of a block that attention also sees."""
_BLOCKS_KEPT = 4
_CHUNK_SAMPLES = SAMPLE_RATE * 60
_VARIANCE_FLOOR = 1e-7  # as in the models' own feature extractor


@dataclass(frozen=True)
class WaveformNormalization(Normalization):
    """Mean and deviation of the whole waveform, and the blocks encoded last."""

    mean: float
    deviation: float
    blocks: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict, compare=False, repr=False)
    """Block index -> (rows, D) features; only the last few, so that memory stays constant."""


class TransformersEncoder:
    """Last hidden state of a waveform model, interpolated to the frame grid.

    Row k of the model is centred at (k + 0.5 x receptive field / stride) x stride samples: its convolutions have a
    receptive field of 400 samples and a stride of 320 in all published models; both are computed from the config.
    """

    def __init__(self, model: torch.nn.Module, name: str, normalize: bool, device: str | torch.device = "cpu") -> None:
        config: Any = model.config
        self.name = name
        self.device = torch.device(device)
        self.feature_size = int(config.hidden_size)
        self.context_seconds = CONTEXT_SECONDS
        self._model = model.to(self.device).eval()
        self._normalize = normalize
        self._stride, self._field = _measure_convolutions(config.conv_kernel, config.conv_stride)
        self._block_rows = max(1, round(BLOCK_SECONDS * SAMPLE_RATE / self._stride))
        self._context_rows = max(1, round(CONTEXT_SECONDS * SAMPLE_RATE / self._stride))

    @classmethod
    def load(cls, source: str, device: str | torch.device = "cpu", allow_network: bool = False) -> TransformersEncoder:
        """Load a model from a folder or, when it is on this machine or the network is allowed, by its hub name.

        Pickled weights are only ever read by torch's weights-only loader, and code of the model's is never run.

        Raises:
            BackendError: the model is missing, broken, or not of MODEL_TYPES.
        """
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

        options: dict[str, Any] = {"local_files_only": not allow_network, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(source, **options)
            if config.model_type not in MODEL_TYPES:
                raise BackendError(f"{source} is a {config.model_type} model; use one of {', '.join(MODEL_TYPES)}")
            model = AutoModel.from_pretrained(source, config=config, **options)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise BackendError(
                f"cannot load the speech model {source!r}: {error}. Give a folder with config.json and "
                "model.safetensors, or the name of a model that was downloaded before."
            ) from error
        try:
            extractor = AutoFeatureExtractor.from_pretrained(source, **options)
            normalize = bool(getattr(extractor, "do_normalize", True))
        except (OSError, ValueError, KeyError):
            _LOGGER.info("%s has no preprocessor settings; its waveform is normalised", source)
            normalize = True
        return cls(model, f"{config.model_type}:{source}", normalize, device)

    def fit_normalization(self, samples: np.ndarray) -> WaveformNormalization:
        """Measure mean and deviation of the waveform, in double precision, chunk by chunk.

        Raises:
            ValueError: samples is not one-dimensional.
        """
        if samples.ndim != 1:
            raise ValueError(f"expected samples of shape (S,), got {samples.shape}")
        total = squares = 0.0
        for start in range(0, len(samples), _CHUNK_SAMPLES):
            chunk = np.asarray(samples[start : start + _CHUNK_SAMPLES], np.float64)
            total += float(chunk.sum())
            squares += float(np.square(chunk).sum())
        count = max(len(samples), 1)
        mean = total / count
        variance = max(squares / count - mean * mean, 0.0)
        return WaveformNormalization(mean, math.sqrt(variance + _VARIANCE_FLOOR))

    def encode(
        self, samples: np.ndarray, first_frame: int, num_frames: int, frame_rate: float, normalization: Normalization
    ) -> Tensor:
        """Encode frames; see SpeechEncoder.encode.

        Raises:
            ValueError: an argument is out of range or the normalization is another encoder's.
        """
        if not isinstance(normalization, WaveformNormalization):
            raise ValueError(f"expected a WaveformNormalization, got {type(normalization).__name__}")
        if samples.ndim != 1 or first_frame < 0 or num_frames < 0:
            raise ValueError(
                f"expected samples (S,) and frames >= 0, got {samples.shape}, {first_frame} and {num_frames}"
            )
        positions = compute_row_positions(
            first_frame,
            num_frames,
            frame_rate,
            SAMPLE_RATE / self._stride,
            self._count_rows(len(samples)),
            row_center=0.5 * self._field / self._stride,
        )
        first_row, stop_row = find_row_range(positions)
        rows = np.empty((stop_row - first_row, self.feature_size), np.float32)
        for block in range(first_row // self._block_rows, math.ceil(stop_row / self._block_rows)):
            values = self._encode_block(samples, block, normalization)
            start = block * self._block_rows
            low, high = max(first_row, start), min(stop_row, start + len(values))
            rows[low - first_row : high - first_row] = values[low - start : high - start]
        return torch.from_numpy(interpolate_rows(rows, first_row, positions)).to(self.device)

    def _count_rows(self, num_samples: int) -> int:
        return max(1, (num_samples - self._field) // self._stride + 1)

    def _encode_block(self, samples: np.ndarray, block: int, normalization: WaveformNormalization) -> np.ndarray:
        """(rows of the block, D): the model run on the block and its context, within the recording."""
        kept = normalization.blocks
        if block in kept:
            kept.move_to_end(block)
            return kept[block]
        num_rows = self._count_rows(len(samples))
        first = block * self._block_rows
        stop = min(first + self._block_rows, num_rows)
        low, high = max(0, first - self._context_rows), min(num_rows, stop + self._context_rows)
        end = len(samples) if high == num_rows else (high - 1) * self._stride + self._field
        sound = np.array(samples[low * self._stride : end], np.float32)
        if self._normalize:
            sound = (sound - normalization.mean) / normalization.deviation
        sound = np.pad(sound, (0, max(0, self._field - len(sound)))).astype(np.float32)
        with torch.inference_mode():
            hidden = self._model(torch.from_numpy(sound[None]).to(self.device)).last_hidden_state[0].float()
        values = hidden[first - low : stop - low].cpu().numpy()
        kept[block] = values
        while len(kept) > _BLOCKS_KEPT:
            kept.popitem(last=False)
        return values


def _measure_convolutions(kernels: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Return (stride, receptive field) in samples of a stack of convolutions."""
    stride, receptive_field = 1, 1
    for kernel, step in zip(kernels, strides, strict=True):
        receptive_field += (kernel - 1) * stride
        stride *= step
    return stride, receptive_field
