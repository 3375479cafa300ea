"""Protobuf text files (`models.config`, `config.pbtxt`): fields by table, every mistake with file, line and column.

The grammar and the types are read by protobuf's own text parser; a walk over its tokens beforehand finds the line of each
field, and names the fields that are not applied.
Thread: any.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from msgspec import Struct

from fastserve.errors import ConfigError

MAX_DEPTH = 64
MAX_FILE_BYTES = 16 << 20
_PACKAGE = "fastserve"

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
}

Keys = tuple[str | int, ...]
"""Where in a file: `("model_config_list", "config", 0, "name")`; what may be repeated has its place in the row."""


class Unapplied(Struct, frozen=True):
    """A field that the format has and that changes nothing here; `reason` says why, or what to use instead.

    `kind`: what it holds, where that is kept all the same.
    """

    reason: str
    kind: str = ""


Fields = Mapping[str, str | Unapplied]
"""By name: `string`, `Message`, `repeated int64`, `map string int64`, the name of an enumeration."""


def kind_of(field: str | Unapplied | None) -> str:
    """What a field holds; empty where that is not looked at."""
    return field.kind if isinstance(field, Unapplied) else field or ""


class Schema:
    """What a kind of file may hold. `root`: its outermost message; `one_of`: by message, fields that exclude each other."""

    def __init__(
        self,
        root: str,
        messages: Mapping[str, Fields],
        enums: Mapping[str, tuple[str, ...]] | None = None,
        one_of: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.root = root
        self.messages = messages
        self.enums = enums or {}
        self.one_of = one_of or {}

    def new(self) -> Any:
        """An empty message of the root's kind."""
        return self._class()

    @cached_property
    def _class(self) -> Any:
        file = descriptor_pb2.FileDescriptorProto(name=f"{self.root}.proto", package=_PACKAGE, syntax="proto3")
        for name, values in self.enums.items():
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        for name, fields in self.messages.items():
            self._describe(file.message_type.add(name=name), fields)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)  # a pool of its own: whoever else has TF Serving's or Triton's messages is not disturbed
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{self.root}"))

    def _describe(self, message: Any, fields: Fields) -> None:
        exclusive = self.one_of.get(message.name, ())
        if exclusive:
            message.oneof_decl.add(name="choice")
        kept = [(name, kind_of(kind)) for name, kind in fields.items() if kind_of(kind)]
        for number, (name, kind) in enumerate(kept, start=1):
            field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
            how, _, of = kind.rpartition(" ")
            if how:
                field.label = _Field.LABEL_REPEATED
            if how.startswith("map "):
                entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
                entry.options.map_entry = True
                self._describe(entry, {"key": how.removeprefix("map "), "value": of})
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
            else:
                self._set_kind(field, of)
            if name in exclusive:
                field.oneof_index = 0

    def _set_kind(self, field: Any, kind: str) -> None:
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type = _Field.TYPE_ENUM if kind in self.enums else _Field.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{kind}"


class Mention(Struct, frozen=True):
    """A field of the file that is not applied. `near`: where nobody knows the name, the nearest that is known."""

    keys: Keys
    line: int
    reason: str
    near: str = ""

    @property
    def name(self) -> str:
        """Its dotted path."""
        return dotted(self.keys)


def mention_of(fields: Fields, found: Unapplied | None, keys: Keys, line: int) -> Mention:
    """The field at `keys`, that is not applied or, without `found`, none of `fields`."""
    if found is not None:
        return Mention(keys, line, found.reason)
    near = get_close_matches(str(keys[-1]), fields, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields)}"
    return Mention(keys, line, f"unknown field; {hint}", near[0] if near else "")


class Document(Struct, frozen=True):
    """A file that was read. `unapplied`: fields that the format has; `unknown`: names that it does not have."""

    path: Path
    message: Any
    lines: Mapping[Keys, int]
    unapplied: tuple[Mention, ...]
    unknown: tuple[Mention, ...]

    def place(self, keys: Keys) -> str:
        """`models.config, line 3`: of the field, or of the nearest one around it that the file has."""
        while keys and keys not in self.lines:
            keys = (*keys, 0) if (*keys, 0) in self.lines else keys[:-1]
        return self.at(self.lines[keys] if keys else 0)

    def at(self, line: int) -> str:
        """`models.config, line 3`; what came in a request has no lines."""
        return f"{self.path}, line {line}" if line else str(self.path)

    def error(self, keys: Keys, reason: str) -> ConfigError:
        """A ConfigError at `keys`."""
        return ConfigError(f"{self.place(keys)}: {dotted(keys)}: {reason}")

    def notes(self) -> Iterator[str]:
        """One line for each field that is not applied."""
        for mention in self.unapplied:
            yield f"{self.at(mention.line)}: {mention.name} is not applied: {mention.reason}"

    def refuse_unknown(self) -> None:
        """Raises ConfigError for the first name that the format does not have."""
        for mention in self.unknown:
            raise ConfigError(f"{self.at(mention.line)}: {mention.name}: {mention.reason}")


def read_document(path: Path, schema: Schema) -> Document:
    """The file at `path`. Raises ConfigError where it cannot be read, is no protobuf text, or does not fit `schema`."""
    text = read_text(path)
    walk = _Walk(text, schema)
    message = schema.new()
    try:
        walk.whole()
        text_format.Parse(text, message, allow_unknown_field=True)
    except text_format.ParseError as error:
        raise ConfigError(_told(path, text, error)) from None
    except RecursionError:  # nothing above the walk's depth; the parser may have less stack left than it needs
        raise ConfigError(f"{path}: nested too deeply") from None
    return Document(path, message, walk.lines, tuple(walk.unapplied), tuple(walk.unknown))


def read_text(path: Path) -> str:
    """A configuration file's text. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes, which no configuration is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None


def dotted(keys: Keys) -> str:
    """`("config", 0, "name")` as `config[0].name`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


class _Walk:
    """One pass over a file's tokens: the line of each field, and which of them are not applied."""

    def __init__(self, text: str, schema: Schema) -> None:
        self._schema = schema
        self._text = text
        self._tokens: Any = None
        self._unheard = 0  # around it, fields that are not applied: what is in them is not told one by one
        self.lines: dict[Keys, int] = {}
        self.unapplied: list[Mention] = []
        self.unknown: list[Mention] = []

    def whole(self) -> None:
        """Raises text_format.ParseError where the text is none of this grammar."""
        self._tokens = text_format.Tokenizer(self._text.split("\n"))
        self._fields(self._schema.messages[self._schema.root], (), "")

    def _fields(self, fields: Fields | None, keys: Keys, end: str) -> None:
        """Up to `end`; `fields` None: inside something that is not applied."""
        opened = self._tokens.ParseErrorPreviousToken("").GetLine()
        if len(keys) > MAX_DEPTH:
            raise self._tokens.ParseError(f"nested deeper than {MAX_DEPTH} fields")
        row: dict[str, int] = {}
        while not (self._tokens.AtEnd() if not end else self._tokens.TryConsume(end)):
            if self._tokens.AtEnd():
                raise self._tokens.ParseError(f'Expected "{end}" for what begins in line {opened}.')
            self._field(fields, keys, row)
            if not self._tokens.TryConsume(","):
                self._tokens.TryConsume(";")

    def _field(self, fields: Fields | None, keys: Keys, row: dict[str, int]) -> None:
        line = self._line()
        name = self._name()
        found = fields.get(name) if fields is not None else None
        if fields is not None and not isinstance(found, str) and not self._unheard:
            self._mention(fields, found, (*keys, name), line)
        kind = kind_of(found)
        how, _, of = kind.rpartition(" ")
        self._unheard += not isinstance(found, str)

        def value(line: int) -> None:
            at = (*keys, name)
            if how:
                at = (*at, row.setdefault(name, 0))
                row[name] += 1
            if kind:
                self.lines[at] = line
            self._value(self._inner(kind), at)

        colon = self._tokens.TryConsume(":")
        of_messages = kind and of not in _SCALARS and of not in self._schema.enums
        if not colon and self._tokens.token not in (("{", "<", "[") if of_messages else ("{", "<")):
            raise self._tokens.ParseError('Expected ":" or "{".')
        if self._tokens.TryConsume("["):
            self._list(value)
        else:
            value(line)
        self._unheard -= not isinstance(found, str)

    def _inner(self, kind: str) -> Fields | None:
        """The fields of a message of that kind."""
        how, _, of = kind.rpartition(" ")
        if how.startswith("map "):
            return {"key": how.removeprefix("map "), "value": of}
        return self._schema.messages.get(of)

    def _line(self) -> int:
        line: int = self._tokens.ParseError("").GetLine()
        return line

    def _name(self) -> str:
        if not self._tokens.TryConsume("["):
            name: str = self._tokens.ConsumeIdentifier()
            return name
        parts = []  # an extension, or the type of a google.protobuf.Any
        while not self._tokens.TryConsume("]"):
            if self._tokens.AtEnd():
                raise self._tokens.ParseError('Expected "]".')
            parts.append(self._tokens.token)
            self._tokens.NextToken()
        return f"[{''.join(parts)}]"

    def _mention(self, fields: Fields, kind: Unapplied | None, keys: Keys, line: int) -> None:
        told = self.unknown if kind is None else self.unapplied
        told.append(mention_of(fields, kind, keys, line))

    def _list(self, value: Callable[[int], None]) -> None:
        if self._tokens.TryConsume("]"):
            return
        value(self._line())
        while not self._tokens.TryConsume("]"):
            self._tokens.Consume(",")
            value(self._line())

    def _value(self, inner: Fields | None, keys: Keys) -> None:
        tokens = self._tokens
        if tokens.TryConsume("{"):
            self._fields(inner, keys, "}")
        elif tokens.TryConsume("<"):
            self._fields(inner, keys, ">")
        elif tokens.token[:1] in ("'", '"') and tokens.token:
            tokens.ConsumeByteString()
        elif re.match(r"[\w.+-]", tokens.token):
            tokens.NextToken()
        else:
            raise tokens.ParseError("Expected a value.")


_WORDING = [
    (r'Message type "\S+" should not have multiple "(\w+)" fields\.', r"\1 is given twice"),
    (r'Field "(\w+)" is specified along with field "(\w+)".*', r"\1 is given beside \2: only one of them may be"),
    (r"Couldn't parse integer: (.*)", r"expected an integer, got \1"),
    (r"Couldn't parse string: (.*)", r"the string is not UTF-8 (\1)"),
    (r"Value out of range: (.*)", r"\1 is out of range"),
    (r"Enum type \"\S+\" has no value named (.*)\.", r"there is no value \1 here"),
    (r"Expected string but found: (.*)", r"expected a string in quotes, got \1"),
    (r"String missing ending quote: (.*)", r"the string \1 has no ending quote"),
    (r"Expected identifier.*", r"expected a field's name"),
    (r"Expected (.*?)\.?", r"expected \1"),
]
"""The parser's sentences in ours."""


def _told(path: Path, text: str, error: Any) -> str:
    """`models.config, line 3, column 5: expected ":", got "name"`."""
    line, column = error.GetLine(), error.GetColumn()
    reason = str(error)
    if line is None:
        return f"{path}: {reason}"
    lines = text.split("\n")
    shown = lines[line - 1] if line <= len(lines) else ""
    reason = reason.removeprefix(f"{line}:{column} : ").removeprefix(f"'{shown}': ").removeprefix("'': ")
    for pattern, sentence in _WORDING:
        if match := re.fullmatch(pattern, reason, re.DOTALL):
            reason = match.expand(sentence)
            break
    if reason.startswith("expected") and ", got " not in reason:
        reason += f", got {_token_at(shown, column)}"
    return f"{path}, line {line}, column {column}: {reason}"


def _token_at(line: str, column: int) -> str:
    match = re.match(r"\s*(\"[^\"]*\"?|'[^']*'?|[\w.+-]+|\S)", line[column - 1 :])
    return match[1] if match else "the end of the file"
