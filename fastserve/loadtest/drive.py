"""One level of load: so many connections or such a rate, warmed up, measured, and what became of it.

Thread: the caller's watches; each driver runs on one of its own. Bounded: a run takes its duration and the timeout at most.
"""

import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from fastserve._ext.loadgen import Driver, HdrHistogram
from fastserve.loadtest.target import LoadTestError, Target

SECOND_NS = 1_000_000_000
LOOK_EVERY_S = 0.1
SPARE_FILES = 64


class Level(Struct, frozen=True, kw_only=True):
    """How hard to drive. `rate` None: a closed loop over `connections`; else arrivals a second, over as many at most.

    `times_ns`: when they arrive instead, in order, `rate` on average; the warm-up is at that rate.
    """

    connections: int
    rate: float | None = None
    poisson: bool = True
    duration_ns: int = 10 * SECOND_NS
    max_requests: int = 0
    warmup_ns: int = SECOND_NS
    timeout_ns: int = 30 * SECOND_NS
    seed: int = 0
    threads: int = 1
    times_ns: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.connections} connections" if self.rate is None else f"{self.rate:,.0f}/s"


class Moment(Struct, frozen=True):
    """A look while it runs. `share`: how much of the level is done, 0 to 1."""

    phase: str
    share: float
    good: int
    bad: int
    per_s: float


class Measured(Struct, kw_only=True):
    """What became of every request of a level. Histograms are in ns; `slices`: good, failed and longest, in order."""

    level: Level
    elapsed_s: float
    per_s: float
    statuses: dict[int, int]
    failures: dict[str, int]
    reasons: dict[str, str]
    samples: dict[int, str]
    latency: HdrHistogram
    service: HdrHistogram
    failed_latency: HdrHistogram
    late: HdrHistogram
    sent_bytes: int
    received_bytes: int
    connections: int
    unfinished: int
    slice_s: float
    slices: list[tuple[int, int, int]]
    interrupted: bool

    @property
    def good(self) -> int:
        """2xx answers."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    @property
    def bad(self) -> int:
        """Every other outcome."""
        return sum(self.statuses.values()) - self.good + sum(self.failures.values())

    @property
    def requests(self) -> int:
        """All outcomes."""
        return self.good + self.bad


Watch = Callable[[Moment], None]


def drive(
    target: Target,
    requests: Sequence[bytes],
    level: Level,
    watch: Watch,
    before: Callable[[], None] | None = None,
    *,
    keep_alive: bool = True,
) -> Measured:
    """Drive one level; `before` is called between the warm-up and what is measured.

    KeyboardInterrupt ends it early, and what was measured until then is the answer.
    """
    allow_files(level.connections)
    threads = min(level.threads, level.connections, level.max_requests or level.connections)
    parts = [_part(level, at, threads) for at in range(threads)]
    drivers = [_driver(target, requests, part.connections, keep_alive) for part in parts]
    interrupted = False
    if level.warmup_ns:
        warm = [{"duration_ns": level.warmup_ns, "per_s": (part.rate or 0.0)} for part in parts]
        interrupted = _run(drivers, parts, warm, f"{level.text}: warm-up", level.warmup_ns / SECOND_NS, watch)
    if before is not None:
        before()
    if not interrupted:
        plans = [
            {
                "duration_ns": part.duration_ns,
                "max_requests": part.max_requests,
                "per_s": part.rate or 0.0,
                "times_ns": np.array(part.times_ns, np.int64) if part.times_ns else None,
            }
            for part in parts
        ]
        interrupted = _run(drivers, parts, plans, level.text, level.duration_ns / SECOND_NS, watch)
    return _merged(level, [driver.counts() for driver in drivers], interrupted)


def _driver(target: Target, requests: Sequence[bytes], connections: int, keep_alive: bool) -> Driver:
    try:
        return Driver(
            target.family,
            target.host,
            target.port,
            list(requests),
            connections,
            target.tls,
            target.server_name,
            keep_alive=keep_alive,
        )
    except RuntimeError as error:
        raise LoadTestError(str(error)) from None


def _part(level: Level, at: int, threads: int) -> Level:
    """What one of several threads does."""
    own = [number // threads + (at < number % threads) for number in (level.connections, level.max_requests)]
    return Level(
        connections=own[0],
        rate=None if level.rate is None else level.rate / threads,
        poisson=level.poisson,
        duration_ns=level.duration_ns,
        max_requests=own[1],
        warmup_ns=level.warmup_ns,
        timeout_ns=level.timeout_ns,
        seed=level.seed * threads + at,
        times_ns=level.times_ns[at::threads],
    )


def _run(
    drivers: list[Driver], parts: list[Level], plans: list[dict[str, Any]], phase: str, seconds: float, watch: Watch
) -> bool:
    """Run all; whether it was interrupted."""
    going = [
        _Going(driver, {"poisson": part.poisson, "seed": part.seed, "timeout_ns": part.timeout_ns, **plan})
        for driver, part, plan in zip(drivers, parts, plans, strict=True)
    ]
    most = sum(plan.get("max_requests", 0) for plan in plans)
    interrupted = False
    try:
        _watch_until_over(going, most, phase, seconds, watch)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for one in going:
            one.end(stop=interrupted)
    return interrupted


class _Going:
    """One driver that runs. (Not `Thread.join`: interrupted, Python 3.11 takes the thread for ended.)"""

    def __init__(self, driver: Driver, plan: dict[str, Any]) -> None:
        self.driver = driver
        self.over = threading.Event()
        self._plan = plan
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="load", daemon=True).start()

    def end(self, *, stop: bool) -> None:
        """Wait until it is over, stopped where it was to be or something else went wrong. Raises what it raised."""
        if stop or not self.over.is_set():
            self.driver.stop()
        self.over.wait()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self.driver.run(**self._plan)
        except BaseException as error:
            self._error = error
        finally:
            self.over.set()


def _watch_until_over(going: list[_Going], most: int, phase: str, seconds: float, watch: Watch) -> None:
    started, before = time.monotonic(), (0.0, 0)
    while not all([one.over.wait(LOOK_EVERY_S / len(going)) for one in going]):
        passed = time.monotonic() - started
        good, bad = sum(one.driver.good for one in going), sum(one.driver.bad for one in going)
        share = max(passed / seconds if seconds else 0.0, (good + bad) / most if most else 0.0)
        per_s = (good - before[1]) / max(passed - before[0], 1e-9)
        before = (passed, good)
        watch(Moment(phase, min(1.0, share), good, bad, per_s))


def _merged(level: Level, counts: list[dict[str, Any]], interrupted: bool) -> Measured:
    """The counts of all threads as one."""
    elapsed_ns = max(count["elapsed_ns"] for count in counts)
    in_time = sum(count["good_in_time"] for count in counts)
    # A run by duration ends with it: answers that came while the last ones were waited for are no part of its rate.
    by_duration = level.duration_ns > 0 and not interrupted and elapsed_ns >= level.duration_ns
    over_ns = level.duration_ns if by_duration else elapsed_ns
    return Measured(
        level=level,
        elapsed_s=over_ns / SECOND_NS,
        per_s=in_time / max(over_ns, 1) * SECOND_NS,
        statuses=_sums(count["by_status"] for count in counts),
        failures=_sums(count["by_failure"] for count in counts),
        reasons={name: reason for count in counts for name, reason in count["reasons"].items()},
        samples={
            status: " ".join(body.decode("utf-8", "replace").split())
            for count in counts
            for status, body in count["samples"].items()
        },
        latency=_added(count["latency"] for count in counts),
        service=_added(count["service"] for count in counts),
        failed_latency=_added(count["failed"] for count in counts),
        late=_added(count["late"] for count in counts),
        sent_bytes=sum(count["sent_bytes"] for count in counts),
        received_bytes=sum(count["received_bytes"] for count in counts),
        connections=sum(count["connections"] for count in counts),
        unfinished=sum(count["unfinished"] for count in counts),
        slice_s=counts[0]["slice_ns"] / SECOND_NS,
        slices=_slices([count["slices"] for count in counts]),
        interrupted=interrupted,
    )


def _sums(parts: Any) -> dict[Any, int]:
    total: dict[Any, int] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
    return dict(sorted(total.items()))


def _added(parts: Any) -> HdrHistogram:
    total = HdrHistogram()
    for part in parts:
        total.add(part)
    return total


def _slices(parts: list[list[tuple[int, int, int]]]) -> list[tuple[int, int, int]]:
    longest = max(len(part) for part in parts)
    padded = [[*part, *[(0, 0, 0)] * (longest - len(part))] for part in parts]
    return [
        (sum(one[0] for one in at), sum(one[1] for one in at), max(one[2] for one in at))
        for at in zip(*padded, strict=True)
    ]


def allow_files(connections: int) -> None:
    """Have room for that many descriptors. Raises LoadTestError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES + len(os.listdir("/proc/self/fd"))
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise LoadTestError(f"{connections} connections need {wanted} open files, {hard} are allowed (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
