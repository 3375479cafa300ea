"""The tensors behind a request's JSON, and requests that are nothing but one tensor.

Pure. Memory: tensors of numbers are the body's own bytes, wherever they start; strings and odd BOOLs are copies.
"""

import math

import numpy as np

from fastserve._ext import binarytensor
from fastserve.errors import InvalidRequest, InvalidTensor, quoted
from fastserve.protocols.oip.envelope import Asked
from fastserve.protocols.oip.plan import STRING, InferPlan, InputPlan
from fastserve.protocols.oip.schema import shape_text
from fastserve.types import Tensor

LENGTH_HEADER = "inference-header-content-length"
MAX_LENGTH_DIGITS = 18


def json_bytes(declared: str, body: bytes) -> int:
    """How much of the body is JSON, as its header says. Raises InvalidRequest for what is no such number."""
    if not (declared.isascii() and declared.isdigit()) or len(declared) > MAX_LENGTH_DIGITS:
        raise InvalidRequest(f"Inference-Header-Content-Length: expected a number of bytes, got {quoted(declared)}")
    size = int(declared)
    if size > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length: expected at most the body's {len(body)} bytes (uncompressed), got {size}"
        )
    return size


def tensors_behind(body: bytes, start: int, asked: Asked) -> dict[str, Tensor]:
    """All inputs: those of the JSON, and those that follow it from `start` on."""
    if len(body) - start != asked.behind_bytes:
        raise _wrong_length(len(body) - start, asked)
    inputs = {**asked.inputs}
    for one in asked.behind:
        if one.dtype == STRING:
            inputs[one.name] = binarytensor.strings(body, start + one.offset, one.size, one.shape, one.path)
        else:
            inputs[one.name] = binarytensor.view(body, start + one.offset, one.size, one.dtype, one.shape)
    return inputs


def raw_tensor(body: bytes, plan: InferPlan) -> dict[str, Tensor]:
    """The input of a request that is nothing but one tensor's bytes; its shape follows from the model and their number."""
    if len(plan.inputs) != 1:
        raise InvalidRequest(
            "a request without JSON (Inference-Header-Content-Length: 0) fits models with one input,"
            f" this one takes {plan.takes}"
        )
    (known,) = plan.inputs.values()
    if known.shape is None:
        raise InvalidRequest(f"the shape of input {quoted(known.name)} is not known: say it in JSON before the tensor")
    shape = _string_shape(known) if known.dtype == STRING else _deduced_shape(known, plan.batchable, len(body))
    if known.dtype == STRING:
        return {known.name: _string(body, known).reshape(shape)}
    return {known.name: binarytensor.view(body, 0, len(body), known.dtype, shape)}


def _string(body: bytes, known: InputPlan) -> Tensor:
    """The body is the element, without the length that stands before it elsewhere."""
    try:
        return np.array([body.decode()], object)
    except UnicodeDecodeError as error:
        raise InvalidTensor(expected="UTF-8 text", got="bytes that are not UTF-8", path=known.name) from error


def _string_shape(known: InputPlan) -> tuple[int, ...]:
    shape = tuple(1 if size < 0 else size for size in known.shape or ())
    if math.prod(shape) != 1:
        raise InvalidRequest(
            f"a request without JSON holds one BYTES element, input {quoted(known.name)} is {shape_text(known.shape)}"
        )
    return shape


def _deduced_shape(known: InputPlan, batchable: bool, size: int) -> tuple[int, ...]:
    shape = known.shape or ()
    free = [axis for axis, dim in enumerate(shape) if dim < 0]
    if len(free) > 1 and batchable:
        shape, free = (1, *shape[1:]), free[1:]
    if len(free) > 1:
        raise InvalidRequest(
            f"input {quoted(known.name)} is {shape_text(known.shape)}: which shape {size} bytes have is not clear,"
            " say it in JSON before the tensor"
        )
    step = known.item_bytes * math.prod(dim for dim in shape if dim >= 0)
    if not free and size != step:
        raise InvalidTensor(
            expected=f"{step} bytes for {known.datatype} of shape {shape_text(shape)}", got=str(size), path=known.name
        )
    if free and (step == 0 or size % step):
        raise InvalidTensor(
            expected=f"a multiple of {step} bytes for {known.datatype} of shape {shape_text(shape)}",
            got=str(size),
            path=known.name,
        )
    return tuple(size // step if dim < 0 else dim for dim in shape)


def _wrong_length(size: int, asked: Asked) -> InvalidRequest:
    told = ", ".join(f"{one.name}: {one.size}" for one in asked.behind[:20]) or "no binary inputs"
    if size > asked.behind_bytes:
        return InvalidRequest(
            f"unexpected additional input data: {size} bytes follow the JSON, the inputs take {asked.behind_bytes} ({told})"
        )
    return InvalidRequest(
        f"{size} bytes follow the JSON (Inference-Header-Content-Length says where it ends), the inputs take"
        f" {asked.behind_bytes} ({told})"
    )
