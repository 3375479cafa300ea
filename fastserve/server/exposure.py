"""Who can reach the server, and whether that is meant: warnings where everybody may call, or anybody who guesses.

Thread: the parent's main thread, before there are workers.
"""

from fastserve.access.hashes import MIN_KEY_CHARS
from fastserve.config import Config
from fastserve.errors import quoted
from fastserve.http.rights import is_loopback_name


def warnings(config: Config) -> list[str]:
    """What an operator should know, a line each."""
    return [line for line in (exposure(config), short_keys(config)) if line]


def short_keys(config: Config) -> str:
    """Keys that stand in clear and can be guessed: they are checked fast."""
    short = [quoted(key.name) for key in config.auth.keys if 0 < len(key.key) < MIN_KEY_CHARS]
    if not short:
        return ""
    return f"keys of fewer than {MIN_KEY_CHARS} characters can be guessed (fastserve hash-key --generate): {', '.join(short)}"


def exposure(config: Config) -> str:
    """What an operator should know of an address that other machines reach; empty where there is nothing to say."""
    server = config.server
    if server.uds or is_loopback_name(server.host):
        return ""
    reachable = f"{server.host} is reachable from other machines"
    asks_for_certificates = server.ssl_ca and server.ssl_client_certificate == "required"
    if not config.auth and not asks_for_certificates:
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
