"""The script that draws the documentation's pictures follows the code that it draws with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_head_is_drawn(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "draw_pictures.py"), "head", "--output", str(tmp_path)]
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert (tmp_path / "head.png").is_file(), result.stderr[-2000:]
    with av.open(str(tmp_path / "head.png")) as file:
        pixels = next(file.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    views = pixels[:, :360], pixels[:, 364:724], pixels[:, 728:1088]
    for view in views:  # three views of a lit face: the cheek is brighter and redder than the blue background
        height, width, _ = view.shape
        cheek = view[height // 2 : height * 3 // 5, width * 11 // 20 : width * 7 // 10].mean(axis=(0, 1))
        corner = view[:20, :20].mean(axis=(0, 1))
        assert cheek[0] > corner[0] + 40 and cheek[0] > cheek[2] and corner[2] > corner[0]


_SHEET_CHECK = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/docs"]
import numpy as np
import draw_contact_sheet as sheet
import picture_studio as studio
from torch_backend.head import load_head

gaps = np.concatenate([np.sin(np.linspace(0.0, 20.0, 100))])
frames = sheet.telling_frames(gaps, 10)
assert len(frames) == 10 and frames == sorted(frames), frames
assert gaps[frames[0]] > gaps[frames[1]] < gaps[frames[2]]

head = load_head()
for name, (axis, sign) in {"eyeLookOutLeft": (0, 1), "eyeLookInRight": (0, 1), "eyeLookUpLeft": (1, 1)}.items():
    vertices = head.vertices.copy()
    sheet.turn_eyes(head, vertices, name)
    moved = np.flatnonzero(np.abs(vertices - head.vertices).max(axis=1) > 1e-6)
    assert (np.sign(head.vertices[moved, 0]) == (1 if name.endswith("Left") else -1)).all(), name
    front = moved[head.vertices[moved, 2].argmax()]
    assert sign * (vertices - head.vertices)[front, axis] > 0.001, name

short, long = (studio.with_caption(np.zeros((10, 178, 3), np.uint8), text) for text in ("M", "mouthLowerDownRight"))
assert short.shape == long.shape == (10 + studio.CAPTION_HEIGHT_PX, 178, 3)
assert long[10:].min() < 100 and long[10:, :2].min() > 200  # black on white, not cut off
assert studio.join_tiles([short] * 3, 2).shape == (76, 360, 3)
"""


def test_the_contact_sheet_chooses_frames_turns_eyes_and_captions(tmp_path: Path) -> None:
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path)}
    command = [sys.executable, "-c", _SHEET_CHECK, str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
