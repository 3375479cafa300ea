"""What the scripts about objectives share: a server of encoders that are configured differently, and open-loop drives of it.

An encoder of 20 layers takes about 10 ms of CPU a row, so that what HTTP costs is a few percent of it.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct

from bench.load import machine
from bench.load.machine import Machine, Moment
from bench.load.servers import ROOT, Server
from fastserve.loadtest.drive import SECOND_NS, Level, Measured, drive
from fastserve.loadtest.neighbours import busy_s
from fastserve.loadtest.session import Inputs, prepare
from fastserve.loadtest.target import Target, find
from tests.support import models

RESULTS = ROOT / "bench" / "results"
LAYERS = 20
SLO_MS = 200.0
CONNECTIONS = 256
FEW = 4
"""Of a closed loop: as many as are served within the objective, so that none is refused and comes again at once."""

WARM_UP_S = 0.5


class Goal(Struct, frozen=True, kw_only=True):
    """What a script was to reach, and each round's score; the page's table of goals shows it. `unit`: "x", or a word."""

    title: str
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"
    scores: list[float]

    def reached(self, score: float) -> bool:
        """Whether `score` is good enough."""
        return score >= (self.at_least or 0.0) and (self.at_most is None or score <= self.at_most)

    def wording(self) -> str:
        """The goal in words."""
        said = [
            f"{word} {bound:g}{'' if self.unit == 'x' else ' '}{self.unit}"
            for word, bound in (("at least", self.at_least), ("at most", self.at_most))
            if bound is not None
        ]
        return " and ".join(said)


class Standing(Struct, kw_only=True):
    """What a results file begins with; what else is in it is for who looks closer."""

    machine: Machine
    begun: Moment
    others_cpu: float
    goals: list[Goal]


def read(path: Path) -> Standing | None:
    """What a script has written there; None where it was not run."""
    return msgspec.json.decode(path.read_bytes(), type=Standing) if path.exists() else None


def write(path: Path, goals: list[Goal], others_cpu: float, **details: object) -> None:
    """Write and print the goals, with what they were made of. `others_cpu`: the part that others used meanwhile."""
    for goal in goals:
        lowest, highest = min(goal.scores), max(goal.scores)
        print(f"{goal.title}: {median(goal.scores):.2f} {goal.unit} ({lowest:.2f} .. {highest:.2f}; {goal.wording()})")
    told = {"machine": machine.here(""), "begun": machine.now(), "others_cpu": others_cpu, "goals": goals, **details}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def others_of(drives: Iterable["Told"]) -> float:
    """What others used of the CPU, in the middle of these drives."""
    return median(one.others_cpu for one in drives)


class Told(Struct, frozen=True, kw_only=True):
    """One drive. `goodput_per_s`: answers within the objective, counted from when they were meant to be sent."""

    name: str
    rate: float
    goodput_per_s: float
    statuses: dict[int, int]
    failures: dict[str, int]
    p50_ms: float
    p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float
    others_cpu: float


def served(folder: Path, configured: dict[str, str], layers: int = LAYERS) -> Server:
    """A server of encoders; `configured`: by name, the lines of each one's configuration."""
    model = models.encoder(layers)
    for name in configured:
        models.save(model, folder / "models" / name / "1")
    config = folder / "fastserve.toml"
    tables = [f'[[models]]\nname = "{name}"\n{lines}\n' for name, lines in configured.items()]
    config.write_text('[repository]\npath = "models"\n\n' + "\n".join(tables))
    return Server("fastserve", ("fastserve", "serve", str(config), "--port", "{port}"), "/readyz")


class Driven:
    """One of its models, and requests for it."""

    def __init__(self, server: Server, model: str, slo_ms: float, rows: int = 1) -> None:
        self._server = server
        self._model = model
        self._slo_ms = slo_ms
        self.target: Target = find(server.url(""), env={})
        self.requests = prepare(self.target, Inputs(model=model, rows=rows)).requests

    def closed_per_s(self, seconds: float) -> float:
        """What it answers in a closed loop."""
        return self._drive(Level(connections=FEW, duration_ns=round(seconds * SECOND_NS))).per_s

    def open(
        self, name: str, rate: float, seconds: float, times_ns: tuple[int, ...] = (), warmup_s: float = WARM_UP_S
    ) -> Told:
        """One drive in an open loop: Poisson at `rate`, or as listed."""
        level = Level(
            connections=CONNECTIONS,
            rate=rate,
            times_ns=times_ns,
            duration_ns=round(seconds * SECOND_NS),
            warmup_ns=round(warmup_s * SECOND_NS),
        )
        busy, ours = busy_s(), self._cpu_s()
        done = self._drive(level)
        spent = self._cpu_s() - ours
        others = max(0.0, (busy_s() - busy - spent) / ((seconds + warmup_s) * machine.CORES))
        told = told_of(name, done, self._slo_ms, others)
        print(
            f"{name} at {rate:,.0f}/s: {told.goodput_per_s:,.1f}/s in time, p99 {told.p99_ms:,.0f} ms, refused"
            f" {told.statuses.get(429, 0):,} (p99 {told.refused_p99_ms:.1f} ms), others' CPU {others:.0%}",
            flush=True,
        )
        return told

    def _cpu_s(self) -> float:
        """Of the server and of this process, which is the generator."""
        return self._server.cpu_s() + time.process_time()

    def _drive(self, level: Level) -> Measured:
        return drive(self.target, self.requests, level, lambda _: None)


def told_of(name: str, done: Measured, slo_ms: float, others_cpu: float) -> Told:
    """What is kept of a drive."""
    return Told(
        name=name,
        rate=done.level.rate or 0.0,
        goodput_per_s=in_time(done, slo_ms) / done.elapsed_s,
        statuses=done.statuses,
        failures=done.failures,
        p50_ms=done.latency.quantile(0.5) / 1e6,
        p99_ms=done.latency.quantile(0.99) / 1e6,
        refused_p50_ms=done.failed_latency.quantile(0.5) / 1e6,
        refused_p99_ms=done.failed_latency.quantile(0.99) / 1e6,
        others_cpu=others_cpu,
    )


def in_time(done: Measured, slo_ms: float) -> int:
    """Good answers within the objective, counted from when they were meant to be sent."""
    values, counts = done.latency.buckets()
    return sum(int(count) for value, count in zip(values, counts, strict=True) if value <= slo_ms * 1e6)
