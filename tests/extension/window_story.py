"""An animator's first ten minutes in a real window, with a picture and a check at each step.

`python -m tests.extension.window_story ZIP PICTURES PROGRAM` runs it by hand; test_window.py runs it as a test.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

from tests.extension.matrix import install
from tests.extension.programs import ROOT, BlenderProgram, Sandbox
from tests.extension.window import BlenderWindow

SIDEBAR = ("VIEW_3D", "UI")
TAB_PIXELS = 25
LEAVE_SECONDS = 20
REPETITIONS = 8
BACKEND_SECONDS = 90
ANIMATION_SECONDS = 180
PLAYBACK_SECONDS = 60
MAX_TICK_MS = 2.0
LEAST_MOTION_M = 0.002


def tell_story(
    program: BlenderProgram, zip_file: Path, backend_python: Path, folder: Path, pictures: Path
) -> dict[str, Any]:
    """Install, animate, cancel, animate again, undo, redo, play.

    Returns:
        Figures: "ticks" (95 % of the timer's ticks in ms, and their number, for "working" and "baking"), "seconds" of
        the whole animation, the number of "fractions" that the progress bar showed, ...

    Raises:
        AssertionError: a step did not show what it must; a picture of the screen lies in `pictures`.
    """
    sandbox = Sandbox(program, folder)
    sandbox.environment()
    recording = repeat_recording(ROOT / "blender_talkhead" / "demo" / "demo_sentence.wav", folder / "speech.wav")
    facts: dict[str, Any] = {"program": program.name}
    with BlenderWindow(sandbox, pictures, backend_python=backend_python) as window:
        open_start(window)
        install_from_preferences(window, zip_file, folder / "home")
        open_tab(window)
        choose_recording(window, recording)
        before = scene_now(window)
        facts |= run_and_cancel(window, before)
        facts |= run_to_the_end(window, before)
        undo_and_redo(window, before)  # before playing: in Blender 5.2 to stop the playback is an undo step itself
        show(window)
        facts |= play(window)
    return facts


def leave_mid_job(
    program: BlenderProgram, zip_file: Path, backend_python: Path, folder: Path, pictures: Path
) -> dict[str, Any]:
    """Another file is loaded, then Blender is closed, while it animates: no process and no half-made result stay.

    Returns:
        Seconds until the backend's process was gone, "new_file" and "quit".

    Raises:
        AssertionError: as `tell_story`.
    """
    sandbox = Sandbox(program, folder)
    sandbox.environment()
    recording = repeat_recording(ROOT / "blender_talkhead" / "demo" / "demo_sentence.wav", folder / "speech.wav")
    install(sandbox, zip_file)
    facts = {}
    with BlenderWindow(sandbox, pictures, backend_python=backend_python) as window:
        open_start(window)
        for name, keys in (("new_file", ("ctrl+n", "g", "d")), ("quit", ("ctrl+q", "d"))):
            open_tab(window)
            choose_recording(window, recording)
            press_animate(window)
            window.wait_for(lambda state: state["talkhead"]["status"]["fraction"] > 0.02, "progress", ANIMATION_SECONDS)
            assert backend_processes(sandbox), "no process of the backend was found"
            window.move(*window.center("VIEW_3D"))
            began = time.monotonic()
            for key in keys:  # "d" is Don't Save
                window.keys(key)
                time.sleep(0.3)
            if name == "quit":
                window.wait_for_end(20)
            else:
                state = window.wait_for(lambda state: not state["talkhead"]["settings"]["audio"], "the new file", 20)
                assert not state["talkhead"]["status"]["running"], state["talkhead"]
                assert state["scene"]["actions"] == [] and "TalkHead" not in state["scene"]["objects"], state["scene"]
                window.picture(name)
                open_sidebar(window)
            while backend_processes(sandbox):
                assert time.monotonic() - began < LEAVE_SECONDS, f"{name}: the backend's process still runs"
                time.sleep(0.1)
            facts[name] = time.monotonic() - began
            left = [str(path) for path in folder.rglob("job-*")]
            assert left == [], f"{name}: left behind {left}"
    return facts


def backend_processes(sandbox: Sandbox) -> list[int]:
    """Processes of the backend that this sandbox's Blender has started."""
    home = f"HOME={sandbox.folder / 'home'}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_backend = b"torch_backend" in (entry / "cmdline").read_bytes()
            if is_backend and home in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # gone meanwhile
            continue
    return found


def repeat_recording(source: Path, target: Path) -> Path:
    """The recording several times, so that there is time to look at the progress and to cancel."""
    with wave.open(str(source)) as read, wave.open(str(target), "wb") as written:
        written.setparams(read.getparams())
        written.writeframes(read.readframes(read.getnframes()) * REPETITIONS)
    return target


def open_start(window: BlenderWindow) -> None:
    """Close the splash screen, move the cube out of the head's place, and open the sidebar."""
    window.picture("start")
    window.keys("Escape")
    window.click(*window.center("VIEW_3D"))
    window.keys("g", "x", "3", "Return")
    open_sidebar(window)


def open_sidebar(window: BlenderWindow) -> None:
    """Show the 3D view's sidebar."""
    window.move(*window.center("VIEW_3D"))
    for _ in range(3):
        window.keys("n")
        time.sleep(1.0)
        if any(entry.get("sidebar") for entry in window.fresh_state()["windows"][0]["areas"]):
            return
    raise AssertionError("the sidebar does not open")


def install_from_preferences(window: BlenderWindow, zip_file: Path, home: Path) -> None:
    """Edit > Preferences > Get Extensions > Install from Disk."""
    shutil.copy(zip_file, home / zip_file.name)  # the folder that the file browser opens in
    window.keys("F4")
    window.keys("p")
    window.wait_for(lambda state: len(state["windows"]) == 2, "the preferences", 20)
    window.focus(1)
    choose_section(window, "EXTENSIONS")
    left, top, width, _ = window.box("PREFERENCES", "WINDOW", 1)
    window.click(left + width - 19, top + 18)
    window.picture("extensions")
    window.keys("f")  # Install from Disk, as underlined
    window.wait_for(lambda state: len(state["windows"]) == 3, "the file browser", 20)
    time.sleep(1.0)
    window.focus(2)
    left, top, width, height = window.box("FILES", "EXECUTE", 2)
    window.click(left + 0.3 * width, top + 0.5 * height)
    window.keys("ctrl+a")
    window.type(zip_file.name)
    window.keys("Return")
    window.picture("file_browser")
    window.click(left + width - 60, top + 0.5 * height)
    window.wait_for(lambda state: state["talkhead"] is not None, "the extension to be enabled", 60)
    window.focus(1)
    time.sleep(2.0)
    window.picture("installed")
    window.hide(1)  # there is no window manager here that could close it
    window.focus(0)


def choose_section(window: BlenderWindow, section: str) -> None:
    """Click through the preferences' sections until one is shown."""
    left, top, width, height = window.box("PREFERENCES", "NAVIGATION_BAR|UI", 1)  # the second name since 5
    for y in range(top + 12, top + height, 12):
        window.click(left + width / 2, y)
        if window.fresh_state()["section"] == section:
            time.sleep(0.5)
            return
    raise AssertionError(f"the preferences have no section {section}")


def open_tab(window: BlenderWindow) -> None:
    """Click through the sidebar's tabs until TalkHead's is shown, and wait for the backend to be found."""
    left, top, width, _ = window.box(*SIDEBAR)
    for y in range(top + 20, top + 500, TAB_PIXELS):
        window.click(left + width - 12, y)
        if any(region["tab"] == "TalkHead" for region in sidebars(window.fresh_state())):
            break
    else:
        raise AssertionError("the sidebar has no tab TalkHead")
    window.picture("tab")
    window.wait_for(lambda state: bool(state["talkhead"]["status"]["backend_found"]), "the backend", BACKEND_SECONDS)


def sidebars(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [r for area in state["windows"][0]["areas"] for r in area["regions"] if (area["type"], r["type"]) == SIDEBAR]


def choose_recording(window: BlenderWindow, recording: Path) -> None:
    """Type the recording's path into the panel."""
    x, y = window.find("audio", *SIDEBAR, columns=(0.55,))
    window.click(x, y + 3)
    window.pointer("click", "--repeat", 2, 1)
    time.sleep(0.5)
    window.keys("ctrl+a")
    window.type(str(recording))
    window.keys("Return")
    state = window.wait_for(lambda state: bool(state["talkhead"]["settings"]["audio"]), "the typed path", 10)
    assert state["talkhead"]["settings"]["audio"] == str(recording), state["talkhead"]
    window.move(*window.center("VIEW_3D"))
    window.picture("recording_chosen")


def scene_now(window: BlenderWindow) -> dict[str, Any]:
    """The scene without what playing changes."""
    return without_time(window.fresh_state()["scene"])


def without_time(scene: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scene.items() if name not in ("frame", "lowest")}


def press_animate(window: BlenderWindow) -> None:
    """Click Animate from Audio; the pointer goes back to the view."""
    window.click(*window.find("talkhead.animate", *SIDEBAR, columns=(0.5,)))
    window.wait_for(lambda state: bool(state["talkhead"]["status"]["running"]), "the animation to start", 20)
    window.move(*window.center("VIEW_3D"))


def view_of(state: dict[str, Any]) -> Any:
    return next(area["view"] for area in state["windows"][0]["areas"] if "view" in area)


def run_and_cancel(window: BlenderWindow, before: dict[str, Any]) -> dict[str, Any]:
    """Progress moves, the view orbits meanwhile, Esc asks, Esc again cancels; the scene is as before."""
    press_animate(window)
    state = window.wait_for(lambda state: state["talkhead"]["status"]["fraction"] > 0.15, "progress", ANIMATION_SECONDS)
    first, view = state["talkhead"]["status"]["fraction"], view_of(state)
    time.sleep(0.5)  # until it is drawn
    window.picture("running")
    x, y = window.center("VIEW_3D")
    window.drag((x - 200, y), (150, 60))
    state = window.fresh_state()
    assert state["talkhead"]["status"]["running"], "the animation ended before the view was orbited"
    assert view_of(state) != view, "the view did not orbit while the animation ran"
    state = window.wait_for(
        lambda state: state["talkhead"]["status"]["fraction"] > first, "progress to move", ANIMATION_SECONDS
    )
    window.picture("orbited")
    assert without_time(state["scene"]) == before, "the scene changed before the bake"
    window.keys("Escape")
    state = window.fresh_state()
    assert state["talkhead"]["status"]["running"], "the first Esc must only ask"
    window.picture("escape_asks")
    window.keys("Escape")
    state = window.wait_for(lambda state: not state["talkhead"]["status"]["running"], "the cancel", 20)
    assert state["talkhead"]["status"]["phase"] == "cancelled", state["talkhead"]["status"]
    time.sleep(1.0)  # until it is drawn
    window.picture("cancelled")
    assert scene_now(window) == before, "cancelling changed the scene"
    return {"cancelled_at": state["talkhead"]["status"]["fraction"]}


def run_to_the_end(window: BlenderWindow, before: dict[str, Any]) -> dict[str, Any]:
    """The second run makes the head; what was there stays."""
    press_animate(window)
    began, fractions, phases, estimates = time.monotonic(), [], [], []
    while True:
        state = window.state()
        status = state["talkhead"]["status"]
        fractions.append(status["fraction"])
        phases.append(status["phase"])
        estimates.append(status["seconds_left"])
        if not status["running"]:
            break
        assert time.monotonic() - began < ANIMATION_SECONDS, f"still running: {status}"
        window.pointer("mousemove_relative", "--", (-1) ** len(fractions), 0)
        time.sleep(0.05)
    seconds = time.monotonic() - began
    assert status["phase"] == "done", status
    assert fractions == sorted(fractions), "the progress bar went back"
    assert max(estimates) > 0.0, "the time left was never told"
    state = window.fresh_state()
    time.sleep(1.0)  # until it is drawn
    window.picture("done")
    scene = state["scene"]
    assert set(scene["objects"]) > set(before["objects"]) and "TalkHead" in scene["objects"], scene
    for name in ("camera", "range", "rate"):
        assert scene[name] == before[name], f"{name} was {before[name]} and is {scene[name]}"
    assert len(scene["strips"]) == 1, scene["strips"]
    ticks = state["talkhead"]["ticks"]
    assert ticks["working"][0] < MAX_TICK_MS, f"95 % of the ticks take {ticks['working'][0]} ms"
    return {
        "seconds": seconds,
        "ticks": ticks,
        "fractions": len(set(fractions)),
        "phases": list(dict.fromkeys(phases)),
    }


def play(window: BlenderWindow) -> dict[str, Any]:
    """Space plays; frames pass and the lips move."""
    window.move(*window.center("VIEW_3D"))
    window.keys("space")
    window.wait_for(lambda state: state["windows"][0]["playing"], "playback", 10)
    heights: dict[int, float] = {}
    deadline = time.monotonic() + PLAYBACK_SECONDS
    while len(heights) < 10 or max(heights.values()) - min(heights.values()) < LEAST_MOTION_M:
        scene = window.state()["scene"]
        heights[scene["frame"]] = scene["lowest"]
        assert time.monotonic() < deadline, f"in {PLAYBACK_SECONDS} s of playback the lower lip moved so: {heights}"
        time.sleep(0.05)
    window.picture("playing")
    window.keys("space")
    window.wait_for(lambda state: not state["windows"][0]["playing"], "playback to stop", 10)
    return {"lip_moved_mm": (max(heights.values()) - min(heights.values())) * 1000.0}


def undo_and_redo(window: BlenderWindow, before: dict[str, Any]) -> None:
    """One undo takes the whole animation back, one redo brings it again."""
    after = scene_now(window)
    window.move(*window.center("VIEW_3D"))
    window.keys("ctrl+z")
    time.sleep(1.0)
    undone = scene_now(window)
    window.picture("undone")
    assert undone == before, f"after one undo: {difference(undone, before)}"
    window.keys("ctrl+shift+z")
    time.sleep(1.0)
    redone = scene_now(window)
    window.picture("redone")
    assert redone == after, f"after redo: {difference(redone, after)}"


def show(window: BlenderWindow) -> None:
    """The result's button frames the head; the front view shows its face."""
    window.click(*window.find("talkhead.show_take", *SIDEBAR, columns=(0.3,)))
    window.move(*window.center("VIEW_3D"))
    window.keys("KP_1")
    time.sleep(2.0)
    window.picture("shown")


def difference(shown: dict[str, Any], wanted: dict[str, Any]) -> str:
    return json.dumps({name: [shown[name], wanted[name]] for name in wanted if shown[name] != wanted[name]})


def main() -> None:
    zip_file, pictures, program = (Path(text).absolute() for text in sys.argv[1:4])
    with tempfile.TemporaryDirectory() as folder:
        blender = BlenderProgram(program.name, program, is_module=False)
        facts = tell_story(blender, zip_file, Path(sys.executable), Path(folder), pictures)
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
