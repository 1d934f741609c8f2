"""Messages and result.json: round trips and refusals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blender_talkhead.contract.errors import BackendError
from blender_talkhead.contract.jobs import InfoJob
from blender_talkhead.contract.messages import (
    CancelMessage,
    DoneMessage,
    ErrorMessage,
    HelloMessage,
    InfoMessage,
    JobMessage,
    ProgressMessage,
    ReleasedMessage,
    ShutdownMessage,
    WarningMessage,
    decode_message,
    decode_request,
    encode_message,
)
from blender_talkhead.contract.result import ResultInfo


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (HelloMessage(pid=7), {"type": "hello", "protocol_version": 2, "talkhead_version": "", "pid": 7}),
        (
            ProgressMessage("listening", 0.25, 3.5, "a"),
            {"type": "progress", "phase": "listening", "fraction": 0.25, "seconds_left": 3.5, "job": "a"},
        ),
        (WarningMessage("quiet"), {"type": "warning", "text": "quiet", "job": ""}),
        (ErrorMessage(3, "no sound", "a"), {"type": "error", "exit_code": 3, "text": "no sound", "job": "a"}),
        (DoneMessage("/a b/ü", "a"), {"type": "done", "folder": "/a b/ü", "job": "a", "more_folders": []}),
        (
            DoneMessage("/a", "a", ("/a-2", "/a-3")),
            {"type": "done", "folder": "/a", "job": "a", "more_folders": ["/a-2", "/a-3"]},
        ),
        (InfoMessage({"devices": []}, "a"), {"type": "info", "facts": {"devices": []}, "job": "a"}),
        (ReleasedMessage(), {"type": "released"}),
    ],
)
def test_wire_format_and_round_trip(message, content) -> None:
    line = encode_message(message)
    assert "\n" not in line
    assert json.loads(line) == content
    assert decode_message(line) == message


@given(st.text(), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_any_progress_survives_in_one_line(phase: str, fraction: float, seconds_left: float | None) -> None:
    message = ProgressMessage(phase, fraction, seconds_left)
    line = encode_message(message)
    assert len(line.splitlines()) == 1
    assert decode_message(line) == message


@pytest.mark.parametrize(
    ("request_", "content"),
    [
        (JobMessage("a", InfoJob()), {"type": "job", "id": "a", "job": {"type": "info"}}),
        (CancelMessage("a"), {"type": "cancel", "id": "a"}),
        (ShutdownMessage(), {"type": "shutdown"}),
    ],
)
def test_wire_format_of_requests(request_, content) -> None:
    line = encode_message(request_)
    assert "\n" not in line
    assert json.loads(line) == content
    assert decode_request(line) == request_


def test_directions_are_apart() -> None:
    with pytest.raises(ValueError, match="cancel"):
        decode_message('{"type": "cancel", "id": "a"}')
    with pytest.raises(ValueError, match="done"):
        decode_request('{"type": "done", "folder": ""}')


def test_unknown_fields_are_ignored() -> None:
    assert decode_message('{"type": "warning", "text": "a", "since": 2}') == WarningMessage("a")


@pytest.mark.parametrize(
    "line",
    [
        "Loading...",
        "3",
        "[]",
        "{}",
        '{"type": 3}',
        '{"type": "sing"}',
        '{"type": "error", "text": "a"}',
        '{"type": "error", "exit_code": "3", "text": "a"}',
        '{"type": "error", "exit_code": true, "text": "a"}',
        '{"type": "progress", "phase": "a", "fraction": null}',
        '{"type": "progress", "phase": "a", "fraction": NaN}',
        '{"type": "job", "id": "", "job": {"type": "info"}}',
        '{"type": "job", "id": "a", "job": "info"}',
        '{"type": "job", "id": "a", "job": {"type": "sing"}}',
        '{"type": "job", "job": {"type": "info"}}',
        '{"type": "cancel"}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_a_value_error(line: str) -> None:
    for decode in (decode_message, decode_request):
        with pytest.raises(ValueError):
            decode(line)


def test_result_info_round_trip_and_stable_text() -> None:
    info = ResultInfo(
        "motion_clip", "mmtalker", 29.97, 12, "/a.wav", "aa", "bb", 3, {"b": 1, "a": [None, 2.5]}, "m", "1"
    )
    assert ResultInfo.from_json(info.to_json()) == info
    assert json.loads(info.to_json())["format_version"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1}', '{"format_version": "1"}'])
def test_broken_result_info_is_a_backend_error(text: str) -> None:
    with pytest.raises(BackendError):
        ResultInfo.from_json(text)


def test_surplus_fields_are_refused() -> None:
    info = ResultInfo("motion_clip", "mmtalker", 30.0, 1, "", "", "", 0)
    text = json.dumps({**json.loads(info.to_json()), "mystery": 1})
    with pytest.raises(BackendError, match="mystery"):
        ResultInfo.from_json(text)


@pytest.mark.parametrize("frame_rate", [0.0, -1.0, float("nan")])
def test_a_frame_rate_must_be_positive(frame_rate: float) -> None:
    with pytest.raises(ValueError, match="frame_rate"):
        ResultInfo("motion_clip", "mmtalker", frame_rate, 1, "", "", "", 0)
