"""`fastserve predict`: one prediction from the shell, over TF Serving's REST."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from fastserve import demo
from fastserve.cli import reach
from fastserve.cli.client import decoded, model_path
from fastserve.cli.signature import RemoteSpec, remote_inputs

EXAMPLES = """
\b
Examples:
  fastserve predict http://127.0.0.1:8000 iris
  fastserve predict http://127.0.0.1:8000 iris --data '[5.1, 3.5, 1.4, 0.2]'
  fastserve predict http://127.0.0.1:8000 iris --data '{"instances": [[5, 3, 1, 0], [6, 3, 4, 1]]}'
  fastserve predict http://127.0.0.1:8000 digits --data @image.json --json
  cat instance.json | fastserve predict http://127.0.0.1:8000 wine --data -
"""


@click.command(epilog=EXAMPLES, short_help="Ask a running server for a prediction.")
@click.argument("url")
@click.argument("model")
@click.option(
    "--data",
    help='One instance as JSON, or a whole body with "instances" or "inputs"; @FILE reads a file, - standard input. '
    "Without it an instance is made up from what the model says of its inputs.",
)
@click.option("--version", type=click.IntRange(min=0), help="Version of the model.  [default: the newest]")
@click.option("--label", help="Label of a version, as in stable.")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="Wait.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer's JSON as it came.")
def command(
    url: str, model: str, data: str | None, version: int | None, label: str | None, timeout_s: float, as_json: bool
) -> None:
    """Ask the server at URL for a prediction of MODEL, and print the answer."""
    if version is not None and label is not None:
        raise click.UsageError("--version and --label exclude each other")
    client = reach.client(url, timeout_s)
    path = model_path(model, version, label)
    if data is None:
        inputs = remote_inputs(decoded(client.get(f"{path}/metadata"), "the model's metadata"))
        body = made_up_body(model, inputs)
        if not as_json:
            click.echo(f"sent  {shortened(body)}")
    else:
        body = body_of(_read(data))
    answer = client.post(f"{path}:predict", body)
    if as_json:
        click.echo(answer.decode("utf-8").rstrip())
    else:
        click.echo("\n".join(answer_lines(decoded(answer, "the answer"))))


def _read(data: str) -> str:
    """What `--data` means: text, a file's, or standard input's."""
    if data == "-":
        return sys.stdin.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{data[1:]}: {error}", param_hint="--data") from None
    return data


def body_of(text: str) -> bytes:
    """The body to send: `text` itself where it is a whole body, else `text` as the one instance, digit for digit."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--data") from None
    whole = isinstance(value, dict) and ("instances" in value or "inputs" in value)
    return (text if whole else f'{{"instances": [{text}]}}').encode()


def made_up_body(model: str, inputs: list[RemoteSpec]) -> bytes:
    """A request that fits: a demo model's golden instance, else zeros in the shape of every input."""
    if model in demo.names():
        instance = demo.golden(model).instances[0]
        named = set(instance) if isinstance(instance, dict) else {inputs[0].name}
        if {spec.name for spec in inputs} == named:
            return json.dumps({"instances": [instance]}).encode()
    if all(spec.has_rows for spec in inputs):
        return json.dumps({"instances": [{spec.name: spec.one_row() for spec in inputs}]}).encode()
    return json.dumps({"inputs": {spec.name: spec.one_tensor() for spec in inputs}}).encode()


def answer_lines(answer: Any) -> list[str]:
    """For people: a line per row, or per output of a row where there are several."""
    if not isinstance(answer, dict):
        return [json.dumps(answer)]
    rows = answer.get("predictions", answer.get("outputs", answer))
    if isinstance(rows, dict):
        return _named_lines(rows)
    if not isinstance(rows, list):
        return [json.dumps(rows)]
    lines: list[str] = []
    for number, row in enumerate(rows):
        lines += [f"row {number}"] if len(rows) > 1 else []
        lines += _named_lines(row) if isinstance(row, dict) else [json.dumps(row)]
    return lines


def _named_lines(row: dict[str, Any]) -> list[str]:
    columns = max((len(name) for name in row), default=0)
    return [f"{name:<{columns}}  {json.dumps(value, ensure_ascii=False)}" for name, value in row.items()]


def shortened(body: bytes, chars: int = 200) -> str:
    """The body's beginning."""
    text = body.decode("utf-8")
    return text if len(text) <= chars else f"{text[:chars]}... ({len(body)} bytes)"
