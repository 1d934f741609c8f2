"""FaceTalk as a predictor: a recording in, takes of expression codes out, and the surfaces that they are shown on.

Codes of the built-in head are curves in other coordinates (head/expression_codes.py): they are read back as curves,
blinks and gaze of the performance are put in, and the skin is moved: by the neural head model where there is one,
else by the head's own shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BackendError
from blender_talkhead.contract.jobs import SCAN_SUFFIX
from blender_talkhead.contract.mesh_sequence import FrameMesh
from torch_backend.audio.frame_grid import count_frames
from torch_backend.audio.speech_encoder import SAMPLE_RATE, SpeechEncoder, load_speech_encoder
from torch_backend.fitting.fitted_identity import load_fitted_identity
from torch_backend.head import Head, load_head
from torch_backend.head.identity_codes import load_identity_codes
from torch_backend.inference.facetalk_sampling import SamplingConfig, sample_windows
from torch_backend.inference.facetalk_surface import SurfaceColors, SurfacePlan, extract_frames
from torch_backend.inference.facetalk_take import CurvesOfTake, SkinMotion, TakeOnSkin
from torch_backend.inference.head_model import BuiltInHeadModel, load_built_in_head_model
from torch_backend.inference.mmtalker import DEFAULT_WEIGHTS as MMTALKER_WEIGHTS
from torch_backend.inference.mmtalker import (
    SHIPPED_PREFIX,
    MMTalkerPlan,
    Precision,
    build_plan,
    validate_head,
)
from torch_backend.inference.skin_mesh import SkinMesh, build_skin_mesh
from torch_backend.inference.skin_motion import NeuralOnSkin, ShapesOnSkin
from torch_backend.models.builders import load_facetalk, load_mmtalker
from torch_backend.models.checkpoints import file_sha256
from torch_backend.models.facetalk import FRAME_RATE, FaceTalk
from torch_backend.training.mouth_codes import BUILT_IN_HEAD

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "facetalk.safetensors"
WINDOW_FRAMES = 96
"""Frames whose codes are drawn at once."""
_KEPT_MESHES = 2
_REACH_OF_SCAN_M = 0.02


@dataclass(frozen=True, kw_only=True)
class TrackedPlan(MMTalkerPlan):
    """The mesh of a clip of a fixed topology, and what moves its skin."""

    skin: SkinMotion


@dataclass(frozen=True)
class _ChosenIdentity:
    built_in: str | int | None
    """Identity of the built-in head: for a scan the nearest one, which gives eyes, teeth and hair."""
    code: NDArray[np.float32] | None
    """(I,) of a scan; None for the built-in head's own identities, whose codes follow from their parameters."""
    reach_m: float
    """How far the points of the built-in one may lie from its surface."""


class FaceTalkPredictor:
    """Set up once, predicts many recordings."""

    def __init__(
        self,
        model: FaceTalk,
        encoder: SpeechEncoder,
        weights_sha256: str,
        codes_of: str,
        head_model: BuiltInHeadModel | None = None,
    ) -> None:
        """Use `load` unless the model is at hand already.

        Args:
            model: in evaluation mode.
            encoder: the speech encoder that it was trained with.
            weights_sha256: of its file.
            codes_of: whose expression codes the weights speak in.
            head_model: the neural head; None moves the built-in head by its own shapes and makes no sequences.

        Raises:
            BackendError: the model listens to other features, or to none, or its codes are another head's.
        """
        self.model = model
        self.encoder = encoder
        self.weights_sha256 = weights_sha256
        self.head_model = head_model
        self.head_weights_sha256 = "" if head_model is None else head_model.sha256
        self.precision: Literal["float32"] = "float32"
        self.head: Head = load_head()
        self._meshes: dict[tuple[int | None, int], SkinMesh] = {}
        _validate(model, encoder, codes_of)

    @classmethod
    def load(
        cls,
        weights: Path | None = None,
        encoder: SpeechEncoder | None = None,
        device: str = "cpu",
        precision: Precision = "auto",
        head_weights: Path | None = None,
    ) -> FaceTalkPredictor:
        """Read the weights.

        Args:
            weights: checkpoint of the expression decoder; None is the shipped one.
            encoder: the speech encoder that the weights were trained with; None loads the one they name.
            device: torch device.
            precision: of MMTalker's choices; takes are always drawn in float32.
            head_weights: checkpoint of the neural head model; None is the shipped one.

        Raises:
            BackendError: weights or encoder are missing, broken, of another version, or do not belong together.
        """
        del precision
        path = Path(weights) if weights is not None else DEFAULT_WEIGHTS
        model, metadata = load_facetalk(path)
        if encoder is None:
            name = model.config.speech_encoder
            encoder = load_speech_encoder(None if name.startswith(SHIPPED_PREFIX) else name, device)
        codes_of = str(metadata["config"].get("sequences", {}).get("head", "another head"))
        head_model = load_built_in_head_model(head_weights)
        head_model.model.to(device)
        return cls(model.to(device), encoder, file_sha256(path), codes_of, head_model)

    @property
    def frame_rate(self) -> float:
        """Frames per second of codes and surfaces."""
        return FRAME_RATE

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.device

    def count_frames(self, num_samples: int) -> int:
        """Frames of a recording of `num_samples` at 16 kHz."""
        return count_frames(num_samples / SAMPLE_RATE, FRAME_RATE)

    def sample(
        self,
        samples: NDArray[np.float32],
        config: SamplingConfig,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Draw takes of a recording, window by window in constant memory.

        Args:
            samples: (S,) float32 at 16 kHz, may be memory-mapped.
            config: seed, takes, guidance, sampler.
            progress: called with the fraction done; may raise to stop.

        Yields:
            First frame of a window, and codes (K, n, E) float32. The windows follow each other.

        Raises:
            ValueError: the sampler cannot take so many steps.
            BackendError: the package of the samplers is missing.
        """
        normalization = self.encoder.fit_normalization(samples)

        def condition(first: int, count: int) -> torch.Tensor:
            return self.encoder.encode(samples, first, count, FRAME_RATE, normalization)

        first = 0
        for codes in sample_windows(self.model, condition, self.count_frames(len(samples)), config, progress):
            yield first, codes.cpu().numpy()
            first += codes.shape[1]

    def plan(self, num_vertices: int | None = None, identity: str | int | None = None, seed: int = 0) -> TrackedPlan:
        """Choose the mesh of a clip of a fixed topology.

        Args:
            num_vertices: vertices of the skin (the other parts come on top); None is the head's own mesh.
            identity: name or seed of an identity, or the file of a fitted scan; None is the mean head.
            seed: of the points on the surface.

        Raises:
            UsageError: `num_vertices` is out of range, or there is no such identity.
            BackendError: the scan's file is broken, or fitted with another head model or none is at hand.
        """
        chosen = self._choose(identity)
        plan = build_plan(self.head, self._skin_mesh(num_vertices, seed), num_vertices, chosen.built_in, seed)
        shapes = ShapesOnSkin(self.head, plan)
        skin: SkinMotion = shapes
        if self.head_model is not None:
            code = load_identity_codes().encode(plan.identity) if chosen.code is None else chosen.code
            skin = neural = NeuralOnSkin(self.head_model, code, self.head, plan, shapes, chosen.reach_m)
            if chosen.code is not None:
                plan = replace(plan, template_vertices=neural.form_of_model())
        fields = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
        return TrackedPlan(**fields, skin=skin)

    def surface_plan(self, identity: str | int | None = None, grid: int = 128) -> SurfacePlan:
        """Choose whose surface a mesh sequence shows, and how finely.

        Args:
            identity: name or seed of an identity, or the file of a fitted scan; None is the mean head.
            grid: cells along the longest side of the box.

        Raises:
            UsageError: there is no such identity.
            BackendError: there is no neural head model, or the scan's file is broken or of another one.
        """
        if self.head_model is None:
            raise BackendError(
                "a mesh sequence needs weights of the neural head model, and none ship with this version: name some "
                "(--head-weights), or choose the tracked surface."
            )
        chosen = self._choose(identity)
        plan = build_plan(self.head, self._skin_mesh(None, 0), None, chosen.built_in)
        canonical = replace(plan.head, vertices=plan.head.pose(self.head_model.canonical_weights))
        code = load_identity_codes().encode(plan.identity) if chosen.code is None else chosen.code
        return SurfacePlan(code, grid, plan.head.eye_centers, SurfaceColors(canonical))

    def extract(
        self,
        codes: NDArray[np.float32],
        samples: NDArray[np.float32],
        plan: SurfacePlan,
        seed: int,
        first_frame: int = 0,
        performance: bool = True,
    ) -> Iterator[FrameMesh]:
        """The meshes of a take, from a frame on; each the same wherever the sequence began.

        Args:
            codes: (T, E) of one take, may be memory-mapped.
            samples: (S,) float32 at 16 kHz, may be memory-mapped.
            plan: of `surface_plan`.
            seed: of the performance.
            first_frame: the first frame that is wanted.
            performance: put in planned blinks and gaze; the head does not turn.

        Raises:
            BackendError: there is no neural head model.
        """
        if self.head_model is None:
            raise BackendError("a mesh sequence needs weights of the neural head model; choose the tracked surface.")
        curves = CurvesOfTake(codes, samples, plan.eye_centers, seed, performance)
        return extract_frames(self.head_model, self.head, plan, curves, first_frame)

    def animate(
        self,
        codes: NDArray[np.float32],
        samples: NDArray[np.float32],
        plan: TrackedPlan,
        seed: int,
        performance: bool = True,
    ) -> TakeOnSkin:
        """A take on the mesh of a plan: iterate over its `animate`, then ask for its `tracks`.

        Args:
            codes: (T, E) of one take, may be memory-mapped.
            samples: (S,) float32 at 16 kHz, may be memory-mapped.
            plan: of `plan`.
            seed: of the performance.
            performance: put in planned blinks, gaze and head motion; without, the codes' own blinks are seen.
        """
        curves = CurvesOfTake(codes, samples, plan.head.eye_centers, seed, performance)
        return TakeOnSkin(self.head, plan, plan.skin, curves, samples, self.encoder)

    def _choose(self, identity: str | int | None) -> _ChosenIdentity:
        """Read an identity's file; of others there is nothing to read."""
        if not (isinstance(identity, str) and identity.endswith(SCAN_SUFFIX)):
            return _ChosenIdentity(identity, None, 0.0)
        if self.head_model is None:
            raise BackendError(
                f"{identity} is a fitted scan, which needs the neural head model that it was fitted with "
                "(--head-weights); name it, or choose an identity of the built-in head."
            )
        fitted = load_fitted_identity(Path(identity), self.head_model.sha256)
        parameters = fitted.facts.get("parameters") or {}
        text = ",".join(f"{name}={value:g}" for name, value in parameters.items())
        return _ChosenIdentity(text or None, fitted.identity_code.numpy(), _REACH_OF_SCAN_M)

    def _skin_mesh(self, num_vertices: int | None, seed: int) -> SkinMesh:
        if (num_vertices, seed) not in self._meshes:
            while len(self._meshes) >= _KEPT_MESHES:
                self._meshes.pop(next(iter(self._meshes)))
            self._meshes[num_vertices, seed] = build_skin_mesh(
                self.head, num_vertices, seed, _learned_probabilities(self.head)
            )
        return self._meshes[num_vertices, seed]


def _learned_probabilities(head: Head) -> NDArray[np.floating] | None:
    """Where MMTalker puts its points, so that one character is the same mesh with both; None without its weights."""
    if not MMTALKER_WEIGHTS.is_file():
        return None
    model, _ = load_mmtalker(MMTALKER_WEIGHTS)
    validate_head(model, head)
    return model.face_probabilities()


def _validate(model: FaceTalk, encoder: SpeechEncoder, codes_of: str) -> None:
    config = model.config
    if config.condition != "audio":
        raise BackendError(f"the FaceTalk weights are driven by {config.condition}, not by sound; choose others")
    if encoder.feature_size != config.condition_size or encoder.name != config.speech_encoder:
        raise BackendError(
            f"the FaceTalk weights were trained on {config.condition_size} features of '{config.speech_encoder}', but "
            f"the speech encoder is '{encoder.name}' with {encoder.feature_size}. Choose the encoder that belongs to "
            "the weights, or train weights for this one."
        )
    if codes_of != BUILT_IN_HEAD:
        raise BackendError(
            f"the FaceTalk weights speak in expression codes of {codes_of}, not of the built-in head; "
            "train weights on code sequences of the built-in head."
        )
