"""Protobuf's JSON mapping, by tables: what a message may hold, under which names, and where a mistake is.

Fields come in their own spelling or in lowerCamelCase; null is a field that is not set; what is not known is not looked at.
Answers dictionaries of what is set, in the fields' own spelling, with numbers as numbers.
Pure. Memory: as much as it is given; depth is the tables' own, whatever a client nests.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from fastserve.errors import ErrorCode, FastServeError, quoted

Read = Callable[[Any, str], Any]
"""A value and its place, to the value as it is kept. Raises Mistake."""

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
MAX_NUMBER_CHARS = 400
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
NUL = "\0"
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Mistake(FastServeError):
    """Something in a record is not what it must be. `message`: what clients are told first, where that is set by contract."""

    code = ErrorCode.INVALID_ARGUMENT

    def __init__(self, *, expected: str, got: str, path: str, message: str = "") -> None:
        self.description = f"expected {expected}, got {got}"
        super().__init__(message or f"{self.description} - at `{path}`")
        self.path = path


def told(value: Any) -> str:
    """What came, in few words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            return str(value) if abs(value) < 1e300 or not isinstance(value, int) else "a number without end"
        case list():
            return "a list"
        case _:
            return "an object"


def below(path: str, name: str) -> str:
    """The place of a member."""
    return f"{path}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{path}[{quoted(name)}]"


def string(value: Any, path: str) -> str:
    """A text without NUL, which half of the world's tools end texts at."""
    if type(value) is not str:
        raise Mistake(expected="a string", got=told(value), path=path)
    if NUL in value:
        raise Mistake(expected="a text without NUL", got=told(value), path=path)
    return value


def boolean(value: Any, path: str) -> bool:
    """true or false."""
    if type(value) is not bool:
        raise Mistake(expected="true or false", got=told(value), path=path)
    return value


def int64(value: Any, path: str) -> int:
    """A whole number, exactly; as a number or as a text of one."""
    number = whole(value)
    if number is None:
        raise Mistake(expected="an int64", got=told(value), path=path)
    return number


def double(value: Any, path: str) -> float:
    """A number, NaN, Infinity or -Infinity; as a number or as a text of one."""
    number = real(value)
    if number is None:
        raise Mistake(expected='a double (a number, "NaN", "Infinity" or "-Infinity")', got=told(value), path=path)
    return number


def whole(value: Any) -> int | None:
    """The int64 that a JSON value says; None where it says none."""
    if type(value) is str:
        value = _number(value)
    if type(value) is float:
        if not value.is_integer():  # NaN and the infinities are none either
            return None
        value = int(value)
    return value if type(value) is int and INT64_MIN <= value <= INT64_MAX else None


def real(value: Any) -> float | None:
    """The double that a JSON value says; None where it says none, or one that no double holds."""
    if type(value) is str:
        special = NON_FINITE.get(value)
        if special is not None:
            return special
        value = _number(value)
    if type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            return None
    return value if type(value) is float and math.isfinite(value) else None


def _number(text: str) -> int | float | None:
    if len(text) > MAX_NUMBER_CHARS or not NUMBER.fullmatch(text):
        return None
    return float(text) if {".", "e", "E"}.intersection(text) else int(text)


def repeated(item: Read) -> Read:
    """A list of such."""

    def read(value: Any, path: str) -> list[Any]:
        if type(value) is not list:
            raise Mistake(expected="a list", got=told(value), path=path)
        return [item(one, f"{path}[{i}]") for i, one in enumerate(value)]

    return read


def mapped(item: Read) -> Read:
    """An object whose members' names are data: never re-spelled."""

    def read(value: Any, path: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise Mistake(expected="an object", got=told(value), path=path)
        return {string(name, path): item(one, below(path, name)) for name, one in value.items()}

    return read


def message(fields: Mapping[str, Read], *groups: tuple[str, ...]) -> Read:
    """An object with these members. `groups`: of those in one, a message sets one at most."""
    known = {spelling: (name, read) for name, read in fields.items() for spelling in (name, camel(name))}

    def read(value: Any, path: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise Mistake(expected="an object", got=told(value), path=path)
        found: dict[str, Any] = {}
        for spelling, one in value.items():
            field = known.get(spelling)
            if field is None or one is None:
                continue
            name = field[0]
            if name in found:
                raise Mistake(expected=f"{name} once", got="it in two spellings", path=path)
            found[name] = field[1](one, below(path, spelling))
        for group in groups:
            check_sole(found, group, path)
        return found

    return read


def check_sole(found: Mapping[str, Any], group: tuple[str, ...], path: str) -> None:
    """Raises Mistake where more than one of a group is set."""
    given = [name for name in group if name in found]
    if len(given) > 1:
        raise Mistake(expected=f"one of {', '.join(group)}", got=" and ".join(given), path=path)


def camel(name: str) -> str:
    """snake_case in lowerCamelCase, as protobuf writes it."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)
