"""Characters that come with the built-in head (no numpy, no bpy)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IdentityPreset:
    """A named set of identity parameters; those it does not name are 0."""

    label: str
    description: str
    parameters: dict[str, float]


IDENTITY_PRESETS: dict[str, IdentityPreset] = {
    "mean": IdentityPreset("Mean", "The average head", {}),
    "broad": IdentityPreset(
        "Broad",
        "Wide face, strong jaw and brow, wide nose, thick neck, small eyes",
        {
            "face_width": 0.55, "jaw_width": 0.9, "jaw_angle": 0.6, "brow_ridge": 1.0, "brow_height": -0.5,
            "nose_width": 1.0, "nose_height": -0.4, "nose_projection": 0.2, "chin_height": -0.5,
            "chin_projection": 0.8, "chin_width": 0.7, "neck_width": 1.0, "lip_thickness": -0.6, "mouth_width": 0.5,
            "eye_size": -0.8, "cheek_fullness": -0.2, "cheekbone": 0.5, "eye_hood": 0.8, "forehead": -0.7,
            "ear_size": 0.6, "nose_bridge": 0.4,
        },
    ),
    "soft": IdentityPreset(
        "Soft",
        "Narrow jaw, large wide-set eyes, full lips, small flat nose",
        {
            "face_width": -0.3, "jaw_width": -0.7, "chin_height": 0.8, "nose_height": 0.8, "nose_projection": -0.9,
            "nose_width": -0.3, "nose_bridge": -0.5, "eye_size": 0.9, "eye_spacing": 0.9, "eye_tilt": 0.4,
            "lip_thickness": 0.8, "lip_projection": 0.4, "brow_ridge": -0.8, "brow_height": 0.3,
            "cheek_fullness": 0.3, "neck_width": -1.0, "philtrum": 0.25, "cranium_height": 0.4, "ear_size": -0.8,
            "jaw_angle": -0.65, "forehead": 0.5, "mouth_width": -0.1, "chin_projection": -0.2,
        },
    ),
    "lean": IdentityPreset(
        "Lean",
        "Long and narrow, hollow cheeks, marked cheekbones, large bony nose",
        {
            "face_width": -0.9, "face_length": 0.9, "jaw_width": -0.3, "cheek_fullness": -1.0, "cheekbone": 0.6,
            "nose_projection": 1.0, "nose_bridge": 1.0, "nose_height": -0.7, "nose_width": -0.3, "nose_tip": -0.3,
            "chin_projection": 0.6, "mouth_width": 0.7, "lip_thickness": -0.4, "ear_size": 0.9, "ear_angle": 0.9,
            "eye_bag": 0.6, "eye_size": -0.4, "eye_spacing": -0.5, "brow_ridge": 0.5, "neck_width": -0.7,
            "temple": -0.9, "cranium_width": -0.6,
        },
    ),
    "round": IdentityPreset(
        "Round",
        "Short and wide, full cheeks, small turned-up nose, soft chin",
        {
            "face_width": 0.9, "face_length": -0.9, "cheek_fullness": 0.7, "jaw_width": 0.6, "jaw_angle": 0.2,
            "chin_projection": -0.3, "nose_height": 0.25, "nose_projection": -0.4, "nose_tip": 0.15,
            "nose_width": 0.2, "nose_bridge": -0.2, "lip_thickness": 0.4, "eye_size": 0.1, "brow_ridge": -0.6,
            "chin_height": 0.2, "neck_width": 1.0, "eye_bag": 0.5, "cranium_width": 0.6, "temple": 0.6,
            "ear_size": -0.3,
        },
    ),
    "heroic": IdentityPreset(
        "Heroic",
        "Square jaw, broad chin, high cheekbones, straight nose",
        {
            "face_length": 0.35, "jaw_width": 0.65, "jaw_angle": 1.0, "chin_width": 1.0, "chin_projection": 0.9,
            "chin_height": -0.6, "cheekbone": 0.8, "cheek_fullness": -0.7, "brow_ridge": 0.8, "brow_height": -0.7,
            "nose_bridge": 0.9, "nose_width": 0.1, "nose_projection": 0.3, "neck_width": 0.9, "mouth_width": 0.5,
            "lip_thickness": -0.3, "eye_tilt": 0.3, "eye_size": -0.6, "cranium_width": 0.2, "eye_hood": 0.4,
        },
    ),
    "elder": IdentityPreset(
        "Elder",
        "Hollow cheeks and temples, drooping eyes with bags, hanging nose, large ears, thin lips",
        {
            "eye_bag": 1.0, "eye_hood": 1.0, "eye_tilt": -1.0, "eye_size": -0.7, "cheek_fullness": -0.9,
            "cheekbone": 0.4, "temple": -1.0, "nose_tip": -1.0, "nose_projection": 0.8, "nose_width": 0.6,
            "nose_height": -0.5, "ear_size": 1.0, "ear_angle": 0.5, "lip_thickness": -1.0, "lip_projection": -0.7,
            "chin_projection": 0.7, "brow_height": -0.4, "brow_ridge": 0.4, "forehead": -0.4, "face_length": 0.4,
            "neck_width": -0.6, "mouth_width": 0.4, "jaw_width": 0.2, "philtrum": -0.3,
        },
    ),
    "youth": IdentityPreset(
        "Youth",
        "High forehead, short upturned nose, large eyes, full cheeks, small chin",
        {
            "face_length": -0.9, "forehead": 1.0, "cranium_height": 0.5, "cranium_width": 0.6, "eye_size": 1.0,
            "eye_spacing": 0.5, "eye_height": -0.6, "nose_height": 0.7, "nose_tip": 0.5, "nose_projection": -0.7,
            "nose_bridge": -0.9, "nose_width": -0.5, "cheek_fullness": 0.8, "cheekbone": -0.4, "jaw_width": -0.2,
            "jaw_angle": -0.6, "chin_height": 0.6, "chin_width": -0.5, "chin_projection": -0.5, "brow_ridge": -0.9,
            "brow_height": 0.4, "neck_width": -1.0, "ear_angle": 0.5, "ear_size": -0.2, "eye_bag": -0.2,
            "mouth_width": -0.5, "lip_thickness": 0.2,
        },
    ),
    "delicate": IdentityPreset(
        "Delicate",
        "Narrow oval, pointed chin, high cheekbones, tilted eyes, fine nose",
        {
            "face_width": -0.7, "face_length": 0.3, "jaw_width": -0.8, "jaw_angle": -0.8, "chin_width": -1.0,
            "chin_height": -0.1, "cheekbone": 0.9, "cheek_fullness": -0.4, "nose_width": -1.0,
            "nose_projection": 0.1, "nose_tip": 0.4, "nose_bridge": 0.3, "eye_tilt": 1.0, "eye_size": 0.5,
            "eye_spacing": 0.2, "lip_thickness": 0.6, "mouth_width": -0.4, "brow_ridge": -0.7, "brow_height": 0.6,
            "forehead": 0.3, "neck_width": -1.0, "ear_size": -0.7, "ear_angle": -0.5, "cranium_height": 0.3,
        },
    ),
}  # fmt: skip
"""Name -> preset, in the order of the menu."""
