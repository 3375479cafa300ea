"""The body of classify and regress: examples of named features, and a context that all of them share.

Features are sorted by the kinds of `tf.train.Feature`, which JSON tokens decide: whole numbers and booleans are int64,
decimals, exponents, NaN and Infinity float, strings and base64 objects bytes; one feature of one example has one kind.
Thread: any; pure functions. Memory: Python's own values, gone once their tensors are made.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from fastserve._ext.tensorize import Cursor
from fastserve.errors import MAX_QUOTED_CHARS, InvalidRequest, InvalidTensor, quoted
from fastserve.limits import MAX_DEPTH
from fastserve.protocols.tfserving.envelope import enter_body, read_signature_name, skipped
from fastserve.protocols.tfserving.schema import SIGNATURE_NAME
from fastserve.types import DType, Tensor

MIN_INT64 = -(2**63)
MAX_INT64 = 2**63 - 1
MAX_UINT64 = 2**64 - 1

LONG_LIST_BYTES = 1024
"""Longer lists of numbers are read without making Python objects of them, and from 16 kB on without the GIL."""

Element = int | float | bool | str
Feature = Element | list[Element] | Tensor
"""A lone value, or a flat list; long lists of numbers as an int64 or float64 array."""

Features = dict[str, Feature]

_INTEGERS = frozenset({int, bool})
_PLAIN_KINDS: tuple[set[type], ...] = (set(), {float}, {str})
_KIND_NAMES: dict[type, str] = {int: "int64", bool: "int64", float: "float", str: "bytes"}
_JSON_TYPES = {"{": "Object", "[": "Array", '"': "String", "0": "Number", "t": "True", "f": "False", "n": "Null"}
_ABSENT: Any = object()
_MARKS = bytes.maketrans(b"eEnaNIfity", b"." * 10)


class MissingFeature(InvalidRequest):
    """An input of the model has no feature."""

    def __init__(self, name: str, example: int) -> None:
        super().__init__(
            f"Feature: {name} is required but could not be found in `{_parent(example)}`, nor in `$.context`"
        )


class Examples(Struct, frozen=True, gc=False):
    """What was read. `columns`: for each of the names asked for, its feature in every example."""

    count: int
    columns: tuple[list[Feature], ...]
    context: Features

    def path(self, name: str, column: int, example: int) -> str:
        """Where the body held that feature of that example, as a JSON path."""
        feature = self.columns[column][example]
        return place(name, -1 if self.context.get(name, _ABSENT) is feature else example)


def read_examples(body: bytes, names: Sequence[str], *, strict: bool = False) -> Examples:
    """The features called `names` of every example; an example's own stand before those of the context.

    `strict`: NaN and infinities are refused.

    Raises InvalidJson for a body that is not JSON, InvalidRequest and InvalidTensor for one that is not as expected.
    """
    signature_name, context = _read_envelope(body, strict)
    if signature_name != SIGNATURE_NAME:
        raise InvalidRequest(f"No signature was found with the name: {quoted(signature_name)}")
    return _read(body, context, names, strict)


def check_examples(body: bytes) -> None:
    """What is refused whatever the model is: any name of a signature may be right."""
    _read(body, _read_envelope(body, False)[1], (), False)


def _read(body: bytes, context: Features, names: Sequence[str], strict: bool) -> Examples:
    columns: tuple[list[Feature], ...] = tuple([] for _ in names)
    cursor = _at_examples(body, strict)
    cursor.enter_array()
    count = 0
    while cursor.next_item():
        _append(_read_features(cursor, body, count, strict), context, names, columns, count)
        count += 1
    return Examples(count, columns, context)


def place(name: str, example: int) -> str:
    """The JSON path of a feature; `example` -1 is the context."""
    parent = _parent(example)
    return f"{parent}.{name}" if name.isidentifier() and len(name) <= MAX_QUOTED_CHARS else f"{parent}[{quoted(name)}]"


def _parent(example: int) -> str:
    return "$.context" if example < 0 else f"$.examples[{example}]"


def _read_envelope(body: bytes, strict: bool) -> tuple[str, Features]:
    """The signature's name and the context, which may follow the examples that it belongs to: the whole body is walked."""
    cursor = enter_body(body, strict=strict)
    signature_name: str | None = None
    context: Features | None = None
    fault = "When method is classify, key 'examples' is expected and was not found"
    seen = False
    while (key := cursor.next_key()) is not None:
        if key == "context" and context is None:
            context = _read_features(cursor, body, -1, strict)
        elif key == "examples" and not seen:
            seen, fault = True, _fault(cursor)
            cursor.skip()
        elif key == "signature_name" and signature_name is None:
            signature_name = read_signature_name(cursor)
        else:
            cursor.skip()
    if fault:
        raise InvalidRequest(fault)
    return signature_name or SIGNATURE_NAME, context or {}


def _fault(cursor: Cursor) -> str:
    """What is wrong with the value of `examples` at the cursor, seen from outside; empty where nothing is."""
    if cursor.kind() != "[":
        return f"JSON Value: {cursor.excerpt()} not formatted correctly. Expecting 'examples' value to be an list/array"
    return "'examples' value is an empty array" if cursor.first_item_kind() == "]" else ""


def _at_examples(body: bytes, strict: bool) -> Cursor:
    cursor = enter_body(body, strict=strict)
    while cursor.next_key() != "examples":
        cursor.skip()
    return cursor


def _append(
    own: Features, context: Features, names: Sequence[str], columns: tuple[list[Feature], ...], example: int
) -> None:
    for name, column in zip(names, columns, strict=True):
        feature = own.get(name, _ABSENT)
        if feature is _ABSENT:
            feature = context.get(name, _ABSENT)
            if feature is _ABSENT:
                raise MissingFeature(name, example)
        column.append(feature)


def _read_features(cursor: Cursor, body: bytes, example: int, strict: bool) -> Features:
    """The object of features at the cursor; the first of duplicate keys counts."""
    kind = cursor.kind()
    if kind != "{":
        got = _JSON_TYPES[kind]
        raise InvalidRequest(
            f"Example must be JSON object but got JSON {got}: {skipped(cursor)} - at `{_parent(example)}`"
        )
    features: Features = {}
    cursor.enter_object()
    while (name := cursor.next_key()) is not None:
        if name in features:
            cursor.skip()
            continue
        kind = cursor.kind()
        if kind == "[":
            features[name] = _read_list(cursor, body, name, example, strict)
            continue
        value = _value(cursor, name, example)
        kind_of = type(value)
        if kind_of is float or kind_of is str or (kind_of is int and MIN_INT64 <= value <= MAX_INT64):
            features[name] = value
        else:
            features[name] = _element(value, name, place(name, example))
    return features


def _value(cursor: Cursor, name: str, example: int) -> Any:
    try:
        return cursor.value("")
    except InvalidTensor as error:
        raise error.at(place(name, example)) from error


def _read_list(cursor: Cursor, body: bytes, name: str, example: int, strict: bool) -> Feature:
    start = cursor.offset
    cursor.skip()
    text = body[start : cursor.offset]
    if len(text) > LONG_LIST_BYTES:
        numbers = _long_numbers(text, strict)
        if numbers is not None:
            return numbers
    return _list(_value(Cursor(text, MAX_DEPTH, strict), name, example), name, example)


def _long_numbers(text: bytes, strict: bool) -> Tensor | None:
    """The list of numbers in `text`, without making Python objects of them; None where it is not one of a single kind."""
    # What is left tells kinds apart: whole numbers leave nothing between commas, others leave points and letters.
    marks = text.translate(_MARKS, b"0123456789+- \t\r\n")
    inside = marks[1:-1]
    if inside.translate(None, b".,") or not text[1:-1].strip():
        return None
    try:
        if b"." not in inside:
            return Cursor(text, MAX_DEPTH, strict).tensor(DType.INT64, "")
        if not inside.startswith(b",") and not inside.endswith(b",") and b",," not in inside:
            return Cursor(text, MAX_DEPTH, strict).tensor(DType.DOUBLE, "")
    except InvalidTensor:
        return None
    return None


def _list(values: list[Any], name: str, example: int) -> list[Element]:
    """`values` as the plain elements of one kind; those that are so already are looked at in one go."""
    kinds = set(map(type, values))
    if kinds in _PLAIN_KINDS:
        return values
    if kinds <= _INTEGERS and min(values) >= MIN_INT64 and max(values) <= MAX_INT64:
        return values
    elements: list[Element] = []
    path = place(name, example)
    for index, value in enumerate(values):
        element = _element(value, name, f"{path}[{index}]")
        elements.append(element)
        expected, got = _KIND_NAMES[type(elements[0])], _KIND_NAMES[type(element)]
        if expected != got:
            raise InvalidRequest(
                f"Unexpected element type in feature: {_cut(name)} expecting type: {expected},"
                f" got {got}: {described(value)} - at `{path}[{index}]`"
            )
    return elements


def _element(value: Any, name: str, path: str) -> Element:
    """One value as its kind has it: base64 decoded, whole numbers past 64 bits as floats."""
    if isinstance(value, (float, bool, str)):
        return value
    if isinstance(value, int):
        if MAX_INT64 < value <= MAX_UINT64:
            raise InvalidRequest(
                f"Feature: {_cut(name)} has uint64 element. Only int64_t is supported. Got {value} - at `{path}`"
            )
        return value if MIN_INT64 <= value <= MAX_INT64 else float(value)
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str):
        # Read as predict reads it, so that both take and refuse the same.
        text: str = Cursor(msgspec.json.encode(value)).tensor(DType.STRING, path).item()
        return text
    raise InvalidRequest(
        f"Feature: {_cut(name)} has element with unexpected JSON type: {_json_type(value)}: {described(value)}"
        f' - at `{path}`; it takes numbers, booleans, strings and {{"b64": ...}} objects, or a flat list of them'
    )


def described(value: Any) -> str:
    """A value for an error, cut short; of nested ones, only what they are."""
    match value:
        case str():
            return quoted(value)
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)}"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case float() if value != value:  # noqa: PLR0124  # only NaN is not itself
            return "NaN"
        case _:
            return _cut(repr(value).replace("inf", "Infinity"))


def _json_type(value: Any) -> str:
    if value is None:
        return "Null"
    return "Array" if isinstance(value, list) else "Object"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "..."
