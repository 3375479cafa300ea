"""`fastserve version`: what is installed."""

import json
import platform
from importlib.metadata import version as installed_version

import click

from fastserve import __version__

EXAMPLES = """
\b
Examples:
  fastserve version
  fastserve version --json
"""


@click.command(epilog=EXAMPLES, short_help="Show the versions of what is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Show the versions of fastserve, onnxruntime, Granian and Python, and the execution providers found."""
    from fastserve.backends import ort

    found = {
        "fastserve": __version__,
        "onnxruntime": ort.runtime_version(),
        "granian": installed_version("granian"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "providers": ort.available_providers(),
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name:<12} {value if isinstance(value, str) else ', '.join(value)}")
