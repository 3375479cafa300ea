"""`python -m bench.load.overload`: what becomes of requests when ten times as many come as can be served.

An encoder of about 10 ms a row with an objective; a generator in an open loop, so that a slow server is not spared. First
the highest goodput of a few rates, then the overload, then half of what it can do, to see how long it takes to recover.
"""

import argparse
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.load import machine
from bench.load.servers import ROOT, Server
from fastserve.loadtest.drive import SECOND_NS, Level, Measured, drive
from fastserve.loadtest.session import Inputs, prepare
from fastserve.loadtest.target import Target, find
from tests.support import models

RESULTS = ROOT / "bench" / "results" / "overload.json"
LAYERS = 20
SLO_MS = 200.0
RATES = (0.8, 1.0, 1.2, 1.5)
"""Of what a closed loop gets, in search of the peak."""

OVERLOAD = 10.0
GOALS = {"goodput of peak": 0.9, "p99 accepted ms": SLO_MS, "p99 refused ms": 5.0, "recovery s": 2.0}
CONNECTIONS = 256
FEW = 4
"""Of the closed loop: as many as are served within the objective, so that none is refused and comes again at once."""


class Told(Struct, frozen=True, kw_only=True):
    """One drive. `goodput_per_s`: answers within the objective."""

    rate: float
    goodput_per_s: float
    statuses: dict[int, int]
    failures: dict[str, int]
    p50_ms: float
    p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float


def main() -> None:
    """Parse, measure, tell, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.load.overload", description="Ten times too much load.")
    parser.add_argument("--seconds", type=float, default=8.0, help="Of one drive.  [default: 8]")
    parser.add_argument("--slo-ms", type=float, default=SLO_MS, help=f"The objective.  [default: {SLO_MS:g}]")
    given = parser.parse_args()
    machine.keep_to_two_cores()
    with (
        tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder,
        served(Path(folder), given.slo_ms, LAYERS) as server,
    ):
        target = find(server.url(""), env={})
        requests = prepare(target, Inputs()).requests
        most = _drive(target, requests, None, given.seconds).per_s
        tried = [_told(_drive(target, requests, most * share, given.seconds), given.slo_ms) for share in RATES]
        peak = max(one.goodput_per_s for one in tried)
        over = _told(_drive(target, requests, OVERLOAD * most, given.seconds), given.slo_ms)
        recovery_s = _recovery_s(_drive(target, requests, 0.5 * most, 5.0, warmup_s=0.0))
    reached = {
        "goodput of peak": over.goodput_per_s / peak,
        "p99 accepted ms": over.p99_ms,
        "p99 refused ms": over.refused_p99_ms,
        "recovery s": recovery_s,
    }
    for name, value in reached.items():
        print(f"{name}: {value:.2f} (goal {GOALS[name]:g})")
    told = {"machine": machine.here(""), "begun": machine.now(), "slo_ms": given.slo_ms, "closed_loop_per_s": most}
    told |= {"tried": tried, "peak_per_s": peak, "overload": over, "reached": reached}
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def served(folder: Path, slo_ms: float, layers: int) -> Server:
    """A server of the encoder alone, with that objective."""
    models.save(models.encoder(layers), folder / "models" / "encoder" / "1")
    config = folder / "fastserve.toml"
    config.write_text(f'[repository]\npath = "models"\n\n[[models]]\nname = "encoder"\nslo_ms = {slo_ms}\n')
    return Server("fastserve", ("fastserve", "serve", str(config), "--port", "{port}"), "/readyz")


def _drive(
    target: Target, requests: list[bytes], rate: float | None, seconds: float, warmup_s: float = 1.0
) -> Measured:
    level = Level(
        connections=FEW if rate is None else CONNECTIONS,
        rate=rate,
        duration_ns=round(seconds * SECOND_NS),
        warmup_ns=round(warmup_s * SECOND_NS),
    )
    return drive(target, requests, level, lambda _: None)


def _told(done: Measured, slo_ms: float) -> Told:
    told = Told(
        rate=done.level.rate or 0.0,
        goodput_per_s=in_time(done, slo_ms) / done.elapsed_s,
        statuses=done.statuses,
        failures=done.failures,
        p50_ms=done.latency.quantile(0.5) / 1e6,
        p99_ms=done.latency.quantile(0.99) / 1e6,
        refused_p50_ms=done.failed_latency.quantile(0.5) / 1e6,
        refused_p99_ms=done.failed_latency.quantile(0.99) / 1e6,
    )
    print(told, flush=True)
    return told


def in_time(done: Measured, slo_ms: float) -> int:
    """Good answers within the objective, counted from when they were meant to be sent."""
    values, counts = done.latency.buckets()
    return sum(int(count) for value, count in zip(values, counts, strict=True) if value <= slo_ms * 1e6)


def _recovery_s(done: Measured) -> float:
    """Until the last piece of the drive in which anything was refused."""
    failing = [at for at, (_, failed, _) in enumerate(done.slices) if failed]
    return (failing[-1] + 1) * done.slice_s if failing else 0.0


if __name__ == "__main__":
    main()
