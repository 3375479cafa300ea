"""`python -m bench.load.respawn`: how long a worker that is killed is missed, from SIGKILL until its successor serves."""

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from bench.load.workload import Workload
from tests.support.served import workers_of
from tests.support.server import ServerProcess
from tests.support.wire import Wire

GOAL_S = 1.0
LOOK_EVERY_S = 0.01
WITHIN_S = 60.0
SERVING = 'fastserve_workers{state="serving"}'


def main() -> None:
    """Parse, kill, tell."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load.respawn", description="How long a killed worker is missed."
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder:
        tiny = Workload(Path(folder), "tiny")
        with ServerProcess(str(tiny.repository), "--workers", str(given.workers)) as server:
            missed = [_missed_s(server, given.workers) for _ in range(given.kills)]
    shown = ", ".join(f"{one:.2f}" for one in missed)
    print(f"a killed worker is back after {statistics.median(missed):.2f} s ({shown}; goal: at most {GOAL_S:g} s)")


def _missed_s(server: ServerProcess, workers: int) -> float:
    """Kill one; how long until as many serve as before. Raises RuntimeError where that takes for ever."""
    before = _metric(server, "fastserve_worker_restarts_total")
    os.kill(workers_of(server)[0], signal.SIGKILL)
    began = time.monotonic()
    while _metric(server, "fastserve_worker_restarts_total") <= before or _metric(server, SERVING) < workers:
        if time.monotonic() - began > WITHIN_S:
            raise RuntimeError(f"no successor within {WITHIN_S:g} s: {server.output}")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - began


def _metric(server: ServerProcess, name: str) -> float:
    """Its value; 0 where the connection was the killed one's."""
    try:
        with Wire((server.host, server.port)) as one:
            text = one.get("/metrics").body.decode()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


if __name__ == "__main__":
    main()
