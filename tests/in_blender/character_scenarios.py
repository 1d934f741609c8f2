"""The Character panel without a window: sliders, presets, files, heads at rest, and heads that change with their take.

A made-up backend's identities are linear maps, so that what must come out can be told by hand.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np

from blender_talkhead.bake.character import reshape_head
from blender_talkhead.bake.take import BakeSettings, bake_take
from blender_talkhead.compat import action_fcurves
from blender_talkhead.contract.identity_change import IdentityChange
from blender_talkhead.contract.motion_clip import load_motion_clip
from blender_talkhead.facial.identities import load_character, random_identity, resolve_identity
from blender_talkhead.facial.identity_parameters import IDENTITY_PARAMETERS
from blender_talkhead.facial.identity_presets import IDENTITY_PRESETS
from blender_talkhead.operators.request import read_settings
from blender_talkhead.preferences import PreferenceValues
from blender_talkhead.scene.character_store import (
    read_shown_character,
    shows_what_is_wanted,
    wanted_identity,
    wanted_parameters,
)
from blender_talkhead.scene.coordinates import to_backend_axes, to_blender_axes
from blender_talkhead.scene.mesh import read_rest_positions
from blender_talkhead.scene.rig import find_rig
from blender_talkhead.session import session
from blender_talkhead.ui import panels
from blender_talkhead.ui.takes import list_takes
from tests.in_blender.recorded_layout import RecordedLayout
from tests.in_blender.ui_scenarios import enabled, expect_error, recording, use_fake_backend
from tests.synthetic_clip import write_synthetic_clip

WIDER = np.diag([1.2, 1.0, 1.0])
"""What the made-up backend does at face_width 1, in Blender's axes too."""


def sliders_presets_and_files(folder: Path) -> None:
    """Each way to choose a character ends in the same sliders; files come back; nothing of a bad file is taken."""
    with enabled(folder):
        scene = bpy.context.scene
        chosen, character = scene.talkhead, scene.talkhead_character
        assert (chosen.identity, chosen.detail) == ("mean", "ARTIST")
        assert all(getattr(character, name) == 0.0 for name in IDENTITY_PARAMETERS)
        chosen.identity = "broad"
        assert abs(character.jaw_width - IDENTITY_PRESETS["broad"].parameters["jaw_width"]) < 1e-6
        character.jaw_width = 7.0  # beyond the slider's end
        assert character.jaw_width == 1.0 and chosen.identity == "custom"
        assert wanted_parameters(scene)["brow_ridge"] == 1.0  # the rest of the preset stays
        assert bpy.ops.talkhead.reset_character(group="skull") == {"FINISHED"}
        assert (character.brow_ridge, character.jaw_width) == (0.0, 1.0)
        assert bpy.ops.talkhead.use_preset(preset="soft") == {"FINISHED"} and chosen.identity == "soft"
        chosen.identity, chosen.identity_seed = "random", 12
        assert chosen.identity == "random" and wanted_parameters(scene) == random_identity(12)
        character.seed, character.amount = 4, 1.5
        expected = {name: value for name, value in random_identity(4, 1.5).items() if value}
        assert wanted_parameters(scene) == expected and chosen.identity == "custom"
        assert bpy.ops.talkhead.random_character() == {"FINISHED"} and character.seed == 5
        path = folder / "face"
        assert bpy.ops.talkhead.save_character(filepath=str(path)) == {"FINISHED"}
        kept = wanted_parameters(scene)
        assert load_character(path.with_suffix(".json")).parameters == kept
        assert bpy.ops.talkhead.reset_character(group="") == {"FINISHED"} and chosen.identity == "mean"
        assert bpy.ops.talkhead.load_character(filepath=str(path.with_suffix(".json"))) == {"FINISHED"}
        assert wanted_parameters(scene) == kept
        (folder / "bad.json").write_text('{"format": "talkhead-character", "format_version": 1, "parameters": 3}')
        for wrong in ("bad.json", "gone.json"):
            expect_error(wrong, bpy.ops.talkhead.load_character, filepath=str(folder / wrong))
        assert wanted_parameters(scene) == kept
        scene["talkhead_identity"] = "no identity"  # by hand, or by a newer version
        assert wanted_identity(scene) == "mean"
        chosen.vertices = 900
        assert chosen.detail == "SAMPLED"


def heads_at_rest_speak_later(folder: Path) -> None:
    """A head is made at rest, follows its sliders, is drawn in the panel, and speaks with the same mesh and face."""
    with enabled(folder):
        use_fake_backend(folder)
        scene = bpy.context.scene
        scene.talkhead.vertices = 900
        scene.talkhead.identity = "round"
        scene.cursor.location = (1.0, 2.0, 3.0)
        assert bpy.ops.talkhead.create_character() == {"FINISHED"}
        head = bpy.context.view_layer.objects.active
        assert head.name == "TalkHead" and tuple(head.location) == (1.0, 2.0, 3.0)
        assert (scene.talkhead.target_kind, scene.talkhead.target) == ("OBJECT", head)
        assert read_shown_character(head.data).identity == "round" and list_takes() == []
        rest = read_rest_positions(head.data)
        head.talkhead_character.face_width = 0.0
        assert not shows_what_is_wanted(head)
        assert bpy.ops.talkhead.update_character() == {"FINISHED"} and shows_what_is_wanted(head)
        width = resolve_identity("round")["face_width"]
        expected = rest @ np.diag([1 / (1 + 0.2 * width), 1, 1])
        np.testing.assert_allclose(read_rest_positions(head.data), expected, atol=1e-6)
        layout = draw(panels.TALKHEAD_PT_character)
        assert {"talkhead.create_character", "talkhead.use_preset"} & set(layout.operators)
        assert set(IDENTITY_PARAMETERS) <= set(layout.properties) and "TalkHead" in layout.text
        scene.talkhead.audio = str(recording(folder))
        asked = read_settings(scene, PreferenceValues())
        assert (asked.target, asked.vertices, asked.identity) == ("TalkHead", 900, None)
        mesh_before = [tuple(polygon.vertices) for polygon in head.data.polygons]
        assert bpy.ops.talkhead.animate() == {"FINISHED"}
        assert [row.object_name for row in list_takes()] == ["TalkHead"]
        assert len(bpy.data.objects) >= 1 and [tuple(polygon.vertices) for polygon in head.data.polygons] == mesh_before
        assert read_shown_character(head.data).identity == wanted_identity(head)


def takes_change_with_their_head(folder: Path) -> None:
    """Shape keys of a take and of the user, sculpting and bones are carried over; the curves stay as they are."""
    with enabled(folder):
        use_fake_backend(folder)
        scene = bpy.context.scene
        scene.talkhead.audio, scene.talkhead.vertices = str(recording(folder)), 900
        assert bpy.ops.talkhead.animate() == {"FINISHED"}
        head = bpy.data.objects["TalkHead"]
        bpy.context.view_layer.objects.active = head
        keys = head.data.shape_keys
        own = head.shape_key_add(name="mine", from_mix=False)
        own.data[5].co.x += 0.01
        keys.reference_key.data[7].co.y += 0.002  # sculpted
        for key in keys.key_blocks:  # as sculpting does it
            if key != keys.reference_key:
                key.data[7].co.y += 0.002
        before = {key.name: positions(key) for key in keys.key_blocks}
        curves = [list(curve.co) for curve in sampled_curves(keys)]
        head.talkhead_character.face_width = 1.0
        assert bpy.ops.talkhead.update_character() == {"FINISHED"}
        assert [key.name for key in keys.key_blocks] == list(before)
        for name, old in before.items():
            np.testing.assert_allclose(positions(keys.key_blocks[name]), old @ WIDER, atol=1e-6)
        assert [list(curve.co) for curve in sampled_curves(keys)] == curves
        head.talkhead_character.face_width = 0.0
        assert bpy.ops.talkhead.update_character() == {"FINISHED"}
        for name, old in before.items():
            np.testing.assert_allclose(positions(keys.key_blocks[name]), old, atol=1e-6)
        rig = find_rig(head)
        assert rig is None  # the made-up take turns nothing


def bones_and_tongue_follow_the_face(folder: Path) -> None:
    """Bones turn about the new eyes with their curves as they were; the tongue rides on the jaw and moves by itself."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene
    info: dict[str, object] = {"options": {"vertices": 441, "identity": None, "identity_parameters": {}}}
    clip = load_motion_clip(write_synthetic_clip(folder / "clip", 30, info=info, performed=True))
    head = bpy.data.objects[bake_take(clip, BakeSettings("basis"), scene).object_name]
    rig = find_rig(head)
    eye = rig.data.bones["eye_left"]
    curves = [[tuple(point.co) for point in curve.keyframe_points] for curve in action_fcurves(rig)]
    assert np.allclose(eye.head_local, (0.03, -0.03, 0.04), atol=1e-6) and curves
    (jaw_start, jaw_stop), (start, stop) = clip.parts["teeth"], clip.parts["tongue"]
    jaw, tongue = np.arange(jaw_start, jaw_stop, dtype=np.int32), np.arange(start, stop, dtype=np.int32)
    rest = clip.template_vertices
    key = head.shape_key_add(name="both", from_mix=False)
    offset = np.zeros_like(rest)
    offset[jaw] = offset[tongue] = (0.0, -0.01, 0.0)  # the jaw drops, and the tongue comes forward beside that
    offset[tongue] += (0.0, 0.0, 0.02)
    write(key, rest + offset)
    stiff, free = np.diag([1.0, 2.0, 1.0]), np.diag([1.0, 1.0, 0.5])
    jacobians = np.broadcast_to(stiff, (len(rest), 3, 3)).astype(np.float32)
    of_tongue = np.broadcast_to(free, (len(tongue), 3, 3)).astype(np.float32)
    pivots = {"head": (0.0, -0.02, -0.02), "eye_left": (0.03, 0.04, 0.03), "eye_right": (-0.03, 0.04, 0.03)}
    moved = {**pivots, "eye_left": (0.04, 0.05, 0.03), "eye_right": (-0.04, 0.05, 0.03)}
    shifted = (rest + np.array([0.0, 0.001, 0.0])).astype(np.float32)
    change = IdentityChange(shifted, rest, jacobians, jaw, tongue, of_tongue, moved, pivots)
    reshape_head(head, change, "eye_spacing=1")
    assert np.allclose(eye.head_local, (0.04, -0.03, 0.05), atol=1e-6)
    assert [[tuple(point.co) for point in curve.keyframe_points] for curve in action_fcurves(rig)] == curves
    result = to_backend_axes(positions(key)) - shifted
    np.testing.assert_allclose(result[jaw], np.tile([0.0, -0.02, 0.0], (len(jaw), 1)), atol=1e-6)
    np.testing.assert_allclose(result[tongue], np.tile([0.0, -0.02, 0.01], (len(tongue), 1)), atol=1e-5)
    assert read_shown_character(head.data).identity == "eye_spacing=1"


def heads_that_cannot_be_shaped(folder: Path) -> None:
    """Editing, caches, edited meshes, foreign objects and a failing backend are told, and change nothing."""
    with enabled(folder):
        use_fake_backend(folder)
        scene = bpy.context.scene
        scene.talkhead.vertices = 900
        assert bpy.ops.talkhead.create_character() == {"FINISHED"}
        head: Any = bpy.context.view_layer.objects.active
        head.talkhead_character.face_width = 1.0
        rest = read_rest_positions(head.data)
        head.data.vertices.add(1)
        expect_error("was it edited", bpy.ops.talkhead.update_character)
        note = head.data["talkhead_shape"]
        head.data = head.data.copy()
        head.data.clear_geometry()
        head.data.vertices.add(len(rest))
        head.data["talkhead_shape"] = "{damaged"
        assert read_shown_character(head.data) is None
        expect_error("Select a head", bpy.ops.talkhead.update_character)
        head.data["talkhead_shape"] = note
        cache = head.modifiers.new("TalkHead cache", "MESH_CACHE")
        cache.filepath = "a.pc2"
        expect_error("cache file", bpy.ops.talkhead.update_character)
        head.modifiers.remove(cache)
        use_fake_backend(folder, "error4")
        from blender_talkhead.backend_client import shared_worker

        shared_worker.close_shared_worker()
        expect_error("told to fail", bpy.ops.talkhead.update_character)
        bpy.context.view_layer.objects.active = None
        expect_error("told to fail", bpy.ops.talkhead.create_character)
        assert session.character_note is not None and len(bpy.data.objects) == 1


def sampled_curves(keys: Any) -> list[SimpleNamespace]:
    return [SimpleNamespace(co=[tuple(point.co) for point in curve.keyframe_points]) for curve in action_fcurves(keys)]


def write(key: Any, values: np.ndarray) -> None:
    key.data.foreach_set("co", np.ascontiguousarray(to_blender_axes(values.astype(np.float32))).ravel())


def positions(key: Any) -> np.ndarray:
    values = np.empty(3 * len(key.data), np.float32)
    key.data.foreach_get("co", values)
    return values.reshape(-1, 3)


def draw(kind: Any) -> RecordedLayout:
    layout = RecordedLayout()
    context = SimpleNamespace(
        scene=bpy.context.scene,
        view_layer=bpy.context.view_layer,
        preferences=bpy.context.preferences,
        region=SimpleNamespace(width=260),
        window_manager=bpy.context.window_manager,
    )
    kind.draw(SimpleNamespace(layout=layout), context)
    return layout
