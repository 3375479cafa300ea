"""Who runs first, as the kernel tells it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from fastserve.engine.scheduling import NICENESS, stand_back


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_who_stands_back_is_nicer_and_nobody_else():
    before = niceness()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(stand_back).result()
        assert pool.submit(niceness).result() == NICENESS
    assert niceness() == before
