"""`fastserve bench`: load on a running server, and what it answered."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

from fastserve.cli import reach
from fastserve.cli.load_options import (
    MAX_CONNECTIONS,
    Header,
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
from fastserve.loadtest import page, specs, table, target
from fastserve.loadtest.drive import SECOND_NS, Level, Moment, Watch
from fastserve.loadtest.report import Report
from fastserve.loadtest.session import SWEEP_CONNECTIONS, Inputs, Session, prepare
from fastserve.loadtest.wait import prepared_within

EXAMPLES = """
\b
Examples:
  fastserve bench http://127.0.0.1:8000 --model iris
  fastserve bench http://127.0.0.1:8000 --model iris --protocol v2-binary --concurrency 1,16,64 --duration 10s
  fastserve bench http://127.0.0.1:8000 --model iris --rate 500,1000,2000 --slo p99=5ms
  fastserve bench http://127.0.0.1:8000 --model iris --slo p99=5ms --sweep --html bench.html
  fastserve bench http://127.0.0.1:8000 --model digits --rows 8 --json -
  fastserve bench http://127.0.0.1:9000/predict --protocol http --data body.json    # any other server
"""

MAX_RATE = 10_000_000.0
DEFAULT_CONCURRENCY = (1, 16, 64)


@click.command(epilog=EXAMPLES, short_help="Load a running server and measure it.")
@click.argument("url")
@click.option("--model", help="The model; not needed where there is one.")
@click.option("--model-version", help="Its version.  [default: the newest]")
@click.option(
    "--protocol",
    type=click.Choice(specs.PROTOCOLS),
    default=specs.TFSERVING,
    show_default=True,
    help="What to speak; http: send --data to URL as it is.",
)
@click.option(
    "--concurrency",
    type=Numbers(int, MAX_CONNECTIONS),
    help="Closed loop: so many connections, each sends when it has its answer; levels with commas.  [default: 1,16,64]",
)
@click.option(
    "--rate",
    type=Numbers(float, MAX_RATE),
    help="Open loop: so many requests a second, whether answers come or not; levels with commas.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="How they come.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, MAX_CONNECTIONS),
    default=SWEEP_CONNECTIONS,
    show_default=True,
    help="Open loop: connections at most.",
)
@click.option("--duration", type=Time(), default="5s", show_default=True, help="Of each level.")
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    help="Each level ends after so many requests; without --duration, not before.",
)
@click.option("--warmup", type=Time(), default="1s", show_default=True, help="Before each level, not measured.")
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, max=3600, min_open=True),
    default=30.0,
    show_default=True,
    help="Wait for an answer.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="That send; one is enough for most servers.",
)
@click.option(
    "--bodies", type=click.IntRange(1, 100_000), default=8, show_default=True, help="Different bodies, sent in turn."
)
@with_inputs
@click.option("--content-type", help="Of --data.  [default: application/json]")
@click.option("--path", help="Send there instead of to the protocol's path.")
@click.option(
    "--header",
    "headers",
    type=Header(),
    multiple=True,
    help="'Name: value'. Repeatable. A key is better kept in FASTSERVE_API_KEY, where ps does not show it.",
)
@click.option("--no-keepalive", is_flag=True, help="A connection for each request.")
@click.option(
    "--wait",
    type=Time(),
    default="1m",
    show_default=True,
    help="For a server that says 503 before anything is measured, as one does that is loading the model.",
)
@click.option(
    "--slo",
    type=Objectives(),
    help="Objectives as in p99=5ms,errors=1%,rate=1000; exit code 1 where one is missed.",
)
@click.option("--sweep", is_flag=True, help="Find the highest rate that meets --slo.")
@with_files
def command(url: str, **given: Any) -> None:
    """Load the server at URL, and print rate, latencies, errors and batch sizes.

    Latency counts from when a request was meant to be sent, so that a server that stalls cannot hide it (coordinated
    omission). Ctrl-C ends it and prints what was measured.
    """
    levels = levels_of(given)
    if given["html_file"]:
        page.need_plotly()
    reached = target.find(
        url,
        headers=given["headers"],
        security=reach.security(),
        uds=reach.uds(),
        timeout_s=given["timeout_s"],
        env=os.environ,
    )
    inputs = all_inputs_of(given)
    console = console_for(given["json_file"])
    load = prepared_within(
        given["wait"], lambda: prepare(reached, inputs), clock=monotonic_ns, tell=saying(console), pause=time.sleep
    )
    with shown(console) as watch:
        session = Session(reached, load, inputs, given["slo"] or (), watch)
        try:
            for level in levels if not given["sweep"] else []:
                if not session.interrupted:
                    session.run(level)
            if given["sweep"]:
                session.find_highest_rate(levels[-1])
        except KeyboardInterrupt:
            pass  # between two levels: those that were measured are told
    report = session.report()
    tell(console, report)
    write(given, report, lambda: page.page(report))
    sys.exit(exit_code(report))


def levels_of(given: dict[str, Any]) -> list[Level]:
    """What to drive. Raises UsageError."""
    if given["sweep"] and not given["slo"]:
        raise click.UsageError("--sweep takes --slo, as in --slo p99=5ms")
    if given["sweep"] and given["rate"]:
        raise click.UsageError("--sweep finds the rate: leave --rate out")
    if given["rate"] and given["concurrency"]:
        raise click.UsageError("--rate and --concurrency exclude each other: --connections bounds those of --rate")
    context = click.get_current_context()
    chosen = context.get_parameter_source("duration") is not click.core.ParameterSource.DEFAULT
    common = {
        "duration_ns": given["duration"] if chosen or not given["requests"] else 0,
        "max_requests": given["requests"] or 0,
        "warmup_ns": given["warmup"],
        "timeout_ns": round(given["timeout_s"] * SECOND_NS),
        "seed": given["seed"],
        "threads": given["threads"],
        "poisson": given["arrivals"] == "poisson",
    }
    if given["rate"]:
        return [Level(connections=given["connections"], rate=rate, **common) for rate in given["rate"]]
    return [Level(connections=count, **common) for count in given["concurrency"] or DEFAULT_CONCURRENCY]


def all_inputs_of(given: dict[str, Any]) -> Inputs:
    """What to send."""
    return inputs_of(
        given,
        version=given["model_version"],
        path=given["path"],
        content_type=given["content_type"],
        bodies=given["bodies"],
        keep_alive=not given["no_keepalive"],
    )


def saying(console: Console) -> Callable[[str], None]:
    """Prints why nothing is measured yet."""
    return lambda why: console.print(f"waiting: {why}", markup=False, style="dim")


@contextmanager
def shown(console: Console) -> Iterator[Watch]:
    """A bar while it runs, where somebody sees it."""
    with bar(console) as progress:
        task = progress.add_task("starting", total=1.0, told="")

        def watch(moment: Moment) -> None:
            told = f"{moment.per_s:,.0f}/s, {moment.good:,} answered, {moment.bad:,} failed"
            progress.update(task, description=moment.phase, completed=moment.share, told=told)

        yield watch


def tell(console: Console, report: Report) -> None:
    """Print it."""
    if not report.runs:
        console.print("nothing was measured")
        return
    console.print(table.results(report.runs))
    for run in report.runs:
        for note in table.notes(run):
            console.print(note, markup=False)
    if report.sweep is not None:
        console.print(table.sweep_line(report))
    else:
        for line in (line for run in report.runs for line in table.verdict_lines(run)):
            console.print(line)


def exit_code(report: Report) -> int:
    """0 where every objective was met, or there was none and something was answered."""
    if any(run.interrupted for run in report.runs) or not any(run.answered for run in report.runs):
        return 1
    return 0 if report.met is not False else 1
