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

from fastserve.engine.scheduling import NICENESS, SLICE_NS, stand_back


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


def test_who_stands_back_is_nicer_and_nobody_else():
    before = niceness()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(stand_back).result()
        assert pool.submit(niceness).result() == NICENESS
    assert niceness() == before


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
    assert slice_ns == SLICE_NS
