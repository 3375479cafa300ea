"""Rounds: every contender is driven in each of them, in an order that rotates, so that no one gets the quiet minute.

Thread: one. Bounded: every drive, start and stop has a time limit, and what was started is stopped.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import msgspec

from bench.load import machine, wrk
from bench.load.cells import Cell
from bench.load.contenders import CONTENDERS, RAW, STORES, server
from bench.load.machine import Patience
from bench.load.results import Measured, Round
from bench.load.servers import ROOT, Driven
from bench.load.workload import Workload
from bench.load.wrk import Drive, Figures
from fastserve.loadtest.neighbours import DISTURBED_SHARE, busy_s

WARM_UP_S = 1.0
BESIDE_LEAD_S = 0.5
RAW_LIMIT_S = 120.0
RAW_SHARE = 2
"""onnxruntime alone has several settings that are measured: each gets this part of a drive's time."""


class Stage:
    """The servers of one cell, up and checked."""

    def __init__(
        self, cell: Cell, workloads: dict[str, Workload], servers: dict[str, Driven], seconds: float, patience: Patience
    ) -> None:
        self._cell = cell
        self._main = workloads[cell.workload]
        self._beside = workloads.get(cell.beside)
        self._servers = servers
        self._seconds = seconds
        self._patience = patience

    def check(self) -> tuple[str, ...]:
        """Every contender answers every body rightly. Raises RuntimeError.

        Answers the other servers that do; those that do not are left out: they may not have the model, or the protocol.
        """
        others = []
        for name, served in list(self._servers.items()):
            try:
                for workload in filter(None, (self._main, self._beside)):
                    workload.check(served, CONTENDERS[name].answer(workload.body) if name in CONTENDERS else None)
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                if name in CONTENDERS:
                    raise
                print(f"{self._cell.name}: without {name}: {error}", flush=True)
                del self._servers[name]
            else:
                others += [] if name in CONTENDERS else [name]
        return tuple(others)

    def warm_up(self) -> None:
        """A second each, so that the first round does not pay for what is only done once."""
        for served in self._servers.values():
            self._drive_one(served, self._main, WARM_UP_S).figures()

    def round(self, order: list[str]) -> Round:
        """Drive everybody once."""
        done = Round(order=order, figures={}, beside={}, notes={})
        for name in order:
            self._patience.wait()
            if name == RAW:
                done.figures[name], done.notes[name] = _raw(self._main, self._seconds)
            elif name in STORES:
                done.figures[name] = _store(STORES[name], self._seconds)
            else:
                self._drive(name, done)
            done.figures[name].disturbed = done.figures[name].others_cpu > DISTURBED_SHARE
        return done

    def _drive_one(self, served: Driven, workload: Workload, seconds: float) -> Drive:
        url = served.url(workload.path)
        return Drive(url, workload.body_file, workload.headers, connections=self._cell.connections, seconds=seconds)

    def _drive(self, name: str, done: Round) -> None:
        served = self._servers[name]
        busy, ours = busy_s(), served.cpu_s() + wrk.generators_cpu_s()
        cpu_s, started = served.cpu_s(), time.monotonic()
        beside = None
        if self._beside is not None:
            beside = self._drive_one(served, self._beside, self._seconds + 2 * BESIDE_LEAD_S)
            time.sleep(BESIDE_LEAD_S)
        done.figures[name] = figures = self._drive_one(served, self._main, self._seconds).figures()
        if beside is not None:
            done.beside[name] = beside.figures()
        figures.cpu_us = (served.cpu_s() - cpu_s) / max(1, figures.answers) * 1e6
        spent = served.cpu_s() + wrk.generators_cpu_s() - ours
        available = (time.monotonic() - started) * machine.CORES
        figures.others_cpu = max(0.0, (busy_s() - busy - spent) / available)


def measure(
    cell: Cell,
    workloads: dict[str, Workload],
    rounds: int,
    seconds: float,
    patience: Patience,
    others: Mapping[str, str] | None = None,
) -> Measured:
    """`cell`, over so many rounds of so many seconds a contender. `others`: further servers by name, their "host:port"."""
    begun = machine.now()
    done = []
    with _stage(cell, workloads, seconds, patience, others or {}) as stage:
        names = (*cell.contenders, *stage.check())
        stage.warm_up()
        for number in range(rounds):
            turn = number % len(names)
            order = [*names[turn:], *names[:turn]]
            done.append(stage.round(order if number // len(order) % 2 == 0 else order[::-1]))
            _say(cell, number, done[-1])
    return Measured(seconds=seconds, machine=machine.here(wrk.version()), begun=begun, rounds=done)


@contextmanager
def _stage(
    cell: Cell, workloads: dict[str, Workload], seconds: float, patience: Patience, others: Mapping[str, str]
) -> Iterator[Stage]:
    models = workloads[cell.workload].repository
    with ExitStack() as stack:
        names = [name for name in cell.contenders if name in CONTENDERS]
        servers: dict[str, Driven] = {name: stack.enter_context(server(name, models)) for name in names}
        for name, address in others.items():
            host, _, port = address.rpartition(":")
            servers[name] = Driven(name, host, int(port))
        yield Stage(cell, workloads, servers, seconds, patience)


def _raw(workload: Workload, seconds: float) -> tuple[Figures, str]:
    """onnxruntime's best setting, and which one it was."""
    busy, ours, started = busy_s(), wrk.generators_cpu_s(), time.monotonic()
    command = [sys.executable, "-m", "bench.load.raw_ort", str(workload.model_file), str(seconds / RAW_SHARE)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=RAW_LIMIT_S)
    settings = msgspec.json.decode(told.stdout, type=dict[str, dict[str, float]])
    best = max(settings, key=lambda name: settings[name]["rows_per_s"])
    figures = settings[best]
    spent = busy_s() - busy - (wrk.generators_cpu_s() - ours)
    row_us = 1e6 / figures["rows_per_s"]
    return Figures(
        answers=round(figures["rows_per_s"] * seconds / RAW_SHARE),
        errors=0,
        per_s=figures["rows_per_s"],
        p50_us=row_us,
        p90_us=row_us,
        p99_us=row_us,
        max_us=row_us,
        cpu_us=figures["cpu_us_per_row"],
        others_cpu=max(0.0, spent / ((time.monotonic() - started) * machine.CORES)),
    ), best


def _store(kind: str, seconds: float) -> Figures:
    """A store without a server."""
    busy, ours, started = busy_s(), wrk.generators_cpu_s(), time.monotonic()
    command = [sys.executable, "-m", "bench.load.stores", kind, str(seconds)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=RAW_LIMIT_S)
    figures = msgspec.json.decode(told.stdout, type=Figures)
    spent = busy_s() - busy - (wrk.generators_cpu_s() - ours)
    figures.others_cpu = max(0.0, spent / ((time.monotonic() - started) * machine.CORES))
    return figures


def _say(cell: Cell, number: int, done: Round) -> None:
    score = cell.score(done.figures)
    print(f"{cell.name} round {number + 1}: {score:.2f} {cell.unit}  (goal: {cell.wording()})", flush=True)
    for name in (*cell.contenders, *(name for name in done.order if name not in cell.contenders)):
        figures = done.figures[name]
        print(
            f"    {name:28} {figures.per_s:9,.0f}/s  p50 {figures.p50_us:8,.0f} us  p99 {figures.p99_us:8,.0f} us"
            f"  cpu {figures.cpu_us:7,.1f} us  errors {figures.errors}  others' cpu {figures.others_cpu:.0%}"
            f"  {done.notes.get(name, '')}",
            flush=True,
        )
