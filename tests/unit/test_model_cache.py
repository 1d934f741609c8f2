"""What stays warm between jobs: the last used, by files and settings; and what is let go."""

from __future__ import annotations

import os
import weakref
from dataclasses import replace
from pathlib import Path

from blender_talkhead.contract.jobs import AnimateJob
from torch_backend.model_cache import ModelCache, model_key


class Model:
    pass


def test_the_last_used_stay_and_are_loaded_once() -> None:
    cache, loaded = ModelCache(2), []

    def get(name: str) -> Model:
        def load() -> Model:
            loaded.append(name)
            return Model()

        model: Model = cache.get(name, load)
        return model

    first = get("a")
    get("b")
    assert get("a") is first
    get("c")  # in the place of b
    assert get("a") is first
    get("b")
    assert loaded == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_the_place_is_free_before_the_next_one_is_loaded() -> None:
    cache = ModelCache(1)
    before = weakref.ref(cache.get("a", Model))
    alive = []

    def load() -> Model:
        alive.append(before())
        return Model()

    cache.get("b", load)
    assert alive == [None]


def test_release_lets_go_of_everything() -> None:
    cache = ModelCache()
    model = cache.get("a", Model)
    model.itself = model  # a cycle, as networks have
    reference = weakref.ref(model)
    del model
    assert cache.release()
    assert reference() is None
    assert len(cache) == 0
    assert not cache.release()


def test_a_failed_load_keeps_nothing() -> None:
    cache = ModelCache()

    def fail() -> Model:
        raise ZeroDivisionError

    for _ in range(2):
        try:
            cache.get("a", fail)
        except ZeroDivisionError:
            continue
    assert len(cache) == 0


def test_keys_follow_files_and_settings(tmp_path: Path) -> None:
    weights, encoder = tmp_path / "a.safetensors", tmp_path / "encoder"
    weights.write_bytes(b"one")
    encoder.mkdir()
    (encoder / "part").write_bytes(b"one")
    job = AnimateJob(Path("/a.wav"), Path("/out"), weights=weights, encoder=str(encoder))
    key = model_key(job, "cpu")
    assert model_key(replace(job, audio=Path("/b.wav"), output=Path("/c"), vertices=600, seed=3), "cpu") == key
    other = [
        model_key(job, "cuda"),
        model_key(replace(job, precision="bfloat16"), "cpu"),
        model_key(replace(job, project_motion=False), "cpu"),
        model_key(replace(job, weights=None), "cpu"),
        model_key(replace(job, encoder=None), "cpu"),
        model_key(replace(job, encoder="a/name"), "cpu"),
    ]
    os.utime(weights, (1, 1))
    other.append(model_key(job, "cpu"))
    (encoder / "part").write_bytes(b"longer")
    other.append(model_key(job, "cpu"))
    assert len({key, *other}) == 1 + len(other)
