"""The one door: a URL to its bytes, if the allow-list names it, within a size and a time.

Thread: blocks its caller, for `timeout_ms` and what a resolver takes at most; never called on a door's thread.
Memory: at most `max_bytes`.
"""

from msgspec import Struct

from fastserve.clock import Clock, monotonic_ns
from fastserve.config import DataUrlConfig
from fastserve.config.allowed import FILE, WEB_PORTS, Folder, StorePrefix, WebPrefix, read_entry
from fastserve.errors import Forbidden
from fastserve.fetch.files import read_file
from fastserve.fetch.limits import Limits
from fastserve.fetch.stores import read_object
from fastserve.fetch.urls import checked, is_below
from fastserve.fetch.web import Web

OFF = (
    "data_url is off on this server; its configuration may name what is read: [data_url] allow ="
    ' ["file:data/", "https://host/path/", "s3://bucket/"]'
)
NOT_ALLOWED = "data_url names nothing that this server's [data_url] allow does"


class Fetched(Struct, frozen=True):
    """`content_type`: as the server of it says, or its name; empty where neither does."""

    content: bytes
    content_type: str


class Fetcher:
    """Reads what one allow-list names."""

    def __init__(self, config: DataUrlConfig, clock: Clock = monotonic_ns) -> None:
        entries = [read_entry(entry) for entry in config.allow]
        self._config = config
        self._clock = clock
        self._folders = tuple(one.path for one in entries if isinstance(one, Folder))
        self._stores = tuple(one for one in entries if isinstance(one, StorePrefix))
        prefixes = tuple(one for one in entries if isinstance(one, WebPrefix))
        networks = tuple(one for one in entries if not isinstance(one, Folder | StorePrefix | WebPrefix))
        self._web = Web(prefixes, networks)

    def check(self, url: str) -> None:
        """Raises Forbidden or InvalidRequest for a URL that is not read; nothing is opened or resolved for that."""
        if not self._config.allow:
            raise Forbidden(OFF)
        scheme, rest = checked(url)
        if scheme == FILE.removesuffix(":"):
            allowed = bool(self._folders)
        elif scheme in WEB_PORTS:
            allowed = self._web.allows(url)
        else:
            allowed = self._store(scheme, rest) is not None
        if not allowed:
            raise Forbidden(NOT_ALLOWED)

    def fetch(self, url: str, deadline_ns: int = 0) -> Fetched:
        """What is at `url`. `deadline_ns`: the request's own, 0 for none.

        Raises Forbidden, InvalidRequest for what cannot be read, PayloadTooLarge, DeadlineExceeded.
        """
        self.check(url)
        ends_ns = self._clock() + self._config.timeout_ms * 1_000_000
        limits = Limits(self._config.max_bytes, min(ends_ns, deadline_ns) if deadline_ns else ends_ns, self._clock)
        scheme, rest = checked(url)
        if scheme in WEB_PORTS:
            content, content_type = self._web.read(url, limits)
            return Fetched(content, content_type or type_of(url.partition("?")[0]))
        if scheme == FILE.removesuffix(":"):
            return Fetched(read_file(rest, self._folders, limits), type_of(rest))
        store = self._store(scheme, rest)
        assert store is not None
        return Fetched(read_object(url, limits), type_of(rest))

    def _store(self, scheme: str, rest: str) -> StorePrefix | None:
        bucket, _, path = rest.removeprefix("//").partition("/")
        for one in self._stores:
            if one.scheme == scheme and one.bucket == bucket and is_below(path, one.path):
                return one
        return None


TYPES = {
    ".json": "application/json",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}


def type_of(name: str) -> str:
    """The content type that a name's ending says, empty for others."""
    return next((kind for ending, kind in TYPES.items() if name.lower().endswith(ending)), "application/octet-stream")
