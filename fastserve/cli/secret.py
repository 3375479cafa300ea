"""A secret, from whoever calls the command: asked for where a person sits there, else the first line of standard input."""

import sys

import click

from fastserve.errors import ConfigError


def read_secret(what: str) -> str:
    """The secret. Raises ConfigError where there is none, or one that no header can carry."""
    if sys.stdin.isatty():
        secret: str = click.prompt(what, hide_input=True, confirmation_prompt=True, err=True)
    else:
        secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise ConfigError(f"expected a {what.lower()} on standard input, got an empty line")
    if not secret.isprintable():
        raise ConfigError(f"expected a {what.lower()} of printable characters")
    return secret
