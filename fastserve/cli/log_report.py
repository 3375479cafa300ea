"""`fastserve log report`: performance and drift of a model, on one page."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from fastserve.cli.log_options import options, question
from fastserve.cli.log_pages import HTML, write
from fastserve.cli.log_place import find, split
from fastserve.monitor.question import DriftQuestion, PerformanceQuestion, Question

EXAMPLES = """
\b
Examples:
  fastserve log report iris --html iris.html
  fastserve log report ./log churn --slice t.region --baseline training --html churn.html
"""


@click.command(epilog=EXAMPLES, short_help="Write a page with charts: performance, drift, data quality.")
@click.argument("place", nargs=-1, required=True, metavar="[URL|DIRECTORY] MODEL")
@click.option("--html", type=HTML, required=True, help="The page; it needs no network.")
@click.option(
    "--timeout-s", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Wait."
)
def command(place: tuple[str, ...], html: Path, timeout_s: float, **given: Any) -> None:
    """Write a page about MODEL: how well it does, whether its data are what they were, and what is wrong with them."""
    where, (model,) = split(place, ("MODEL",))
    performance, drift = (question(kind, model, given) for kind in (PerformanceQuestion, DriftQuestion))
    with closing(find(where, timeout_s)) as log:
        write(html, performance=log.ask(performance), drift=log.ask(drift))
    click.echo(f"wrote {html}")


def _all_options() -> list[click.Parameter]:
    """Those of both questions, each once."""
    kinds: tuple[type[Question], ...] = (PerformanceQuestion, DriftQuestion)
    return [*{option.name: option for kind in kinds for option in options(kind)}.values()]


command.params += _all_options()
