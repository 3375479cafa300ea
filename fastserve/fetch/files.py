"""Files below the folders that are allowed: never what a link leads out to, and never what is no file.

The name is resolved once; what is opened is what was checked, part by part, without following a link.
"""

import errno
import os
import stat
from urllib.parse import unquote

from fastserve.errors import Forbidden, InvalidRequest
from fastserve.fetch.limits import PIECE_BYTES, Limits

NO_FILE = "data_url names no file that can be read"
OUTSIDE = "data_url names a file outside of the folders that [data_url] allow names"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without waiting: a pipe would keep us.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_file(rest: str, folders: tuple[str, ...], limits: Limits) -> bytes:
    """The file of a URL `file:rest`. Raises Forbidden, InvalidRequest, PayloadTooLarge, DeadlineExceeded."""
    asked = _path(rest)
    for folder in folders:
        if asked.startswith(folder.rstrip("/") + "/"):
            return _read_below(folder, asked, limits)
    raise Forbidden(OUTSIDE)


def _path(rest: str) -> str:
    """The absolute path: of `file:/a`, `file:///a` and `file://localhost/a`."""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise Forbidden(OUTSIDE)
        rest = slash + path
    path = unquote(rest.partition("?")[0])
    if not path.startswith("/"):
        raise InvalidRequest("a data_url with file: has an absolute path: file:///folder/name.json")
    return path


def _read_below(folder: str, asked: str, limits: Limits) -> bytes:
    try:
        root, real = os.path.realpath(folder), os.path.realpath(asked, strict=True)
        if not real.startswith(root.rstrip("/") + "/"):
            raise Forbidden(OUTSIDE)
        handle = _opened(root, real[len(root) :].strip("/").split("/"))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Forbidden(OUTSIDE) from error
        raise InvalidRequest(NO_FILE) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequest(NO_FILE)
        limits.check_declared(status.st_size)
        return limits.read_all(lambda size: os.read(handle, min(size, PIECE_BYTES)))
    except OSError as error:
        raise InvalidRequest(NO_FILE) from error
    finally:
        os.close(handle)


def _opened(root: str, parts: list[str]) -> int:
    """The file, reached from the folder without following any link."""
    # The folder itself may be a link: the operator named it.
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        return os.open(parts[-1], _FILE, dir_fd=at)
    finally:
        os.close(at)
