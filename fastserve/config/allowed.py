"""The entries of `[data_url] allow`: what each names.

Pure.
"""

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

FILE = "file:"
WEB_PORTS = {"http": 80, "https": 443}
STORES = frozenset(
    {"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a", "v3io", "wasb", "wasbs"}
)
"""Schemes whose first part is a bucket or container, reached where the operator's own settings say."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Folder(Struct, frozen=True):
    """Files below `path`, which is absolute."""

    path: str


class WebPrefix(Struct, frozen=True):
    """URLs of one server whose path is `path`, or begins with it and a slash."""

    scheme: str
    host: str
    port: int
    path: str


class StorePrefix(Struct, frozen=True):
    """Objects of one bucket whose name is, or begins with, `path`: its slash included."""

    scheme: str
    bucket: str
    path: str


Entry = Folder | WebPrefix | StorePrefix | Network


def read_entry(text: str) -> Entry:
    """What one entry names. Raises ValueError that says what is wrong with it."""
    if text.startswith(FILE):
        return _folder(text)
    if "://" not in text:
        try:
            return ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f"expected file:FOLDER, http(s)://HOST/PATH, a bucket as s3://BUCKET/PATH or an address, got {text!r}"
            ) from None
    parts = urlsplit(text)
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise ValueError(f"expected a prefix without user, query and fragment, got {text!r}")
    if not parts.hostname:
        raise ValueError(f"expected a host or bucket behind ://, got {text!r}")
    if parts.scheme in WEB_PORTS:
        return WebPrefix(parts.scheme, parts.hostname.rstrip("."), parts.port or WEB_PORTS[parts.scheme], parts.path)
    if parts.scheme in STORES:
        return StorePrefix(parts.scheme, parts.netloc, parts.path.lstrip("/"))
    raise ValueError(f"{parts.scheme}: is not read; known are file, http, https, {', '.join(sorted(STORES))}")


def anchored(text: str, base: Path) -> str:
    """`text` with the path of a `file:` made absolute from `base`; anything else as it is."""
    if not text.startswith(FILE):
        return text
    path = text.removeprefix(FILE)
    return f"{FILE}{base / (path.removeprefix('//') if path.startswith('///') else path)}"


def _folder(text: str) -> Folder:
    path = text.removeprefix(FILE)
    path = path.removeprefix("//") if path.startswith("///") else path
    if not path.startswith("/"):
        raise ValueError(f"expected an absolute folder outside of a configuration file, got {text!r}")
    return Folder(path.rstrip("/") or "/")
