"""Bodies of calls that are about no tensors: small JSON objects, or nothing at all.

Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fastserve.errors import InvalidRequest, quoted

Check = Callable[[Any], bool]
Rule = tuple[str, Check]
"""What is expected, in words and as a test."""

MAX_SHOWN_CHARS = 64
FLAG: Rule = ("true or false", lambda value: isinstance(value, bool))


def read_object(body: bytes) -> dict[str, Any]:
    """The body's members; none where there is no body. Raises InvalidRequest."""
    if not body.strip():
        return {}
    try:
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"expected a JSON object, or no body: {str(error)[:256]}") from None


def object_at(value: Any, path: str) -> dict[str, Any]:
    """`value` where it is an object; an empty one for what was left out."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong("object", value, path)
    return value


def check(found: Mapping[str, Any], rules: Mapping[str, Rule], path: str, *, others: bool = False) -> None:
    """Raises InvalidRequest naming what does not keep its rule, or, without `others`, has none."""
    for name, value in found.items():
        rule = rules.get(name)
        if rule is None:
            if others:
                continue
            takes = ", ".join(rules)
            raise InvalidRequest(f"expected one of {takes}, got {quoted(name)} - at `{path}`")
        expected, fits = rule
        if not fits(value):
            raise wrong(expected, value, f"{path}.{name}")


def wrong(expected: str, value: Any, path: str) -> InvalidRequest:
    """The error for a value that is another one than expected."""
    try:
        text = msgspec.json.encode(value).decode()
    except RecursionError:  # it was read with more of the stack left
        text = "lists and objects, very deeply nested"
    got = text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."
    return InvalidRequest(f"expected {expected}, got {got} - at `{path}`")


_OBJECT = msgspec.json.Decoder(dict[str, Any])
