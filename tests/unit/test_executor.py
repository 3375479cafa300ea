"""Threads that take what doors hand over: in order, at lower priority, and whatever the work does."""

import gc
import logging
import os
import threading
import weakref
from functools import partial
from queue import Queue

import pytest

from fastserve.engine.executor import Executor, Turns, on_executor_thread
from fastserve.engine.scheduling import NICENESS

WITHIN_S = 60.0


def test_work_is_done_in_order_on_a_thread_behind_the_doors() -> None:
    executor = Executor(1)
    done: Queue[tuple[int, bool, int]] = Queue()
    for i in range(5):
        executor.post(
            lambda i=i: done.put(  # type: ignore[misc]
                (i, on_executor_thread(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            )
        )
    assert [done.get(timeout=WITHIN_S) for _ in range(5)] == [(i, True, NICENESS) for i in range(5)]
    executor.stop()
    assert not on_executor_thread()


def test_higher_priorities_go_first_and_none_waits_for_ever() -> None:
    turns, done = Turns(), []
    for i in range(3):
        turns.put(partial(done.append, f"low {i}"), -1)
        turns.put(partial(done.append, f"plain {i}"))
    for i in range(6):
        turns.put(partial(done.append, f"high {i}"), 2)
    for _ in range(12):
        turns.take()()
    high, plain = [f"high {i}" for i in range(6)], [f"plain {i}" for i in range(3)]
    assert done == [*high, plain[0], "low 0", *plain[1:], "low 1", "low 2"]


def test_there_are_as_many_threads_as_asked_for() -> None:
    executor = Executor(3)
    all_here = threading.Barrier(4)
    for _ in range(3):
        executor.post(all_here.wait)
    all_here.wait(WITHIN_S)
    executor.stop()


def test_it_grows_and_never_shrinks() -> None:
    executor = Executor(2)
    executor.grow(4)
    executor.grow(1)
    all_here = threading.Barrier(5)
    for _ in range(4):
        executor.post(all_here.wait)
    all_here.wait(WITHIN_S)
    executor.stop()


def test_bad_work_is_logged_and_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    executor = Executor(1)
    done: Queue[None] = Queue()

    def fail() -> None:
        raise RuntimeError("bad work")

    logging.getLogger("fastserve").propagate = True
    executor.post(fail)
    executor.post(lambda: done.put(None))
    done.get(timeout=WITHIN_S)
    executor.stop()
    assert "bad work" in caplog.text


def test_stopping_finishes_what_was_posted_and_ends_the_threads() -> None:
    before = threading.active_count()
    executor = Executor(2)
    done: list[int] = []
    for i in range(20):
        executor.post(lambda i=i: done.append(i))  # type: ignore[misc]
    executor.stop()
    assert sorted(done) == list(range(20))
    assert threading.active_count() == before


def test_the_executor_may_be_stopped_by_its_own_work() -> None:
    executor = Executor(2)
    stopped = threading.Event()

    def stop() -> None:
        executor.stop()
        stopped.set()

    executor.post(stop)
    assert stopped.wait(WITHIN_S)


def test_work_that_is_done_is_let_go_at_once() -> None:
    class Body:
        def __call__(self) -> None:
            pass

    executor = Executor(1)
    body = Body()
    gone = threading.Event()
    watch = weakref.ref(body, lambda _: gone.set())
    executor.post(body)
    del body
    gc.collect()
    assert gone.wait(WITHIN_S), watch()
    executor.stop()
