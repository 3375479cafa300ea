"""Objects in buckets, by the file systems that fsspec knows; where they are reached is the operator's own setting."""

import logging
from typing import Any

from fastserve.errors import ErrorCode, FastServeError, InvalidRequest
from fastserve.fetch.limits import Limits

MISSING = "object stores are read by fsspec, which is not installed here: pip install 'fastserve[data-url]'"
NO_OBJECT = "data_url names no object that can be read"

_log = logging.getLogger(__name__)


class NotInstalled(FastServeError):
    """An optional package is not there."""

    code = ErrorCode.UNIMPLEMENTED


def read_object(url: str, limits: Limits) -> bytes:
    """The object's bytes. Raises NotInstalled, InvalidRequest, PayloadTooLarge, DeadlineExceeded."""
    system, path = _system(url)
    read = _read_async if getattr(system, "async_impl", False) else _read
    try:
        return read(system, path, limits)
    except FastServeError:
        raise
    except TimeoutError as error:
        raise limits.over() from error
    except Exception as error:  # the edge to packages that raise whatever their networks do
        _log.warning("an object could not be read: %s", type(error).__name__)
        raise InvalidRequest(NO_OBJECT) from error


def _read(system: Any, path: str, limits: Limits) -> bytes:
    # Without a cache of blocks: one pass over the object, and no more of it than may be read.
    with system.open(path, "rb", cache_type="none") as file:
        limits.check_declared(getattr(file, "size", None))
        return limits.read_all(file.read)


def _read_async(system: Any, path: str, limits: Limits) -> bytes:
    """The same of stores over a network (S3, GCS, Azure), whose calls end when the time is over, whatever they wait for."""
    from fsspec.asyn import sync

    def call(method: Any, *arguments: Any) -> Any:
        return sync(system.loop, method, *arguments, timeout=limits.seconds_left())

    found = call(system._info, path)
    if found.get("type") == "directory":
        raise InvalidRequest(NO_OBJECT)
    size = found.get("size")
    limits.check_declared(size)
    # Where the size is not told, one byte more than may be read shows whether that is all.
    content: bytes = (
        call(system._cat_file, path, 0, limits.max_bytes + 1 if size is None else size) if size != 0 else b""
    )
    limits.check_declared(len(content))
    return content


def _system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise NotInstalled(MISSING) from None
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        scheme = url.partition(":")[0]
        raise NotInstalled(f"objects of {scheme}: need a package that fsspec names: {error}") from None
    return system, path
