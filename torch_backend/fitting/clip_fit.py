"""From users' clips to code sequences that FaceTalk is trained on: alignment, identity, codes, condition, resume."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BadInputError, OutputError
from torch_backend.audio.clean_up import CleanUp, clean_up
from torch_backend.audio.frame_grid import count_frames
from torch_backend.audio.loading import SAMPLE_RATE, decode_audio
from torch_backend.fitting.clip import Clip
from torch_backend.fitting.config import FittingConfig
from torch_backend.fitting.expression_fit import ExpressionFitter, FittedExpressions
from torch_backend.fitting.fitted_head import FittedHead
from torch_backend.fitting.sequence_alignment import AlignedClip, align_clip
from torch_backend.fitting.template_model import LOWEST_Y_M, landmarks_of_head
from torch_backend.head import load_head
from torch_backend.head.identity import shape_identity
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.models.facetalk import FRAME_RATE
from torch_backend.modules.landmark_condition import compute_landmark_features
from torch_backend.training.code_sequences import CodeSequences, save_code_sequences
from torch_backend.training.mouth_codes import BUILT_IN_HEAD

if TYPE_CHECKING:
    from torch_backend.audio.speech_encoder import SpeechEncoder

logger = logging.getLogger(__name__)

CLIPS_FOLDER = "clips"
"""Of what is finished, so that a broken run goes on; it stays, for its errors and poses."""
REPORT_FILE = "report.json"
_FORMAT_VERSION = 1
_BEHIND_EARS_M = -0.06
"""The back of a head is hair and caps; points behind this are left out."""
_ALIGNED_SHARE = 0.15
"""Of the time of a clip."""


@dataclass(frozen=True)
class ClipFitSettings:
    """What is done with each clip."""

    fitting: FittingConfig
    is_aligned: bool = False
    """The scans lie in the head's frame already: metres of the built-in head, or the unit of another model."""
    clean_up: CleanUp = field(default_factory=CleanUp)
    """Of the sound."""
    held_out_every: int = 0
    """Every n-th clip is only evaluated on; 0 is none."""
    seed: int = 0


class ClipFitter:
    """Fits clips one after another with one head model."""

    def __init__(
        self,
        fitted_head: FittedHead,
        identity: torch.Tensor | None,
        encoder: SpeechEncoder | None,
        settings: ClipFitSettings,
    ) -> None:
        """Hold what all clips share.

        Args:
            fitted_head: the head model.
            identity: (I,) of the person; None finds the built-in head's nearest for each clip.
            encoder: of speech; None makes landmarks the condition.
            settings: what is done.

        Raises:
            BadInputError: what is asked for needs an identity, or scans that are aligned.
        """
        if fitted_head.space is None and not settings.is_aligned:
            raise BadInputError("scans can be aligned with a model of the built-in head only; align them, and say so")
        if identity is None and (fitted_head.space is None or settings.is_aligned):
            raise BadInputError("name the person's identity; `python -m torch_backend fit identity` makes one")
        self._head, self._identity, self._encoder, self._settings = fitted_head, identity, encoder, settings

    def fit(self, clips: Sequence[Clip], output: Path, report: Callable[[float], None] | None = None) -> CodeSequences:
        """Fit all clips and write a folder of code sequences; clips that are finished there are not fitted again.

        Args:
            clips: the clips; their names must differ.
            output: the folder.
            report: called with the fraction done; may raise to stop.

        Returns:
            What was written.

        Raises:
            BadInputError: a clip is not usable.
            OutputError: the folder cannot be written.
        """
        names = [clip.name for clip in clips]
        if len(set(names)) < len(names) or not names:
            raise BadInputError(f"expected clips of different names, got {', '.join(names) or 'none'}")
        frames = np.array([len(clip.scans) for clip in clips], float)
        ends = np.cumsum(frames) / frames.sum()
        parts = []
        for clip, start, end in zip(clips, ends - frames / frames.sum(), ends, strict=True):
            parts.append(self._fit_or_load(clip, output, _part(report, float(start), float(end))))
        sequences = self._gather(clips, parts)
        save_code_sequences(output, sequences)
        _write_report(output, clips, parts)
        return sequences

    def _fit_or_load(self, clip: Clip, output: Path, report: Callable[[float], None]) -> dict[str, Any]:
        """A clip's arrays, from its file where that was made from the same scans with the same settings."""
        path = output / CLIPS_FOLDER / f"{clip.name}.npz"
        key = self._key(clip)
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            if str(arrays.get("key")) == key:
                logger.info("%s is fitted already", clip.name)
                report(1.0)
                return arrays
        except (OSError, ValueError, EOFError):
            logger.debug("%s is not fitted yet", clip.name)
        try:
            arrays = self._fit_clip(clip, report) | {"key": np.array(key)}
        except ValueError as error:
            raise BadInputError(f"{clip.name}: {error}") from error
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial.npz")
            np.savez(partial, **arrays)
            partial.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        return arrays

    def _fit_clip(self, clip: Clip, report: Callable[[float], None]) -> dict[str, NDArray]:
        settings, aligned = self._settings, None
        condition = self._condition_of_sound(clip)
        num_frames = len(clip.scans) if condition is None else min(len(condition), len(clip.scans))
        share = 0.0
        if not settings.is_aligned:
            share = _ALIGNED_SHARE
            aligned = align_clip(
                clip, load_head(), settings.fitting.alignment, settings.seed, _part(report, 0.0, share)
            )
        if condition is None:
            condition = self._condition_of_landmarks(clip, aligned)
        identity = self._identity if aligned is None or self._identity is not None else _nearest_identity(aligned)
        if identity is None:
            raise ValueError("no identity is known")
        fitter = ExpressionFitter(self._head.model, identity, self._head.priors.expression, settings.fitting.expression)
        found = fitter.fit(
            num_frames,
            lambda frame: self._points_in_model(clip, frame, aligned),
            settings.seed,
            _part(report, share, 1.0),
        )
        return self._arrays(found, condition[:num_frames], aligned)

    def _arrays(
        self, found: FittedExpressions, condition: NDArray[np.float32], aligned: AlignedClip | None
    ) -> dict[str, NDArray]:
        unit_mm = 1.0 if self._head.space is None else self._head.space.metres_per_unit * 1e3
        arrays = {
            "codes": found.codes,
            "condition": condition,
            "poses": found.poses,
            "surface_errors": found.surface_errors * unit_mm,
        }
        if aligned is not None:
            arrays["parametric_weights"] = aligned.weights
            arrays["scales"] = np.array([each.scale for each in aligned.to_scan])
            arrays["rotations"] = np.stack([each.rotation for each in aligned.to_scan])
            arrays["translations"] = np.stack([each.translation for each in aligned.to_scan])
        return arrays

    def _points_in_model(self, clip: Clip, frame: int, aligned: AlignedClip | None) -> NDArray[np.float32]:
        points = clip.read_points(frame)
        space = self._head.space
        if aligned is not None:
            points = aligned.to_scan[frame].inverse().apply(points)
        if space is None:
            return points.astype(np.float32)
        return space.to_model(points[is_face(points)])

    def _condition_of_sound(self, clip: Clip) -> NDArray[np.float32] | None:
        """(T, D) speech features of all of the recording's frames."""
        if self._encoder is None:
            return None
        if clip.sound is None:
            raise BadInputError(f"{clip.name} has no recording; put one beside the scans, or condition on landmarks")
        with tempfile.TemporaryDirectory(prefix="talkhead-") as folder:
            audio = decode_audio(clip.sound, Path(folder))
            samples = clean_up(np.array(audio.samples), self._settings.clean_up)
            del audio  # closes the file before its folder goes
        frames = count_frames(len(samples) / SAMPLE_RATE, FRAME_RATE)
        normalization = self._encoder.fit_normalization(samples)
        features = self._encoder.encode(samples, 0, frames, FRAME_RATE, normalization)
        return features.cpu().numpy().astype(np.float32)

    def _condition_of_landmarks(self, clip: Clip, aligned: AlignedClip | None) -> NDArray[np.float32]:
        """(T, 3 L) how far the landmarks have moved in the head's frame."""
        if clip.landmarks is None or aligned is None:
            raise BadInputError(f"{clip.name}: landmarks as the condition need {clip.name}/landmarks.npy and alignment")
        known = _filled(clip.landmarks)
        in_head = np.stack([each.inverse().apply(row) for each, row in zip(aligned.to_scan, known, strict=True)])
        person = shape_identity(load_head(), aligned.parameters).vertices
        rest = landmarks_of_head(load_head(), clip.landmarks.shape[1], person)
        features = compute_landmark_features(torch.from_numpy(in_head), torch.from_numpy(rest))
        return features.numpy().astype(np.float32)

    def _gather(self, clips: Sequence[Clip], parts: list[dict[str, Any]]) -> CodeSequences:
        lengths = [len(part["codes"]) for part in parts]
        every = self._settings.held_out_every
        facts: dict[str, Any] = {
            "speech_encoder": "landmarks" if self._encoder is None else self._encoder.name,
            "head_model_sha256": self._head.sha256,
            "fitting": asdict(self._settings.fitting.expression),
        }
        if self._head.space is not None:
            facts["head"] = BUILT_IN_HEAD
        return CodeSequences(
            codes=np.concatenate([part["codes"] for part in parts]),
            condition=np.concatenate([part["condition"] for part in parts]),
            starts=(0, *(int(stop) for stop in np.cumsum(lengths))),
            names=tuple(clip.name for clip in clips),
            held_out=tuple(every > 0 and number % every == every - 1 for number in range(len(clips))),
            frame_rate=FRAME_RATE,
            facts=facts,
        )

    def _key(self, clip: Clip) -> str:
        """Hash of everything that a clip's arrays depend on; scans by name, size and time of change."""
        files = [*clip.scans, *([clip.sound] if clip.sound is not None else [])]
        stamps = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in files]
        landmarks = "" if clip.landmarks is None else hashlib.sha256(clip.landmarks.tobytes()).hexdigest()
        identity = "" if self._identity is None else hashlib.sha256(self._identity.numpy().tobytes()).hexdigest()
        encoder = "" if self._encoder is None else self._encoder.name
        settings = {name: value for name, value in asdict(self._settings).items() if name != "held_out_every"}
        content = [_FORMAT_VERSION, self._head.sha256, settings, stamps, landmarks, identity, encoder]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_face(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(n,) which points, in metres of the built-in head, are neither shoulders nor the back of the head."""
    return np.asarray((points[:, 1] > LOWEST_Y_M) & (points[:, 2] > _BEHIND_EARS_M))


def _nearest_identity(aligned: AlignedClip) -> torch.Tensor:
    """Code of the built-in head's identity that the parametric fit has found."""
    values = {name: float(np.clip(value, -1.0, 1.0)) for name, value in aligned.parameters.items()}
    return torch.from_numpy(load_identity_codes().encode(values))


def _filled(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Landmarks (T, L, 3) with missing ones interpolated in time.

    Raises:
        ValueError: one is missing in all frames.
    """
    filled = landmarks.copy()
    times = np.arange(len(landmarks))
    for number in range(landmarks.shape[1]):
        known = np.isfinite(landmarks[:, number]).all(axis=1)
        if not known.any():
            raise ValueError(f"landmark {number} is missing in all frames")
        for axis in range(3):
            filled[:, number, axis] = np.interp(times, times[known], landmarks[known, number, axis])
    return filled


def _part(report: Callable[[float], None] | None, start: float, end: float) -> Callable[[float], None]:
    def report_part(fraction: float) -> None:
        if report is not None:
            report(start + (end - start) * fraction)

    return report_part


def _write_report(output: Path, clips: Sequence[Clip], parts: list[dict[str, Any]]) -> None:
    """What was found, for people."""
    rows = []
    for clip, part in zip(clips, parts, strict=True):
        errors = part["surface_errors"]
        mean = None if np.isnan(errors).all() else round(float(np.nanmean(errors)), 5)
        rows.append({"clip": clip.name, "frames": len(part["codes"]), "mean_surface_error": mean})
    try:
        (output / REPORT_FILE).write_text(json.dumps({"clips": rows}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {output / REPORT_FILE}: {error.strerror or error}") from error
