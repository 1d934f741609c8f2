"""A Blender window on a virtual screen, driven by xdotool: what a person does, and what a person sees.

Needs Xvfb and xdotool. Buttons are found as a person finds them, by moving the pointer over a region until the wanted
one is under it (the companion inside Blender tells which one that is).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tests.extension.programs import Sandbox

COMPANION = Path(__file__).with_name("window_companion.py")
SIZE = (1500, 950)
STEP_PIXELS = 10
SETTLE_SECONDS = 0.25


def missing_tools() -> list[str]:
    """The programs that a window test needs and that are not here."""
    return [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]


class BlenderWindow:
    """Starts a screen and Blender in it; as a context manager it ends both.

    Args:
        sandbox: the user's folders, with the extension installed or not.
        pictures: where screenshots go.
        arguments: of Blender, before the companion's.
        backend_python: the Python that has torch.
    """

    def __init__(
        self, sandbox: Sandbox, pictures: Path, arguments: tuple[str, ...] = (), backend_python: Path | None = None
    ) -> None:
        self._sandbox = sandbox
        self._pictures = pictures
        self._arguments = arguments
        self._backend_python = backend_python
        self._state_file = sandbox.folder / "state.json"
        self._screen_folder = sandbox.folder / "screen"
        self._number = 0
        self._shown = 0
        self._screen: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        """Blender (or its launcher)."""
        self.log = sandbox.folder / "window.log"

    def __enter__(self) -> BlenderWindow:
        self._pictures.mkdir(parents=True, exist_ok=True)
        self._screen_folder.mkdir(parents=True, exist_ok=True)
        self._state_file.unlink(missing_ok=True)
        try:
            self._start_screen()
            self._start_blender()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.picture("failure")
        self.close()

    def close(self) -> None:
        """End Blender and the screen."""
        for process in (self.process, self._screen):
            if process is None or process.poll() is not None:
                continue
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start_screen(self) -> None:
        read, write = os.pipe()
        geometry = f"{SIZE[0]}x{SIZE[1]}x24"
        command = ["Xvfb", "-displayfd", str(write), "-screen", "0", geometry, "-fbdir", str(self._screen_folder)]
        self._screen = subprocess.Popen(
            command, pass_fds=(write,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        os.close(write)
        with os.fdopen(read) as told:
            self._number = int(told.readline())

    def _start_blender(self) -> None:
        options = ["--window-geometry", "0", "0", str(SIZE[0]), str(SIZE[1]), "--window-border"]
        command = [str(self._sandbox.program.executable), *options, *self._arguments, "-P", str(COMPANION)]
        environment = {**self._sandbox.environment(self._backend_python), "DISPLAY": f":{self._number}"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--", str(self._state_file)], cwd=self._sandbox.folder, env=environment, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.wait_for(lambda state: bool(state["windows"]), "the first look at the window", 90)

    # What is seen

    def state(self) -> dict[str, Any]:
        """What the companion wrote last.

        Raises:
            AssertionError: Blender has ended.
        """
        assert self.process is not None
        text = self.log.read_text(errors="replace")[-3000:] if self.process.poll() is not None else ""
        assert self.process.poll() is None, f"Blender ended with code {self.process.returncode}\n{text}"
        return dict(json.loads(self._state_file.read_text(encoding="utf-8"))) if self._state_file.exists() else {
            "count": 0, "windows": [], "scene": None, "talkhead": None
        }  # fmt: skip

    def fresh_state(self) -> dict[str, Any]:
        """The state of two looks later: what was done before this call is in it."""
        count = self.state()["count"]
        return self.wait_for(lambda state: state["count"] >= count + 2, "another look", 60)

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], what: str, seconds: float) -> dict[str, Any]:
        """Wait until the state fulfils a condition; returns that state.

        Raises:
            AssertionError: it did not in that time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = self.state()
            if condition(state):
                return state
            time.sleep(0.05)
        self.picture("waited")
        raise AssertionError(f"waited {seconds:g} s for {what}; the last state: {json.dumps(self.state())[:3000]}")

    def wait_for_end(self, seconds: float) -> None:
        """Wait until Blender has ended by itself, without an error.

        Raises:
            AssertionError: it did not.
        """
        assert self.process is not None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.picture("still_there")
            raise AssertionError(f"Blender still runs after {seconds:g} s") from None
        assert code == 0, f"Blender ended with code {code}\n{self.log.read_text(errors='replace')[-3000:]}"

    def picture(self, name: str) -> Path:
        """Save what the screen shows as a numbered PNG."""
        self._shown += 1
        path = self._pictures / f"{self._shown:02d}_{name}.png"
        pixels = read_screen(self._screen_folder / "Xvfb_screen0")
        path.write_bytes(encode_png(pixels))
        return path

    # What is done

    def pointer(self, *arguments: object) -> None:
        """Run xdotool on the screen."""
        self.ask(*arguments)

    def ask(self, *arguments: object) -> str:
        """Run xdotool on the screen; returns what it prints."""
        environment = {**os.environ, "DISPLAY": f":{self._number}"}
        command = ["xdotool", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, check=True, timeout=60, text=True, stdout=subprocess.PIPE
        ).stdout

    def move(self, x: float, y: float) -> None:
        """Move the pointer there, by a small step at the end as a hand does."""
        self.pointer("mousemove", int(x) - 3, int(y) - 2, "mousemove", int(x), int(y))

    def click(self, x: float, y: float) -> None:
        """Move there and click."""
        self.move(x, y)
        time.sleep(SETTLE_SECONDS)
        self.pointer("click", 1)
        time.sleep(SETTLE_SECONDS)

    def drag(self, start: tuple[float, float], way: tuple[float, float], button: int = 2) -> None:
        """Press a button, pull, release; the middle one orbits the view."""
        self.move(*start)
        self.pointer("mousedown", button)
        for part in range(1, 11):
            self.pointer("mousemove", int(start[0] + way[0] * part / 10), int(start[1] + way[1] * part / 10))
            time.sleep(0.03)
        self.pointer("mouseup", button)

    def keys(self, *names: str) -> None:
        """Press keys, such as "Escape" or "ctrl+z"."""
        for name in names:
            self.pointer("key", name)
            time.sleep(SETTLE_SECONDS)

    def type(self, text: str) -> None:
        """Type text."""
        self.pointer("type", "--delay", 15, text)
        time.sleep(SETTLE_SECONDS)

    # Where things are

    def box(self, area: str, region: str, window: int = 0) -> tuple[int, int, int, int]:
        """(left, top, width, height) on the screen of a region of the first area of a type, as ("VIEW_3D", "UI").

        A region "A|B" is either of them.

        Raises:
            AssertionError: there is none.
        """
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            windows = self.state()["windows"]
            for entry in windows[window]["areas"] if len(windows) > window else []:
                for candidate in entry["regions"]:
                    if entry["type"] == area and candidate["type"] in region.split("|"):
                        left, top, width, height = candidate["box"]
                        x, y = self._corners()[window]
                        return left + x, top + y, width, height
            time.sleep(0.1)
        raise AssertionError(f"no region {region} in an area {area} of window {window}")

    def center(self, area: str, region: str = "WINDOW") -> tuple[float, float]:
        """The middle of a region."""
        left, top, width, height = self.box(area, region)
        return left + width / 2, top + height / 2

    def _identities(self) -> list[str]:
        """Blender's windows as X knows them, in the order in which they were opened."""
        return sorted(self.ask("search", "--onlyvisible", "--name", ".").split(), key=int)

    def _corners(self) -> list[tuple[int, int]]:
        """(left, top) of each window on the screen."""
        corners = []
        for identity in self._identities():
            told = dict(line.split("=") for line in self.ask("getwindowgeometry", "--shell", identity).split())
            corners.append((int(told["X"]), int(told["Y"])))
        return corners

    def focus(self, window: int) -> None:
        """Give a window the keyboard, as a window manager would."""
        self.pointer("windowfocus", self._identities()[window])

    def hide(self, window: int) -> None:
        """Take a window off the screen."""
        self.pointer("windowunmap", self._identities()[window])

    def widgets(self, area: str, region: str, columns: tuple[float, ...] = (0.5,)) -> Iterator[tuple[str, int, int]]:
        """Move the pointer down a region; yields (property or operator, x, y) for each button met."""
        left, top, width, height = self.box(area, region)
        for column in columns:
            x = int(left + column * width)
            for y in range(top + STEP_PIXELS, min(top + height, SIZE[1] - 1), STEP_PIXELS):
                self.move(x, y)
                state = self.fresh_state()
                for entry in state["windows"][0]["areas"]:
                    for candidate in entry["regions"]:
                        if entry["type"] == area and candidate["type"] == region and candidate["hovered"]:
                            yield candidate["hovered"], x, y

    def places(self, area: str, region: str, column: float) -> dict[str, tuple[int, int]]:
        """The middle of every button met on the way down a region, by property or operator."""
        rows: dict[str, list[int]] = {}
        across = 0
        for name, x, y in self.widgets(area, region, (column,)):
            rows.setdefault(name.split("(")[0], []).append(y)
            across = x
        return {name: (across, sum(found) // len(found)) for name, found in rows.items()}

    def turn_wheel(self, x: float, y: float, steps: int, held: str | None = None) -> None:
        """Turn the mouse wheel towards the hand (down the page), or away from it where `steps` is negative."""
        self.move(x, y)
        held_down = ("keydown", held) if held else ()
        self.pointer(*held_down, "click", "--repeat", abs(steps), "--delay", 80, 5 if steps > 0 else 4)
        if held:
            self.pointer("keyup", held)
        time.sleep(SETTLE_SECONDS)

    def find(
        self, wanted: str, area: str = "VIEW_3D", region: str = "UI", columns: tuple[float, ...] = (0.6,)
    ) -> tuple[int, int]:
        """The place of the button whose property or operator begins with `wanted`.

        Raises:
            AssertionError: it is not there; lists what is.
        """
        met = []
        for name, x, y in self.widgets(area, region, columns):
            if name.startswith(wanted):
                return x, y
            met.append(name)
        self.picture("not_found")
        raise AssertionError(f"no button {wanted} in {area} {region}; there are {sorted(set(met))}")


def read_screen(file: Path) -> np.ndarray:
    """(H, W, 3) uint8 of Xvfb's frame buffer file (X window dump, 32 bits a pixel)."""
    data = file.read_bytes()
    header = struct.unpack(">25I", data[:100])
    header_size, width, height, bytes_per_line, num_colors = header[0], header[4], header[5], header[12], header[19]
    start = header_size + 12 * num_colors
    rows = np.frombuffer(data, np.uint8, bytes_per_line * height, start).reshape(height, bytes_per_line)
    return np.ascontiguousarray(rows[:, : 4 * width].reshape(height, width, 4)[:, :, 2::-1])


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of (H, W, 3) uint8."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
