"""`fastserve tune`: the settings that serve a model best on this machine."""

import datetime
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from fastserve.cli.load_options import (
    MAX_CONNECTIONS,
    Numbers,
    Objectives,
    Time,
    bar,
    console_for,
    inputs_of,
    with_files,
    with_inputs,
    write,
)
from fastserve.clock import monotonic_ns
from fastserve.errors import ConfigError
from fastserve.loadtest import page, specs
from fastserve.loadtest.drive import SECOND_NS
from fastserve.loadtest.neighbours import Neighbours
from fastserve.loadtest.report import machine
from fastserve.loadtest.slo import Objective
from fastserve.loadtest.target import LoadTestError
from fastserve.loadtest.tune import sheet, told
from fastserve.loadtest.tune.duel import BUDGET_SHARE, TURNS, Turn, duel, seconds_each
from fastserve.loadtest.tune.halving import search
from fastserve.loadtest.tune.servers import Servers
from fastserve.loadtest.tune.space import DEFAULT, Setting, candidates
from fastserve.loadtest.tune.told import Tuning
from fastserve.loadtest.tune.trial import Bench, Outcome, chosen
from fastserve.loadtest.tune.written import configuration
from fastserve.repository.layout import ModelFiles

EXAMPLES = """
\b
Examples:
  fastserve tune model.onnx --slo p99=5ms
  fastserve tune models/ --model digits --slo p99=20ms --budget 5m --html tune.html
  fastserve tune model.onnx --slo p99=5ms --protocol v2-binary --rows 4 && fastserve serve fastserve.tuned.toml
"""

FILE = "fastserve.tuned.toml"
DEFAULT_LEVELS = (1, 4, 16, 64)
FIRST_S = 1.2
"""How long the first round drives a candidate, over all levels."""

DELAY_WITHOUT_LATENCY_NS = 10_000_000


@click.command(epilog=EXAMPLES, short_help="Find the settings that serve a model best here.")
@click.argument("path", metavar="MODEL", type=click.Path(exists=True, path_type=Path))
@click.option("--slo", type=Objectives(), required=True, help="What must be kept, as in p99=5ms.")
@click.option("--model", help="Which, where MODEL is a folder of several.")
@click.option("--budget", type=Time(), default="2m", show_default=True, help="Time for all of it.")
@click.option(
    "--concurrency", type=Numbers(int, MAX_CONNECTIONS), help="Levels to drive each candidate at.  [default: 1,4,16,64]"
)
@click.option(
    "--protocol",
    type=click.Choice(specs.PROTOCOLS[:3]),
    default=specs.TFSERVING,
    show_default=True,
    help="What to speak.",
)
@with_inputs
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=FILE,
    show_default=True,
    help="Where to write the configuration.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@with_files
def command(path: Path, **given: Any) -> None:
    """Serve MODEL with many settings on this machine, drive each, and write the best as a configuration.

    Tried are workers, slots, threads, batch rows and queue delay: all for a moment, the best of them longer, and what is
    best in turns with the defaults. Best is the highest rate that keeps the objectives. Nothing else should run meanwhile.
    Ctrl-C recommends from what was measured.
    """
    if given["html_file"]:
        page.need_plotly()
    if given["out"].exists() and not given["force"]:
        raise click.UsageError(f"{given['out']} is there: give --out another name, or --force")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))  # not without ending the server that is driven
    tuning = tune(path, given)
    console = console_for(given["json_file"])
    console.print(sheet.results(tuning.rounds))
    write_configuration(given["out"], tuning.configuration)
    write(given, tuning, lambda: sheet.page(tuning))
    for line in tuning.configuration.splitlines():
        if line.startswith("#"):
            console.print(line.removeprefix("# "), markup=False)
    console.print(f"Wrote {given['out']}: fastserve serve {given['out']}", markup=False)
    sys.exit(0 if tuning.met else 1)


def tune(path: Path, given: dict[str, Any]) -> Tuning:
    """Measure, and decide. Raises LoadTestError where not even the defaults could be measured."""
    started = datetime.datetime.now(datetime.UTC)
    begun, neighbours = time.monotonic(), Neighbours()
    model = chosen(path, given["model"])
    levels = given["concurrency"] or DEFAULT_LEVELS
    tried, turns = measured(model, levels, given)
    others_cpu = neighbours.share()
    best, default = told.recommended(tried, turns)
    wanted = [objective.text for objective in given["slo"]]
    count = len({outcome.setting for outcomes in tried for outcome in outcomes})
    about = told.reasons(best, default, wanted, machine(), count, turns, others_cpu)
    return Tuning(
        started=started.isoformat(timespec="seconds"),
        path=str(path),
        model=model.name,
        objectives=wanted,
        levels=list(levels),
        machine=machine(),
        seconds=time.monotonic() - begun,
        recommended=best.setting,
        rate=best.rate,
        default_rate=default.rate,
        gain=best.rate / default.rate if default.rate else 0.0,
        met=best.rate > 0,
        configuration=configuration(model, best.setting, about),
        rounds=tried,
        turns=turns,
        others_cpu=others_cpu,
    )


def measured(
    model: ModelFiles, levels: tuple[int, ...], given: dict[str, Any]
) -> tuple[list[list[Outcome]], list[Turn]]:
    """The search, and the best of it beside the defaults. Raises LoadTestError."""
    with Servers(model) as servers:
        bench = Bench(
            servers=servers,
            inputs=inputs_of(given, model=model.name),
            objectives=given["slo"],
            levels=tuple(sorted(levels)),
            timeout_s=30.0,
            watch=lambda _moment: None,
        )
        console = console_for(given["json_file"])
        tried = tried_within(bench, given, console)
        return tried, beside_defaults(bench, tried, given, console)


def tried_within(bench: Bench, given: dict[str, Any], console: Console) -> list[list[Outcome]]:
    """Every round's outcomes, best first; what Ctrl-C left."""
    settings = candidates(len(os.sched_getaffinity(0)), latency_limit_ns(given["slo"]))
    done: list[Outcome] = []
    with bar(console) as progress:
        task = progress.add_task("the defaults", total=given["budget"] / 1e9, told="")
        started = time.monotonic()

        def measure(setting: Setting, seconds: float) -> tuple[float, ...]:
            progress.update(task, description=setting.text(), completed=time.monotonic() - started)
            outcome = bench.measure(setting, seconds)
            if outcome.reason and not done:
                raise LoadTestError(f"the defaults cannot be measured: {outcome.reason}")
            done.append(outcome)
            best = max(one.rate for one in done)
            progress.update(task, told=f"{len(done)} measured, best {best:,.0f}/s")
            return outcome.score

        start(bench.servers)  # once: the others change its settings
        left_ns = round(given["budget"] * (1 - BUDGET_SHARE) - (time.monotonic() - started) * SECOND_NS)
        try:
            search(settings, measure, budget_ns=left_ns, first_s=FIRST_S, clock=monotonic_ns)
        except KeyboardInterrupt:
            if not done:
                raise
    return by_rounds(done)


def beside_defaults(bench: Bench, rounds: list[list[Outcome]], given: dict[str, Any], console: Console) -> list[Turn]:
    """Turns of what looks best and the defaults; none where those look best, or Ctrl-C came."""
    best, _ = told.recommended(rounds)
    if best.setting == DEFAULT or best.rate == 0:
        return []
    with bar(console) as progress:
        task = progress.add_task(f"{best.setting.text()} beside the defaults", total=2 * TURNS, told="")

        def measure(setting: Setting, seconds: float) -> Outcome:
            outcome = bench.measure(setting, seconds)
            progress.update(task, advance=1, told=f"{setting.text()}: {outcome.rate:,.0f}/s")
            return outcome

        try:
            return duel(best.setting, measure, seconds_each(given["budget"] / SECOND_NS))
        except KeyboardInterrupt:
            return []


def start(servers: Servers) -> None:
    """The first server. Raises LoadTestError."""
    try:
        servers.at(DEFAULT)
    except LoadTestError as error:
        raise LoadTestError(f"the defaults cannot be measured: {error}") from None


def by_rounds(done: list[Outcome]) -> list[list[Outcome]]:
    """Those that were measured equally long together, shortest first, each best first."""
    lengths = sorted({outcome.seconds for outcome in done})
    return [
        sorted((one for one in done if one.seconds == seconds), key=lambda one: one.score, reverse=True)
        for seconds in lengths
    ]


def latency_limit_ns(objectives: tuple[Objective, ...]) -> float:
    """The tightest latency that must be kept: what queue delays are made of."""
    limits = [objective.limit for objective in objectives if objective.kind == "latency"]
    return min(limits, default=DELAY_WITHOUT_LATENCY_NS)


def write_configuration(file: Path, text: str) -> None:
    """Raises ConfigError."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None
