"""Two stores that promise the same, without a server: the log's segments, and SQLite (WAL, synchronous=FULL).

python -m bench.load.stores segments|sqlite SECONDS: several processes store batches of records, each waiting until its batch
is on disk. Prints the figures of all of them together, as JSON; `per_s` counts records, the times are those of a batch.
Thread: one a process, and the writer's own.
"""

import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from bench.load.wrk import Figures
from fastserve.config import LogConfig
from fastserve.store.frames import Kind
from fastserve.store.writer import Writer

PROCESSES = 4
BATCH = 32
RECORD_BYTES = 650
PATIENCE_S = 60.0
"""SQLite has one writer at a time; the others wait so long for their turn."""

Store = Callable[[], None]


def segments(folder: Path, record: bytes) -> tuple[Store, Callable[[], None]]:
    """What stores a batch, and what ends it."""
    writer = Writer(folder, LogConfig())
    frames = [(Kind.RECORD, record)] * BATCH

    def store() -> None:
        stored = threading.Lock()
        stored.acquire()
        failed: list[object] = []

        def done(error: object) -> None:
            if error is not None:
                failed.append(error)
            stored.release()

        writer.append(frames, done)
        stored.acquire()
        if failed:
            raise RuntimeError(failed[0])

    return store, writer.close


def sqlite(folder: Path, record: bytes) -> tuple[Store, Callable[[], None]]:
    """The same, one transaction a batch."""
    connection = sqlite3.connect(folder / "log.sqlite", timeout=PATIENCE_S, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table if not exists records (ingest_ns integer, kind integer, payload blob)")
    rows = [(0, 1, record)] * BATCH

    def store() -> None:
        connection.execute("begin immediate")
        connection.executemany("insert into records values (?, ?, ?)", rows)
        connection.execute("commit")

    return store, connection.close


STORES = {"segments": segments, "sqlite": sqlite}


def run(kind: str, folder: Path, starts_s: float, seconds: float, tell: int) -> None:
    """One process: its batches' times go to `tell`."""
    store, end = STORES[kind](folder, os.urandom(RECORD_BYTES))
    store()
    time.sleep(max(0.0, starts_s - time.monotonic()))
    times_ns = []
    until = time.monotonic_ns() + round(seconds * 1e9)
    began = time.monotonic_ns()
    while began < until:
        store()
        now = time.monotonic_ns()
        times_ns.append(now - began)
        began = now
    end()
    with os.fdopen(tell, "wb") as pipe:
        pipe.write(np.array(times_ns, np.int64).tobytes())


def measure(kind: str, seconds: float) -> Figures:
    """All processes at once."""
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as name:
        pipes = []
        starts_s = time.monotonic() + 1.0
        cpu_s = sum(os.times()[:4])
        for _ in range(PROCESSES):
            reads, writes = os.pipe()
            if os.fork() == 0:
                try:
                    run(kind, Path(name), starts_s, seconds, writes)
                finally:
                    os._exit(0)
            os.close(writes)
            pipes.append(reads)
        times_us = np.concatenate([np.frombuffer(_all_of(reads), np.int64) for reads in pipes]) / 1000
        for _ in pipes:
            os.wait()
        cpu_us = (sum(os.times()[:4]) - cpu_s) * 1e6
    p50, p90, p99 = np.percentile(times_us, [50, 90, 99])
    records = len(times_us) * BATCH
    return Figures(
        answers=records,
        errors=0,
        per_s=records / seconds,
        p50_us=float(p50),
        p90_us=float(p90),
        p99_us=float(p99),
        max_us=float(times_us.max()),
        cpu_us=cpu_us / records,
    )


def _all_of(reads: int) -> bytes:
    with os.fdopen(reads, "rb") as pipe:
        return pipe.read()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measure(sys.argv[1], float(sys.argv[2]))))
