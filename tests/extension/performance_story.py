"""An animator keys the controls of a performance over time, by the mouse and the keyboard alone, and applies them.

`python -m tests.extension.performance_story ZIP PICTURES PROGRAM [RECORDING]` runs it by hand.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.extension.matrix import install
from tests.extension.programs import ROOT, BlenderProgram, Sandbox
from tests.extension.window import BlenderWindow
from tests.extension.window_story import (
    ANIMATION_SECONDS,
    SIDEBAR,
    choose_recording,
    open_start,
    open_tab,
    play,
    press_animate,
    show,
)

VALUE_COLUMN = 0.72
"""Where in the sidebar the values stand."""
KEYED = ("mouth_strength", "blink_rate", "expression", "expression_strength")
LARGEST_FILE_MB = 15.0
APPLY_SECONDS = 20
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "surprised")


def key_controls(
    program: BlenderProgram, zip_file: Path, backend_python: Path, folder: Path, pictures: Path, recording: Path
) -> dict[str, Any]:
    """Animate a recording; key mouth strength, blink rate and expression at three times; apply, play, save.

    Returns:
        Figures: "megabytes" of the saved file, "lip_moved_mm", the "keys" of each control, seconds to "apply".

    Raises:
        AssertionError: a step did not show what it must; a picture of the screen lies in `pictures`.
    """
    sandbox = Sandbox(program, folder)
    sandbox.environment()
    install(sandbox, zip_file)
    facts: dict[str, Any] = {"program": program.name}
    with BlenderWindow(sandbox, pictures, backend_python=backend_python) as window:
        open_start(window)
        open_tab(window)
        choose_recording(window, recording)
        press_animate(window)
        state = window.wait_for(
            lambda state: not state["talkhead"]["status"]["running"], "the animation to end", ANIMATION_SECONDS
        )
        assert state["talkhead"]["status"]["phase"] == "done", state["talkhead"]["status"]
        time.sleep(1.0)
        show(window)
        before = performance_now(window)
        assert before["sums"] and not before["keys"], before
        places = find_controls(window)
        last = last_frame(window)
        wanted: tuple[tuple[int, dict[str, float | str]], ...] = (
            (1, {"mouth_strength": 1.0, "blink_rate": 1.0, "expression": "neutral"}),
            (last // 3, {"mouth_strength": 1.5, "blink_rate": 2.0, "expression": "happy"}),
            (2 * last // 3, {"mouth_strength": 0.4, "blink_rate": 0.0, "expression": "angry"}),
        )
        for frame, values in wanted:
            go_to_frame(window, frame)
            for name, value in values.items():
                set_and_key(window, places[name], name, value)
            window.move(*window.center("VIEW_3D"))
            time.sleep(1.5)  # until the tooltip is gone and all is drawn
            window.picture(f"keyed_at_{frame}")
        facts["keys"] = performance_now(window)["keys"]
        facts |= apply(window, places, before)
        for frame in (last // 6, last // 2, 5 * last // 6):
            go_to_frame(window, frame)
            window.picture(f"applied_{frame}")
        facts |= play(window)
        facts["megabytes"] = save(window, folder)
    return facts


def performance_now(window: BlenderWindow) -> dict[str, Any]:
    """Values, keys and curves of the head's controls."""
    found: dict[str, Any] = window.fresh_state()["scene"]["performance"]
    return found


def last_frame(window: BlenderWindow) -> int:
    """The scene's last frame, at most 120: no part of the recording is beyond."""
    return min(120, int(window.state()["scene"]["range"][1]))


def find_controls(window: BlenderWindow) -> dict[str, tuple[int, int]]:
    """Scroll the sidebar to its end, where the panel is, and find every control."""
    left, top, width, height = window.box(*SIDEBAR)
    window.turn_wheel(left + 0.5 * width, top + 0.8 * height, 30)
    time.sleep(1.0)
    window.picture("controls")
    places = window.places(*SIDEBAR, VALUE_COLUMN)
    missing = [name for name in (*KEYED, "talkhead.apply_performance") if name not in places]
    if missing:
        window.picture("not_found")
    assert not missing, f"the sidebar shows no {missing}; there are {sorted(places)}"
    return places


def go_to_frame(window: BlenderWindow, frame: int) -> None:
    """Press and drag the playhead along the timeline until it stands at a frame."""
    left, top, width, height = window.box("TIMELINE", "WINDOW")
    low, high = left + 4.0, left + width - 4.0
    y = top + 12 if height > 40 else top + height / 2
    for _ in range(18):
        x = 0.5 * (low + high)
        window.click(x, y)
        shown = window.fresh_state()["scene"]["frame"]
        if shown == frame:
            break
        low, high = (x, high) if shown < frame else (low, x)
    assert abs(shown - frame) <= 1, f"the playhead stands at {shown}, wanted {frame}"
    window.move(*window.center("VIEW_3D"))


def set_and_key(window: BlenderWindow, place: tuple[int, int], name: str, value: float | str) -> None:
    """Set a control and press I over it."""
    if isinstance(value, str):
        choose_expression(window, place, value)
    else:
        type_number(window, place, name, value)
    before = len(performance_now(window)["keys"].get(name, []))
    point_at(window, place, name)
    window.keys("i")
    window.wait_for(
        lambda state: len(state["scene"]["performance"]["keys"].get(name, [])) == before + 1, f"a key of {name}", 10
    )


def type_number(window: BlenderWindow, place: tuple[int, int], name: str, value: float) -> None:
    """Enter over a field edits its number; once more where the window was too slow to see all keys."""
    for _ in range(4):
        shown = performance_now(window)["values"][name]
        if abs(float(shown) - value) < 1e-4:
            return
        point_at(window, place, name)
        window.keys("Return")
        time.sleep(0.6)
        window.keys("ctrl+a")
        window.type(str(value))
        time.sleep(0.3)
        window.keys("Return")
        time.sleep(0.6)
    raise AssertionError(f"{name} shows {shown}, wanted {value}")


def point_at(window: BlenderWindow, place: tuple[int, int], name: str) -> None:
    """Move the pointer there and wait until Blender knows that it is over the control or the button."""
    for _ in range(3):
        window.move(*window.center("VIEW_3D"))
        window.move(*place)
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            areas = window.fresh_state()["windows"][0]["areas"]
            if any(region["hovered"].split("(")[0] == name for area in areas for region in area["regions"]):
                return
        window.keys("Escape")  # of a field that is still being edited
    raise AssertionError(f"the pointer is not over {name}")


def choose_expression(window: BlenderWindow, place: tuple[int, int], name: str) -> None:
    """Turn the wheel with Ctrl over the menu until it shows an expression."""
    for _ in range(2 * len(EXPRESSIONS)):
        shown = performance_now(window)["values"]["expression"]
        if shown == name:
            return
        point_at(window, place, "expression")
        step = 1 if EXPRESSIONS.index(shown) < EXPRESSIONS.index(name) else -1
        window.turn_wheel(*place, step, held="ctrl")
    raise AssertionError(f"the menu does not come to {name}")


def apply(window: BlenderWindow, places: dict[str, tuple[int, int]], before: dict[str, Any]) -> dict[str, Any]:
    """Click Apply Performance; the curves of the take change, the keys of the controls do not."""
    keys = performance_now(window)["keys"]
    assert set(keys) == {"mouth_strength", "blink_rate", "expression"}, keys
    assert all(len(points) == 3 for points in keys.values()), keys
    began = time.monotonic()
    point_at(window, places["talkhead.apply_performance"], "talkhead.apply_performance")
    window.pointer("click", 1)
    state = window.wait_for(
        lambda state: state["scene"]["performance"]["sums"] != before["sums"], "the new curves", APPLY_SECONDS
    )
    seconds = time.monotonic() - began
    after = state["scene"]["performance"]
    assert after["keys"] == keys, "applying changed the keys of the controls"
    assert after["sums"].get("mouthSmileLeft", 0.0) > before["sums"].get("mouthSmileLeft", 0.0) + 0.5, after["sums"]
    assert after["sums"].get("browDownLeft", 0.0) > before["sums"].get("browDownLeft", 0.0) + 0.5, after["sums"]
    time.sleep(4.0)  # until a busy machine has drawn it
    window.picture("applied")
    return {"apply": seconds}


def save(window: BlenderWindow, folder: Path) -> float:
    """Ctrl S, a name, Save; returns the file's megabytes."""
    window.move(*window.center("VIEW_3D"))
    window.keys("ctrl+s")
    window.wait_for(lambda state: len(state["windows"]) == 2, "the file browser", 20)
    time.sleep(1.0)
    window.focus(1)
    left, top, width, height = window.box("FILES", "EXECUTE", 1)
    window.click(left + 0.3 * width, top + 0.5 * height)
    window.keys("ctrl+a")
    window.type("performance.blend")
    window.keys("Return")
    window.picture("saving")
    window.click(left + width - 60, top + 0.5 * height)
    deadline = time.monotonic() + 30
    while not (found := list(folder.rglob("performance.blend"))):
        assert time.monotonic() < deadline, "nothing was saved"
        time.sleep(0.2)
    time.sleep(1.0)
    megabytes = found[0].stat().st_size / 1e6
    assert megabytes < LARGEST_FILE_MB, f"the file has {megabytes:.1f} MB"
    return megabytes


def main() -> None:
    zip_file, pictures, program = (Path(text).absolute() for text in sys.argv[1:4])
    demo = ROOT / "blender_talkhead" / "demo" / "demo_sentence.wav"
    recording = Path(sys.argv[4]).absolute() if len(sys.argv) > 4 else demo
    with tempfile.TemporaryDirectory() as folder:
        blender = BlenderProgram(program.name, program, is_module=False)
        facts = key_controls(blender, zip_file, Path(sys.executable), Path(folder), pictures, recording)
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
