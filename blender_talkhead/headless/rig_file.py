"""Makes `scene/rig.blend`, the bones that a head's rig is made from: `python -m blender_talkhead.headless.rig_file`.

Bones can be made in edit mode only, which a bake must not switch to. They stand at unit distances, so that one scale
and one shift bring them to the pivots of any head (`scene/rig.py`). Written with the oldest supported Blender, so that
all open it.
"""

from __future__ import annotations

from pathlib import Path

import bpy

RIG_FILE = Path(__file__).resolve().parents[1] / "scene" / "rig.blend"
ARMATURE = "TalkHead rig"
BONES: tuple[tuple[str, tuple[float, float, float], tuple[float, float, float], str], ...] = (
    ("neck", (0.0, 0.0, -0.5), (0.0, 0.0, 0.0), ""),
    ("head", (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), "neck"),
    ("eye_left", (1.0, -1.0, 1.0), (1.0, -1.1, 1.0), "head"),
    ("eye_right", (-1.0, -1.0, 1.0), (-1.0, -1.1, 1.0), "head"),
)
"""Name, head, tail and parent of each bone, in Blender's axes: the head's pivot is the origin."""


def write_rig_file(path: Path) -> None:
    """Write the armature into a .blend file of its own."""
    armature = bpy.data.armatures.new(ARMATURE)
    item = bpy.data.objects.new(ARMATURE, armature)
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode="EDIT")
    for name, head, tail, parent in BONES:
        bone = armature.edit_bones.new(name)
        bone.head, bone.tail, bone.roll = head, tail, 0.0
        bone.parent = armature.edit_bones.get(parent)
    bpy.ops.object.mode_set(mode="OBJECT")
    armature.display_type = "STICK"
    bpy.data.libraries.write(str(path), {armature}, compress=True, fake_user=True)


if __name__ == "__main__":
    write_rig_file(RIG_FILE)
