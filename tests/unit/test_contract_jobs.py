"""Jobs: round trips through JSON, refusals, and the ranges of their options."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from blender_talkhead.contract.errors import UsageError
from blender_talkhead.contract.jobs import (
    AnimateJob,
    DummyJob,
    FaceTalkSettings,
    InfoJob,
    WorkerJob,
    decode_job,
    encode_job,
    take_folders,
    validate_job,
)

FULL = AnimateJob(
    audio=Path("/sound/a b.wav"),
    output=Path("/out/ü"),
    vertices=1500,
    identity="3",
    seed=2**32 - 1,
    device="cuda",
    precision="float32",
    project_motion=False,
    threads=2,
    weights=Path("/w.safetensors"),
    encoder="shipped",
    scene_frame_rate=29.97,
    audio_start_seconds=0.1,
    audio_duration_seconds=2.5,
    basis_error_limit_mm=0.02,
)


FACETALK = dataclasses.replace(
    FULL,
    method="facetalk",
    surface="sequence",
    grid=256,
    take=3,
    takes=2,
    guidance=2.5,
    diversity=0.5,
    sampler="ddim",
    sampler_steps=50,
    head_weights=Path("/n.safetensors"),
    cache=Path("/cache"),
)


@pytest.mark.parametrize(
    "job",
    [FULL, FACETALK, AnimateJob(Path("/a.wav"), Path("/b")), InfoJob(), DummyJob(0.5, ("one", "two"), "hang")],
    ids=["full", "facetalk", "defaults", "info", "dummy"],
)
def test_round_trip_through_text(job: WorkerJob) -> None:
    assert decode_job(json.loads(json.dumps(encode_job(job)))) == job
    validate_job(job)


def test_wire_format() -> None:
    content = encode_job(FULL)
    assert content["type"] == "animate"
    assert content["audio"] == str(Path("/sound/a b.wav"))
    assert set(content) == {"type", *(entry.name for entry in dataclasses.fields(AnimateJob))}


def test_fields_with_defaults_may_be_left_out() -> None:
    job = decode_job({"type": "animate", "audio": "/a.wav", "output": "/b"})
    assert job == AnimateJob(Path("/a.wav"), Path("/b"))


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"type": 1},
        {"type": "sing"},
        {"type": "animate"},
        {"type": "animate", "audio": "/a.wav"},
        {"type": "animate", "audio": "/a.wav", "output": None},
        {"type": "animate", "audio": "/a.wav", "output": "/b", "seed": 1.5},
        {"type": "animate", "audio": "/a.wav", "output": "/b", "seed": True},
        {"type": "animate", "audio": "/a.wav", "output": "/b", "identity": 3},
        {"type": "animate", "audio": "/a.wav", "output": "/b", "mystery": 1},
        {"type": "info", "audio": "/a.wav"},
        {"type": "dummy", "phases": "abc"},
        {"type": "dummy", "phases": [1]},
    ],
)
def test_anything_else_is_a_value_error(content: object) -> None:
    with pytest.raises(ValueError):
        decode_job(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "hicode"),
        ("surface", "sequence"),
        ("takes", 2),
        ("cache", Path("/cache")),
        ("device", "abacus"),
        ("precision", "float16"),
        ("vertices", 499),
        ("vertices", 50_001),
        ("seed", -1),
        ("seed", 2**32),
        ("threads", 0),
        ("scene_frame_rate", 0.5),
        ("audio_start_seconds", -0.1),
        ("audio_start_seconds", float("nan")),
        ("audio_duration_seconds", -1.0),
        ("basis_error_limit_mm", 0.0),
        ("audio", Path("/a\0.wav")),
    ],
)
def test_options_out_of_range_are_usage_errors(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        validate_job(dataclasses.replace(FULL, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("surface", "cloud"),
        ("grid", 31),
        ("grid", 513),
        ("take", 0),
        ("takes", 0),
        ("takes", 9),
        ("guidance", -0.1),
        ("guidance", float("nan")),
        ("diversity", 2.1),
        ("sampler", "euler"),
        ("sampler_steps", 0),
        ("sampler_steps", 30),
    ],
)
def test_options_of_facetalk_out_of_range(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        validate_job(dataclasses.replace(FACETALK, **{name: value}))


def test_settings_of_facetalk_are_those_of_the_job() -> None:
    plain = AnimateJob(Path("/a.wav"), Path("/b"))
    assert FaceTalkSettings().as_fields() == {name: getattr(plain, name) for name in FaceTalkSettings().as_fields()}


def test_each_take_has_a_folder() -> None:
    assert take_folders(FACETALK) == (Path("/out/ü"), Path("/out/ü-2"))
    assert take_folders(FULL) == (FULL.output,)


@pytest.mark.parametrize("job", [DummyJob(-1.0), DummyJob(1.0, ()), DummyJob(1.0, ("a",), "sing")])
def test_dummy_jobs_out_of_range(job: DummyJob) -> None:
    with pytest.raises(UsageError):
        validate_job(job)
