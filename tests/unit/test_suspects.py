"""Requests that make the runs of others fail are known again: how many runs a batch takes while they keep coming."""

import weakref
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fastserve._ext.costs import CostTable
from fastserve._ext.ticket import Ticket
from fastserve.engine.block import Blocks, Found
from fastserve.engine.meters import ModelMeters
from fastserve.engine.short import ShortRuns
from fastserve.engine.suspects import APART_NS, MOST, Suspects, cheapest, mark_of
from fastserve.errors import RunFailed
from fastserve.metrics import Metrics
from fastserve.types import Tensor
from tests.support.bench import POISON, SLOW_NS, Bench
from tests.support.clockwork import FakeClock

ROWS = 32


def a_round(bench: Bench, number: int, *bad: float) -> list[list[int]]:
    """32 requests at once, the first ones bad; the runs that they took."""
    del bench.batches[:]
    values = [*bad, *range(1, ROWS + 1 - len(bad))]
    for i, value in enumerate(values):
        bench.submit(f"{number}-{i}", value)
    bench.executor.run_all()
    got = [bench.answer(f"{number}-{i}") for i in range(ROWS)]
    assert got == [RunFailed if i < len(bad) else [2.0 * value] for i, value in enumerate(values)]
    return list(bench.batches)


def many(**more: Any) -> Bench:
    return Bench(max_batch_rows=ROWS, max_queue_rows=4 * ROWS, **more)


def test_the_same_again_costs_one_run_more():
    bench = many()
    assert len(a_round(bench, 0, POISON)) == 11  # the whole, and five times two halves
    for number in range(1, 5):
        assert sorted(map(len, a_round(bench, number, POISON))) == [1, ROWS - 1]


def test_what_came_together_to_a_doors_thread_is_parted_too():
    bench = many(run_ns=1)
    for number in range(3):
        values = [POISON, *range(1, ROWS)]
        answers: list[list[Any]] = [[] for _ in values]
        del bench.batches[:]
        bench.batcher.run_together(
            [
                Ticket(bench.batcher, {"x": np.array([value], np.float32)}, 1, 1, None, answer.append)
                for value, answer in zip(values, answers, strict=True)
            ]
        )
        assert [type(answer) for (answer,) in answers].count(RunFailed) == 1
        assert number == 0 or sorted(map(len, bench.batches)) == [1, ROWS - 1]


def test_what_ran_apart_is_kept_by_nobody():
    bench = many()
    a_round(bench, 0, POISON)
    answers: list[Any] = []
    x = np.array([POISON], np.float32)
    held = weakref.ref(x)
    bench.batcher.submit(Ticket(bench.batcher, {"x": x}, 1, 1, None, answers.append))
    bench.executor.run_all()
    assert [type(answer) for answer in answers] == [RunFailed]
    answers.clear()
    del x
    assert held() is None


def test_who_is_good_by_now_is_answered_and_joins_the_others_again():
    bench = many()
    a_round(bench, 0, POISON)
    for slot in (*bench.runners, bench.short_runner):
        slot.run = healed(slot.run)  # type: ignore[method-assign]
    del bench.batches[:]
    bench.submit("healed", POISON)
    bench.executor.run_all()
    assert bench.answer("healed") == [2 * POISON]
    bench.clock.advance(APART_NS)
    bench.submit("a", POISON)
    bench.submit("b", 1)
    bench.executor.run_all()
    assert bench.batches[-1] == [1, 1]
    assert not bench.batcher.suspects.wary


def healed(run: Any) -> Any:
    """The runner, for whom nothing is poison any more."""

    def whole(requests: list[dict[str, Any]], rows: list[int]) -> Any:
        answers = run([{"x": np.abs(request["x"])} for request in requests], rows)
        return [
            {name: value * np.sign(one["x"]) for name, value in a.items()}
            for a, one in zip(answers, requests, strict=True)
        ]

    return whole


def test_one_that_fails_without_company_is_nobodys_burden():
    bench = many()
    for number in range(3):
        bench.submit(str(number), POISON)
        bench.executor.run_all()
    assert not bench.batcher.suspects.wary


def test_as_long_as_it_fails_it_stays_apart_and_no_longer():
    clock = FakeClock()
    suspects = Suspects(CostTable(), clock)
    bad = [np.array([1.0])]
    suspects.failed_alone(bad, of_many=True)
    clock.advance(APART_NS - 1)
    assert suspects.holds(bad)
    suspects.failed_alone(bad, of_many=False)
    clock.advance(APART_NS - 1)
    assert suspects.holds(bad)
    clock.advance(1)
    assert not suspects.holds(bad)


def test_only_so_many_are_kept_in_mind():
    suspects = Suspects(CostTable(), FakeClock())
    for i in range(MOST + 5):
        suspects.failed_alone([np.array([i])], of_many=True)
    held = [suspects.holds([np.array([i])]) for i in range(MOST + 5)]
    assert held == [False] * 5 + [True] * MOST


@pytest.mark.parametrize(
    "other",
    [
        [np.array([1, 2, 4], np.int64)],
        [np.array([2, 1, 3], np.int64)],
        [np.array(["a", "b"], object)],
        [np.array([1, 2, 3], np.int64), np.array([0], np.int64)],
    ],
)
def test_marks(other: list[Tensor]):
    one = np.array([1, 2, 3], np.int64)
    assert mark_of([one]) == mark_of([np.array([[1, 0], [2, 0], [3, 0]], np.int64)[:, 0]]) != mark_of(other)
    assert mark_of(other) == mark_of([tensor.copy() for tensor in other])


@pytest.mark.parametrize(
    ("fixed_ns", "row_ns", "rate", "at_a_time"),
    [
        (100_000, 0, 1 / 32, 32),  # runs cost the same whatever they hold: each more is dear
        (0, 10_000, 0.0, 32),
        (0, 10_000, 1 / 32, 1),  # rows cost, runs do not: nobody's row is run twice
        (20_000, 10_000, 1 / 32, 4),
        (20_000, 10_000, 1 / 1000, 32),
    ],
)
def test_batches_are_as_large_as_is_cheapest(fixed_ns: int, row_ns: int, rate: float, at_a_time: int):
    costs = CostTable()
    for rows in (1, 2, 4, 8, 16, 32):
        costs.observe(rows, fixed_ns + row_ns * rows)
    assert cheapest(32, 32, rate, costs) == at_a_time


def test_batches_of_sizes_never_measured_are_whole():
    assert cheapest(32, 32, 0.5, CostTable()) == 32


def test_bad_ones_that_are_never_the_same_make_batches_smaller_while_they_come():
    bench = many(known=False)
    for slot in bench.runners:
        slot.run = refuses_negative(bench, slot.run)  # type: ignore[method-assign]
    for rows in (1, 2, 4, 8, 16, 32):  # so that the table knows
        bench.submit(f"first {rows}", *range(rows))
        bench.executor.run_all()
    rounds = [a_round(bench, number, -1.5 - number) for number in range(100)]
    rows_run = [sum(map(sum, one)) for one in rounds]
    assert rows_run[0] > 2 * ROWS
    assert sum(rows_run[-20:]) / 20 < 1.4 * ROWS
    for number in range(200):
        last = a_round(bench, 1000 + number)
    assert last == [[1] * ROWS]


def refuses_negative(bench: Bench, run: Any) -> Any:
    """A runner whose runs take a time for each row."""

    def refusing(requests: list[dict[str, Any]], rows: list[int]) -> Any:
        answers = run(requests, rows)
        bench.clock.now_ns += SLOW_NS * sum(rows)
        if any((request["x"] < 0).any() for request in requests):
            raise RunFailed("negative")
        return answers

    return refusing


class Counting:
    """A runner of parts, where a negative number fails."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run_parts(self, parts: list[Tensor], rows: int) -> tuple[Tensor, ...]:
        self.runs.append(rows)
        joined = np.concatenate(parts)
        if (joined < 0).any():
            raise RunFailed("negative")
        return (joined * 2,)

    def stop(self) -> None:
        raise AssertionError

    go_on = stop


class Anything:
    """The shapes of rows that fit."""

    def each(self, found: Found) -> list[int]:
        return [-1 if one is None else len(one) for one in found]


@contextmanager
def block(runner: Any):
    clock, costs = FakeClock(), CostTable()
    for rows in (1, 2, 4, 8, 16, 32):
        costs.observe(rows, 1000)
    short = ShortRuns(runner, costs, ROWS, clock, clock)
    meters = ModelMeters(Metrics(), "m", 1)
    yield Blocks(Anything(), short, Suspects(costs, clock), ROWS, clock, clock, meters)  # type: ignore[arg-type]


def of_rows(outputs: tuple[Tensor, ...], rows: list[int]) -> list[float]:
    assert rows == [1] * len(rows)
    return [float(value) for value in outputs[0]]


def test_in_a_lane_the_bad_ones_alone_are_left_out():
    runner = Counting()
    with block(runner) as blocks:
        for number in range(3):
            bad = {3, 17}
            found: Found = [np.array([-1.0 - i if i in bad else float(i)]) for i in range(ROWS)]
            del runner.runs[:]
            answers = blocks.run(found, [1] * ROWS, of_rows)
            assert answers == [None if i in bad else 2.0 * i for i in range(ROWS)]
            assert number == 0 or runner.runs == [ROWS - len(bad)]


def test_where_all_fail_a_lane_gives_up_soon():
    runner = Counting()
    with block(runner) as blocks:
        assert blocks.run([np.array([-1.0 - i]) for i in range(ROWS)], [1] * ROWS, of_rows) == [None] * ROWS
    assert len(runner.runs) < ROWS
