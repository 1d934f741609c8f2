"""One animation from the start to the bake, in short ticks that a timer (or a test's loop) calls.

The job keeps names and plain values, never references to Blender's data: files can be undone or changed meanwhile.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import bpy

from ..contract.errors import BadInputError, ExitCode, TalkHeadError
from ..contract.messages import DoneMessage, ErrorMessage, Message, ProgressMessage, WarningMessage

if TYPE_CHECKING:
    from ..bake.animation import AnimationSettings
    from ..bake.take import Take
    from ..contract.jobs import AnimateJob

logger = logging.getLogger(__name__)

BAKE_TICK_SECONDS = 0.1
"""How long one tick may bake: long enough for few ticks, short enough for the progress bar to move."""
_BACKEND_PART = 0.92
"""Fraction of the whole job at which the backend is done."""
_JOB_PREFIX = "job-"

STARTING, WORKING, BAKING, DONE, FAILED, CANCELLED = (
    "starting the backend",
    "working",
    "baking",
    "done",
    "failed",
    "cancelled",
)
_ENDS = (DONE, FAILED, CANCELLED)


class Worker(Protocol):
    """What the job needs of `backend_client.worker_process.BackendWorker`."""

    def submit(self, job: AnimateJob) -> str:
        """Ask for a job; returns its id."""

    def poll(self, job: str | None = None) -> list[Message]:
        """Return what has arrived for a job, without waiting."""

    def cancel(self, job: str) -> None:
        """Ask to stop a job; later polls see to it that it ends."""


class AnimationJob:
    """Backend, then bake; `tick()` until `is_finished`.

    Args:
        settings: what to make, read from the properties.
        scene_name: the scene it is for.
        worker: the backend.
        folder: where the backend may write.
        end_worker: ends the backend's process at once, for `abandon`.

    Raises:
        TalkHeadError: it cannot work out, as far as that can be known now; nothing has changed.
    """

    def __init__(
        self,
        settings: AnimationSettings,
        scene_name: str,
        worker: Worker,
        folder: Path,
        end_worker: Callable[[], None] = lambda: None,
    ) -> None:
        from ..bake.animation import prepare_animation

        self._settings = settings
        self._scene_name = scene_name
        self._worker = worker
        self._end_worker = end_worker
        self._folder = folder / f"{_JOB_PREFIX}{os.urandom(6).hex()}"
        self._steps: Generator[float, None, Take] | None = None
        self._state = WORKING
        self._cancel_wanted = False
        self._bake_fraction = 0.0
        self._bake_began = 0.0
        self._ticks: list[tuple[str, float]] = []
        self._began = time.monotonic()
        self.phase = STARTING
        """What is being done, for people; at the end one of done, failed, cancelled."""
        self.fraction = 0.0
        """Done part of the whole job, 0..1, never falling."""
        self.seconds_left: float | None = None
        self.warnings: list[str] = []
        self.error = ""
        """Why it failed."""
        self.take: Take | None = None
        self.backend_seconds = 0.0
        """How long the backend took."""
        self.estimated_seconds = 0.0
        """How long it was expected to take, where that could be told."""
        output = self._folder / "clip"
        job = prepare_animation(settings, self._find_scene(), output)
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._id = worker.submit(job)
        except TalkHeadError:
            self._clean_up()
            raise

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self._state in _ENDS

    @property
    def is_baking(self) -> bool:
        """Whether the scene is being changed: the user must not undo or edit now."""
        return self._state == BAKING

    @property
    def has_succeeded(self) -> bool:
        """Whether the take is in the scene."""
        return self._state == DONE

    @property
    def was_cancelled(self) -> bool:
        """Whether it ended because the user wanted so."""
        return self._state == CANCELLED

    @property
    def is_cancelling(self) -> bool:
        """Whether a cancel was asked for and the job has not ended yet."""
        return self._cancel_wanted and not self.is_finished

    @property
    def cancel_remark(self) -> str:
        """What a user who cancelled should know beside that nothing was changed."""
        is_kept = self._settings.makes_sequence and self._settings.facetalk.cache is not None
        return ". The same sequence asked for again goes on where it stopped" if is_kept else ""

    @property
    def elapsed_seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._began

    def tick(self) -> bool:
        """Do what can be done now, shortly; returns whether anything changed that is shown."""
        if self.is_finished:
            return False
        began = time.perf_counter()
        state = self._state
        shown = (self.phase, self.fraction, self.seconds_left, len(self.warnings))
        try:
            if state == WORKING:
                self._listen()
            else:
                self._bake()
        except TalkHeadError as error:
            self._fail(str(error))
        except (OSError, RuntimeError, ValueError, KeyError, ReferenceError, MemoryError, ImportError) as error:
            logger.debug("the job failed", exc_info=True)
            self._fail(f"{type(error).__name__}: {error}")
        self._ticks.append((state, time.perf_counter() - began))
        return shown != (self.phase, self.fraction, self.seconds_left, len(self.warnings))

    def cancel(self) -> None:
        """Ask to stop; a few more ticks end it. What the bake has done is taken back."""
        if self.is_finished or self._cancel_wanted:
            return
        self._cancel_wanted = True
        if self._state == WORKING:
            self.phase = "cancelling"
            self.seconds_left = None
            self._worker.cancel(self._id)

    def abandon(self) -> None:
        """End at once, without more ticks: the file is being closed or the extension disabled."""
        if self.is_finished:
            return
        self._close_steps()
        self._end_worker()
        self._finish(CANCELLED)

    def tick_milliseconds(self, percent: float, state: str = "") -> float:
        """Return the cost that a percentage of the ticks stayed under (nearest rank), in milliseconds.

        Args:
            percent: 0..100.
            state: "working" or "baking" for the ticks of this state only.
        """
        costs = sorted(seconds for tick_state, seconds in self._ticks if not state or tick_state == state)
        if not costs:
            return 0.0
        rank = max(0, -(-int(percent * len(costs)) // 100) - 1)
        return costs[rank] * 1000.0

    def count_handler(self, seconds: float) -> None:
        """Count the whole timer handler's time for the last tick, drawing requests included."""
        if self._ticks:
            self._ticks[-1] = (self._ticks[-1][0], seconds)

    def count_ticks(self, state: str = "") -> int:
        """Return how many ticks there were, in all or in one state."""
        return sum(not state or tick_state == state for tick_state, _ in self._ticks)

    def _listen(self) -> None:
        for message in self._worker.poll(self._id):
            self._take_message(message)
            if self._state != WORKING:
                return

    def _take_message(self, message: Message) -> None:
        if isinstance(message, ProgressMessage):
            if not self._cancel_wanted:
                self.phase = message.phase
                self.seconds_left = message.seconds_left
                self.fraction = max(self.fraction, _BACKEND_PART * message.fraction)
        elif isinstance(message, WarningMessage):
            self.warnings.append(message.text)
        elif isinstance(message, ErrorMessage):
            if self._cancel_wanted or message.exit_code == ExitCode.CANCELLED:
                self._finish(CANCELLED)
            else:
                self._fail(message.text)
        elif isinstance(message, DoneMessage):
            self.backend_seconds = self.elapsed_seconds
            if self._cancel_wanted:
                self._finish(CANCELLED)
            else:
                self._begin_bake([Path(folder) for folder in (message.folder, *message.more_folders)])

    def _begin_bake(self, folders: list[Path]) -> None:
        from ..bake.results import bake_results_steps

        self._steps = bake_results_steps(self._settings, folders, self._find_scene())
        self._bake_began = time.monotonic()
        self._state = BAKING
        self._show_bake(0.0)

    def _bake(self) -> None:
        """Advance the bake for a short while."""
        if self._cancel_wanted:
            self._close_steps()
            self._finish(CANCELLED)
            return
        if self._steps is None:
            raise RuntimeError("the bake was not begun")
        deadline = time.perf_counter() + BAKE_TICK_SECONDS
        try:
            while time.perf_counter() < deadline:
                self._show_bake(next(self._steps))
        except StopIteration as stop:
            self.take = stop.value
            for take in () if self.take is None else (self.take, *self.take.further):
                self.warnings += [text for text in take.warnings if text not in self.warnings]
            self.fraction = 1.0
            self._finish(DONE)

    def _show_bake(self, fraction: float) -> None:
        self.phase = BAKING
        self._bake_fraction = max(self._bake_fraction, fraction)
        self.fraction = max(self.fraction, _BACKEND_PART + (1.0 - _BACKEND_PART) * self._bake_fraction)
        elapsed = time.monotonic() - self._bake_began
        self.seconds_left = None
        if self._bake_fraction > 0.0 and elapsed > 1.0:
            self.seconds_left = elapsed * (1.0 - self._bake_fraction) / self._bake_fraction

    def _find_scene(self) -> Any:
        scene = bpy.data.scenes.get(self._scene_name)
        if scene is None:
            raise BadInputError(f'the scene "{self._scene_name}" is gone; start again in the scene you want')
        return scene

    def _fail(self, text: str) -> None:
        self._close_steps()
        self.error = text
        self._finish(FAILED)

    def _finish(self, state: str) -> None:
        self._state = self.phase = state
        self.seconds_left = None
        self._steps = None
        self._clean_up()

    def _close_steps(self) -> None:
        """Stop a bake half way; it takes back what it has done."""
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()

    def _clean_up(self) -> None:
        import shutil  # late, with its compression libraries: enabling the extension stays quick

        shutil.rmtree(self._folder, ignore_errors=True)


def left_over_folders(folder: Path) -> list[Path]:
    """Return folders of jobs that ended without cleaning up, such as those of a Blender that crashed."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(_JOB_PREFIX) and path.is_dir())
    except OSError:
        return []
