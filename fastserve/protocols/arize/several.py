"""Bodies that hold several records: /v1/bulk (an object with a list) and /v1/preprod (a line each).

All or nothing: each record is read and checked before any is stored. Pure. Memory: each record's text is copied once.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from fastserve.errors import FastServeError, InvalidRequest
from fastserve.limits import MAX_ID_CHARS, MAX_RECORDS
from fastserve.protocols.arize.frame import Head
from fastserve.protocols.arize.protojson import Mistake, string, told
from fastserve.protocols.arize.record import Record, any_json, read_record
from fastserve.protocols.arize.rows import TRAINING, VALIDATION
from fastserve.protocols.arize.rules import Limits, check


class Enclosed(Struct, frozen=True):
    """A record, as it came, and what stood around it."""

    record: Record
    head: Head
    body: bytes


def read_bulk(body: bytes, head: Head, now_ns: int, limits: Limits) -> list[Enclosed]:
    """The records of a BulkRecord: its model and version stand for those that name none. Raises FastServeError."""
    members = _members(body)
    shared: dict[str, str] = {}
    for name, spellings in _BULK_TEXTS.items():
        text = _sole(members, spellings, "$")
        shared[name] = "" if text is None else _short(any_json(bytes(text)), f"$.{spellings[0]}")
    records = _sole(members, ("records",), "$")
    head = msgspec.structs.replace(
        head,
        space=head.space or shared["space_key"] or shared["organization_key"],
        model_id=shared["model_id"],
        model_version=shared["model_version"],
    )
    raws = _records(b"[]" if records is None else bytes(records))
    if len(raws) > MAX_RECORDS:
        raise Mistake(expected=f"at most {MAX_RECORDS} records", got=str(len(raws)), path="$.records")
    return [_enclosed(bytes(raw), head, now_ns, limits, f"$.records[{i}]") for i, raw in enumerate(raws)]


def read_lines(body: bytes, head: Head, now_ns: int, limits: Limits) -> list[Enclosed]:
    """The records of lines of PreProductionRecord. Raises FastServeError."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > MAX_RECORDS:
        raise InvalidRequest(f"expected at most {MAX_RECORDS} records, got {len(lines)}")
    return [_pre_production(line, head, now_ns, limits, f"line {i}") for i, line in enumerate(lines, 1)]


def _pre_production(line: bytes, head: Head, now_ns: int, limits: Limits, path: str) -> Enclosed:
    members = _members(line, path)
    training = _sole(members, ("training_record", "trainingRecord"), path)
    validation = _sole(members, ("validation_record", "validationRecord"), path)
    if (training is None) == (validation is None):
        got = "none" if training is None else "both"
        raise Mistake(expected="one of trainingRecord and validationRecord", got=got, path=path)
    if training is not None:
        inner, place = _members(bytes(training), f"{path}.trainingRecord"), f"{path}.trainingRecord"
        head = msgspec.structs.replace(head, environment=TRAINING)
    else:
        assert validation is not None
        inner, place = _members(bytes(validation), f"{path}.validationRecord"), f"{path}.validationRecord"
        batch = _sole(inner, ("batch_id", "batchId"), place)
        batch_id = "" if batch is None else _short(any_json(bytes(batch)), f"{place}.batchId")
        head = msgspec.structs.replace(head, environment=VALIDATION, batch_id=batch_id)
    record = _sole(inner, ("record",), place)
    if record is None:
        raise Mistake(expected="a record", got="none", path=place)
    return _enclosed(bytes(record), head, now_ns, limits, f"{place}.record")


def _enclosed(body: bytes, head: Head, now_ns: int, limits: Limits, path: str) -> Enclosed:
    try:
        record = read_record(body, path)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error}") from None
    record.model_id = record.model_id or head.model_id or None
    check(record, now_ns, limits, path)
    return Enclosed(record, head, body)


def _members(body: bytes, path: str = "$") -> dict[str, Raw]:
    """An object's members, as they stand there."""
    try:
        return _MEMBERS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            value = any_json(body)  # says what is wrong with it, unless it is JSON
        except FastServeError as error:
            raise InvalidRequest(str(error) if path == "$" else f"{path}: {error}") from None
        raise Mistake(expected="an object", got=told(value), path=path) from None


def _records(body: bytes) -> list[Raw]:
    try:
        return _LIST.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Mistake(expected="a list", got=told(any_json(body)), path="$.records") from None


def _sole(members: dict[str, Raw], spellings: tuple[str, ...], path: str) -> Raw | None:
    """A member that has one of two names; None where it is not there, or null."""
    given = [members[name] for name in spellings if name in members and bytes(members[name]) != b"null"]
    if len(given) > 1:
        raise Mistake(expected=f"{spellings[0]} once", got="it in two spellings", path=path)
    return given[0] if given else None


def _short(value: Any, path: str) -> str:
    text = string(value, path)
    if len(text) > MAX_ID_CHARS:
        raise Mistake(expected=f"at most {MAX_ID_CHARS} characters", got=f"{len(text)}", path=path)
    return text


_BULK_TEXTS = {
    "space_key": ("space_key", "spaceKey"),
    "organization_key": ("organization_key", "organizationKey"),
    "model_id": ("model_id", "modelId"),
    "model_version": ("model_version", "modelVersion"),
}
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
