"""Blink, brow raise and squint that the sound suggests, as extra channels beside the speech features.

When a person blinks depends on pauses, and on how long ago the last blink was: more than a network sees in a window of
three seconds, so by itself it learns a face whose lids hardly move. The rule that places blinks and brow raises
(speech_corpus/expression.py) looks at the whole recording. Its curves go into the network as channels; what lids, brows
and cheeks do with them, it learns.
"""

from __future__ import annotations

import numpy as np

from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from torch_backend.audio.prosody import compute_prosody
from torch_backend.speech_corpus.expression import compute_expression

CONTROL_COLUMNS = tuple(BLENDSHAPE_INDEX[name] for name in ("eyeBlinkLeft", "browInnerUp", "eyeSquintLeft"))
"""Columns of ARKit curves that the channels are made of."""
CONTROL_SCALES = (4.0, 8.0, 20.0)
"""Bring the channels to about unit variance."""
NUM_CONTROLS = len(CONTROL_COLUMNS)

_CHUNK_FRAMES = 9_000


def scale_controls(curves: np.ndarray) -> np.ndarray:
    """The channels (T, 3) float32 of blendshape curves (T, 52)."""
    scaled: np.ndarray = curves[:, list(CONTROL_COLUMNS)].astype(np.float32) * np.array(CONTROL_SCALES, np.float32)
    return scaled


def compute_controls(samples: np.ndarray, num_frames: int, frame_rate: float) -> np.ndarray:
    """The channels of a whole recording.

    Args:
        samples: (S,) float32 at 16 kHz, may be memory-mapped.
        num_frames: T.
        frame_rate: frames per second; frame i is at i / frame_rate.

    Returns:
        (T, 3) float32: blink, brow raise, squint.
    """
    prosody = compute_prosody(samples)
    times = np.arange(num_frames) / frame_rate
    # In chunks, because a curve has 52 columns and only three are wanted.
    chunks = [times[start : start + _CHUNK_FRAMES] for start in range(0, num_frames, _CHUNK_FRAMES)]
    return np.concatenate([scale_controls(compute_expression(prosody, chunk)) for chunk in chunks])
