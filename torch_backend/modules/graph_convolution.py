"""Residual graph convolution over the template mesh (MMTalker, eq. 2 and 3, Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import nn
from torch.nn import functional

from torch_backend.modules.sparse_product import SparseOperator


def build_adjacency(triangles: np.ndarray, num_vertices: int) -> scipy.sparse.csr_matrix:
    """A_ij = 1 where i = j, 1 / deg(i) where (i, j) is an edge, else 0 (MMTalker, eq. 3).

    Args:
        triangles: (F, 3) vertex indices.
        num_vertices: V.

    Returns:
        (V, V) sparse matrix; a vertex without edges has its diagonal entry only.

    Raises:
        ValueError: an index is out of range.
    """
    triangles = np.asarray(triangles, dtype=np.int64)
    if triangles.size and (triangles.min() < 0 or triangles.max() >= num_vertices):
        raise ValueError(f"triangle indices span {triangles.min()}..{triangles.max()}, expected 0..{num_vertices - 1}")
    starts = triangles.ravel()
    ends = np.roll(triangles, -1, axis=1).ravel()
    ones = np.ones(2 * len(starts))
    pairs = (np.concatenate([starts, ends]), np.concatenate([ends, starts]))
    edges = scipy.sparse.coo_matrix((ones, pairs), shape=(num_vertices, num_vertices)).tocsr()
    edges.data[:] = 1.0  # an edge of two triangles counts once
    degrees = np.asarray(edges.sum(axis=1)).ravel()
    return (scipy.sparse.diags(1.0 / np.maximum(degrees, 1.0)) @ edges + scipy.sparse.identity(num_vertices)).tocsr()


@dataclass
class ReceptiveField:
    """The vertices that the second layer is wanted at, and those of the first layer that it reads."""

    inner: torch.Tensor | None
    """(S1,) vertex indices of the first layer; None means all of them, in order."""
    outer_in_inner: torch.Tensor | None
    """(S2,) positions of the wanted vertices within `inner`; None means the same vertices in the same order."""
    adjacency: SparseOperator | None
    """(S2, S1) rows of A; None switches the graph off (A = identity)."""

    def to(self, device: torch.device) -> ReceptiveField:
        """The same, with its indices on a device."""
        inner = None if self.inner is None else self.inner.to(device)
        outer = None if self.outer_in_inner is None else self.outer_in_inner.to(device)
        return ReceptiveField(inner, outer, self.adjacency)


def build_receptive_field(adjacency: scipy.sparse.csr_matrix | None, vertices: np.ndarray | None) -> ReceptiveField:
    """What the two layers must compute to give the features of some vertices, exactly.

    Args:
        adjacency: (V, V) of `build_adjacency`, or None without graph.
        vertices: (S2,) distinct vertex indices, or None for all.
    """
    if vertices is None:
        return ReceptiveField(None, None, None if adjacency is None else SparseOperator(adjacency))
    if adjacency is None:
        return ReceptiveField(torch.from_numpy(np.asarray(vertices, dtype=np.int64)), None, None)
    rows = adjacency[vertices]
    inner = np.unique(rows.indices)
    columns = np.searchsorted(inner, rows.indices)
    part = scipy.sparse.csr_matrix((rows.data, columns, rows.indptr), shape=(len(vertices), len(inner)))
    outer = np.searchsorted(inner, vertices)  # the diagonal of A makes every wanted vertex an inner one
    return ReceptiveField(torch.from_numpy(inner.astype(np.int64)), torch.from_numpy(outer), SparseOperator(part))


@dataclass
class VertexTerms:
    """The parts of layer 1 that do not depend on the audio: one row a vertex (V, H)."""

    embedding: torch.Tensor
    """e(s): the local audio feature of vertex s is h(t) * e(s)."""
    gathered_embedding: torch.Tensor
    """A e."""
    encoding: tuple[torch.Tensor, torch.Tensor]
    """A f W for the cosine and the sine part of the encoding."""
    residual: tuple[torch.Tensor, torch.Tensor]
    """f R for both parts."""

    def at(self, vertices: torch.Tensor | None) -> VertexTerms:
        """The rows of some vertices; None means all."""
        if vertices is None:
            return self
        return VertexTerms(
            self.embedding[vertices],
            self.gathered_embedding[vertices],
            (self.encoding[0][vertices], self.encoding[1][vertices]),
            (self.residual[0][vertices], self.residual[1][vertices]),
        )


class ResidualGraphConvolution(nn.Module):
    """Two layers O^(l+1) = ReLU(A O^l W^l + b) with residual links, on O^0 = f_st (+) f_al.

    Layer 1 has a linear residual link, as its width changes; layer 2 has the identity.

    Because the local audio feature is a product, f_al(s, t) = h(t) * e(s), and A acts on vertices only,
    A f_al = h(t) * (A e)(s): layer 1 needs no sparse product per frame, and its static half is computed once. This is
    exact; tests/backend/test_mmtalker_modules.py holds it against the formula as printed.
    """

    def __init__(self, encoding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.encoding_size = encoding_size
        self.first = nn.Linear(encoding_size + hidden_size, hidden_size)
        self.first_residual = nn.Linear(encoding_size + hidden_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)

    def compute_vertex_terms(
        self,
        encoding: tuple[torch.Tensor, torch.Tensor],
        embedding: torch.Tensor,
        adjacency: SparseOperator | None,
    ) -> VertexTerms:
        """The static half of layer 1.

        Args:
            encoding: cosine and sine part of f_st, each (V, E).
            embedding: (V, H).
            adjacency: (V, V), or None without graph.
        """
        gather = adjacency if adjacency is not None else _identity
        weight = self.first.weight[:, : self.encoding_size]
        residual_weight = self.first_residual.weight[:, : self.encoding_size]
        cosine, sine = encoding
        return VertexTerms(
            embedding=embedding,
            gathered_embedding=gather(embedding),
            encoding=(
                functional.linear(gather(cosine), weight),
                functional.linear(gather(sine), weight),
            ),
            residual=(
                functional.linear(cosine, residual_weight),
                functional.linear(sine, residual_weight),
            ),
        )

    def forward(
        self,
        terms: VertexTerms,
        local: torch.Tensor,
        phase: tuple[torch.Tensor, torch.Tensor] | None,
        field: ReceptiveField,
    ) -> torch.Tensor:
        """Features of the wanted vertices.

        Args:
            terms: static half, of all V vertices.
            local: (T, H) local audio feature h(t).
            phase: cosine and sine of w t / T, (T,) each; None where w = 0.
            field: which vertices are wanted.

        Returns:
            f_p (S2, T, H).
        """
        terms = terms.at(field.inner)
        weight = self.first.weight[:, self.encoding_size :]
        residual_weight = self.first_residual.weight[:, self.encoding_size :]
        hidden = functional.linear(local * terms.gathered_embedding[:, None], weight)  # (S1, T, H)
        hidden = functional.relu(hidden + (_mixed(terms.encoding, phase) + self.first.bias))
        residual = functional.linear(local * terms.embedding[:, None], residual_weight)
        first = hidden + residual + (_mixed(terms.residual, phase) + self.first_residual.bias)
        second = functional.linear(first, self.second.weight)
        if field.adjacency is not None:
            second = field.adjacency(second)  # (S2, T, H)
        second = functional.relu(second + self.second.bias)
        kept = first if field.outer_in_inner is None else first[field.outer_in_inner]
        return second + kept


def _mixed(parts: tuple[torch.Tensor, torch.Tensor], phase: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
    """Cosine and sine part (S, H) at the frames' phases: (S, T, H), or (S, 1, H) where nothing depends on time."""
    if phase is None:
        return parts[0][:, None]
    return parts[0][:, None] * phase[0][:, None] - parts[1][:, None] * phase[1][:, None]


def _identity(values: torch.Tensor) -> torch.Tensor:
    return values
