"""Identities of the built-in head as smooth deformations of space with their Jacobians.

Names, presets and random identities are in `blender_talkhead.facial`; here is what a parameter does.

Every parameter is a Gaussian-weighted local scale or shift of space, so one map moves skin, teeth and tongue alike;
four more are similarities of the eyeball and its lids, blended out around them, so lids keep fitting a round ball.
Motion made for the mean head is carried over by the map's Jacobian: vertices that share a position share the Jacobian,
so closed lips stay closed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.facial.identities import validate_identity
from torch_backend.head import profile_curves as profile
from torch_backend.head.author_space import Array, author_to_backend, backend_to_author
from torch_backend.head.head import Head
from torch_backend.head.jaw import JAW_HINGE

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class LocalDeformation:
    """What one identity parameter does to space; its value runs from -1 to 1."""

    center: Vector
    """(x, f, z) cm."""
    radii: Vector
    """Gaussian radii along x, f, z, cm."""
    scale: Vector = (0.0, 0.0, 0.0)
    """Relative growth along x, f, z at value 1, about the centre."""
    shift: Vector = (0.0, 0.0, 0.0)
    """Displacement along x, f, z at value 1, cm."""
    paired: bool = False
    """Whether it is applied on either side, mirrored, instead of once on the midline."""


def _grow(center: Vector, radii: Vector, scale: Vector) -> LocalDeformation:
    return LocalDeformation(center, radii, scale=scale)


def _move(center: Vector, radii: Vector, shift: Vector) -> LocalDeformation:
    return LocalDeformation(center, radii, shift=shift)


def _pair(center: Vector, radii: Vector, scale: Vector = (0, 0, 0), shift: Vector = (0, 0, 0)) -> LocalDeformation:
    return LocalDeformation(center, radii, scale, shift, paired=True)


LOCAL_PARAMETERS: dict[str, LocalDeformation] = {
    "face_width": _grow((0, 4, -3), (13, 9, 7), (0.12, 0, 0)),
    "face_length": _grow((0, 6, -6), (12, 9, 8), (0, 0, 0.11)),
    "jaw_width": _grow((0, 3, -7.8), (12, 6, 3.0), (0.15, 0, 0)),
    "jaw_angle": _pair((4.8, 1.6, -7.4), (2.2, 2.6, 2.2), shift=(0.45, 0, 0)),
    "chin_height": _move((0, 8.0, -10.5), (5, 5, 3.6), (0, 0, 0.9)),
    "chin_projection": _move((0, 8.8, -10), (3, 3, 2.2), (0, 0.5, 0)),
    "chin_width": _grow((0, 8.4, -10.0), (3.6, 3.2, 2.2), (0.24, 0, 0)),
    "nose_width": _grow((0, 10, -3.8), (2.4, 2.2, 1.5), (0.26, 0, 0)),
    "nose_height": _move((0, 10.4, -3.7), (2.2, 2.5, 1.9), (0, 0, 0.58)),
    "nose_projection": _move((0, 10.8, -3.4), (1.9, 2.2, 2.1), (0, 0.66, 0)),
    "nose_bridge": _move((0, 9.4, -0.6), (1.1, 1.3, 1.9), (0, 0.45, 0)),
    "nose_tip": _move((0, 11.2, -3.5), (1.5, 1.3, 1.2), (0, -0.06, 0.38)),
    "brow_height": _pair((3.2, 8.9, 2.5), (3.2, 2.2, 1.1), shift=(0, 0, 0.32)),
    "brow_ridge": _move((0, 9.3, 1.9), (6, 2.4, 1.2), (0, 0.42, 0)),
    "forehead": _move((0, 8.5, 6), (7, 4, 3.6), (0, 0.4, 0)),
    "cranium_height": _grow((0, -1, 7), (13, 14, 7), (0, 0, 0.06)),
    "cranium_width": _grow((0, -1, 5), (13, 12, 6), (0.05, 0, 0)),
    "temple": _pair((6.4, 4.8, 2.5), (2, 2.5, 3), shift=(0.35, 0.07, 0)),
    "mouth_width": _grow((0, 9.3, -6.7), (3.6, 3, 1.7), (0.12, 0, 0)),
    "lip_thickness": _grow((0, 9.9, -6.7), (3.2, 2, 1.3), (0, 0, 0.30)),
    "lip_projection": _move((0, 9.9, -6.8), (2.6, 2, 1.5), (0, 0.25, 0)),
    "philtrum": _move((0, 9.7, -6.9), (4, 3, 2.2), (0, 0, 0.35)),
    "cheekbone": _pair((4.6, 6, -2.2), (2, 2.6, 1.9), shift=(0.34, 0.32, 0)),
    "cheek_fullness": _pair((4.5, 5.2, -5.5), (2.6, 3.3, 3.1), shift=(0.48, 0.24, 0)),
    "neck_width": _grow((0, -1.8, -16), (14, 14, 6), (0.20, 0.13, 0)),
    "ear_size": _pair((7.4, -1, -1.2), (2.0, 3.2, 5), scale=(0.08, 0.17, 0.17)),
    "ear_angle": _pair((8.4, -1.2, -1.0), (1.3, 3, 4.5), shift=(0.30, -0.06, 0)),
    "eye_hood": _pair((3.3, 8.4, 1.6), (1.8, 1.5, 0.7), shift=(0, 0.06, -0.18)),
    "eye_bag": _pair((3.3, 8.1, -2.1), (1.5, 1.5, 0.8), shift=(0, 0.30, 0.10)),
}
"""Local deformations by name."""

EYE_PARAMETERS: dict[str, float] = {"eye_size": 0.13, "eye_spacing": 0.15, "eye_height": 0.10, "eye_tilt": 7.0}
"""Similarity of the eyeball and lids at value 1: relative size, outward and upward shift in cm, and degrees by which
the outer corner rises."""

_NOT_ON_EYEBALL = ("eye_hood", "eye_bag")
"""Lid parameters do not move the eyeball's centre."""
_BLEND_START, _BLEND_STOP = 0.55, 2.3
"""Distances from the ball's surface between which the eye's similarity fades out, cm."""
_NEGLIGIBLE_EXPONENT = 18.0
"""Beyond it a Gaussian is below 2e-8: less than the rounding of the stored positions."""
_SIDE_BLEND = 1.0
"""Paired parameters fade in from the midline over this many cm."""


def _local_warp(
    points: Array, parameters: Mapping[str, float], with_jacobians: bool = True
) -> tuple[Array, Array | None]:
    """Return points (N, 3) moved by the local parameters, and the map's Jacobians (N, 3, 3), in author space."""
    moved = points.copy()
    jacobian = np.tile(np.eye(3), (len(points), 1, 1)) if with_jacobians else None
    for name, value in parameters.items():
        if name not in LOCAL_PARAMETERS or value == 0.0:
            continue
        one = LOCAL_PARAMETERS[name]
        radii, scale, shift = (np.array(v, dtype=np.float64) for v in (one.radii, one.scale, one.shift))
        for side in (1.0, -1.0) if one.paired else (1.0,):
            flip = np.array([side, 1.0, 1.0])
            exponent = (((points * flip - np.array(one.center)) / radii) ** 2).sum(axis=1)
            near = np.flatnonzero(exponent < _NEGLIGIBLE_EXPONENT)
            offset = points[near] * flip - np.array(one.center)
            weight = np.exp(-exponent[near])
            ramp, slope = _ramp(points[near, 0] * side, 0.0, _SIDE_BLEND) if one.paired else (1.0, 0.0)
            direction = value * (offset * scale + shift)
            moved[near] += (weight * ramp)[:, None] * direction * flip
            if jacobian is not None:
                gradient = -2.0 * offset / radii**2 * (weight * ramp)[:, None]
                gradient[:, 0] += weight * slope
                local = direction[:, :, None] * gradient[:, None, :]
                local[:, range(3), range(3)] += (weight * ramp)[:, None] * value * scale
                jacobian[near] += local * flip[:, None] * flip
    return moved, jacobian


def _ramp(values: Array, start: float, stop: float) -> tuple[Array, Array]:
    """Return the smoothstep of values and its derivative."""
    t = np.clip((values - start) / (stop - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t), 6.0 * t * (1.0 - t) / (stop - start)


def _warp(points: Array, parameters: Mapping[str, float], with_jacobians: bool = True) -> tuple[Array, Array | None]:
    """Return author-space points (N, 3) moved by all parameters, and the map's Jacobians (N, 3, 3)."""
    moved, jacobian = _local_warp(points, parameters, with_jacobians)
    size = 1.0 + EYE_PARAMETERS["eye_size"] * parameters.get("eye_size", 0.0)
    for side, center in zip((1.0, -1.0), _moved_eye_centers(parameters), strict=True):
        rest_center = profile.EYE_CENTER * np.array([side, 1.0, 1.0])
        offset = points - rest_center
        distance = np.linalg.norm(offset, axis=1)
        near = np.flatnonzero(distance < profile.EYE_RADIUS + _BLEND_STOP)
        offset, distance = offset[near], distance[near]
        ramp, slope = _ramp(distance, profile.EYE_RADIUS + _BLEND_START, profile.EYE_RADIUS + _BLEND_STOP)
        inside = 1.0 - ramp
        turned = size * _tilt(side * EYE_PARAMETERS["eye_tilt"] * parameters.get("eye_tilt", 0.0))
        toward = center + offset @ turned.T - moved[near]
        if jacobian is not None:
            gradient = -(slope / np.maximum(distance, 1e-9))[:, None] * offset
            jacobian[near] = (
                ramp[:, None, None] * jacobian[near]
                + inside[:, None, None] * turned
                + toward[:, :, None] * gradient[:, None, :]
            )
        moved[near] += inside[:, None] * toward
    return moved, jacobian


def _tilt(degrees: float) -> Array:
    """Return the rotation (3, 3) about the axis from back to front that lifts what lies to the left."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])


def _moved_eye_centers(parameters: Mapping[str, float]) -> Array:
    on_ball = {name: value for name, value in parameters.items() if name not in _NOT_ON_EYEBALL}
    center, _ = _local_warp(profile.EYE_CENTER[None], on_ball, with_jacobians=False)
    outward = EYE_PARAMETERS["eye_spacing"] * parameters.get("eye_spacing", 0.0)
    upward = EYE_PARAMETERS["eye_height"] * parameters.get("eye_height", 0.0)
    left = center[0] + np.array([outward, 0.0, upward])
    return np.stack([left, left * np.array([-1.0, 1.0, 1.0])])


def warp_points(points: NDArray[np.floating], parameters: Mapping[str, float]) -> NDArray[np.float64]:
    """Carry points (N, 3) of the mean head to an identity; both in backend metres.

    Raises:
        ValueError: when a parameter is unknown or out of range.
    """
    validate_identity(parameters)
    return author_to_backend(_warp(backend_to_author(points), parameters, with_jacobians=False)[0])


def identity_jacobians(head: Head, parameters: Mapping[str, float]) -> NDArray[np.float32]:
    """Return the Jacobian (V, 3, 3) of an identity's map at the mean head's rest vertices.

    Displacements of the mean head become displacements of the identity by ``einsum("vij,tvj->tvi", J, offsets)``.

    Args:
        head: the mean head.
        parameters: identity parameters, -1..1; missing ones are 0.

    Raises:
        ValueError: when a parameter is unknown or out of range.
    """
    validate_identity(parameters)
    return _to_backend_axes(_warp(backend_to_author(head.vertices), parameters)[1])


@dataclass(frozen=True)
class IdentityShape:
    """The rest shape of an identity, without its blendshapes; backend metres."""

    vertices: NDArray[np.float32]
    """(V, 3) of all parts."""
    jacobians: NDArray[np.float32]
    """(V, 3, 3) of the identity's map at the mean head's vertices."""
    eye_centers: NDArray[np.float32]
    """(2, 3) left and right."""
    jaw_hinge: NDArray[np.float32]
    """(3,) a point on the axis that the jaw opens about."""


def shape_identity(head: Head, parameters: Mapping[str, float]) -> IdentityShape:
    """Return the rest shape of an identity: what an artist who moves a slider waits for.

    Raises:
        ValueError: when a parameter is unknown or out of range.
    """
    validate_identity(parameters)
    moved, jacobian = _warp(backend_to_author(head.vertices), parameters)
    return IdentityShape(
        author_to_backend(moved).astype(np.float32),
        _to_backend_axes(jacobian),
        author_to_backend(_moved_eye_centers(parameters)).astype(np.float32),
        warp_points(author_to_backend(JAW_HINGE)[None], parameters)[0].astype(np.float32),
    )


def _to_backend_axes(jacobian: Array | None) -> NDArray[np.float32]:
    if jacobian is None:
        raise ValueError("expected a map with its Jacobians, got one without")
    axes = [0, 2, 1]
    return jacobian[:, axes][:, :, axes].astype(np.float32)


def apply_identity(head: Head, parameters: Mapping[str, float]) -> Head:
    """Return the mean head turned into an identity: vertices of all parts, blendshapes, eyes and jaw hinge.

    Raises:
        ValueError: when a parameter is unknown or out of range.
    """
    if not any(parameters.values()):
        validate_identity(parameters)
        return head
    shape = shape_identity(head, parameters)
    size = 1.0 + EYE_PARAMETERS["eye_size"] * parameters.get("eye_size", 0.0)
    return replace(
        head,
        vertices=shape.vertices,
        blendshapes=np.einsum("vij,kvj->kvi", shape.jacobians, head.blendshapes),
        eye_centers=shape.eye_centers,
        eye_radius=head.eye_radius * size,
        jaw_hinge=shape.jaw_hinge,
    )
