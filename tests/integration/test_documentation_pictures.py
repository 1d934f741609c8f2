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
    for view in views:  # three views of a lit face: skin is brighter and redder in the middle than the blue background
        height, width, _ = view.shape
        middle = view[height // 3 : height // 2, width * 2 // 5 : width * 3 // 5].mean(axis=(0, 1))
        corner = view[:20, :20].mean(axis=(0, 1))
        assert middle[0] > corner[0] + 40 and middle[0] > middle[2] and corner[2] > corner[0]
