"""`fastserve serve`: models to URLs."""

import os
import sys
from typing import Any

import click

from fastserve.cli.settings import values_of, with_settings
from fastserve.config import Config, load_config

EXAMPLES = """
\b
Examples:
  fastserve serve model.onnx                  # the model "model", version 1
  fastserve serve models/ --port 9000         # models/<name>/<version>/model.onnx
  fastserve serve fastserve.toml --workers 2
  fastserve serve models.config               # TensorFlow Serving's
  fastserve serve spicepod.yaml               # Spice's
"""


@click.command(epilog=EXAMPLES, short_help="Serve models.")
@click.argument("path", nargs=-1, type=click.Path(exists=True))
@click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False),
    help="Configuration file (fastserve.toml, models.config or spicepod.yaml).  [env: FASTSERVE_CONFIG]",
)
@with_settings
def command(path: tuple[str, ...], file: str | None, **given: Any) -> None:
    """Serve the models at PATH: .onnx files, folders of models, a model's folder, or a configuration file.

    What stands on the command line wins over the environment, that over the configuration file, that over the defaults.
    SIGTERM and SIGINT finish what is in flight and exit with 0; a second one stops at once.
    """
    config = load_config(path, file, os.environ, values_of(given))
    if not config.repository.path and not any(model.path for model in config.models) and not config.log_directory:
        raise click.UsageError("nothing to serve: give a model file, a folder of models or a configuration file")
    sys.exit(run(config))


def run(config: Config) -> int:
    """Serve until told to stop; the exit code."""
    from fastserve import logs
    from fastserve.server import launch

    logs.set_up(config.server.log_dir)
    return launch.serve(config)
