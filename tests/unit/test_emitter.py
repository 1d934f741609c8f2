"""Messages of a run: the fraction never falls, the time left follows the pace, people and programs read their own."""

from __future__ import annotations

import io

import pytest

from blender_talkhead.contract.messages import ErrorMessage, ProgressMessage, decode_message
from torch_backend import emitter as emitter_module
from torch_backend.emitter import Emitter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(emitter_module, "time", clock)
    return clock


def messages(output: io.StringIO) -> list[ProgressMessage]:
    decoded = [decode_message(line) for line in output.getvalue().splitlines()]
    return [message for message in decoded if isinstance(message, ProgressMessage)]


def test_time_left_follows_the_pace_after_the_first_step(clock: Clock) -> None:
    output = io.StringIO()
    report = Emitter(True, output, io.StringIO()).phase("animating", 0.2, 1.0)
    clock.now += 50.0  # what happens once
    report(0.1)
    for fraction in (0.3, 0.5):
        clock.now += 20.0  # a tenth of the phase in 10 s
        report(fraction)
    assert [message.seconds_left for message in messages(output)] == [None, None, 70.0, 50.0]
    assert [message.fraction for message in messages(output)] == [0.2, 0.28, 0.44, 0.6]


def test_fraction_never_falls_and_repeats_are_left_out(clock: Clock) -> None:
    output = io.StringIO()
    emitter = Emitter(True, output, io.StringIO())
    for fraction, seconds in ((0.5, 0.0), (0.6, 0.05), (0.4, 0.2), (1.7, 0.2)):
        clock.now += seconds
        emitter.progress("a", fraction)
    assert [message.fraction for message in messages(output)] == [0.5, 0.6, 1.0]


@pytest.mark.parametrize(("seconds", "text"), [(40.0, "40 s"), (150.0, "2 min"), (7500.0, "2 h 5 min")])
def test_people_read_the_time_left(clock: Clock, seconds: float, text: str) -> None:
    output, log = io.StringIO(), io.StringIO()
    Emitter(False, output, log).progress("animating", 0.25, seconds)
    assert log.getvalue() == f" 25%  animating, {text} left\n"
    assert output.getvalue() == ""


def test_errors_go_both_ways() -> None:
    output, log = io.StringIO(), io.StringIO()
    Emitter(True, output, log).error(3, "no sound")
    assert decode_message(output.getvalue()) == ErrorMessage(3, "no sound")
    assert log.getvalue() == "error: no sound\n"
