"""What to animate and how: the upper part of the panel and its options."""

from __future__ import annotations

from typing import Any

from .. import compat
from ..bake.disk_space import count_clip_frames
from ..contract.jobs import CLIP_RATES, MIN_VERTICES
from ..preferences import read_preferences
from ..properties import RESOLUTIONS
from .estimates import (
    OWN_MESH_VERTICES,
    PARTS_VERTICES,
    Estimate,
    estimate_animation,
    estimate_sequence,
    with_takes,
)
from .facetalk import draw_grid, draw_takes_and_surface, makes_sequence, section, uses_scan
from .reasons import find_strip, has_numpy
from .recording import look_at_recording, recording_path
from .wrapped_text import describe_bytes, describe_seconds

_TYPICAL_SECONDS = 10.0


def draw_choices(layout: Any, context: Any) -> None:
    """Draw recording, face, detail and what they cost."""
    settings = context.scene.talkhead
    seconds = audible_seconds(context.scene)
    _draw_recording(layout, context, settings, seconds)
    _draw_face(layout, settings)
    section(layout, "Method").row(align=True).prop(settings, "method", expand=True)
    if settings.method == "facetalk":
        draw_takes_and_surface(layout, settings)
    if makes_sequence(settings):
        draw_grid(layout, settings)
    else:
        _draw_detail(layout, settings)
    _draw_estimate(layout, context, settings, seconds)


def draw_options(layout: Any, context: Any) -> None:
    """Draw what a first animation can leave as it is."""
    settings = context.scene.talkhead
    row = layout.row(align=True)
    row.enabled = settings.source == "FILE"
    row.prop(settings, "start")
    row.operator("talkhead.start_at_current_frame", text="", icon="TIME")
    layout.prop(settings, "extend_range")
    row = layout.row()
    row.enabled = not makes_sequence(settings)
    row.prop(settings, "bake")
    layout.prop(settings, "seed")
    if settings.method == "facetalk":
        layout.prop(settings, "sampler_steps")


def audible_seconds(scene: Any) -> float | None:
    """Return how long the chosen recording, or the audible part of the chosen strip, lasts; None while unknown."""
    settings = scene.talkhead
    if settings.source == "FILE":
        if not settings.audio.strip():
            return None
        return look_at_recording(recording_path(settings.audio, settings.id_data.library)).seconds
    strip = find_strip(scene, settings.strip) if settings.strip else None
    if strip is None:
        return None
    return (compat.strip_end(strip) - compat.strip_start(strip)) / scene_rate(scene)


def scene_rate(scene: Any) -> float:
    """Return the scene's frames per second (as `facial.timing`, which needs numpy)."""
    return float(scene.render.fps / scene.render.fps_base)


def estimate_of(context: Any, seconds: float) -> Estimate:
    """Return what an animation of a recording of this length will cost with the panel's settings."""
    scene = context.scene
    settings = scene.talkhead
    vertices = chosen_vertices(settings)
    if vertices is None:
        vertices = max(len(settings.target.data.vertices) - PARTS_VERTICES, MIN_VERTICES)
    factor = read_preferences(context).speed_factor
    if makes_sequence(settings):
        return estimate_sequence(seconds, settings.grid, settings.takes, factor)
    estimate = estimate_animation(seconds, vertices, settings.bake, scene_rate(scene), factor)
    return estimate if settings.method == "mmtalker" else with_takes(estimate, seconds, settings.takes, factor)


def _draw_recording(layout: Any, context: Any, settings: Any, seconds: float | None) -> None:
    column = section(layout, "Speech")
    column.row(align=True).prop(settings, "source", expand=True)
    if settings.source == "FILE":
        column.prop(settings, "audio", text="")
        if not settings.audio:
            column.operator("talkhead.use_demo_recording", icon="OUTLINER_OB_SPEAKER")
    else:
        row = column.row(align=True)
        row.prop(settings, "strip", text="", icon="SOUND")
        row.operator("talkhead.use_active_strip", text="", icon="EYEDROPPER")
    if seconds is not None:
        rate = scene_rate(context.scene)
        row = layout.row()
        row.enabled = False  # looks like what it is: a remark
        num_frames = count_clip_frames(seconds, CLIP_RATES[settings.method], rate)
        row.label(text=f"{seconds:.1f} s, {num_frames} frames at {rate:.4g} fps")


def _draw_face(layout: Any, settings: Any) -> None:
    column = section(layout, "Face")
    column.row(align=True).prop(settings, "target_kind", expand=True)
    if settings.target_kind == "OBJECT":
        column.prop(settings, "target", text="")
        return
    face = column.column(align=True)
    face.enabled = not uses_scan(settings)
    face.prop(settings, "identity", text="")
    if settings.identity == "random":
        face.prop(settings, "identity_seed")
    if settings.method == "facetalk":
        column.prop(settings, "scan", text="", icon="USER", placeholder="Fitted scan")


def chosen_vertices(settings: Any) -> int | None:
    """Return how many vertices the face's skin will have; None where the user's own mesh decides."""
    target = settings.target if settings.target_kind == "OBJECT" else None
    if target is not None and not is_own_head(target):
        return None
    return OWN_MESH_VERTICES if settings.detail == "ARTIST" else int(settings.vertices)


def is_own_head(target: Any) -> bool:
    """Whether TalkHead made an object, which can take another mesh; a user's mesh keeps its vertices."""
    if not has_numpy():
        return False
    from ..bake.provenance import is_own_object

    return is_own_object(target)


def _draw_detail(layout: Any, settings: Any) -> None:
    column = section(layout, "Detail")
    if chosen_vertices(settings) is None:
        row = column.row()
        row.enabled = False
        row.label(text=f"The {len(settings.target.data.vertices):,} vertices of {settings.target.name}", icon="LOCKED")
        return
    column.row(align=True).prop(settings, "detail", expand=True)
    if settings.detail == "ARTIST":
        return
    column.prop(settings, "vertices", slider=True)
    row = column.row(align=True)
    for name, vertices, _ in RESOLUTIONS:
        button = row.operator("talkhead.set_resolution", text=name, depress=settings.vertices == vertices)
        button.vertices = vertices


def _draw_estimate(layout: Any, context: Any, settings: Any, seconds: float | None) -> None:
    estimate = estimate_of(context, _TYPICAL_SECONDS if seconds is None else seconds)
    needs = f"About {describe_seconds(estimate.seconds)}, {describe_bytes(estimate.memory_bytes)} of memory"
    place = "cache file" if settings.bake == "cache" and not makes_sequence(settings) else ".blend file"
    size = f"{describe_bytes(estimate.file_bytes)} in the {place}"
    column = layout.column(align=True)
    column.scale_y = 0.85
    column.enabled = False
    column.label(text=needs, icon="TIME")
    column.label(text=size if seconds is not None else f"for {_TYPICAL_SECONDS:.0f} s of speech", icon="BLANK1")
