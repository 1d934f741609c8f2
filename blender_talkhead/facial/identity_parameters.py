"""What can be shaped on the built-in head: names, groups and tooltips, as an artist knows them (no numpy, no bpy).

The panel, the headless command and the backend read this one list; what a value does to space is in
`torch_backend.head.identity`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IdentityParameter:
    """One slider of a character; it runs from -1 to 1, and 0 is the mean head."""

    name: str
    """As in files and on the command line."""
    label: str
    """As people read it."""
    description: str
    """What its right end does, and its left end."""
    group: str
    """Key of IDENTITY_GROUPS."""


IDENTITY_GROUPS: dict[str, str] = {
    "face": "Face",
    "jaw": "Jaw & Chin",
    "nose": "Nose",
    "eyes": "Eyes",
    "mouth": "Mouth",
    "cheeks": "Cheeks",
    "skull": "Forehead & Skull",
    "neck": "Neck & Ears",
}
"""Groups of the sliders, in the order of the panel, with their titles."""

_TABLE = (
    ("face_width", "Width", "The whole face broader, or narrower", "face"),
    ("face_length", "Length", "The whole face longer, or shorter", "face"),
    ("jaw_width", "Jaw Width", "The lower jaw broader, or narrower", "jaw"),
    ("jaw_angle", "Jaw Corners", "The corners of the jaw stand out, or are drawn in", "jaw"),
    ("chin_height", "Chin Height", "A short chin, or a long one that hangs lower", "jaw"),
    ("chin_projection", "Chin Forward", "The chin comes forward, or recedes", "jaw"),
    ("chin_width", "Chin Width", "A broad, square chin, or a pointed one", "jaw"),
    ("nose_width", "Wing Width", "The wings of the nose wider, or narrower", "nose"),
    ("nose_height", "Nose Height", "A short nose that ends higher, or a long one", "nose"),
    ("nose_projection", "Nose Forward", "The tip stands out further, or lies flatter", "nose"),
    ("nose_bridge", "Bridge", "A high bridge between the eyes, or a low one", "nose"),
    ("nose_tip", "Tip Up", "The tip turned up, or hanging", "nose"),
    ("eye_size", "Size", "Larger eyes, or smaller ones", "eyes"),
    ("eye_spacing", "Spacing", "Eyes further apart, or closer together", "eyes"),
    ("eye_height", "Height", "Eyes sit higher in the face, or lower", "eyes"),
    ("eye_tilt", "Tilt", "The outer corners higher than the inner ones, or lower", "eyes"),
    ("eye_hood", "Hood", "The fold above the lid hangs over it, or lies deep", "eyes"),
    ("eye_bag", "Bags", "Full lower lids, or hollow ones", "eyes"),
    ("mouth_width", "Width", "A wider mouth, or a narrower one", "mouth"),
    ("lip_thickness", "Lip Fullness", "Fuller lips, or thinner ones", "mouth"),
    ("lip_projection", "Lips Forward", "The lips come forward, or lie back", "mouth"),
    ("philtrum", "Mouth Height", "The mouth sits higher, or lower", "mouth"),
    ("cheekbone", "Cheekbones", "Cheekbones stand out, or lie flat", "cheeks"),
    ("cheek_fullness", "Fullness", "Full cheeks, or hollow ones", "cheeks"),
    ("brow_ridge", "Brow Ridge", "The bone over the eyes stands out, or lies flat", "skull"),
    ("brow_height", "Brow Height", "The eyebrows sit higher, or lower", "skull"),
    ("forehead", "Forehead", "The forehead bulges, or slopes back", "skull"),
    ("temple", "Temples", "Full temples, or hollow ones", "skull"),
    ("cranium_height", "Skull Height", "A higher crown, or a flatter one", "skull"),
    ("cranium_width", "Skull Width", "A broader skull, or a narrower one", "skull"),
    ("neck_width", "Neck Width", "A thicker neck, or a thinner one", "neck"),
    ("ear_size", "Ear Size", "Larger ears, or smaller ones", "neck"),
    ("ear_angle", "Ear Angle", "Ears that stick out, or lie close to the head", "neck"),
)

IDENTITY_PARAMETERS: dict[str, IdentityParameter] = {row[0]: IdentityParameter(*row) for row in _TABLE}
"""Name -> parameter, group after group, in the order of the panel."""


def parameters_of_group(group: str) -> tuple[IdentityParameter, ...]:
    """Return the parameters of a group of IDENTITY_GROUPS, in order."""
    return tuple(each for each in IDENTITY_PARAMETERS.values() if each.group == group)
