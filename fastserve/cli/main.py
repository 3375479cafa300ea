"""`fastserve`: one file per command, imported when it is called, so that --help and version answer at once."""

import importlib
import sys
from types import TracebackType
from typing import Any

import click

from fastserve import __version__
from fastserve.errors import FastServeError

COMMANDS = (
    "demo",
    "serve",
    "check",
    "predict",
    "models",
    "bench",
    "tune",
    "log",
    "hash-password",
    "hash-key",
    "version",
)
"""Each is `command` in `fastserve/cli/<name>.py`, with underscores."""


CALLING = ("predict", "models", "bench")
"""Those that call a server; those of `log` do, too."""


class Commands(click.Group):
    """The commands by name; what goes wrong is one line on standard error, and a traceback only with --debug."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command, with --debug added."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"fastserve.cli.{cmd_name.replace('-', '_')}").command
        return with_common(command, calls=cmd_name in CALLING)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its FastServeErrors become exit code 1 and one line."""
        try:
            return super().invoke(ctx)
        except FastServeError as error:
            if sys.excepthook is not _one_line:
                raise
            raise click.ClickException(str(error)) from error


def with_common(command: click.Command, *, calls: bool) -> click.Command:
    """The command with --debug and, where it calls a server, how that is reached; once."""
    if not any(option.name == "debug" for option in command.params):
        if calls:
            from fastserve.cli import reach

            command.params.extend(reach.options())
        command.params.append(_debug_option())
    return command


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_show_tracebacks,
        help="Show tracebacks.",
    )


def _version_option() -> click.Option:
    return click.Option(
        ["-V", "--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_show_version,
        help="Show the version and exit.",
    )


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"fastserve {__version__}")
        ctx.exit()


def _show_tracebacks(_ctx: click.Context, _parameter: click.Parameter, debug: bool) -> None:
    if debug:
        sys.excepthook = sys.__excepthook__


def _one_line(kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    print(f"Error: {kind.__name__}: {error} (again with --debug shows where)", file=sys.stderr)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: fastserve demo",
    params=[_version_option(), _debug_option()],
)
def cli() -> None:
    """Serve ONNX models over HTTP, natively fast."""


def main() -> None:
    """The entry point of the `fastserve` script. Exit codes: 0 done, 1 failed, 2 wrong usage."""
    sys.excepthook = _one_line
    cli(prog_name="fastserve")
