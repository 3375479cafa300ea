"""Who runs first, as the kernel tells it."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastserve.engine.scheduling import NICENESS, SHORT_SLICE_NS, come_first, stand_back


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def slice_ns() -> int:
    """0 where this kernel does not tell."""
    file = Path(f"/proc/self/task/{threading.get_native_id()}/sched")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((int(line.split()[-1]) for line in lines if line.startswith("se.slice")), 0)


def on_a_thread(*calls: Callable[[], object]) -> object:
    """What the last of `calls` answers, all made on one fresh thread."""
    with ThreadPoolExecutor(1) as pool:
        return [pool.submit(call).result() for call in calls][-1]


def test_who_stands_back_is_nicer_and_has_an_ordinary_slice():
    assert on_a_thread(stand_back, niceness) == NICENESS
    assert on_a_thread(come_first, stand_back, slice_ns) != SHORT_SLICE_NS


def test_who_comes_first_is_as_nice_as_before_and_asks_for_little_at_a_time():
    assert on_a_thread(come_first, niceness) == niceness()
    if slice_ns() == 0 or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12):
        pytest.skip("this kernel has no time slices of a thread's own, or does not tell")
    assert on_a_thread(come_first, slice_ns) == SHORT_SLICE_NS


def test_a_machine_whose_call_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    assert on_a_thread(come_first, slice_ns) == slice_ns()
