"""A candidate's settings, driven for a short time at every level. Thread: the caller's."""

import math
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fastserve.loadtest.drive import SECOND_NS, Level, Watch
from fastserve.loadtest.report import Run
from fastserve.loadtest.session import Inputs, Session, prepare
from fastserve.loadtest.slo import Objective
from fastserve.loadtest.target import LoadTestError, Target
from fastserve.loadtest.tune.halving import Score
from fastserve.loadtest.tune.servers import Servers
from fastserve.loadtest.tune.space import Setting
from fastserve.repository.layout import ModelFiles, find_models

WARM_UP_SHARE = 0.25
FAR = 2.0
"""Latency beyond the objective by this much does not come back with more load."""


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

    servers: Servers
    inputs: Inputs
    objectives: tuple[Objective, ...]
    levels: tuple[int, ...]
    timeout_s: float
    watch: Watch

    def measure(self, setting: Setting, seconds: float) -> Outcome:
        """Serve with `setting`, drive every level for its part of `seconds`. KeyboardInterrupt goes on upwards."""
        try:
            runs = self._runs(self.servers.at(setting), seconds)
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
            if hopeless(run):
                break
        return session.runs


def hopeless(run: Run) -> bool:
    """Whether more connections need not be tried: with these it took far longer than it may."""
    return any(
        one.kind == "latency" and not one.met and (one.measured is None or one.measured > FAR * one.limit)
        for one in run.verdicts
    )


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
