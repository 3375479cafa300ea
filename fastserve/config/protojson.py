"""What the tables of `prototext` describe, as JSON: a wrong value is refused by its path, an unknown name is told.

Names may stand as in the file or in camel case and integers as text, as in protobuf's own JSON; null is as if left out.
Thread: any.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf import json_format

from fastserve.config.prototext import MAX_DEPTH, Document, Fields, Keys, Mention, Schema, dotted, kind_of, mention_of
from fastserve.errors import ConfigError
from fastserve.types import printable

_BOUNDS: Mapping[str, tuple[int, int]] = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}
MAX_DIGITS = 20
MAX_SHOWN_CHARS = 64
MAX_MENTIONS = 32
"""No log grows with a request: so many fields that are not applied are told by name."""

NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})
"""Values that ask for nothing."""


def read_json(text: str, path: Path, schema: Schema) -> tuple[Document, frozenset[str]]:
    """The object in `text` as if it were the file `path`, and the names of its own members.

    Raises ConfigError where it is none, or does not fit `schema`.
    """
    try:
        said = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    walk = _Walk(schema, path)
    fitted = walk.message(schema.root, said, ())
    message = schema.new()
    try:
        json_format.ParseDict(fitted, message, max_recursion_depth=MAX_DEPTH + 1)
    except json_format.ParseError as error:
        raise ConfigError(f"{path}: {error}") from None
    lines: dict[Keys, int] = {(name,): 0 for name in fitted}
    return Document(path, message, lines, tuple(walk.unapplied), tuple(walk.unknown)), frozenset(fitted)


class _Walk:
    """One pass over the values: what the message takes of them, and what is not applied."""

    def __init__(self, schema: Schema, path: Path) -> None:
        self._schema = schema
        self._path = path
        self._unheard = 0  # around it, fields that are not applied: what is in them is not told one by one
        self.unapplied: list[Mention] = []
        self.unknown: list[Mention] = []

    def message(self, kind: str, said: Any, keys: Keys) -> dict[str, Any]:
        """The members that are known, by the names of the file."""
        self._expect(isinstance(said, dict), "an object", said, keys)
        if len(keys) > MAX_DEPTH:
            raise ConfigError(f"{self._path}: nested deeper than {MAX_DEPTH} fields")
        fields = self._schema.messages[kind]
        fitted: dict[str, Any] = {}
        for given, value in said.items():
            name = given if given in fields else _in_file(given)
            at = (*keys, name)
            if name in fitted:
                raise self._error(at, "is given twice")
            self._hear(fields, name, value, at if name in fields else (*keys, _name(given)))
            what = kind_of(fields.get(name))
            if what and value is not None:
                quiet = not isinstance(fields[name], str)
                self._unheard += quiet
                fitted[name] = self._field(what, value, at)
                self._unheard -= quiet
        exclusive = [name for name in self._schema.one_of.get(kind, ()) if name in fitted]
        if len(exclusive) > 1:
            raise self._error((*keys, exclusive[1]), f"is given beside {exclusive[0]}: only one of them may be")
        return fitted

    def _hear(self, fields: Fields, name: str, value: Any, keys: Keys) -> None:
        """Take note of what is not applied, where it would change something."""
        found = fields.get(name)
        if isinstance(found, str) or self._unheard or len(self.unknown) + len(self.unapplied) == MAX_MENTIONS:
            return
        mention = mention_of(fields, found, keys, 0)
        if found is None:
            self.unknown.append(mention)
        elif value not in NOTHING and not self._is_default(found.kind, value):
            self.unapplied.append(mention)

    def _is_default(self, kind: str, value: Any) -> bool:
        values = self._schema.enums.get(kind)
        return values is not None and value == values[0]

    def _field(self, kind: str, value: Any, keys: Keys) -> Any:
        how, _, of = kind.rpartition(" ")
        if how == "repeated":
            self._expect(isinstance(value, list), "a list", value, keys)
            return [self._one(of, each, (*keys, i)) for i, each in enumerate(value)]
        if how.startswith("map "):
            self._expect(isinstance(value, dict), "an object", value, keys)
            named = {key: (*keys, _name(key)) for key in value}
            key_kind = how.removeprefix("map ")
            return {str(self._one(key_kind, key, named[key])): self._one(of, value[key], named[key]) for key in value}
        return self._one(of, value, keys)

    def _one(self, kind: str, value: Any, keys: Keys) -> Any:
        if kind in _BOUNDS:
            return self._integer(kind, value, keys)
        if kind in self._schema.enums:
            return self._enum(self._schema.enums[kind], value, keys)
        if kind in _PLAIN:
            expected, fits = _PLAIN[kind]
            self._expect(fits(value), expected, value, keys)
            return value
        return self.message(kind, value, keys)

    def _integer(self, kind: str, value: Any, keys: Keys) -> int:
        low, high = _BOUNDS[kind]
        is_text = isinstance(value, str) and re.fullmatch(rf"-?[0-9]{{1,{MAX_DIGITS}}}", value)
        is_whole = isinstance(value, float) and value.is_integer()
        number = int(value) if is_text or is_whole else value
        fits = isinstance(number, int) and not isinstance(number, bool) and low <= number <= high
        self._expect(fits, f"an integer of {low} to {high}", value, keys)
        return int(number)

    def _enum(self, values: tuple[str, ...], value: Any, keys: Keys) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(values):
            return values[value]
        self._expect(value in values, f"one of {', '.join(values)}", value, keys)
        return str(value)

    def _expect(self, fits: bool, expected: str, value: Any, keys: Keys) -> None:
        if not fits:
            raise self._error(keys, f"expected {expected}, got {_shown(value)}")

    def _error(self, keys: Keys, reason: str) -> ConfigError:
        return ConfigError(f"{self._path}: {dotted(keys)}{': ' if reason.startswith('expected') else ' '}{reason}")


_PLAIN: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "float": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
}


def _in_file(name: str) -> str:
    """`maxBatchSize` as `max_batch_size`."""
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def _name(given: str) -> str:
    """A name of the request's as it is told: in one line, and not longer than that."""
    return printable(given[:MAX_SHOWN_CHARS]) + ("..." if len(given) > MAX_SHOWN_CHARS else "")


def _shown(value: Any) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except RecursionError:  # it was read with more of the stack left
        return "lists and objects, very deeply nested"
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."
