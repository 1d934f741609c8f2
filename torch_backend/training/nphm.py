"""How the backward head model learns the built-in head: its distance field, its deformation, and both together.

Three terms, in millimetres: distances in the canonical pose (hyper coordinates 0), where points of poses come from, and
distances in poses through the deformation. The codes are no variables of the training: they are the fixed ones of
head/expression_codes.py and head/identity_codes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from blender_talkhead.facial.identities import random_identity
from blender_talkhead.facial.identity_presets import IDENTITY_PRESETS
from torch_backend.config import config_to_dict
from torch_backend.head import load_head
from torch_backend.head.expression_codes import load_expression_space
from torch_backend.head.head_space import HeadSpace, canonical_weights
from torch_backend.models.checkpoints import load_checkpoint
from torch_backend.models.nphm import BACKWARD_KIND, BackwardNPHM
from torch_backend.models.nphm_config import BackwardNPHMConfig
from torch_backend.training.expression_draws import draw_expressions, make_speech_frames
from torch_backend.training.head_pools import DistancePool, load_or_make_pool, make_pool
from torch_backend.training.head_samples import HeadSampler, HeadSamplesConfig, SampledFace
from torch_backend.training.loop import LoopConfig
from torch_backend.training.nphm_start import DeformationPlaces, spread_first_weights

HELD_OUT_SEED = 90_001
"""Of the expressions and the identities that are only evaluated on."""
_NEAR_MM = 1.5
_STATISTICS_DRAWS = 4_000
_PLACES = 4_096


@dataclass(frozen=True)
class HeadDataConfig:
    """What is drawn."""

    random_identities: int = 40
    """Beside the mean head and the presets."""
    mean_share: float = 0.55
    """Of all entries and draws that are the mean head."""
    preset_share: float = 0.2
    """That are presets."""
    speech_sentences: int = 400
    """Sentences whose frames are the speech expressions."""
    posed_entries: int = 900
    """Poses whose distances are kept."""
    canonical_points: int = 400_000
    """Distances kept of the mean head in the canonical pose; identities get a twelfth each."""
    posed_batch: int = 8
    """Entries a step."""
    posed_points: int = 256
    """Points of each."""
    canonical_batch: int = 4
    canonical_points_drawn: int = 1024
    deformation_batch: int = 16
    deformation_points: int = 512
    beside_mm: float = 0.4
    """Half of the correspondences lie beside the skin, with this standard deviation."""
    held_out_entries: int = 32
    """Poses that are only evaluated on; the last three eighths are identities, one each."""
    seed: int = 1
    """Of pools and expressions."""


@dataclass(frozen=True)
class HeadLossConfig:
    """Weights of the terms."""

    canonical: float = 1.0
    posed: float = 1.0
    deformation: float = 1.0
    tail: float = 0.25
    """Of the squares of the same errors: lids and corners of the mouth are few points that move far."""
    volume: float = 0.25
    """Of where the points of the posed distances come from."""
    anchors: float = 1.0
    hyper: float = 0.01
    """Of the hyper coordinates' size."""
    falloff_mm: float = 4.0
    """Errors of distances count 1 / (1 + distance / this)."""


@dataclass(frozen=True)
class HeadTrainingConfig:
    """All settings of a run."""

    loop: LoopConfig
    model: BackwardNPHMConfig = field(default_factory=BackwardNPHMConfig)
    samples: HeadSamplesConfig = field(default_factory=HeadSamplesConfig)
    data: HeadDataConfig = field(default_factory=HeadDataConfig)
    loss: HeadLossConfig = field(default_factory=HeadLossConfig)


class HeadModelRecipe:
    """Recipe for training/loop.py. The model that it trains takes whitened expression codes; see `export`."""

    kind = BACKWARD_KIND

    def __init__(
        self,
        config: HeadTrainingConfig,
        pools: Path,
        start: Path | None = None,
        report: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Make or open the samples.

        Args:
            config: settings.
            pools: folder of the kept distances.
            start: model.safetensors of another run of the same sizes to begin with.
            report: called with the fraction of the samples that are made.
        """
        self.config, self.start = config, start
        self.space = HeadSpace()
        self.millimetres = self.space.metres_per_unit * 1e3
        self.sampler = HeadSampler(load_head(), config.samples, self.space)
        self.speech = make_speech_frames(config.data.speech_sentences, config.data.seed)
        self.faces = self._make_faces()
        self.codes = np.stack([face.code for face in self.faces])
        self.expressions = load_expression_space()
        self.scales = self._code_scales()
        self._pools, self._report = pools, report
        self.posed = self._open("posed", self._make_posed) if config.data.posed_batch else None
        self.canonical = [self._open(f"canonical{i}", partial(self._make_canonical, i)) for i in range(3)]
        self.held_out = self._open("held_out", self._make_held_out)

    def describe(self) -> dict[str, Any]:
        """Settings."""
        return {name: config_to_dict(getattr(self.config, name)) for name in ("model", "samples", "data", "loss")}

    def build_model(self) -> BackwardNPHM:
        """A fresh network, or the one to start from."""
        anchors = torch.from_numpy(self.faces[0].anchors)
        model = BackwardNPHM(self.config.model, anchors)
        spread_first_weights(model, self._places())
        if self.start is not None:
            model.load_state_dict(load_checkpoint(self.start, self.kind)[0])
        return model

    def sample_batch(self, step: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw points of all three kinds; numbers in the model's unit."""
        data = self.config.data
        batch: dict[str, Any] = {}
        if self.posed is not None:
            entries = generator.integers(len(self.posed.points), size=data.posed_batch)
            batch |= self._posed_batch(self.posed, entries, data.posed_points, generator)
        if data.canonical_batch:
            pool = self.canonical[int(generator.choice(3, p=self._kind_shares()))]
            entries = generator.integers(len(pool.points), size=data.canonical_batch)
            columns = generator.integers(pool.points.shape[1], size=(data.canonical_batch, data.canonical_points_drawn))
            points, distances, _ = pool.take(entries, columns)
            batch |= {
                "rest_points": points,
                "rest_distances": distances,
                "rest_identity": self.codes[pool.faces[entries]],
            }
        if data.deformation_batch:
            weights = draw_expressions(data.deformation_batch, self.speech, generator)
            faces = self._draw_faces(data.deformation_batch, generator)
            there, back = self.sampler.draw_correspondences(
                [self.faces[face] for face in faces], weights, data.deformation_points, data.beside_mm, generator
            )
            batch |= {
                "moved": there,
                "origin": back,
                "moved_identity": self.codes[faces],
                "moved_codes": self.whiten(weights),
            }
        faces = self._draw_faces(8, generator)
        batch |= {"identity": self.codes[faces], "anchors": np.stack([self.faces[face].anchors for face in faces])}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.items()}

    def compute_loss(self, model: torch.nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of HeadLossConfig, in millimetres."""
        bare, loss = cast(BackwardNPHM, getattr(model, "module", model)), self.config.loss
        terms: dict[str, Tensor] = {}
        if "rest_points" in batch:
            points = torch.nn.functional.pad(batch["rest_points"], (0, bare.config.hyper_size))
            predicted = bare.canonical_signed_distance(points, batch["rest_identity"])
            terms["canonical"] = loss.canonical * self._distance_error(predicted, batch["rest_distances"])
        if "moved" in batch:
            offsets, _ = bare.deform(batch["moved"], batch["moved_identity"], batch["moved_codes"])
            error = self._offset_error(offsets, batch["origin"] - batch["moved"])
            terms["deformation"] = loss.deformation * error.mean()
            terms["tail"] = loss.tail * error.square().mean()
        if "points" in batch:
            offsets, hyper = bare.deform(batch["points"], batch["posed_identity"], batch["codes"])
            canonical = torch.cat([batch["points"] + offsets, hyper], dim=-1)
            predicted = bare.canonical_signed_distance(canonical, batch["posed_identity"])
            terms["posed"] = loss.posed * self._distance_error(predicted, batch["distances"])
            weights = self._near_weights(batch["distances"]).square()
            volume = self._offset_error(offsets, batch["canonical"] - batch["points"])
            terms["volume"] = loss.volume * (volume * weights).sum() / weights.sum()
            terms["hyper"] = loss.hyper * hyper.square().mean()
        anchors = self._offset_error(bare.anchors(batch["identity"]), batch["anchors"])
        terms["anchors"] = loss.anchors * anchors.mean()
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Millimetres on held-out expressions: errors of distances near the surface, and of origins of the skin."""
        bare = cast(BackwardNPHM, model)
        pool = self.held_out
        columns = np.tile(np.arange(pool.points.shape[1]), (len(pool.points), 1))
        figures: dict[str, list[np.ndarray]] = {"mean_head": [], "identities": []}
        moved: dict[str, list[np.ndarray]] = {"mean_head": [], "identities": []}
        generator = np.random.default_rng(7)
        for entry in range(len(pool.points)):
            batch = self._posed_batch(pool, np.array([entry]), columns.shape[1], generator, columns[entry : entry + 1])
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.items()}
            predicted = bare.signed_distance(tensors["points"], tensors["posed_identity"], tensors["codes"])
            near = tensors["distances"].abs() * self.millimetres < _NEAR_MM
            name = "mean_head" if pool.faces[entry] == 0 else "identities"
            figures[name].append((predicted - tensors["distances"])[near].abs().numpy() * self.millimetres)
            there, back = self.sampler.draw_correspondences(
                [self.faces[pool.faces[entry]]], pool.weights[entry : entry + 1], 2000, 0.0, generator
            )
            offsets, _ = bare.deform(torch.from_numpy(there), tensors["posed_identity"], tensors["codes"])
            moved[name].append(self._offset_error(offsets, torch.from_numpy(back - there)).numpy().ravel())
        results = {}
        for kind, values in (("distance", figures), ("origin", moved)):
            for name, parts in values.items():
                joined = np.concatenate(parts) if parts else np.zeros(1)
                results[f"{name}_{kind}_mm"] = float(joined.mean())
                results[f"{name}_{kind}_p95_mm"] = float(np.percentile(joined, 95))
        return results

    def whiten(self, weights: np.ndarray) -> np.ndarray:
        """Codes (..., 200) as the model under training takes them, of blendshape weights (..., 52)."""
        return self.expressions.encode(weights) / self.scales

    def _places(self) -> DeformationPlaces:
        """Where the deformation of a fresh network bends: points of the skin, and the blendshapes that move them."""
        faces, barycentric = self.sampler.draw_places(_PLACES, np.random.default_rng(0))
        corners = self.sampler.triangles[faces]
        points = np.einsum("nk,nkc->nc", barycentric, self.faces[0].canonical_units[corners])
        fields = load_head().blendshapes[:, : len(self.faces[0].canonical)]
        lengths = np.linalg.norm(fields, axis=2)
        reach = (lengths / np.maximum(lengths.max(axis=1, keepdims=True), 1e-6))[:, corners].mean(axis=2).T
        moving = self.expressions.num_motion
        readouts = np.zeros(self.expressions.matrix.shape[::-1])
        readouts[:moving] = np.linalg.pinv(self.expressions.matrix[:, :moving], rcond=1e-4) * self.scales[:moving, None]
        return DeformationPlaces(*(torch.from_numpy(each.astype(np.float32)) for each in (points, reach, readouts)))

    def _kind_shares(self) -> list[float]:
        mean, preset = self.config.data.mean_share, self.config.data.preset_share
        return [mean, preset, 1.0 - mean - preset]

    def _draw_faces(self, count: int, generator: np.random.Generator) -> np.ndarray:
        presets = len(IDENTITY_PRESETS) - 1
        kinds = generator.choice(3, size=count, p=self._kind_shares())
        others = 1 + presets + generator.integers(self.config.data.random_identities, size=count)
        return np.select(
            [kinds == 0, kinds == 1], [np.zeros(count, int), 1 + generator.integers(presets, size=count)], others
        )

    def _make_faces(self) -> list[SampledFace]:
        presets = [preset.parameters for name, preset in IDENTITY_PRESETS.items() if name != "mean"]
        randoms = [random_identity(2_000_000 + index) for index in range(self.config.data.random_identities)]
        return [self.sampler.make_face(parameters) for parameters in ({}, *presets, *randoms)]

    def _code_scales(self) -> np.ndarray:
        drawn = draw_expressions(_STATISTICS_DRAWS, self.speech, np.random.default_rng(self.config.data.seed))
        scales = self.expressions.encode(drawn).std(axis=0)
        scales[self.expressions.num_motion :] = 1.0
        return np.maximum(scales, 1e-3).astype(np.float32)

    def _posed_batch(
        self,
        pool: DistancePool,
        entries: np.ndarray,
        count: int,
        generator: np.random.Generator,
        columns: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        if columns is None:
            columns = generator.integers(pool.points.shape[1], size=(len(entries), count))
        points, distances, canonical = pool.take(entries, columns)
        return {
            "points": points,
            "distances": distances,
            "canonical": canonical,
            "posed_identity": self.codes[pool.faces[entries]],
            "codes": self.whiten(pool.weights[entries]),
        }

    def _near_weights(self, distances: Tensor) -> Tensor:
        return 1.0 / (1.0 + distances.abs() * (self.millimetres / self.config.loss.falloff_mm))

    def _distance_error(self, predicted: Tensor, true: Tensor) -> Tensor:
        weights = self._near_weights(true)
        return ((predicted - true).abs() * weights).mean() * self.millimetres

    def _offset_error(self, predicted: Tensor, true: Tensor) -> Tensor:
        return ((predicted - true).square().sum(-1) + 1e-10).sqrt() * self.millimetres

    def _open(self, name: str, make: Callable[[], DistancePool]) -> DistancePool:
        source = {
            "samples": asdict(self.config.samples),
            "data": asdict(self.config.data),
            "canonical": canonical_weights().tolist(),
        }
        for drawn in ("posed_batch", "posed_points", "canonical_batch", "canonical_points_drawn", "deformation_batch",
                      "deformation_points", "beside_mm", "held_out_entries"):  # fmt: skip
            source["data"].pop(drawn)
        if name == "held_out":
            source["entries"] = self.config.data.held_out_entries
        return load_or_make_pool(self._pools / name, source, make)

    def _make_posed(self) -> DistancePool:
        generator = np.random.default_rng([self.config.data.seed, 2])
        count = self.config.data.posed_entries
        weights = draw_expressions(count, self.speech, generator)
        return make_pool(
            self.sampler,
            self.faces,
            self._draw_faces(count, generator).tolist(),
            weights,
            self.config.data.seed,
            self._report,
        )

    def _make_canonical(self, kind: int) -> DistancePool:
        presets = len(IDENTITY_PRESETS) - 1
        chosen = ([0], list(range(1, 1 + presets)), list(range(1 + presets, len(self.faces))))[kind]
        total = self.config.data.canonical_points // (1 if kind == 0 else 12)
        box = total // 8
        sampler = HeadSampler(
            load_head(), replace(self.config.samples, near_points=total - box, box_points=box), self.space
        )
        weights = np.tile(canonical_weights(), (len(chosen), 1))
        return make_pool(sampler, self.faces, chosen, weights, self.config.data.seed + 10, self._report)

    def _make_held_out(self) -> DistancePool:
        speech = make_speech_frames(40, HELD_OUT_SEED)
        count = self.config.data.held_out_entries
        weights = draw_expressions(count, speech, np.random.default_rng(HELD_OUT_SEED))
        others = 3 * count // 8
        chosen = [0] * (count - others) + [1 + index % (len(self.faces) - 1) for index in range(others)]
        return make_pool(self.sampler, self.faces, chosen, weights, HELD_OUT_SEED, self._report)
