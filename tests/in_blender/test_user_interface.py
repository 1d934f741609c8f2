"""The job behind the panel, its operators and reasons: in this environment's bpy, and in BLENDER's programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.in_blender.test_scenarios import RUNNER, run

SCENARIOS = [
    ("job_goes_from_start_to_take",),
    ("job_ends_without_a_trace",),
    ("job_outlives_lost_data",),
    ("job_makes_what_the_function_makes",),
    ("operator_runs_blocking",),
    ("another_file_ends_the_job",),
    ("panel_says_why_not",),
    ("settings_are_read",),
    ("sliders_presets_and_files",),
    ("heads_at_rest_speak_later",),
    ("takes_change_with_their_head",),
    ("bones_and_tongue_follow_the_face",),
    ("heads_that_cannot_be_shaped",),
    ("takes_of_facetalk", "tracked"),
    ("takes_of_facetalk", "sequence"),
    ("failed_takes_leave_nothing", "tracked"),
    ("failed_takes_leave_nothing", "sequence"),
    ("sequences_from_the_command",),
    ("stopped_sequences_go_on",),
    ("kept_results_are_trimmed",),
    ("facetalk_says_why_not",),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids="-".join)
def test_in_the_bpy_module(scenario: tuple[str, ...], tmp_path: Path) -> None:
    run([sys.executable, str(RUNNER)], scenario, tmp_path)


@pytest.mark.parametrize("scenario", SCENARIOS, ids="-".join)
def test_in_real_programs(scenario: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [program for program in os.environ.get("BLENDER", "").split(":") if program]
    if not programs:
        pytest.skip("no Blender program named by BLENDER")
    monkeypatch.setenv("TALKHEAD_TEST_PYTHON", sys.executable)  # for the made-up backend
    for number, program in enumerate(programs):
        folder = tmp_path / str(number)
        folder.mkdir()
        run([program, "-b", "--factory-startup", "--python-exit-code", "1", "-P", str(RUNNER), "--"], scenario, folder)
