"""What may stand in `parameters` of a request, an input or an output, and means something here.

Pure. Everything else there is the client's own: of a request, scalars of any name; elsewhere anything, passed over.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidTensor
from fastserve.limits import MAX_PARAMETERS
from fastserve.types import HIGHEST_PRIORITY

MAX_NATURAL = 2**64 - 1
MAX_TIMEOUT_NS = 2**62
"""Some 146 years; more does not fit a clock."""

CONTENT_TYPES = frozenset({"np", "pd", "str", "base64", "datetime"})
"""MLServer's, as far as they are heeded: see `typed`."""

Found = dict[str, Any]
"""Parameters by name."""

Check = Callable[[Any], bool]
Rule = tuple[str, Check]
"""What is expected, in words and as a test."""


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_NATURAL


FLAG: Rule = ("true or false", lambda value: isinstance(value, bool))
NATURAL: Rule = (f"integer from 0 to {MAX_NATURAL}", _is_natural)
TEXT: Rule = ("string", lambda value: isinstance(value, str))
ANYTHING: Rule = ("anything", lambda _: True)
SEQUENCE_ID: Rule = (f"string or {NATURAL[0]}", lambda value: isinstance(value, str) or _is_natural(value))

REQUEST: Mapping[str, Rule] = {
    "binary_data_output": FLAG,
    "priority": NATURAL,
    "timeout": NATURAL,
    # For models with state; others are asked the same way, and have nothing to do with them.
    "sequence_id": SEQUENCE_ID,
    "sequence_start": FLAG,
    "sequence_end": FLAG,
    "content_type": ANYTHING,
}
INPUT: Mapping[str, Rule] = {
    "binary_data_size": NATURAL,
    "shared_memory_region": TEXT,
    "content_type": ANYTHING,
}
OUTPUT: Mapping[str, Rule] = {"binary_data": FLAG, "shared_memory_region": TEXT, "classification": NATURAL}

OBJECTS = frozenset({"headers", "background"})
"""Parameters of a request that some clients fill with objects: reserved, and not looked at."""


def read_parameters(cursor: Cursor, path: str, rules: Mapping[str, Rule], *, scalars_only: bool = False) -> Found:
    """The parameters at the cursor that have a rule, by name. The first of duplicate names counts; null is left out."""
    found: Found = {}
    count = 0
    if cursor.kind() == "n":
        cursor.skip()
        return found
    if cursor.kind() != "{":
        raise InvalidTensor(expected="object", got=cursor.excerpt(), path=path)
    cursor.enter_object()
    while (name := cursor.next_key()) is not None:
        count += 1
        if count > MAX_PARAMETERS:
            raise InvalidTensor(expected=f"at most {MAX_PARAMETERS} parameters", got="more", path=path)
        if cursor.kind() == "n":  # some clients write what they leave out as null
            cursor.skip()
        elif name in rules and name not in found:
            found[name] = _read(cursor, f"{path}.{name}", rules[name])
        elif scalars_only and name not in OBJECTS and cursor.kind() in "[{":
            raise InvalidTensor(expected="string, number, true or false", got=cursor.excerpt(), path=f"{path}.{name}")
        else:
            cursor.skip()
    return found


def is_typed(found: Found) -> bool:
    """Whether there is a content type that is heeded."""
    told = found.get("content_type")
    return isinstance(told, str) and told in CONTENT_TYPES


def _read(cursor: Cursor, path: str, rule: Rule) -> Any:
    expected, fits = rule
    kind, start = cursor.kind(), cursor.offset
    value = None if kind in "[{" else cursor.value(path)
    if not fits(value):
        cursor.seek(start)
        raise InvalidTensor(expected=expected, got=cursor.excerpt(), path=path)
    return value


def priority(found: Found) -> int:
    """The engine's priority, of which the higher leaves first: on the wire 1 is the highest, 0 and nothing the ordinary."""
    asked: int = found.get("priority", 0)
    return 0 if asked == 0 else max(1, HIGHEST_PRIORITY - asked)


def timeout_ns(found: Found) -> int:
    """How long the request may wait in the queue, 0 for no limit; on the wire in microseconds."""
    asked_us: int = found.get("timeout", 0)
    return min(asked_us * 1000, MAX_TIMEOUT_NS)
