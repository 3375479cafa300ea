"""`fastserve log tail`: the last records, and those that come."""

import json
import time
from contextlib import closing
from typing import Any

import click

from fastserve.cli.log_place import DEFAULT_URL, Place, Table, find
from fastserve.cli.log_tables import cell
from fastserve.types import printable

EXAMPLES = """
\b
Examples:
  fastserve log tail
  fastserve log tail http://127.0.0.1:8000 --model iris --follow
  fastserve log tail ./log -n 100 --json
"""

COLUMNS = (
    "seq, kind, strftime(ts, '%Y-%m-%dT%H:%M:%S.%gZ') as ts, model_id, version, prediction_id, "
    "label_cat, label_num, score"
)
AT_MOST = 10_000


@click.command(epilog=EXAMPLES, short_help="Show the last records, and those that come.")
@click.argument("place", default=DEFAULT_URL, metavar="[URL|DIRECTORY]")
@click.option("--model", help="Of this model only.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, AT_MOST), default=20, show_default=True, help="Records to begin with."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come.")
@click.option("--interval-s", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Between looks.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="Wait.")
def command(
    place: str, model: str | None, lines: int, follow: bool, interval_s: float, as_json: bool, timeout_s: float
) -> None:
    """Show the last records in the order they came, a line each: predictions, actuals, importances."""
    with closing(find(place, timeout_s)) as log:
        sql = f"select {COLUMNS} from records order by seq desc, kind desc limit {lines}"  # noqa: S608 - a number
        last = _show(log, model, sql, as_json)
        if last is None and follow:
            last = _newest(log, model)
        while follow:
            time.sleep(interval_s)
            last = _new(log, model, last, as_json)


def _new(log: Place, model: str | None, last: int | None, as_json: bool) -> int | None:
    """Those after `last`; all parts of one record come at one moment, so none is cut in two."""
    sql = f"select {COLUMNS} from records where seq > {last or 0} order by seq desc, kind desc"  # noqa: S608 - a number
    found = _show(log, model, sql, as_json)
    return last if found is None else found


def _newest(log: Place, model: str | None) -> int | None:
    value: int | None = log.query("select max(seq) from records", model, 1).rows[0][0]
    return value


def _show(log: Place, model: str | None, sql: str, as_json: bool) -> int | None:
    """Print the rows, the last first in `sql`; the highest seq, None without rows."""
    found = log.query(sql, model, AT_MOST)
    names = [str(column["name"]) for column in found.columns]
    for row in reversed(found.rows):
        record = dict(zip(names, row, strict=True))
        click.echo(json.dumps(record) if as_json else line(record))
    return _highest(found)


def _highest(found: Table) -> int | None:
    return max((int(row[0]) for row in found.rows), default=None)


def line(record: dict[str, Any]) -> str:
    """One record for people."""
    label = cell(record["label_cat"]) or cell(record["label_num"])
    score = f" ({cell(record['score'])})" if record["score"] is not None else ""
    subject = ":".join(filter(None, (str(record["model_id"]), str(record["version"] or ""))))
    parts = (record["ts"], f"{record['kind']:<10}", subject, record["prediction_id"], f"{label}{score}")
    return "  ".join(printable(str(part)) for part in parts).rstrip()
