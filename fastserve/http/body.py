"""Bodies within their limits: what is too large is refused before it is read, or while it unfolds.

Thread: any. Memory: never more than the limit and one chunk, whatever a request claims.
"""

import zlib

from fastserve.errors import InvalidRequest, PayloadTooLarge, UnsupportedEncoding, quoted
from fastserve.http.message import HeaderMap

BODYLESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})
"""Methods whose body, where no length is declared, is not read."""

MAX_DISCARDED_BYTES = 64 * 1024
"""A body that nobody wants is read, to keep the connection, up to here; a larger one costs its sender the connection."""

GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
RAW_DEFLATE = -zlib.MAX_WBITS


def declared_bytes(content_length: str | None, max_body_bytes: int) -> int | None:
    """What Content-Length says; None if there is none. Raises PayloadTooLarge, InvalidRequest."""
    if content_length is None:
        return None
    if not (content_length.isascii() and content_length.isdigit()) or len(content_length) > 18:
        raise InvalidRequest(f"Content-Length is not a number of bytes: {quoted(content_length)}")
    declared = int(content_length)
    if declared > max_body_bytes:
        raise PayloadTooLarge(max_body_bytes)
    return declared


def is_worth_discarding(headers: HeaderMap, declared: int | None) -> bool:
    """Whether to read a body that nobody wants, so that the connection can be used again."""
    # Who asks before sending is told no by the answer itself.
    return (declared or 0) <= MAX_DISCARDED_BYTES and headers.get("expect") is None


class Collected:
    """Chunks of a body, `size` bytes so far."""

    def __init__(self, max_body_bytes: int) -> None:
        self._chunks: list[bytes] = []
        self._max = max_body_bytes
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Keep `chunk`. Raises PayloadTooLarge when the limit is passed."""
        self.size += len(chunk)
        if self.size > self._max:
            raise PayloadTooLarge(self._max)
        if chunk:
            self._chunks.append(chunk)

    def body(self) -> bytes:
        """All of it."""
        return b"".join(self._chunks) if len(self._chunks) != 1 else self._chunks[0]


def decompressed(body: bytes, encoding: str, max_body_bytes: int) -> bytes:
    """`body` without its Content-Encoding (gzip or deflate, RFC 9110 8.4.1).

    Raises PayloadTooLarge as soon as it unfolds past the limit, InvalidRequest if it is broken or cut short,
    UnsupportedEncoding for anything else, several encodings at once included.
    """
    name = encoding.strip().lower()
    if name in ("gzip", "x-gzip"):
        return _inflate(body, GZIP_OR_ZLIB, name, max_body_bytes)
    if name == "deflate":
        # Both readings of "deflate" are met in the wild: zlib's (the specification's) and the raw stream.
        raw = len(body) < 2 or (body[0] & 0x0F) != 8 or (body[0] << 8 | body[1]) % 31 != 0
        return _inflate(body, RAW_DEFLATE if raw else zlib.MAX_WBITS, name, max_body_bytes)
    if name in ("", "identity"):
        return body
    raise UnsupportedEncoding(f"Content-Encoding {quoted(encoding)} is not read; send gzip, deflate or none")


def _inflate(body: bytes, window_bits: int, name: str, max_body_bytes: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    try:
        unfolded = inflater.decompress(body, max_body_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not valid {name}: {error}") from error
    if len(unfolded) > max_body_bytes:
        raise PayloadTooLarge(max_body_bytes)
    if not inflater.eof:
        raise InvalidRequest(f"the body is not valid {name}: it ends early")
    if inflater.unused_data:  # never dropped silently; several members in a row would have to be counted and bounded
        raise InvalidRequest(f"the body is not valid {name}: more data follows its end")
    return unfolded
