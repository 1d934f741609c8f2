"""A made-up motion clip for tests of everything after the backend: a bent sheet with a mouth that opens and closes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blender_talkhead.contract.clip_performance import ClipPerformance
from blender_talkhead.contract.mesh_sequence import FrameMesh
from blender_talkhead.contract.motion_clip import ClipTemplate, MotionClipWriter
from blender_talkhead.contract.result import ResultInfo
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX

REGIONS = (
    "lips",
    "lips_inner_upper",
    "lips_inner_lower",
    "mouth_corner_left",
    "mouth_corner_right",
    "eye_region",
    "upper_face",
)


def make_template(columns: int = 21, rows: int = 21) -> ClipTemplate:
    """A face-sized sheet of columns x rows vertices (skin), four small quads behind it (eyes ... tongue)."""
    x, y = np.meshgrid(np.linspace(-0.08, 0.08, columns), np.linspace(-0.1, 0.1, rows))
    z = 0.1 - 4.0 * (x**2 + 0.5 * y**2)
    skin = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.01
    centres = {
        "eyes": (0.03, 0.04, 0.03),
        "teeth": (0, -0.03, 0.03),
        "gums": (0, -0.02, 0.02),
        "tongue": (0, -0.04, 0.02),
    }
    vertices = np.concatenate([skin, *(square + np.array(centre) for centre in centres.values())])
    parts = {"skin": (0, len(skin))}
    for name in centres:
        start = list(parts.values())[-1][1]
        parts[name] = (start, start + 4)
    corner = np.arange(columns * rows).reshape(rows, columns)
    quads = np.stack([corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]], axis=-1).reshape(-1, 4)
    inserts = np.array([range(*parts[name]) for name in centres])
    polygons = np.concatenate([quads, inserts]).astype(np.int32)
    flat = polygons.reshape(-1)
    return ClipTemplate(
        template_vertices=vertices.astype(np.float32),
        polygon_starts=np.arange(0, len(flat) + 1, 4).astype(np.int32),
        polygon_vertices=flat,
        corner_uvs=np.clip(0.5 + vertices[flat, :2] * 4, 0, 1).astype(np.float32),
        vertex_colors=np.clip(0.5 + vertices * 3, 0, 1).astype(np.float32),
        regions=make_regions(skin),
        parts=parts,
    )


def make_regions(skin: np.ndarray) -> dict[str, np.ndarray]:
    """The regions of `REGIONS` around a mouth at (0, -0.04), the upper lip above y = -0.04."""
    x, y = skin[:, 0], skin[:, 1]
    near = (np.abs(x) < 0.03) & (np.abs(y + 0.04) < 0.015)
    masks = {
        "lips": near,
        "lips_inner_upper": near & (y > -0.04),
        "lips_inner_lower": near & (y <= -0.04),
        "mouth_corner_left": near & (x > 0.02),
        "mouth_corner_right": near & (x < -0.02),
        "eye_region": (np.abs(np.abs(x) - 0.03) < 0.012) & (np.abs(y - 0.04) < 0.012),
        "upper_face": y > 0.02,
    }
    return {name: np.flatnonzero(masks[name]).astype(np.int32) for name in REGIONS}


def make_offsets(template: ClipTemplate, num_frames: int, frame_rate: float = 30.0, seed: int = 0) -> np.ndarray:
    """Smooth speech-like motion (T, V, 3) of full rank: a jaw, lips, blinks, and travelling ripples; metres."""
    rest = template.template_vertices.astype(np.float64)
    skin_stop = template.parts["skin"][1]
    seconds = np.arange(num_frames) / frame_rate
    phase = np.random.default_rng(seed).random(8) * 2 * np.pi
    jaw = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * seconds + phase[0]) * np.sin(2 * np.pi * 0.7 * seconds + phase[1])
    smile = 0.5 * np.sin(2 * np.pi * 1.3 * seconds + phase[2])
    offsets = np.zeros((num_frames, len(rest), 3))
    x, y = rest[:, 0], rest[:, 1]
    below = np.clip((-0.04 - y) / 0.03, 0, 1)
    offsets[:, :, 1] -= 0.02 * jaw[:, None] * below
    offsets[:, :, 2] -= 0.005 * (jaw**2)[:, None] * below
    corner = np.exp(-(((np.abs(x) - 0.028) / 0.01) ** 2) - ((y + 0.04) / 0.015) ** 2)
    offsets[:, :, 0] += 0.008 * smile[:, None] * corner * np.sign(x)
    ripple = np.sin(60 * x[None, :] + 40 * y[None, :] + 9 * seconds[:, None] + 50 * jaw[:, None] * x)
    offsets[:, :, 2] += 0.001 * ripple * smile[:, None] ** 2
    offsets[:, skin_stop:] *= 0.5
    return offsets.astype(np.float32)


def make_blendshapes(template: ClipTemplate) -> np.ndarray:
    """(52, V, 3) metres: a jaw, lips that mouthClose seals again, corners; a bump of its own for each other."""
    rest = template.template_vertices.astype(np.float64)
    x, y = rest[:, 0], rest[:, 1]
    places = np.linspace(0, 2 * np.pi, len(ARKIT_BLENDSHAPES), endpoint=False)
    shapes = np.zeros((len(ARKIT_BLENDSHAPES), len(rest), 3))
    for index, angle in enumerate(places):  # away from the mouth
        centre = (0.06 * np.cos(angle), 0.03 + 0.05 * np.sin(angle))
        shapes[index, :, 2] = 0.004 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 0.008**2)
    below = np.clip((-0.04 - y) / 0.03, 0, 1) + (np.abs(y + 0.045) < 0.006)
    shapes[BLENDSHAPE_INDEX["jawOpen"]] = below[:, None] * np.array([0, -0.02, -0.005])
    lips = np.zeros(len(rest))
    lips[template.regions["lips_inner_lower"]] = 1.0
    shapes[BLENDSHAPE_INDEX["mouthClose"]] = -lips[:, None] * shapes[BLENDSHAPE_INDEX["jawOpen"]]
    for side, sign in (("Left", 1), ("Right", -1)):
        corner = np.exp(-(((sign * x - 0.028) / 0.01) ** 2) - ((y + 0.04) / 0.015) ** 2)
        shapes[BLENDSHAPE_INDEX["mouthSmile" + side], :, 0] = sign * 0.008 * corner
        shapes[BLENDSHAPE_INDEX["mouthFrown" + side], :, 1] = -0.006 * corner
    shapes[BLENDSHAPE_INDEX["eyeLookInLeft"]] = 0.0
    return shapes.astype(np.float32)


def make_curves(num_frames: int, frame_rate: float = 30.0) -> np.ndarray:
    """(T, 52) speech-like: a jaw that lips close on at times, a smile, brows, blinks."""
    seconds = np.arange(num_frames) / frame_rate
    curves = np.zeros((num_frames, len(ARKIT_BLENDSHAPES)))
    jaw = 0.4 + 0.3 * np.sin(2 * np.pi * 2.3 * seconds)
    closing = np.clip(1.5 - np.abs((seconds % 0.7) - 0.35) / 0.04, 0, 1)
    curves[:, BLENDSHAPE_INDEX["jawOpen"]] = jaw
    curves[:, BLENDSHAPE_INDEX["mouthClose"]] = closing * jaw
    curves[:, BLENDSHAPE_INDEX["browInnerUp"]] = 0.3 + 0.3 * np.sin(2 * np.pi * 0.4 * seconds)
    blink = np.clip(1.5 - np.abs((seconds % 1.6) - 0.8) / 0.08, 0, 1)
    for side in ("Left", "Right"):
        curves[:, BLENDSHAPE_INDEX["mouthSmile" + side]] = 0.25 + 0.25 * np.sin(2 * np.pi * 1.3 * seconds)
        curves[:, BLENDSHAPE_INDEX["eyeBlink" + side]] = blink
    return curves.astype(np.float32)


def make_rotations(num_frames: int, frame_rate: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """Head (T, 4) that nods up to 0.1 rad about x, eyes (T, 2, 4) that turn up to 0.2 rad about y."""
    seconds = np.arange(num_frames) / frame_rate
    nod, look = 0.05 * np.sin(2 * np.pi * 0.5 * seconds), 0.1 * np.sign(np.sin(2 * np.pi * 0.9 * seconds + 0.1))
    zeros = np.zeros(num_frames)
    head = np.stack([np.cos(nod), np.sin(nod), zeros, zeros], axis=1)
    eye = np.stack([np.cos(look), zeros, np.sin(look), zeros], axis=1)
    return head.astype(np.float32), np.stack([eye, eye], axis=1).astype(np.float32)


def make_hair(template: ClipTemplate) -> np.ndarray:
    """(5, 3, 3) metres: strands that stand out of the upper edge of the skin."""
    skin = template.template_vertices[slice(*template.parts["skin"])]
    roots = skin[np.argsort(skin[:, 1])[-5:]]
    return (roots[:, None] + np.array([[0, 0, 0], [0, 0.01, 0], [0, 0.02, 0.005]])).astype(np.float32)


def make_performance(template: ClipTemplate) -> ClipPerformance:
    """The performance of a made-up clip, without blinks to choose from."""
    pivots = {"head": (0.0, -0.02, -0.02), "eye_left": (0.03, 0.04, 0.03), "eye_right": (-0.03, 0.04, 0.03)}
    return ClipPerformance(make_blendshapes(template), np.zeros((0, 6), np.float32), pivots, 0.001, 0.0001)


def write_synthetic_clip(
    folder: Path,
    num_frames: int = 40,
    columns: int = 21,
    seed: int = 0,
    info: dict[str, object] | None = None,
    texture: bytes | None = None,
    performed: bool = False,
) -> Path:
    """Write a motion clip folder; `info` overrides fields of its `ResultInfo`.

    With `performed` it holds curves, rotations, blendshapes and hair, and its motion is that of the curves and a little
    more.
    """
    template = make_template(columns)
    if performed:
        template = ClipTemplate(**{**template.__dict__, "hair": make_hair(template)})
    if texture is not None:
        template = ClipTemplate(**{**template.__dict__, "skin_texture_png": texture})
    fields: dict[str, object] = {
        "kind": "motion_clip",
        "method": "mmtalker",
        "frame_rate": 30.0,
        "num_frames": num_frames,
        "audio_path": "speech.wav",
        "audio_sha256": "ab" * 32,
        "weights_sha256": "cd" * 32,
        "seed": seed,
        "options": {"vertices": columns**2, "identity": None},
        "talkhead_version": "0.0.0",
        **(info or {}),
    }
    result = ResultInfo(**fields)  # type: ignore[arg-type]
    chunk = 500
    with MotionClipWriter(Path(folder), result, template) as writer:
        for first in range(0, num_frames, chunk):
            stop = min(first + chunk, num_frames)
            offsets = make_offsets(template, stop, result.frame_rate, seed)[first:]
            if performed:
                moved = np.tensordot(make_curves(stop)[first:], make_blendshapes(template), axes=1)
                offsets = (0.02 * offsets + moved).astype(np.float32)
            writer.append(offsets)
        if not performed:
            return writer.commit()
        writer.write_performance(make_performance(template))
        return writer.commit(make_curves(num_frames), *make_rotations(num_frames))


def make_ball(rings: int, code: float) -> FrameMesh:
    """A ball of `rings` times `rings` vertices, about 0.1 m."""
    polar, around = np.meshgrid(
        np.linspace(0.02, np.pi - 0.02, rings), np.linspace(0, 2 * np.pi, rings, endpoint=False), indexing="ij"
    )
    size = 0.1 * (1.0 + 0.1 * np.tanh(code))
    points = np.stack([np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], -1)
    row, column = np.meshgrid(np.arange(rings - 1), np.arange(rings), indexing="ij")
    a, b = row * rings + column, row * rings + (column + 1) % rings
    faces = np.stack([a, b, b + rings, a, b + rings, a + rings], -1).reshape(-1, 3)
    colors = np.full((rings * rings, 3), 200, np.uint8)
    return FrameMesh((size * points).reshape(-1, 3).astype(np.float32), faces.astype(np.int32), colors)
