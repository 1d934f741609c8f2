"""The tongue of a clip: gestures from the phone posteriors of the shipped encoder, on top of what the jaw does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_backend.audio.shipped_encoder import PHONE_RATE, ShippedEncoder
from torch_backend.audio.speech_encoder import SpeechEncoder
from torch_backend.head.tongue_motion import SHAPE_NAMES, TongueMotion
from torch_backend.models.mmtalker import FRAME_RATE
from torch_backend.speech_corpus.tongue_targets import GESTURES, tongue_gestures

_OUT = SHAPE_NAMES.index("tongueOut")


class SpokenTongue:
    """Moves the tongue of one take, block by block; remembers how far it came out."""

    def __init__(
        self,
        motion: TongueMotion,
        vertices: tuple[int, int],
        encoder: SpeechEncoder,
        samples: NDArray[np.float32],
        num_frames: int,
        frame_rate: float = FRAME_RATE,
    ) -> None:
        """Listen to the whole recording once: three numbers a frame are kept, whatever the windows of inference.

        Args:
            motion: of the head that speaks.
            vertices: range of the tongue in the clip's vertices.
            encoder: the tongue stays with the jaw unless it is the shipped one: others know no phones.
            samples: (S,) float32 at 16 kHz, may be memory-mapped.
            num_frames: of the clip.
            frame_rate: of the clip.
        """
        self._motion, self._vertices = motion, slice(*vertices)
        self._gestures = np.zeros((num_frames, len(GESTURES)), np.float32)
        if isinstance(encoder, ShippedEncoder):
            posteriors = encoder.phone_posteriors(samples, encoder.fit_normalization(samples))
            self._gestures = tongue_gestures(posteriors, PHONE_RATE, np.arange(num_frames) / frame_rate)
        self.out_weights = np.zeros(num_frames, np.float32)
        """(T,) weight of tongueOut in every frame moved so far."""

    def move(self, first_frame: int, vertex_offsets: NDArray[np.float32]) -> None:
        """Add the gestures to displacements (n, V, 3) in which the tongue follows the jaw, in place."""
        part = slice(first_frame, first_frame + len(vertex_offsets))
        weights = self._motion.weights(self._gestures[part], vertex_offsets[:, self._vertices])
        vertex_offsets[:, self._vertices] += self._motion.displace(weights)
        self.out_weights[part] = weights[:, _OUT]
