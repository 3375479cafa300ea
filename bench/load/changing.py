"""`python -m bench.load.changing`: is what the simulator says of a changing load true of a server?

An encoder of about 10 ms a row. First t(n) as runs take it in the server on this machine; then, for each round, one trace of
arrivals in waves, through the simulator (the objective, and the grid of fixed sizes and delays) and then, the same
arrivals, through a server: the objective, and the fixed settings that the simulator found best.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from bench.load import machine
from bench.load.open_loop import RESULTS, SLO_MS, Driven, Goal, Told, others_of, served, write
from bench.simulate.__main__ import LARGEST_BATCH, fitted
from bench.simulate.outcome import Cost, Simulated, simulate
from bench.simulate.policies import Policy, limits, policies
from bench.simulate.traces import Trace, changing
from fastserve.engine.limits import Limits
from fastserve.loadtest.drive import SECOND_NS, Level, drive

FILE = RESULTS / "changing.json"
SLOTS = 2
LOAD = 0.9
"""Of what the slots can do, on average: between a fifth and nearly twice that."""

LEARNT_FROM = (1, 2, 4, 8, 16)
"""Rows of a request: each is a run of its own."""

LARGE = 16
LEAST_RUNS = 5
FIXED = 2
"""Settings of the grid that are tried live: the best ones, each of another size."""

OBJECTIVE = "objective"


def main() -> None:
    """Parse, measure, simulate, drive, tell, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.load.changing", description="The simulator's word, live.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0, help="Of one drive, three waves.  [default: 12]")
    parser.add_argument("--load", type=float, default=LOAD, help=f"Of the capacity, on average.  [default: {LOAD:g}]")
    given = parser.parse_args()
    machine.keep_to_two_cores()
    slo_ns = round(SLO_MS * 1e6)
    cost = _measured()
    capacity = cost.per_s(LARGEST_BATCH, SLOTS)
    print(f"t(n) = {cost.base_ns / 1e6:.2f} ms + n x {cost.row_ns / 1e6:.2f} ms: {capacity:,.0f}/s at best", flush=True)
    traces = [changing(given.load * capacity, given.seconds, seed) for seed in range(given.rounds)]
    simulated = [_simulated(trace, cost, slo_ns) for trace in traces]
    chosen = _best(simulated, slo_ns)
    live = _live(traces, chosen)
    drives = [one for told in live for one in told.values()]
    write(FILE, _goals(simulated, live, given.load), others_of(drives), cost=cost, simulated=simulated, live=live)


def _measured() -> Cost:
    """What runs of each size take in the server, both slots at work, as its statistics tell; and, for each row, what it takes
    beside its run, on the same cores: to be read, answered and generated."""
    configured = {"m": "", "large": _lines(limits(LARGE, 0))}
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder, served(Path(folder), configured) as server:
        for rows in LEARNT_FROM:
            driven = Driven(server, "m", SLO_MS, rows)
            level = Level(connections=SLOTS, duration_ns=round(1.5 * SECOND_NS), warmup_ns=0)
            drive(driven.target, driven.requests, level, lambda _: None)
        told = msgspec.json.decode(driven.target.ask("GET", "/v2/models/m/stats").body)
        many = Level(connections=4 * LARGE, duration_ns=4 * SECOND_NS)
        large = Driven(server, "large", SLO_MS)
        per_s = drive(large.target, large.requests, many, lambda _: None).per_s
    sizes = [(one["batch_size"], one["compute_infer"]) for one in told["model_stats"][0]["batch_stats"]]
    cost = fitted([(rows, run["ns"] / run["count"]) for rows, run in sizes if run["count"] >= LEAST_RUNS])
    beside_ns = max(0.0, SLOTS / per_s * 1e9 - cost.of(LARGE) / LARGE)
    return Cost(cost.base_ns, cost.row_ns + beside_ns)


def _simulated(trace: Trace, cost: Cost, slo_ns: int) -> list[Simulated]:
    compared = [one for one in policies(slo_ns) if one.fixed or one.objective]
    return [simulate(trace, one, cost, slots=SLOTS, slo_ns=slo_ns) for one in compared]


def _best(simulated: list[list[Simulated]], slo_ns: int) -> list[Policy]:
    """The fixed settings with the highest goodput over all rounds, each of another size."""
    goodput: dict[str, float] = {}
    for one in (one for told in simulated for one in told):
        goodput[one.policy] = goodput.get(one.policy, 0.0) + one.goodput_per_s
    fixed = sorted((one for one in policies(slo_ns) if one.fixed), key=lambda one: -goodput[one.name])
    by_size = {one.limits.max_batch_rows: one for one in reversed(fixed)}
    return sorted(by_size.values(), key=lambda one: -goodput[one.name])[:FIXED]


def _live(traces: list[Trace], chosen: list[Policy]) -> list[dict[str, Told]]:
    names = {"objective": OBJECTIVE, **{f"fixed{at}": policy.name for at, policy in enumerate(chosen)}}
    configured = {"objective": f"slo_ms = {SLO_MS:g}"}
    configured |= {f"fixed{at}": _lines(policy.limits) for at, policy in enumerate(chosen)}
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder, served(Path(folder), configured) as server:
        driven = {model: Driven(server, model, SLO_MS) for model in configured}
        for one in driven.values():
            one.closed_per_s(1.0)
        return [_round(driven, names, trace, number) for number, trace in enumerate(traces)]


def _lines(kept: Limits) -> str:
    """Batches as large as they get, up to that size."""
    rows, delay_us = kept.max_batch_rows, kept.max_queue_delay_ns // 1000
    return f"max_batch_rows = {rows}\npreferred_batch_rows = [{rows}]\nmax_queue_delay_us = {delay_us}"


def _round(driven: dict[str, Driven], names: dict[str, str], trace: Trace, number: int) -> dict[str, Told]:
    models = [*driven]
    turn = number % len(models)
    times = tuple(trace.times_ns.tolist())
    rate = len(times) / trace.seconds
    done = {}
    for model in models[turn:] + models[:turn]:
        done[names[model]] = driven[model].open(names[model], rate, trace.seconds, times, warmup_s=0.0)
    return done


def _goals(simulated: list[list[Simulated]], live: list[dict[str, Told]], load: float) -> list[Goal]:
    foretold = [_ratio({one.policy: one for one in told}) for told in simulated]
    seen = [_ratio(told) for told in live]
    confirmed = [live_one / simulated_one for live_one, simulated_one in zip(seen, foretold, strict=True)]
    title = (
        f"goodput within {SLO_MS:g} ms under a changing Poisson load, {load:g} of capacity on average, encoder of about 10 ms"
        " a row: against the best fixed (size, delay), simulated with t(n) measured here"
    )
    return [
        Goal(title=title, at_least=1.3, scores=foretold),
        Goal(title="the same arrivals, live", at_least=1.3, scores=seen),
        Goal(title="the same: live against simulated", at_least=0.8, at_most=1.2, scores=confirmed),
    ]


def _ratio(told: dict[str, Any]) -> float:
    fixed = max(one.goodput_per_s for name, one in told.items() if name != OBJECTIVE)
    return float(told[OBJECTIVE].goodput_per_s / max(fixed, 1e-9))


if __name__ == "__main__":
    main()
