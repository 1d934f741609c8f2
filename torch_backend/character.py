"""The built-in head at rest, and what changes when its identity does; no recording and no inference.

The head's own mesh needs no weights, so shaping a character works at once and with any checkpoint. Points at another
resolution lie where the weights put them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.errors import UsageError
from blender_talkhead.contract.identity_change import IdentityChange, Pivots, save_identity_change
from blender_talkhead.contract.jobs import AnimateJob, CharacterJob, ReshapeJob
from blender_talkhead.contract.motion_clip import KIND, MotionClipWriter
from blender_talkhead.contract.result import ResultInfo
from blender_talkhead.facial.blendshapes import BLENDSHAPE_INDEX
from blender_talkhead.facial.identities import resolve_identity
from torch_backend.emitter import Emitter
from torch_backend.info import read_version
from torch_backend.model_cache import ModelCache
from torch_backend.unfinished import unfinished_folder

if TYPE_CHECKING:
    from torch_backend.head import Head
    from torch_backend.head.identity import IdentityShape
    from torch_backend.inference.mmtalker import MMTalkerPlan
    from torch_backend.inference.skin_mesh import SkinMesh

METHOD = "character"
"""What the result of a character at rest names as its method."""
_RATE = 30.0
_PLANNED = 0.8
_PROBED_OPENING = 0.4
"""Weight of jawOpen at which the jaws of two identities are compared."""


def make_character(job: CharacterJob, emitter: Emitter, models: ModelCache) -> Path:
    """Write a motion clip of one frame in which nothing moves.

    Returns:
        The folder.

    Raises:
        UsageError: there is no such identity.
        BackendError: torch or the weights are missing or broken.
        OutputError: the folder cannot be written.
    """
    parameters = _resolve("identity", job.identity)
    emitter.phase("making the head", 0.0, _PLANNED)
    plan = _plan(job, models)
    emitter.phase("writing", _PLANNED, 1.0)
    info = ResultInfo(
        kind=KIND,
        method=METHOD,
        frame_rate=_RATE,
        num_frames=1,
        audio_path="",
        audio_sha256="",
        weights_sha256="",
        seed=job.seed,
        options={"vertices": job.vertices, "identity": job.identity, "identity_parameters": parameters},
        talkhead_version=read_version(),
    )
    with MotionClipWriter(job.output, info, plan) as writer, unfinished_folder(writer.partial_folder):
        writer.append(np.zeros((1, *plan.template_vertices.shape), np.float32))
        writer.commit()
    return job.output


def reshape(job: ReshapeJob, emitter: Emitter, models: ModelCache) -> Path:
    """Write an identity_change folder.

    Returns:
        The folder.

    Raises:
        UsageError: there is no such identity.
        BackendError: torch or the weights are missing or broken.
        OutputError: the folder cannot be written.
    """
    parameters = _resolve("identity", job.identity)
    previous_parameters = _resolve("previous_identity", job.previous_identity)
    emitter.phase("shaping", 0.0, 1.0)
    from torch_backend.head import load_head
    from torch_backend.head.hair import hair_of_identity
    from torch_backend.inference.mmtalker import values_with_parts

    head, points = load_head(), _skin_mesh(job, models).points
    before, after = _shape(previous_parameters), _shape(parameters)
    jacobians = _carriers(head, parameters) @ np.linalg.inv(_carriers(head, previous_parameters))
    start, stop = head.parts["tongue"]
    tongue, shift = np.arange(start, stop), len(points) - head.num_skin_vertices
    of_tongue = (each.jacobians[start:stop].astype(np.float64) for each in (after, before))
    change = IdentityChange(
        vertices=values_with_parts(head, points, after.vertices),
        previous_vertices=values_with_parts(head, points, before.vertices),
        jacobians=values_with_parts(head, points, jacobians),
        jaw=(np.setdiff1d(head.regions["jaw_parts"], tongue) + shift).astype(np.int32),
        tongue=(tongue + shift).astype(np.int32),
        tongue_jacobians=(next(of_tongue) @ np.linalg.inv(next(of_tongue))).astype(np.float32),
        pivots=_pivots(after),
        previous_pivots=_pivots(before),
        hair=hair_of_identity(parameters),
    )
    save_identity_change(job.output, change)
    return job.output


def _plan(job: CharacterJob, models: ModelCache) -> MMTalkerPlan:
    from torch_backend.head import load_head
    from torch_backend.inference.mmtalker import build_plan

    return build_plan(load_head(), _skin_mesh(job, models), job.vertices, job.identity, job.seed)


def _skin_mesh(job: CharacterJob | ReshapeJob, models: ModelCache) -> SkinMesh:
    """The mesh of the skin, from what is kept of earlier jobs."""
    from torch_backend.head import load_head
    from torch_backend.inference.skin_mesh import build_skin_mesh

    if job.vertices is None:
        return build_skin_mesh(load_head(), None, 0, None)
    return models.get((*_model_key(job), job.vertices, job.seed), lambda: _sample_skin(job))


def _sample_skin(job: CharacterJob | ReshapeJob) -> SkinMesh:
    """Points where the weights put them; the speech encoder is not needed for that."""
    from torch_backend.head import load_head
    from torch_backend.inference.mmtalker import DEFAULT_WEIGHTS, validate_head
    from torch_backend.inference.skin_mesh import build_skin_mesh
    from torch_backend.models.builders import load_mmtalker

    head = load_head()
    model, _ = load_mmtalker(job.weights or DEFAULT_WEIGHTS)
    validate_head(model, head)
    return build_skin_mesh(head, job.vertices, job.seed, model.face_probabilities())


def _shape(parameters: dict[str, float]) -> IdentityShape:
    return _shape_of(tuple(sorted(parameters.items())))


@lru_cache(maxsize=2)  # what a head is before a slider moves is what it became by the move before
def _shape_of(parameters: tuple[tuple[str, float], ...]) -> IdentityShape:
    from torch_backend.head import load_head
    from torch_backend.head.identity import shape_identity

    return shape_identity(load_head(), dict(parameters))


def _carriers(head: Head, parameters: dict[str, float]) -> NDArray[np.float64]:
    """Return (V, 3, 3) what carries displacements of the mean head over to an identity.

    The Jacobian, but for what sits in the lower jaw, which turns stiffly with the chin: what an opening jaw does to the
    one head is brought to what it does to the other by a similarity of the side view. Other openings of speech are then
    carried to a few tenths of a millimetre.
    """
    from torch_backend.head.parts_motion import follow_jaw

    shape = _shape(parameters)
    carriers: NDArray[np.float64] = shape.jacobians.astype(np.float64)
    if not parameters:
        return carriers
    anchors, parts = head.regions["jaw_anchor"], head.regions["jaw_parts"]
    opening = _PROBED_OPENING * head.blendshapes[BLENDSHAPE_INDEX["jawOpen"], anchors]
    carried = np.einsum("vij,vj->vi", carriers[anchors], opening)
    changed = replace(head, vertices=shape.vertices, jaw_hinge=shape.jaw_hinge)
    in_parts = parts - head.num_skin_vertices
    before, after = (
        follow_jaw(each, offsets[None])[0, in_parts].astype(np.float64)
        for each, offsets in ((head, opening), (changed, carried))
    )
    ratio = (after[:, 1] + 1j * after[:, 2]) / (before[:, 1] + 1j * before[:, 2])
    carriers[parts] = np.eye(3)
    carriers[parts, 1:, 1:] = np.stack([ratio.real, -ratio.imag, ratio.imag, ratio.real], axis=1).reshape(-1, 2, 2)
    return carriers


def _pivots(shape: IdentityShape) -> Pivots:
    """As those of a clip's performance: the origin, between the ears, and the centres of the balls."""
    left, right = (tuple(float(value) for value in center) for center in shape.eye_centers)
    return {"head": (0.0, 0.0, 0.0), "eye_left": left, "eye_right": right}  # type: ignore[dict-item]


def _model_key(job: CharacterJob | ReshapeJob) -> tuple[object, ...]:
    from torch_backend.model_cache import model_key

    return ("character", *model_key(AnimateJob(Path(), Path(), weights=job.weights), "cpu"))


def _resolve(name: str, identity: str | None) -> dict[str, float]:
    try:
        return resolve_identity(identity)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
