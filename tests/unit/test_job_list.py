"""Lists of jobs become the command lines that a person would have typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from blender_talkhead.command_options import BatchOptions, parse_options
from blender_talkhead.contract.errors import BadInputError
from blender_talkhead.job_list import read_job_list


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "audio,--output,start,extend_range\n\n-line.wav,x.blend,-5,true\n/s/b.wav,/s/y.blend,,no\n"),
        (
            "a.toml",
            '[defaults]\nextend-range = false\n[[job]]\naudio = "-line.wav"\noutput = "x.blend"\nstart = -5\n'
            'extend-range = true\n[[job]]\naudio = "/s/b.wav"\noutput = "/s/y.blend"\n',
        ),
    ],
)
def test_both_forms_give_the_same_jobs(tmp_path: Path, name: str, text: str) -> None:
    options = parse_options(["batch", str(written(tmp_path, name, text))])
    assert isinstance(options, BatchOptions) and len(options.jobs) == 2
    first, second = options.jobs
    assert (first.audio, first.output) == (tmp_path / "-line.wav", tmp_path / "x.blend")
    assert (first.start, first.extend_range, first.bake) == (-5, True, "basis")
    assert (second.audio, second.output) == (Path("/s/b.wav"), Path("/s/y.blend"))
    assert (second.start, second.extend_range) == (1, False)


def test_a_spreadsheet_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "audio,output\na.wav,a.blend\n", "utf-8-sig")
    assert read_job_list(path, ()) == [[f"--output={tmp_path / 'a.blend'}", "--", str(tmp_path / "a.wav")]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "no jobs"),
        ("a.csv", "audio,output\n", "no jobs"),
        ("a.csv", "output\nx.blend\n", "job 1: expected a recording"),
        ("a.csv", "audio,output\na.wav,x.blend,extra\n", "more cells"),
        ("a.csv", "audio,extend-range\na.wav,maybe\n", "true or false"),
        ("a.toml", "job = 3\n", "expected tables"),
        ("a.toml", "[[jobs]]\n", "expected tables"),
        ("a.toml", "job =\n", "not readable"),
        ("missing.csv", None, "cannot read"),
    ],
)
def test_bad_lists(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    path = tmp_path / name if text is None else written(tmp_path, name, text)
    with pytest.raises(BadInputError, match=words):
        read_job_list(path, ("extend-range",))


def test_a_wrong_option_names_its_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a.csv", "audio,output,start\na.wav,a.blend,1\nb.wav,b.blend,soon\n")
    with pytest.raises(SystemExit) as stop:
        parse_options(["batch", str(path)])
    assert stop.value.code == 2
    assert "a.csv, job 2" in capsys.readouterr().err
