"""Find, check, install, repair and remove the backend: its buttons, and the timer that follows what runs."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Any, ClassVar

import bpy
from bpy.props import EnumProperty, StringProperty
from bpy.types import Context, Event, Operator

from .. import compat
from ..contract.errors import BackendError, TalkHeadError
from ..preferences import (
    TORCH_BUILDS,
    cache_folder,
    environment_folder,
    preferences_entry,
    read_preferences,
    results_folder,
)
from ..session import Note, session
from ..ui.redraw import redraw_panels
from ..ui.wrapped_text import describe_bytes
from .animation_job import left_over_folders
from .kept_results import list_results

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.2
_DIALOG_WIDTH = 480


def begin_background_work() -> None:
    """Let panels ask for a check of the backend. Nothing is started yet, and without a window nothing ever is."""
    if not compat.is_background():
        session.start_check = _start_check_soon


def end_background_work() -> None:
    """End check, installation, worker and timers, for `unregister`."""
    session.start_check = None
    for timer in (_watch, _start_check):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    if session.check is not None:
        session.check.cancel()
        session.check = None
    if session.installer is not None and session.is_installing():
        session.installer.cancel()
    _end_worker()


def _start_check_soon() -> None:
    if not bpy.app.timers.is_registered(_start_check):
        bpy.app.timers.register(_start_check, first_interval=0.1, persistent=True)


def _start_check() -> None:
    """Look for the backend's Python and check it, in the background; `_watch` takes the answer."""
    from ..backend_client.python_environment import BackgroundCheck

    if session.check is not None:
        return
    session.report = None
    session.missing = ""
    values = read_preferences()
    session.check = BackgroundCheck(values.python, environment_folder())
    _start_watching()
    redraw_panels(bpy.context)


def _start_watching() -> None:
    if not bpy.app.timers.is_registered(_watch):
        bpy.app.timers.register(_watch, first_interval=_WATCH_SECONDS, persistent=True)


def _watch() -> float | None:
    """Take news of the check and of the installation; returns when to be called again."""
    _follow_check()
    _follow_installation()
    redraw_panels(bpy.context)
    return _WATCH_SECONDS if session.check is not None or session.is_installing() else None


def _follow_check() -> None:
    check = session.check
    if check is None:
        return
    try:
        report = check.poll()
    except BackendError as error:
        session.check, session.missing = None, str(error)
        return
    if report is not None:
        session.check, session.report, session.missing = None, report, report.problem


def _follow_installation() -> None:
    installer = session.installer
    if installer is None or not session.is_installing():
        return
    installer.poll()
    if not installer.is_finished:
        return
    if installer.error:
        session.install_note = Note("error", installer.error)
        logger.error("%s", installer.error)
    elif installer.was_cancelled:
        session.install_note = Note("info", "The installation was cancelled; nothing was left behind")
    else:
        session.install_note = Note("info", "The backend is installed")
    _start_check()


def _end_worker() -> None:
    from ..backend_client.shared_worker import close_shared_worker  # late: enabling the extension stays quick

    close_shared_worker()


def _is_busy(operator: type[Operator]) -> bool:
    """Tell in the tooltip why nothing can be done to the backend now."""
    reason = ""
    if session.is_animating():
        reason = "An animation is being made; wait for it or cancel it"
    elif session.is_installing():
        reason = "An installation runs; wait for it or cancel it"
    if reason:
        operator.poll_message_set(reason)
    return bool(reason)


class TALKHEAD_OT_check_backend(Operator):
    """Look for a Python with the backend's packages, name what is missing, and show devices and versions."""

    bl_idname = "talkhead.check_backend"
    bl_label = "Check"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether nothing runs."""
        del context
        if session.check is not None:
            cls.poll_message_set("The check runs")
            return False
        return not _is_busy(cls)

    def execute(self, context: Context) -> set[str]:
        """Start the check; without a window, wait for it."""
        session.install_note = None
        _start_check()
        if compat.is_background() and session.check is not None:
            while session.check is not None:
                _follow_check()
                time.sleep(_WATCH_SECONDS / 4)
            if session.missing:
                self.report({"ERROR"}, session.missing)
                return {"CANCELLED"}
        redraw_panels(context)
        return {"FINISHED"}


class TALKHEAD_OT_choose_python(Operator):
    """Choose the program of a Python that has the backend's packages, such as python in a virtual environment."""

    bl_idname = "talkhead.choose_python"
    bl_label = "Choose a Python"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    filepath: StringProperty(name="Python", description="The Python program", subtype="FILE_PATH")

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether nothing runs and there are preferences to keep it in."""
        if preferences_entry(context) is None:
            cls.poll_message_set("Enable TalkHead in Blender's preferences first")
            return False
        return not _is_busy(cls)

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Let the user pick the file."""
        del event
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[str]:
        """Keep it in the preferences and check it."""
        path = Path(bpy.path.abspath(self.filepath))
        if not path.is_file():
            self.report({"ERROR"}, f"{path} is no file; choose the Python program itself")
            return {"CANCELLED"}
        preferences_entry(context).python = str(path)  # type: ignore[union-attr]
        context.preferences.is_dirty = True
        return bpy.ops.talkhead.check_backend()


class TALKHEAD_OT_install_backend(Operator):
    """Install the backend into TalkHead's own folder; asks first, and says what is downloaded from where."""

    bl_idname = "talkhead.install_backend"
    bl_label = "Install Backend"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    torch_build: EnumProperty(name="Build", description="Which build of PyTorch to install", items=TORCH_BUILDS)
    wheel_folder: StringProperty(
        name="Wheel Folder",
        description="Folder with the packages' wheels, to install without the internet; empty to download them",
        subtype="DIR_PATH",
    )
    index_url: StringProperty(
        name="Package Index", description="Another package index, such as a studio's mirror; empty for the usual ones"
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether nothing runs."""
        del context
        return not _is_busy(cls)

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Show what will happen and ask."""
        del event
        values = read_preferences(context)
        self.torch_build = values.torch_build
        self.wheel_folder = values.wheel_folder
        self.index_url = values.index_url
        return context.window_manager.invoke_props_dialog(
            self, width=_DIALOG_WIDTH, title="Install the Backend", confirm_text="Install"
        )

    def draw(self, context: Context) -> None:
        """Draw the dialog."""
        from ..backend_client.installer import download_bytes, download_source, needed_bytes

        layout = self.layout
        column = layout.column(align=True)
        column.label(text="PyTorch and what the models need go into a folder of TalkHead's own;")
        column.label(text="Blender and other Pythons on this computer are not changed.")
        column = layout.column(align=True)
        column.label(text=str(environment_folder()), icon="FILE_FOLDER")
        size = describe_bytes(needed_bytes(self.torch_build))
        if self.wheel_folder:
            column.label(text=f"Takes about {size} of disk; nothing is downloaded", icon="DISK_DRIVE")
        else:
            download = describe_bytes(download_bytes(self.torch_build))
            column.label(text=f"Downloads about {download}, takes about {size} of disk", icon="IMPORT")
            column.label(text=f"From {download_source(self._plan())}", icon="URL")
        layout.use_property_split = True
        layout.prop(self, "torch_build")
        layout.prop(self, "wheel_folder")
        row = layout.row()
        row.enabled = not self.wheel_folder
        row.prop(self, "index_url")
        if not self.wheel_folder and not bpy.app.online_access:
            box = layout.box()
            box.alert = True
            box.label(text="Blender's online access is off, so nothing can be downloaded.", icon="ERROR")
            box.label(text="Allow it in Preferences > System > Network, or give a folder of wheels.", icon="BLANK1")
            if not bpy.app.online_access_override:
                box.operator("extensions.userpref_allow_online", text="Allow Online Access")

    def execute(self, context: Context) -> set[str]:
        """Start the installation."""
        from ..backend_client.installer import BackendInstaller

        entry = preferences_entry(context)
        if entry is not None:
            entry.torch_build, entry.wheel_folder = self.torch_build, self.wheel_folder
            entry.index_url = self.index_url
            context.preferences.is_dirty = True
        _end_worker()
        try:
            session.installer = BackendInstaller(self._plan(), online_allowed=bool(bpy.app.online_access))
            session.installer.start()
        except TalkHeadError as error:
            session.installer = None
            session.install_note = Note("error", str(error))
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        session.install_note = None
        _start_watching()
        redraw_panels(context)
        return {"FINISHED"}

    def _plan(self) -> Any:
        from ..backend_client.installer import InstallPlan

        return InstallPlan(
            folder=environment_folder(),
            build=self.torch_build,
            wheel_folder=Path(bpy.path.abspath(self.wheel_folder)) if self.wheel_folder else None,
            index_url=self.index_url.strip() or None,
        )


class TALKHEAD_OT_cancel_installation(Operator):
    """Stop the installation and take away what it has made so far."""

    bl_idname = "talkhead.cancel_installation"
    bl_label = "Cancel"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether one runs."""
        del context
        if not session.is_installing():
            cls.poll_message_set("No installation runs")
        return session.is_installing()

    def execute(self, context: Context) -> set[str]:
        """Ask it to stop."""
        if session.installer is not None:
            session.installer.cancel()
        redraw_panels(context)
        return {"FINISHED"}


class TALKHEAD_OT_remove_backend(Operator):
    """Remove the backend that TalkHead has installed; a Python of your own is left alone."""

    bl_idname = "talkhead.remove_backend"
    bl_label = "Remove Backend"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether there is one and nothing runs."""
        del context
        if not environment_folder().is_dir():
            cls.poll_message_set("TalkHead has not installed a backend")
            return False
        return not _is_busy(cls)

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Ask first."""
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: Context) -> set[str]:
        """Remove its folder."""
        from ..backend_client.environment_folder import remove_environment

        _end_worker()
        try:
            remove_environment(environment_folder())
        except TalkHeadError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        session.report, session.missing = None, ""
        session.install_note = Note("info", "The backend was removed")
        session.ask_for_check()
        redraw_panels(context)
        return {"FINISHED"}


class TALKHEAD_OT_clear_cache(Operator):
    """Remove kept results, unfinished sequences, and what interrupted animations have left in the cache folder."""

    bl_idname = "talkhead.clear_cache"
    bl_label = "Clear"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Whether nothing runs."""
        del context
        return not _is_busy(cls)

    def execute(self, context: Context) -> set[str]:
        """Remove the folders of jobs and of results; other files are left alone."""
        import shutil

        values = read_preferences(context)
        folders = [*left_over_folders(cache_folder(values)), *list_results(results_folder(values))]
        for folder in folders:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
        self.report({"INFO"}, f"Removed {len(folders)} folders")
        redraw_panels(context)
        return {"FINISHED"}


class TALKHEAD_OT_open_preferences(Operator):
    """Open TalkHead's preferences: backend, device, cache."""

    bl_idname = "talkhead.open_preferences"
    bl_label = "Preferences"
    bl_options: ClassVar[set[str]] = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        """Open them."""
        del context
        result: Any = bpy.ops.preferences.addon_show(module=session.package)
        return set(result)


CLASSES: tuple[type, ...] = (
    TALKHEAD_OT_check_backend,
    TALKHEAD_OT_choose_python,
    TALKHEAD_OT_install_backend,
    TALKHEAD_OT_cancel_installation,
    TALKHEAD_OT_remove_backend,
    TALKHEAD_OT_clear_cache,
    TALKHEAD_OT_open_preferences,
)
