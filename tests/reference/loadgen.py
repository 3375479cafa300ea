"""The slow, obvious twin of ext/loadgen.pyx: answers read whole, quantiles from sorted values."""

import math
import re
from typing import NamedTuple


class Outcome(NamedTuple):
    """What an answer's bytes say. `kind`: more, done or bad; the rest holds for done only."""

    kind: str
    used: int = 0
    status: int = 0
    keeps: bool = False
    body_bytes: int = 0


MORE, BAD = Outcome("more"), Outcome("bad")
STATUS_LINE = re.compile(rb"HTTP/1\.(\d) ([1-9]\d\d)( .*)?")


def quantile(values: list[int], share: float) -> int:
    """The smallest value that at least `share` of all are not above."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def answer(data: bytes) -> Outcome:
    """The first final answer in `data`; what has no end but the connection's is `more`."""
    at = 0
    while True:
        head = _head(data, at)
        if isinstance(head, Outcome):
            return head
        at, status, minor, fields = head
        if status == 101:
            return BAD
        if status >= 200:
            break
    keeps = minor != b"0"
    for token in _tokens(fields, b"connection"):
        keeps = {b"close": False, b"keep-alive": True}.get(token, keeps)
    lengths = {int(value) for name, value in fields if name == b"content-length"}
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if status in (204, 304):
        return Outcome("done", at, status, keeps, 0)
    if codings:
        if codings[-1].rpartition(b",")[2].strip(b" \t").lower() != b"chunked":
            return MORE
        return _chunked(data, at, status, keeps and not lengths)
    if not lengths:
        return MORE
    (length,) = lengths
    return MORE if len(data) - at < length else Outcome("done", at + length, status, keeps, length)


def _line(data: bytes, at: int) -> tuple[bytes, int] | None:
    end = data.find(b"\n", at)
    if end < 0:
        return None
    line = data[at:end]
    return line[:-1] if line.endswith(b"\r") else line, end + 1


def _head(data: bytes, at: int) -> Outcome | tuple[int, int, bytes, list[tuple[bytes, bytes]]]:
    first = _line(data, at)
    if first is None:
        return MORE
    line, at = first
    found = STATUS_LINE.fullmatch(line)
    if found is None:
        return BAD
    fields: list[tuple[bytes, bytes]] = []
    while True:
        next_line = _line(data, at)
        if next_line is None:
            return MORE
        line, at = next_line
        if not line:
            return at, int(found[2]), found[1], fields
        if b":" not in line:
            if line[:1] in (b" ", b"\t"):
                continue
            return BAD
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
        if not _lengths_agree(fields):
            return BAD


def _lengths_agree(fields: list[tuple[bytes, bytes]]) -> bool:
    lengths = [value for name, value in fields if name == b"content-length"]
    return all(re.fullmatch(rb"[0-9]{1,18}", value) for value in lengths) and len(set(map(int, lengths))) < 2


def _tokens(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [token.strip(b" \t").lower() for known, value in fields if known == name for token in value.split(b",")]


def _chunked(data: bytes, at: int, status: int, keeps: bool) -> Outcome:
    body_bytes = 0
    while True:
        line = _line(data, at)
        if line is None:
            return MORE
        text, at = line
        size = text.partition(b";")[0].strip(b" \t")
        if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", size):
            return BAD
        count = int(size, 16)
        if count == 0:
            break
        if len(data) - at < count:
            return MORE
        at, body_bytes = at + count, body_bytes + count
        line = _line(data, at)
        if line is None:
            return MORE
        if line[0]:
            return BAD
        at = line[1]
    return _trailers(data, at, Outcome("done", 0, status, keeps, body_bytes))


def _trailers(data: bytes, at: int, outcome: Outcome) -> Outcome:
    while True:
        line = _line(data, at)
        if line is None:
            return MORE
        text, at = line
        if not text:
            return outcome._replace(used=at)
