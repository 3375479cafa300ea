"""`fastserve hash-key`: a key to the line that [[auth.keys]] takes."""

import json

import click

from fastserve.cli.secret import read_secret
from fastserve.errors import ConfigError

EXAMPLES = """
\b
Examples:
  fastserve hash-key --generate               # a new key, and its line
  fastserve hash-key < key.txt
"""


@click.command(epilog=EXAMPLES, short_help="Hash a key for the configuration file, or make one.")
@click.option("--generate", is_flag=True, help="Make a random key, and print it too; it is kept nowhere.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(generate: bool, as_json: bool) -> None:
    """Read a key from standard input, or ask for it, and print the line for [[auth.keys]]."""
    from fastserve.access.hashes import MIN_KEY_CHARS, hash_key, new_key

    key = new_key() if generate else read_secret("Key")
    if len(key) < MIN_KEY_CHARS:
        raise ConfigError(
            f"a key is checked fast, so a short one can be guessed: expected at least {MIN_KEY_CHARS} characters,"
            f" got {len(key)}; --generate makes a good one, and for what people remember there is hash-password"
        )
    found = {**({"key": key} if generate else {}), "key_hash": hash_key(key)}
    if as_json:
        click.echo(json.dumps(found))
        return
    if generate:
        click.echo(f"key: {key}\n")
    click.echo(f'key_hash = "{found["key_hash"]}"')
