"""What a table that is sent whole says of its columns: `arize-schema` in the metadata of its Arrow schema (public.Schema).

It is protobuf, of which this reads what there is a table for, and leaves out the rest. Pure.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, convert

from fastserve.errors import InvalidRequest

METADATA_KEY = b"arize-schema"
MAX_SCHEMA_BYTES = 4 << 20

TEXT, TEXTS, NUMBER, TEXT_MAP = "text", "texts", "number", "text map"
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5

ENVIRONMENTS = {0: "production", 1: "training", 2: "validation", 3: "production"}
CORPUS = 4
"""Not of predictions: of the documents that a model finds its answers in."""
DOCUMENT_TEXT = "document_text"
"""What a document's embedding is called among its features."""
NUMERIC, RANKING, MULTI_CLASS = 2, 5, 8

Table = Mapping[int, tuple[str, Any]]
"""Fields by number: name, and what it is: one of the kinds above, a table, or a tuple of one: a map from texts to that."""


class EmbeddingColumns(Struct, frozen=True):
    """Where an embedding's parts are; empty: nowhere."""

    vector: str = ""
    data: str = ""
    link: str = ""


class BoxColumns(Struct, frozen=True):
    """Where boxes and polygons are."""

    coordinates: str = ""
    boxes: str = ""
    categories: str = ""
    scores: str = ""


class Constants(Struct, frozen=True):
    """What all rows have in common."""

    model_id: str = ""
    model_version: str = ""
    batch_id: str = ""
    environment: int = 0
    model_type: int = 0


class DocumentColumns(Struct, frozen=True):
    """Where a corpus has its documents."""

    id: str = ""
    text: EmbeddingColumns | None = None
    version: str = ""


class Columns(Struct, frozen=True):
    """Which column is what."""

    prediction_id: str = ""
    features: list[str] = []
    timestamp: str = ""
    prediction_label: str = ""
    prediction_score: str = ""
    actual_label: str = ""
    actual_score: str = ""
    shap_values: dict[str, str] = {}
    tags: list[str] = []
    actual_numeric_sequence: str = ""
    environment: str = ""
    model_version: str = ""
    batch_id: str = ""
    prediction_group_id: str = ""
    rank: str = ""
    embeddings: dict[str, EmbeddingColumns] = {}
    prediction_boxes: BoxColumns | None = None
    actual_boxes: BoxColumns | None = None
    prompt_template: dict[str, str] = {}
    llm_config: dict[str, str] = {}
    documents: DocumentColumns | None = None
    retrieved_document_ids: str = ""
    threshold_scores: str = ""
    prediction_segments: BoxColumns | None = None
    actual_segments: BoxColumns | None = None
    prediction_instances: BoxColumns | None = None
    actual_instances: BoxColumns | None = None


class TableSchema(Struct, frozen=True):
    """All of it."""

    constants: Constants = Constants()
    columns: Columns | None = None


_EMBEDDING: Table = {1: ("vector", TEXT), 2: ("data", TEXT), 3: ("link", TEXT)}
_DETECTED: Table = {1: ("coordinates", TEXT), 2: ("categories", TEXT), 3: ("scores", TEXT)}
_SEGMENTS: Table = {1: ("coordinates", TEXT), 2: ("categories", TEXT)}
_INSTANCES: Table = {1: ("coordinates", TEXT), 2: ("boxes", TEXT), 3: ("categories", TEXT), 4: ("scores", TEXT)}
_COLUMNS: Table = {
    1: ("prediction_id", TEXT),
    2: ("features", TEXTS),
    3: ("timestamp", TEXT),
    4: ("prediction_label", TEXT),
    5: ("prediction_score", TEXT),
    6: ("actual_label", TEXT),
    7: ("actual_score", TEXT),
    8: ("shap_values", TEXT_MAP),
    9: ("tags", TEXTS),
    10: ("actual_numeric_sequence", TEXT),
    12: ("environment", TEXT),
    13: ("model_version", TEXT),
    14: ("batch_id", TEXT),
    15: ("prediction_group_id", TEXT),
    16: ("rank", TEXT),
    17: ("embeddings", (_EMBEDDING,)),
    18: ("prediction_boxes", _DETECTED),
    19: ("actual_boxes", _DETECTED),
    20: ("prompt_template", {1: ("prompt_template", TEXT), 2: ("prompt_template_name", TEXT)}),
    21: ("llm_config", {1: ("llm_model_name", TEXT), 2: ("llm_params", TEXT)}),
    22: ("documents", {1: ("id", TEXT), 2: ("text", _EMBEDDING), 3: ("version", TEXT)}),
    23: ("retrieved_document_ids", TEXT),
    24: ("threshold_scores", TEXT),
    25: ("prediction_segments", _SEGMENTS),
    26: ("actual_segments", _SEGMENTS),
    27: ("prediction_instances", _INSTANCES),
    28: ("actual_instances", _INSTANCES),
}
_CONSTANTS: Table = {
    1: ("model_id", TEXT),
    2: ("model_version", TEXT),
    3: ("batch_id", TEXT),
    4: ("environment", NUMBER),
    5: ("model_type", NUMBER),
}
SCHEMA: Table = {1: ("constants", _CONSTANTS), 4: ("columns", _COLUMNS)}


def read_schema(metadata: Mapping[bytes, bytes] | None) -> TableSchema:
    """Of the metadata of an Arrow schema. Raises InvalidRequest."""
    text = (metadata or {}).get(METADATA_KEY)
    if text is None:
        raise InvalidRequest("expected the metadata arize-schema, which says what the columns are; got none")
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidRequest(f"expected metadata arize-schema of at most {MAX_SCHEMA_BYTES} bytes, got {len(text)}")
    try:
        return convert(message(b64decode(text, validate=True), SCHEMA), TableSchema)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"expected arize-schema as base64 of public.Schema: {error}") from None


def message(data: bytes, table: Table) -> dict[str, Any]:
    """A message's fields by name. Raises ValueError. As deep as its tables, whatever is sent."""
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        name, kind = table.get(number, ("", None))
        if kind is None:
            continue
        if isinstance(value, int) != (kind == NUMBER):
            raise ValueError(f"the field {name} is of another type")
        if kind == TEXT:
            found[name] = _text(value)
        elif kind == TEXTS:
            found.setdefault(name, []).append(_text(value))
        elif kind == NUMBER:
            found[name] = value
        elif kind == TEXT_MAP:
            entry = message(value, {1: ("key", TEXT), 2: ("value", TEXT)})
            found.setdefault(name, {})[entry.get("key", "")] = entry.get("value", "")
        elif isinstance(kind, tuple):
            entry = message(value, {1: ("key", TEXT), 2: ("value", kind[0])})
            found.setdefault(name, {})[entry.get("key", "")] = entry.get("value", {})
        else:
            found.setdefault(name, {}).update(message(value, kind))
    return found


def _text(value: Any) -> str:
    text = value.decode()
    if "\0" in text:
        raise ValueError("a name with NUL in it")
    return str(text)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values; fixed ones, which no table has, as their bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == LENGTH:
            length, at = _varint(data, at)
        else:
            length = {FIXED_64: 8, FIXED_32: 4}.get(wire, -1)
        if length < 0 or at + length > len(data):
            raise ValueError("it is no protobuf, or cut short")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if at >= len(data):
            raise ValueError("it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number without end")
