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
        "Strong jaw and brow, wide nose, small eyes",
        {
            "jaw_width": 0.7, "jaw_angle": 0.5, "brow_ridge": 1.0, "nose_width": 1.0, "nose_height": -0.5,
            "chin_height": -0.65, "chin_projection": 1.0, "neck_width": 1.0, "lip_thickness": -0.6, "eye_size": -0.7,
            "cheek_fullness": -0.5, "cheekbone": 0.6, "eye_hood": 1.0, "forehead": -0.7, "ear_size": 0.6,
            "nose_bridge": 0.45,
        },
    ),
    "soft": IdentityPreset(
        "Soft",
        "Small jaw, large eyes, full lips",
        {
            "face_width": -0.3, "jaw_width": -0.8, "chin_height": 1.0, "nose_height": 1.0, "nose_projection": -1.0,
            "nose_width": -0.5, "eye_size": 0.9, "eye_spacing": 0.8, "lip_thickness": 0.9, "lip_projection": 0.3,
            "brow_ridge": -0.8, "cheek_fullness": 0.5, "neck_width": -1.0, "philtrum": 0.9, "cranium_height": 0.3,
            "ear_size": -0.8, "jaw_angle": -0.65, "forehead": 0.6, "mouth_width": -0.6, "chin_projection": -0.2,
        },
    ),
    "lean": IdentityPreset(
        "Lean",
        "Long and narrow, marked cheekbones, strong nose",
        {
            "face_width": -0.65, "face_length": 0.75, "cheek_fullness": -0.9, "cheekbone": 0.9, "nose_projection": 0.9,
            "nose_bridge": 1.0, "nose_height": -0.7, "chin_projection": 0.7, "mouth_width": 0.8, "lip_thickness": -0.3,
            "ear_size": 1.0, "ear_angle": 0.9, "eye_bag": 0.9, "brow_ridge": 0.45, "neck_width": -0.5, "temple": -0.8,
        },
    ),
    "round": IdentityPreset(
        "Round",
        "Short and wide, full cheeks, small nose",
        {
            "face_width": 0.9, "face_length": -0.8, "cheek_fullness": 1.0, "jaw_width": 0.5, "nose_height": 0.6,
            "nose_projection": -0.6, "lip_thickness": 0.5, "eye_size": 0.5, "brow_ridge": -0.6, "chin_height": 0.5,
            "neck_width": 0.7, "eye_bag": 0.4, "cranium_width": 0.6,
        },
    ),
    "heroic": IdentityPreset(
        "Heroic",
        "Square jaw, broad chin, high cheekbones, straight nose",
        {
            "jaw_width": 0.45, "jaw_angle": 0.9, "chin_width": 0.9, "chin_projection": 0.8, "chin_height": -0.4,
            "cheekbone": 0.75, "cheek_fullness": -0.55, "brow_ridge": 0.55, "brow_height": -0.4, "nose_bridge": 0.7,
            "nose_width": -0.2, "nose_projection": 0.25, "neck_width": 0.8, "mouth_width": 0.3, "eye_tilt": 0.25,
            "eye_size": -0.2, "cranium_width": 0.2,
        },
    ),
    "elder": IdentityPreset(
        "Elder",
        "Hollow cheeks and temples, hooded eyes with bags, large ears, thin lips",
        {
            "eye_bag": 1.0, "eye_hood": 0.9, "eye_tilt": -0.7, "eye_size": -0.5, "cheek_fullness": -0.75,
            "cheekbone": 0.35, "temple": -0.9, "nose_tip": -0.8, "nose_projection": 0.55, "nose_width": 0.35,
            "ear_size": 1.0, "ear_angle": 0.4, "lip_thickness": -0.9, "lip_projection": -0.5, "chin_projection": 0.45,
            "brow_height": -0.3, "forehead": -0.25, "face_length": 0.2, "neck_width": -0.35, "mouth_width": 0.25,
        },
    ),
    "youth": IdentityPreset(
        "Youth",
        "High forehead, short upturned nose, large eyes, small chin",
        {
            "forehead": 0.8, "cranium_height": 0.35, "cranium_width": 0.35, "eye_size": 0.75, "eye_spacing": 0.4,
            "eye_height": -0.5, "eye_tilt": 0.2, "nose_height": 0.8, "nose_tip": 0.8, "nose_projection": -0.45,
            "nose_bridge": -0.7, "nose_width": -0.1, "cheek_fullness": 0.7, "cheekbone": -0.3, "jaw_width": -0.35,
            "jaw_angle": -0.5, "chin_height": 0.6, "chin_width": -0.3, "chin_projection": -0.4, "brow_ridge": -0.8,
            "brow_height": 0.35, "neck_width": -0.8, "face_length": -0.4, "ear_angle": 0.35, "eye_bag": -0.2,
        },
    ),
    "delicate": IdentityPreset(
        "Delicate",
        "Oval face, pointed chin, high cheekbones, tilted eyes, fine nose",
        {
            "face_width": -0.35, "jaw_width": -0.6, "jaw_angle": -0.7, "chin_width": -0.9, "chin_height": 0.15,
            "cheekbone": 0.7, "cheek_fullness": -0.15, "nose_width": -0.8, "nose_projection": -0.15,
            "nose_tip": 0.35, "nose_bridge": 0.1, "eye_tilt": 0.9, "eye_size": 0.4, "eye_spacing": 0.2,
            "lip_thickness": 0.55, "mouth_width": -0.3, "brow_ridge": -0.7, "brow_height": 0.45, "forehead": 0.3,
            "neck_width": -0.8, "ear_size": -0.5, "ear_angle": -0.4, "cranium_height": 0.15,
        },
    ),
}  # fmt: skip
"""Name -> preset, in the order of the menu."""
