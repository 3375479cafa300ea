"""What the API document says of paths: each protocol tells it beside its routes, `server/openapi` puts it together.

Pure data. Schemas are JSON Schema as OpenAPI 3.1 has it; `ref` names one that a protocol gives by name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

Schema = dict[str, Any]

JSON = "application/json"
TEXT = "text/plain"

ANYTHING: Schema = {"description": "any JSON value"}
STRING: Schema = {"type": "string"}

SCHEMAS_AT = "#/components/schemas/{name}"


class Media(Struct, frozen=True):
    """A body: its type, what it looks like, and examples by name."""

    schema: Schema
    examples: Mapping[str, Any] = {}
    type: str = JSON


class Parameter(Struct, frozen=True):
    """A query parameter or a header of a request."""

    name: str
    text: str
    schema: Schema
    place: str = "query"


class Answer(Struct, frozen=True):
    """What comes back where nothing is wrong, or (`status`) where something special is so. No media: no body."""

    text: str
    media: tuple[Media, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = {}


class Operation(Struct, frozen=True, kw_only=True):
    """One method on some paths that mean the same. `paths` have their parameters in braces, as the document has.

    `errors`: statuses of answers in the protocol's shape of errors, beyond those that every path may answer.
    """

    method: str
    paths: tuple[str, ...]
    summary: str
    text: str = ""
    body: tuple[Media, ...] = ()
    needs_body: bool = True
    parameters: tuple[Parameter, ...] = ()
    answers: tuple[Answer, ...]
    errors: tuple[int, ...] = ()


class Described(Struct, frozen=True, kw_only=True):
    """What one protocol says of itself. `error`: the shape of its errors. `samples`: what stands for a path's parameters,
    beyond the names that all protocols have."""

    name: str
    text: str
    operations: tuple[Operation, ...]
    schemas: Mapping[str, Schema]
    error: Media
    samples: Mapping[str, str] = {}


def ref(name: str) -> Schema:
    """The schema that a protocol gives under that name."""
    return {"$ref": SCHEMAS_AT.format(name=name)}


def object_of(required: Mapping[str, Schema], optional: Mapping[str, Schema] = {}, text: str = "") -> Schema:
    """An object; others than these members may be in it."""
    schema: Schema = {"type": "object", "required": [*required], "properties": {**required, **optional}}
    return {**schema, "description": text} if text else schema


def list_of(item: Schema, text: str = "") -> Schema:
    """A list of those."""
    schema: Schema = {"type": "array", "items": item}
    return {**schema, "description": text} if text else schema


def of_structs(types: Iterable[type], prefix: str) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of answers that are written from structs, and all that these name; names begin with `prefix`."""
    refs, named = msgspec.json.schema_components(types, ref_template=f"#/components/schemas/{prefix}{{name}}")
    return list(refs), {prefix + name: schema for name, schema in named.items()}


ERROR_OBJECT: Schema = object_of(
    {"error": {"type": "string", "description": "what was expected, what came, and where"}}
)
"""The shape that most protocols' errors have."""
