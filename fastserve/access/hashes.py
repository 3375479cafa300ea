"""How secrets are kept: passwords, which people choose, by scrypt; keys, which are random, by a fast keyed hash.

Each hash says how it was made, so it can be checked after the defaults have changed. Pure; any thread.
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode

from fastserve.config.auth import KEY_HASH, MAX_HASH_BYTES, PASSWORD_HASH

LN, R, P = 14, 8, 5
"""16 MiB and some tenths of a second: one of the settings that OWASP's password storage sheet holds equal."""

SALT_BYTES = 16
HASH_BYTES = 32
HINT_BYTES = 2
KEY_BYTES = 32
KEY_PREFIX = "fsk_"
"""Of keys that are made here: what scanners of source code find lost keys by."""

MIN_KEY_CHARS = 20
"""A key is checked fast, so it must not be one that can be guessed."""


class PasswordCheck:
    """One user's password. `text`: what `hash_password` made. The check takes long and `2**ln * r * 128` bytes."""

    def __init__(self, text: str) -> None:
        match = PASSWORD_HASH.fullmatch(text)
        assert match is not None, "the configuration was read without being checked"
        self._ln, self._r, self._p = (int(match[i]) for i in (1, 2, 3))
        self._salt, self._hash = _bytes(match[4]), _bytes(match[5])

    def matches(self, secret: bytes) -> bool:
        """Whether that is the password."""
        found = _scrypt(secret, self._salt, self._ln, self._r, self._p, len(self._hash))
        return hmac.compare_digest(found, self._hash)


class ClearPasswordCheck:
    """The same for a password that came in clear: as slow for whoever guesses, and hashed when first asked for."""

    def __init__(self, password: str) -> None:
        self._password = password
        self._check: PasswordCheck | None = None

    def matches(self, secret: bytes) -> bool:
        """Whether that is the password."""
        if self._check is None:
            self._check = PasswordCheck(hash_password(self._password))
        return self._check.matches(secret)


class KeyCheck:
    """One key. `text`: what `hash_key` made. The check takes about a microsecond; `hint`: of which keys it is worth it."""

    def __init__(self, text: str) -> None:
        match = KEY_HASH.fullmatch(text)
        assert match is not None, "the configuration was read without being checked"
        self._salt, self._hash = _bytes(match[1]), _bytes(match[2])
        self.hint = self._salt[:HINT_BYTES]

    def matches(self, secret: bytes) -> bool:
        """Whether that is the key."""
        return hmac.compare_digest(_blake2b(secret, self._salt), self._hash)


def hash_password(password: str) -> str:
    """`$scrypt$ln=14,r=8,p=5$SALT$HASH` with a fresh salt."""
    salt = secrets.token_bytes(SALT_BYTES)
    found = _scrypt(password.encode(), salt, LN, R, P, HASH_BYTES)
    return f"$scrypt$ln={LN},r={R},p={P}${_text(salt)}${_text(found)}"


def hash_key(key: str) -> str:
    """`$blake2b$SALT$HASH`; all but the beginning of the salt is fresh."""
    salt = key_hint(key.encode()) + secrets.token_bytes(SALT_BYTES - HINT_BYTES)
    return f"$blake2b${_text(salt)}${_text(_blake2b(key.encode(), salt))}"


def key_hint(secret: bytes) -> bytes:
    """What the salt of that key's hash begins with: among thousands of keys, few are to be tried."""
    return hashlib.blake2b(secret, digest_size=HINT_BYTES, person=b"fastserve hint").digest()


def new_key() -> str:
    """A random key of 256 bits."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def _scrypt(secret: bytes, salt: bytes, ln: int, r: int, p: int, length: int) -> bytes:
    # OpenSSL counts a little more than the block: twice the bound is never what refuses.
    return hashlib.scrypt(secret, salt=salt, n=1 << ln, r=r, p=p, maxmem=2 * MAX_HASH_BYTES, dklen=length)


def _blake2b(secret: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(secret, key=salt, digest_size=HASH_BYTES).digest()


def _text(value: bytes) -> str:
    return b64encode(value).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
