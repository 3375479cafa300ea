"""`fastserve log performance`: how well a model does."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec

from fastserve.cli.log_options import options, question
from fastserve.cli.log_pages import HTML, write
from fastserve.cli.log_place import find, split
from fastserve.cli.log_tables import performance_text
from fastserve.monitor.question import PerformanceQuestion

EXAMPLES = """
\b
Examples:
  fastserve log performance iris
  fastserve log performance http://127.0.0.1:8000 iris --start 7d --window 1d
  fastserve log performance ./log churn --slice t.region --metric auc --positive-class yes
  fastserve log performance ./log price --filter f.rooms>=3 --html price.html
"""


@click.command(epilog=EXAMPLES, short_help="How well a model does, over time and by slices.")
@click.argument("place", nargs=-1, required=True, metavar="[URL|DIRECTORY] MODEL")
@click.option("--html", type=HTML, help="Write a page with charts that needs no network.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--timeout-s", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Wait."
)
def command(place: tuple[str, ...], html: Path | None, as_json: bool, timeout_s: float, **given: Any) -> None:
    """Say how well MODEL does: its predictions beside what really happened.

    Which metrics, depends on the labels: of classes accuracy, precision, recall, F1, AUC, log loss, calibration; of numbers
    MAE, RMSE, MAPE, R2; of rankings NDCG, MRR, MAP.
    """
    where, (model,) = split(place, ("MODEL",))
    asked = question(PerformanceQuestion, model, given)
    with closing(find(where, timeout_s)) as log:
        found = log.ask(asked)
    if html is not None:
        write(html, performance=found)
    click.echo(msgspec.json.encode(found).decode() if as_json else performance_text(found))


command.params += options(PerformanceQuestion)
