"""`fastserve hash-password`: a password to the line that [[auth.users]] takes."""

import json

import click

from fastserve.cli.secret import read_secret

EXAMPLES = """
\b
Examples:
  fastserve hash-password                     # asks for it, twice
  fastserve hash-password < password.txt
"""


@click.command(epilog=EXAMPLES, short_help="Hash a password for the configuration file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Read a password from standard input, or ask for it, and print the line for [[auth.users]]."""
    from fastserve.access.hashes import hash_password

    hashed = hash_password(read_secret("Password"))
    click.echo(json.dumps({"password_hash": hashed}) if as_json else f'password_hash = "{hashed}"')
