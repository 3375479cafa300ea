"""Users and keys as an operator writes them: `[[auth.users]]` and `[[auth.keys]]`.

Thread: read once before any other thread starts; frozen afterwards. Nothing here prints a secret or a hash.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Scope = Literal["infer", "log", "read", "admin"]
"""What a caller may do: run models; write to the prediction log; look at models, metrics and the log; change the server."""

PASSWORD_HASH = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([\w+/-]{16,86})\$([\w+/-]{22,86})")
"""The PHC string format: cost, block size, parallelism; salt and hash in base64 without padding."""

KEY_HASH = re.compile(r"\$blake2b\$([\w+/-]{22})\$([\w+/-]{43})")
"""Salt (16 bytes) and hash (32 bytes) in base64 without padding."""

MAX_HASH_BYTES = 256 << 20
"""Memory that checking one password may take (scrypt: 128 * N * r)."""

_VARIABLE = re.compile(r"\$\{\w+\}")
_Names = Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]


class _Secretive(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A struct that prints as nothing but its class: tracebacks and logs show it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class UserConfig(_Secretive, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody with a password (HTTP Basic)."""

    username: Annotated[str, Meta(min_length=1, description="The name, without a colon.")]
    password_hash: Annotated[str, Meta(description="What fastserve hash-password prints.")] = ""
    password: Annotated[str, Meta(description='In clear: only "${NAME}", from the environment.')] = ""
    scopes: Annotated[
        Annotated[tuple[Scope, ...], Meta(min_length=1)] | None, Meta(description="Rights; default: infer and read.")
    ] = None
    models: Annotated[_Names | None, Meta(description="Names or globs of models; default: all.")] = None
    spaces: Annotated[_Names | None, Meta(description="Spaces that may be logged to; default: all.")] = None


class KeyConfig(_Secretive, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key (Bearer, X-API-Key, or the bare Authorization of the prediction log)."""

    name: Annotated[str, Meta(min_length=1, description="What the key is called; it is no secret.")]
    key_hash: Annotated[str, Meta(description="What fastserve hash-key prints.")] = ""
    key: Annotated[str, Meta(description='In clear: only "${NAME}", from the environment.')] = ""
    scopes: Annotated[
        Annotated[tuple[Scope, ...], Meta(min_length=1)] | None, Meta(description="Rights; default: infer.")
    ] = None
    models: Annotated[_Names | None, Meta(description="Names or globs of models; default: all.")] = None
    spaces: Annotated[_Names | None, Meta(description="Spaces that may be logged to; default: all.")] = None


class AuthConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may call. With nobody named, everybody may, but for what changes the server."""

    users: Annotated[tuple[UserConfig, ...], Meta(description="People with passwords.")] = ()
    keys: Annotated[tuple[KeyConfig, ...], Meta(description="Programs with keys.")] = ()
    required: Annotated[
        bool, Meta(description="Ask who is calling also where nobody is named: then nobody may but ask for health.")
    ] = False

    def __bool__(self) -> bool:
        return bool(self.users or self.keys or self.required)


AUTH_TABLES: Mapping[str, type[Struct]] = {"users": UserConfig, "keys": KeyConfig}
_SECRETS = {"users": "password", "keys": "key"}
_COMMANDS = {"users": "hash-password", "keys": "hash-key"}

Mistake = tuple[tuple[str | int, ...], str]
"""Where, and what is wrong there."""


def mistakes_as_written(raw: Mapping[str, Any]) -> Iterator[Mistake]:
    """Secrets that stand in the file itself; asked before the environment's values are put in."""
    for table, field in _SECRETS.items():
        for i, entry in enumerate(_entries(raw, table)):
            value = entry.get(field) if isinstance(entry, dict) else None
            if isinstance(value, str) and not _VARIABLE.fullmatch(value):
                yield (
                    ("auth", table, i, field),
                    'a secret in clear may only come from the environment, as "${NAME}";'
                    f" or write {field}_hash, which fastserve {_COMMANDS[table]} makes",
                )


def mistakes(auth: AuthConfig) -> Iterator[Mistake]:
    """What no single field can say."""
    yield from _twice("users", [user.username for user in auth.users])
    yield from _twice("keys", [key.name for key in auth.keys])
    for i, user in enumerate(auth.users):
        if ":" in user.username:
            yield ("auth", "users", i, "username"), "expected a name without a colon: HTTP Basic ends names there"
        yield from _secret("users", i, user.password, user.password_hash, password_hash_fits(user.password_hash))
    for i, key in enumerate(auth.keys):
        yield from _secret("keys", i, key.key, key.key_hash, KEY_HASH.fullmatch(key.key_hash) is not None)


def password_hash_fits(text: str) -> bool:
    """Whether it is one of ours, whose check takes a bounded time and memory."""
    match = PASSWORD_HASH.fullmatch(text)
    if match is None:
        return False
    ln, r, p = (int(match[i]) for i in (1, 2, 3))
    return ln >= 10 and r >= 1 and 1 <= p <= 16 and 128 * r * 2**ln <= MAX_HASH_BYTES


def _secret(table: str, i: int, clear: str, hashed: str, fits: bool) -> Iterator[Mistake]:
    field = _SECRETS[table]
    if bool(clear) == bool(hashed):
        yield ("auth", table, i), f"expected one of {field}_hash and {field}, and that it is not empty"
    elif hashed and not fits:
        yield ("auth", table, i, f"{field}_hash"), f"expected what fastserve {_COMMANDS[table]} prints"


def _twice(table: str, names: list[str]) -> Iterator[Mistake]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield ("auth", table, i), f'the name "{name}" is taken already'


def _entries(raw: Mapping[str, Any], table: str) -> list[Any]:
    auth = raw.get("auth")
    entries = auth.get(table) if isinstance(auth, dict) else None
    return entries if isinstance(entries, list) else []


def auth_tables(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any], type[Struct]]]:
    """Every table under `[auth]` and the struct that it must fit."""
    if isinstance(raw.get("auth"), dict):
        yield ("auth",), raw["auth"], AuthConfig
    for name, struct in AUTH_TABLES.items():
        for i, entry in enumerate(_entries(raw, name)):
            if isinstance(entry, dict):
                yield ("auth", name, i), entry, struct
