"""When a worker ends: at its parent's word; told by somebody else, only if its parent was not told too."""

import signal
from collections.abc import Callable

import pytest

from fastserve.server import ending
from fastserve.server.ending import DRAIN, GRACE_S, HANG_UP_S, PARENT_DECIDES_S, STOP, end_at_signals

PARENT = 4711


class Bench:
    """A worker's loop and signals, turned by hand."""

    drain_timeout_s = 5.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.alarms: list[float] = []
        self.stops = 0
        self.draining = False
        self.parent = PARENT
        monkeypatch.setattr(ending.signal, "setitimer", lambda _, seconds: self.alarms.append(seconds))
        monkeypatch.setattr(ending.signal, "signal", lambda *_: None)
        monkeypatch.setattr(ending.os, "getppid", lambda: self.parent)
        end_at_signals(self, self, self.stop)  # type: ignore[arg-type]

    def add_signal_handler(self, number: int, handler: Callable[[], None]) -> None:
        self.handlers[number] = handler

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.later.append((seconds, call))

    def drain(self) -> None:
        self.draining = True

    def stop(self) -> None:
        self.stops += 1

    def signal(self, number: int) -> None:
        self.handlers[number]()

    def pass_time(self) -> list[float]:
        """Let all that is due later happen; how much later."""
        waited = []
        while self.later:
            seconds, call = self.later.pop(0)
            waited.append(seconds)
            call()
        return waited


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_it_stops_once_however_often_its_parent_says_so_and_has_an_alarm_set(bench: Bench):
    for _ in range(3):
        bench.signal(STOP)
    assert bench.stops == 1
    assert bench.draining
    assert bench.alarms == [5.0 + GRACE_S]


def test_a_signal_that_its_parent_got_too_is_left_to_the_parent(bench: Bench):
    bench.signal(signal.SIGTERM)
    bench.drain()  # the parent says DRAIN meanwhile
    assert bench.pass_time() == [PARENT_DECIDES_S]
    assert bench.stops == 0
    bench.signal(STOP)
    assert bench.stops == 1


def test_a_signal_for_it_alone_makes_it_hang_up_and_end(bench: Bench):
    bench.signal(signal.SIGTERM)
    assert not bench.draining
    assert bench.pass_time() == [PARENT_DECIDES_S, HANG_UP_S]
    assert bench.draining
    assert bench.stops == 1


def test_without_its_parent_it_waits_for_nobody(bench: Bench):
    bench.parent = 1
    bench.signal(signal.SIGTERM)
    assert bench.pass_time() == [HANG_UP_S]
    assert bench.stops == 1


@pytest.mark.parametrize("signals", [[STOP, signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM, STOP]])
def test_any_mixture_stops_it_once(bench: Bench, signals: list[int]):
    for number in signals:
        bench.signal(number)
    bench.pass_time()
    assert bench.stops == 1


def test_the_two_words_differ() -> None:
    assert len({DRAIN, STOP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}) == 5
