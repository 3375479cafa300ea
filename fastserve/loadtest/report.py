"""What is told of a load test, as plain values: what --json writes, and what the table and the page are made of. Pure."""

import os
import platform
from collections.abc import Sequence

from msgspec import Struct

from fastserve import __version__
from fastserve._ext.loadgen import HdrHistogram
from fastserve.loadtest.batches import Batches
from fastserve.loadtest.drive import Measured
from fastserve.loadtest.slo import Objective, Verdict, verdicts

MS = 1e-6
PERCENTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999}


class Latency(Struct, frozen=True, kw_only=True):
    """A distribution, in milliseconds."""

    count: int
    mean: float
    least: float
    p50: float
    p75: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    p99_99: float
    most: float


class Slice(Struct, frozen=True, kw_only=True):
    """A piece of the run, by when its answers came."""

    at_s: float
    good: int
    failed: int
    most_ms: float


class Run(Struct, frozen=True, kw_only=True):
    """One level. `latency_ms` counts from when a request was meant to be sent, `service_ms` from when it was."""

    mode: str
    connections: int
    rate: float | None
    seconds: float
    requests: int
    answered: int
    failed: int
    per_s: float
    rows_per_s: float
    latency_ms: Latency
    service_ms: Latency
    late_ms: Latency
    statuses: dict[str, int]
    failures: dict[str, int]
    reasons: dict[str, str]
    batches: Batches | None
    connections_made: int
    sent_bytes: int
    received_bytes: int
    unfinished: int
    interrupted: bool
    verdicts: list[Verdict]
    histogram_us: list[tuple[float, int]]
    timeline: list[Slice]

    @property
    def met(self) -> bool:
        """Whether every objective was."""
        return all(verdict.met for verdict in self.verdicts)


class Request(Struct, frozen=True, kw_only=True):
    """What was sent, again and again."""

    protocol: str
    path: str
    model: str
    rows: int
    bodies: int
    mean_bytes: float


class Machine(Struct, frozen=True, kw_only=True):
    """What drove. A server on the same machine shares it."""

    cpus: int
    platform: str
    python: str


class Sweep(Struct, frozen=True, kw_only=True):
    """The search for the highest rate: None where no rate met the objectives."""

    highest_rate: float | None
    tried: list[float]


class Report(Struct, frozen=True, kw_only=True):
    """All of it. `met`: None where there is no objective. `format` changes when a field changes its meaning."""

    format: int = 1
    fastserve: str = __version__
    started: str
    url: str
    seed: int
    request: Request
    machine: Machine
    objectives: list[str]
    runs: list[Run]
    sweep: Sweep | None
    met: bool | None


def machine() -> Machine:
    """This one."""
    return Machine(cpus=len(os.sched_getaffinity(0)), platform=platform.platform(), python=platform.python_version())


def latency_of(histogram: HdrHistogram) -> Latency:
    """The usual percentiles of a histogram in ns."""
    found = {name: histogram.quantile(share) * MS for name, share in PERCENTILES.items()}
    return Latency(
        count=histogram.count,
        mean=histogram.mean * MS,
        least=histogram.least * MS,
        most=histogram.most * MS,
        **found,
    )


def run_of(measured: Measured, rows: int, batches: Batches | None, objectives: Sequence[Objective]) -> Run:
    """One level, told."""
    level = measured.level
    highest, counts = measured.latency.buckets()
    return Run(
        mode="closed" if level.rate is None else "open",
        connections=level.connections,
        rate=level.rate,
        seconds=measured.elapsed_s,
        requests=measured.requests,
        answered=measured.good,
        failed=measured.bad,
        per_s=measured.per_s,
        rows_per_s=measured.per_s * rows,
        latency_ms=latency_of(measured.latency),
        service_ms=latency_of(measured.service),
        late_ms=latency_of(measured.late),
        statuses={str(status): count for status, count in measured.statuses.items()},
        failures=measured.failures,
        reasons={**{str(status): text for status, text in measured.samples.items()}, **measured.reasons},
        batches=batches,
        connections_made=measured.connections,
        sent_bytes=measured.sent_bytes,
        received_bytes=measured.received_bytes,
        unfinished=measured.unfinished,
        interrupted=measured.interrupted,
        verdicts=verdicts(objectives, measured.latency, measured.bad, measured.per_s),
        histogram_us=[(value / 1000, count) for value, count in zip(highest.tolist(), counts.tolist(), strict=True)],
        timeline=[
            Slice(at_s=round(at * measured.slice_s, 6), good=good, failed=failed, most_ms=most * MS)
            for at, (good, failed, most) in enumerate(measured.slices)
        ],
    )
