"""What Triton's /v2/logging shows and changes, as choices of our own logs.

Pure.
"""

from collections.abc import Mapping
from typing import Any

from fastserve.errors import quoted
from fastserve.logs import Choice
from fastserve.protocols.oip import bodies
from fastserve.protocols.oip.errors import NotOffered

AREA = "logging"
"""Where the control keeps them."""

FORMATS = ("default", "ISO8601")
MAX_LEVEL = 2**31 - 1

RULES: Mapping[str, bodies.Rule] = {
    "log_file": ("string", lambda value: isinstance(value, str)),
    "log_info": bodies.FLAG,
    "log_warning": bodies.FLAG,
    "log_error": bodies.FLAG,
    "log_verbose_level": (
        f"integer from 0 to {MAX_LEVEL}",
        lambda value: type(value) is int and 0 <= value <= MAX_LEVEL,
    ),
    "log_format": (f"one of {', '.join(FORMATS)}", lambda value: value in FORMATS),
}


def shown(changed: Mapping[str, Any], file: str) -> dict[str, Any]:
    """All settings: those that calls have changed, over those at start."""
    by_default = Choice()
    return {
        "log_file": file,
        "log_info": by_default.info,
        "log_warning": by_default.warning,
        "log_error": by_default.error,
        "log_verbose_level": by_default.verbose_level,
        "log_format": FORMATS[by_default.iso_times],
        **changed,
    }


def read(body: bytes, file: str) -> dict[str, Any]:
    """What a call changes. Raises InvalidRequest; NotOffered for another file."""
    found = bodies.read_object(body)
    bodies.check(found, RULES, "$")
    if found.pop("log_file", file) != file:
        raise NotOffered(f"the log's file is chosen at start (--log-dir), it stays {quoted(file)} - at `$.log_file`")
    return found


def choice(changed: Mapping[str, Any]) -> Choice:
    """What is logged, and how."""
    now = shown(changed, "")
    return Choice(
        info=now["log_info"],
        warning=now["log_warning"],
        error=now["log_error"],
        verbose_level=now["log_verbose_level"],
        iso_times=now["log_format"] == FORMATS[True],
    )
