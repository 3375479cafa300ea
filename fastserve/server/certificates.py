"""The certificate, its key and the authorities of clients, as they were when they could last be used.

What was checked is what is served: the files are copied into memory, checked there, and handed on from there, so that files
that are being replaced, or no longer fit each other, neither stop a worker from starting nor change what is served.
Thread: the parent's main thread; in a worker, one at a time: a look takes a moment where files have changed.
Memory: the copies, of a few kB, in files without a name.
"""

import logging
import os
import ssl
from collections.abc import Mapping
from typing import Any

from granian.constants import SSLProtocols

from fastserve.config import ServerConfig
from fastserve.config.origin import FileIdentity, identity
from fastserve.errors import ConfigError
from fastserve.server.tls_probe import refused

MAX_FILE_BYTES = 16 << 20
EXPECTED = "expected a key, and certificates, of RSA (2048 to 4096 bits), ECDSA (P-256, P-384) or Ed25519"
OPTIONS = ("ssl_certificate", "ssl_keyfile", "ssl_ca")

_log = logging.getLogger(__name__)


class Copies:
    """The files' contents as one look found them; `paths`: where this process, and those forked from it, read them.

    `authorities`: what clients' certificates are judged by.
    """

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self.files: list[int] = []
        self.authorities = contents.get("ssl_ca", b"")
        self.paths: dict[str, str] = {}
        for option, content in contents.items():
            file = os.memfd_create(option)
            self.files.append(file)
            _write(file, content)
            self.paths[option] = f"/proc/self/fd/{file}"

    def close(self) -> None:
        """Nobody reads them any more."""
        for file in self.files:
            os.close(file)
        self.files.clear()


class Certificates:
    """The files of one configuration, followed. Raises ConfigError where they cannot be used to begin with."""

    def __init__(self, server: ServerConfig) -> None:
        named = {option: getattr(server, option) for option in OPTIONS}
        self._files: dict[str, str] = {option: path for option, path in named.items() if path}
        self._asks = server.ssl_client_certificate
        self._taken = self._seen = self._identities()
        self._refused: Mapping[str, FileIdentity | None] | None = None
        self._copies = self._checked()

    def look(self, *, finished: bool = False) -> bool:
        """Whether there are other ones to be served now. `finished`: they are complete, however young.

        Else they must look the same twice. Those that cannot be used are told of once, and what was served stays.
        """
        now = self._identities()
        settled, self._seen = finished or now == self._seen, now
        if now == self._taken or not settled or (now == self._refused and not finished):
            return False
        try:
            copies = self._checked()
        except ConfigError as error:
            self._refused = now
            _log.error("the changed certificates cannot be used, those that were read before are served on: %s", error)
            return False
        self._copies.close()
        self._copies, self._taken = copies, now
        return True

    def close(self) -> None:
        """Nobody serves with them."""
        self._copies.close()

    @property
    def authorities(self) -> bytes:
        """What clients' certificates are judged by now."""
        return self._copies.authorities

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What Granian's workers take for TLS."""
        paths = self._copies.paths
        return (
            True,
            paths["ssl_certificate"],
            paths["ssl_keyfile"],
            None,
            str(SSLProtocols.tls12),
            paths.get("ssl_ca"),
            [],
            "ssl_ca" in paths and self._asks == "required",
        )

    def _identities(self) -> Mapping[str, FileIdentity | None]:
        return {option: identity(path) for option, path in self._files.items()}

    def _checked(self) -> Copies:
        copies = Copies({option: _read(path, _flag(option)) for option, path in self._files.items()})
        try:
            _check(copies.paths, self._files)
            if refused([*copies.paths.values()], copies.files):
                raise ConfigError(f"{self._files['ssl_keyfile']}: {EXPECTED} ({_flag('ssl_keyfile')})")
        except ConfigError:
            copies.close()
            raise
        return copies


def _check(paths: Mapping[str, str], named: Mapping[str, str]) -> None:
    """Raises ConfigError naming the file where TLS cannot be had with them: a worker could only die of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_authorities(context, "ssl_certificate", paths, named)
    try:
        context.load_cert_chain(paths["ssl_certificate"], paths["ssl_keyfile"], password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        where = f"({_flag('ssl_keyfile')}, for the certificate {named['ssl_certificate']})"
        raise ConfigError(f"{named['ssl_keyfile']}: {_why(error)} {where}") from None
    if "ssl_ca" in paths:
        _load_authorities(context, "ssl_ca", paths, named)


def _load_authorities(context: ssl.SSLContext, option: str, paths: Mapping[str, str], named: Mapping[str, str]) -> None:
    try:
        context.load_verify_locations(paths[option])
    except ssl.SSLError:
        raise ConfigError(f"{named[option]}: expected certificates in PEM ({_flag(option)})") from None


def _read(path: str, flag: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error} ({flag})") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_FILE_BYTES} bytes ({flag})")
    return content


def _write(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


class _Encrypted(ValueError):
    pass


def _no_password() -> str:
    raise _Encrypted("it is encrypted; give it without a password (openssl pkey -in KEY -out PLAIN)")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "it is the key of another certificate"
        if "TOO_SMALL" in (error.reason or ""):
            return f"it is too short: {EXPECTED}"
        return "expected a private key in PEM"
    return str(error)
