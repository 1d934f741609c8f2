"""The linear space of the motion that a network learned from, and the projection of its predictions on it."""

from __future__ import annotations

import torch
from torch import nn

from torch_backend.modules.surface_points import SurfacePoints


class MotionSpace(nn.Module):
    """K shapes of the template surface, and how to find the weights of the mixture nearest to a motion.

    A motion is seen at P vertices of the template, the fit vertices; whatever it does elsewhere has no part in the fit.
    """

    shapes: torch.Tensor
    """(K, V, 3) displacements at weight 1, in the network's unit."""
    fit_vertices: torch.Tensor
    """(P,) int64, ascending."""
    fit_matrix: torch.Tensor
    """(K, P, 3): weight k = sum over p, d of fit_matrix[k, p, d] * offset[p, d]."""

    def __init__(self, shapes: torch.Tensor, fit_vertices: torch.Tensor, fit_matrix: torch.Tensor) -> None:
        """Take the three tensors as they are.

        Raises:
            ValueError: their shapes do not belong together, or the fit vertices do not ascend.
        """
        super().__init__()
        expected = (len(shapes), len(fit_vertices), 3)
        if shapes.ndim != 3 or shapes.shape[2] != 3 or tuple(fit_matrix.shape) != expected:
            raise ValueError(
                f"expected shapes (K, V, 3) and fit_matrix {expected}, "
                f"got {tuple(shapes.shape)} and {tuple(fit_matrix.shape)}"
            )
        num_vertices = shapes.shape[1]
        ascending = bool((fit_vertices[1:] > fit_vertices[:-1]).all())
        if not len(fit_vertices) or not ascending or fit_vertices[0] < 0 or fit_vertices[-1] >= num_vertices:
            raise ValueError(
                f"expected ascending fit vertices below {num_vertices}, got {fit_vertices.tolist()[:8]} ..."
            )
        self.register_buffer("shapes", shapes.detach().float())
        self.register_buffer("fit_vertices", fit_vertices.detach().long())
        self.register_buffer("fit_matrix", fit_matrix.detach().float())

    def __len__(self) -> int:
        return len(self.shapes)

    def fit_points(self) -> SurfacePoints:
        """The fit vertices as points of the surface."""
        return SurfacePoints.at_vertices(self.fit_vertices.cpu().numpy())

    def compute_weights(self, offsets: torch.Tensor) -> torch.Tensor:
        """Weights (T, K) of the mixture nearest to a motion.

        Args:
            offsets: (P, T, 3) displacements of the fit vertices.
        """
        return torch.einsum("ptd,kpd->tk", offsets.float(), self.fit_matrix)

    def shapes_at(self, points: SurfacePoints) -> torch.Tensor:
        """Shapes (K, M, 3) at points of the surface, interpolated in their triangles."""
        corners = torch.from_numpy(points.triangle_vertices).to(self.shapes.device)
        shares = torch.from_numpy(points.barycentric).to(self.shapes)
        first, second, third = (self.shapes[:, corners[:, c]] * shares[None, :, c, None] for c in range(3))
        return first + second + third
