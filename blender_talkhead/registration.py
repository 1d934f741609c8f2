"""What Blender registers when the extension is enabled: the headless command `blender --command talkhead`."""

from __future__ import annotations

from typing import Any

import bpy

_commands: list[Any] = []


def register(package: str) -> None:
    """Registers the extension under the name that Blender gave to its root package."""
    del package  # preferences will be found under it
    from .command_line import main

    _commands.append(bpy.utils.register_cli_command("talkhead", main))


def unregister(package: str) -> None:
    """Takes down what register() set up."""
    del package
    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
