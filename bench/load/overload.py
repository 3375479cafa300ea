"""`python -m bench.load.overload`: what becomes of requests when ten times as many come as can be served.

An encoder of about 10 ms a row with an objective; a generator in an open loop, so that a slow server is not spared. Rounds of
a rate that it can just not serve (the peak of goodput), and of ten times what it can, in turns. Then a storm of that kind
over requests that come all the while at half of what it can serve: how long are those late or refused after its end?
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

from bench.load import machine
from bench.load.open_loop import CONNECTIONS, RESULTS, SLO_MS, Driven, Goal, Told, others_of, served, write
from fastserve.loadtest.drive import SECOND_NS, Level, Measured, drive

FILE = RESULTS / "overload.json"
PEAKS = (1.0, 1.2)
"""Of what a closed loop gets: the better one of both is the peak."""

OVERLOAD, STEADY = 10.0, 0.5
BEFORE_S, STORM_S, AFTER_S = 1.0, 3.0, 5.0


def main() -> None:
    """Parse, measure, tell, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.load.overload", description="Ten times too much load.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="Of one drive.  [default: 4]")
    parser.add_argument("--slo-ms", type=float, default=SLO_MS, help=f"The objective.  [default: {SLO_MS:g}]")
    given = parser.parse_args()
    machine.keep_to_two_cores()
    with (
        tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder,
        served(Path(folder), {"encoder": f"slo_ms = {given.slo_ms}"}) as server,
    ):
        driven = Driven(server, "encoder", given.slo_ms)
        most = driven.closed_per_s(3.0)
        rounds = [_round(driven, most, given.seconds, number) for number in range(given.rounds)]
        recoveries = [_recovery_s(driven, most, given.slo_ms, seed) for seed in range(2)]
    drives = [one for told in rounds for one in told.values()]
    write(FILE, _goals(rounds, recoveries, given.slo_ms), others_of(drives), closed_loop_per_s=most, rounds=rounds)


def _round(driven: Driven, most: float, seconds: float, number: int) -> dict[str, Told]:
    shares = [*PEAKS, OVERLOAD]
    turn = number % len(shares)
    turns = shares[turn:] + shares[:turn]
    return {f"{share:g}x": driven.open(f"{share:g}x", share * most, seconds) for share in turns}


def _goals(rounds: list[dict[str, Told]], recoveries: list[float], slo_ms: float) -> list[Goal]:
    what = "ten times what an encoder of 10 ms a row can serve, open loop, objective 200 ms"
    overloaded = [one[f"{OVERLOAD:g}x"] for one in rounds]
    peaks = [max(one[f"{share:g}x"].goodput_per_s for share in PEAKS) for one in rounds]
    goodput = [over.goodput_per_s / peak for over, peak in zip(overloaded, peaks, strict=True)]
    accepted, refused = [one.p99_ms for one in overloaded], [one.refused_p99_ms for one in overloaded]
    return [
        Goal(title=f"{what}: goodput against its peak", at_least=0.9, scores=goodput),
        Goal(title="the same: p99 of what is let in", at_most=slo_ms, unit="ms", scores=accepted),
        Goal(title="the same: p99 of refusals", at_most=5.0, unit="ms", scores=refused),
        Goal(title="the same: until nothing is late or refused at half load", at_most=2.0, unit="s", scores=recoveries),
    ]


class _Storm:
    """Ten times too many requests for a while, from connections of their own."""

    def __init__(self, driven: Driven, rate: float) -> None:
        self.over_s = 0.0
        self._driven = driven
        self._level = Level(
            connections=CONNECTIONS, rate=rate, duration_ns=round(STORM_S * SECOND_NS), warmup_ns=0, seed=7
        )
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        """A while after this."""
        self._thread.start()

    def join(self) -> None:
        """Until all of it is answered."""
        self._thread.join()

    def _run(self) -> None:
        time.sleep(BEFORE_S)
        self.over_s = time.monotonic() + STORM_S
        drive(self._driven.target, self._driven.requests, self._level, lambda _: None)


def _recovery_s(driven: Driven, most: float, slo_ms: float, seed: int) -> float:
    """From the end of a storm until the last moment in which one of the steady requests was refused, late or lost."""
    storm = _Storm(driven, OVERLOAD * most)
    begun_s = 0.0

    def begin() -> None:
        nonlocal begun_s
        begun_s = time.monotonic()
        storm.begin()

    seconds = BEFORE_S + STORM_S + AFTER_S
    steady = Level(connections=64, rate=STEADY * most, duration_ns=round(seconds * SECOND_NS), seed=seed)
    done = drive(driven.target, driven.requests, steady, lambda _: None, begin)
    storm.join()
    recovery_s = max(0.0, _last_bad_s(done, slo_ms) - (storm.over_s - begun_s))
    print(f"recovered within {recovery_s:.1f} s ({done.statuses}, {done.failures})", flush=True)
    return recovery_s


def _last_bad_s(done: Measured, slo_ms: float) -> float:
    """The end of the last piece of the drive in which a request was refused, lost, or answered late."""
    bad = [at for at, (_, failed, longest_ns) in enumerate(done.slices) if failed or longest_ns > slo_ms * 1e6]
    return (bad[-1] + 1) * done.slice_s if bad else 0.0


if __name__ == "__main__":
    main()
