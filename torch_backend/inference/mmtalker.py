"""MMTalker as a predictor: a recording in, vertex displacements out, window by window in constant memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BackendError, UsageError
from blender_talkhead.contract.motion_clip import ClipTemplate
from blender_talkhead.facial.identities import resolve_identity
from torch_backend.audio.expression_controls import NUM_CONTROLS, compute_controls
from torch_backend.audio.frame_grid import count_frames
from torch_backend.audio.speech_encoder import SpeechEncoder, load_speech_encoder
from torch_backend.head import Head, load_head
from torch_backend.head.attachments import follow_skin
from torch_backend.head.hair import hair_of_identity
from torch_backend.head.identity import apply_identity, identity_jacobians
from torch_backend.head.parts_motion import follow_jaw
from torch_backend.head.tongue_motion import build_tongue_motion
from torch_backend.inference.lip_seal import LipSeal
from torch_backend.inference.skin_mesh import (
    SkinMesh,
    append_parts,
    build_skin_mesh,
    interpolate_points,
    read_skin_texture,
    read_textures,
)
from torch_backend.inference.spoken_tongue import SpokenTongue
from torch_backend.models.builders import load_mmtalker
from torch_backend.models.checkpoints import file_sha256
from torch_backend.models.mmtalker import FRAME_RATE, OFFSET_UNIT_METRES, MMTalker, PointDecoder
from torch_backend.modules.surface_points import SurfacePoints

logger = logging.getLogger(__name__)

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "mmtalker.safetensors"
SHIPPED_PREFIX = "shipped"
"""Names of the encoder that ships begin so; a version follows."""
SAMPLE_RATE = 16_000
CONTEXT_FRAMES = 45
"""Frames of context to either side of a window; the LSTM starts at the first of them. What a frame gets then does not
depend on where the windows lie, to less than 0.05 mm (tests/backend/test_mmtalker_inference.py)."""
WINDOW_FRAMES = 150
"""Frames of a window: longer ones waste less on context, shorter ones need less memory."""
BLOCK_FRAMES = 8
"""Frames whose vertices are computed at once: small enough to stay in the processor's cache."""
HEAD_TOLERANCE_M = 1e-3
_KEPT_MESHES = 2

Precision = Literal["auto", "float32", "bfloat16"]
MotionChange = Callable[[int, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class MMTalkerPlan(ClipTemplate):
    """The mesh of a clip, and what its animation needs beside it."""

    points: SurfacePoints
    """Points of the skin, one a skin vertex of the clip."""
    num_vertices: int | None
    """As asked for; None is the head's own mesh."""
    identity: dict[str, float] = field(default_factory=dict)
    """Resolved parameters; empty for the mean head."""
    seed: int = 0
    head: Head
    """The head with the identity applied."""
    jacobians: NDArray[np.float32] | None = None
    """(M + A, 3, 3) of the skin points and the anchors of jaw and hairs; None for the mean head."""


class MMTalkerPredictor:
    """Set up once, predicts many recordings."""

    def __init__(
        self,
        model: MMTalker,
        encoder: SpeechEncoder,
        weights_sha256: str,
        precision: Literal["float32", "bfloat16"],
        project_motion: bool = True,
    ) -> None:
        """Use `load` unless the model is at hand already.

        Raises:
            BackendError: the weights were trained on other features or on another head.
        """
        self.model = model
        self.encoder = encoder
        self.weights_sha256 = weights_sha256
        self.precision = precision
        self.project_motion = project_motion and model.config.project_motion and model.motion_space is not None
        """Whether predictions are projected on the space of the training motion."""
        self.head = load_head()
        self._anchors = anchor_points(self.head)
        self._meshes: dict[tuple[int | None, int], SkinMesh] = {}
        _validate_encoder(model, encoder)
        validate_head(model, self.head)
        space = model.motion_space if self.project_motion else None
        self._seal = None if space is None else LipSeal(self.head, space)

    @classmethod
    def load(
        cls,
        weights: Path | None = None,
        encoder: SpeechEncoder | None = None,
        device: str = "cpu",
        precision: Precision = "auto",
        project_motion: bool = True,
    ) -> MMTalkerPredictor:
        """Read the weights.

        Args:
            weights: checkpoint; None is the shipped one.
            encoder: the speech encoder that the weights were trained with; None loads the one they name.
            device: torch device.
            precision: auto is float32; bfloat16 is faster where the processor has it, and up to 0.1 mm off.
            project_motion: project predictions on the space of the training motion, where the weights hold one; False
                gives the network's own output, as in the paper, which needs a shape key for nearly every frame.

        Raises:
            BackendError: weights or encoder are missing, broken, of another version, or do not belong together.
        """
        path = Path(weights) if weights is not None else DEFAULT_WEIGHTS
        model, metadata = load_mmtalker(path)
        if encoder is None:
            name = metadata["config"]["model"]["speech_encoder"]
            encoder = load_speech_encoder(None if name.startswith(SHIPPED_PREFIX) else name, device)
        return cls(model.to(device), encoder, file_sha256(path), choose_precision(precision, device), project_motion)

    @property
    def frame_rate(self) -> float:
        """Frames per second of what `animate` gives."""
        return FRAME_RATE

    def count_frames(self, num_samples: int) -> int:
        """Frames that `animate` gives for a recording of `num_samples` at 16 kHz."""
        return count_frames(num_samples / SAMPLE_RATE, FRAME_RATE)

    def plan(self, num_vertices: int | None = None, identity: str | int | None = None, seed: int = 0) -> MMTalkerPlan:
        """Choose the mesh of a clip.

        Args:
            num_vertices: vertices of the skin (the other parts come on top); None is the head's own mesh.
            identity: name or seed of an identity; None is the mean head.
            seed: of the points on the surface.

        Raises:
            UsageError: `num_vertices` is out of range, or there is no such identity.
        """
        return build_plan(self.head, self.skin_mesh(num_vertices, seed), num_vertices, identity, seed)

    def skin_mesh(self, num_vertices: int | None = None, seed: int = 0) -> SkinMesh:
        """Points and polygons of the skin; those asked for last are kept.

        Raises:
            UsageError: `num_vertices` is out of range.
        """
        if (num_vertices, seed) not in self._meshes:
            while len(self._meshes) >= _KEPT_MESHES:
                self._meshes.pop(next(iter(self._meshes)))
            self._meshes[num_vertices, seed] = build_skin_mesh(
                self.head, num_vertices, seed, self.model.face_probabilities()
            )
        return self._meshes[num_vertices, seed]

    def animate(
        self,
        samples: NDArray[np.float32],
        plan: MMTalkerPlan,
        progress: Callable[[float], None] | None = None,
        change: MotionChange | None = None,
        tongue: SpokenTongue | None = None,
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Displacements of every vertex of the clip, block by block.

        Args:
            samples: (S,) float32 at 16 kHz, may be memory-mapped.
            plan: of `plan`.
            progress: called with the fraction done; may raise to stop.
            change: given the first frame of a block, its displacements (n, P, 3) of the mean head at `decoded_points`
                in metres, and its weights (n, K) of the motion space's shapes, returns other displacements.
            tongue: of `spoken_tongue`, for those who want its curves; None makes one.

        Yields:
            First frame of a block, and vertex_offsets (n, V, 3) float32 in metres. The blocks follow each other.
        """
        num_frames = self.count_frames(len(samples))
        tongue = tongue or self.spoken_tongue(samples, plan)
        for first_frame, decoded, weights in self._decode_with_weights(samples, num_frames, self.decoded_points(plan)):
            changed = decoded if change is None else change(first_frame, decoded, weights)
            vertex_offsets = self.complete(changed, plan)
            tongue.move(first_frame, vertex_offsets)
            yield first_frame, vertex_offsets
            if progress is not None:
                progress((first_frame + len(decoded)) / num_frames)

    def spoken_tongue(self, samples: NDArray[np.float32], plan: MMTalkerPlan) -> SpokenTongue:
        """The gestures that the tongue makes in a recording; none with an encoder that knows no phones."""
        motion = build_tongue_motion(self.head, plan.head, plan.identity)
        return SpokenTongue(motion, plan.parts["tongue"], self.encoder, samples, self.count_frames(len(samples)))

    def decoded_points(self, plan: MMTalkerPlan) -> SurfacePoints:
        """The points that the network is asked for: those of the clip's skin, then the anchors of jaw and hairs."""
        return plan.points.joined(self._anchors)

    def _decode(
        self,
        samples: NDArray[np.float32],
        num_frames: int,
        points: SurfacePoints,
        window_frames: int = WINDOW_FRAMES,
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Displacements (n, M, 3) of the mean head's points in metres, block by block."""
        for first, decoded, _ in self._decode_with_weights(samples, num_frames, points, window_frames):
            yield first, decoded

    def _decode_with_weights(
        self,
        samples: NDArray[np.float32],
        num_frames: int,
        points: SurfacePoints,
        window_frames: int = WINDOW_FRAMES,
    ) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """The same, and the weights (n, K) of the motion space's shapes."""
        window, context = window_frames, CONTEXT_FRAMES
        if self.model.config.temporal_encoding:  # t / T is defined within a training window only
            window, context = self.model.config.window_frames, 0
        with torch.inference_mode():
            terms = self.model.compute_vertex_terms()
            decoder = PointDecoder(self.model, points, self.project_motion, self._seal)
        features = _RollingFeatures(self.encoder, samples, num_frames, self.model.config.expression_controls)
        for start in range(0, num_frames, window):
            stop = min(start + window, num_frames)
            low, high = start - context, stop + context  # beyond the ends the first and the last frame are repeated
            with torch.inference_mode():
                code = self.model.encode_audio(features.read(low, high).to(self.model.device), terms)
            for first in range(start, stop, BLOCK_FRAMES):
                last = min(first + BLOCK_FRAMES, stop)
                with torch.inference_mode(), self._autocast():
                    block, weights = decoder.decode_with_weights(code, terms, first - low, last - low)
                yield first, block.cpu().numpy() * np.float32(OFFSET_UNIT_METRES), weights.cpu().numpy()

    def complete(self, decoded: NDArray[np.float32], plan: MMTalkerPlan) -> NDArray[np.float32]:
        """Displacements of the mean head's points (n, M + A, 3) into those of all vertices of the clip."""
        return complete_motion(carry_to_identity(decoded, plan), plan)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)


def build_plan(
    head: Head, mesh: SkinMesh, num_vertices: int | None, identity: str | int | None, seed: int = 0
) -> MMTalkerPlan:
    """Give an identity to the mesh of a clip.

    Args:
        head: the mean head.
        mesh: points of its skin and the polygons between them.
        num_vertices: as asked for, kept with the plan.
        identity: name, seed or parameters of an identity; None is the mean head.
        seed: of the points, kept with the plan.

    Raises:
        UsageError: there is no such identity.
    """
    polygon_starts, polygon_vertices, corner_uvs, parts = append_parts(head, mesh)
    parameters = _resolve_identity(identity)
    changed = apply_identity(head, parameters) if parameters else head
    jacobians = None
    if parameters:
        of_vertices = np.asarray(identity_jacobians(head, parameters), np.float32)
        decoded = mesh.points.joined(anchor_points(head))
        jacobians = interpolate_points(decoded, of_vertices).astype(np.float32)
    return MMTalkerPlan(
        template_vertices=values_with_parts(head, mesh.points, changed.vertices),
        polygon_starts=polygon_starts,
        polygon_vertices=polygon_vertices,
        corner_uvs=corner_uvs,
        vertex_colors=np.clip(values_with_parts(head, mesh.points, changed.vertex_colors), 0.0, 1.0),
        regions=mesh.regions,
        parts=parts,
        skin_texture_png=read_skin_texture(),
        textures=read_textures(),
        hair=hair_of_identity(parameters),
        points=mesh.points,
        num_vertices=num_vertices,
        identity=parameters,
        seed=seed,
        head=changed,
        jacobians=jacobians,
    )


def carry_to_identity(decoded: NDArray[np.float32], plan: MMTalkerPlan) -> NDArray[np.float32]:
    """Displacements (n, M + A, 3) of the mean head's points as the plan's identity has them."""
    if plan.jacobians is None:
        return decoded
    carried: NDArray[np.float32] = np.einsum("mij,tmj->tmi", plan.jacobians, decoded)
    return carried


def complete_motion(moved: NDArray[np.float32], plan: MMTalkerPlan) -> NDArray[np.float32]:
    """Displacements of the identity's skin points and anchors (n, M + A, 3) into those of all vertices of the clip."""
    num_points = len(plan.points)
    first_hair = num_points + len(plan.head.regions["jaw_anchor"])
    parts = follow_jaw(plan.head, moved[:, num_points:first_hair])
    hairs = follow_skin(plan.head.attachment_weights, moved[:, first_hair:])
    parts[:, parts.shape[1] - hairs.shape[1] :] = hairs
    return np.concatenate([moved[:, :num_points], parts], axis=1).astype(np.float32)


def values_with_parts(head: Head, points: SurfacePoints, values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Values (V, ...) of all the head's vertices, the skin's at points instead of vertices."""
    skin = head.num_skin_vertices
    return np.concatenate([interpolate_points(points, values[:skin]), values[skin:]]).astype(np.float32)


def anchor_points(head: Head) -> SurfacePoints:
    """The skin vertices that the other parts follow: the jaw's anchor, then the anchors of brows and lashes."""
    return SurfacePoints.at_vertices(np.concatenate([head.regions["jaw_anchor"], head.attachment_anchors]))


class _RollingFeatures:
    """Input of successive, overlapping frame ranges; every frame is encoded once."""

    def __init__(
        self, encoder: SpeechEncoder, samples: NDArray[np.float32], num_frames: int, expression_controls: bool
    ) -> None:
        self.encoder = encoder
        self.samples = samples
        self.num_frames = num_frames
        self.normalization = encoder.fit_normalization(samples)
        # Three numbers a frame for the whole recording: they look at all of it, and are small.
        self.controls = compute_controls(samples, num_frames, FRAME_RATE) if expression_controls else None
        self._start = 0
        self._kept: torch.Tensor | None = None

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Channels (stop - start, D) of frames start .. stop - 1; neither may go back.

        Before the recording and after it, its first and last frame are repeated: padding with zeros would be heard as
        a sound, and lips at rest would move at the ends.
        """
        if self._kept is None:
            self._kept, self._start = self._encode(start, stop), start
            return self._kept
        first_new = self._start + len(self._kept)
        kept = self._kept[start - self._start :]
        self._kept = torch.cat([kept, self._encode(first_new, stop)]) if stop > first_new else kept
        self._start = start
        return self._kept

    def _encode(self, start: int, stop: int) -> torch.Tensor:
        first, last = min(max(start, 0), self.num_frames - 1), max(min(stop, self.num_frames), 1)
        first = min(first, last - 1)
        features = self.encoder.encode(self.samples, first, last - first, FRAME_RATE, self.normalization)
        if self.controls is not None:
            controls = torch.from_numpy(self.controls[first:last]).to(features.device)
            features = torch.cat([features, controls], dim=1)
        frames = torch.arange(start, stop, device=features.device).clamp(first, last - 1) - first
        return features[frames]


def choose_precision(precision: Precision, device: str = "cpu") -> Literal["float32", "bfloat16"]:
    """The precision to compute in.

    bfloat16 is off by up to 0.1 mm on the lips, which a bake with a limit of 0.02 mm would store faithfully: "auto" is
    float32. On a processor without bfloat16 arithmetic (AVX-512 BF16 or AMX) it would be slower, so float32 is taken.

    Raises:
        ValueError: no such precision.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"expected auto, float32 or bfloat16, got {precision!r}")
    if precision != "bfloat16":
        return "float32"
    if device == "cpu" and not has_fast_bfloat16():
        logger.warning("this processor has no bfloat16 arithmetic: computing in float32")
        return "float32"
    return "bfloat16"


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _resolve_identity(identity: str | int | None) -> dict[str, float]:
    try:
        return resolve_identity(identity)
    except ValueError as error:
        raise UsageError(f"--identity: {error}") from error


def _validate_encoder(model: MMTalker, encoder: SpeechEncoder) -> None:
    config = model.config
    wanted = config.feature_size - (NUM_CONTROLS if config.expression_controls else 0)
    if encoder.feature_size != wanted or encoder.name != config.speech_encoder:
        raise BackendError(
            f"the MMTalker weights were trained on {wanted} features of '{config.speech_encoder}', but "
            f"the speech encoder is '{encoder.name}' with {encoder.feature_size}. Choose the encoder that belongs to "
            "the weights, or train weights for this one."
        )


def validate_head(model: MMTalker, head: Head) -> None:
    """Check that a model was trained on a head.

    Raises:
        BackendError: it was trained on another one.
    """
    triangles = model.template_triangles.cpu().numpy()  # type: ignore[operator]
    vertices = model.template_vertices.cpu().numpy()  # type: ignore[operator]
    same = triangles.shape == head.skin_triangles.shape and bool((triangles == head.skin_triangles).all())
    if not same or np.abs(vertices - head.vertices[: head.num_skin_vertices]).max() > HEAD_TOLERANCE_M:
        raise BackendError(
            "the MMTalker weights belong to another head than the one that ships with this version. "
            "Install the extension again, or train the weights again."
        )
