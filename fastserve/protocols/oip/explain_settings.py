"""What an `explain` request says beside its inputs, in `parameters`: the background that rows are compared with.

Pure.
"""

from msgspec import Struct

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidJson, InvalidTensor
from fastserve.http.message import Request
from fastserve.protocols.oip.binary import LENGTH_HEADER
from fastserve.protocols.oip.dicts import read_dicts
from fastserve.protocols.oip.plain import PlainPlan, read_rows
from fastserve.types import Tensor

MAX_SAMPLES = 1 << 16
BACKGROUND = "$.parameters.background"


class Settings(Struct, frozen=True):
    """`background`: the inputs' tensors, None where the body has none. `samples`: 0 where it says nothing."""

    background: dict[str, Tensor] | None = None
    samples: int = 0


def read_settings(request: Request, plan: PlainPlan) -> Settings:
    """The settings of a body; none where it is no JSON."""
    declared = request.headers.get(LENGTH_HEADER)
    text = request.body[: int(declared)] if declared is not None else request.body
    cursor = Cursor(text, finite=plan.strict)
    try:
        if cursor.kind() != "{":
            return Settings()
    except InvalidJson:
        return Settings()
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if key == "parameters" and cursor.kind() == "{":
            return _read(cursor, plan)
        cursor.skip()
    return Settings()


def _read(cursor: Cursor, plan: PlainPlan) -> Settings:
    background: dict[str, Tensor] | None = None
    samples = 0
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if key == "background" and background is None and cursor.kind() != "n":
            background = _read_background(cursor, plan)
        elif key == "samples" and not samples:
            samples = _read_samples(cursor)
        else:
            cursor.skip()
    return Settings(background, samples)


def _read_background(cursor: Cursor, plan: PlainPlan) -> dict[str, Tensor]:
    """Rows as in `inputs`: lists, or objects of names and values."""
    if cursor.kind() != "[" or cursor.first_item_kind() == "]":
        raise InvalidTensor(expected="list of rows", got=cursor.excerpt(), path=BACKGROUND)
    read = read_dicts if cursor.first_item_kind() == "{" else read_rows
    try:
        return read(cursor, plan)
    except InvalidTensor as error:
        raise error.at(error.path.replace("$.inputs", BACKGROUND, 1)) from error


def _read_samples(cursor: Cursor) -> int:
    text = cursor.excerpt()
    value = cursor.value("$.parameters.samples") if cursor.kind() == "0" else None
    if type(value) is not int or not 1 <= value <= MAX_SAMPLES:
        raise InvalidTensor(expected=f"integer from 1 to {MAX_SAMPLES}", got=text, path="$.parameters.samples")
    return value
