"""Is that text a URL that means one thing only? What could be read in two ways is refused, whoever is right.

Pure.
"""

import re
from urllib.parse import unquote

from fastserve.errors import InvalidRequest, quoted
from fastserve.limits import MAX_URL_CHARS

_ADDRESS = re.compile(r"^//\[[0-9A-Fa-f:.]+\]")
"""An IPv6 address: the one place for two colons."""

MAX_DECODINGS = 4
"""Some servers decode twice; what still changes after so often is nobody's file name."""


def checked(url: str) -> tuple[str, str]:
    """The scheme, in lower case, and what follows its colon. Raises InvalidRequest."""
    if len(url) > MAX_URL_CHARS:
        raise InvalidRequest(f"data_url is longer than {MAX_URL_CHARS} characters")
    if not url.isascii() or any(character <= " " or character in '\\\x7f"<>^`{|}' for character in url):
        raise _refused(url, "a character that URLs write as %XX")
    scheme, colon, rest = url.partition(":")
    if not colon or not scheme.isalnum():
        raise _refused(url, "no scheme such as https:")
    if "::" in _ADDRESS.sub("//", rest):
        raise _refused(url, "a chain of URLs")
    path = rest.removeprefix("//").partition("/")[2] if rest.startswith("//") else rest
    _check_path(url, path.partition("?")[0])
    return scheme.lower(), rest


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is the prefix, or continues it after a slash."""
    if not prefix or prefix.endswith("/"):
        return path.startswith(prefix)
    return path == prefix or path.startswith(prefix + "/")


def _check_path(url: str, path: str) -> None:
    for _ in range(MAX_DECODINGS):
        # Some servers take what follows a semicolon for a parameter of the part.
        if any(part.partition(";")[0] in (".", "..") for part in path.replace("\\", "/").split("/")):
            raise _refused(url, "a part . or ..")
        if any(character < " " or character == "\x7f" for character in path):
            raise _refused(url, "a control character")
        decoded = unquote(path, errors="surrogateescape")
        if decoded.count("/") != path.count("/") or decoded.count("\\") != path.count("\\"):
            raise _refused(url, "a slash or backslash as %XX")
        if decoded == path:
            return
        path = decoded
    raise _refused(url, "% encoded again and again")


def _refused(url: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"data_url {quoted(url)} is not read: it has {why}")
