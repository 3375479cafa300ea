"""`fastserve log delete`: everything that was logged for one prediction."""

import json
from contextlib import closing

import click

from fastserve.cli.log_place import find, split

EXAMPLES = """
\b
Examples:
  fastserve log delete iris 4711
  fastserve log delete http://127.0.0.1:8000 iris 4711 --space my-space
  fastserve log delete ./log iris 4711 --yes
"""


@click.command(epilog=EXAMPLES, short_help="Delete what was logged for a prediction.")
@click.argument("place", nargs=-1, required=True, metavar="[URL|DIRECTORY] MODEL PREDICTION_ID")
@click.option("--space", help="In this space only.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="Wait.")
def command(place: tuple[str, ...], space: str | None, yes: bool, as_json: bool, timeout_s: float) -> None:
    """Delete the prediction, its actual and its importances. It is gone at once, its bytes with the next compaction.

    On a server it takes a key with the scope admin.
    """
    where, (model, prediction_id) = split(place, ("MODEL", "PREDICTION_ID"))
    if not yes:
        click.confirm(f"Delete what {where} has of {model} under {prediction_id}?", abort=True, err=True)
    with closing(find(where, timeout_s)) as log:
        found = log.delete(model, prediction_id, space)
    click.echo(json.dumps(found) if as_json else f"deleted {found['deleted']} parts of {model} {prediction_id}")
