"""The only place where configs and files become models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blender_talkhead.contract.errors import BackendError
from torch_backend.config import config_from_dict
from torch_backend.geometry.surface_sampling import initial_face_probabilities
from torch_backend.geometry.surface_template import SurfaceTemplate
from torch_backend.head import Head
from torch_backend.models import facetalk, mmtalker
from torch_backend.models.checkpoints import load_checkpoint
from torch_backend.models.facetalk import FaceTalk, FaceTalkConfig
from torch_backend.models.mmtalker import MMTalker, MMTalkerConfig, TemplateGraph
from torch_backend.modules.motion_space import MotionSpace


def build_surface_template(head: Head) -> SurfaceTemplate:
    """The skin of a head as a surface to sample points on."""
    skin = head.num_skin_vertices
    regions = {name: ids for name, ids in head.regions.items() if len(ids) == 0 or ids.max() < skin}
    return SurfaceTemplate(
        vertices=head.vertices[:skin],
        triangles=head.skin_triangles,
        uv=head.uv,
        regions=regions,
        key_points=np.unique(head.landmarks68),
        lip_contact_pairs=head.lip_contact_pairs,
    )


def build_template_graph(head: Head) -> TemplateGraph:
    """The skin of a head as the graph that MMTalker runs on."""
    surface = build_surface_template(head)
    return TemplateGraph(
        vertices=np.asarray(surface.vertices, np.float32),
        triangles=np.asarray(surface.triangles, np.int32),
        uv=np.asarray(surface.uv, np.float32),
        key_vertices=np.asarray(surface.key_points, np.int32),
        face_probabilities=initial_face_probabilities(surface).astype(np.float32),
    )


def build_mmtalker(config: MMTalkerConfig, template: TemplateGraph) -> MMTalker:
    """A fresh network; its weights come from torch's random state."""
    return MMTalker(config, template)


def load_mmtalker(path: Path) -> tuple[MMTalker, dict[str, Any]]:
    """Build MMTalker from a checkpoint alone: its config and the template surface are inside.

    Args:
        path: a checkpoint of kind "mmtalker".

    Returns:
        The network in evaluation mode on the CPU, and the checkpoint's metadata.

    Raises:
        BackendError: the file is missing, broken, of another kind or of another version.
    """
    tensors, metadata = load_checkpoint(path, mmtalker.KIND)
    try:
        config = config_from_dict(MMTalkerConfig, metadata["config"]["model"], where=Path(path).name)
        template = TemplateGraph(
            vertices=tensors["template_vertices"].numpy(),
            triangles=tensors["template_triangles"].numpy(),
            uv=tensors["template_uv"].numpy(),
            key_vertices=tensors["key_vertices"].numpy(),
            face_probabilities=tensors["probability.initial"].numpy(),
        )
        model = MMTalker(config, template)
        model.motion_space = _read_motion_space(tensors)
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"the weights {path} do not fit this version of MMTalker ({error}). "
            "Install the extension again, or train them again."
        ) from error
    model.eval()
    model.requires_grad_(False)
    return model, metadata


def _read_motion_space(tensors: Mapping[str, torch.Tensor]) -> MotionSpace | None:
    """The motion space of a checkpoint; None for weights without one, as earlier versions wrote them."""
    prefix = "motion_space."
    held = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return MotionSpace(**held) if held else None


def load_facetalk(path: Path) -> tuple[FaceTalk, dict[str, Any]]:
    """Build FaceTalk's expression decoder from a checkpoint alone.

    Args:
        path: a checkpoint of kind "facetalk".

    Returns:
        The network in evaluation mode on the CPU, and the checkpoint's metadata.

    Raises:
        BackendError: the file is missing, broken, of another kind or of another version.
    """
    tensors, metadata = load_checkpoint(path, facetalk.KIND)
    try:
        model = FaceTalk(config_from_dict(FaceTalkConfig, metadata["config"]["model"], where=Path(path).name))
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"the weights {path} do not fit this version of FaceTalk ({error}). "
            "Install the extension again, or train them again."
        ) from error
    model.eval()
    model.requires_grad_(False)
    return model, metadata


def count_parameters(model: torch.nn.Module) -> int:
    """Trained numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
