"""Takes with a performance inside Blender: curves, bones, controls; run by run_scenario.py."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_talkhead import registration
from blender_talkhead.bake.inventory import remove_head
from blender_talkhead.bake.performed_motion import DATA_PROPERTY, apply_controls, read_performance
from blender_talkhead.bake.provenance import read_provenance, take_action
from blender_talkhead.bake.take import BakeSettings, bake_take
from blender_talkhead.compat import action_fcurves
from blender_talkhead.contract.errors import BadInputError, OutputError
from blender_talkhead.contract.motion_clip import MotionClip, load_motion_clip
from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.motion_basis import fit_motion_basis
from blender_talkhead.facial.performance import Controls, compose_performance
from blender_talkhead.facial.remainder import remainder_reader, round_curves
from blender_talkhead.headless.files import open_scene_file, save_copy
from blender_talkhead.scene.hair import find_hair
from blender_talkhead.scene.mesh import read_evaluated_positions
from blender_talkhead.scene.restore import unchanged_on_error
from blender_talkhead.scene.rig import MODIFIER_NAME, find_rig
from tests.in_blender.file_state import file_state
from tests.in_blender.recorded_layout import RecordedLayout
from tests.in_blender.scenarios import START, check_motion, expect_error, make_clip, new_scene, settings
from tests.synthetic_clip import make_rotations, write_synthetic_clip

FRAMES = 60
SMILE = "mouthSmileLeft"


def performed_clip(folder: Path, num_frames: int = FRAMES, columns: int = 21) -> MotionClip:
    path = write_synthetic_clip(folder / f"performed{num_frames}", num_frames, columns, performed=True)
    return load_motion_clip(path)


def performed_takes(folder: Path, mode: str) -> None:
    """The face is the clip's, with the rig off or at rest; the keys have ARKit names; all of it survives saving."""
    clip, scene = performed_clip(folder), new_scene(24.0)
    take = bake_take(clip, settings(mode, folder), scene)
    head = bpy.data.objects[take.object_name]
    rig = find_rig(head)
    assert rig.parent == head and rig.name == "TalkHead rig" and [bone.name for bone in rig.data.bones] == [
        "neck", "head", "eye_left", "eye_right",
    ]  # fmt: skip
    for name, place in clip.performance.pivots.items():
        x, y, z = place
        np.testing.assert_allclose(rig.data.bones[name].head_local, (x, -z, y), atol=1e-6)
    check_bones(clip, head, rig, 24.0)
    head.modifiers[MODIFIER_NAME].show_viewport = False
    check_motion(clip, take, mode, 24.0)
    head.modifiers[MODIFIER_NAME].show_viewport = True
    rig.animation_data.action, action = None, rig.animation_data.action
    for bone in rig.pose.bones:
        bone.rotation_quaternion = (1, 0, 0, 0)
    check_motion(clip, take, mode, 24.0)
    rig.animation_data.action = action
    if mode == "basis":
        names = {key.name for key in head.data.shape_keys.key_blocks}
        assert {"jawOpen", "mouthClose", SMILE, "Speech 000"} <= names and "eyeLookInLeft" not in names
        values = curve_of(head, "jawOpen")
        np.testing.assert_allclose(values[0], clip.blendshape_weights[0, BLENDSHAPE_INDEX["jawOpen"]], atol=1e-4)
    save_copy(folder / "take.blend")
    open_scene_file(folder / "take.blend")
    head = bpy.data.objects[take.object_name]
    performance = read_performance(take_action(head))
    np.testing.assert_allclose(performance.weights, clip.blendshape_weights, atol=1e-5)
    check_bones(clip, head, find_rig(head), 24.0)
    remove_head(head)
    assert not bpy.data.objects and not bpy.data.armatures and not bpy.data.actions, list(bpy.data.actions)


def hair_stays_on_the_head(folder: Path) -> None:
    """Hair hangs where the clip has it, on another mesh too; it turns with the head; a failed take moves no hair."""
    clip, finer, scene = performed_clip(folder), performed_clip(folder, FRAMES + 1, 25), new_scene(30.0)
    take = bake_take(clip, settings("basis", folder), scene)
    head = bpy.data.objects[take.object_name]
    hair = find_hair(head)
    turns: dict[int, float] = {}
    for each in (clip, finer):
        head.location = (0.3, -0.2, 1.0)
        if each is finer:
            before = file_state()
            expect_error(OutputError, "disk full", lambda: fail_late(finer, head, scene))
            assert file_state() == before
            bake_take(finer, settings("basis", folder), scene, head)
            assert find_hair(head) == hair and hair.users_collection
        for key in head.data.shape_keys.key_blocks:
            key.mute = True
        x, y, z = each.hair.reshape(-1, 3).T
        rest = np.stack([x, -z, y], axis=1) + head.location
        head.modifiers[MODIFIER_NAME].show_viewport = False
        np.testing.assert_allclose(hair_positions(hair), rest, atol=2e-6)
        head.modifiers[MODIFIER_NAME].show_viewport = True
        scene.frame_set(START + 15)
        turns[each.num_vertices] = float(np.abs(hair_positions(hair) - rest).max())
    assert min(turns.values()) > 1e-3, turns
    remove_head(head)
    assert not bpy.data.objects and not bpy.data.hair_curves


def hair_positions(hair: Any) -> np.ndarray:
    """World positions (N, 3) of the points of hair."""
    bpy.context.view_layer.update()
    points = np.empty(3 * len(hair.data.points), np.float32)
    hair.data.position_data.foreach_get("vector", points)
    matrix = np.array(hair.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world)
    return points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def fail_late(clip: MotionClip, target: Any | None, scene: Any) -> None:
    """Bake, then fail as if the file could not be saved."""
    with unchanged_on_error(scene, target):
        bake_take(clip, BakeSettings("basis", START), scene, target)
        raise OutputError("disk full")


def shapes_of_the_backend_are_used(folder: Path) -> None:
    """Shapes that the backend fitted to what the curves leave out land as they are; others are fitted anew."""
    clip, scene = performed_clip(folder), new_scene(30.0)
    read = remainder_reader(clip.read_offsets, round_curves(clip.blendshape_weights), clip.performance.blendshapes)
    basis = fit_motion_basis(clip.num_frames, read, clip.template_vertices, 2e-5)
    limits = {"basis_error_limit_m": 2e-5, "basis_max_error_m": basis.max_error_m}
    fitted = dataclasses.replace(clip, basis_shapes=basis.shapes, basis_weights=basis.weights, **limits)
    marked = dataclasses.replace(fitted, basis_max_error_m=1.9e-5, basis_is_remainder=True)
    take = bake_take(marked, settings("basis", folder), scene)
    assert take.max_error_mm == 1.9e-5 * 1000.0, "the measured error of the clip's own basis"
    bpy.data.objects[take.object_name].modifiers[MODIFIER_NAME].show_viewport = False
    check_motion(clip, take, "basis", 30.0)
    take = bake_take(fitted, settings("basis", folder), scene)
    assert take.max_error_mm != 1.9e-5 * 1000.0, "a basis of the whole motion is none of its remainder"


def controls_change_the_take(folder: Path) -> None:
    """Keyed controls change the curves where their keys are; reset, all is as baked; a late take follows them."""
    registration.register("blender_talkhead")
    clip, scene = performed_clip(folder), new_scene(30.0)
    take = bake_take(clip, BakeSettings("basis", START), scene)
    head = bpy.data.objects[take.object_name]
    bpy.context.view_layer.objects.active = head
    before = {name: curve_of(head, name) for name in ("jawOpen", SMILE, "mouthFrownLeft", "browInnerUp")}
    assert before["mouthFrownLeft"] is None, "what never moves has no curve"
    scene.frame_set(START + 3)
    state = file_state()
    assert apply_controls(head) > 0
    scene.frame_set(START + 3)
    assert file_state() == state, "neutral controls write what was baked"
    np.testing.assert_allclose(curve_of(head, "jawOpen"), before["jawOpen"], atol=1e-6)
    controls = head.talkhead_performance
    for frame, value in ((START, 0.0), (START + FRAMES - 1, 1.0)):
        controls.mouth_strength = value
        controls.keyframe_insert("mouth_strength", frame=frame)
    controls.expression, controls.head_motion = "sad", 0.5
    assert bpy.ops.talkhead.apply_performance() == {"FINISHED"}
    jaw, frown = curve_of(head, "jawOpen"), curve_of(head, "mouthFrownLeft")
    assert jaw[0] == 0.0 and abs(jaw[-1] - before["jawOpen"][-1]) < 1e-3 and frown.max() > 0.3
    assert (jaw <= before["jawOpen"] + 1e-6).all()
    expected = compose_performance(read_performance(take_action(head)), Controls.neutral(FRAMES))
    assert expected.head_rotation is not None
    scene.frame_set(START + 15)
    angle = find_rig(head).pose.bones["head"].rotation_quaternion.angle
    full = 2 * np.arccos(np.clip(clip.head_rotation[15, 0], -1, 1))
    assert abs(angle - 0.5 * full) < 1e-4, (angle, full)
    again = bake_take(clip, BakeSettings("basis", START), scene, head)
    np.testing.assert_allclose(curve_of(head, "mouthFrownLeft"), frown, atol=1e-4)
    assert again.action_name != take.action_name and find_rig(head).name == "TalkHead rig"
    assert bpy.ops.talkhead.reset_performance() == {"FINISHED"}
    assert controls.expression == "neutral" and controls.mouth_strength == 1.0
    np.testing.assert_allclose(curve_of(head, "jawOpen"), before["jawOpen"], atol=1e-6)
    assert curve_of(head, "mouthFrownLeft") is None
    head.modifiers[MODIFIER_NAME].show_viewport = False
    check_motion(clip, again, "basis", 30.0)
    registration.unregister("blender_talkhead")


def drivers_and_nla_decide_about_controls(folder: Path) -> None:
    """Drivers and NLA tracks act frame by frame; the scene stays at its frame; reset removes drivers."""
    registration.register("blender_talkhead")
    clip, scene = performed_clip(folder), new_scene(30.0)
    take = bake_take(clip, BakeSettings("basis", START), scene)
    head = bpy.data.objects[take.object_name]
    bpy.context.view_layer.objects.active = head
    jaw = curve_of(head, "jawOpen")
    slider = bpy.data.objects.new("slider", None)
    scene.collection.objects.link(slider)
    driver = head.driver_add("talkhead_performance.mouth_strength").driver
    driver.type, variable = "SCRIPTED", driver.variables.new()
    variable.name, variable.type = "turn", "TRANSFORMS"
    variable.targets[0].id, variable.targets[0].transform_type = slider, "LOC_X"
    driver.expression = "turn"
    for frame, place in ((START, 0.0), (START + FRAMES - 1, 1.0)):
        slider.location.x = place
        slider.keyframe_insert("location", index=0, frame=frame)
    for curve in action_fcurves(slider):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    scene.frame_set(START + 7)
    assert bpy.ops.talkhead.apply_performance() == {"FINISHED"}
    assert scene.frame_current == START + 7
    np.testing.assert_allclose(curve_of(head, "jawOpen"), jaw * np.linspace(0, 1, FRAMES), atol=2e-3)
    assert bpy.ops.talkhead.reset_performance() == {"FINISHED"}
    assert not head.animation_data.drivers
    np.testing.assert_allclose(curve_of(head, "jawOpen"), jaw, atol=1e-6)
    for frame, value in ((START, 1.0), (START + FRAMES - 1, 0.0)):
        head.talkhead_performance.mouth_strength = value
        head.keyframe_insert("talkhead_performance.mouth_strength", frame=frame)
    head.animation_data.nla_tracks.new().strips.new("controls", START, head.animation_data.action)
    head.animation_data.action = None
    assert bpy.ops.talkhead.apply_performance() == {"FINISHED"}
    shown = curve_of(head, "jawOpen")
    np.testing.assert_allclose(shown[[0, -1]], [jaw[0], 0.0], atol=2e-3)
    assert (shown <= jaw + 1e-4).all() and shown[FRAMES // 2] < 0.8 * jaw[FRAMES // 2]
    registration.unregister("blender_talkhead")


def applying_is_quick(folder: Path) -> None:
    """60 s at 30 frames a second, all controls keyed: under a second."""
    registration.register("blender_talkhead")
    clip, scene = performed_clip(folder, 1800, 41), new_scene(30.0)
    take = bake_take(clip, BakeSettings("basis", START), scene)
    head = bpy.data.objects[take.object_name]
    controls = head.talkhead_performance
    controls.expression = "happy"
    for name in ("mouth_strength", "jaw_strength", "blink_rate", "smoothing", "expression_strength", "gaze"):
        for frame in (1, 900, 1800):
            controls.keyframe_insert(name, frame=frame)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        written = apply_controls(head)
        seconds.append(time.perf_counter() - began)
    size = len(take_action(head)[DATA_PROPERTY])
    print(f"applied {written} curves in {min(seconds):.3f} s; {size} bytes are kept")  # noqa: T201
    assert min(seconds) < 1.0, seconds
    assert size < 600_000
    registration.unregister("blender_talkhead")


def meshes_of_the_user_get_no_bones(folder: Path) -> None:
    """A mesh of the user's gets face and controls, no rig and no hair; it is told that nothing turns."""
    registration.register("blender_talkhead")
    clip, scene = performed_clip(folder), new_scene(30.0)
    mesh = bpy.data.meshes.new("mine")
    x, y, z = clip.template_vertices.T
    polygons = np.split(clip.polygon_vertices, clip.polygon_starts[1:-1])
    mesh.from_pydata(np.stack([x, -z, y], axis=1).tolist(), [], [polygon.tolist() for polygon in polygons])
    item = bpy.data.objects.new("mine", mesh)
    scene.collection.objects.link(item)
    take = bake_take(clip, settings("basis", folder), scene, item)
    assert [text for text in take.warnings if "do not turn" in text], take.warnings
    assert find_rig(item) is None and find_hair(item) is None and not bpy.data.armatures
    check_motion(clip, take, "basis", 30.0)
    jaw = curve_of(item, "jawOpen")
    item.talkhead_performance.mouth_strength = 0.5
    apply_controls(item)
    np.testing.assert_allclose(curve_of(item, "jawOpen"), 0.5 * jaw, atol=1e-5)
    registration.unregister("blender_talkhead")


def performance_panel(folder: Path) -> None:
    """The panel shows the controls of the active head or its rig, and says why it cannot."""
    registration.register("blender_talkhead")
    from blender_talkhead.ui.performance import draw_performance, why_not_apply

    scene = new_scene(30.0)
    plain = bake_take(make_clip(folder), settings("basis", folder), scene)
    take = bake_take(performed_clip(folder), settings("basis", folder), scene)
    layer = bpy.context.view_layer
    layer.objects.active = bpy.data.objects[plain.object_name]
    assert "animated with this version" in why_not_apply(bpy.context)
    assert not bpy.ops.talkhead.apply_performance.poll()
    expect_error(BadInputError, "animate it again", lambda: apply_controls(bpy.data.objects[plain.object_name]))
    head = bpy.data.objects[take.object_name]
    for active in (head, find_rig(head)):
        layer.objects.active = active
        layout = ShownLayout()
        draw_performance(layout, bpy.context)
        assert {"expression", "mouth_strength", "blink_rate", "gaze", "show_viewport"} <= set(layout.properties)
        assert layout.operators == ["talkhead.apply_performance", "talkhead.reset_performance"]
        assert why_not_apply(bpy.context) == ""
    registration.unregister("blender_talkhead")


def performed_failures(folder: Path) -> None:
    """A bake that fails leaves head, rig, bones and actions as they were; targets without a rig get one."""
    clip, plain = performed_clip(folder), make_clip(folder)
    scene = new_scene(30.0)
    take = bake_take(clip, settings("basis", folder), scene)
    head = bpy.data.objects[take.object_name]
    before = file_state()

    for target in (None, head):
        expect_error(OutputError, "disk full", lambda t=target: fail_late(clip, t, scene))
        after = file_state()
        assert after == before, {
            key: (before.get(key), after.get(key)) for key in after if after[key] != before.get(key)
        }
    scene = new_scene(30.0)
    old = bake_take(plain, settings("basis", folder), scene)
    head = bpy.data.objects[old.object_name]
    assert find_rig(head) is None
    bake_take(clip, settings("basis", folder), scene, head)
    assert find_rig(head) is not None
    later = bake_take(plain, settings("basis", folder), scene, head)
    check_motion(plain, later, "basis", 30.0)
    assert not [key.name for key in head.data.shape_keys.key_blocks if key.name == "jawOpen"]


class ShownLayout(RecordedLayout):
    """A layout of a panel that is wide enough."""


def curve_of(head: Any, key: str) -> np.ndarray | None:
    """Values of the curve of a shape key at the scene frames of the take."""
    curve = action_fcurves(head.data.shape_keys).find(f'key_blocks["{key}"].value')
    bake = read_provenance(take_action(head))["bake"]
    frames = range(bake["start"], bake["last_frame"] + 1)
    return None if curve is None else np.array([curve.evaluate(frame) for frame in frames])


def check_bones(clip: MotionClip, head: Any, rig: Any, rate: float) -> None:
    """Teeth turn with the head about its pivot, eyes also about theirs, at every clip frame that is a scene frame."""
    head_turn, eye_turns = make_rotations(clip.num_frames)
    head.modifiers[MODIFIER_NAME].show_viewport = True
    scene = bpy.context.scene
    for index in range(0, clip.num_frames, 5):
        frame = index * rate / 30.0
        if frame != int(frame):
            continue
        scene.frame_set(START + int(frame))
        shown = read_evaluated_positions(head, bpy.context.evaluated_depsgraph_get())
        moved = (clip.template_vertices + clip.vertex_offsets[index]).astype(np.float64)
        whole = turn_matrix(head_turn[index])
        pivot = np.array(clip.performance.pivots["head"])
        for part, side in (("teeth", None), ("eyes", 0)):
            points = moved[slice(*clip.parts[part])]
            if side is not None:
                centre = np.array(clip.performance.pivots["eye_left"])
                points = (points - centre) @ turn_matrix(eye_turns[index, side]).T + centre
            x, y, z = ((points - pivot) @ whole.T + pivot).T
            error = np.abs(shown[slice(*clip.parts[part])] - np.stack([x, -z, y], axis=1)).max()
            assert error < 3e-5, (part, index, error)


def turn_matrix(quaternion: np.ndarray) -> np.ndarray:
    w, x, y, z = (float(value) for value in quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
