"""What this backend is: versions, devices, shipped weights, sound formats (works without torch)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from blender_talkhead.contract.errors import BackendError
from blender_talkhead.contract.jobs import METHODS
from blender_talkhead.contract.messages import PROTOCOL_VERSION
from blender_talkhead.contract.result import FORMAT_VERSION

WEIGHTS_FOLDER = Path(__file__).resolve().parent / "weights"
_MANIFEST = Path(__file__).resolve().parents[1] / "blender_manifest.toml"
_PACKAGES = (
    "torch", "numpy", "scipy", "libigl", "av", "soundfile", "transformers", "accelerate", "diffusers", "safetensors",
)  # fmt: skip
_SOUND_CODECS = ("aac", "alac", "flac", "mp3", "opus", "pcm_f32le", "pcm_s16le", "pcm_s24le", "vorbis")
PACKAGES_REMEDY = (
    "Point TALKHEAD_PYTHON (or the add-on's preferences) to a Python with the backend's packages; "
    "`python3 build.py demo` makes one in .venv."
)


def read_version() -> str:
    """Version of the extension, from its manifest ("unknown" where the manifest does not travel along)."""
    try:
        return str(tomllib.loads(_MANIFEST.read_text(encoding="utf-8"))["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return "unknown"


def import_torch() -> Any:
    """Import torch.

    Raises:
        BackendError: it is not installed, or cannot be loaded.
    """
    try:
        import torch
    except (ImportError, OSError) as error:
        raise BackendError(f"{sys.executable} cannot import torch ({error}). {PACKAGES_REMEDY}") from error
    return torch


def list_devices() -> list[str]:
    """Devices that torch can use here, of "cpu", "cuda" and "mps".

    Raises:
        BackendError: torch is missing.
    """
    torch = import_torch()
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def resolve_device(name: str) -> str:
    """The torch device of `--device`: auto takes CUDA where it is, else the CPU.

    Raises:
        BackendError: the device is not available; the message names those that are.
    """
    available = list_devices()
    if name == "auto":
        return "cuda" if "cuda" in available else "cpu"
    if name not in available:
        raise BackendError(f"--device {name} is not available here; use one of: auto, {', '.join(available)}")
    return name


def describe_backend(as_json: bool) -> str:
    """Return everything about this backend, as a line of JSON or as text for people."""
    content = collect_info()
    if as_json:
        return json.dumps(content, ensure_ascii=False)
    lines = [
        f"TalkHead backend {content['talkhead_version']}, Python {content['python_version']} on {content['platform']}"
    ]
    lines += [f"  {name} {version or 'missing'}" for name, version in content["packages"].items()]
    if content["torch_error"]:
        lines.append(f"  torch cannot be used: {content['torch_error']}")
    lines.append("devices:")
    for device in content["devices"]:
        fast = "" if device["bfloat16"] else "no "
        lines.append(f"  {device['name']}: {device['description']}, {fast}fast bfloat16")
    lines.append("weights:" if content["weights"] else "weights: none ship with this version")
    lines += [
        f"  {w['name']}  {w['bytes'] / 1e6:.1f} MB  sha256 {w['sha256']}\n    {w['card']}" for w in content["weights"]
    ]
    lines.append(f"methods: {', '.join(content['methods'])}")
    lines.append(f"sound: {content['ffmpeg'] or 'FFmpeg missing'}; {', '.join(content['sound_codecs'])}")
    return "\n".join(lines)


def collect_info() -> dict[str, Any]:
    """Return what `info --json` prints; docs/protocol.md lists the fields."""
    devices, torch_error, threads = _describe_devices()
    ffmpeg, codecs = _describe_ffmpeg()
    return {
        "type": "info",
        "talkhead_version": read_version(),
        "protocol_version": PROTOCOL_VERSION,
        "result_format_version": FORMAT_VERSION,
        "python_version": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": threads,
        "packages": {name: _find_version(name) for name in _PACKAGES},
        "torch_error": torch_error,
        "devices": devices,
        "methods": list(METHODS),
        "weights": _describe_weights(),
        "ffmpeg": ffmpeg,
        "sound_codecs": codecs,
    }


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _describe_devices() -> tuple[list[dict[str, Any]], str | None, int | None]:
    """Devices, why there are none, and the number of threads."""
    try:
        torch = import_torch()
    except BackendError as error:
        return [], str(error), None
    found = []
    for name in list_devices():
        description, bfloat16 = platform.processor() or platform.machine(), False
        if name == "cpu":
            capabilities = torch.cpu.get_capabilities()
            description = capabilities.get("cpu_name") or description
            bfloat16 = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        elif name == "cuda":
            description, bfloat16 = torch.cuda.get_device_name(0), torch.cuda.is_bf16_supported()
        found.append({"name": name, "description": description, "bfloat16": bfloat16})
    return found, None, torch.get_num_threads()


def _describe_weights() -> list[dict[str, Any]]:
    """Weights that ship, each with the first line of its card."""
    found = []
    for path in sorted(WEIGHTS_FOLDER.glob("*.safetensors")):
        card = path.with_suffix(".md")
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        found.append(
            {
                "name": path.stem,
                "file": path.name,
                "bytes": path.stat().st_size,
                "sha256": sha256,
                "card": lines[0].lstrip("# ") if lines else "",
            }
        )
    return found


def _describe_ffmpeg() -> tuple[str | None, list[str]]:
    """Version of FFmpeg's libraries and the sound codecs that matter most."""
    try:
        import av
    except ImportError:
        return None, []
    version = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return f"libavcodec {version}", [name for name in _SOUND_CODECS if name in av.codecs_available]
