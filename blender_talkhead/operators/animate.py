"""Animate from Audio: the modal operator that drives an `AnimationJob`, and Cancel."""

import contextlib
import time
from typing import Any, ClassVar

import bpy
from bpy.types import Context, Event, Operator

from .. import compat
from ..contract.errors import TalkHeadError
from ..preferences import preferences_entry, read_preferences
from ..session import Level, session
from ..ui.estimates import corrected_speed_factor
from ..ui.reasons import why_not_animate
from ..ui.redraw import redraw_panels, set_status_text
from .animation_job import AnimationJob

TICK_SECONDS = 0.05
ASK_SECONDS = 5.0
"""How long the first Esc waits for the second."""
_FIRST_DRAWINGS = 3
"""A panel that changes its height settles with the next drawings."""
_BLOCKING_PAUSE_SECONDS = 0.01
ASK_TEXT = "Press Esc again to cancel the animation"


class TALKHEAD_OT_animate(Operator):
    """Turn the recording into facial animation. Blender stays usable meanwhile; Esc twice cancels."""

    bl_idname = "talkhead.animate"
    bl_label = "Animate from Audio"
    bl_options: ClassVar[set[str]] = {"REGISTER", "UNDO"}

    _timer: Any = None
    _next_tick = 0.0

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether an animation can be started; the reason why not is the button's tooltip."""
        reason = why_not_animate(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason

    def execute(self, context: Context) -> set[str]:
        """Start; without a window, also finish."""
        from .request import start_job  # with all that talks to processes: enabling the extension stays quick

        session.notes = []
        session.cancel_asked_at = None
        try:
            job = session.job = start_job(context)
        except TalkHeadError as error:
            session.job = None
            self._tell("error", str(error))
            return {"CANCELLED"}
        if compat.is_background() or context.window is None:
            return self._run_to_the_end(context, job)
        self._timer = context.window_manager.event_timer_add(TICK_SECONDS, window=context.window)
        context.window_manager.modal_handler_add(self)
        self._show(context, job)
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        """Advance the job with the timer; Esc asks, then cancels. While it bakes no other event gets through."""
        job = session.job
        if job is None or job.is_finished:  # ended from outside
            self._stop(context)
            return {"CANCELLED"}
        if event.type == "TIMER":
            return self._on_timer(context, job)
        if event.type == "ESC" and event.value == "PRESS" and not event.is_repeat:
            return self._on_escape(context, job)
        return {"RUNNING_MODAL"} if job.is_baking else {"PASS_THROUGH"}

    def cancel(self, context: Context) -> None:
        """End everything: another file is being loaded, or the window is closed."""
        if session.job is not None:
            session.job.abandon()
        self._stop(context)

    def _on_timer(self, context: Context, job: AnimationJob) -> set[str]:
        began = time.perf_counter()
        if began < self._next_tick:  # other timers' events come here too
            return {"PASS_THROUGH"}
        self._next_tick = began + 0.5 * TICK_SECONDS
        changed = job.tick()
        asked = session.cancel_asked_at
        if asked is not None and time.monotonic() - asked > ASK_SECONDS:
            session.cancel_asked_at = None
            changed = True
        if job.is_finished:
            return self._finish(context, job)
        if changed or job.count_ticks() <= _FIRST_DRAWINGS:
            self._show(context, job)
        job.count_handler(time.perf_counter() - began)
        return {"PASS_THROUGH"}

    def _on_escape(self, context: Context, job: AnimationJob) -> set[str]:
        asked = session.cancel_asked_at
        if asked is not None and time.monotonic() - asked <= ASK_SECONDS:
            session.cancel_asked_at = None
            job.cancel()
            self._show(context, job)
            return {"RUNNING_MODAL"}
        session.cancel_asked_at = time.monotonic()
        self._show(context, job)
        # The first Esc may have been meant for something else, such as the playback.
        return {"RUNNING_MODAL"} if job.is_baking else {"PASS_THROUGH"}

    def _run_to_the_end(self, context: Context, job: AnimationJob) -> set[str]:
        try:
            while not job.is_finished:
                job.tick()
                if not job.is_baking:
                    time.sleep(_BLOCKING_PAUSE_SECONDS)
        except KeyboardInterrupt:
            job.cancel()
            while not job.is_finished:
                job.tick()
                time.sleep(_BLOCKING_PAUSE_SECONDS)
        return self._finish(context, job)

    def _finish(self, context: Context, job: AnimationJob) -> set[str]:
        self._stop(context)
        for text in job.warnings:
            self._tell("warning", text)
        if job.has_succeeded and job.take is not None:
            _correct_estimates(context, job)
            names = [take.object_name for take in (job.take, *job.take.further)]
            verb = "speaks" if len(names) == 1 else "speak"
            self._tell("done", f"{', '.join(names)} {verb}: {job.take.num_scene_frames} frames")
            return {"FINISHED"}
        if job.was_cancelled:
            self._tell("info", f"Cancelled; nothing was changed{job.cancel_remark}")
        else:
            self._tell("error", job.error)
        return {"CANCELLED"}

    def _stop(self, context: Context) -> None:
        session.cancel_asked_at = None
        timer, self._timer = self._timer, None
        if timer is not None:
            with contextlib.suppress(AttributeError, ReferenceError, RuntimeError, ValueError):
                context.window_manager.event_timer_remove(timer)  # gone with its window
        set_status_text(None)
        redraw_panels(context)

    def _show(self, context: Context, job: AnimationJob) -> None:
        text = ASK_TEXT if session.cancel_asked_at is not None else f"TalkHead: {job.phase} {job.fraction:.0%}"
        set_status_text(text, context.workspace)
        redraw_panels(context)

    def _tell(self, level: Level, text: str) -> None:
        """Tell in the panel, and in Blender's info, which also prints it on the console."""
        session.note(level, text)
        self.report({"INFO" if level == "done" else level.upper()}, text)


class TALKHEAD_OT_cancel(Operator):
    """Stop the animation that is being made; the scene stays as it is."""

    bl_idname = "talkhead.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether there is something to stop."""
        del context
        running = session.is_animating()
        if not running:
            cls.poll_message_set("No animation is being made")
        elif session.job is not None and session.job.is_cancelling:
            cls.poll_message_set("It is being cancelled")
            return False
        return running

    def execute(self, context: Context) -> set[str]:
        """Ask the job to stop."""
        if session.job is not None:
            session.job.cancel()
        redraw_panels(context)
        return {"FINISHED"}


def _correct_estimates(context: Context, job: AnimationJob) -> None:
    """Let the next estimate start from how long this one took."""
    entry = preferences_entry(context)
    if entry is not None and job.estimated_seconds > 0.0:
        entry.speed_factor = corrected_speed_factor(
            read_preferences(context).speed_factor, job.estimated_seconds, job.backend_seconds
        )


CLASSES: tuple[type, ...] = (TALKHEAD_OT_animate, TALKHEAD_OT_cancel)


def end_animation() -> None:
    """End a running animation at once, for `unregister` and before another file is loaded."""
    if session.job is not None:
        session.job.abandon()
    set_status_text(None)


def register_handlers() -> None:
    """End a running animation when another file is loaded, also where the operator is not told."""
    bpy.app.handlers.load_pre.append(_before_load)


def unregister_handlers() -> None:
    """Take the handler down."""
    if _before_load in bpy.app.handlers.load_pre:
        bpy.app.handlers.load_pre.remove(_before_load)


@bpy.app.handlers.persistent
def _before_load(*_: object) -> None:
    was_animating = session.is_animating()
    end_animation()
    session.notes = []
    if was_animating:
        session.note("warning", "The animation was cancelled, because another file was opened")
    else:
        session.job = None
