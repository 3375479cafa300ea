"""Predict's JSON to tensors and back: one pass over the body, numbers read by `_ext.tensorize` where they stand.

Thread: any; pure functions. Memory: a `PredictPlan` lives as long as its lease; decoded tensors own their buffers.
"""

from typing import Any, NoReturn

from msgspec import Struct

from fastserve._ext import jsonwrite
from fastserve._ext.tensorize import Cursor, sole_rows
from fastserve.errors import InvalidRequest, InvalidTensor, quoted
from fastserve.http.message import Headers, Request, Response
from fastserve.protocols.tfserving.envelope import enter_body, read_signature_name
from fastserve.protocols.tfserving.schema import DTYPE_NAMES, SIGNATURE_NAME
from fastserve.protocols.tfserving.wording import upstream_words
from fastserve.types import DType, InferRequest, InferResult, Signature, Tensor, TensorSpec

ROWS = "instances"
COLUMNS = "inputs"
"""The two styles of predict, by the key of the body that chooses them; the answer has the style of its request."""

MAX_DESCRIBED_CHARS = 1024

Tensors = dict[str, Tensor]


class PredictPlan(Struct, frozen=True, gc=False):
    """What predict needs of one version, found once. Tuples are in the signature's order."""

    names: tuple[str, ...]
    dtypes: tuple[int, ...]
    sole_dtype: int
    """The element type where there is one input and it holds no strings (whose rows may be objects), else 0."""
    columns: dict[str, tuple[int, str]]
    """By input name: its element type, and its JSON path in column format."""
    takes: str
    """All inputs with types and shapes, for errors."""
    output_names: tuple[str, ...]
    output_dtypes: tuple[int, ...]
    output_b64: tuple[bool, ...]
    headers: Headers
    strict: bool
    """Whether NaN and infinities are refused."""


def make_plan(signature: Signature, headers: Headers, *, strict: bool = False) -> PredictPlan:
    """The plan of a version with `signature`, whose answers carry `headers`."""
    return PredictPlan(
        names=tuple(spec.name for spec in signature.inputs),
        dtypes=tuple(int(spec.dtype) for spec in signature.inputs),
        sole_dtype=_sole_dtype(signature.inputs),
        columns={spec.name: (int(spec.dtype), _column_path(spec.name)) for spec in signature.inputs},
        takes=describe(signature.inputs),
        output_names=tuple(spec.name for spec in signature.outputs),
        output_dtypes=tuple(int(spec.dtype) for spec in signature.outputs),
        # Upstream's rule: a string output whose name ends so holds bytes, not text. (Only strings are ever b64.)
        output_b64=tuple(spec.name.endswith("_bytes") for spec in signature.outputs),
        headers=headers,
        strict=strict,
    )


def _sole_dtype(inputs: tuple[TensorSpec, ...]) -> int:
    return int(inputs[0].dtype) if len(inputs) == 1 and inputs[0].dtype is not DType.STRING else 0


def describe(specs: tuple[TensorSpec, ...]) -> str:
    """Names, types and shapes as metadata gives them, cut short for models with very many."""
    text = ", ".join(f"{spec.name}: {DTYPE_NAMES[spec.dtype]} {_shape_text(spec)}" for spec in specs) or "no inputs"
    return text if len(text) <= MAX_DESCRIBED_CHARS else text[:MAX_DESCRIBED_CHARS] + "..."


def decode_predict(request: Request, plan: PredictPlan) -> tuple[InferRequest, str]:
    """What the engine is asked, and the style it was asked in: `ROWS` or `COLUMNS`."""
    try:
        inputs, style = _decode(request.body, plan)
    except InvalidTensor as error:
        words = upstream_words(error)
        raise InvalidRequest(f"{words}{words and '; '}{error}; the model takes {plan.takes}") from error
    return InferRequest(inputs, None, "", request.received_ns, request.deadline_ns), style


def path_of(name: str, plan: PredictPlan, style: str) -> str:
    """Where the body held the input of that name, as a JSON path; in rows the first stands for all: they are alike."""
    if len(plan.names) == 1:
        return f"$.{style}"
    return f"$.{style}[0].{name}" if style == ROWS else f"$.{style}.{name}"


def check_body(body: bytes) -> None:
    """What predict refuses whatever the model is: a body that is not JSON, not an object, or misnames its signature.

    Reads to the end of the body and keeps nothing.
    """
    cursor = enter_body(body)
    signature_name: str | None = None
    while (key := cursor.next_key()) is not None:
        if key == "signature_name" and signature_name is None:
            signature_name = read_signature_name(cursor)
        else:
            cursor.skip()


def encode_predict(result: InferResult, plan: PredictPlan, style: str) -> Response:
    """The answer in its request's style."""
    encode = _encode_rows if style == ROWS else _encode_columns
    return Response(200, plan.headers, encode(result.outputs, plan))


def _decode(body: bytes, plan: PredictPlan) -> tuple[Tensors, str]:
    if plan.sole_dtype:
        rows = sole_rows(body, b"instances", plan.sole_dtype, "$.instances", plan.strict)
        if rows is not None:
            return {plan.names[0]: rows}, ROWS
    cursor = enter_body(body, strict=plan.strict)
    inputs: Tensors = {}
    style = ""
    signature_name: str | None = None
    while (key := cursor.next_key()) is not None:
        # The first of duplicate keys counts, and keys that mean nothing may hold anything.
        read = _READERS.get(key)
        if read is not None and not style:
            style = key
            inputs = read(cursor, plan)
        elif read is not None and style != key:
            raise InvalidRequest("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
        elif key == "signature_name" and signature_name is None:
            signature_name = read_signature_name(cursor)
        else:
            cursor.skip()
    if signature_name and signature_name != SIGNATURE_NAME:
        raise InvalidRequest(f"Serving signature name: {quoted(signature_name)} not found in signature def")
    if not style:
        raise InvalidRequest("Missing 'inputs' or 'instances' key")
    return inputs, style


def _read_rows(cursor: Cursor, plan: PredictPlan) -> Tensors:
    """`instances`: the first element decides between one object per row and one plain value per row."""
    if cursor.kind() != "[":
        raise InvalidRequest("Expecting 'instances' to be an list/array")
    first = cursor.first_item_kind()
    if first == "{":
        return cursor.rows(plan.names, plan.dtypes, "$.instances")
    if first == "]":
        raise InvalidRequest("No values in 'instances' array")
    if len(plan.names) != 1:
        raise InvalidRequest(
            "instances is a plain list, but expecting list of objects as multiple input tensors required"
            f" as per the model's signature: {plan.takes}"
        )
    return {plan.names[0]: cursor.tensor(plan.dtypes[0], "$.instances")}


def _read_columns(cursor: Cursor, plan: PredictPlan) -> Tensors:
    """`inputs`: an object of named tensors, or the one input's whole tensor."""
    if cursor.kind() == "{" and not cursor.is_b64_object():
        return _read_named(cursor, plan)
    if len(plan.names) != 1:
        raise InvalidRequest(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required"
            f" as per the model's signature: {plan.takes}"
        )
    return {plan.names[0]: cursor.tensor(plan.dtypes[0], "$.inputs")}


def _read_named(cursor: Cursor, plan: PredictPlan) -> Tensors:
    """Named columns; as upstream, names that the model does not have are passed over (rows refuse them)."""
    found: Tensors = {}
    columns = plan.columns
    cursor.enter_object()
    while (key := cursor.next_key()) is not None:
        column = columns.get(key)
        if column is None or key in found:
            cursor.skip()
        else:
            found[key] = cursor.tensor(column[0], column[1])
    if len(found) != len(columns):
        _refuse_missing(found, plan)
    return found


def _refuse_missing(found: Tensors, plan: PredictPlan) -> NoReturn:
    missing = next(name for name in plan.names if name not in found)
    raise InvalidRequest(f"Missing named input: {missing} in 'inputs' object. The model takes {plan.takes}")


_READERS = {ROWS: _read_rows, COLUMNS: _read_columns}


def _encode_rows(outputs: Tensors, plan: PredictPlan) -> bytes:
    names = plan.output_names
    if len(names) == 1:
        array = outputs[names[0]]
        if array.ndim == 0:
            _refuse_scalar(names[0])
        return jsonwrite.tensor(b'{"predictions": ', array, plan.output_dtypes[0], plan.output_b64[0], b"}")
    arrays = tuple(map(outputs.__getitem__, names))
    _check_rows(names, arrays)
    return jsonwrite.row_objects(b'{"predictions": ', names, arrays, plan.output_dtypes, plan.output_b64, b"}")


def _encode_columns(outputs: Tensors, plan: PredictPlan) -> bytes:
    names = plan.output_names
    if len(names) == 1:
        array = outputs[names[0]]
        return jsonwrite.tensor(b'{"outputs": ', array, plan.output_dtypes[0], plan.output_b64[0], b"}")
    arrays = tuple(map(outputs.__getitem__, names))
    return jsonwrite.column_object(b'{"outputs": ', names, arrays, plan.output_dtypes, plan.output_b64, b"}")


def _check_rows(names: tuple[str, ...], arrays: tuple[Tensor, ...]) -> None:
    """Only outputs that agree on their first dimension can be told by row."""
    rows = -1
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 0:
            _refuse_scalar(name)
        if rows < 0:
            rows = array.shape[0]
        elif array.shape[0] != rows:
            raise InvalidRequest(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {rows};"
                ' use "inputs" instead of "instances" to get whole tensors'
            )


def _refuse_scalar(name: str) -> NoReturn:
    raise InvalidRequest(
        f'Tensor name: {name} has no shape information; use "inputs" instead of "instances" to get whole tensors'
    )


def _column_path(name: str) -> str:
    return f"$.inputs.{name}" if name.isidentifier() else f"$.inputs[{quoted(name)}]"


def _shape_text(spec: TensorSpec) -> str:
    shape: tuple[Any, ...] | None = spec.shape
    return "of any shape" if shape is None else f"[{','.join(map(str, shape))}]"
