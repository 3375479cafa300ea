"""`python -m bench.load.reload`: what a client of one model notices while models are loaded. p99 beside p99, in turns.

Three situations a round: nothing is loaded; its own model is swapped for a fresh one again and again; another model, of
`--megabytes`, is. Both ways the server does all that a new version needs: reads, proves, measures, swaps, lets go.
"""

import argparse
import http.client
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import onnx

from bench.load import machine, wrk
from bench.load.contenders import FASTSERVE, server
from bench.load.servers import HOST, ROOT, Server
from bench.load.workload import HTTP_OK, Workload
from bench.load.wrk import Drive, Figures
from fastserve.loadtest.neighbours import DISTURBED_SHARE, busy_s
from tests.support import models

RESULTS = ROOT / "bench" / "results" / "reload.json"
GOAL = 2.0
"""Times the p99 without: the median over the rounds."""

CONNECTIONS = 4
PAUSE_S = 0.3
LOAD_WITHIN_S = 60.0
QUIET, ITSELF, BESIDE = "nothing is loaded", "the model itself is swapped", "a large model beside it is"


class Turn(Figures, kw_only=True):
    """One drive, and how many swaps there were meanwhile."""

    swaps: int


def main() -> None:
    """Parse, measure, tell, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.load.reload", description="p99 while models are loaded.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="Of one drive.  [default: 4]")
    parser.add_argument("--megabytes", type=int, default=160, help="Of the other model.  [default: 160]")
    given = parser.parse_args()
    machine.keep_to_two_cores()
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder:
        tiny = Workload(Path(folder), "tiny")
        large = models.save(_large(given.megabytes), tiny.repository / "large" / "1")
        files = {QUIET: None, ITSELF: tiny.model_file, BESIDE: large}
        with server(FASTSERVE, tiny.repository) as served:
            tiny.check(served)
            _turn(served, tiny, None, 1.0)
            rounds = [_round(served, tiny, files, number, given.seconds) for number in range(given.rounds)]
    _tell(rounds)
    told = {"machine": machine.here(wrk.version()), "begun": machine.now(), "rounds": rounds}
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def _large(megabytes: int) -> onnx.ModelProto:
    """Four matrices, one after the other."""
    side = round((megabytes * (1 << 20) / 16) ** 0.5)
    steps = [models.node("MatMul", f"{'x' if i == 0 else f'h{i}'} w{i}", f"h{i + 1}") for i in range(4)]
    weights = [models.weight(f"w{i}", models.random(side, side, seed=i)) for i in range(4)]
    return models.build(steps, [models.tensor("x", ["N", side])], [models.tensor("h4", ["N", side])], weights)


def _round(
    served: Server, tiny: Workload, files: dict[str, Path | None], number: int, seconds: float
) -> dict[str, Turn]:
    turn = number % len(files)
    names = [*files][turn:] + [*files][:turn]
    done = {name: _turn(served, tiny, files[name], seconds) for name in names}
    told = (f"{name}: p99 {done[name].p99_us:,.0f} us ({done[name].swaps} swaps)" for name in files)
    print(f"round {number + 1}: {'; '.join(told)}", flush=True)
    return done


def _turn(served: Server, tiny: Workload, file: Path | None, seconds: float) -> Turn:
    busy, ours = busy_s(), served.cpu_s() + wrk.generators_cpu_s()
    with _swapping(served, file) as swaps:
        drive = Drive(served.url(tiny.path), tiny.body_file, {}, connections=CONNECTIONS, seconds=seconds)
        figures = drive.figures()
    spent = served.cpu_s() + wrk.generators_cpu_s() - ours
    figures.others_cpu = max(0.0, (busy_s() - busy - spent) / (seconds * machine.CORES))
    figures.disturbed = figures.others_cpu > DISTURBED_SHARE
    return Turn(**msgspec.structs.asdict(figures), swaps=len(swaps))


@contextmanager
def _swapping(served: Server, file: Path | None) -> Iterator[list[int]]:
    """Have the version in `file` loaded anew, again and again; each time is in the list."""
    over = threading.Event()
    swaps: list[int] = []

    def swap() -> None:
        while file is not None and not over.is_set():
            os.utime(file)  # for the server it is another file
            swaps.append(_load(served, file.parents[1].name))
            over.wait(PAUSE_S)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        over.set()
        thread.join()


def _load(served: Server, model: str) -> int:
    """Returns when it is served, and the one before is not any more. Raises RuntimeError where it is not."""
    connection = http.client.HTTPConnection(HOST, served.port, timeout=LOAD_WITHIN_S)
    try:
        connection.request("POST", f"/v2/repository/models/{model}/load", b"{}")
        answer = connection.getresponse()
        if answer.status != HTTP_OK:
            raise RuntimeError(f"{model} is not loaded: {answer.read()!r}")
        return answer.status
    finally:
        connection.close()


def _tell(rounds: list[dict[str, Turn]]) -> None:
    for name in (ITSELF, BESIDE):
        ratios = [one[name].p99_us / one[QUIET].p99_us for one in rounds]
        longest = statistics.median(one[name].max_us for one in rounds)
        errors = sum(one[name].errors for one in rounds)
        print(
            f"{name}: p99 {statistics.median(ratios):.2f}x ({min(ratios):.2f} .. {max(ratios):.2f}; goal: at most"
            f" {GOAL:g}x), longest {longest / 1000:,.1f} ms, {sum(one[name].swaps for one in rounds)} swaps, errors {errors}"
        )


if __name__ == "__main__":
    main()
