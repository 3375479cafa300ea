"""What a request's headers present. Pure: whatever stands in them, it is a credential or none, never an error."""

import binascii
from base64 import b64decode

from msgspec import Struct

MAX_CREDENTIAL_CHARS = 4096
"""Longer ones are nobody's."""


class Password(Struct, frozen=True):
    """HTTP Basic (RFC 7617): a user's name and what is said to be the password."""

    user: str
    secret: bytes

    def __repr__(self) -> str:
        return "Password(...)"


class Key(Struct, frozen=True):
    """What is said to be a key."""

    secret: bytes

    def __repr__(self) -> str:
        return "Key(...)"


def of_api_key(text: str) -> Key | None:
    """What `X-API-Key` presents."""
    return Key(text.encode("utf-8", "surrogatepass")) if 0 < len(text) <= MAX_CREDENTIAL_CHARS else None


def of_authorization(text: str, *, bare: bool = False) -> Password | Key | None:
    """What `Authorization` presents. `bare`: a key may stand there without a scheme."""
    if len(text) > MAX_CREDENTIAL_CHARS:
        return None
    scheme, _, rest = text.partition(" ")
    rest = rest.strip(" \t")
    match scheme.lower():
        case "basic" if rest:
            return _password(rest)
        case "bearer" if rest:
            return of_api_key(rest)
        case _:
            return of_api_key(text) if bare and not rest else None


def _password(text: str) -> Password | None:
    """base64 of `user:password`; the password may hold colons. RFC 7617 has UTF-8 or whatever a client likes."""
    try:
        decoded = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, secret = decoded.partition(b":")
    if not colon:
        return None
    try:
        return Password(user.decode(), secret)
    except UnicodeDecodeError:
        return None
