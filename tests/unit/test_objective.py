"""Batching by objective under a clock that only moves when told: who is let in, how far a batch grows, what is learned."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulate.world import World
from fastserve._ext.ticket import Ticket
from fastserve.engine.cost_line import CostLine
from fastserve.engine.meters import ObjectiveMeters
from fastserve.engine.objective import PLANNED_SHARE, RUN_SHARE, Objective, Rules
from fastserve.errors import DeadlineExceeded, FastServeError, Overloaded, QueueFull
from fastserve.metrics import Metrics
from tests.support.objectives import timed

MS = 1_000_000
SLO_NS = 100 * MS
NOW = 10**12


class Queue:
    """What waits, as a test says."""

    def __init__(self, *ahead: int) -> None:
        self.said = ahead or (0, 0, 0)

    def ahead(self, bucket: Any, priority: int = 0) -> tuple[int, int, int]:
        return self.said[0], self.said[1], self.said[2]


def objective(*, slots: int = 1, sizes: Any = (), slo: int = SLO_NS) -> Objective:
    points = ((1, 10 * MS), (64, 10 * MS + 63 * MS))  # 9 ms, and one for each row
    return Objective(Rules("m", slo, slots, 64, 64, sizes), points, ObjectiveMeters(Metrics(), "m"))


def ticket(rows: int = 1, *, size: int = 0, bucket: Any = None, came: int = NOW, **how: Any) -> Ticket:
    return Ticket(None, {}, rows, size or rows, bucket, lambda _: None, received_ns=came, **how)


def about(expected: float) -> Any:
    return pytest.approx(expected, rel=0.03)


# ---- the line --------------------------------------------------------------------------------------------------------


def test_a_line_is_found_through_what_was_measured() -> None:
    line = CostLine([(rows, 500 + 100 * rows) for rows in (1, 2, 4, 8, 16)])
    assert (line.base_ns, line.row_ns) == (about(500), about(100))


def test_runs_of_one_size_move_the_line_as_it_is() -> None:
    line = CostLine([(rows, 500 + 100 * rows) for rows in (1, 64)])
    for _ in range(60):
        line.observe(8, 2 * 1300)
    assert line.at(8) == about(2600)
    assert line.at(1) < line.at(8) < line.at(64)


def test_a_machine_that_became_slow_is_followed_and_one_that_became_fast_sooner() -> None:
    line = CostLine([(rows, 1000.0 * rows) for rows in (1, 8)])
    runs = {}
    for factor in (4.0, 1.0):
        runs[factor] = 0
        while abs(line.at(4) / (4000 * factor) - 1) > 0.2:
            line.observe(4, 4000 * factor)
            runs[factor] += 1
    assert runs[1.0] < runs[4.0] < 60


def test_one_disturbed_run_changes_little() -> None:
    line = CostLine([(rows, 1000.0 * rows) for rows in (1, 8)])
    for _ in range(50):
        line.observe(4, 4000)
    line.observe(4, 4_000_000)
    assert line.at(4) < 1.1 * 4000
    assert 0 < line.spread < 0.1


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e18, allow_nan=False)), max_size=60))
def test_nothing_makes_a_line_that_makes_no_sense(runs: list[tuple[int, float]]) -> None:
    line = CostLine()
    for rows, took_ns in runs:
        line.observe(rows, took_ns)
    assert line.base_ns >= -1e-6 * abs(line.at(1))
    assert line.row_ns >= 0
    assert 0 <= line.spread <= 1
    assert line.known == bool(runs)


# ---- who is let in ---------------------------------------------------------------------------------------------------


def test_what_finds_nothing_is_let_in_and_leaves_when_it_would_be_late() -> None:
    one = ticket(came=NOW - 5 * MS)
    objective().admit(one, Queue(), NOW)
    assert one.leaves_ns == about(NOW + 95 * MS - 10 * MS)


def test_the_requests_own_deadline_counts_where_it_is_earlier() -> None:
    one = ticket(deadline_ns=NOW + 50 * MS)
    objective().admit(one, Queue(), NOW)
    assert one.leaves_ns == about(NOW + 40 * MS)


def test_an_earlier_end_of_its_wait_stays() -> None:
    one = ticket(waits_until_ns=NOW + MS)
    objective().admit(one, Queue(), NOW)
    assert one.leaves_ns == NOW + MS


@pytest.mark.parametrize(("waiting", "taken"), [(0, True), (30, True), (40, False), (400, False)])
def test_what_would_wait_too_long_is_refused_with_the_wait(waiting: int, taken: bool) -> None:
    known = objective()
    running = [ticket() for _ in range(30)]
    known.begins("slot", running, NOW)  # 39 ms
    if taken:
        known.admit(ticket(), Queue(waiting, 0, 0), NOW)
        return
    said = r'^model "m" would answer in about [\d,.]+ ms, and its objective is 100 ms'
    with pytest.raises(Overloaded, match=said) as refused:
        known.admit(ticket(), Queue(waiting, 0, 0), NOW)
    batches = waiting // 36  # of the 45 ms that one may take
    assert refused.value.retry_after_s == about((39 + 45 * batches) / 1000)
    assert isinstance(refused.value, QueueFull)


@pytest.mark.parametrize("late_ns", [0, 20 * MS, SLO_NS])
@pytest.mark.parametrize("ahead", [(0, 0, 0), (30, 0, 0), (40, 0, 0), (0, 20, 1), (0, 20, 5)])
@pytest.mark.parametrize("busy", [True, False])
def test_who_is_refused_unread_is_who_would_be_refused_with_one_row(
    ahead: tuple[int, int, int], busy: bool, late_ns: int
) -> None:
    known = objective()
    if busy:
        known.begins("slot", [ticket() for _ in range(30)], NOW)
    told = None
    try:
        known.admit(ticket(came=NOW - late_ns), Queue(*ahead), NOW)
    except Overloaded as error:
        told = str(error), error.retry_after_s
    unread = known.refusal(Queue(*ahead), NOW - late_ns, NOW)
    assert told == (None if unread is None else (str(unread), unread.retry_after_s))


def test_slots_share_what_waits() -> None:
    two = objective(slots=2)
    two.begins("one", [ticket() for _ in range(30)], NOW)
    two.admit(ticket(), Queue(40, 0, 0), NOW)


def test_other_buckets_are_waited_for() -> None:
    known = objective()
    known.begins("slot", [ticket()], NOW)
    known.admit(ticket(), Queue(0, 20, 1), NOW)
    with pytest.raises(Overloaded):
        known.admit(ticket(), Queue(0, 20, 5), NOW)


def test_what_was_on_its_way_for_too_long_is_refused_and_never_queued() -> None:
    with pytest.raises(Overloaded):
        objective().admit(ticket(came=NOW - SLO_NS), Queue(), NOW)


def test_a_request_that_takes_too_long_alone_is_let_in_only_where_nothing_is_disturbed() -> None:
    known = objective(slo=20 * MS)
    large = ticket(60)
    known.admit(large, Queue(), NOW)
    assert large.leaves_ns == NOW + 20 * MS
    known.begins("slot", [large], NOW)
    with pytest.raises(Overloaded, match="with fewer rows"):
        known.admit(ticket(60), Queue(), NOW)


def test_a_request_of_many_batches_takes_all_of_them() -> None:
    one = ticket(64 * 3 + 1)
    objective(slo=10_000 * MS, slots=2).admit(one, Queue(), NOW)
    assert one.leaves_ns == about(NOW + 10_000 * MS - (2 * 73 + 10) * MS)


def test_until_something_was_measured_all_are_let_in() -> None:
    known = Objective(Rules("m", SLO_NS, 1, 64, 64), [], ObjectiveMeters(Metrics(), "m"))
    known.begins("slot", [ticket()], NOW)
    known.admit(ticket(), Queue(10_000, 0, 0), NOW)
    known.ran([ticket()], NOW, NOW + 10 * MS)
    with pytest.raises(Overloaded):
        known.admit(ticket(), Queue(10_000, 0, 0), NOW)


def test_threads_that_are_late_are_reckoned_with() -> None:
    known = objective()
    for _ in range(20):
        known.called("slot", NOW)
        known.begins("slot", [ticket()], NOW + 80 * MS)
        known.ended("slot", NOW + 90 * MS)
        known.begins("slot", [], NOW + 90 * MS)
    assert known.wait_ns(Queue(), NOW) > 30 * MS
    with pytest.raises(Overloaded):
        known.admit(ticket(), Queue(20, 0, 0), NOW)


def test_the_more_runs_differ_the_more_cautious() -> None:
    steady, wild = objective(), objective()
    for i in range(60):
        steady.ran([ticket()], NOW, NOW + 10 * MS)
        wild.ran([ticket()], NOW, NOW + (6 + 8 * (i % 2)) * MS)
    assert wild.pace(None).most_rows < steady.pace(None).most_rows


# ---- how far a batch grows -------------------------------------------------------------------------------------------


def test_a_run_takes_its_share_of_the_objective_at_most() -> None:
    pace = objective().pace(None)
    assert pace.run_ns(pace.most_rows) <= SLO_NS * PLANNED_SHARE * RUN_SHARE
    assert pace.run_ns(pace.most_rows + 2) > SLO_NS * PLANNED_SHARE * RUN_SHARE


@pytest.mark.parametrize(("sizes", "most"), [((), 35), ((1, 8, 32, 64), 32), ((64,), 35)])
def test_the_most_rows_are_an_allowed_size(sizes: Any, most: int) -> None:
    assert objective(sizes=sizes).pace(None).most_rows == pytest.approx(most, abs=1)


def test_buckets_have_lines_of_their_own_that_begin_with_the_models() -> None:
    known = objective(slo=10_000 * MS)
    big = ticket(2, size=20, bucket="big")
    known.admit(big, Queue(), NOW)
    assert known.pace("big").run_ns(2) == about(9 * MS + 20 * MS)
    for _ in range(60):
        known.ran([big], NOW, NOW + 58 * MS)
    assert known.pace("big").run_ns(2) == about(58 * MS)
    for i in range(200):  # as many as clients send
        known.admit(ticket(bucket=i), Queue(), NOW)
    assert len(known._lines) <= 64


def test_outcomes_are_counted() -> None:
    metrics = Metrics()
    known = Objective(Rules("m", SLO_NS, 1, 64, 64), [(1, 10.0 * MS)], ObjectiveMeters(metrics, "m"))
    known.ran([ticket(), ticket(came=NOW - SLO_NS)], NOW, NOW + MS)
    known.ran_at_once([NOW, NOW, NOW - SLO_NS], NOW + MS)
    known.left(3)
    with pytest.raises(Overloaded):
        known.admit(ticket(), Queue(10_000, 0, 0), NOW)
    text = metrics.text().decode()
    told = {
        line.split('outcome="')[1].split('"')[0]: line.split()[-1] for line in text.splitlines() if 'outcome="' in line
    }
    assert told == {"met": "3.0", "missed": "2.0", "expired": "3.0", "refused": "1.0"}


# ---- all together: the batcher in simulated time ---------------------------------------------------------------------


COMES = st.tuples(
    st.sampled_from([0, 0, 1000, 50_000, 400_000, 3_000_000]),  # ns after the one before
    st.integers(1, 8),  # rows
    st.integers(0, 2),  # priority
    st.sampled_from([0, 0, 2_000_000, 20_000_000]),  # a deadline of its own
)


@settings(max_examples=40, deadline=None)
@given(
    comes=st.lists(COMES, min_size=1, max_size=60),
    base_ns=st.integers(1, 3_000_000),
    row_ns=st.integers(1, 500_000),
    slo_ms=st.integers(1, 20),
    slots=st.integers(1, 3),
)
def test_no_admitted_request_runs_late_and_no_batch_outgrows_its_earliest_deadline(
    comes: list[Any], base_ns: int, row_ns: int, slo_ms: int, slots: int
) -> None:
    runs: list[Any] = []
    ends: dict[str, int] = {}
    alone: set[str] = set()
    rows_of = {str(i): rows for i, (_, rows, _, _) in enumerate(comes)}
    answers: dict[str, list[Any]] = {name: [] for name in rows_of}
    with World(slots) as world:
        batcher = timed(world, base_ns, row_ns, slots, slo_ms * MS, runs)

        def arrive(name: str, rows: int, priority: int, own_ns: int) -> None:
            now_ns = world.now_ns
            answer = answers[name].append
            deadline_ns = now_ns + own_ns if own_ns else 0
            one = Ticket(batcher, {"name": name}, rows, rows, None, answer, None, deadline_ns, priority, None, now_ns)
            ends[name] = min(now_ns + slo_ms * MS, deadline_ns or NOW)
            if base_ns + row_ns * rows > ends[name] - now_ns:
                alone.add(name)  # taken where nothing else is there, though it is late
            try:
                batcher.submit(one)
            except FastServeError as error:
                answer(error)

        at_ns = 1
        for i, (gap_ns, *rest) in enumerate(comes):
            at_ns += gap_ns
            world.at(at_ns, lambda _, i=i, rest=rest: arrive(str(i), *rest))
        world.run()
    assert all(len(told) == 1 for told in answers.values())
    for began_ns, took_ns, names in runs:
        if alone.isdisjoint(names):
            tolerance_ns = 2 + sum(rows_of[name] for name in names)  # the line has whole nanoseconds
            assert all(began_ns + took_ns <= ends[name] + tolerance_ns for name in names)
    ran = {name for _, _, names in runs for name in names}
    for name, (told,) in answers.items():
        if isinstance(told, FastServeError):
            assert isinstance(told, Overloaded | DeadlineExceeded)
            assert name not in ran or name in alone
