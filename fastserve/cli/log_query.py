"""`fastserve log query`: SQL over the prediction log."""

import json
from contextlib import closing

import click

from fastserve.cli.log_place import find, split
from fastserve.cli.log_tables import cell, render

EXAMPLES = """
\b
Examples:
  fastserve log query "select * from joined limit 10"
  fastserve log query ./log --model iris 'select "f.petal_length", label_cat from predictions'
  fastserve log query http://127.0.0.1:8000 "select model_id, count(*) n from records group by 1" --json
\b
Views: records (all parts), predictions, actuals, importances (the last of each id), joined (predictions with actuals).
Columns: space, model_id, version, environment, batch_id, prediction_id, ts, label_num, label_cat, score, label_json,
"f.NAME", "t.NAME"; of joined also actual_num, actual_cat, actual_score, actual_json, label_delay_s.
"""


@click.command(epilog=EXAMPLES, short_help="Ask the log in SQL.")
@click.argument("place", nargs=-1, required=True, metavar="[URL|DIRECTORY] SQL")
@click.option("--model", help="Of this model only: quicker, and with its own columns.")
@click.option(
    "--max-rows", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Rows that are shown."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="Wait.")
def command(place: tuple[str, ...], model: str | None, max_rows: int, as_json: bool, timeout_s: float) -> None:
    """Answer one SELECT, in DuckDB's SQL. It reads the log and nothing else, for a bounded time."""
    where, (sql,) = split(place, ("SQL",))
    with closing(find(where, timeout_s)) as log:
        found = log.query(sql, model, max_rows)
    names = [str(column["name"]) for column in found.columns]
    if as_json:
        click.echo(json.dumps({"columns": found.columns, "rows": found.rows, "truncated": found.truncated}))
        return
    click.echo(render(names, [[cell(value) for value in row] for row in found.rows]))
    more = f"; there are more (--max-rows {max_rows})" if found.truncated else ""
    click.echo(f"\n{len(found.rows)} row{'' if len(found.rows) == 1 else 's'}{more}")
