"""The simulator is right where queueing theory knows the answer, and the same every time. No clock is read."""

import numpy as np
import pytest

from bench.simulate.__main__ import fitted, lines
from bench.simulate.outcome import Cost, Record, Simulated, batcher_of, simulate
from bench.simulate.policies import Policy, limits, policies
from bench.simulate.traces import TRACES, Trace, poisson
from bench.simulate.world import World
from fastserve._ext.ticket import Ticket
from fastserve.engine.batcher import Batcher
from fastserve.errors import FastServeError, QueueFull

MS = 1_000_000
SECOND_ROWS = Cost(base_ns=1 * MS, row_ns=0)


def ran(
    per_s: float,
    cost: Cost,
    rows: int = 1,
    delay_ns: int = 0,
    *,
    slots: int = 1,
    deadlines: bool = False,
    seconds: float = 2.0,
) -> Simulated:
    policy = Policy("it", limits(rows, delay_ns), deadlines, True)
    return simulate(poisson(per_s, seconds, 3), policy, cost, slots=slots, slo_ns=20 * MS)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_one_at_a_time_is_an_md1_queue(load: float) -> None:
    """Pollaczek and Khinchine: the mean wait is load / (2 (1 - load)) of a service time."""
    trace = poisson(load * 1000, 10.0, 1)
    taken: list[float] = []
    with World(1) as world:
        free_ns = 0
        for when in trace.times_ns.tolist():  # the same by hand
            begun = max(when, free_ns)
            free_ns = begun + MS
            taken.append(free_ns - when)
        world.run()
    told = simulate(trace, Policy("it", limits(1, 0), False, True), SECOND_ROWS, slots=1, slo_ns=1000 * MS)
    assert told.p50_ms == pytest.approx(np.percentile(taken, 50) / MS, rel=1e-6)
    assert told.p99_ms == pytest.approx(np.percentile(taken, 99) / MS, rel=1e-6)
    assert np.mean(taken) / MS == pytest.approx(1 + load / (2 * (1 - load)), rel=0.1)
    assert (told.good, told.late, told.expired, told.refused) == (len(taken), 0, 0, 0)


def test_slots_run_side_by_side() -> None:
    one, two = ran(1500, SECOND_ROWS), ran(1500, SECOND_ROWS, slots=2)
    assert one.goodput_per_s < 0.2 * 1500  # overloaded: nearly all come too late
    assert two.late == 0
    assert two.p50_ms < 3


def test_batches_form_while_a_run_is_under_way() -> None:
    told = ran(5000, SECOND_ROWS, rows=64)
    assert told.late == 0
    assert 4 < told.mean_rows < 7  # what comes in the 1 ms of a run
    assert told.p99_ms <= 2.01  # the rest of one run, and one's own


def test_a_delay_is_waited_for_and_no_longer() -> None:
    told = ran(10, SECOND_ROWS, rows=64, delay_ns=5 * MS, seconds=20)
    assert told.p50_ms == pytest.approx(6.0)
    assert told.p99_ms <= 7.0


def test_deadlines_keep_an_overloaded_server_useful() -> None:
    without, having = ran(3000, SECOND_ROWS), ran(3000, SECOND_ROWS, deadlines=True)
    assert without.goodput_per_s < 100
    assert having.expired > 0
    assert having.requests == having.good + having.late + having.expired + having.refused
    assert having.goodput_per_s > 5 * without.goodput_per_s


def test_a_full_queue_refuses() -> None:
    told = ran(20_000, SECOND_ROWS, seconds=0.4)
    assert told.refused > 0
    assert told.requests == told.good + told.late + told.refused


@pytest.mark.parametrize("name", sorted(TRACES))
def test_traces_are_the_same_for_a_seed_and_as_many_on_average(name: str) -> None:
    one, same, other = (TRACES[name](1000.0, 20.0, seed) for seed in (1, 1, 2))
    assert (one.times_ns == same.times_ns).all()
    assert len(one.times_ns) != len(other.times_ns) or (one.times_ns != other.times_ns).any()
    assert len(one.times_ns) == pytest.approx(20_000, rel=0.05)
    assert (np.diff(one.times_ns) >= 0).all()


def test_bursts_and_waves_are_no_poisson() -> None:
    def spread(trace: Trace) -> float:
        counts = np.histogram(trace.times_ns, bins=200)[0]
        return float(np.var(counts) / np.mean(counts))  # 1 for Poisson

    assert spread(poisson(1000, 20, 1)) == pytest.approx(1, rel=0.3)
    assert all(spread(TRACES[name](1000.0, 20.0, 1)) > 5 for name in ("bursts", "changing"))


def test_what_is_compared() -> None:
    told = policies(20 * MS)
    assert sum(policy.fixed for policy in told) == 13
    trace = poisson(2000, 0.3, 0)
    outcomes = [simulate(trace, policy, Cost(MS, 100_000), slots=2, slo_ns=20 * MS) for policy in told]
    shown = lines(outcomes)
    assert len(shown) == 4
    assert "1.00x" in shown[0]


def test_with_an_objective_a_changing_load_is_served_better_than_with_any_fixed_setting() -> None:
    cost = Cost(100_000, 900_000)
    slo_ns = 20 * MS
    trace = TRACES["changing"](0.9 * cost.per_s(64, 2), 0.6, 0)
    outcomes = [
        simulate(trace, policy, cost, slots=2, slo_ns=slo_ns) for policy in policies(slo_ns) if not policy.deadlines
    ]
    *others, objective = outcomes
    assert objective.policy == "objective"
    assert (objective.late, objective.expired) == (0, 0)
    assert objective.goodput_per_s > 1.3 * max(one.goodput_per_s for one in others)


@pytest.mark.parametrize("load", [1.5, 10.0])
def test_under_overload_what_is_taken_is_in_time_and_as_much_as_at_the_peak(load: float) -> None:
    cost, slo_ns = Cost(1 * MS, 9 * MS), 200 * MS

    def at(load: float) -> Simulated:
        policy = Policy("objective", limits(64, 0), False, False, objective=True)
        return simulate(poisson(load * cost.per_s(64, 2), 2.0, 1), policy, cost, slots=2, slo_ns=slo_ns)

    peak, told = at(1.0), at(load)
    assert (told.late, told.expired) == (0, 0)
    assert told.refused > 0
    assert told.p99_ms <= slo_ns / MS
    assert told.goodput_per_s > 0.9 * peak.goodput_per_s


def test_a_hot_model_holds_another_up_for_one_of_its_runs_at_most() -> None:
    """R27: within (alone + one run of the hot model's batch) x 1.25."""
    quiet_cost, hot_cost, slo_ns = Cost(1 * MS, 0), Cost(10 * MS, MS // 2), 100 * MS
    policy = Policy("objective", limits(64, 0), False, False, objective=True)

    def p99_ms(*, beside: bool) -> float:
        records: list[Record] = []
        with World(2) as world:
            hot = batcher_of(world, policy, hot_cost, 2, [], slo_ns)
            quiet = batcher_of(world, policy, quiet_cost, 2, [], slo_ns)

            def ask(batcher: Batcher, told: Record) -> None:
                try:
                    batcher.submit(Ticket(batcher, {}, 1, 1, None, told))
                except QueueFull as error:
                    told(error)

            def arrive(_: int) -> None:
                records.append(told := Record(world))
                ask(quiet, told)

            for when in poisson(100, 1.0, 5).times_ns.tolist():
                world.at(when, arrive)
            for when in poisson(6000, 1.0, 6).times_ns.tolist() if beside else ():
                world.at(when, lambda _: ask(hot, Record(world)))
            world.run()
        assert not any(isinstance(one.outcome, FastServeError) for one in records)
        return float(np.percentile([one.answered_ns - one.arrived_ns for one in records], 99)) / MS

    one_run_ms = hot_cost.of(64) / MS
    assert p99_ms(beside=True) <= (p99_ms(beside=False) + one_run_ms) * 1.25


def test_a_line_is_fitted() -> None:
    cost = fitted([(1, 1100.0), (10, 2000.0), (100, 11000.0)])
    assert (cost.base_ns, cost.row_ns) == (pytest.approx(1000), pytest.approx(100))
    assert fitted([(1, 100.0), (2, 200.0), (4, 400.0)]).base_ns == pytest.approx(0, abs=1e-6)


def test_what_a_lane_raises_ends_the_world() -> None:
    def work() -> None:
        raise ValueError("here")

    with World(1) as world:
        world.post(work)
        with pytest.raises(ValueError, match="here"):
            world.run()
