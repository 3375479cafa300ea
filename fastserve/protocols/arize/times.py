"""RFC 3339 times (section 5.6) as nanoseconds since 1970, all nine digits of them. Pure."""

import re
from datetime import datetime, timedelta

from fastserve.protocols.arize.protojson import Mistake, told

EXPECTED = "an RFC 3339 time with Z or an offset (2026-11-21T08:45:26.5Z)"
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_SECOND = timedelta(seconds=1)


def parse_ns(text: str, path: str) -> int:
    """Raises Mistake where it is no such time, or one of a day that there never was."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise Mistake(expected=EXPECTED, got=told(text), path=path)
    try:
        moment = datetime.fromisoformat(match[1] + ("+00:00" if match[3] == "Z" else match[3]))
        seconds = (moment - _EPOCH) // _SECOND
    except (ValueError, OverflowError):
        raise Mistake(expected=EXPECTED, got=told(text), path=path) from None
    fraction = match[2]
    return seconds * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)
