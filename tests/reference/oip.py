"""The slow, obvious twin of `protocols/oip`: one Open Inference request to arrays, and an answer back to arrays.

It reads what `json` makes of the text: so of duplicate members the last counts here, and nothing is asked that has any.
"""

import json
import math
import struct
from typing import Any

import numpy as np
from msgspec import Struct

from fastserve.types import DType, Signature, Tensor, TensorSpec

DTYPES = {
    "BOOL": DType.BOOL,
    "UINT8": DType.UINT8,
    "UINT16": DType.UINT16,
    "UINT32": DType.UINT32,
    "UINT64": DType.UINT64,
    "INT8": DType.INT8,
    "INT16": DType.INT16,
    "INT32": DType.INT32,
    "INT64": DType.INT64,
    "FP16": DType.FLOAT16,
    "FP32": DType.FLOAT,
    "FP64": DType.DOUBLE,
    "BF16": DType.BFLOAT16,
    "BYTES": DType.STRING,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_RANK = 64
WORDS = {"NaN", "Infinity", "-Infinity", "Inf", "-Inf"}
FLAGS = ("binary_data_output", "sequence_start", "sequence_end")


class Refused(Exception):
    """The request asks for nothing that there is."""


class Read(Struct):
    """A request: its arrays, its outputs with whether they are to be binary, and its id."""

    inputs: dict[str, Tensor]
    outputs: list[tuple[str, bool]]
    id: str


def read(text: bytes, tail: bytes, signature: Signature) -> Read:
    """What is asked, of a JSON text and what follows it. Raises Refused."""
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused from error
    need(isinstance(asked, dict) and isinstance(asked.get("inputs"), list) and asked["inputs"])
    need(asked.get("id") is None or isinstance(asked["id"], str))
    binary = request_parameters(asked.get("parameters"))
    specs = {spec.name: spec for spec in signature.inputs}
    inputs: dict[str, Tensor] = {}
    for entry in asked["inputs"]:
        need(isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"] in specs)
        need(entry["name"] not in inputs)
        tensor, tail = read_input(entry, specs[entry["name"]], tail)
        inputs[entry["name"]] = tensor
    need(len(inputs) == len(specs) and not tail)
    return Read(inputs, read_outputs(asked.get("outputs"), signature, binary), asked.get("id") or "")


def need(fits: Any) -> None:
    if not fits:
        raise Refused


def is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**64


def given(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Those that are not null."""
    return {name: value for name, value in (parameters or {}).items() if value is not None}


def request_parameters(found: Any) -> bool:
    """Whether the request asks for binary outputs."""
    if found is None:
        return False
    need(isinstance(found, dict))
    found = given(found)
    for name, value in found.items():
        if name in FLAGS:
            need(isinstance(value, bool))
        elif name in ("priority", "timeout"):
            need(is_natural(value))
        elif name == "sequence_id":
            need(isinstance(value, str) or is_natural(value))
        elif name not in ("headers", "background", "content_type"):
            need(not isinstance(value, list | dict))
    return bool(found.get("binary_data_output", False))


def read_outputs(found: Any, signature: Signature, binary: bool) -> list[tuple[str, bool]]:
    names = [spec.name for spec in signature.outputs]
    if found is None or found == []:
        return [(name, binary) for name in names]
    need(isinstance(found, list))
    outputs: dict[str, bool] = {}
    for entry in found:
        need(isinstance(entry, dict) and entry.get("name") in names and entry["name"] not in outputs)
        own = entry.get("parameters")
        need(own is None or isinstance(own, dict))
        told = given(own).get("binary_data", binary)
        need(isinstance(told, bool) and not given(own).get("classification"))
        outputs[entry["name"]] = told
    return list(outputs.items())


def read_input(entry: dict[str, Any], spec: TensorSpec, tail: bytes) -> tuple[Tensor, bytes]:
    shape, parameters = entry.get("shape"), entry.get("parameters")
    need(entry.get("datatype") == NAMES[spec.dtype])
    need(isinstance(shape, list) and len(shape) <= MAX_RANK)
    assert isinstance(shape, list)
    need(all(type(size) is int and 0 <= size < 2**63 for size in shape))
    need(math.prod(max(size, 1) for size in shape) * max(1, spec.dtype.numpy.itemsize) < 2**62)
    need(parameters is None or isinstance(parameters, dict))
    size = given(parameters).get("binary_data_size")
    need(size is None or is_natural(size))
    need((entry.get("data") is None) != (size is None))
    count = math.prod(shape)
    if size is None:
        return from_json(entry["data"], spec.dtype, count).reshape(shape), tail
    need(size <= len(tail))
    return from_binary(tail[:size], spec.dtype, count).reshape(shape), tail[size:]


def from_json(data: Any, dtype: DType, count: int) -> Tensor:
    need(isinstance(data, list) and depth(data) <= MAX_RANK)
    flat: list[Any] = []
    flatten(data, flat)
    need(len(flat) == count)
    return array([element(value, dtype) for value in flat], dtype)


def depth(data: Any) -> int:
    """Of nested lists, all of one shape."""
    if not isinstance(data, list):
        return 0
    need(len({shape_of(item) for item in data}) <= 1)
    return 1 + max(map(depth, data), default=0)


def shape_of(data: Any) -> tuple[int, ...]:
    return (len(data), *(shape_of(data[0]) if data else ())) if isinstance(data, list) else ()


def flatten(data: Any, into: list[Any]) -> None:
    for item in data:
        if isinstance(item, list):
            flatten(item, into)
        else:
            into.append(item)


def element(value: Any, dtype: DType) -> Any:
    if dtype is DType.STRING:
        need(isinstance(value, str))
    elif dtype is DType.BOOL:
        need(isinstance(value, bool))
    elif dtype.is_float:
        need(value in WORDS if isinstance(value, str) else type(value) in (int, float))
        value = float({"Inf": "inf", "-Inf": "-inf"}.get(str(value), value))
    else:
        info = np.iinfo(dtype.numpy)
        need(type(value) is int and info.min <= value <= info.max)
    return value


def array(values: list[Any], dtype: DType) -> Tensor:
    if dtype is DType.STRING:
        texts = np.empty(len(values), object)
        texts[:] = values
        return texts
    with np.errstate(over="ignore"):
        if dtype is not DType.BFLOAT16:
            return np.array(values, dtype.numpy)
        bits = np.array(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_binary(part: bytes, dtype: DType, count: int) -> Tensor:
    if dtype is not DType.STRING:
        need(len(part) == count * dtype.numpy.itemsize)
        found = np.frombuffer(part, dtype.numpy.newbyteorder("<"))
        return np.frombuffer(part, np.uint8) != 0 if dtype is DType.BOOL else found
    texts = []
    while part:
        need(len(part) >= 4)
        (size,) = struct.unpack("<I", part[:4])
        need(len(part) >= 4 + size)
        try:
            texts.append(part[4 : 4 + size].decode())
        except UnicodeDecodeError as error:
            raise Refused from error
        part = part[4 + size :]
    need(len(texts) == count)
    return array(texts, dtype)


def packed(tensor: Tensor) -> bytes:
    """The tensor in binary."""
    if tensor.dtype != object:
        return tensor.astype(tensor.dtype.newbyteorder("<")).tobytes()
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in tensor.reshape(-1))


def answered(body: bytes, json_bytes: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An answer's JSON, and its outputs."""
    told, tail = json.loads(body[:json_bytes]), body[json_bytes:]
    outputs: dict[str, Tensor] = {}
    for entry in told["outputs"]:
        dtype, shape = DTYPES[entry["datatype"]], entry["shape"]
        if "data" in entry:
            outputs[entry["name"]] = array(entry["data"], dtype).reshape(shape)
        else:
            size = entry["parameters"]["binary_data_size"]
            outputs[entry["name"]] = from_binary(tail[:size], dtype, math.prod(shape)).reshape(shape)
            tail = tail[size:]
    assert not tail
    return told, outputs
