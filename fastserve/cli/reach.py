"""How a server is reached: the options of every command that calls one, and the client that they make.

They are kept beside the command's own arguments (click's context), so that no command hands them on.
"""

from typing import Any

import click

from fastserve.cli.client import Client
from fastserve.loadtest.target import Security

KEPT = "fastserve.reach."

_FILE = click.Path(exists=True, dir_okay=False)


def options() -> list[click.Parameter]:
    """For `command.params`."""
    return [
        _option("--ca", type=_FILE, help="Authorities (PEM) to trust over https."),
        _option("--certificate", type=_FILE, help="Ours (PEM), where the server asks for one."),
        _option("--keyfile", type=_FILE, help="Its private key."),
        _option("--insecure", is_flag=True, help="Trust any certificate."),
        _option("--uds", type=click.Path(), help="Unix socket to connect to."),
    ]


def _option(name: str, **more: Any) -> click.Option:
    return click.Option([name], expose_value=False, callback=_keep, **more)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[f"{KEPT}{parameter.name}"] = value


def security() -> Security:
    """What the running command was given."""
    kept = click.get_current_context().meta
    names = ("ca", "certificate", "keyfile", "insecure")
    return Security(**{name: kept[f"{KEPT}{name}"] for name in names})


def uds() -> str | None:
    """The socket that the running command was given."""
    path: str | None = click.get_current_context().meta[f"{KEPT}uds"]
    return path


def client(url: str, timeout_s: float) -> Client:
    """The server at `url`, as the running command's options say. Raises CallFailed."""
    return Client(url, timeout_s, security=security(), uds=uds())
