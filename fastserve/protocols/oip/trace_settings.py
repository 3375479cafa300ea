"""What Triton's .../trace/setting shows and changes: for all models, and for one that has settings of its own.

Pure. Values are strings, as Triton has them; numbers are read too, and so are lists of one.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from fastserve.errors import FastServeError, InvalidRequest
from fastserve.protocols.oip import bodies
from fastserve.protocols.oip.errors import NotOffered

AREA = "trace"
"""Where the control keeps those of all models; a model's own are in AREA/MODEL."""

LEVELS = ("OFF", "TIMESTAMPS", "TENSORS")
MODE = "triton"
MAX_NUMBER = 2**32 - 1

DEFAULTS: Mapping[str, Any] = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": MODE,
}
_LEAST: Mapping[str, int] = {"trace_rate": 1, "trace_count": -1, "log_frequency": 0}


class Sampling(Struct, frozen=True):
    """Every `rate`-th request is traced, `count` of them (-1: without end), with or without its tensors' shapes."""

    rate: int
    count: int
    tensors: bool


def area(model: str | None) -> str:
    """Where the settings of that model are kept; None: of all models."""
    return AREA if model is None else f"{AREA}/{model}"


def shown(changed: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a model: its own, over what calls have changed for all, over those at start."""
    return {**DEFAULTS, **changed, **own}


def read(body: bytes) -> dict[str, Any]:
    """What a call changes; None: back to what it is without. Raises InvalidRequest; NotOffered for a file."""
    return {name: _read(name, value) for name, value in bodies.read_object(body).items()}


def sampling(settings: Mapping[str, Any]) -> Sampling | None:
    """Which requests are traced by these settings; None: none."""
    levels = settings["trace_level"]
    count = int(settings["trace_count"])
    if "OFF" in levels or not levels or count == 0:
        return None
    return Sampling(int(settings["trace_rate"]), count, "TENSORS" in levels)


def _read(name: str, value: Any) -> Any:
    if name not in DEFAULTS:
        raise InvalidRequest(f"expected one of {', '.join(DEFAULTS)}, got {name[:256]!r} - at `$`")
    if value is None:
        return None
    if name == "trace_level":
        return _levels(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if name in _LEAST:
        return _number(name, value)
    if value != DEFAULTS[name]:
        raise _fixed(name)
    return value


def _levels(value: Any) -> list[str]:
    levels = [value] if isinstance(value, str) else value
    if not isinstance(levels, list) or not levels or any(level not in LEVELS for level in levels):
        raise bodies.wrong(f"list of {', '.join(LEVELS)}", value, "$.trace_level")
    return list(dict.fromkeys(levels))


def _number(name: str, value: Any) -> str:
    least = _LEAST[name]
    text = str(value) if type(value) is int else value
    digits = text.removeprefix("-") if isinstance(text, str) else ""
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_NUMBER))
    if not is_number or not least <= int(text) <= MAX_NUMBER:
        raise bodies.wrong(f"integer from {least} to {MAX_NUMBER}, in a string", value, f"$.{name}")
    return str(int(text))


def _fixed(name: str) -> FastServeError:
    if name == "trace_file":
        return NotOffered("traces go to the server's log; a file cannot be named - at `$.trace_file`")
    return NotOffered(f"traces are written as Triton writes them, expected {MODE} - at `$.trace_mode`")
