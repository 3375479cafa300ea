"""`fastserve log`: the prediction log of a running server, or of a directory, from the shell. One file per command."""

import importlib

import click

from fastserve.cli.main import with_common

COMMANDS = ("tail", "query", "export", "performance", "drift", "report", "delete")
"""Each is `command` in `fastserve/cli/log_<name>.py`."""

EXAMPLES = """
\b
Examples:
  fastserve log tail http://127.0.0.1:8000 --follow
  fastserve log query ./log "select model_id, count(*) from records group by 1"
  fastserve log export ./log --parquet records.parquet
  fastserve log performance http://127.0.0.1:8000 iris --slice t.region
  fastserve log drift ./log iris --baseline training
  fastserve log report ./log iris --html iris.html
  fastserve log delete http://127.0.0.1:8000 iris 4711
"""


class LogCommands(click.Group):
    """The commands by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"fastserve.cli.log_{cmd_name}").command
        return with_common(command, calls=True)


@click.group(cls=LogCommands, epilog=EXAMPLES, short_help="Read the prediction log: tail, query, drift, performance.")
def command() -> None:
    """Read the prediction log of the server at a URL, or the one in a directory.

    A directory is read as it is, safely beside a server that writes to it.
    """
