"""What Blender registers when the extension is enabled, and takes down when it is disabled."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Sequence
from typing import Any

import bpy

from . import compat, preferences, properties
from .operators import animate, backend, character, character_shaping, choices, performance, takes
from .session import session
from .ui import folder_size, panels, recording
from .ui import takes as takes_list

logger = logging.getLogger(__name__)

CLASSES: tuple[type, ...] = (
    *properties.CLASSES,
    *preferences.CLASSES,
    *animate.CLASSES,
    *backend.CLASSES,
    *choices.CLASSES,
    *takes.CLASSES,
    *performance.CLASSES,
    *character.CLASSES,
    *panels.CLASSES,
)
"""In the order of registration; taken down in reverse."""

_POINTERS = (
    (bpy.types.WindowManager, "talkhead"),
    (bpy.types.Object, "talkhead_performance"),
    (bpy.types.Object, "talkhead_character"),
    (bpy.types.Scene, "talkhead_character"),
    (bpy.types.Scene, "talkhead"),
)
_commands: list[Any] = []


def register(package: str) -> None:
    """Register the extension under the name that Blender gave to its root package.

    Nothing heavy is imported (a Blender without numpy must get as far as telling so) and nothing is started.
    """
    session.package = package
    preferences.TalkHeadPreferences.bl_idname = package
    for registered in CLASSES:
        bpy.utils.register_class(registered)
    bpy.types.Scene.talkhead = bpy.props.PointerProperty(
        name="TalkHead", description="Settings of Animate from Audio", type=properties.TalkHeadSettings
    )
    bpy.types.Object.talkhead_performance = bpy.props.PointerProperty(
        name="TalkHead Performance", description="How this head performs", type=properties.TalkHeadPerformance
    )
    for owner in (bpy.types.Object, bpy.types.Scene):
        owner.talkhead_character = bpy.props.PointerProperty(
            name="TalkHead Character", description="Who this head is", type=properties.TalkHeadCharacter
        )
    bpy.types.WindowManager.talkhead = bpy.props.PointerProperty(
        name="TalkHead", description="State of Animate from Audio", type=properties.TalkHeadStatus
    )
    animate.register_handlers()
    character_shaping.begin_shaping()
    backend.begin_background_work()
    _commands.append(bpy.utils.register_cli_command("talkhead", _run_command))
    if compat.is_module():  # it hangs (4.5) or crashes at the end of a program that leaves classes registered
        atexit.register(unregister, package)


def unregister(package: str) -> None:
    """Take down what register() set up, and end what runs."""
    del package
    atexit.unregister(unregister)
    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
    character_shaping.end_shaping()
    animate.end_animation()
    backend.end_background_work()
    animate.unregister_handlers()
    for owner, name in _POINTERS:
        if hasattr(owner, name):
            delattr(owner, name)
    for registered in reversed(CLASSES):
        try:
            bpy.utils.unregister_class(registered)
        except RuntimeError as error:  # one that failed must not keep the others
            logger.warning("cannot unregister %s: %s", registered.__name__, error)
    for forget in (takes_list.forget_takes, recording.forget_recordings, folder_size.forget_sizes, session.reset):
        forget()


def _run_command(arguments: Sequence[str]) -> int:
    """Run `blender --command talkhead`; imported only then."""
    from .command_line import main

    return main(arguments)
