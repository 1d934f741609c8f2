"""Speech encoders: what turns a recording into features on an animation's frame grid.

The shipped encoder needs nothing; wav2vec 2.0, HuBERT and WavLM weights of the user's own come through transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Normalization:
    """Statistics of a whole recording, so that any window of it gives the same features. Each encoder has its own."""


class SpeechEncoder(Protocol):
    """Turns 16 kHz speech into features on any frame grid."""

    name: str
    """Says which encoder it is; a model trained on one encoder's features works with that encoder only."""
    feature_size: int
    context_seconds: float
    """Sound before and after a frame that its features depend on."""

    def fit_normalization(self, samples: np.ndarray) -> Normalization:
        """Measure a recording (S,) float32, in one pass of constant memory (samples may be memory-mapped)."""
        ...

    def encode(
        self, samples: np.ndarray, first_frame: int, num_frames: int, frame_rate: float, normalization: Normalization
    ) -> Tensor:
        """Encode frames first_frame .. first_frame + num_frames; frame i is at i / frame_rate seconds.

        Only the sound of these frames and their context is read. The result does not depend on how a recording is
        cut into windows.

        Args:
            samples: (S,) float32 at 16 kHz, the whole recording, may be memory-mapped.
            first_frame: first frame, >= 0.
            num_frames: how many; frames after the end of the recording repeat its last features.
            frame_rate: frames per second.
            normalization: of this recording.

        Returns:
            (num_frames, feature_size) float32 on the encoder's device.

        Raises:
            ValueError: an argument is out of range or the normalization is another encoder's.
        """
        ...


def load_speech_encoder(
    source: str | None = None, device: str | torch.device = "cpu", allow_network: bool = False
) -> SpeechEncoder:
    """Load an encoder.

    Args:
        source: None or "shipped" for the encoder that ships; a .safetensors file for another one of its kind; else a
            folder, or a name on the hub, of a wav2vec 2.0, HuBERT or WavLM model.
        device: where it computes.
        allow_network: whether a hub name may be downloaded; without it only what is on this machine is used.

    Raises:
        BackendError: the weights are missing, broken or of another kind.
    """
    if source is None or source == "shipped" or Path(source).suffix == ".safetensors":
        from torch_backend.audio.shipped_encoder import ShippedEncoder

        path = None if source is None or source == "shipped" else Path(source)
        return ShippedEncoder.load(path, device)
    from torch_backend.audio.transformers_encoder import TransformersEncoder

    return TransformersEncoder.load(source, device, allow_network)
