"""TF Serving's recorded warm-up requests: `assets.extra/tf_serving_warmup_requests` beside a version's model.

A file of records (length, checksum, content, checksum), each a PredictionLog in protobuf's wire format, of which those of
predict are read: names and tensors. The few fields that matter are walked here; the checksums are not looked at.

Pure but for reading the file. Memory: the file, of at most `MAX_BYTES`.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from fastserve.types import DType, Tensor

NAME = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_BYTES = 1 << 26
MAX_RECORDS = 1000
"""As in TF Serving."""

_HEAD_BYTES, _TAIL_BYTES = 12, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
# Field numbers of prediction_log.proto, predict.proto, tensor.proto and tensor_shape.proto.
_PREDICT_LOG, _REQUEST, _INPUTS, _KEY, _VALUE = 6, 1, 2, 1, 2
_DTYPE, _SHAPE, _CONTENT, _DIM, _SIZE = 1, 2, 4, 2, 1
_STRINGS, _HALVES = 8, 13
_DTYPES: dict[int, tuple[DType, int]] = {
    1: (DType.FLOAT, 5),
    2: (DType.DOUBLE, 6),
    3: (DType.INT32, 7),
    4: (DType.UINT8, 7),
    5: (DType.INT16, 7),
    6: (DType.INT8, 7),
    7: (DType.STRING, _STRINGS),
    9: (DType.INT64, 10),
    10: (DType.BOOL, 11),
    14: (DType.BFLOAT16, _HALVES),
    17: (DType.UINT16, 7),
    19: (DType.FLOAT16, _HALVES),
    22: (DType.UINT32, 16),
    23: (DType.UINT64, 17),
}
"""TensorFlow's types as ours, and the field that holds values of each."""

_MASK = (1 << 64) - 1

Field = tuple[int, int, int | bytes]
"""Its number, its wire type, and what it holds: a number, or bytes."""


def recorded(folder: Path) -> tuple[list[dict[str, Tensor]], int]:
    """The inputs of each predict request that is recorded beside the model in `folder`, and how many others there are.

    Raises OSError, ValueError.
    """
    file = folder / NAME
    if not file.is_file():
        return [], 0
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    found: list[dict[str, Tensor]] = []
    others = 0
    for number, record in enumerate(_records(file.read_bytes())):
        if number == MAX_RECORDS:
            raise ValueError(f"more than {MAX_RECORDS} records")
        inputs = _inputs(record)
        if inputs is None:
            others += 1
        else:
            found.append(inputs)
    return found, others


def _records(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        start = at + _HEAD_BYTES
        end = start + int.from_bytes(data[at : at + 8], "little")
        if end + _TAIL_BYTES > len(data):
            raise ValueError(f"the record at byte {at} ends beyond the file")
        yield data[start:end]
        at = end + _TAIL_BYTES


def _inputs(record: bytes) -> dict[str, Tensor] | None:
    """Of one record; None where it is no predict request."""
    inputs: dict[str, Tensor] = {}
    logs = _messages(record, _PREDICT_LOG)
    for log in logs:
        for request in _messages(log, _REQUEST):
            for entry in _messages(request, _INPUTS):
                key, value = _messages(entry, _KEY), _messages(entry, _VALUE)
                inputs[(key or [b""])[-1].decode()] = _tensor((value or [b""])[-1])
    return inputs if logs else None


def _tensor(message: bytes) -> Tensor:
    fields = list(_fields(message))
    number = next((value for field, _, value in reversed(fields) if field == _DTYPE), 0)
    known = _DTYPES.get(number) if isinstance(number, int) else None
    if known is None:
        raise ValueError(f"a tensor of TensorFlow's type {number!r} is not read")
    dtype, values_field = known
    dims = [dim for shape in _messages(message, _SHAPE) for dim in _messages(shape, _DIM)]
    shape = tuple(_dim(dim) for dim in dims)
    count = prod(shape)
    if count * dtype.numpy.itemsize > MAX_BYTES:
        raise ValueError(f"a tensor of shape {list(shape)} is too large")
    content = next((value for field, _, value in fields if field == _CONTENT and isinstance(value, bytes)), b"")
    if content and dtype is not DType.STRING:
        return np.frombuffer(content, dtype.numpy.newbyteorder("<")).astype(dtype.numpy).reshape(shape)
    return _filled(_values(fields, values_field, dtype), count, dtype).reshape(shape)


def _dim(message: bytes) -> int:
    size = next((value for field, _, value in _fields(message) if field == _SIZE), 0)
    if not isinstance(size, int) or size >> 63:
        raise ValueError("a tensor has a dimension that is not known")
    return size


def _filled(values: list[bytes | int | float], count: int, dtype: DType) -> Tensor:
    """As TensorFlow reads them: the last value stands for all that are left out."""
    if len(values) > count:
        raise ValueError(f"a tensor of {count} elements has {len(values)} values")
    empty: bytes | int = b"" if dtype is DType.STRING else 0
    all_values = values + [values[-1] if values else empty] * (count - len(values))
    if dtype is DType.STRING:
        texts = np.empty(count, object)
        texts[:] = [value.decode() if isinstance(value, bytes) else "" for value in all_values]
        return texts
    if dtype in (DType.FLOAT, DType.DOUBLE):
        return np.array(all_values, dtype.numpy)
    # Whole numbers, and the bits of halves: negative ones come as 64 bits.
    return (
        np.array(all_values, np.uint64).astype(np.uint16 if dtype is DType.FLOAT16 else dtype.numpy).view(dtype.numpy)
    )


def _values(fields: list[Field], wanted: int, dtype: DType) -> list[bytes | int | float]:
    """Of a repeated field, packed or not."""
    values: list[bytes | int | float] = []
    fixed = {DType.FLOAT: "<f4", DType.DOUBLE: "<f8"}.get(dtype)
    for field, _, value in fields:
        if field != wanted:
            continue
        if dtype is DType.STRING or isinstance(value, int):
            values.append(value)
        elif fixed is not None:
            values += np.frombuffer(value, fixed).tolist()
        else:
            values += _varints(value)
    return values


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _messages(data: bytes, wanted: int) -> list[bytes]:
    return [value for field, _, value in _fields(data) if field == wanted and isinstance(value, bytes)]


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            number, at = _varint(data, at)
            yield key >> 3, wire, number
            continue
        size = _FIXED.get(wire)
        if size is None:
            if wire != _BYTES:
                raise ValueError(f"protobuf's wire type {wire} is not read")
            size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("a field ends beyond its message")
        yield key >> 3, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(data):
            raise ValueError("a number ends beyond its message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
    raise ValueError("a number is longer than 64 bits")
