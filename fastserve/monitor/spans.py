"""Moments and lengths of time as people write them, and the windows between two. Pure; all in nanoseconds since 1970.

Moments: RFC 3339 (`2026-11-20T08:00:00Z`, a zone is needed), a date (`2026-11-20`, its first moment in UTC), `now`, or how
long ago (`7d`).
"""

import re
from datetime import UTC, date, datetime, timedelta

from fastserve.errors import InvalidRequest, quoted

UNITS_NS = {
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 7 * 86_400_000_000_000,
}
MAX_WINDOWS = 1000
AUTO_WINDOWS = 60
AUTO_STEPS = ("1m", "5m", "15m", "1h", "6h", "1d", "1w")
MAX_NS = 4 * 10**18
"""In the year 2096: what is later fits no 64 bits once a window is added."""

_LENGTH = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def length_ns(text: str, parameter: str) -> int:
    """`30m`, `1d` as nanoseconds. Raises InvalidRequest naming `parameter`."""
    found = _LENGTH.fullmatch(text)
    if found is None or int(found[1]) * UNITS_NS[found[2]] > MAX_NS:
        raise InvalidRequest(f"{parameter}: expected a length of time as 30m, 6h, 1d or 2w, got {quoted(text)}")
    return int(found[1]) * UNITS_NS[found[2]]


def moment_ns(text: str, parameter: str, now_ns: int) -> int:
    """A moment in nanoseconds since 1970. Raises InvalidRequest naming `parameter`."""
    if text == "now":
        return now_ns
    if _LENGTH.fullmatch(text):
        return max(0, now_ns - length_ns(text, parameter))
    try:
        moment = _read(text)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or not 0 <= moment <= MAX_NS:
        raise InvalidRequest(
            f"{parameter}: expected a moment as 2026-11-20T08:00:00Z, 2026-11-20, now or 7d (ago), got {quoted(text)}"
        )
    return moment


def _read(text: str) -> int | None:
    if _DATE.fullmatch(text):
        return _ns(datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC))
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    zone = "+00:00" if found[4] in "Zz" else found[4]
    return _ns(datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}")) + int((found[3] or "").ljust(9, "0"))


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def window_ns(text: str, start_ns: int, end_ns: int) -> int:
    """The windows' length: `auto`, `none` (0) or a length. Raises InvalidRequest where there would be too many."""
    span = max(1, end_ns - start_ns)
    if text == "none":
        return 0
    if text == "auto":
        for step in AUTO_STEPS:
            if span <= AUTO_WINDOWS * length_ns(step, "window"):
                return length_ns(step, "window")
        return -(-span // AUTO_WINDOWS // UNITS_NS["d"]) * UNITS_NS["d"] + UNITS_NS["d"]
    length = length_ns(text, "window")
    if span // length >= MAX_WINDOWS:
        raise InvalidRequest(
            f"window: {quoted(text)} makes {span // length + 1} windows of that time, at most {MAX_WINDOWS} are "
            "answered; take a longer window, or a later start"
        )
    return length


def windows(start_ns: int, end_ns: int, length: int) -> list[int]:
    """Where each window starts; aligned to 1970, so that the same ones come whenever it is asked."""
    if length <= 0 or end_ns <= start_ns:
        return []
    return [number * length for number in range(start_ns // length, (end_ns - 1) // length + 1)]


def told(moment: int) -> str:
    """A moment as RFC 3339 in UTC, to the second or as exact as it is."""
    seconds, rest = divmod(moment, 1_000_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else f"{text}Z"
