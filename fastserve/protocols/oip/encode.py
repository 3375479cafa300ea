"""A result in the form that was asked for: JSON, binary tensors behind JSON, or some of both.

Pure, but for what it keeps in the form. Memory: what goes out is made in place, numbers are copied into it once.
"""

import msgspec

from fastserve._ext import binarytensor, jsonwrite
from fastserve.http.message import Headers, Response
from fastserve.protocols.oip.binary import LENGTH_HEADER
from fastserve.protocols.oip.classification import ranked
from fastserve.protocols.oip.plan import STRING, Form, Head, InferPlan, OutputPlan, keep
from fastserve.types import InferResult, Tensor

_OUTPUTS = b',"outputs":['


def encode_infer(result: InferResult, plan: InferPlan, form: Form, request_id: str) -> Response:
    """The answer."""
    arrays = tuple([result.outputs[output.name] for output in form.outputs])
    if form.numbers_only:
        shapes = tuple([array.shape for array in arrays])
        text, headers = form.heads.get(shapes) or _head(plan, form, shapes, arrays)
        if request_id:
            text = _opening(plan, request_id) + text[len(plan.opening) :]
            headers = _binary_headers(plan, len(text))
        return Response(200, headers, binarytensor.join((text, *arrays)))
    if form.rankings:
        pairs = zip(arrays, form.rankings, strict=True)
        arrays = tuple([array if ranking is None else ranked(array, ranking) for array, ranking in pairs])
    opening = _opening(plan, request_id) if request_id else plan.opening
    if len(arrays) == 1 and not form.any_binary:
        (output,), (array,) = form.outputs, arrays
        before = opening + _OUTPUTS + output.opening + _shape(array) + b'],"data":'
        return Response(
            200, plan.json_headers, jsonwrite.tensor(before, array.reshape(-1), output.dtype, False, b"}]}")
        )
    return _mixed(opening, plan, form, arrays)


def _opening(plan: InferPlan, request_id: str) -> bytes:
    return plan.opening + b',"id":' + msgspec.json.encode(request_id)


def _head(plan: InferPlan, form: Form, shapes: tuple[tuple[int, ...], ...], arrays: tuple[Tensor, ...]) -> Head:
    """The JSON before outputs that are numbers, of an answer without an id, and the headers."""
    outputs = [_binary_output(output, array, array.nbytes) for output, array in zip(form.outputs, arrays, strict=True)]
    text = b"".join([plan.opening, _OUTPUTS, b",".join(outputs), b"]}"])
    head = text, _binary_headers(plan, len(text))
    keep(form.heads, shapes, head)
    return head


def _binary_output(output: OutputPlan, array: Tensor, size: int) -> bytes:
    return output.opening + _shape(array) + b'],"parameters":{"binary_data_size":%d}}' % size


def _mixed(opening: bytes, plan: InferPlan, form: Form, arrays: tuple[Tensor, ...]) -> Response:
    """Any outputs in any form."""
    texts: list[bytes] = []
    behind: list[bytes | Tensor] = []
    for output, array, binary in zip(form.outputs, arrays, form.binary, strict=True):
        if not binary:
            before = output.opening + _shape(array) + b'],"data":'
            texts.append(jsonwrite.tensor(before, array.reshape(-1), output.dtype, False, b"}"))
            continue
        part = binarytensor.pack(array) if output.dtype == STRING else array
        texts.append(_binary_output(output, array, len(part) if isinstance(part, bytes) else part.nbytes))
        behind.append(part)
    text = b"".join([opening, _OUTPUTS, b",".join(texts), b"]}"])
    if not form.any_binary:
        return Response(200, plan.json_headers, text)
    return Response(200, _binary_headers(plan, len(text)), binarytensor.join((text, *behind)))


def _binary_headers(plan: InferPlan, json_bytes: int) -> Headers:
    return [*plan.binary_headers, (LENGTH_HEADER, str(json_bytes))]


def _shape(array: Tensor) -> bytes:
    return ",".join(map(str, array.shape)).encode()
