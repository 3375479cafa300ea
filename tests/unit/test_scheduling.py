"""Who runs first, as the kernel tells it."""

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastserve.engine import scheduling
from fastserve.engine.scheduling import LARGE_BYTES, NICENESS, is_large, stand_back, standing_aside


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def policy() -> int:
    return os.sched_getscheduler(0)


def in_a_thread(call: Callable[[], Any]) -> Any:
    """Of SCHED_OTHER, whatever the tests run as."""

    def ordinary() -> Any:
        if policy() != os.SCHED_OTHER:
            try:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            except PermissionError:
                pytest.skip("the tests run as SCHED_IDLE, and may not leave it")
        return call()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ordinary).result()


@pytest.fixture
def comes_back() -> None:
    if not in_a_thread(scheduling._comes_back):
        pytest.skip("the kernel would not let a thread come back")


def test_who_stands_back_is_nicer_and_nobody_else():
    before = niceness()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(stand_back).result()
        assert pool.submit(niceness).result() == NICENESS
    assert niceness() == before


@pytest.mark.usefixtures("comes_back")
def test_who_stands_aside_gives_way_to_all_and_comes_back_as_it_was():
    def work() -> tuple[int, int, int]:
        stand_back()
        with standing_aside():
            aside = policy()
        return aside, policy(), niceness()

    assert in_a_thread(work) == (os.SCHED_IDLE, os.SCHED_OTHER, NICENESS)


@pytest.mark.usefixtures("comes_back")
def test_threads_that_were_started_meanwhile_come_back_too():
    def work() -> int:
        with standing_aside():
            pool = ThreadPoolExecutor(1)
            assert pool.submit(policy).result() == os.SCHED_IDLE
        with pool:
            return pool.submit(policy).result()

    assert in_a_thread(work) == os.SCHED_OTHER


@pytest.mark.usefixtures("comes_back")
def test_after_a_while_it_comes_back_before_it_is_done(monkeypatch):
    back = threading.Event()
    monkeypatch.setattr(scheduling, "_all_back", lambda went, real=scheduling._all_back: (real(went), back.set()))

    def work() -> int:
        with standing_aside(within_s=0.0):
            assert back.wait(30)
            return policy()

    assert in_a_thread(work) == os.SCHED_OTHER


@pytest.mark.parametrize(("wanted", "may"), [(True, False), (False, True)])
def test_nothing_changes_where_it_could_not_come_back_or_nobody_wants_it(monkeypatch, wanted, may):
    monkeypatch.setattr(scheduling, "_comes_back", lambda: may)

    def work() -> int:
        with standing_aside(wanted):
            return policy()

    assert in_a_thread(work) == os.SCHED_OTHER


@pytest.mark.parametrize(("weights_bytes", "large"), [(LARGE_BYTES, True), (LARGE_BYTES - 2, False)])
def test_weights_beside_a_model_count(tmp_path, weights_bytes, large):
    (tmp_path / "model.onnx").write_bytes(b"x")
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(weights_bytes)
    assert is_large(tmp_path / "model.onnx") is large


def test_what_is_not_there_is_not_large(tmp_path):
    assert not is_large(tmp_path / "gone" / "model.onnx")


def test_who_stands_back_takes_short_turns():
    number = {"x86_64": 315, "aarch64": 275}.get(platform.machine())
    if number is None:
        pytest.skip("the number of sched_getattr is not known here")

    def shown() -> tuple[int, ...]:
        stand_back()
        attributes = ctypes.create_string_buffer(48)
        assert ctypes.CDLL(None).syscall(number, 0, attributes, 48, 0) == 0
        return struct.unpack("IIQiIQQQ", attributes.raw)

    _, scheduler, _, nice, _, slice_ns, _, _ = in_a_thread(shown)
    assert (scheduler, nice) == (os.SCHED_OTHER, NICENESS)
    if slice_ns == 0:
        pytest.skip("slices of one's own are Linux 6.12's")
    assert slice_ns == scheduling.SLICE_NS
