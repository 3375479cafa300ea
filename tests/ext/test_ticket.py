"""A ticket is answered exactly once, and lets go of what it held."""

import gc
import threading
import weakref
from typing import Any

import pytest

from fastserve._ext.ticket import Ticket


class Queue:
    def __init__(self) -> None:
        self.cancelled: list[Ticket] = []

    def cancel(self, ticket: Ticket) -> None:
        self.cancelled.append(ticket)


def ticket(answer: Any, lease: object = None) -> Ticket:
    return Ticket(Queue(), {}, 2, 3, "bucket", answer, ("y",), 5, 7, lease, 11)


def test_it_keeps_what_it_was_given():
    one = ticket(print)
    assert (one.rows, one.size, one.bucket, one.outputs, one.deadline_ns, one.priority) == (
        2,
        3,
        "bucket",
        ("y",),
        5,
        7,
    )
    assert (one.received_ns, one.queued_ns) == (11, 0)


def test_the_first_outcome_wins():
    told: list[Any] = []
    one = ticket(told.append)
    assert one.resolve("first") is True
    assert one.resolve("second") is False
    assert told == ["first"]


def test_of_many_threads_one_answers():
    told: list[Any] = []
    tickets = [ticket(told.append) for _ in range(200)]
    ready = threading.Barrier(4)

    def resolve_all() -> None:
        ready.wait()
        for one in tickets:
            one.resolve(id(one))

    threads = [threading.Thread(target=resolve_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == sorted(map(id, tickets))


def test_an_answer_that_answers_again_is_not_answered_twice():
    told: list[Any] = []

    def answer(outcome: Any) -> None:
        told.append(outcome)
        one.resolve("again")

    one = ticket(answer)
    one.resolve("first")
    assert told == ["first"]


def test_an_answer_that_cannot_be_given_is_logged(caplog: pytest.LogCaptureFixture):
    ticket(lambda _: 1 / 0).resolve("x")
    assert "ZeroDivisionError" in caplog.text


def test_cancel_asks_its_queue():
    one = ticket(print)
    one.cancel()
    assert one.queue.cancelled == [one]


def test_once_resolved_it_holds_neither_its_version_nor_its_caller():
    class Thing:
        def __call__(self, _: Any) -> None:
            pass

    version, caller = Thing(), Thing()
    gone = [weakref.ref(version), weakref.ref(caller)]
    one = ticket(caller, version)
    del version, caller
    gc.collect()
    assert all(ref() is not None for ref in gone)
    one.resolve("x")
    gc.collect()
    assert all(ref() is None for ref in gone)


@pytest.mark.parametrize("inputs", [None, []])
def test_inputs_are_by_name(inputs: Any):
    with pytest.raises(TypeError):
        Ticket(Queue(), inputs, 1, 1, None, print)
