"""Checkpoint files and configs: what is refused, and that nothing half-written stays behind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file

from blender_talkhead.contract.errors import BackendError, OutputError
from torch_backend.config import config_from_dict, config_to_dict, load_toml_config
from torch_backend.models.checkpoints import file_sha256, load_checkpoint, save_checkpoint
from torch_backend.training.state import TrainingState, load_training_state, save_training_state


def _save(path: Path, **changes: Any) -> None:
    metadata = {"kind": "demo", "config": {"width": 3}, "step": 7, "metrics": {"error": 0.5}, **changes}
    save_checkpoint(path, {"weight": torch.arange(6.0).reshape(2, 3)}, metadata)


def test_round_trip_keeps_tensors_and_metadata(tmp_path: Path) -> None:
    _save(tmp_path / "new" / "demo.safetensors")
    tensors, metadata = load_checkpoint(tmp_path / "new" / "demo.safetensors", "demo")
    assert torch.equal(tensors["weight"], torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
    assert (metadata["config"], metadata["step"], metadata["metrics"]) == ({"width": 3}, 7, {"error": 0.5})
    assert metadata["format_version"] == 1
    assert metadata["code_version"]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["demo.safetensors"]


def test_tensors_that_share_memory_or_are_views_are_stored(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "c", {"a": base, "b": base.t(), "scalar": torch.tensor(3)}, {"kind": "demo"})
    tensors, _ = load_checkpoint(tmp_path / "c", "demo")
    assert torch.equal(tensors["b"], base.t())
    assert int(tensors["scalar"]) == 3


def test_kind_is_required(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind"):
        save_checkpoint(tmp_path / "c", {}, {})


def test_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        _save(tmp_path / "file" / "demo.safetensors")


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="missing"):
        load_checkpoint(tmp_path / "none", "demo")


@pytest.mark.parametrize("keep", [0, 5, 40, -3])
def test_truncated_weights(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "demo"
    _save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BackendError, match="broken"):
        load_checkpoint(path, "demo")


def test_other_kind(tmp_path: Path) -> None:
    _save(tmp_path / "demo")
    with pytest.raises(BackendError, match="'demo', needed are 'other'"):
        load_checkpoint(tmp_path / "demo", "other")


def test_foreign_safetensors(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(BackendError, match="not one of TalkHead"):
        load_checkpoint(tmp_path / "foreign", "demo")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{", "broken"),
        ("[1]", "no JSON object"),
        (json.dumps({"format_version": 99, "kind": "demo"}), "version 99"),
        (json.dumps({"format_version": 1, "kind": "demo"}), "lacks config, step, metrics, code_version"),
    ],
)
def test_bad_headers(tmp_path: Path, header: str, message: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "demo", metadata={"talkhead": header})
    with pytest.raises(BackendError, match=message):
        load_checkpoint(tmp_path / "demo", "demo")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(BackendError):
        file_sha256(tmp_path / "none")


def test_training_state_round_trip(tmp_path: Path) -> None:
    optimizer_state = {
        "state": {0: {"step": torch.tensor(4.0), "moment": torch.ones(2), "count": 3}},
        "param_groups": [],
    }
    state = TrainingState(
        step=4, model={"w": torch.ones(2)}, average={"w": torch.zeros(2)}, optimizer=optimizer_state,
        random_states={"cpu": torch.arange(8, dtype=torch.uint8)[None]}, loss_scaler={"scale": 2.0},
        config={"a": 1}, metrics={"m": 0.25},
    )  # fmt: skip
    save_training_state(tmp_path / "state", state)
    loaded = load_training_state(tmp_path / "state")
    assert (loaded.step, loaded.loss_scaler, loaded.config, loaded.metrics) == (
        4,
        {"scale": 2.0},
        {"a": 1},
        {"m": 0.25},
    )
    assert loaded.optimizer["state"][0]["count"] == 3
    assert torch.equal(loaded.optimizer["state"][0]["moment"], torch.ones(2))
    assert torch.equal(loaded.average["w"], torch.zeros(2))
    assert torch.equal(loaded.random_states["cpu"], torch.arange(8, dtype=torch.uint8)[None])


@dataclass(frozen=True)
class _Inner:
    width: int
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class _Outer:
    inner: _Inner
    rate: float = 0.5
    name: str | None = None
    sizes: tuple[int, ...] = (1, 2)
    folder: Path = Path("x")
    flag: bool = False


def test_config_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('rate = 2\nsizes = [3]\nfolder = "y"\n[inner]\nwidth = 4\nmode = "b"\n')
    config = load_toml_config(path, _Outer)
    assert config == _Outer(_Inner(4, "b"), 2.0, None, (3,), Path("y"))
    assert isinstance(config.rate, float)
    assert config_from_dict(_Outer, json.loads(json.dumps(config_to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"width": 1}, "rates": 1.0}, "unknown keys \\['rates'\\]"),
        ({"inner": {"width": 1, "depth": 1}}, "config.inner: unknown keys"),
        ({"rate": 1.0}, "missing keys \\['inner'\\]"),
        ({"inner": {"width": True}}, "inner.width: expected int, got True"),
        ({"inner": {"width": 1.5}}, "expected int"),
        ({"inner": {"width": 1, "mode": "c"}}, "expected one of"),
        ({"inner": {"width": 1}, "sizes": 3}, "expected a list"),
        ({"inner": {"width": 1}, "flag": 1}, "expected bool"),
        ({"inner": 3}, "expected a table"),
    ],
)
def test_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_dict(_Outer, values)


def test_config_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("a = = 1")
    with pytest.raises(ValueError, match="not valid TOML"):
        load_toml_config(tmp_path / "c.toml", _Outer)
