"""A whole load test: find the server and what to send, try it once, drive every level, tell what came of it.

Thread: the caller's. Bounded: every level takes its warm-up, its duration and the timeout at most.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fastserve.loadtest import batches, bodies, specs, values
from fastserve.loadtest.bodies import Sent
from fastserve.loadtest.drive import Level, Watch, drive
from fastserve.loadtest.report import Report, Request, Run, Sweep, machine, run_of
from fastserve.loadtest.slo import Objective
from fastserve.loadtest.sweep import RateSearch, kept_up
from fastserve.loadtest.target import LoadTestError, NotYet, Target

SWEEP_CONNECTIONS = 256


class Inputs(Struct, frozen=True, kw_only=True):
    """What is to be sent. `data`: a file; else inputs are made up from the model's metadata."""

    protocol: str = specs.TFSERVING
    model: str | None = None
    version: str | None = None
    path: str | None = None
    data: Path | None = None
    content_type: str | None = None
    rows: int = 1
    dims: Mapping[str, int] = {}
    integers_below: int = 2
    bodies: int = 8
    keep_alive: bool = True
    seed: int = 0


class Load(Struct, frozen=True, kw_only=True):
    """What was prepared: the model's name (empty where none is known), and whole HTTP requests."""

    model: str
    sent: list[Sent]
    requests: list[bytes]

    def described(self, inputs: Inputs) -> Request:
        """For the report."""
        return Request(
            protocol=inputs.protocol,
            path=self.sent[0].path,
            model=self.model,
            rows=inputs.rows,
            bodies=len(self.sent),
            mean_bytes=sum(len(one.body) for one in self.sent) / len(self.sent),
        )


def prepare(target: Target, inputs: Inputs) -> Load:
    """What to send, tried once each way it differs. Raises LoadTestError with what to do."""
    model = _model(target, inputs)
    path = inputs.path or bodies.paths(model, inputs.version)[inputs.protocol]
    sent = _sent(target, inputs, model, path)
    requests = [bodies.request_bytes(target, one, keep_alive=inputs.keep_alive) for one in sent]
    load = Load(model=model, sent=sent, requests=requests)
    try_once(target, load, inputs)
    return load


def _model(target: Target, inputs: Inputs) -> str:
    if inputs.protocol == specs.HTTP or inputs.path:
        return inputs.model or ""
    if inputs.protocol == specs.LOG:
        return inputs.model or "bench"
    return specs.chosen_model(target, inputs.model)


def _sent(target: Target, inputs: Inputs, model: str, path: str) -> list[Sent]:
    data = inputs.data
    if inputs.protocol == specs.LOG and data is None:
        return bodies.log_records(model, inputs.bodies, inputs.seed, datetime.datetime.now(datetime.UTC))
    if inputs.protocol == specs.HTTP and data is None:
        return [Sent(path, b"", (), "GET")]
    if data is not None and data.suffix not in (".npy", ".npz"):
        return bodies.from_file(inputs.protocol, path, data, inputs.content_type)
    if not model:
        raise LoadTestError("--path without --data takes --model, whose inputs are to be made up")
    found = specs.model_inputs(target, model, inputs.version, inputs.protocol)
    if inputs.rows > 1 and not values.has_rows(found):
        raise LoadTestError(f"{model} does not take rows: its inputs have a fixed first dimension; leave --rows out")
    if data is not None:
        sets = values.from_numpy(data, found, rows=inputs.rows, count=inputs.bodies)
    else:
        sets = _made_up(found, inputs)
    return [bodies.encoded(inputs.protocol, path, found, one) for one in sets]


def _made_up(found: list[specs.InputSpec], inputs: Inputs) -> list[values.Inputs]:
    def made(count: int) -> list[values.Inputs]:
        return values.made_up(
            found,
            rows=inputs.rows,
            dims=inputs.dims,
            integers_below=inputs.integers_below,
            seed=inputs.seed,
            count=count,
        )

    first = made(1)
    one_bytes = max(1, sum(array.size * 12 for array in first[0].values()))
    count = max(1, min(inputs.bodies, bodies.MAX_TOTAL_BYTES // one_bytes))
    return first if count == 1 else made(count)


def try_once(target: Target, load: Load, inputs: Inputs) -> None:
    """Send the first body, and see that it is answered well. Raises LoadTestError."""
    first = load.sent[0]
    headers = (("Content-Type", bodies.JSON_TYPE), *first.headers)
    answer = target.ask(first.method, first.path, first.body if first.method != "GET" else None, headers)
    if answer.is_good:
        return
    told = f"{target.url}{first.path} answers {answer.status}: {answer.text()}"
    if answer.status == 503:
        raise NotYet(told)
    if answer.status in (401, 403):
        raise LoadTestError(f"{told} (a key: FASTSERVE_API_KEY or --header; a user: http://user:password@host)")
    if answer.status == 404 and load.model and inputs.protocol != specs.LOG:
        names = specs.served_models(target)
        raise LoadTestError(f"{told} (it serves {', '.join(names)}: --model)" if names else told)
    if answer.status == 400 and inputs.data is None and inputs.protocol != specs.HTTP:
        raise LoadTestError(f"{told} (made-up inputs do not suit every model: --dim, --integers-below, or --data FILE)")
    raise LoadTestError(told)


class Session:
    """Drives levels of one load, one after the other."""

    def __init__(
        self, target: Target, load: Load, inputs: Inputs, objectives: tuple[Objective, ...], watch: Watch
    ) -> None:
        self._target = target
        self._load = load
        self._inputs = inputs
        self._objectives = objectives
        self._watch = watch
        self._started = datetime.datetime.now(datetime.UTC)
        self.runs: list[Run] = []
        self.sweep: Sweep | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the last level was ended early."""
        return bool(self.runs) and self.runs[-1].interrupted

    def run(self, level: Level) -> Run:
        """One level, measured."""
        seen: list[batches.Readings | None] = []
        model, rows = self._load.model, self._inputs.rows

        def look() -> None:
            seen.append(batches.look(self._target, model) if model else None)

        measured = drive(
            self._target, self._load.requests, level, self._watch, look, keep_alive=self._inputs.keep_alive
        )
        look()
        run = run_of(measured, rows, batches.between(seen[0], seen[-1]), self._objectives)
        self.runs.append(run)
        return run

    def find_highest_rate(self, closed: Level) -> None:
        """Drive `closed` to see what there is, then search for the highest rate that meets the objectives."""
        guess = self.run(closed)
        if guess.per_s <= 0 or guess.interrupted:
            self.sweep = Sweep(highest_rate=None, tried=[])
            return
        search = RateSearch(guess.per_s)
        connections = max(closed.connections, SWEEP_CONNECTIONS)
        while not self.interrupted and (rate := search.next_rate()) is not None:
            run = self.run(replace(closed, rate=rate, connections=connections))
            search.tell(rate, run.met and kept_up(run))
        self.sweep = Sweep(highest_rate=search.highest_met, tried=[trial.rate for trial in search.trials])

    def report(self) -> Report:
        """What is known now."""
        return Report(
            started=self._started.isoformat(timespec="seconds"),
            url=self._target.url,
            seed=self._inputs.seed,
            request=self._load.described(self._inputs),
            machine=machine(),
            objectives=[objective.text for objective in self._objectives],
            runs=self.runs,
            sweep=self.sweep,
            met=self._met(),
        )

    def _met(self) -> bool | None:
        if not self._objectives:
            return None
        if self.sweep is not None:
            return self.sweep.highest_rate is not None
        return bool(self.runs) and all(run.met for run in self.runs)
