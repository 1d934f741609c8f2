"""Official checkpoints of neural parametric head models into TalkHead's own files.

Two kinds exist and are told apart by their keys:

    backward   one file with `id_decoder`, `ex_decoder` and `latent_codes` (the model of DPHM and FaceTalk)
    forward    files with `decoder_state_dict`: one of the identity, one of the expression (the first NPHM release)

Both leave the mean anchors out; they come as an array file, `anchors_39.npy`. Files are read in weights-only mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blender_talkhead.contract.errors import BackendError
from torch_backend.config import config_from_dict, config_to_dict
from torch_backend.models.checkpoints import load_checkpoint, save_checkpoint
from torch_backend.models.nphm import BACKWARD_KIND, FORWARD_KIND, BackwardNPHM, ForwardNPHM
from torch_backend.models.nphm_config import BackwardNPHMConfig, ForwardNPHMConfig, IdentitySizes

StateDict = dict[str, torch.Tensor]

_CODEBOOK_NORM = 1.0
"""Largest length of an official backward code: its embedding cuts longer ones when they are looked up."""
_REMEDY = (
    "Pass the files as they were released: one checkpoint of the backward model, or the identity's and the "
    "expression's checkpoint of the forward model, and anchors_39.npy."
)


@dataclass(frozen=True)
class ImportedHeadModel:
    """A network with the codes it was trained on."""

    model: BackwardNPHM | ForwardNPHM
    """In evaluation mode, on the CPU."""
    identity_codes: torch.Tensor
    """(n, I) of the training heads; n may be 0."""
    expression_codes: torch.Tensor
    """(n, X) of the training expressions; n may be 0."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Of the file it was read from; empty for a fresh import."""


def import_official_head_model(paths: Sequence[Path], anchors: Path) -> ImportedHeadModel:
    """Read official checkpoints of either kind.

    Args:
        paths: one backward checkpoint, or the two of the forward model in any order.
        anchors: the array file of mean anchors, (A, 3).

    Returns:
        The network with its training codes.

    Raises:
        BackendError: a file is missing, broken or of no known kind; a tensor is missing, unknown or misshapen.
    """
    checkpoints = [(Path(path).name, _read_official(Path(path))) for path in paths]
    mean = _read_anchors(Path(anchors))
    backward = [entry for entry in checkpoints if "id_decoder" in entry[1] and "ex_decoder" in entry[1]]
    forward = [entry for entry in checkpoints if "decoder_state_dict" in entry[1]]
    try:
        if len(backward) == 1 and len(checkpoints) == 1:
            return _import_backward(*backward[0], mean)
        if len(forward) == 2 and len(checkpoints) == 2:
            return _import_forward(forward, mean)
    except (ValueError, TypeError, AttributeError) as error:
        names = ", ".join(name for name, _ in checkpoints)
        raise BackendError(f"{names}: not an official head model as known here: {error}. {_REMEDY}") from error
    found = "; ".join(f"{name} with keys {sorted(map(str, content))[:8]}" for name, content in checkpoints)
    raise BackendError(f"no official head model in {found or 'no file'}. {_REMEDY}")


def save_head_model(path: Path, head_model: ImportedHeadModel, **metadata: Any) -> None:
    """Write a head model with its codes as one safetensors file.

    Args:
        path: target file.
        head_model: what to write.
        **metadata: further entries of the description, such as `step` and `metrics`.

    Raises:
        OutputError: the file cannot be written.
    """
    model = head_model.model
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {"identity_codes": head_model.identity_codes, "expression_codes": head_model.expression_codes}
    kind = BACKWARD_KIND if isinstance(model, BackwardNPHM) else FORWARD_KIND
    save_checkpoint(path, tensors, {**metadata, "kind": kind, "config": config_to_dict(model.config)})


def load_head_model(path: Path, kind: str = BACKWARD_KIND) -> ImportedHeadModel:
    """Build a head model from a file of `save_head_model` alone.

    Args:
        path: the file.
        kind: `BACKWARD_KIND` or `FORWARD_KIND`.

    Raises:
        BackendError: the file is missing, broken, of another kind or of another version.
        ValueError: no such kind.
    """
    if kind not in (BACKWARD_KIND, FORWARD_KIND):
        raise ValueError(f"expected kind '{BACKWARD_KIND}' or '{FORWARD_KIND}', got {kind!r}")
    tensors, metadata = load_checkpoint(path, kind)
    state = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    where = Path(path).name
    try:
        model: BackwardNPHM | ForwardNPHM
        if kind == BACKWARD_KIND:
            model = BackwardNPHM(config_from_dict(BackwardNPHMConfig, metadata["config"], where))
        else:
            model = ForwardNPHM(config_from_dict(ForwardNPHMConfig, metadata["config"], where))
        model.load_state_dict(state)
        identity_codes, expression_codes = tensors["identity_codes"], tensors["expression_codes"]
    except (KeyError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"the head model {path} does not fit this version: {error}. Make or import it again."
        ) from error
    return ImportedHeadModel(model.eval(), identity_codes, expression_codes, metadata)


def _read_official(path: Path) -> dict[str, Any]:
    """The outer table of an official checkpoint; only tensors and plain containers are let in."""
    if not path.is_file():
        raise BackendError(f"the checkpoint {path} is missing. {_REMEDY}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A broken file fails as whatever the reader trips over.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackendError(f"{path} is no PyTorch checkpoint of plain tensors ({reason}). {_REMEDY}") from error
    if not isinstance(content, Mapping):
        raise BackendError(f"{path} holds a {type(content).__name__}, expected a table of state dicts. {_REMEDY}")
    return dict(content)


def _read_anchors(path: Path) -> torch.Tensor:
    if not path.is_file():
        raise BackendError(f"the mean anchors {path} are missing; they come with the official code. {_REMEDY}")
    try:
        array = np.load(path, allow_pickle=False)
        anchors = torch.from_numpy(np.asarray(array, dtype=np.float32).reshape(-1, 3).copy())
    except (OSError, ValueError, EOFError) as error:
        raise BackendError(f"{path} is no array of mean anchors (A, 3): {error}. {_REMEDY}") from error
    if not bool(torch.isfinite(anchors).all()):
        raise BackendError(f"{path} holds anchors that are not finite. {_REMEDY}")
    return anchors


def _state_dict(value: Any, name: str) -> StateDict:
    """A state dict as float32, without the prefix that parallel training leaves."""
    if not isinstance(value, Mapping) or not all(isinstance(item, torch.Tensor) for item in value.values()):
        raise ValueError(f"'{name}' is no state dict of tensors")
    return {str(key).removeprefix("module."): tensor.detach().float() for key, tensor in value.items()}


class _OfficialTensors:
    """State dict whose tensors are taken one by one with their shapes checked; none may be left over."""

    def __init__(self, name: str, tensors: StateDict) -> None:
        self._name, self._tensors, self._taken = name, tensors, set[str]()

    def size(self, key: str, axis: int) -> int:
        """Length of one axis of a tensor, to infer the sizes from."""
        shape = self._get(key).shape
        if axis >= len(shape):
            raise ValueError(f"'{self._name}.{key}' has shape {tuple(shape)}, expected more than {axis} axes")
        return shape[axis]

    def take(self, key: str, *shape: int) -> torch.Tensor:
        """A tensor of that shape."""
        tensor = self._get(key)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"'{self._name}.{key}' has shape {tuple(tensor.shape)}, expected {shape}")
        self._taken.add(key)
        return tensor

    def count(self, pattern: str) -> int:
        """How many of the keys pattern.format(0), pattern.format(1), ... there are in a row."""
        number = 0
        while pattern.format(number) in self._tensors:
            number += 1
        return number

    def finish(self) -> None:
        """Refuse what nobody took."""
        left = sorted(set(self._tensors) - self._taken)
        if left:
            raise ValueError(f"'{self._name}' has {len(left)} unknown tensors: {', '.join(left[:6])}")

    def _get(self, key: str) -> torch.Tensor:
        if key not in self._tensors:
            raise ValueError(f"'{self._name}' lacks '{key}'")
        return self._tensors[key]


def _import_backward(name: str, content: dict[str, Any], mean: torch.Tensor) -> ImportedHeadModel:
    identity = _OfficialTensors(f"{name}: id_decoder", _state_dict(content["id_decoder"], "id_decoder"))
    deformation = _OfficialTensors(f"{name}: ex_decoder", _state_dict(content["ex_decoder"], "ex_decoder"))
    member = "deepSDFensemble.layers.{}.layers.0.weight"
    num_sets = identity.count(member)
    depth = 0
    while depth < 64 and identity.count(f"deepSDFensemble.layers.{{}}.layers.{2 * depth}.weight"):
        depth += 1
    outputs = deformation.count("defDeepSDF.lin{}.weight") - 1
    hyper = deformation.size(f"defDeepSDF.lin{outputs}.weight", 0) - 3
    if hyper < 0 or depth < 3:
        raise ValueError(
            f"expected at least 3 outputs of the deformation and 2 hidden layers, got {3 + hyper}, {depth - 1}"
        )
    sizes = _identity_sizes(identity, num_sets, identity.size(member.format(0), 1) - 3 - hyper)
    compressed, hidden = deformation.size("compressor.0.weight", 0), deformation.size("defDeepSDF.lin0.weight", 0)
    config = BackwardNPHMConfig(
        identity=sizes,
        expression_size=deformation.size("defDeepSDF.lin0.weight", 1) - 3 - compressed,
        hyper_size=hyper,
        num_neighbors=min(8, sizes.num_anchors),
        anchor_hidden_size=identity.size("mlp_pos.0.weight", 0),
        member_hidden_size=identity.size(member.format(0), 0),
        member_hidden_layers=depth - 1,
        compressed_size=compressed,
        deformation_hidden_size=hidden,
        deformation_hidden_layers=outputs,
    )
    model = BackwardNPHM(config, mean)
    for layer, (weights, biases) in enumerate(zip(model.members.weights, model.members.biases, strict=True)):
        for number in range(num_sets):
            key = f"deepSDFensemble.layers.{number}.layers.{2 * layer}"
            weight = identity.take(f"{key}.weight", *weights.shape[1:])
            # The official input is code first, coordinates last.
            weights.data[number] = weight.roll(3 + hyper, dims=1) if layer == 0 else weight
            biases.data[number] = identity.take(f"{key}.bias", *biases.shape[1:])
    _take_anchor_network(model, identity)
    _take_deformation(model, deformation)
    identity.finish()
    deformation.finish()
    codes = content.get("latent_codes", {})
    geometry = _codebook(codes, "codebook.geo.embedding.weight", sizes.code_size, f"{name}: latent_codes")
    expressions = _codebook(codes, "codebook.exp.embedding.weight", config.expression_size, f"{name}: latent_codes")
    return ImportedHeadModel(model.eval(), _cut_long(geometry), _cut_long(expressions))


def _import_forward(files: Sequence[tuple[str, dict[str, Any]]], mean: torch.Tensor) -> ImportedHeadModel:
    states = [(name, _state_dict(content["decoder_state_dict"], name), content) for name, content in files]
    identities = [entry for entry in states if any(key.startswith("ensembled_deep_sdf.") for key in entry[1])]
    expressions = [entry for entry in states if any(key.startswith("defDeepSDF.") for key in entry[1])]
    if len(identities) != 1 or len(expressions) != 1:
        raise ValueError(f"expected one identity and one expression network, got {len(identities)}, {len(expressions)}")
    identity = _OfficialTensors(*identities[0][:2])
    deformation = _OfficialTensors(*expressions[0][:2])
    depth = identity.count("ensembled_deep_sdf.lin{}.weight")
    outputs = deformation.count("defDeepSDF.lin{}.weight") - 1
    first = "ensembled_deep_sdf.lin0.weight"
    sizes = _identity_sizes(identity, identity.size(first, 0), identity.size(first, 2) - 3)
    compressed = deformation.size("compressor.0.weight", 0)
    config = ForwardNPHMConfig(
        identity=sizes,
        expression_size=deformation.size("defDeepSDF.lin0.weight", 1) - 3 - compressed,
        anchor_hidden_size=identity.size("mlp_pos.0.weight", 0),
        member_hidden_size=identity.size(first, 1),
        member_hidden_layers=depth - 1,
        compressed_size=compressed,
        deformation_hidden_size=deformation.size("defDeepSDF.lin0.weight", 0),
        deformation_hidden_layers=outputs,
    )
    model = ForwardNPHM(config, mean)
    for layer, (weights, biases) in enumerate(zip(model.members.weights, model.members.biases, strict=True)):
        weights.data = identity.take(f"ensembled_deep_sdf.lin{layer}.weight", *weights.shape).clone()
        biases.data = identity.take(f"ensembled_deep_sdf.lin{layer}.bias", *biases.shape).clone()
    _take_anchor_network(model, identity)
    _take_deformation(model, deformation)
    identity.finish()
    deformation.finish()
    key = "latent_codes_state_dict"
    return ImportedHeadModel(
        model.eval(),
        _codebook(identities[0][2].get(key, {}), "weight", sizes.code_size, identities[0][0]),
        _codebook(expressions[0][2].get(key, {}), "weight", config.expression_size, expressions[0][0]),
    )


def _identity_sizes(identity: _OfficialTensors, num_sets: int, member_code_size: int) -> IdentitySizes:
    """Layout of the code, from the shapes of members and anchor network."""
    rows, global_size = identity.size("mlp_pos.4.weight", 0), identity.size("mlp_pos.0.weight", 1)
    if rows % 3:
        raise ValueError(f"'mlp_pos.4.weight' has {rows} rows, expected three for each anchor")
    return IdentitySizes(
        num_anchors=rows // 3,
        num_mirrored_pairs=rows // 3 + 1 - num_sets,
        global_size=global_size,
        local_size=member_code_size - global_size,
    )


def _take_anchor_network(model: BackwardNPHM | ForwardNPHM, identity: _OfficialTensors) -> None:
    for name, parameter in model.anchor_network.layers.named_parameters():
        parameter.data = identity.take(f"mlp_pos.{name}", *parameter.shape).clone()


def _take_deformation(model: BackwardNPHM | ForwardNPHM, deformation: _OfficialTensors) -> None:
    for name, parameter in model.compressor.named_parameters():
        parameter.data = deformation.take(f"compressor.0.{name}", *parameter.shape).clone()
    for number, layer in enumerate(model.deformation.layers):
        for name, parameter in layer.named_parameters():
            parameter.data = deformation.take(f"defDeepSDF.lin{number}.{name}", *parameter.shape).clone()


def _codebook(codes: Any, key: str, size: int, name: str) -> torch.Tensor:
    """Training codes (n, size); none where the file has none."""
    if not isinstance(codes, Mapping) or key not in codes:
        return torch.zeros(0, size)
    tensor = codes[key]
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 2 or tensor.shape[1] != size:
        raise ValueError(f"'{name}: {key}' has shape {tuple(getattr(tensor, 'shape', ()))}, expected (n, {size})")
    return tensor.detach().float()


def _cut_long(codes: torch.Tensor) -> torch.Tensor:
    """Codes cut to the official embedding's length; it cuts at every look-up, so its table may hold longer ones."""
    lengths = codes.norm(dim=1, keepdim=True)
    return torch.where(lengths > _CODEBOOK_NORM, codes * (_CODEBOOK_NORM / (lengths + 1e-7)), codes)
