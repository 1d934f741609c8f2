"""What every skin vertex is: its place on lip, lid, ear and nostril rings, the regions, the pairs of touching lips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from torch_backend.head.author_space import Array
from torch_backend.head.rings import CONTACT_RING, LID_MARGIN_RINGS, LID_POINTS, MOUTH_POINTS, VERMILION_RING
from torch_backend.head.template import Template

NOT_ON_RING = -99
"""Ring number of vertices that lie on no ring of that kind."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SkinLabels:
    """Ring coordinates of the skin's vertices (author space)."""

    template: Template
    triangles: IntArray
    """(F, 3) the skin's triangles, oriented for author space."""
    corner_coordinate: Array
    """(V,) 0 at the midline .. 1 at the mouth corner on mouth rings, else 0."""
    lip_side: Array
    """(V,) +1 upper, -1 lower lip, 0 corner or no mouth ring."""
    mouth_ring: IntArray
    """(V,) ring number counted from the contact ring (0): positive outwards, negative into the mouth."""
    eyelid_ring: IntArray
    """(V,) 0 innermost .. 8 outermost, NOT_ON_RING elsewhere."""
    is_ear: NDArray[np.bool_]
    """(V,) on an ear ring."""
    is_nostril: NDArray[np.bool_]
    """(V,) on a nostril ring."""

    @property
    def vertices(self) -> Array:
        """(V, 3) author-space positions."""
        return self.template.vertices

    @property
    def mirror(self) -> IntArray:
        """(V,) mirror image of each vertex."""
        return self.template.mirror

    @property
    def on_mouth(self) -> NDArray[np.bool_]:
        """(V,) on any mouth ring, lips and bag."""
        return self.mouth_ring > NOT_ON_RING

    @cached_property
    def contact_pairs(self) -> IntArray:
        """(n, 2) upper and lower vertex of each touching pair, from the right corner to the left."""
        ring = self.template.rings["mouth"][CONTACT_RING]
        half = (MOUTH_POINTS - 1) // 2
        left = [(ring[j], ring[MOUTH_POINTS - 1 - j]) for j in range(half)]
        right = [(self.mirror[a], self.mirror[b]) for a, b in left[:0:-1]]
        return np.array(right + left, dtype=np.int64)


def both_sides(mirror: IntArray, *groups: NDArray | list) -> NDArray[np.int32]:
    """Return the sorted union of left-half vertex groups and their mirror images."""
    left = np.concatenate([np.ravel(group).astype(np.int64) for group in groups])
    return np.unique(np.concatenate([left, mirror[left]])).astype(np.int32)


def label_skin(template: Template, triangles: IntArray) -> SkinLabels:
    """Spread the ring coordinates of a template over its vertices.

    Raises:
        ValueError: when the template has no mouth coordinates.
    """
    if template.mouth is None:
        raise ValueError("expected a template with mouth ring coordinates, got none")
    count = len(template.vertices)
    corner, side = np.zeros(count), np.zeros(count)
    mouth_ring = np.full(count, NOT_ON_RING, dtype=np.int64)
    eyelid_ring = np.full(count, NOT_ON_RING, dtype=np.int64)
    for number, ring in enumerate(template.rings["mouth"]):
        for indices in (ring, template.mirror[ring]):
            corner[indices] = template.mouth.corner_coordinate
            side[indices] = template.mouth.lip_side
            mouth_ring[indices] = number - CONTACT_RING
    mouth_ring[template.caps["mouth"]] = -CONTACT_RING - 1
    for number, ring in enumerate(template.rings["eyelid"]):
        for indices in (ring, template.mirror[ring]):
            eyelid_ring[indices] = number
    masks = {}
    for name in ("ear", "nostril"):
        mask = np.zeros(count, dtype=bool)
        mask[both_sides(template.mirror, *template.rings[name], [template.caps[name]])] = True
        masks[name] = mask
    return SkinLabels(
        template, triangles, corner, side, mouth_ring, eyelid_ring, is_ear=masks["ear"], is_nostril=masks["nostril"]
    )


def build_regions(labels: SkinLabels) -> dict[str, NDArray[np.int32]]:
    """Return the named vertex sets of the skin, sorted; the jaw anchor is added with the jaw weights."""
    template, mirror = labels.template, labels.mirror
    mouth, lids = template.rings["mouth"], template.rings["eyelid"]
    half = (MOUTH_POINTS - 1) // 2
    corner = np.array([mouth[CONTACT_RING + r][half] for r in (0, 1)])
    inner, outer = LID_MARGIN_RINGS
    x, f, z = labels.vertices.T
    return {
        "lips": both_sides(mirror, *mouth[CONTACT_RING : CONTACT_RING + VERMILION_RING + 1]),
        "lips_inner_upper": np.sort(labels.contact_pairs[:, 0]).astype(np.int32),
        "lips_inner_lower": np.sort(labels.contact_pairs[:, 1]).astype(np.int32),
        "mouth_corner_left": np.sort(corner).astype(np.int32),
        "mouth_corner_right": np.sort(mirror[corner]).astype(np.int32),
        "mouth_bag": both_sides(mirror, *mouth[:CONTACT_RING], [template.caps["mouth"]]),
        "eye_region": both_sides(mirror, *lids[inner:]),
        "eyelids": both_sides(mirror, *lids[inner : outer + 4]),
        "lid_margin": both_sides(mirror, *lids[inner : outer + 1]),
        "nostrils": both_sides(mirror, *template.rings["nostril"], [template.caps["nostril"]]),
        "ears": both_sides(mirror, *template.rings["ear"], [template.caps["ear"]]),
        "neck_boundary": both_sides(mirror, template.neck),
        "upper_face": np.nonzero((z > -1.0) & (z < 6.2) & (f > 4.5) & (np.abs(x) < 7.0))[0].astype(np.int32),
    }


APPEARANCE_FIELDS = ("mouth_lining", "upper_lashes", "lower_lashes", "caruncle", "nostril", "ear", "lid_margin")
"""Names of the per-vertex scalars that skin colours need beside positions."""


def build_appearance_fields(labels: SkinLabels) -> NDArray[np.float32]:
    """Return the scalars (V, C) in 0..1 named by APPEARANCE_FIELDS."""
    template, mirror = labels.template, labels.mirror
    fields = np.zeros((len(labels.vertices), len(APPEARANCE_FIELDS)))
    column = {name: fields[:, i] for i, name in enumerate(APPEARANCE_FIELDS)}
    # The wet line starts just inside the contact ring.
    column["mouth_lining"][labels.on_mouth & (labels.mouth_ring < 0)] = 1.0
    column["mouth_lining"][labels.on_mouth & (labels.mouth_ring == 0)] = 0.35
    lids, half = template.rings["eyelid"], LID_POINTS // 2
    upper = np.arange(2, half)
    lower = np.arange(half + 2, LID_POINTS - 2)
    column["upper_lashes"][both_sides(mirror, lids[3][upper])] = 1.0
    column["lower_lashes"][both_sides(mirror, lids[3][lower])] = 1.0
    column["caruncle"][both_sides(mirror, *(lids[r][[0, 1, LID_POINTS - 1]] for r in (0, 1, 2, 3)))] = 1.0
    column["lid_margin"][both_sides(mirror, lids[0], lids[1], lids[2])] = 1.0
    for depth, ring in enumerate(template.rings["nostril"]):
        column["nostril"][both_sides(mirror, ring)] = (0.0, 0.15, 0.55, 0.9, 1.0, 1.0)[depth]
    column["nostril"][both_sides(mirror, [template.caps["nostril"]])] = 1.0
    column["ear"][labels.is_ear] = 1.0
    return fields.astype(np.float32)
