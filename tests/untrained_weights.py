"""Weights that have learned nothing but move the face: for tests of everything around the networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from torch_backend.audio.expression_controls import NUM_CONTROLS
from torch_backend.audio.shipped_encoder import CHECKPOINT_KIND, NUM_PROSODY_CHANNELS
from torch_backend.config import config_to_dict
from torch_backend.head import load_head
from torch_backend.models.builders import build_mmtalker, build_template_graph
from torch_backend.models.checkpoints import save_checkpoint
from torch_backend.models.facetalk import KIND as FACETALK_KIND
from torch_backend.models.facetalk import FaceTalk, FaceTalkConfig
from torch_backend.models.mmtalker import KIND, MMTalkerConfig
from torch_backend.models.phone_encoder import PhoneEncoder, PhoneEncoderConfig
from torch_backend.training.mouth_codes import BUILT_IN_HEAD

ENCODER_NAME = "untrained"


def write_untrained_weights(folder: Path) -> list[str]:
    """Write both networks; returns the options of `animate` that choose them."""
    torch.manual_seed(0)
    encoder_config = PhoneEncoderConfig(channels=8, dilations=(1, 2))
    encoder = PhoneEncoder(encoder_config)
    content = {"name": ENCODER_NAME, "network": config_to_dict(encoder_config)}
    save_checkpoint(folder / "encoder.safetensors", encoder.state_dict(), {"kind": CHECKPOINT_KIND, "config": content})
    config = MMTalkerConfig(
        feature_size=8 + NUM_PROSODY_CHANNELS + NUM_CONTROLS,
        speech_encoder=ENCODER_NAME,
        hidden_size=8,
        encoding_size=6,
        decoder_size=8,
    )
    model = build_mmtalker(config, build_template_graph(load_head()))
    torch.nn.init.normal_(model.decoder.output.weight, std=0.5)
    metadata = {"kind": KIND, "config": {"model": config_to_dict(config)}}
    save_checkpoint(folder / "mmtalker.safetensors", model.state_dict(), metadata)
    return ["--weights", str(folder / "mmtalker.safetensors"), "--encoder", str(folder / "encoder.safetensors")]


def write_untrained_facetalk(folder: Path) -> Path:
    """Write a small expression decoder for the encoder of `write_untrained_weights`; returns its file."""
    torch.manual_seed(0)
    config = FaceTalkConfig(
        condition_size=8 + NUM_PROSODY_CHANNELS,
        speech_encoder=ENCODER_NAME,
        condition_kernel=3,
        width=16,
        num_heads=2,
        num_blocks=1,
        feed_forward=16,
    )
    content = {"model": config_to_dict(config), "sequences": {"head": BUILT_IN_HEAD}}
    path = folder / "facetalk.safetensors"
    save_checkpoint(path, FaceTalk(config).state_dict(), {"kind": FACETALK_KIND, "config": content})
    return path


def make_speech(seconds: float, sample_rate: int = 16_000) -> np.ndarray:
    """(S,) float32: a buzz of 120 Hz with syllables and pauses, below 1.5 kHz, so that any rate from 4 kHz holds it."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    buzz = sum(np.sin(2 * np.pi * 120 * k * times + k * k) / k for k in range(1, 13))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * times) + 0.6 * np.sin(2 * np.pi * 0.9 * times), 0, None)
    return (0.1 * buzz * syllables).astype(np.float32)
