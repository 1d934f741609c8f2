"""Draw the contact sheet that the head is judged by: python docs/draw_contact_sheet.py [names] [--output FOLDER].

Four pictures: `identities` (six characters from three sides), `shapes` (the 52 ARKit shapes), `visemes` (twelve, in
close-up) and `sentence` (ten frames of the demo, through recording, network, bake and .blend file). Needs the Python
that has both torch and the bpy module; everything is rendered by Cycles on the CPU and nothing is retouched.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import bpy

# bpy makes the next one importable.
# isort: split
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from picture_studio import REPOSITORY, Image, Sitter, Studio, View, draw_chosen, join_tiles, with_caption

from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from blender_talkhead.scene.mesh import OBJECT_NAME, read_evaluated_positions
from torch_backend.head import Head
from torch_backend.performance.perform import LOOK_DEGREES

DEMO_RECORDING = REPOSITORY / "blender_talkhead" / "demo" / "demo_sentence.wav"
IDENTITIES: tuple[str | int, ...] = ("mean", "broad", "lean", "round", "elder", 7)
"""Presets, and one from a seed."""
TURNS = (0.0, 40.0, 90.0)
VISEME_PHONES = ("M", "F", "TH", "S", "SH", "R", "L", "AA", "EH", "IY", "OW", "UW")
SENTENCE_FRAMES = 10
SAMPLES = 12
FRONT_DEGREES = 11.0
"""The portrait camera stands that far to the left of the face."""
COMPANIONS = {"mouthClose": {"jawOpen": 1.0}, "tongueOut": {"jawOpen": 0.6}}
"""Shapes that mean nothing alone."""
_LOOKS = {"eyeLookUp": (-1, 0), "eyeLookDown": (1, 0), "eyeLookIn": (0, -1), "eyeLookOut": (0, 1)}
"""Which way an eyeball turns: down, and away from the nose."""


def draw_identities() -> Image:
    """Return six characters, each in a column of three views."""
    columns = []
    for identity in IDENTITIES:
        sitter = Sitter.invite(identity, samples=SAMPLES)
        views = [View(228, FRONT_DEGREES + turn, zoom=1.2, raise_heads=0.06) for turn in TURNS]
        tiles = [sitter.photograph(sitter.head.vertices, view) for view in views]
        name = str(identity) if isinstance(identity, str) else f"random, seed {identity}"
        columns.append([*tiles[:-1], with_caption(tiles[-1], name)])
    rows = [join_tiles(list(row), len(IDENTITIES)) for row in zip(*columns, strict=True)]
    return np.concatenate(rows)


def draw_shapes() -> Image:
    """Return the 52 shapes at weight 1, alone where they mean something alone."""
    sitter = Sitter.invite(samples=SAMPLES)
    tiles = []
    for name in ARKIT_BLENDSHAPES:
        companions = COMPANIONS.get(name, {})
        vertices = sitter.head.pose({name: 1.0, **companions})
        turn_eyes(sitter.head, vertices, name)
        tile = sitter.photograph(vertices, View(178, FRONT_DEGREES - 8.0, zoom=1.5, raise_heads=-0.05))
        tiles.append(with_caption(tile, " + ".join([name, *companions])))
    return join_tiles(tiles, 8)


def turn_eyes(head: Head, vertices: NDArray[np.float32], shape: str) -> None:
    """Turn the eyeball that a look shape belongs to, in place; the shape itself moves the lids alone."""
    for number, side in enumerate(("Left", "Right")):
        stem = shape.removesuffix(side)
        if stem == shape or stem not in _LOOKS:
            continue
        down, away = (math.radians(LOOK_DEGREES) * part for part in _LOOKS[stem])
        yaw = away if side == "Left" else -away
        rotation = np.array(Matrix.Rotation(yaw, 3, "Y") @ Matrix.Rotation(down, 3, "X"), np.float32)
        eyes = np.arange(*head.parts["eyes"])
        eyes = eyes[head.vertices[eyes, 0] > 0] if side == "Left" else eyes[head.vertices[eyes, 0] < 0]
        center = head.eye_centers[number]
        vertices[eyes] = (vertices[eyes] - center) @ rotation.T + center


def draw_visemes() -> Image:
    """Return twelve visemes, each the articulation model in the middle of a phone held between pauses."""
    sitter = Sitter.invite(samples=SAMPLES)
    view = View(208, FRONT_DEGREES + 4.0, zoom=2.9, raise_heads=-0.13)
    tiles = [with_caption(sitter.photograph(sitter.speaking(phone), view), phone) for phone in VISEME_PHONES]
    return join_tiles(tiles, 6)


def draw_sentence() -> Image:
    """Return ten frames of the demo as it comes out of the command line, in time order."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "demo.blend"
        command = [sys.executable, "-m", "blender_talkhead", "animate", str(DEMO_RECORDING), "--output", str(file)]
        subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        bpy.ops.wm.open_mainfile(filepath=str(file))
        scene = bpy.context.scene
        head = bpy.data.objects[OBJECT_NAME]
        studio = Studio(head, SAMPLES)
        tiles = []
        for frame in telling_frames(mouth_gaps(head), SENTENCE_FRAMES):
            scene.frame_set(scene.frame_start + frame)
            tile = studio.snap(View(208, FRONT_DEGREES, zoom=1.35, raise_heads=-0.02))
            tiles.append(with_caption(tile, f"{frame * scene.render.fps_base / scene.render.fps:.2f} s"))
    return join_tiles(tiles, 5)


def mouth_gaps(head: bpy.types.Object) -> NDArray[np.float64]:
    """Return the height of the inner-lip opening in every frame of the scene, (T,), metres."""
    groups = {name: head.vertex_groups[f"lips_inner_{name}"].index for name in ("upper", "lower")}
    members = {
        name: [vertex.index for vertex in head.data.vertices if index in {group.group for group in vertex.groups}]
        for name, index in groups.items()
    }
    scene, gaps = bpy.context.scene, []
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        positions = read_evaluated_positions(head, bpy.context.evaluated_depsgraph_get())
        gaps.append(positions[members["upper"], 2].mean() - positions[members["lower"], 2].mean())
    return np.array(gaps, np.float64)


def telling_frames(gaps: NDArray[np.float64], count: int) -> list[int]:
    """Return one frame of each of `count` equal stretches, by turns the most open and the most closed mouth."""
    edges = np.round(np.linspace(0.06, 0.96, count + 1) * (len(gaps) - 1)).astype(int)
    extremes = (np.argmax, np.argmin)
    return [int(start + extremes[k % 2](gaps[start:end])) for k, (start, end) in enumerate(pairwise(edges))]


if __name__ == "__main__":
    draw_chosen(
        "Draw the contact sheet.",
        {
            "identities": draw_identities,
            "shapes": draw_shapes,
            "visemes": draw_visemes,
            "sentence": draw_sentence,
        },
    )
