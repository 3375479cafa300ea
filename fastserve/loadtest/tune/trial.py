"""A server of our own with the settings of a candidate, on a free loopback port, driven for a short time.

Thread: the caller's. What was started is stopped, by its process group, whatever happens.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fastserve.loadtest import target
from fastserve.loadtest.drive import SECOND_NS, Level, Watch
from fastserve.loadtest.report import Run
from fastserve.loadtest.session import Inputs, Session, prepare
from fastserve.loadtest.slo import Objective
from fastserve.loadtest.target import LoadTestError, Target
from fastserve.loadtest.tune.halving import Score
from fastserve.loadtest.tune.space import Setting
from fastserve.repository.layout import ModelFiles, find_models

HOST = "127.0.0.1"
READY_WITHIN_S = 120.0
END_WITHIN_S = 15.0
LOOK_EVERY_S = 0.02
WARM_UP_SHARE = 0.25
SHOWN_OUTPUT_CHARS = 1000


class Outcome(Struct, frozen=True, kw_only=True):
    """One candidate, measured for so many seconds over all levels. `reason`: why there is nothing, else empty.

    `rate`: the best requests/s of a level that met every objective, 0 where none did; `latency_ms`: the objective's
    percentile there, or at the level where it was lowest; None where too few were answered.
    """

    setting: Setting
    seconds: float
    rate: float
    latency_ms: float | None
    runs: list[Run]
    reason: str = ""

    @property
    def score(self) -> Score:
        """What is better: a higher rate that meets the objectives; among those that meet none, less latency."""
        return (self.rate, -(math.inf if self.latency_ms is None else self.latency_ms))


class Bench(Struct, frozen=True, kw_only=True):
    """What every candidate is measured with."""

    model: ModelFiles
    inputs: Inputs
    objectives: tuple[Objective, ...]
    levels: tuple[int, ...]
    timeout_s: float
    watch: Watch

    def measure(self, setting: Setting, seconds: float) -> Outcome:
        """Serve with `setting`, drive every level for its part of `seconds`. KeyboardInterrupt goes on upwards."""
        try:
            with serving(self.model, setting) as reached:
                runs = self._runs(reached, seconds)
        except LoadTestError as error:
            return Outcome(setting=setting, seconds=seconds, rate=0.0, latency_ms=None, runs=[], reason=str(error))
        return outcome_of(setting, seconds, runs)

    def _runs(self, reached: Target, seconds: float) -> list[Run]:
        load = prepare(reached, self.inputs)
        session = Session(reached, load, self.inputs, self.objectives, self.watch)
        each_ns = round(seconds / len(self.levels) * SECOND_NS)
        for connections in self.levels:
            run = session.run(
                Level(
                    connections=connections,
                    duration_ns=each_ns,
                    warmup_ns=round(each_ns * WARM_UP_SHARE),
                    timeout_ns=round(self.timeout_s * SECOND_NS),
                    seed=self.inputs.seed,
                )
            )
            if run.interrupted:
                raise KeyboardInterrupt
        return session.runs


def outcome_of(setting: Setting, seconds: float, runs: Sequence[Run]) -> Outcome:
    """What the levels came to."""
    met = [run for run in runs if run.met and run.answered]
    best = max(met, key=lambda run: run.per_s) if met else min(runs, key=lambda run: latency_ms(run) or math.inf)
    return Outcome(
        setting=setting,
        seconds=seconds,
        rate=best.per_s if met else 0.0,
        latency_ms=latency_ms(best),
        runs=[replace(run, histogram_us=[], timeline=[]) for run in runs],
    )


def latency_ms(run: Run) -> float | None:
    """The first latency objective's measured value; of none, the p99. None where too few were answered."""
    for verdict in run.verdicts:
        if verdict.kind == "latency":
            return None if verdict.measured is None else verdict.measured * 1e-6
    return run.latency_ms.p99 if run.answered else None


@contextmanager
def serving(model: ModelFiles, setting: Setting) -> Iterator[Target]:
    """A server with that setting, ready. Raises LoadTestError where it does not start."""
    with tempfile.TemporaryDirectory(prefix="fastserve-tune-") as folder, tempfile.TemporaryFile() as log:
        config = Path(folder) / "fastserve.toml"
        config.write_text(configuration(model, setting), encoding="utf-8")
        port = _free_port()
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "fastserve", "serve", str(config), "--host", HOST, "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_own_environment(),
            start_new_session=True,
        )
        try:
            yield _ready(process, port, log.fileno())
        finally:
            _end(process)


def chosen(path: Path, name: str | None) -> ModelFiles:
    """The model at `path`: the one of that name, or the only one. Raises LoadTestError."""
    found = find_models(path)
    named = [model for model in found.models if name in (None, model.name)]
    if len(named) == 1:
        return named[0]
    if not found.models:
        raise LoadTestError(f"{path} holds no model: {'; '.join(found.problems) or 'nothing is there'}")
    names = ", ".join(model.name for model in found.models)
    raise LoadTestError(
        f"{path} holds {names}: choose one with --model" if name is None else f"{path} holds {names}, not {name}"
    )


def configuration(model: ModelFiles, setting: Setting, about: Sequence[str] = ()) -> str:
    """fastserve.toml with that setting; `about`: comments above it."""
    text = msgspec.json.encode  # of a string, JSON is TOML
    lines = [f"# {line}" for line in about]
    lines += ["[server]", f"workers = {setting.workers}", ""]
    lines += ["[repository]", f"path = {text(str(model.base.resolve())).decode()}", ""]
    lines += ["[[models]]", f"name = {text(model.name).decode()}"]
    fields = ("slots", "threads", "max_batch_rows", "max_queue_delay_us")
    lines += [f"{field} = {getattr(setting, field)}" for field in fields]
    return "\n".join(lines) + "\n"


def _own_environment() -> dict[str, str]:
    """Ours, without what would set the server's options."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _ready(process: "subprocess.Popen[bytes]", port: int, log: int) -> Target:
    """The server, once it is ready. Raises LoadTestError where it ends, or has started and is not."""
    deadline = time.monotonic() + READY_WITHIN_S
    why = ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            reached = target.find(f"http://{HOST}:{port}", timeout_s=READY_WITHIN_S, env={})
            started = reached.ask("GET", "/startupz").is_good
            ready = reached.ask("GET", "/readyz")
        except LoadTestError:
            started = False  # nobody listens yet
        else:
            if ready.is_good:
                return reached
            if started:
                why = ready.text()
                break
        time.sleep(LOOK_EVERY_S)
    said = os.pread(log, 1 << 20, 0).decode("utf-8", "replace").strip()[-SHOWN_OUTPUT_CHARS:]
    raise LoadTestError(f"the server did not become ready: {why or said}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end; then its workers too are ended. Waits until it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
