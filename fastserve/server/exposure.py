"""Who can reach the server, and whether that is meant: certificates that can be used, and warnings where everybody may call.

Thread: the parent's main thread, before there are workers.
"""

import ssl
from pathlib import Path

from fastserve.config import Config, ServerConfig
from fastserve.errors import ConfigError
from fastserve.http.rights import is_loopback_name


def exposure(config: Config) -> str:
    """What an operator should know of an address that other machines reach; empty where there is nothing to say."""
    server = config.server
    if server.uds or is_loopback_name(server.host):
        return ""
    reachable = f"{server.host} is reachable from other machines"
    if not config.auth and not server.ssl_ca:
        return (
            f"{reachable}, and this server asks nobody who they are; name users or keys (fastserve hash-key --generate,"
            " [[auth.keys]]), ask for certificates (--ssl-ca), or listen on 127.0.0.1"
        )
    if config.auth and not server.ssl_certificate:
        return (
            f"{reachable}, and passwords and keys go there in clear; serve HTTPS (--ssl-certificate, --ssl-keyfile), put a"
            " proxy with TLS before it, or listen on 127.0.0.1"
        )
    return ""


def check_certificates(server: ServerConfig) -> None:
    """Raises ConfigError naming the file where TLS cannot be had as configured: a worker could only die of it."""
    certificate, key, authorities = server.ssl_certificate, server.ssl_keyfile, server.ssl_ca
    if not certificate or not key:
        return
    for path, option in ((certificate, "--ssl-certificate"), (key, "--ssl-keyfile"), (authorities, "--ssl-ca")):
        if path:
            _check_readable(path, option)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_authorities(context, certificate, "--ssl-certificate")
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{key}: {_why(error)} (--ssl-keyfile, for the certificate {certificate})") from None
    if authorities:
        _load_authorities(context, authorities, "--ssl-ca")


def _check_readable(path: str, option: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error} ({option})") from None


def _load_authorities(context: ssl.SSLContext, path: str, option: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(f"{path}: expected certificates in PEM ({option})") from None


class _Encrypted(ValueError):
    pass


def _no_password() -> str:
    raise _Encrypted("it is encrypted; give it without a password (openssl pkey -in KEY -out PLAIN)")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "it is the key of another certificate"
        return "expected a private key in PEM"
    return str(error)
