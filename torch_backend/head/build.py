"""Builds the built-in head from code and freezes it: ``python -m torch_backend.head.build``.

Everything that uses the head reads the frozen file, because the fill's connectivity may change with the last bit of a
floating-point library; building again is only for those who change the head. The frozen connectivity is kept
(`refit.py`) unless `--remesh` asks for another.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from torch_backend.geometry.parameterization import conformal_parameterization
from torch_backend.head import profile_curves as profile
from torch_backend.head.appearance import skin_color
from torch_backend.head.attachments import follow_skin
from torch_backend.head.author_space import Array, author_to_backend, author_vectors_to_backend, mirrored
from torch_backend.head.brows_lashes import build_brows_and_lashes
from torch_backend.head.expressions import ExpressionBuilder
from torch_backend.head.eyeballs import LID_CLEARANCE, build_eyeballs
from torch_backend.head.head import (
    OPEN_POSE,
    PART_NAMES,
    TEMPLATE_PATH,
    Head,
    compute_vertex_normals,
    read_head,
    save_head,
    triangulate_polygons,
)
from torch_backend.head.jaw import JAW_HINGE, JAW_SHIFT, JAW_SHIFT_OPENS, open_jaw
from torch_backend.head.landmarks import landmark_vertices
from torch_backend.head.part_mesh import PartMesh, merge_parts
from torch_backend.head.skin_labels import SkinLabels, build_appearance_fields, build_regions, label_skin
from torch_backend.head.teeth import build_gums, build_teeth
from torch_backend.head.template import Template, build_template, turned
from torch_backend.head.tongue import build_tongue, tongue_out

logger = logging.getLogger(__name__)

ANCHOR_STILLNESS = 0.01
"""Largest displacement (cm) that any shape but the jaw's may give a jaw anchor vertex at weight 1."""
_JAW_SHAPES = ("jawOpen", "jawForward", "jawLeft", "jawRight")


def build_head(template: Template | None = None) -> Head:
    """Build the head from code; takes about ten seconds, nearly all of it for the template mesh."""
    template = template or build_template()
    num_skin = len(template.vertices)
    attached = build_brows_and_lashes(template)
    part_list = [build_eyeballs(), build_teeth(), build_gums(), build_tongue(), *attached.parts.values()]
    parts, spans = merge_parts(part_list), _part_spans(num_skin, part_list)
    polygons = [turned(p) for p in template.polygons]
    polygons += [[index + num_skin for index in turned(p)] for p in parts.polygons]
    starts = np.cumsum([0] + [len(p) for p in polygons]).astype(np.int32)
    corners = np.concatenate([np.array(p) for p in polygons]).astype(np.int32)
    triangles = triangulate_polygons(starts, corners)
    skin_triangles = triangles[triangles.max(axis=1) < num_skin]

    author_triangles = skin_triangles[:, ::-1].astype(np.int64)
    labels = label_skin(template, author_triangles)
    normals = compute_vertex_normals(author_to_backend(template.vertices), skin_triangles)
    builder = ExpressionBuilder(labels, normals[:, [0, 2, 1]].astype(np.float64))
    skin_shapes = np.stack(list(builder.build().values()))  # (52, Vskin, 3)
    shapes = np.concatenate([skin_shapes, _part_shapes(parts, spans, num_skin)], axis=1)
    shapes[:, spans["brows"][0] :] = follow_skin(attached.weights, shapes[:, attached.anchors])

    vertices = author_to_backend(np.concatenate([template.vertices, parts.vertices]))
    blendshapes = author_vectors_to_backend(shapes)
    fields = build_appearance_fields(labels)
    open_pose = vertices[:num_skin] + sum(
        weight * blendshapes[BLENDSHAPE_INDEX[name], :num_skin] for name, weight in OPEN_POSE.items()
    )
    eye = np.stack([profile.EYE_CENTER, mirrored(profile.EYE_CENTER)])
    return Head(
        vertices=vertices.astype(np.float32),
        polygon_starts=starts,
        polygon_vertices=corners,
        parts=spans,
        skin_triangles=skin_triangles,
        uv=conformal_parameterization(open_pose, skin_triangles).astype(np.float32),
        blendshapes=blendshapes.astype(np.float32),
        vertex_colors=np.concatenate([skin_color(vertices[:num_skin], fields), parts.colors]).astype(np.float32),
        appearance_fields=fields,
        regions=_all_regions(labels, builder.jaw_weights, skin_shapes, parts),
        landmarks68=landmark_vertices(template),
        lip_contact_pairs=labels.contact_pairs.astype(np.int32),
        mirror=template.mirror.astype(np.int32),
        eye_centers=author_to_backend(eye).astype(np.float32),
        eye_radius=float((profile.EYE_RADIUS - LID_CLEARANCE) / 100.0),
        jaw_hinge=author_to_backend(JAW_HINGE).astype(np.float32),
        attachment_anchors=attached.anchors,
        attachment_weights=attached.weights,
    )


def _part_spans(num_skin: int, part_list: list[PartMesh]) -> dict[str, tuple[int, int]]:
    bounds = np.cumsum([0, num_skin] + [len(part.vertices) for part in part_list])
    return {name: (int(bounds[i]), int(bounds[i + 1])) for i, name in enumerate(PART_NAMES)}


def _part_shapes(parts: PartMesh, spans: dict[str, tuple[int, int]], num_skin: int) -> Array:
    """Return the blendshapes (52, Vparts, 3) of the parts: what sits in the lower jaw follows it rigidly."""
    shapes = np.zeros((len(ARKIT_BLENDSHAPES), len(parts.vertices), 3))
    jaw = parts.follows_jaw
    opened = open_jaw(parts.vertices[jaw])
    drop = JAW_SHIFT_OPENS * opened
    shapes[BLENDSHAPE_INDEX["jawOpen"], jaw] = opened
    shapes[BLENDSHAPE_INDEX["jawForward"], jaw] = np.array([0.0, JAW_SHIFT, 0.0]) + 0.5 * drop
    shapes[BLENDSHAPE_INDEX["jawLeft"], jaw] = np.array([JAW_SHIFT, 0.0, 0.0]) + drop
    shapes[BLENDSHAPE_INDEX["jawRight"], jaw] = np.array([-JAW_SHIFT, 0.0, 0.0]) + drop
    start, stop = (bound - num_skin for bound in spans["tongue"])
    shapes[BLENDSHAPE_INDEX["tongueOut"], start:stop] = tongue_out(parts.vertices[start:stop])
    return shapes


def _all_regions(
    labels: SkinLabels, jaw_weights: Array, skin_shapes: Array, parts: PartMesh
) -> dict[str, NDArray[np.int32]]:
    others = [i for i, name in enumerate(ARKIT_BLENDSHAPES) if name not in _JAW_SHAPES]
    largest = np.linalg.norm(skin_shapes[others], axis=2).max(axis=0)
    anchors = np.nonzero((jaw_weights == 1.0) & (largest < ANCHOR_STILLNESS) & ~labels.on_mouth)[0]
    if len(anchors) < 12:
        raise ValueError(f"expected at least 12 rigid chin vertices as jaw anchors, found {len(anchors)}")
    regions = build_regions(labels)
    regions["jaw_anchor"] = anchors.astype(np.int32)
    regions["jaw_parts"] = (len(labels.vertices) + np.nonzero(parts.follows_jaw)[0]).astype(np.int32)
    return regions


def main() -> None:
    """Build the head and write it to the frozen file (or --output)."""
    parser = argparse.ArgumentParser(description="Build the built-in head and freeze it.")
    parser.add_argument("--output", type=Path, default=TEMPLATE_PATH, help="npz file to write")
    parser.add_argument("--remesh", action="store_true", help="make a new fill, which numbers the vertices anew")
    options = parser.parse_args()
    output = options.output
    logging.basicConfig(level=logging.INFO)
    keep = TEMPLATE_PATH.is_file() and not options.remesh
    head = build_head(build_template(read_head(TEMPLATE_PATH) if keep else None))
    save_head(head, output)
    logger.info(
        "%s: %d skin vertices of %d, %.2f MB",
        output,
        head.num_skin_vertices,
        len(head.vertices),
        output.stat().st_size / 1e6,
    )


if __name__ == "__main__":
    main()
