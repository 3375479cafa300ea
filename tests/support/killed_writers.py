"""Writers of the prediction log in processes of their own, killed at random moments, again and again.

python -m tests.support.killed_writers DIRECTORY LOOPS WORKERS SEED

In each loop WORKERS processes append numbered records from two threads, and tell each acknowledged one through a pipe; one
after the other is killed, with SIGKILL, after a random time of some milliseconds. Prints how many records were acknowledged,
and those of them that are not there exactly once; ends with 1 where there is any.
Thread: the process that forks has one.
"""

import os
import random
import select
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from fastserve.config import LogConfig
from fastserve.store import folder
from fastserve.store.errors import StoreError
from fastserve.store.frames import Kind
from fastserve.store.recovery import adopt
from fastserve.store.writer import Writer

LONGEST_LIFE_S = 0.06
MAX_SEGMENT_BYTES = 60_000
"""So that some are killed while they seal."""


def write_until_killed(directory: Path, name: str, acknowledged: int) -> None:
    """One worker: appends of one to three frames; only whole ones may ever be seen."""
    writer = Writer(directory, LogConfig(max_segment_bytes=MAX_SEGMENT_BYTES))

    def append(thread: int) -> None:
        rand = random.Random(f"{name}{thread}")
        for number in range(1_000_000):
            count = rand.randint(1, 3)
            records = [b"%s.%d.%d.%d/%d " % (name.encode(), thread, number, i, count) for i in range(count)]
            lines = b"".join(record + b"\n" for record in records)
            told = threading.Event()

            def done(error: StoreError | None, lines=lines, told=told) -> None:
                if error is None:
                    os.write(acknowledged, lines)  # below PIPE_BUF: whole or not at all
                told.set()

            with suppress(StoreError):
                writer.append([(Kind.RECORD, record + bytes(rand.randint(0, 900))) for record in records], done)
                if rand.random() < 0.5:
                    told.wait()

    threads = [threading.Thread(target=append, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def spawn(directory: Path, name: str) -> tuple[int, int]:
    """A fresh worker's process id, and where it tells what was acknowledged."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writes)
        return pid, reads
    try:
        write_until_killed(directory, name, writes)
    finally:
        os._exit(1)


def drain(reads: int) -> bytes:
    """All that was told."""
    parts = []
    while part := os.read(reads, 1 << 20):
        parts.append(part)
    os.close(reads)
    return b"".join(parts)


def wait_for_some(reads: int) -> None:
    """Until the worker has acknowledged something: what is killed before that shows nothing."""
    select.select([reads], [], [], 10)


def loop(directory: Path, number: int, workers: int, rand: random.Random) -> list[bytes]:
    """The records that were acknowledged in one loop."""
    running = [spawn(directory, f"{number}-{i}") for i in range(workers)]
    told = []
    for pid, reads in running:
        if rand.random() < 0.8:
            wait_for_some(reads)
        time.sleep(rand.random() * LONGEST_LIFE_S)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for _, reads in running:
        told += drain(reads).split(b"\n")[:-1]
    return told


def stored(directory: Path) -> list[bytes]:
    """Every record's name."""
    found = []
    for segment in folder.listed(directory):
        scan = folder.scan(segment)
        found += [frame.payload.partition(b" ")[0] for frame in scan]
        assert not scan.damage, "nothing was lost of what was written"
    return found


def mistakes(acknowledged: list[bytes], there: Counter[bytes]) -> list[str]:
    """What is not as promised."""
    found = [f"{name.decode()} is there {there[name]} times" for name in acknowledged if there[name] != 1]
    found += [f"{name.decode()} is there {count} times" for name, count in there.items() if count > 1]
    for name in there:
        group, _, count = name.partition(b"/")
        stem = group.rpartition(b".")[0]
        if not all(there[b"%s.%d/%s" % (stem, i, count)] for i in range(int(count))):
            found.append(f"{name.decode()} is there without all of its append")
    return found


def main() -> int:
    """See the module."""
    directory, loops, workers, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
    rand = random.Random(seed)
    acknowledged: list[bytes] = []
    for number in range(loops):
        acknowledged += [line.strip() for line in loop(directory, number, workers, rand)]
        if number % 10 == 9:
            adopt(directory)  # else the next worker does, or none yet
    before = Counter(stored(directory))
    wrong = mistakes(acknowledged, before)
    adopt(directory)
    after = Counter(stored(directory))
    wrong += mistakes(acknowledged, after) + [f"{name!r} went when it was recovered" for name in before - after]
    print(f"{loops} loops, {workers} workers: {len(acknowledged)} records acknowledged, {len(wrong)} wrong")
    print("\n".join(wrong[:20]))
    left_open = [segment for segment in folder.listed(directory) if not segment.sealed]
    return 1 if wrong or left_open or not acknowledged else 0


if __name__ == "__main__":
    sys.exit(main())
