"""`python -m bench.simulate`: traces through the scheduler and the fixed (size, delay) grid; what each served in time.

The run times are given, or measured here on a model with onnxruntime: t(n) = base + row * n.
"""

import argparse
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from bench.simulate.outcome import Cost, Simulated, simulate
from bench.simulate.policies import policies
from bench.simulate.traces import TRACES

MEASURED_ROWS = (1, 2, 4, 8, 16, 32, 64)
MEASURED_S = 0.3
DEFAULT_LOADS = [0.5, 0.9, 1.2]
LARGEST_BATCH = 64


def main() -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description="The scheduler in simulated time.")
    parser.add_argument("--base-us", type=float, default=500.0, help="Of a run, whatever its rows.  [default: 500]")
    parser.add_argument("--row-us", type=float, default=100.0, help="Of each row.  [default: 100]")
    parser.add_argument("--model", type=Path, help="Measure both on this model instead.")
    parser.add_argument("--slots", type=int, default=2, help="Runs at a time.  [default: 2]")
    parser.add_argument("--slo-ms", type=float, default=20.0, help="The objective.  [default: 20]")
    parser.add_argument("--seconds", type=float, default=10.0, help="Of simulated time.  [default: 10]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--load",
        type=float,
        action="append",
        help=f"Share of what the slots can do at best. Repeatable.  {DEFAULT_LOADS}",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    given = parser.parse_args()
    cost = measured(given.model) if given.model else Cost(given.base_us * 1e3, given.row_us * 1e3)
    told = {
        f"{name}, load {load:g}": _compared(name, load, cost, given)
        for load in given.load or DEFAULT_LOADS
        for name in TRACES
    }
    if given.json:
        sys.stdout.buffer.write(msgspec.json.encode({"cost": cost, "traces": told}) + b"\n")
        return
    print(
        f"t(n) = {cost.base_ns / 1e3:,.1f} us + n x {cost.row_ns / 1e3:,.2f} us, {given.slots} slots, {given.slo_ms:g} ms"
    )
    for title, outcomes in told.items():
        print(f"\n{title}: {outcomes[0].requests:,} requests in {given.seconds:g} s")
        print("\n".join(lines(outcomes)))


def _compared(name: str, load: float, cost: Cost, given: argparse.Namespace) -> list[Simulated]:
    trace = TRACES[name](load * cost.per_s(LARGEST_BATCH, given.slots), given.seconds, given.seed)
    slo_ns = round(given.slo_ms * 1e6)
    return [simulate(trace, one, cost, slots=given.slots, slo_ns=slo_ns) for one in policies(slo_ns)]


def lines(outcomes: list[Simulated]) -> list[str]:
    """The best of the grid, and what is no part of it, against that."""
    fixed = [one for one in outcomes if one.policy.startswith("size ")]
    best = max(fixed, key=lambda one: one.goodput_per_s)
    return [
        f"  {one.policy:26} in time {one.goodput_per_s:9,.0f}/s ({one.goodput_per_s / max(best.goodput_per_s, 1e-9):5.2f}x)"
        f"  late {one.late:7,}  expired {one.expired:7,}  refused {one.refused:7,}  p99 {one.p99_ms:9,.2f} ms"
        f"  rows a batch {one.mean_rows:5.1f}"
        for one in [best, *(one for one in outcomes if one not in fixed)]
    ]


def measured(model: Path) -> Cost:
    """t(n) of a model here, one thread: the line through the medians of several sizes."""
    from bench.load import raw_ort

    session = raw_ort.session(model, 1)
    medians = [(rows, _median_ns(session, rows)) for rows in MEASURED_ROWS]
    return fitted(medians)


def fitted(points: list[tuple[int, float]]) -> Cost:
    """The line through (rows, ns) with the least relative error; neither part of it is negative."""
    rows, ns = np.array(points, float).T
    design = np.stack([1 / ns, rows / ns], axis=1)
    (base, row), *_ = np.linalg.lstsq(design, np.ones(len(ns)), rcond=None)
    return Cost(max(0.0, float(base)), max(0.0, float(row)))


def _median_ns(session: object, rows: int) -> float:
    from bench.load import raw_ort

    feed = raw_ort.feed(session, rows)
    times: list[int] = []
    end = time.perf_counter() + MEASURED_S
    while time.perf_counter() < end or len(times) < 3:
        started = time.perf_counter_ns()
        session.run(None, feed)  # type: ignore[attr-defined]
        times.append(time.perf_counter_ns() - started)
    return float(np.median(times))


if __name__ == "__main__":
    main()
