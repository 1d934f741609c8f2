"""Every scenario in a process of its own with a time limit: in this environment's bpy, and in BLENDER's programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_scenario.py")
SCENARIOS = [
    ("bakes_survive_saving", "basis"),
    ("bakes_survive_saving", "per-frame"),
    ("bakes_survive_saving", "cache"),
    ("frame_rates_stay_in_sync",),
    ("new_take_on_a_target",),
    ("wrong_targets_are_refused",),
    ("failures_leave_the_scene",),
    ("unwritable_cache",),
    ("previews_show_the_take",),
    ("textures_are_packed",),
    ("hair_follows_the_head", "basis"),
    ("hair_follows_the_head", "cache"),
    ("hair_goes_with_the_head",),
    ("materials_of_all_parts",),
    ("eyes_have_rings",),
    ("one_animation", "basis"),
    ("one_animation", "per-frame"),
    ("one_animation", "cache"),
    ("strips_stay_in_sync",),
    ("strips_that_cannot_be_used",),
    ("takes_sound_in_sync",),
    ("targets_that_do_not_fit",),
    ("linked_targets",),
    ("shape_keys_of_the_user",),
    ("modifiers_of_the_user",),
    ("files_that_cannot_be_used",),
    ("settings_out_of_range",),
    ("unusual_times",),
    ("diagnosis",),
    ("another_resolution",),
    ("removing",),
    ("repeated_bakes",),
    ("animation_of_the_object",),
    ("all_ways_give_the_same", "basis"),
    ("all_ways_give_the_same", "per-frame"),
    ("all_ways_give_the_same", "cache"),
    ("gltf_keeps_the_motion", "plain"),
    ("gltf_keeps_the_motion", "performed"),
    ("performed_takes", "basis"),
    ("performed_takes", "per-frame"),
    ("performed_takes", "cache"),
    ("hair_stays_on_the_head",),
    ("shapes_of_the_backend_are_used",),
    ("controls_change_the_take",),
    ("drivers_and_nla_decide_about_controls",),
    ("applying_is_quick",),
    ("meshes_of_the_user_get_no_bones",),
    ("performance_panel",),
    ("performed_failures",),
    ("sequence_plays_without_the_extension", "24"),
    ("sequence_plays_without_the_extension", "30"),
    ("sequence_plays_without_the_extension", "15"),
    ("sequence_renders",),
    ("pictures_of_a_sequence",),
    ("sequences_go_without_a_trace",),
    ("sequence_is_one_undo_step",),
]
LIMIT_SECONDS = 240


def run(command: list[str], scenario: tuple[str, ...], folder: Path) -> None:
    name, *values = scenario
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["TALKHEAD_TEST_PYTHON"] = sys.executable
    result = subprocess.run(
        [*command, name, str(folder), *values],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        env=environment,
        check=False,
    )
    assert result.returncode == 0 and f"scenario {name} passed" in result.stdout, (
        f"exit code {result.returncode}\n{result.stdout[-1500:]}\n{result.stderr[-4000:]}"
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids="-".join)
def test_in_the_bpy_module(scenario: tuple[str, ...], tmp_path: Path) -> None:
    run([sys.executable, str(RUNNER)], scenario, tmp_path)


@pytest.mark.parametrize("scenario", SCENARIOS, ids="-".join)
def test_in_real_programs(scenario: tuple[str, ...], tmp_path: Path) -> None:
    programs = [program for program in os.environ.get("BLENDER", "").split(":") if program]
    if not programs:
        pytest.skip("no Blender program named by BLENDER")
    for number, program in enumerate(programs):
        folder = tmp_path / str(number)
        folder.mkdir()
        run([program, "-b", "--factory-startup", "--python-exit-code", "1", "-P", str(RUNNER), "--"], scenario, folder)
