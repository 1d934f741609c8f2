"""Options of the headless command: defaults, ranges, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from blender_talkhead.command_options import AnimateOptions, BatchOptions, InfoOptions, RemoveOptions, parse_options
from blender_talkhead.contract.jobs import FaceTalkSettings
from blender_talkhead.facial.identities import Character, encode_character


def test_defaults_and_absolute_paths() -> None:
    options = parse_options(["animate", "a.wav", "--output", "b.blend"])
    here = Path.cwd()
    assert options == AnimateOptions(
        audio=here / "a.wav",
        file=None,
        target=None,
        method="mmtalker",
        vertices=None,
        identity=None,
        bake="basis",
        start=1,
        extend_range=False,
        fps=None,
        seed=None,
        device="auto",
        output=here / "b.blend",
        preview=None,
        json=False,
    )


def test_every_option() -> None:
    words = "animate a.wav --method mmtalker --file f.blend --target Head --vertices 500 --identity 7 --bake cache"
    words += " --start -5 --fps 29.97 --seed 3 --device cpu --output o.blend --preview p.MP4 --json"
    options = parse_options(words.split())
    assert isinstance(options, AnimateOptions)
    assert (options.target, options.vertices, options.identity, options.bake) == ("Head", 500, "7", "cache")
    assert (options.start, options.fps, options.seed, options.device, options.json) == (-5, 29.97, 3, "cpu", True)
    assert options.preview is not None and options.preview.name == "p.MP4"


def test_options_of_facetalk() -> None:
    words = "animate a.wav --method facetalk --output o.blend --surface sequence --grid 64 --take 2 --takes 3"
    words += " --guidance 1.5 --diversity 0.5 --sampler ddim --sampler-steps 50 --cache kept --identity s.safetensors"
    options = parse_options(words.split())
    here = Path.cwd()
    assert isinstance(options, AnimateOptions) and options.identity == str(here / "s.safetensors")
    assert options.facetalk == FaceTalkSettings(
        "sequence", 64, 2, 3, 1.5, 0.5, "ddim", 50, head_weights=None, cache=here / "kept"
    )
    plain = parse_options(["animate", "a.wav", "--method", "facetalk", "--output", "o.blend"])
    assert isinstance(plain, AnimateOptions) and plain.facetalk == FaceTalkSettings()


def test_characters_and_the_own_mesh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "face.json"
    path.write_text(encode_character(Character("A", {"nose_width": 0.5})), encoding="utf-8")
    words = ["animate", "a.wav", "--output", "o.blend", "--vertices", "native", "--identity"]
    options = parse_options([*words, str(path)])
    assert isinstance(options, AnimateOptions) and (options.identity, options.vertices) == ("nose_width=0.5", 0)
    assert parse_options([*words, "broad,nose_width=1"]).identity == "broad,nose_width=1"  # type: ignore[union-attr]
    path.write_text("{}", encoding="utf-8")
    for wrong, text in ((path, "no character of TalkHead"), (tmp_path / "gone.json", "cannot read the character")):
        with pytest.raises(SystemExit) as stop:
            parse_options([*words, str(wrong)])
        assert stop.value.code == 3 and text in capsys.readouterr().err
    rows = tmp_path / "jobs.csv"
    path.write_text(encode_character(Character("A", {"nose_width": 0.5})), encoding="utf-8")
    rows.write_text("audio,output,identity\na.wav,o.blend,face.json\n", encoding="utf-8")
    batch = parse_options(["batch", str(rows)])
    assert isinstance(batch, BatchOptions) and batch.jobs[0].identity == "nose_width=0.5"


def test_remove_and_info() -> None:
    assert parse_options(["remove", "Head", "--file", "/f.blend"]) == RemoveOptions(
        "Head", Path("/f.blend").absolute(), None, False
    )
    assert parse_options(["info", "--json"]) == InfoOptions(None, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "COMMAND"),
        ("sing a.wav", "invalid choice"),
        ("animate", "AUDIO"),
        ("animate a.wav", "nothing to write"),
        ("animate a.wav --output o.blend --vertices 499", "expected 500 to 50000, got 499"),
        ("animate a.wav --output o.blend --vertices 50001", "expected 500 to 50000"),
        ("animate a.wav --output o.blend --vertices many", "whole number"),
        ("animate a.wav --output o.blend --identity nobody", "expected an identity"),
        ("animate a.wav --output o.blend --identity nose_width=2", "nose_width"),
        ("animate a.wav --output o.blend --bake alembic", "invalid choice"),
        ("animate a.wav --output o.blend --fps 0", "frames per second"),
        ("animate a.wav --output o.blend --fps nan", "frames per second"),
        ("animate a.wav --output o.blend --fps fast", "frames per second"),
        ("animate a.wav --output o.blend --seed -1", "expected 0 to"),
        ("animate a.wav --output o.blend --start 1.5", "whole number"),
        ("animate a.wav --output o.blend --device tpu", "invalid choice"),
        ("animate a.wav --output o.blend --method hicode", "has mmtalker and facetalk"),
        ("animate a.wav --output o.blend --method wav2lip", "invalid choice"),
        ("animate a.wav --output o.blend --grid 64", "belongs to FaceTalk"),
        ("animate a.wav --output o.blend --sampler-steps 10", "--sampler-steps belongs to FaceTalk"),
        ("animate a.wav --output o.blend --identity scan.safetensors", "belongs to FaceTalk"),
        ("animate a.wav --output o.blend --method facetalk --grid 31", "expected 32 to 512"),
        ("animate a.wav --output o.blend --method facetalk --takes 9", "expected 1 to 8"),
        ("animate a.wav --output o.blend --method facetalk --guidance nan", "expected 0 to 10"),
        ("animate a.wav --output o.blend --method facetalk --sampler ddim --sampler-steps 30", "a divisor of 1000"),
        ("animate a.wav --output o.blend --method facetalk --surface sequence --vertices 900", "--surface tracked"),
        ("animate a.wav --output o.blend --method facetalk --surface sequence --target A", "new objects"),
        ("animate a.wav --output o.blend --method facetalk --takes 2 --target A", "new objects"),
        ("animate a.wav --output o.blend --method facetalk --takes 2 --bake cache", "one take"),
        ("animate a.wav --output o.blend --avatar d", "belongs to HiCoDe"),
        ("animate a.wav --output o.txt", "ending in .blend"),
        ("animate a.wav --preview p.gif", "ending in .png or .mp4"),
        ("animate a.wav --preview p.png --bake cache", "needs --output"),
        ("animate a.wav --output o.blend --sing", "unrecognized"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_options(words.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_options(["animate", "--help"], "talkhead")
    assert stop.value.code == 0
    assert "--vertices M" in capsys.readouterr().out
