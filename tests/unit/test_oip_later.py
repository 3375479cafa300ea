"""Threads for rare work: they start with the first of it, once."""

import threading

from fastserve.protocols.later import OnDemand
from tests.support.waiting import WITHIN_S

CALLERS = 16


def test_nothing_starts_before_there_is_work():
    OnDemand(3, "on-demand-idle")
    assert not [one for one in threading.enumerate() if one.name.startswith("on-demand-idle")]


def test_first_calls_on_several_threads_start_it_once():
    threads = OnDemand(1, "on-demand-once")
    together, names = threading.Barrier(CALLERS), []
    done = threading.Semaphore(0)

    def work() -> None:
        names.append(threading.current_thread().name)
        done.release()

    def call() -> None:
        together.wait(WITHIN_S)
        threads.post(work)

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for _ in range(CALLERS):
        assert done.acquire(timeout=WITHIN_S)
    assert names == ["on-demand-once-0"] * CALLERS
    assert sum(one.name.startswith("on-demand-once") for one in threading.enumerate()) == 1
