"""Recipe: MMTalker on synthesised speech, with the motion that the articulation model gives the built-in head.

Loss, in square centimetres: L_rec + 10 L_vel + 0.01 L_eye as in the paper; for the lips, because the paper's loss
leaves 1.7 mm between them at p, b and m, the vector between the lips at their contact points (frames with a closure
count more), the distance between the corners of the mouth, and a higher weight of lip vertices; and for lids
and brows, which move seldom and are few points, L_rec and L_vel once more on them.

Every step takes these losses on another face: an identity drawn at random carries prediction and truth over by its
Jacobian, as inference does, so that the network weighs its errors as they look on many heads and not on the mean one.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_backend.audio.expression_controls import NUM_CONTROLS
from torch_backend.audio.speech_encoder import load_speech_encoder
from torch_backend.config import config_from_dict, config_to_dict
from torch_backend.head import Head, load_head
from torch_backend.losses import (
    eye_motion_loss,
    lip_gap_loss,
    lip_width_loss,
    reconstruction_loss,
    velocity_loss,
    weighted_mean,
)
from torch_backend.models.builders import build_mmtalker, build_template_graph
from torch_backend.models.mmtalker import FRAME_RATE, KIND, MMTalker
from torch_backend.modules.motion_space import MotionSpace
from torch_backend.modules.surface_points import SurfacePoints
from torch_backend.training.face_motion import FaceMotion, FaceVariety, build_face_anchors, find_closed_frames
from torch_backend.training.loop import train
from torch_backend.training.mmtalker_config import DataConfig, MMTalkerTrainingConfig
from torch_backend.training.mmtalker_evaluation import evaluate_mmtalker
from torch_backend.training.motion_examples import (
    BACKGROUND,
    ExampleSettings,
    MotionExample,
    MotionExamples,
    build_motion_examples,
    load_motion_examples,
)
from torch_backend.training.motion_space import build_fit_metric, derive_motion_space

logger = logging.getLogger(__name__)

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "mmtalker.toml"
EXAMPLE_FOLDER = "examples"
NOISE_ROWS = 20_000
"""Rows of the features, at least, that their standard deviation is measured on."""


@dataclass
class MMTalkerBatch:
    """A window of one utterance and the points that are looked at; anchors first, then drawn points."""

    features: torch.Tensor
    """(T, D)."""
    targets: torch.Tensor
    """(T, M, 3) centimetres."""
    frame_weights: torch.Tensor
    """(T,) of the gap term."""
    point_weights: torch.Tensor
    """(M,) of L_rec and L_vel, without the importance of the drawn points."""
    points: SurfacePoints
    drawn_faces: torch.Tensor
    """(R,) triangles of the drawn points."""
    jacobians: torch.Tensor | None = None
    """(M, 3, 3) from displacements of the mean head to those of the face that the losses are taken on."""

    def to(self, device: torch.device, **_: Any) -> MMTalkerBatch:
        """The batch on a device."""
        names = ("features", "targets", "frame_weights", "point_weights", "drawn_faces", "jacobians")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{name: value.to(device) for name, value in tensors.items() if value is not None})


class MMTalkerRecipe:
    """Recipe for training/loop.py."""

    kind = KIND

    def __init__(self, config: MMTalkerTrainingConfig, head: Head, examples: MotionExamples) -> None:
        if examples.frame_rate != FRAME_RATE:
            raise ValueError(f"expected examples at {FRAME_RATE} frames per second, got {examples.frame_rate}")
        self.config = config
        self.model_config = replace(
            config.model,
            feature_size=examples.feature_size,
            speech_encoder=examples.source["speech_encoder"],
            expression_controls=examples.source["expression_controls"],
        )
        self.head = head
        self.examples = examples
        self.graph = build_template_graph(head)
        self.motion = FaceMotion(head)
        self.anchors = build_face_anchors(head)
        self.faces = FaceVariety(head, config.data.identities) if config.data.identities else None
        self.train_examples, held_out = examples.split(config.data.held_out_voices)
        self.held_out = _spread([example for example in held_out if example.copy == 0], config.data.evaluated_examples)
        self._noise = _noise_levels(examples, config.data)
        self._example_shares = _sampling_shares(self.train_examples, config.data)
        self._pairs = torch.from_numpy(self.anchors.pairs)
        self._corners = torch.from_numpy(self.anchors.corners)
        self._lids = torch.from_numpy(self.anchors.lids)
        self._brows = torch.from_numpy(self.anchors.brows)
        is_lip = np.zeros(head.num_skin_vertices, dtype=bool)
        is_lip[head.regions["lips"]] = True
        self._anchor_weights = np.where(is_lip[self.anchors.vertices], config.loss.lip_factor, 1.0)
        self._face_weights = np.where(is_lip[self.graph.triangles].all(axis=1), config.loss.lip_factor, 1.0)

    def describe(self) -> dict[str, Any]:
        """The model's config; how it was trained is in the nested "training"."""
        training = {
            "loss": config_to_dict(self.config.loss),
            "data": config_to_dict(self.config.data),
            "source": self.examples.source,
        }
        return {"model": config_to_dict(self.model_config), "training": training}

    def build_model(self) -> MMTalker:
        """A fresh network on the head's skin, with the motion space of the training examples."""
        model = build_mmtalker(self.model_config, self.graph)
        if self.model_config.project_motion:
            model.motion_space = self.derive_motion_space()
        return model

    def derive_motion_space(self) -> MotionSpace | None:
        """The space of the training examples' motion; None where there is none."""
        metric = build_fit_metric(self.graph, self.anchors, self.head.regions["lips"], self.config)
        return derive_motion_space(self.motion, self.examples, self.train_examples, metric)

    def sample_batch(self, step: int, generator: np.random.Generator) -> MMTalkerBatch:
        """A window of an utterance, and points of the surface."""
        example = self.train_examples[int(generator.choice(len(self.train_examples), p=self._example_shares))]
        length = min(self.model_config.window_frames, example.stop - example.start)
        start = example.start + int(generator.integers(example.stop - example.start - length + 1))
        features = self.examples.features[start : start + length].astype(np.float32)
        features += self._noise * generator.standard_normal(features.shape, dtype=np.float32)
        curves = self.examples.curves[start : start + length].astype(np.float32)
        drawn_faces, drawn = self.draw_points(generator)
        points = SurfacePoints.at_vertices(self.anchors.vertices).joined(drawn)
        targets = self.motion.displacements(curves, points)
        closed = find_closed_frames(curves, _gaps(targets, self.anchors.pairs))
        point_weights = np.concatenate([self._anchor_weights, self._face_weights[drawn_faces]])
        return MMTalkerBatch(
            features=torch.from_numpy(features),
            targets=torch.from_numpy(targets),
            frame_weights=torch.from_numpy(np.where(closed, self.config.loss.closed_factor, 1.0).astype(np.float32)),
            point_weights=torch.from_numpy(point_weights.astype(np.float32)),
            points=points,
            drawn_faces=torch.from_numpy(drawn_faces),
            jacobians=None if self.faces is None else torch.from_numpy(self.faces.draw(points, generator)),
        )

    def draw_points(self, generator: np.random.Generator) -> tuple[np.ndarray, SurfacePoints]:
        """Draw triangles by the initial probabilities, and a uniform point in each.

        Returns:
            (R,) triangles and the R points.
        """
        count = self.config.data.drawn_points
        shares = self.graph.face_probabilities.astype(np.float64)
        faces = generator.choice(len(shares), count, p=shares / shares.sum())
        first, second = generator.random((2, count))
        root = np.sqrt(first)
        barycentric = np.stack([1 - root, root * (1 - second), root * second], axis=1)
        return faces, SurfacePoints(self.graph.triangles[faces].astype(np.int64), barycentric)

    def compute_loss(self, model: torch.nn.Module, batch: MMTalkerBatch) -> dict[str, torch.Tensor]:
        """The terms with their weights, and their sum."""
        weights = self.config.loss
        output = model(batch.features, batch.points, batch.drawn_faces)
        predicted, true = output.offsets, batch.targets
        if batch.jacobians is not None:
            predicted, true = (torch.einsum("mij,tmj->tmi", batch.jacobians, motion) for motion in (predicted, true))
        num_anchors = len(self.anchors.vertices)
        importance = torch.cat([torch.ones_like(batch.point_weights[:num_anchors]), output.importance])
        point_weights = batch.point_weights * importance
        gap = lip_gap_loss(predicted, true, self._pairs)
        lids = self._lids.to(predicted.device)
        position_error, velocity_error = reconstruction_loss(predicted, true), velocity_loss(predicted, true)

        def both(chosen: torch.Tensor) -> torch.Tensor:
            position, velocity = position_error[:, chosen].mean(), velocity_error[:, chosen].mean()
            return weights.reconstruction * position + weights.velocity * velocity

        terms = {
            "reconstruction": weights.reconstruction * weighted_mean(position_error, point_weights),
            "velocity": weights.velocity * weighted_mean(velocity_error, point_weights),
            "eye": weights.eye * eye_motion_loss(predicted[:, lids], true[:, lids]).mean(),
            "gap": weights.gap * (gap * batch.frame_weights).mean(),
            "width": weights.width * lip_width_loss(predicted, true, self._corners).mean(),
            "lid": weights.lid * both(lids),
            "brow": weights.brow * both(self._brows.to(predicted.device)),
            "probability": weights.probability * output.divergence,
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Lips and lids against the articulated truth on held-out utterances."""
        if not isinstance(model, MMTalker):
            raise ValueError(f"expected an MMTalker, got {type(model).__name__}")
        return evaluate_mmtalker(model, self.head, self.examples, self.held_out)


def load_training_config(path: Path, output: Path, **loop_changes: Any) -> MMTalkerTrainingConfig:
    """Read the settings of a run.

    Args:
        path: TOML file with the tables [model], [loss], [data], [loop].
        output: folder of the run.
        **loop_changes: override fields of the loop.

    Raises:
        ValueError: not TOML, unknown keys or values of the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    values["loop"] = {**values.get("loop", {}), "output": str(output), **loop_changes}
    return config_from_dict(MMTalkerTrainingConfig, values, where=path.name)


def train_mmtalker(
    corpus: Path,
    output: Path,
    config_path: Path | None = None,
    speech_encoder: str | None = None,
    report: Callable[[float, dict[str, float]], None] | None = None,
    **loop_changes: Any,
) -> dict[str, float]:
    """Train MMTalker on a synthesised corpus; writes OUTPUT/model.safetensors.

    Args:
        corpus: folder of `python -m torch_backend corpus`.
        output: folder of the run; holds the features too, which a later run in the same folder uses again.
        config_path: TOML settings; without one the shipped settings.
        speech_encoder: a local folder or a name as for load_speech_encoder; None is the shipped encoder.
        report: called with the fraction done and the figures of the last log line.
        **loop_changes: override fields of the loop: steps, seed, device, resume, mixed_precision ...

    Returns:
        Figures of the last evaluation.

    Raises:
        ValueError: the settings or the corpus are not usable.
        BackendError: the encoder's weights are missing or broken.
        OutputError: the folder cannot be written.
    """
    config = load_training_config(config_path or DEFAULT_CONFIG, output, **loop_changes)
    folder = output / EXAMPLE_FOLDER
    if not (folder / "index.json").is_file():
        encoder = load_speech_encoder(speech_encoder, "cpu")
        logger.info("computing the features of %s", encoder.name)
        settings = ExampleSettings(
            FRAME_RATE, config.data.augmented_copies, config.loop.seed, config.model.expression_controls
        )
        build_motion_examples(corpus, folder, encoder, settings, config.data.processes)
    recipe = MMTalkerRecipe(config, load_head(), load_motion_examples(folder))
    return train(recipe, config.loop, report)


def _gaps(displacements: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(T, P, 3) vectors from the lower to the upper lip; at rest the lips touch, so displacements tell all."""
    gaps: np.ndarray = displacements[:, pairs[:, 0]] - displacements[:, pairs[:, 1]]
    return gaps


def _noise_levels(examples: MotionExamples, config: DataConfig) -> np.ndarray:
    """(D,) float32 standard deviation of the noise on each channel."""
    rows = examples.features[:: max(1, len(examples.features) // NOISE_ROWS)].astype(np.float32)
    levels = np.full(rows.shape[1], config.feature_noise, np.float32)
    if examples.source["expression_controls"]:
        levels[-NUM_CONTROLS:] = config.control_noise
    noise: np.ndarray = levels * rows.std(axis=0)
    return noise


def _sampling_shares(examples: Sequence[MotionExample], config: DataConfig) -> np.ndarray:
    """(N,) probability of each example: its length times the share of its kind."""
    shares = []
    for example in examples:
        share = float(example.stop - example.start)
        share *= config.espeak_weight if example.engine == "espeak" else 1.0
        share *= config.background_weight if example.engine == BACKGROUND else 1.0
        share *= config.foreign_weight if example.language != "en" else 1.0
        shares.append(share)
    return np.array(shares) / np.sum(shares)


def _spread(examples: Sequence[MotionExample], count: int) -> list[MotionExample]:
    """At most `count` examples, evenly spread over the list (and so over the voices)."""
    if len(examples) <= count:
        return list(examples)
    return [examples[int(index)] for index in np.linspace(0, len(examples) - 1, count)]
