"""The Character panel: the sliders of the head that is active, or of a head to come."""

from __future__ import annotations

from typing import Any

from ..facial.identities import find_preset
from ..facial.identity_parameters import IDENTITY_GROUPS, parameters_of_group
from ..facial.identity_presets import IDENTITY_PRESETS
from ..scene.character_store import is_character, shows_what_is_wanted, wanted_identity, wanted_parameters
from ..session import session
from .reasons import NO_NUMPY, has_numpy
from .wrapped_text import draw_text

_OPEN_GROUPS = ("face",)


def active_character(context: Any) -> Any | None:
    """Return the head whose character the panel shows: the active object or the one it hangs on; None for no head."""
    item = None if context.view_layer is None else context.view_layer.objects.active
    while item is not None and not is_character(item):
        item = item.parent
    return item


def shown_owner(context: Any) -> Any:
    """Return what the panel's sliders belong to: the active head, or the scene for a head to come."""
    head = active_character(context)
    return context.scene if head is None else head


def name_character(owner: Any) -> str:
    """Return how the character of an object or a scene is called: a preset, a random one by its number, or Custom."""
    identity = wanted_identity(owner)
    if identity.isdigit():
        return f"Random {identity}"
    preset = find_preset(wanted_parameters(owner))
    return "Custom" if preset is None else IDENTITY_PRESETS[preset].label


def why_not_shape(context: Any) -> str:
    """Return why no head can be created or shaped now; empty when it can."""
    if session.is_animating():
        return "An animation is being made; wait for it or cancel it"
    if not has_numpy():
        return NO_NUMPY
    if session.is_installing():
        return "The backend is being installed"
    if session.missing:
        return "No backend yet: install it or choose a Python in the panel Animate from Audio"
    head = active_character(context)
    if head is not None and not (head.is_editable and head.data.is_editable):
        return f'"{head.name}" is linked; make it local to shape it'
    return ""


def draw_character(layout: Any, context: Any) -> None:
    """Draw presets, the random character, the sliders and the buttons."""
    head = active_character(context)
    owner = shown_owner(context)
    reason = why_not_shape(context)
    layout.use_property_split = True
    layout.use_property_decorate = False
    row = layout.row(align=True)
    row.label(text="New Character" if head is None else head.name, icon="ADD" if head is None else "USER")
    row.operator("talkhead.load_character", text="", icon="FILE_FOLDER")
    row.operator("talkhead.save_character", text="", icon="FILE_TICK")
    row.operator("talkhead.reset_character", text="", icon="LOOP_BACK").group = ""
    row = layout.row(align=True)
    row.menu("TALKHEAD_MT_character_presets", text=name_character(owner), icon="PRESET")
    _draw_random(layout, owner)
    _draw_groups(layout, owner)
    _draw_buttons(layout, context, head, reason)


def _draw_random(layout: Any, owner: Any) -> None:
    character = owner.talkhead_character
    row = layout.row(align=True)
    row.use_property_split = False
    row.prop(character, "seed", text="Random")
    row.prop(character, "amount", slider=True)
    row.operator("talkhead.random_character", text="", icon="FILE_REFRESH")


def _draw_groups(layout: Any, owner: Any) -> None:
    character, parameters = owner.talkhead_character, wanted_parameters(owner)
    for group, title in IDENTITY_GROUPS.items():
        header, body = layout.panel(f"talkhead_character_{group}", default_closed=group not in _OPEN_GROUPS)
        header.label(text=title)
        members = parameters_of_group(group)
        if any(parameters.get(each.name) for each in members):
            header.operator("talkhead.reset_character", text="", icon="LOOP_BACK", emboss=False).group = group
        if body is not None:
            column = body.column(align=True)
            for each in members:
                column.prop(character, each.name, slider=True)


def _draw_buttons(layout: Any, context: Any, head: Any | None, reason: str) -> None:
    settings = context.scene.talkhead
    layout.separator(factor=0.5)
    if head is not None:
        row = layout.row(align=True)
        row.use_property_split = False
        row.prop(settings, "auto_update")
        if not settings.auto_update:
            row.operator("talkhead.update_character", text="Update Now", icon="FILE_REFRESH")
    row = layout.row()
    row.scale_y = 1.4
    row.operator(
        "talkhead.create_character", text="Create Head" if head is None else "Another Head Like This", icon="ADD"
    )
    if reason:
        draw_text(layout, context, reason, icon="INFO")
    elif session.shaping:
        layout.label(text=f"Shaping {session.shaping} ...", icon="SORTTIME")
    elif session.character_note is not None:
        note = session.character_note
        draw_text(layout, context, note.text, icon="ERROR" if note.level in ("error", "warning") else "INFO")
    elif head is not None and not shows_what_is_wanted(head):
        draw_text(layout, context, "The head does not show these sliders yet", icon="INFO")
