"""What this run of Blender knows beside the scene: the job, the backend's state, the last messages (no bpy).

It is plain Python, not properties, so that nothing of it is saved in a .blend file, undone, or lost with a loaded file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .backend_client.installer import BackendInstaller
    from .backend_client.python_environment import BackgroundCheck, PythonReport
    from .operators.animation_job import AnimationJob

Level = Literal["info", "done", "warning", "error"]
_MAX_NOTES = 6


@dataclass(frozen=True)
class Note:
    """One message to the user."""

    level: Level
    text: str


@dataclass
class Session:
    """The one instance is `session`; `reset()` makes it as new."""

    package: str = ""
    """Name that Blender gave to the extension's root package."""
    job: AnimationJob | None = None
    """The running animation, or the last one."""
    notes: list[Note] = field(default_factory=list)
    """Messages of the last animation, newest last."""
    cancel_asked_at: float | None = None
    """Monotonic time of the first Esc; a second one within a few seconds cancels."""
    check: BackgroundCheck | None = None
    """The running search for a backend."""
    report: PythonReport | None = None
    """Result of the last check."""
    missing: str = ""
    """Why no backend was found; empty when one was, or while nobody has looked."""
    start_check: Callable[[], None] | None = None
    """Starts a search for the backend soon; set while the extension is enabled in a window."""
    installer: BackendInstaller | None = None
    """The running installation, or the last one."""
    install_note: Note | None = None
    """How the last installation ended."""
    character_note: Note | None = None
    """What the Character panel has to tell, such as why a head does not change."""
    shaping: str = ""
    """Name of the head that is being given another shape; empty while none is."""
    on_character_change: Callable[[Any], None] | None = None
    """Told the object or scene whose character was changed; set while the extension is enabled."""
    environment: Path | None = None
    """Folder of the extension's own Python environment."""

    def is_animating(self) -> bool:
        """Whether an animation runs."""
        return self.job is not None and not self.job.is_finished

    def is_installing(self) -> bool:
        """Whether an installation runs."""
        return self.installer is not None and self.install_note is None

    def ask_for_check(self) -> None:
        """Have the backend looked for, once: a panel that is drawn wants to know, enabling the extension does not."""
        is_known = self.report is not None or bool(self.missing) or self.check is not None
        if self.start_check is not None and not is_known:
            self.start_check()

    def character_changed(self, owner: Any) -> None:
        """Tell that the sliders of an object or a scene ask for another character."""
        if self.on_character_change is not None:
            self.on_character_change(owner)

    def note(self, level: Level, text: str) -> None:
        """Keep a message for the panel; a repeated one is kept once."""
        note = Note(level, text)
        if note not in self.notes:
            self.notes = [*self.notes, note][-_MAX_NOTES:]

    def reset(self) -> None:
        """Forget everything. What still runs must have been ended before."""
        fresh = Session()
        for name in vars(self):
            setattr(self, name, getattr(fresh, name))


session = Session()
