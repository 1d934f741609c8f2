"""MMTalker: speech features into displacements of any points of a face surface.

"MMTalker: Multiresolution 3D Talking Head Synthesis with Multimodal Feature Fusion". What the paper leaves open, and
what we read into it, is in docs/models/mmtalker.md.

Unit: the network predicts centimetres, in which face motion is of the order of one; `OFFSET_UNIT_METRES` converts.
Layout: vertices or points first, frames second, channels last, so that the sparse product over the vertices is a view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from torch_backend.modules.audio_features import GlobalAudioEncoder, LocalAudioEncoder, VertexEmbedding
from torch_backend.modules.cross_attention import ConcatenationFusion, DualCrossAttention
from torch_backend.modules.displacement_decoder import DisplacementDecoder
from torch_backend.modules.graph_convolution import (
    ResidualGraphConvolution,
    VertexTerms,
    build_adjacency,
    build_receptive_field,
)
from torch_backend.modules.motion_space import MotionSpace
from torch_backend.modules.sparse_product import SparseOperator
from torch_backend.modules.spatiotemporal_encoding import SpatioTemporalEncoding
from torch_backend.modules.surface_points import SurfacePoints
from torch_backend.modules.surface_probability import SurfaceProbability

KIND = "mmtalker"
OFFSET_UNIT_METRES = 0.01
FRAME_RATE = 30.0


@dataclass(frozen=True)
class MMTalkerConfig:
    """Sizes and ablation switches."""

    feature_size: int = 195
    """D, channels of the input: those of the speech encoder, then the expression controls."""
    speech_encoder: str = "shipped"
    """Name of the encoder that the features come from."""
    expression_controls: bool = True
    """Whether the last three channels are blink, brow raise and squint of audio/expression_controls.py."""
    hidden_size: int = 32
    """H, width of audio and vertex features."""
    encoding_size: int = 16
    """L, terms of the spatio-temporal encoding per UV coordinate."""
    decoder_size: int = 64
    """Width of the decoder's hidden layers."""
    attention_frames: int = 12
    """A query sees this many frames to either side."""
    window_frames: int = 90
    """Frames of a training window; also T of t / T where the encoding depends on time."""
    temporal_encoding: bool = False
    """The w t / T of the encoding. Off: it ties the motion to the length of the clip."""
    use_encoding: bool = True
    """Off: rest positions (x, y, z) stand in for the encoding (ablation STE)."""
    use_cross_attention: bool = True
    """Off: an MLP of the concatenation stands in for the dual cross-attention (ablation DCAM)."""
    use_graph: bool = True
    """Off: the adjacency is the identity, so that the two layers are MLPs (ablation RGCN)."""
    project_motion: bool = True
    """Project predictions on the space of the training motion, where the weights hold one. Off: the paper's output."""

    def __post_init__(self) -> None:
        for name in ("feature_size", "hidden_size", "encoding_size", "window_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.decoder_size < 2 or self.attention_frames < 0:
            raise ValueError(
                "expected decoder_size >= 2 and attention_frames >= 0, "
                f"got {self.decoder_size} and {self.attention_frames}"
            )


@dataclass(frozen=True)
class TemplateGraph:
    """The template surface that the network is tied to."""

    vertices: np.ndarray
    """(V, 3) float32, metres, at rest."""
    triangles: np.ndarray
    """(F, 3) int32."""
    uv: np.ndarray
    """(V, 2) float32 in [-0.98, 0.98], conformal map of the open-mouth pose."""
    key_vertices: np.ndarray
    """(P,) int32, the face's key points."""
    face_probabilities: np.ndarray
    """(F,) float32, initial sampling probabilities."""

    def __post_init__(self) -> None:
        num_vertices, num_faces = len(self.vertices), len(self.triangles)
        expected = {
            "vertices": (num_vertices, 3), "triangles": (num_faces, 3), "uv": (num_vertices, 2),
            "face_probabilities": (num_faces,), "key_vertices": (len(self.key_vertices),),
        }  # fmt: skip
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"expected {name} of shape {shape}, got {getattr(self, name).shape}")


@dataclass
class TrainingOutput:
    """What a training step needs of the network."""

    offsets: torch.Tensor
    """(T, M, 3) centimetres."""
    importance: torch.Tensor
    """(R,) weights of the randomly drawn points, mean 1."""
    divergence: torch.Tensor
    """() of the sampling probabilities from their start."""


@dataclass
class AudioCode:
    """Everything that the frames of a window share between vertices; row 0 is frame `first_frame` of the window."""

    local: torch.Tensor
    """h(t) (A, H)."""
    keys: torch.Tensor
    """(A, H)."""
    values: torch.Tensor
    """(A, H)."""
    fused: torch.Tensor
    """f_ag + Att^ (A, H)."""
    phase: tuple[torch.Tensor, torch.Tensor] | None
    """Cosine and sine of w t / T (A,); None where the encoding does not depend on time."""


class PointQuery:
    """Points prepared for `MMTalker.decode_frames`: which vertices they need, and how they interpolate them."""

    def __init__(self, model: MMTalker, points: SurfacePoints) -> None:
        self.num_points = len(points)
        needed = points.vertices()
        if len(needed) and needed[-1] >= model.num_vertices:
            raise ValueError(f"points use vertex {needed[-1]}, the template has {model.num_vertices}")
        everything = len(needed) == model.num_vertices
        self.field = build_receptive_field(model.adjacency, None if everything else needed).to(model.device)
        # Points that are the needed vertices in order need no interpolation.
        identity = len(points) == len(needed) and bool(
            (points.barycentric[:, 0] == 1).all() and (points.triangle_vertices[:, 0] == needed).all()
        )
        self.interpolation: SparseOperator | None = None if identity else points.interpolation(needed)


class MMTalker(nn.Module):
    """The network of the paper's Fig. 2, from speech features to displacements."""

    def __init__(self, config: MMTalkerConfig, template: TemplateGraph) -> None:
        super().__init__()
        self.config = config
        self.num_vertices = len(template.vertices)
        hidden = config.hidden_size
        self.register_buffer("template_vertices", torch.from_numpy(np.array(template.vertices, np.float32)))
        self.register_buffer("template_triangles", torch.from_numpy(np.array(template.triangles, np.int32)))
        self.register_buffer("template_uv", torch.from_numpy(np.array(template.uv, np.float32)))
        self.register_buffer("key_vertices", torch.from_numpy(np.array(template.key_vertices, np.int32)))
        self.adjacency = build_adjacency(template.triangles, self.num_vertices) if config.use_graph else None
        self._full_adjacency = SparseOperator(self.adjacency) if self.adjacency is not None else None
        self._key_field = build_receptive_field(self.adjacency, np.unique(template.key_vertices))

        self.encoding = SpatioTemporalEncoding(config.encoding_size, config.temporal_encoding)
        encoding_size = self.encoding.size if config.use_encoding else 3
        self.global_audio = GlobalAudioEncoder(config.feature_size, hidden)
        self.local_audio = LocalAudioEncoder(config.feature_size, hidden)
        self.vertex_embedding = VertexEmbedding(encoding_size, hidden)
        self.graph = ResidualGraphConvolution(encoding_size, hidden)
        self.fusion: DualCrossAttention | ConcatenationFusion = (
            DualCrossAttention(hidden, config.attention_frames)
            if config.use_cross_attention
            else ConcatenationFusion(hidden)
        )
        self.decoder = DisplacementDecoder(hidden, config.decoder_size)
        self.probability = SurfaceProbability(torch.from_numpy(np.array(template.face_probabilities, np.float32)))
        self.motion_space: MotionSpace | None = None
        """Of the training motion, in centimetres; set when a model is trained, and by the loader."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.decoder.output.weight.device

    def compute_vertex_terms(self) -> VertexTerms:
        """What layer 1 of the graph needs of each vertex and not of the audio; computed once for a whole clip."""
        uv: torch.Tensor = self.template_uv  # type: ignore[assignment]
        if self.config.use_encoding:
            parts = self.encoding.static_parts(uv)
        else:
            positions: torch.Tensor = self.template_vertices  # type: ignore[assignment]
            parts = (positions / positions.abs().max(), torch.zeros_like(positions))
        return self.graph.compute_vertex_terms(parts, self.vertex_embedding(parts[0]), self._full_adjacency)

    def encode_audio(self, features: torch.Tensor, terms: VertexTerms, first_frame: int = 0) -> AudioCode:
        """Everything of a window that does not depend on the vertex.

        Args:
            features: (A, D) speech features; the LSTM starts at the first of them.
            terms: of `compute_vertex_terms`.
            first_frame: of `features` within its window, where the encoding depends on time.
        """
        global_audio = self.global_audio(features)
        local = self.local_audio(features)
        phase = None
        if self.config.use_encoding and self.config.temporal_encoding:
            frames = torch.arange(first_frame, first_frame + len(features), device=features.device)
            phase = self.encoding.phase(frames / self.config.window_frames)
        pooled = self.graph(terms, local, phase, self._key_field.to(self.device)).mean(dim=0)  # (A, H)
        return AudioCode(
            local=local,
            keys=self.fusion.key(global_audio),
            values=self.fusion.value(global_audio),
            fused=self.fusion.fuse_frames(global_audio, pooled),
            phase=phase,
        )

    def decode_frames(
        self, code: AudioCode, terms: VertexTerms, query: PointQuery, start: int, stop: int
    ) -> torch.Tensor:
        """Displacements of points in some frames of a window.

        Args:
            code: the window.
            terms: of `compute_vertex_terms`.
            query: the points.
            start: first row of `code`.
            stop: row after the last one.

        Returns:
            (M, stop - start, 3) centimetres.
        """
        phase = None if code.phase is None else (code.phase[0][start:stop], code.phase[1][start:stop])
        vertex_features = self.graph(terms, code.local[start:stop], phase, query.field)  # (S, T, H)
        fused = self.fusion.fuse_vertices(vertex_features, code.keys, code.values, start)
        if query.interpolation is not None:
            fused = query.interpolation(fused)  # (M, T, H)
        return self.decoder(fused, code.fused[start:stop])

    def forward(self, features: torch.Tensor, points: SurfacePoints, drawn_faces: torch.Tensor) -> TrainingOutput:
        """Displacements of points over a whole window, and the weights of the drawn points.

        Args:
            features: (T, D).
            points: M points of the surface.
            drawn_faces: (R,) triangles of the points that were drawn from the initial probabilities.
        """
        terms = self.compute_vertex_terms()
        code = self.encode_audio(features, terms)
        query = PointQuery(self, points)
        offsets = self.decode_frames(code, terms, query, 0, len(features)).transpose(0, 1)
        return TrainingOutput(offsets, self.probability.importance_weights(drawn_faces), self.probability.divergence())

    def face_probabilities(self) -> np.ndarray:
        """The learned sampling probabilities (F,), summing to 1."""
        with torch.no_grad():
            return self.probability.log_probabilities().exp().cpu().numpy()


class PointDecoder:
    """Displacements of points, projected on the model's motion space where it has one and is to use it."""

    def __init__(
        self,
        model: MMTalker,
        points: SurfacePoints,
        project: bool = True,
        change: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """Prepare the points.

        Args:
            model: the network.
            points: M points of the surface.
            project: False leaves the projection out even where the model has a motion space.
            change: takes the weights (T, K) of the motion space's shapes and returns others.
        """
        self._model, self._change = model, change
        self._space = model.motion_space if project and model.config.project_motion else None
        self._query = PointQuery(model, points if self._space is None else self._space.fit_points())
        self._shapes = None if self._space is None else self._space.shapes_at(points).flatten(1)  # (K, 3M)

    def decode(self, code: AudioCode, terms: VertexTerms, start: int, stop: int) -> torch.Tensor:
        """Displacements (stop - start, M, 3) float32 in centimetres of frames of a window; see `decode_frames`."""
        return self.decode_with_weights(code, terms, start, stop)[0]

    def decode_with_weights(
        self, code: AudioCode, terms: VertexTerms, start: int, stop: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and the weights (stop - start, K) of the motion space's shapes; K is 0 where it is not used."""
        offsets = self._model.decode_frames(code, terms, self._query, start, stop).float()
        if self._space is None or self._shapes is None:
            return offsets.transpose(0, 1), offsets.new_zeros(stop - start, 0)
        with torch.autocast(offsets.device.type, enabled=False):  # weights of a whole face deserve all digits
            weights = self._space.compute_weights(offsets)
            if self._change is not None:
                weights = self._change(weights)
            moved = weights @ self._shapes
        return moved.reshape(stop - start, -1, 3), weights
