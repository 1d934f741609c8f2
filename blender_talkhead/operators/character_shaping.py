"""Gives heads the shape that their sliders ask for: a job of the warm worker for each change, followed by a timer.

While a slider moves only its newest value counts: the next job starts when the last one is done. Names are kept, never
references to Blender's data, since files can be undone or changed meanwhile.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from .. import compat
from ..contract.errors import BackendError, ExitCode, TalkHeadError
from ..contract.jobs import CharacterJob, ReshapeJob
from ..contract.messages import DoneMessage, ErrorMessage, Message
from ..preferences import cache_folder, read_preferences
from ..scene.character_store import (
    ShownCharacter,
    is_character,
    read_shown_character,
    shows_what_is_wanted,
    wanted_identity,
)
from ..session import Note, session
from ..ui.redraw import redraw_panels

if TYPE_CHECKING:
    from ..backend_client.worker_process import BackendWorker

_TICK_SECONDS = 0.02
_WAIT_SECONDS = 0.25
_FOLDER_PREFIX = "job-character-"


class WorkerRun:
    """One job of the worker whose result is a folder; `poll` until it returns how it ended.

    Raises:
        TalkHeadError: there is no backend, or it cannot be started.
    """

    def __init__(self, **options: Any) -> None:
        self.folder, self._worker = result_folder(), open_worker()
        job = _make_job(self.folder, options)
        self._id = self._worker.submit(job)

    def poll(self) -> Message | None:
        """Return the message that ended the job; None while it runs."""
        for message in self._worker.poll(self._id):
            if isinstance(message, DoneMessage | ErrorMessage):
                return message
        return None

    def cancel(self) -> None:
        """Stop it, and forget its result."""
        self._worker.cancel(self._id)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def open_worker() -> BackendWorker:
    """Return the warm worker.

    Raises:
        BackendError: there is no backend.
    """
    from ..backend_client.shared_worker import shared_worker
    from .request import backend_python

    values = read_preferences()
    return shared_worker(backend_python(values), values.idle_seconds)


def result_folder() -> Path:
    """Return a new name in the cache folder.

    Raises:
        OutputError: the cache folder cannot be made.
    """
    from .request import ready_folder

    return ready_folder(cache_folder(read_preferences())) / f"{_FOLDER_PREFIX}{os.urandom(6).hex()}"


def _make_job(folder: Path, options: dict[str, Any]) -> CharacterJob | ReshapeJob:
    return ReshapeJob(folder, **options) if "previous_identity" in options else CharacterJob(folder, **options)


def reshape_options(shown: ShownCharacter, identity: str) -> dict[str, Any]:
    """Return the options of the job that makes a head another character."""
    return {
        "vertices": shown.vertices,
        "identity": identity,
        "previous_identity": shown.identity,
        "seed": shown.seed,
    }


def shape_now(head: Any) -> None:
    """Give a head the shape that its sliders ask for, and wait for it.

    Raises:
        TalkHeadError: it cannot be shaped, or the backend failed.
    """
    from ..bake.character import require_shapeable, reshape_head
    from ..contract.identity_change import load_identity_change

    identity, shown = wanted_identity(head), require_shapeable(head)
    folder = result_folder()
    try:
        open_worker().run_job(ReshapeJob(folder, **reshape_options(shown, identity)))
        reshape_head(head, load_identity_change(folder), identity)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Shaping:
    """A head that is being given another shape."""

    head: str
    identity: str
    shown: ShownCharacter
    run: WorkerRun


_asked: dict[str, None] = {}
"""Names of heads to shape, in order."""
_shapings: list[_Shaping] = []
"""The one that is under way, if any."""


def begin_shaping() -> None:
    """Let sliders shape heads, and undo bring their shape back; without a window nothing is started by itself."""
    if compat.is_background():
        return
    session.on_character_change = _on_change
    for handlers in _undo_handlers():
        handlers.append(_after_undo)


def end_shaping() -> None:
    """Stop, for `unregister`."""
    session.on_character_change = None
    for handlers in _undo_handlers():
        if _after_undo in handlers:
            handlers.remove(_after_undo)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    _asked.clear()
    while _shapings:
        _shapings.pop().run.clean_up()
    session.shaping = ""


def ask_to_shape(head: Any) -> None:
    """Give a head soon the shape that its sliders ask for."""
    _asked[head.name] = None
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=_TICK_SECONDS, persistent=True)


def _undo_handlers() -> tuple[Any, ...]:
    handlers = bpy.app.handlers
    return (handlers.undo_post, handlers.redo_post)


def _on_change(owner: Any) -> None:
    session.character_note = None
    scene = bpy.context.scene
    if isinstance(owner, bpy.types.Object) and is_character(owner) and scene is not None and scene.talkhead.auto_update:
        ask_to_shape(owner)


@bpy.app.handlers.persistent
def _after_undo(*_: object) -> None:
    """A shape is no undo step of its own: what undo has brought back of the sliders, the heads follow."""
    scene = bpy.context.scene
    if scene is None or not scene.talkhead.auto_update:
        return
    for item in bpy.data.objects:
        if is_character(item) and not shows_what_is_wanted(item):
            ask_to_shape(item)


def _tick() -> float | None:
    """Follow the job under way and start the next; returns when to be called again."""
    if session.is_animating():
        return _WAIT_SECONDS
    try:
        if _shapings:
            _follow(_shapings[0])
        if not _shapings and _asked:
            _start_next()
    except (TalkHeadError, OSError, ReferenceError, RuntimeError, ValueError) as error:
        while _shapings:
            _shapings.pop().run.clean_up()
        session.character_note = Note("error", str(error))
    session.shaping = _shapings[0].head if _shapings else ""
    is_busy = bool(_shapings or _asked)
    if not is_busy:
        redraw_panels(bpy.context)
    return _TICK_SECONDS if is_busy else None


def _start_next() -> None:
    from ..bake.character import find_character, require_shapeable

    name = next(iter(_asked))
    del _asked[name]
    head = find_character(name)
    if head is None or not is_character(head) or shows_what_is_wanted(head):
        return
    shown, identity = require_shapeable(head), wanted_identity(head)
    _shapings.append(_Shaping(name, identity, shown, WorkerRun(**reshape_options(shown, identity))))
    redraw_panels(bpy.context)


def _follow(shaping: _Shaping) -> None:
    message = shaping.run.poll()
    if message is None:
        return
    _shapings.clear()
    try:
        if isinstance(message, ErrorMessage):
            if message.exit_code != ExitCode.CANCELLED:
                raise BackendError(message.text)
        else:
            _apply(shaping)
    finally:
        shaping.run.clean_up()


def _apply(shaping: _Shaping) -> None:
    from ..bake.character import find_character, reshape_head
    from ..contract.identity_change import load_identity_change

    head = find_character(shaping.head)
    if head is None:
        return
    if read_shown_character(head.data) == shaping.shown:  # else it was undone or animated meanwhile
        reshape_head(head, load_identity_change(shaping.run.folder), shaping.identity)
    if is_character(head) and not shows_what_is_wanted(head):
        _asked[head.name] = None
