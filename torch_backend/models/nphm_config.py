"""Sizes of the neural parametric head models; the defaults are the official ones."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class IdentitySizes:
    """What an identity code is made of: [global, one local part for each anchor, one for the global member]."""

    num_anchors: int = 39
    """Facial anchors, each with a local member."""
    num_mirrored_pairs: int = 16
    """The first 2 * 16 anchors are pairs (one side, other side) that share their weights, mirrored in x."""
    global_size: int = 64
    """Length of the global part."""
    local_size: int = 32
    """Length of each local part."""

    def __post_init__(self) -> None:
        if min(self.num_anchors, self.global_size, self.local_size) < 1:
            raise ValueError(f"sizes must be at least 1, got {self}")
        if not 0 <= 2 * self.num_mirrored_pairs <= self.num_anchors:
            raise ValueError(f"{self.num_mirrored_pairs} pairs do not fit into {self.num_anchors} anchors")

    @property
    def code_size(self) -> int:
        """Length of an identity code, 1344 in the official models."""
        return self.global_size + (self.num_anchors + 1) * self.local_size


@dataclass(frozen=True)
class BackwardNPHMConfig:
    """Sizes of the backward model; the defaults are the official ones."""

    identity: IdentitySizes = field(default_factory=IdentitySizes)
    """Layout of the identity code."""
    expression_size: int = 200
    """Length of an expression code."""
    hyper_size: int = 2
    """Extra coordinates that the deformation gives to the distance field, so that surfaces can open."""
    num_neighbors: int = 8
    """K, nearest anchors whose members a point asks, beside the global one."""
    blend_ratio: float = 4.0
    """Distance to the K-th anchor in standard deviations of the blending kernel."""
    anchor_hidden_size: int = 64
    """Width of the network from the global part to the anchors."""
    member_hidden_size: int = 200
    """Width of a member."""
    member_hidden_layers: int = 4
    """Hidden layers of a member."""
    compressed_size: int = 32
    """Length of the identity as the deformation sees it."""
    deformation_hidden_size: int = 512
    """Width of the deformation."""
    deformation_hidden_layers: int = 6
    """Hidden layers of the deformation."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_neighbors <= self.identity.num_anchors:
            raise ValueError(f"expected 1 to {self.identity.num_anchors} neighbours, got {self.num_neighbors}")
        if self.hyper_size < 0 or self.blend_ratio <= 0 or min(self.expression_size, self.compressed_size) < 1:
            raise ValueError(f"expected positive sizes and blend ratio, got {self}")


@dataclass(frozen=True)
class ForwardNPHMConfig:
    """Sizes of the forward model; the defaults are the official ones."""

    identity: IdentitySizes = field(default_factory=IdentitySizes)
    """Layout of the identity code."""
    expression_size: int = 200
    """Length of an expression code."""
    anchor_hidden_size: int = 256
    """Width of the network from the global part to the anchors."""
    member_hidden_size: int = 200
    """Width of a member."""
    member_hidden_layers: int = 4
    """Hidden layers of a member."""
    compressed_size: int = 32
    """Length of the identity as the deformation sees it."""
    deformation_hidden_size: int = 512
    """Width of the deformation."""
    deformation_hidden_layers: int = 6
    """Hidden layers of the deformation."""

    def __post_init__(self) -> None:
        if min(self.expression_size, self.compressed_size) < 1:
            raise ValueError(f"expected positive sizes, got {self}")
