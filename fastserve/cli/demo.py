"""`fastserve demo`: the embedded example models, served, with a request to copy for each protocol."""

import csv
import json
import os
import shlex
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from fastserve import demo
from fastserve.cli.serve import run
from fastserve.cli.settings import values_of, with_settings
from fastserve.config import Config, DatasetConfig, ModelConfig, ServerConfig, load_config

SHOWN_MODEL = "iris"
SHOWN_DATASET = "flowers"
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")

EXAMPLES = """
\b
Examples:
  fastserve demo
  fastserve demo --port 9000
"""


@click.command(epilog=EXAMPLES, short_help="Serve the embedded example models.")
@click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False),
    help="Configuration file (fastserve.toml, models.config or spicepod.yaml).  [env: FASTSERVE_CONFIG]",
)
@with_settings
def command(file: str | None, **given: Any) -> None:
    """Serve the embedded models, and print a request for each protocol.

    The prediction log is in a temporary folder, unless --log-dir says where. So is a table that iris is predicted from, where
    the extra `datasets` is installed.

    iris: four floats to label and probabilities. digits: an 8x8 image. wine: strings in and out. diabetes: a regression
    with several inputs.
    """
    config = load_config([str(demo.MODELS)], file, os.environ, values_of(given))
    with tempfile.TemporaryDirectory(prefix="fastserve-demo-", ignore_cleanup_errors=True) as folder:
        if config.log_directory is None:
            config = replace(config, log=replace(config.log, directory=folder))
        if file is None and find_spec("duckdb") is not None:
            config = with_flowers(config, Path(folder))
        for line in requests_to_try(config):
            click.echo(line)
        code = run(config)
    sys.exit(code)


def with_flowers(config: Config, folder: Path) -> Config:
    """`config` with a table in `folder`, the golden rows, that the shown model is predicted from."""
    path = folder / f"{SHOWN_DATASET}.csv"
    with path.open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        writer.writerows(demo.golden(SHOWN_MODEL).instances)
    dataset = DatasetConfig(name=SHOWN_DATASET, source=str(path))
    model = ModelConfig(name=SHOWN_MODEL, dataset=SHOWN_DATASET)
    return replace(config, datasets=(*config.datasets, dataset), models=(*config.models, model))


def requests_to_try(config: Config) -> list[str]:
    """One curl line per protocol, that works as it stands; none where the port is not known beforehand."""
    server = config.server
    if server.port == 0 and not server.uds:
        return []
    row = demo.golden(SHOWN_MODEL).instances[0]
    tensor = {"name": "features", "shape": [1, len(row)], "datatype": "FP32", "data": row}
    record = {
        "model_id": SHOWN_MODEL,
        "prediction_id": "1",
        "prediction": {"prediction_label": {"categorical": "setosa"}},
    }
    requests: list[tuple[str, dict[str, Any]]] = [
        (f"/v1/models/{SHOWN_MODEL}:predict", {"instances": [row]}),
        (f"/v2/models/{SHOWN_MODEL}/infer", {"inputs": [tensor]}),
        ("/v1/log", record),
    ]
    target = _curl_target(server)
    lines = [f"  curl -d {shlex.quote(json.dumps(body))} {target}{path}" for path, body in requests]
    if any(dataset.name == SHOWN_DATASET for dataset in config.datasets):
        lines.append(f"  curl {target}/v1/models/{SHOWN_MODEL}/predict")
    else:
        lines.append("  (predictions from tables: pip install 'fastserve[datasets]')")
    return ["Try, in another terminal:", *lines, ""]


def _curl_target(server: ServerConfig) -> str:
    """`http://127.0.0.1:8000`, with curl's options for a socket or an unknown authority before it."""
    scheme = "https" if server.ssl_certificate else "http"
    insecure = "--insecure " if server.ssl_certificate else ""
    if server.uds:
        return f"{insecure}--unix-socket {shlex.quote(server.uds)} {scheme}://localhost"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(server.host, server.host)  # noqa: S104 - compared, not bound
    return f"{insecure}{scheme}://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{server.port}"
