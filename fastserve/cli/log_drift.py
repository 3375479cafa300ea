"""`fastserve log drift`: whether a model's data are what they were."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec

from fastserve.cli.log_options import options, question
from fastserve.cli.log_pages import HTML, write
from fastserve.cli.log_place import find, split
from fastserve.cli.log_tables import drift_text
from fastserve.monitor.question import DriftQuestion

EXAMPLES = """
\b
Examples:
  fastserve log drift iris
  fastserve log drift http://127.0.0.1:8000 iris --baseline training --start 1d
  fastserve log drift ./log churn --baseline moving --baseline-window 7d --window 1d
  fastserve log drift ./log churn --baseline-start 2026-10-01 --baseline-end 2026-11-01 --html churn.html
  fastserve log drift ./log churn --dimension f.age --fail-on significant
"""

GRAVITY = ("stable", "moderate", "significant")


@click.command(epilog=EXAMPLES, short_help="Whether a model's data are what they were.")
@click.argument("place", nargs=-1, required=True, metavar="[URL|DIRECTORY] MODEL")
@click.option("--html", type=HTML, help="Write a page with charts that needs no network.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--fail-on", type=click.Choice(GRAVITY[1:]), help="Exit with 1 where anything drifted so far.")
@click.option(
    "--timeout-s", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Wait."
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    place: tuple[str, ...],
    html: Path | None,
    as_json: bool,
    fail_on: str | None,
    timeout_s: float,
    **given: Any,
) -> None:
    """Say whether MODEL's features, predictions and actuals are what they were.

    PSI below 0.1 is called stable, from 0.25 on significant; its bins are quantiles of the baseline, with the outer ones open
    and one for missing values.
    """
    where, (model,) = split(place, ("MODEL",))
    asked = question(DriftQuestion, model, given)
    with closing(find(where, timeout_s)) as log:
        found = log.ask(asked)
    if html is not None:
        write(html, drift=found)
    click.echo(msgspec.json.encode(found).decode() if as_json else drift_text(found))
    if fail_on is not None and any(one.verdict in GRAVITY[GRAVITY.index(fail_on) :] for one in found.dimensions):
        ctx.exit(1)


command.params += options(DriftQuestion)
