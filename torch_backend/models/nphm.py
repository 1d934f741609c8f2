"""Neural parametric head models: a signed distance field of 39 local members, and a deformation by the expression.

`BackwardNPHM` warps points of the posed space back to the canonical one; it is the model that FaceTalk animates
("FaceTalk", section 3; the same network as in "DPHM", CVPR 2024). `ForwardNPHM` is the first release ("Learning Neural
Parametric Head Models", CVPR 2023), which carries canonical points to the posed space. Lengths are in the model's own
unit; in the official data the face fills about [-0.4, 0.4].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from torch_backend.models.nphm_config import BackwardNPHMConfig, ForwardNPHMConfig, IdentitySizes
from torch_backend.modules.conditioned_network import ConditionedNetwork
from torch_backend.modules.deformation_inverse import Inverse, invert_deformation
from torch_backend.modules.member_networks import MemberNetworks

BACKWARD_KIND = "nphm_backward"
FORWARD_KIND = "nphm_forward"
OFFICIAL_BOUNDS = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))
"""Lower and upper corner of the box that official heads lie in, in their unit."""

GLOBAL_MEMBER_DISTANCE = 0.75
"""Of every point to the global member (backward model)."""
_KERNEL_VARIANCE = 0.1**2
_BACKGROUND_EXPONENT = -0.2 / _KERNEL_VARIANCE
_FORWARD_WEIGHT_FLOOR = 1e-9
"""Members with less of the weight are not evaluated in the forward model; 39 of them stay below float32's rounding."""
_COMPRESSED_NOISE = 1.0 / 200.0
_POINTS_AT_ONCE = 4096
"""Without gradients, points are taken in pieces of this size: activations then stay in the processor's cache."""
_SMALLEST_SQUARE = 1e-12


class AnchorNetwork(nn.Module):
    """Mean anchors plus an offset by the global part of the identity code."""

    mean: torch.Tensor

    def __init__(self, sizes: IdentitySizes, hidden_size: int, mean: torch.Tensor | None) -> None:
        super().__init__()
        expected = (sizes.num_anchors, 3)
        mean = torch.zeros(expected) if mean is None else mean.detach().clone().float()
        if tuple(mean.shape) != expected:
            raise ValueError(f"expected anchors of shape {expected}, got {tuple(mean.shape)}")
        self.register_buffer("mean", mean)
        self.layers = nn.Sequential(
            nn.Linear(sizes.global_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, sizes.num_anchors * 3),
        )

    def forward(self, global_codes: torch.Tensor) -> torch.Tensor:
        """Anchors (B, A, 3) of the global parts (B, G)."""
        return self.mean + self.layers(global_codes).unflatten(-1, (-1, 3))


class _HeadModel(nn.Module):
    """What both models share: codes, anchors and the deformation's condition."""

    def __init__(self, config: BackwardNPHMConfig | ForwardNPHMConfig, anchors: torch.Tensor | None) -> None:
        super().__init__()
        sizes = config.identity
        self.sizes = sizes
        self.expression_size = config.expression_size
        self.anchor_network = AnchorNetwork(sizes, config.anchor_hidden_size, anchors)
        self.compressor = nn.Linear(sizes.code_size + 3 * sizes.num_anchors, config.compressed_size)

    def anchors(self, identity: torch.Tensor) -> torch.Tensor:
        """Facial anchors (B, A, 3) of identity codes (B, I).

        Raises:
            ValueError: another length of codes.
        """
        self._check_codes(identity, None)
        return self.anchor_network(identity[:, : self.sizes.global_size])

    def _member_codes(self, identity: torch.Tensor) -> torch.Tensor:
        """(B, A + 1, G + L): what each member is given."""
        shared, local = identity.split([self.sizes.global_size, identity.shape[1] - self.sizes.global_size], dim=1)
        local = local.unflatten(1, (self.sizes.num_anchors + 1, self.sizes.local_size))
        return torch.cat([shared.unsqueeze(1).expand(-1, local.shape[1], -1), local], dim=-1)

    def _compressed_identity(self, identity: torch.Tensor) -> torch.Tensor:
        return self.compressor(torch.cat([identity, self.anchors(identity).flatten(1)], dim=-1))

    def _check_codes(self, identity: torch.Tensor, expression: torch.Tensor | None) -> None:
        if identity.ndim != 2 or identity.shape[1] != self.sizes.code_size:
            raise ValueError(
                f"expected identity codes of shape (B, {self.sizes.code_size}), got {tuple(identity.shape)}"
            )
        if expression is not None and tuple(expression.shape) != (len(identity), self.expression_size):
            raise ValueError(
                f"expected expression codes of shape ({len(identity)}, {self.expression_size}), "
                f"got {tuple(expression.shape)}"
            )


def _check_points(points: torch.Tensor, entries: int, coordinates: int) -> None:
    if points.ndim != 3 or points.shape[0] != entries or points.shape[2] != coordinates:
        raise ValueError(f"expected points of shape ({entries}, Q, {coordinates}), got {tuple(points.shape)}")


def _in_pieces(function: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """`function` of (B, Q, ...) points, piece by piece where no gradient is recorded."""
    size = max(1, _POINTS_AT_ONCE // max(1, points.shape[0]))
    if torch.is_grad_enabled() or points.shape[1] <= size:
        return function(points)
    return torch.cat([function(piece) for piece in points.split(size, dim=1)], dim=1)


def _squared_distances(points: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """(B, Q, A) of points (B, Q, 3) and anchors (B, A, 3), by differences: exact where they nearly coincide."""
    squares = [(points[:, :, None, axis] - anchors[:, None, :, axis]).square() for axis in range(3)]
    return squares[0] + squares[1] + squares[2]


class BackwardNPHM(_HeadModel):
    """Posed points back to the canonical space, where the identity's distance field is evaluated."""

    def __init__(self, config: BackwardNPHMConfig, anchors: torch.Tensor | None = None) -> None:
        """Make the networks; the deformation starts at zero (test_untrained_backward_model_does_not_move_points).

        Args:
            config: the sizes.
            anchors: (A, 3) mean anchors; zeros if None (a state dict brings them).

        Raises:
            ValueError: the sizes do not go together, or anchors of another shape.
        """
        super().__init__(config, anchors)
        self.config = config
        sizes = config.identity
        self.members = MemberNetworks(
            sizes.num_anchors + 1,
            sizes.num_mirrored_pairs,
            num_coordinates=3 + config.hyper_size,
            code_size=sizes.global_size + sizes.local_size,
            hidden_size=config.member_hidden_size,
            hidden_layers=config.member_hidden_layers,
            skip=False,
        )
        self.deformation = ConditionedNetwork(
            3,
            config.compressed_size + config.expression_size,
            config.deformation_hidden_size,
            config.deformation_hidden_layers,
            3 + config.hyper_size,
            skip="append",
        )
        _zero_last_layer(self.deformation)

    def deform(
        self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Way back to the canonical space.

        Args:
            points: (B, Q, 3) in the posed space.
            identity: (B, I).
            expression: (B, X).

        Returns:
            offsets (B, Q, 3), so that points + offsets are canonical, and hyper coordinates (B, Q, H).

        Raises:
            ValueError: shapes do not go together.
        """
        self._check_codes(identity, expression)
        _check_points(points, len(identity), 3)
        condition = torch.cat([self._compressed_identity(identity), expression], dim=-1)
        moved = _in_pieces(lambda piece: self.deformation(piece, condition), points)
        return moved[..., :3], moved[..., 3:]

    def canonical_signed_distance(self, points: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """Signed distance at canonical points with hyper coordinates.

        Args:
            points: (B, Q, 3 + H).
            identity: (B, I).

        Returns:
            (B, Q), negative inside.

        Raises:
            ValueError: shapes do not go together.
        """
        anchors, codes = self.anchors(identity), self._member_codes(identity)
        _check_points(points, len(identity), 3 + self.config.hyper_size)
        return _in_pieces(lambda piece: self._blended(piece, anchors, codes), points)

    def signed_distance(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Signed distance (B, Q) at posed points (B, Q, 3), for codes (B, I) and (B, X).

        Raises:
            ValueError: shapes do not go together.
        """
        offsets, hyper = self.deform(points, identity, expression)
        return self.canonical_signed_distance(torch.cat([points + offsets, hyper], dim=-1), identity)

    def pose_points(
        self,
        points: torch.Tensor,
        identity: torch.Tensor,
        expression: torch.Tensor,
        start: torch.Tensor | None = None,
    ) -> Inverse:
        """Posed places of canonical points (B, Q, 3), by inverting the deformation without gradients.

        Args:
            points: (B, Q, 3) canonical.
            identity: (B, I).
            expression: (B, X).
            start: (B, Q, 3) first guess, such as the places in the frame before.

        Returns:
            The places and how far each one's canonical point lies from the one asked for.

        Raises:
            ValueError: shapes do not go together.
        """
        return invert_deformation(lambda posed: self.deform(posed, identity, expression)[0], points, start=start)

    def _blended(self, points: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Members of the K nearest anchors and the global one, blended: (B, q, 3 + H) -> (B, q)."""
        num_entries, num_points, size = points.shape
        neighbors, last = self.config.num_neighbors, self.sizes.num_anchors
        squares, nearest = _squared_distances(points[..., :3], anchors).topk(neighbors, dim=-1, largest=False)
        farthest = squares[..., -1:].clamp_min(_SMALLEST_SQUARE)
        everywhere = torch.full_like(farthest, GLOBAL_MEMBER_DISTANCE**2)
        relative = torch.cat([squares, everywhere], dim=-1) / farthest
        weights = torch.exp(relative * (-0.5 * self.config.blend_ratio**2))
        weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-8)

        members = torch.cat([nearest, torch.full_like(nearest[..., :1], last)], dim=-1)
        origins = torch.cat([anchors, torch.zeros_like(anchors[:, :1])], dim=1)
        origins = nn.functional.pad(origins, (0, size - 3)).flatten(0, 1)
        entries = torch.arange(num_entries, device=points.device).view(-1, 1, 1).expand_as(members)
        rows = (entries * (last + 1) + members).flatten()
        coordinates = points.unsqueeze(2).expand(-1, -1, neighbors + 1, -1).reshape(-1, size) - origins[rows]
        values = self.members(coordinates, members.flatten(), entries.flatten(), codes)
        return (values.view(num_entries, num_points, -1) * weights).sum(dim=-1)


class ForwardNPHM(_HeadModel):
    """A canonical distance field, and a deformation that carries canonical points to the posed space."""

    def __init__(self, config: ForwardNPHMConfig, anchors: torch.Tensor | None = None) -> None:
        """Make the networks; the deformation starts at zero.

        Args:
            config: the sizes.
            anchors: (A, 3) mean anchors; zeros if None (a state dict brings them).

        Raises:
            ValueError: the sizes do not go together, or anchors of another shape.
        """
        super().__init__(config, anchors)
        self.config = config
        sizes = config.identity
        self.members = MemberNetworks(
            sizes.num_anchors + 1,
            sizes.num_mirrored_pairs,
            num_coordinates=3,
            code_size=sizes.global_size + sizes.local_size,
            hidden_size=config.member_hidden_size,
            hidden_layers=config.member_hidden_layers,
            skip=True,
        )
        self.deformation = ConditionedNetwork(
            3,
            config.compressed_size + config.expression_size,
            config.deformation_hidden_size,
            config.deformation_hidden_layers,
            3,
            skip="shrink",
        )
        _zero_last_layer(self.deformation)

    def deform(
        self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Way from the canonical to the posed space; in training the condition is noisy, as in the release.

        Args:
            points: (B, Q, 3) in the canonical space.
            identity: (B, I).
            expression: (B, X).

        Returns:
            offsets (B, Q, 3), and no hyper coordinates: (B, Q, 0).

        Raises:
            ValueError: shapes do not go together.
        """
        self._check_codes(identity, expression)
        _check_points(points, len(identity), 3)
        compressed = self._compressed_identity(identity)
        if self.training:
            compressed = compressed + torch.randn_like(compressed) * _COMPRESSED_NOISE
        condition = torch.cat([compressed, expression], dim=-1)
        offsets = _in_pieces(lambda piece: self.deformation(piece, condition), points)
        return offsets, offsets[..., :0]

    def canonical_signed_distance(self, points: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """Signed distance at canonical points; in evaluation the global member says 1, as in the release.

        Args:
            points: (B, Q, 3).
            identity: (B, I).

        Returns:
            (B, Q), negative inside.

        Raises:
            ValueError: shapes do not go together.
        """
        anchors, codes = self.anchors(identity), self._member_codes(identity)
        _check_points(points, len(identity), 3)
        return _in_pieces(lambda piece: self._blended(piece, anchors, codes), points)

    def signed_distance(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Canonical distance (B, Q) where posed points (B, Q, 3) come from; those that come from nowhere get +1.

        The way back is solved without gradients. Prefer to extract the canonical surface and to deform its vertices.

        Raises:
            ValueError: shapes do not go together.
        """
        found = invert_deformation(lambda canonical: self.deform(canonical, identity, expression)[0], points)
        distances = self.canonical_signed_distance(found.points, identity)
        return torch.where(found.residuals < 1e-2, distances, torch.ones_like(distances))

    def _blended(self, points: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """All members by a Gaussian kernel, those without weight left out: (B, q, 3) -> (B, q)."""
        num_entries, num_points, _ = points.shape
        last = self.sizes.num_anchors
        distances = _squared_distances(points, anchors).clamp_min(_SMALLEST_SQUARE).sqrt()
        exponents = -(distances + 1e-5).square() / _KERNEL_VARIANCE
        background = torch.full_like(exponents[..., :1], _BACKGROUND_EXPONENT)
        weights = torch.cat([exponents, background], dim=-1).exp()
        weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-6)

        asked = weights > _FORWARD_WEIGHT_FLOOR
        asked[..., last] = self.training
        entries, numbers, members = asked.nonzero(as_tuple=True)
        origins = torch.cat([anchors, torch.zeros_like(anchors[:, :1])], dim=1).flatten(0, 1)
        coordinates = points[entries, numbers] - origins[entries * (last + 1) + members]
        values = self.members(coordinates, members, entries, codes) * weights[asked]
        blended = points.new_zeros(num_entries * num_points)
        blended = blended.index_add(0, entries * num_points + numbers, values).view(num_entries, num_points)
        return blended if self.training else blended + weights[..., last]


def _zero_last_layer(network: ConditionedNetwork) -> None:
    last = network.layers[-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
