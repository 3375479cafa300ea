"""MLServer's content types: requests whose tensors mean something else than their datatypes say.

- `np`: numbers of any type, [N] as [N,1] where the model has that.
- `pd`, of a whole request: each input is a column; of a model with one wide input, its features side by side.
- `base64`: strings that hold text in base64; what is none is taken as it is.
- `datetime`: ISO 8601; as seconds since 1970 where the model takes numbers.
- `str`: text.
They come with an input, else with the request, else with the model's configuration; unknown ones are ignored.

Such requests are read twice: once for their types, then as tensors of the datatypes that they declare.
Pure.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fastserve._ext.tensorize import Cursor
from fastserve.engine.lease import Lease
from fastserve.errors import InvalidTensor, quoted
from fastserve.http.message import Request
from fastserve.protocols.oip.binary import LENGTH_HEADER, json_bytes
from fastserve.protocols.oip.decode import decode_infer
from fastserve.protocols.oip.parameters import CONTENT_TYPES
from fastserve.protocols.oip.plain import plain_plan
from fastserve.protocols.oip.plan import STRING, Form, InferPlan, InputPlan, OutputPlan, plan_of
from fastserve.protocols.oip.schema import DATATYPES, shape_text
from fastserve.types import DType, InferRequest, Tensor

Typed = tuple[InferRequest, InferPlan, Form, tuple[str, ...]]
"""What the engine is asked, the plan and form of its answer, and the inputs' names in the order of the body."""

_DTYPES = {name: dtype for dtype, name in DATATYPES.items()}


class Entry(Struct, frozen=True):
    """One input as the request has it; `content_type` empty where none is known."""

    name: str
    datatype: str
    content_type: str


def read_typed(request: Request, lease: Lease) -> Typed | None:
    """The request by its content types; None where it has none. Raises as `decode_infer`."""
    plan = plan_of(lease)
    declared = request.headers.get(LENGTH_HEADER)
    text = request.body if declared is None else request.body[: json_bytes(declared, request.body)]
    whole, entries = survey(text)
    whole = whole or _known(lease.config.content_type)
    defaults = {one.name: _known(one.content_type) for one in lease.config.inputs}
    types = {one.name: one.content_type or whole or defaults.get(one.name, "") for one in entries}
    if not any(types.values()):
        return None
    infer, form, order = decode_infer(request, _declared_plan(plan, entries))
    read = {name: _decoded(tensor, types[name], _path(order, name)) for name, tensor in infer.inputs.items()}
    inputs = _fitted(read, types, lease, plan, order)
    answer_plan, answer_form = _answer(plan, form, whole)
    return replace(infer, inputs=inputs), answer_plan, answer_form, order


def survey(text: bytes) -> tuple[str, list[Entry]]:
    """The request's content type and its inputs; whatever is wrong is left for the reader."""
    whole, entries = "", []
    cursor = Cursor(text)
    if cursor.kind() != "{":
        return "", []
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if key == "parameters" and cursor.kind() == "{":
            whole = whole or _content_type(cursor)
        elif key == "inputs" and cursor.kind() == "[":
            cursor.enter_array()
            while cursor.next_item():
                if cursor.kind() == "{":
                    entries.append(_entry(cursor))
                else:
                    cursor.skip()
        else:
            cursor.skip()
    return whole, entries


def _entry(cursor: Cursor) -> Entry:
    found = {"name": "", "datatype": ""}
    content_type = ""
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if found.get(key) == "" and cursor.kind() == '"':
            found[key] = cursor.string("")
        elif key == "parameters" and cursor.kind() == "{":
            content_type = content_type or _content_type(cursor)
        else:
            cursor.skip()
    return Entry(found["name"], found["datatype"], content_type)


def _content_type(cursor: Cursor) -> str:
    found = ""
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        if key == "content_type" and cursor.kind() == '"':
            found = found or _known(cursor.string(""))
        else:
            cursor.skip()
    return found


def _known(content_type: str) -> str:
    return content_type if content_type in CONTENT_TYPES else ""


def _declared_plan(plan: InferPlan, entries: list[Entry]) -> InferPlan:
    """A plan whose inputs are the request's own, of any shape."""
    inputs = {}
    for entry in entries:
        dtype = _DTYPES.get(entry.datatype)
        if dtype is not None:
            item_bytes = 0 if dtype is DType.STRING else dtype.numpy.itemsize
            words = dtype.is_float and not plan.strict
            inputs[entry.name] = InputPlan(entry.name, int(dtype), entry.datatype, item_bytes, words, None)
    return replace(plan, inputs=inputs, heeds_types=False, asked={}, latest=[], templates=[])


def _path(order: tuple[str, ...], name: str) -> str:
    return f"$.inputs[{order.index(name)}].data"


def _decoded(tensor: Tensor, content_type: str, path: str) -> Tensor:
    decode = _DECODERS.get(content_type)
    if decode is None or tensor.dtype != object:
        return tensor
    values = np.empty(tensor.size, object)
    for index, text in enumerate(tensor.reshape(-1)):
        values[index] = decode(text, f"{path}[{index}]")
    return values.reshape(tensor.shape)


def _from_base64(text: str, path: str) -> str:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidTensor(expected="base64 of UTF-8 text", got="bytes that are not UTF-8", path=path) from error


def _checked_time(text: str, path: str) -> str:
    _seconds(text, path)
    return text


def _seconds(text: str, path: str) -> float:
    """Since 1970, of a time of day without a zone in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidTensor(expected="date and time by ISO 8601", got=f"string {quoted(text)}", path=path) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_DECODERS: dict[str, Callable[[str, str], str]] = {"base64": _from_base64, "datetime": _checked_time}


def _fitted(
    read: dict[str, Tensor], types: dict[str, str], lease: Lease, plan: InferPlan, order: tuple[str, ...]
) -> dict[str, Tensor]:
    """The model's inputs, of the request's."""
    columns = plain_plan(lease)
    # A feature may be called like the input: where all features came, they are meant.
    in_columns = columns.wide and (columns.inputs[0].name not in read or read.keys() >= set(columns.features))
    if in_columns and all(types[name] == "pd" for name in read):
        return {columns.inputs[0].name: _side_by_side(read, types, columns.features, columns.inputs[0], order)}
    found = {}
    for name, tensor in read.items():
        known = plan.inputs.get(name)
        if known is None:
            path = f"$.inputs[{order.index(name)}].name"
            raise InvalidTensor(expected=f"one of the model's inputs ({plan.takes})", got=quoted(name), path=path)
        found[name] = _shaped(_cast(tensor, known, types[name], _path(order, name)), known)
    return found


def _side_by_side(
    read: dict[str, Tensor], types: dict[str, str], features: tuple[str, ...], known: InputPlan, order: tuple[str, ...]
) -> Tensor:
    """The one wide input, of a column for each of its features; other columns are passed over."""
    missing = [name for name in features if name not in read]
    if missing:
        told = ", ".join(map(quoted, features[:20]))
        raise InvalidTensor(expected=f"the columns {told}", got=f"no {quoted(missing[0])}", path="$.inputs")
    columns = [_cast(read[name], known, types[name], _path(order, name)) for name in features]
    for name, column in zip(features, columns, strict=True):
        if column.size != columns[0].size or column.ndim > 2 or column.shape[1:] not in ((), (1,)):
            raise InvalidTensor(
                expected=f"a column of {columns[0].size} values",
                got=f"shape {shape_text(column.shape)}",
                path=_path(order, name),
            )
    return np.ascontiguousarray(np.stack([column.reshape(-1) for column in columns], axis=1))


def _cast(tensor: Tensor, known: InputPlan, content_type: str, path: str) -> Tensor:
    """In the model's type, where that keeps what the values are; else as it came, for the engine to refuse."""
    wanted = DType(known.dtype)
    if wanted is DType.STRING or tensor.dtype == wanted.numpy:
        if (known.dtype == STRING) != (tensor.dtype == object):
            raise _other_type(tensor, known, path)
        return tensor
    if tensor.dtype == object:
        if content_type != "datetime" or wanted in (DType.BOOL, DType.BFLOAT16):
            raise _other_type(tensor, known, path)
        seconds = [_seconds(text, f"{path}[{index}]") for index, text in enumerate(tensor.reshape(-1))]
        tensor = np.array(seconds if wanted.is_float else np.floor(seconds), np.float64).reshape(tensor.shape)
    elif wanted is DType.BFLOAT16 or not np.can_cast(tensor.dtype, wanted.numpy, "same_kind"):
        raise _other_type(tensor, known, path)
    if not wanted.is_float:
        _check_range(tensor, wanted, path)
    with np.errstate(over="ignore"):
        return tensor.astype(wanted.numpy)


def _check_range(tensor: Tensor, dtype: DType, path: str) -> None:
    low, high = (0, 1) if dtype is DType.BOOL else (int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max))
    for value in (tensor.min(initial=0), tensor.max(initial=0)):
        if not low <= int(value) <= high:
            raise InvalidTensor(expected=f"integer from {low} to {high}", got=str(value), path=path)


def _shaped(tensor: Tensor, known: InputPlan) -> Tensor:
    """[N] as [N,1] and the other way, where the model has that."""
    shape = known.shape
    if shape is not None and len(shape) == 2 and tensor.ndim == 1:
        return tensor.reshape(-1, 1)
    if shape is not None and len(shape) == 1 and tensor.ndim == 2 and tensor.shape[1] == 1:
        return tensor.reshape(-1)
    return tensor


def _other_type(tensor: Tensor, known: InputPlan, path: str) -> InvalidTensor:
    got = "BYTES" if tensor.dtype == object else str(tensor.dtype)
    return InvalidTensor(
        expected=f"{known.datatype} for input {quoted(known.name)}", got=got, path=path.replace(".data", ".datatype")
    )


def _answer(plan: InferPlan, form: Form, whole: str) -> tuple[InferPlan, Form]:
    """Plan and form of an answer that tells content types: of the whole where the request had one, of each JSON output."""
    outputs = tuple(
        output if binary else _told(output) for output, binary in zip(form.outputs, form.binary, strict=True)
    )
    opening = plan.opening
    if whole in ("np", "pd", "str"):
        opening += b',"parameters":' + msgspec.json.encode({"content_type": whole})
    return replace(plan, opening=opening), replace(form, outputs=outputs, heads={})


def _told(output: OutputPlan) -> OutputPlan:
    told = msgspec.json.encode({"parameters": {"content_type": "str" if output.dtype == STRING else "np"}})
    return replace(output, opening=output.opening.removesuffix(b'"shape":[') + told[1:-1] + b',"shape":[')
