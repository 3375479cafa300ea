"""One soak: the server, its traffic, and a look at it each second."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.traffic import Asking, Leaving, Swapping, Traffic, Writing
from tests.soak.watch import Sample, Verdict, family, from_to, look, p99_ms, slope_per_hour
from tests.support import models
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.wire import Wire

LONG_S = 1800.0
"""From here on a run says something about slopes."""

TRIED_S = 2.0
"""So long the server is asked as fast as it answers, to know what a load of 70 % is."""

LOAD = 0.7


def soak(
    folder: Path,
    *,
    seconds: float,
    clients: int = 8,
    options: tuple[str, ...] = (),
    swap_every_s: float = 2.0,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Verdict, list[Sample]]:
    """Run it in `folder`; what it came to, and what was seen each second."""
    models.save(times(1), folder / "models" / "m" / "1")
    arguments = (str(folder / "models"), "--poll-seconds", "0.2", "--log-dir", str(folder / "log"), *options)
    with ServerProcess(*arguments) as server:
        pause_s = _pause(server, clients)
        over = threading.Event()
        asking = [Asking(server, over, pause_s) for _ in range(clients)]
        swapping = Swapping(server, over, folder / "models" / "m", swap_every_s)
        leaving, writing = Leaving(server, over), Writing(server, over, 0.02)
        logs = _takes_records(server)
        traffic: list[Traffic] = [*asking, swapping, leaving, *([writing] if logs else [])]
        samples = _watched(server, traffic, over, seconds, tell)
        alive = len(family(server.process.pid))
        output = server.output
    wrong = [what for one in traffic for what in one.wrong]
    wrong += ["a traceback in the server's output"] if "Traceback" in output else []
    wrong += [f"{samples[-1].processes} processes at the end, {alive} before"] if alive < samples[0].processes else []
    verdict = Verdict(
        seconds=seconds,
        requests=sum(one.done for one in asking),
        reloads=swapping.done,
        departures=leaving.done,
        records=writing.done if logs else 0,
        mb_per_hour=slope_per_hour(samples),
        memory_mb=(samples[0].memory_mb, samples[-1].memory_mb),
        descriptors=from_to(samples, "descriptors"),
        threads=from_to(samples, "threads"),
        p99_ms=p99_ms([one for each in asking for one in each.times]),
        wrong=tuple(wrong),
    )
    return verdict, samples


def _watched(
    server: ServerProcess, traffic: list[Traffic], over: threading.Event, seconds: float, tell: Callable[[str], None]
) -> list[Sample]:
    began = time.monotonic()
    samples = []
    for one in traffic:
        one.start()
    try:
        while time.monotonic() - began < seconds:
            over.wait(min(1.0, seconds / 20))
            samples.append(look(server.process.pid, began))
            if len(samples) % 60 == 0:
                last = samples[-1]
                tell(f"{last.at_s:.0f} s: {last.memory_mb:.1f} MB, {last.descriptors} fds, {last.threads} threads")
    finally:
        over.set()
        for one in traffic:
            one.join()
    return samples


def _takes_records(server: ServerProcess) -> bool:
    with Wire((server.host, server.port)) as wire:
        return wire.post("/v1/log", b"{}", "Content-Type: application/json").status == 400


def _pause(server: ServerProcess, clients: int) -> float:
    """What each client waits between two requests, so that all of them are 70 % of what the server can take from them."""
    over = threading.Event()
    asking = [Asking(server, over, 0.0) for _ in range(clients)]
    for one in asking:
        one.start()
    time.sleep(TRIED_S)
    over.set()
    for one in asking:
        one.join()
        assert not one.wrong, one.wrong
    took = TRIED_S * clients / max(1, sum(one.done for one in asking))
    return took * (1 / LOAD - 1)
