"""The benchmark on recordings: its measurements against the ruler's own, and what it does without the recordings."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import real_speech
from benchmarks.lip_sync_scores import Figure
from blender_talkhead.facial.blendshapes import ARKIT_BLENDSHAPES
from torch_backend.head.head import load_head
from torch_backend.metrics.mouth_shape import measure_mouth

TOOLS = Path(os.environ.get("TALKHEAD_CHECK_TOOLS", Path(__file__).parents[2] / ".." / "shared" / "tools"))


@pytest.fixture(scope="module")
def head():
    return load_head()


def test_without_recordings_it_says_so_and_succeeds(tmp_path, capsys):
    assert real_speech.main(["--data", str(tmp_path), "--tools", str(tmp_path)]) == 0
    assert "skipped" in capsys.readouterr().out


@pytest.mark.skipif(not (TOOLS / "mouth_curve.py").is_file(), reason="mouth_curve.py is not in TALKHEAD_CHECK_TOOLS")
def test_mouth_is_measured_as_mouth_curve_does(head):
    """The script opens a .blend when imported; its measuring function alone is taken out of the source."""
    tree = ast.parse((TOOLS / "mouth_curve.py").read_text(encoding="utf-8"))
    wanted = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name == "measure")
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "GROUPS")
    ]
    scope: dict = {"np": np}
    exec(compile(ast.Module(wanted, []), "mouth_curve.py", "exec"), scope)
    generator = np.random.default_rng(0)
    posed = np.stack([head.pose((0.4 * generator.random(52)).astype(np.float32)) for _ in range(4)])
    gap, width = measure_mouth(posed, head.regions)
    for index, vertices in enumerate(posed):
        in_blender = 1000.0 * np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1)
        expected = scope["measure"](in_blender, head.regions)
        assert (gap[index], width[index]) == pytest.approx(expected, abs=1e-3)


def test_curves_of_weights_are_those_of_the_posed_head(head):
    weights = (0.5 * np.random.default_rng(1).random((70, len(ARKIT_BLENDSHAPES)))).astype(np.float32)
    opening, width = real_speech.curves_of_weights(head, weights, 200)
    assert len(opening) == len(width) == 200
    gap_at_rest, _ = measure_mouth(head.vertices[None], head.regions)
    gaps, widths = measure_mouth(np.stack([head.pose(row) for row in weights[:2]]), head.regions)
    # row 1 of the curves is at 15 ms, between frames 0 and 1 at 45 % of the way
    assert opening[1] == pytest.approx(0.55 * gaps[0] + 0.45 * gaps[1] - gap_at_rest[0], abs=1e-3)
    assert width[1] == pytest.approx(0.55 * widths[0] + 0.45 * widths[1], abs=1e-3)


def test_room_noise_is_quiet_and_the_same_each_time(tmp_path):
    first, again = (real_speech.make_room_noise(tmp_path, seed=4) for _ in range(2))
    assert first.num_rows == 1000
    np.testing.assert_array_equal(first.samples, again.samples)
    assert 20 * np.log10(first.samples.std()) == pytest.approx(-50.0, abs=0.01)


def test_table_has_a_row_a_system_and_intervals():
    figures = {name: Figure(0.5, 0.25, 0.75) for name in real_speech.COLUMNS}
    lines = real_speech.format_table({"one": figures, "two": figures}).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| one | 0.50 (0.25 to 0.75) |")
    assert all(line.count("|") == len(real_speech.COLUMNS) + 2 for line in lines)
