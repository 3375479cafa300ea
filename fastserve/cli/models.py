"""`fastserve models`: what a running server serves."""

import json
import re
from typing import Any

import click
from msgspec import Struct, structs

from fastserve.cli import reach
from fastserve.cli.client import CallFailed, Client, decoded, model_path
from fastserve.cli.signature import remote_inputs, remote_outputs

EXAMPLES = """
\b
Examples:
  fastserve models http://127.0.0.1:8000
  fastserve models http://127.0.0.1:8000 --json
"""

INFO = re.compile(r"^fastserve_model_info\{(?P<labels>.*)\} 1(\.0)?$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class Served(Struct, frozen=True):
    """One version of one model; inputs and outputs in words, and empty unless it is READY."""

    model: str
    version: int
    state: str
    inputs: list[str]
    outputs: list[str]


@click.command(epilog=EXAMPLES, short_help="List what a running server serves.")
@click.argument("url")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="Wait.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(url: str, timeout_s: float, as_json: bool) -> None:
    """List the models of the server at URL, with their versions, states, inputs and outputs."""
    served = list_served(reach.client(url, timeout_s))
    if as_json:
        click.echo(json.dumps({"models": [structs.asdict(row) for row in served]}))
        return
    from fastserve.server.table import ModelRow, render_table

    rows = [
        ModelRow(
            model=row.model,
            version=str(row.version),
            state=row.state,
            inputs="\n".join(row.inputs),
            outputs="\n".join(row.outputs),
        )
        for row in served
    ]
    click.echo(render_table(rows) if rows else "no models")


def list_served(client: Client) -> list[Served]:
    """Every version that the server knows, newest first within a model. Raises CallFailed."""
    text = client.get("/metrics").decode("utf-8", "replace")
    if "fastserve_" not in text:
        raise CallFailed(f"{client.url} is no fastserve: its /metrics has none of the names")
    known = sorted(infos(text), key=lambda info: (info["model"], -int(info["version"])))
    return [_described(client, info) for info in known]


def infos(metrics: str) -> list[dict[str, str]]:
    """The labels of every `fastserve_model_info` series that is 1."""
    return [
        {name: re.sub(r"\\[n\"\\]", lambda found: ESCAPED[found[0]], value) for name, value in LABEL.findall(labels)}
        for labels in (match["labels"] for match in INFO.finditer(metrics))
    ]


def _described(client: Client, info: dict[str, str]) -> Served:
    model, version, state = info["model"], int(info["version"]), info["state"]
    if state != "READY":
        return Served(model, version, state, [], [])
    metadata: Any = decoded(client.get(f"{model_path(model, version, None)}/metadata"), "the model's metadata")
    inputs = [spec.text() for spec in remote_inputs(metadata)]
    return Served(model, version, state, inputs, [spec.text() for spec in remote_outputs(metadata)])
