"""The extension's preferences: the backend's Python, its device, its installation and the cache folder."""

# Annotations are evaluated: Blender reads the properties from them, so they stay no text.

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty
from bpy.types import AddonPreferences, Context

from .session import session

DEVICES = (
    ("auto", "Automatic", "The graphics card where the backend can use it, else the processor"),
    ("cpu", "Processor", "Always the processor"),
    ("cuda", "CUDA", "An NVIDIA graphics card; needs the CUDA build of the backend"),
    ("mps", "Metal", "An Apple graphics processor"),
)
TORCH_BUILDS = (
    ("cpu", "Processor Only", "Works on every computer; the smaller download"),
    ("cuda", "CUDA (NVIDIA)", "Uses an NVIDIA graphics card; a much larger download"),
)
DEFAULT_IDLE_SECONDS = 120
DEFAULT_KEPT_GIGABYTES = 5.0


@dataclass(frozen=True)
class PreferenceValues:
    """The preferences as plain values; the defaults stand in where Blender holds no entry for the extension."""

    python: str = ""
    device: str = "auto"
    idle_seconds: int = DEFAULT_IDLE_SECONDS
    cache_folder: Path | None = None
    kept_gigabytes: float = DEFAULT_KEPT_GIGABYTES
    speed_factor: float = 1.0
    torch_build: str = "cpu"
    wheel_folder: str = ""
    index_url: str = ""


class TalkHeadPreferences(AddonPreferences):
    """What holds for every file on this computer."""

    bl_idname = "talkhead"

    python: StringProperty(
        name="Python",
        description="Python program that has the backend's packages; leave empty to have it found",
        subtype="FILE_PATH",
        update=lambda self, context: _forget_check(),
    )
    device: EnumProperty(name="Device", description="What computes the animation", items=DEVICES)
    idle_seconds: IntProperty(
        name="Keep Ready (s)",
        description="Seconds for which the backend keeps its models in memory after an animation, so that the next one "
        "starts at once",
        default=DEFAULT_IDLE_SECONDS,
        min=5,
        max=3_600,
    )
    cache_folder: StringProperty(
        name="Folder",
        description="Where motion lies while it is being made; leave empty for the extension's own folder",
        subtype="DIR_PATH",
    )
    kept_gigabytes: FloatProperty(
        name="Keep Results (GB)",
        description="Room for results of FaceTalk: the same animation asked for again is there at once, and a mesh "
        "sequence that was stopped goes on where it stopped. 0 keeps nothing",
        default=DEFAULT_KEPT_GIGABYTES,
        min=0.0,
        soft_max=100.0,
        precision=1,
    )
    torch_build: EnumProperty(name="Build", description="Which build of PyTorch to install", items=TORCH_BUILDS)
    wheel_folder: StringProperty(
        name="Wheel Folder",
        description="Folder with the packages' wheels, to install without the internet; leave empty to download them",
        subtype="DIR_PATH",
    )
    index_url: StringProperty(
        name="Package Index",
        description="Another package index, such as your studio's mirror; leave empty for the usual ones",
    )
    speed_factor: FloatProperty(
        name="Speed Factor",
        description="How long the last animation took against its estimate; corrects the next estimate",
        default=1.0,
        min=0.01,
        max=100.0,
        options={"HIDDEN"},
    )

    def draw(self, context: Context) -> None:
        """Draw the preferences."""
        from .ui.preferences_view import draw_preferences

        draw_preferences(self, context)


def read_preferences(context: Context | None = None) -> PreferenceValues:
    """Return the preferences; defaults where Blender holds no entry (`--addons` with factory settings)."""
    entry = preferences_entry(context)
    if entry is None:
        return PreferenceValues()
    folder = entry.cache_folder.strip()
    return PreferenceValues(
        python=_absolute(entry.python),
        device=entry.device,
        idle_seconds=entry.idle_seconds,
        cache_folder=Path(_absolute(folder)) if folder else None,
        kept_gigabytes=entry.kept_gigabytes,
        speed_factor=entry.speed_factor,
        torch_build=entry.torch_build,
        wheel_folder=_absolute(entry.wheel_folder),
        index_url=entry.index_url.strip(),
    )


def preferences_entry(context: Context | None = None) -> Any | None:
    """Return the stored preferences themselves, or None where Blender holds no entry."""
    addon = (context or bpy.context).preferences.addons.get(session.package)
    return None if addon is None else addon.preferences


def user_folder(name: str) -> Path:
    """Return a folder of the extension that updates leave alone; it is not created."""
    try:
        return Path(bpy.utils.extension_path_user(session.package, path=name, create=False))
    except ValueError:  # registered by another way than as an extension, as tests do
        base = bpy.utils.user_resource("DATAFILES", path="talkhead", create=False)
        return Path(base or bpy.app.tempdir) / name


def environment_folder() -> Path:
    """Return where the extension installs the backend's Python environment."""
    return user_folder("environment")


def cache_folder(values: PreferenceValues) -> Path:
    """Return where results lie while they are made."""
    return values.cache_folder or user_folder("cache")


def results_folder(values: PreferenceValues) -> Path:
    """Return where finished results and unfinished sequences of FaceTalk are kept."""
    return cache_folder(values) / "takes"


def _absolute(path: str) -> str:
    return bpy.path.abspath(path.strip()) if path.strip() else ""


def _forget_check() -> None:
    session.report = None
    session.missing = ""


CLASSES: tuple[type, ...] = (TalkHeadPreferences,)
