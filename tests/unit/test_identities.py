"""Identities as text and as files: presets, seeds, parameters, and what must be refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blender_talkhead.facial.identities import (
    MAX_AMOUNT,
    MAX_CHARACTER_BYTES,
    RANDOM_FACTORS,
    Character,
    decode_character,
    encode_character,
    find_preset,
    format_identity,
    load_character,
    random_identity,
    read_identity_option,
    resolve_identity,
    shorten_identity,
)
from blender_talkhead.facial.identity_parameters import IDENTITY_GROUPS, IDENTITY_PARAMETERS, parameters_of_group
from blender_talkhead.facial.identity_presets import IDENTITY_PRESETS

PARAMETERS = st.dictionaries(
    st.sampled_from(sorted(IDENTITY_PARAMETERS)), st.integers(-1000, 1000).map(lambda n: n / 1000)
)


def used(parameters: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in parameters.items() if value}


def test_every_parameter_is_in_one_group_and_explains_itself() -> None:
    members = [each.name for group in IDENTITY_GROUPS for each in parameters_of_group(group)]
    assert members == list(IDENTITY_PARAMETERS)
    for each in IDENTITY_PARAMETERS.values():
        assert each.label and each.description and not each.description.endswith(".")
    labels = [(each.group, each.label) for each in IDENTITY_PARAMETERS.values()]
    assert len(set(labels)) == len(labels)


def test_names_seeds_and_parameters_resolve() -> None:
    assert resolve_identity(None) == resolve_identity("mean") == {}
    assert resolve_identity("broad") == IDENTITY_PRESETS["broad"].parameters
    assert resolve_identity("12") == resolve_identity(12) == random_identity(12)
    assert resolve_identity("nose_width=0.5, eye_size=-.25") == {"nose_width": 0.5, "eye_size": -0.25}
    changed = resolve_identity("broad,nose_width=-0.5")
    assert changed == {**IDENTITY_PRESETS["broad"].parameters, "nose_width": -0.5}
    assert resolve_identity("3,jaw_width=1")["jaw_width"] == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody", "expected an identity"),
        ("-3", "expected an identity"),
        ("", "expected an identity"),
        ("1.5", "expected an identity"),
        ("99999999999999999999", "expected an identity"),
        ("4294967296", "seed"),
        ("nose_size=0.5", "nose_size"),
        ("nose_width=2", "nose_width in -1..1"),
        ("nose_width=nan", "nose_width in -1..1"),
        ("nose_width=wide", "number from -1 to 1"),
        ("broad,round", "after the first comma"),
        ("broad,", "after the first comma"),
    ],
)
def test_what_is_no_identity_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resolve_identity(text)


@given(PARAMETERS)
def test_parameters_survive_as_text_and_as_file(parameters: dict[str, float]) -> None:
    assert used(resolve_identity(format_identity(parameters))) == used(parameters)
    assert used(resolve_identity(shorten_identity(parameters))) == used(parameters)
    character = decode_character(encode_character(Character("Ä b", parameters)))
    assert (character.name, character.parameters) == ("Ä b", used(parameters))


def test_presets_are_found_again() -> None:
    assert len(IDENTITY_PRESETS) >= 8
    for name, preset in IDENTITY_PRESETS.items():
        assert find_preset(dict(preset.parameters)) == name
        assert shorten_identity(preset.parameters) == name
        assert preset.label and preset.description
    assert find_preset({"nose_width": 0.123}) is None


def test_random_identities_are_alike_where_they_should_be_and_else_differ() -> None:
    """Mean 0, a spread that leaves most sliders near the middle, and parameters of one factor together."""
    faces = [random_identity(seed) for seed in range(400)]
    assert faces[5] == random_identity(5) and faces[5] != faces[6]
    for name in IDENTITY_PARAMETERS:
        values = [face[name] for face in faces]
        mean = sum(values) / len(values)
        spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        assert abs(mean) < 0.1 and 0.28 < spread < 0.46, name
        assert max(map(abs, values)) < 1.0
        assert sum(abs(value) < 0.5 for value in values) > 0.75 * len(values)
    products = [face["brow_ridge"] * face["brow_height"] for face in faces]
    assert sum(products) / len(products) < -0.01  # a strong brow sits low


def test_the_amount_goes_from_the_mean_to_the_unusual() -> None:
    assert set(random_identity(3, 0.0).values()) == {0.0}
    natural, strong = random_identity(3), random_identity(3, MAX_AMOUNT)
    assert all(abs(strong[name]) >= abs(natural[name]) for name in natural)
    for wrong in ({"seed": -1}, {"seed": 2**32}, {"seed": 0, "amount": 2.5}, {"seed": 0, "amount": float("nan")}):
        with pytest.raises(ValueError, match="expected"):
            random_identity(**wrong)


def test_factors_name_parameters_and_leave_room_for_each_ones_own() -> None:
    for name in IDENTITY_PARAMETERS:
        assert sum(loadings.get(name, 0.0) ** 2 for loadings in RANDOM_FACTORS.values()) < 1.0
    assert {name for loadings in RANDOM_FACTORS.values() for name in loadings} <= set(IDENTITY_PARAMETERS)


def content(**changes: object) -> str:
    values = {"format": "talkhead-character", "format_version": 1, "name": "A", "parameters": {"nose_width": 0.5}}
    return json.dumps({**values, **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "{" * 100_000,
        "[" * 100_000,
        content(format="other"),
        content(format_version=2),
        content(format_version=True),
        content(name=3),
        content(name="a\nb"),
        content(name="a" * 101),
        content(parameters=[]),
        content(parameters={"nose_width": "0.5"}),
        content(parameters={"nose_width": True}),
        content(parameters={"nose_width": 1.01}),
        content(parameters={"nose_width": None}),
        content(parameters={"nose_width": 10**400}),
        content(parameters={"nose_size": 0.5}),
        content(code="import os"),
        content().replace("0.5", "NaN"),
        content().replace("0.5", "Infinity"),
    ],
)
def test_damaged_and_hostile_files_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_character(text)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"."):
        load_character(path)


def test_files_that_are_too_large_or_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content() + " " * MAX_CHARACTER_BYTES, encoding="utf-8")
    with pytest.raises(ValueError, match="larger than"):
        load_character(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"."):
        load_character(path)


def test_options_name_a_face_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "Face.JSON").write_text(content(), encoding="utf-8")
    (tmp_path / "known.json").write_text(
        encode_character(Character("", IDENTITY_PRESETS["lean"].parameters)), encoding="utf-8"
    )
    assert read_identity_option("broad,nose_width=1") == "broad,nose_width=1"
    assert read_identity_option("Face.JSON", tmp_path) == "nose_width=0.5"
    assert read_identity_option(str(tmp_path / "known.json")) == "lean"
    with pytest.raises(OSError, match="No such file"):
        read_identity_option("gone.json", tmp_path)
    with pytest.raises(ValueError, match="expected an identity"):
        read_identity_option("nobody")
