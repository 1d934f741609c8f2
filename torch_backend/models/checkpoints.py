"""Checkpoint files: safetensors with a JSON description in the header. Nothing here can run code on loading.

A checkpoint holds named tensors and one JSON object (`metadata`) with at least

    format_version   of this file layout
    kind             what the tensors are, e.g. "mmtalker", "phone_encoder", "training_state"
    config           everything needed to build the model again
    step, metrics    where training stood, and how good it was
    code_version     of the extension that wrote the file
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from blender_talkhead.contract.errors import BackendError, OutputError

FORMAT_VERSION = 1
_HEADER_KEY = "talkhead"
_REQUIRED_KEYS = ("format_version", "kind", "config", "step", "metrics", "code_version")
_REMEDY = (
    "Install the extension again, or name a file that this version wrote with --weights or --head-weights of "
    "`python -m torch_backend`."
)


def read_code_version() -> str:
    """Version of the extension, from its manifest ("unknown" where the manifest does not travel along)."""
    manifest = Path(__file__).resolve().parents[2] / "blender_manifest.toml"
    try:
        return str(tomllib.loads(manifest.read_text(encoding="utf-8"))["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return "unknown"


def save_checkpoint(path: Path, state_dict: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata to `path`: under a temporary name first, then renamed.

    Args:
        path: target file; its folder is made when missing.
        state_dict: tensors of any device and type; they are stored contiguous, on the CPU.
        metadata: JSON-able; `kind` is required; `config`, `step`, `metrics` default to empty, and
            `format_version`, `code_version` are set here.

    Raises:
        ValueError: `kind` is missing from the metadata.
        OutputError: the file cannot be written.
    """
    if not metadata.get("kind"):
        raise ValueError(f"checkpoint metadata needs a 'kind', got keys {sorted(metadata)}")
    header = {
        "config": {},
        "step": 0,
        "metrics": {},
        **metadata,
        "format_version": FORMAT_VERSION,
        "code_version": read_code_version(),
    }
    # Cloned, because tensors that share memory are refused by the format.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        os.close(handle)
        try:
            save_file(tensors, temporary, metadata={_HEADER_KEY: json.dumps(header, sort_keys=True)})
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the checkpoint {path}: {error}") from error


def load_checkpoint(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and the metadata of a checkpoint.

    Args:
        path: a file written by `save_checkpoint`.
        kind: the kind the caller can use; any other is refused.

    Returns:
        (tensors by name on the CPU, metadata).

    Raises:
        BackendError: the file is missing, broken, of another kind or of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise BackendError(f"the weights {path} are missing. {_REMEDY}")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            header = (file.metadata() or {}).get(_HEADER_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise BackendError(f"the weights {path} are broken ({error}). {_REMEDY}") from error
    return tensors, _validated_metadata(header, path, kind)


def _validated_metadata(header: str | None, path: Path, kind: str) -> dict[str, Any]:
    """The metadata object of a header string, or a BackendError that says what is wrong with it."""
    if header is None:
        raise BackendError(f"{path} is a safetensors file, but not one of TalkHead's. {_REMEDY}")
    try:
        metadata = json.loads(header)
    except json.JSONDecodeError as error:
        raise BackendError(f"the description inside {path} is broken ({error}). {_REMEDY}") from error
    if not isinstance(metadata, dict):
        raise BackendError(f"the description inside {path} is no JSON object. {_REMEDY}")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise BackendError(f"{path} has format version {version}, this version reads {FORMAT_VERSION}. {_REMEDY}")
    missing = [key for key in _REQUIRED_KEYS if key not in metadata]
    if missing:
        raise BackendError(f"the description inside {path} lacks {', '.join(missing)}. {_REMEDY}")
    if metadata["kind"] != kind:
        raise BackendError(f"{path} holds weights of kind '{metadata['kind']}', needed are '{kind}'. {_REMEDY}")
    return metadata


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as hexadecimal text, read in pieces.

    Raises:
        BackendError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackendError(f"cannot read {path}: {error}. {_REMEDY}") from error
