"""What `explain` answers: for every number of an output, what each value of its row contributed to it.

Pure. Memory: what goes out is made in place.
"""

import msgspec
from msgspec import Struct

from fastserve._ext import jsonwrite
from fastserve.http.message import Response
from fastserve.protocols.oip.encode import encode_infer
from fastserve.protocols.oip.plain import PlainPlan
from fastserve.protocols.oip.plan import Form, InferPlan, OutputPlan
from fastserve.protocols.oip.schema import DATATYPES
from fastserve.types import DType, InferResult, Tensor, Timing

BASE = ":base_values"
"""Behind an output's name: the tensor of what the model answers on average, to which contributions add up."""

DOUBLE = int(DType.DOUBLE)


class Explanation(Struct, frozen=True):
    """Of each output of numbers, by name: `values` has its shape and one more axis, the features; `base` one row of it.

    `features`: their names, in the order of that axis.
    """

    model: str
    version: int
    features: tuple[str, ...]
    values: dict[str, Tensor]
    base: dict[str, Tensor]


def as_lists(explanation: Explanation, plan: PlainPlan, request_id: bytes) -> Response:
    """As MLRun's answers: without a time, with what the numbers mean beside them."""
    values, base = _nested(explanation.values, plan), _nested(explanation.base, plan)
    told = {"features": explanation.features, "explained": list(explanation.values)}
    text = b"".join(
        (
            b'{"id":',
            request_id,
            plan.opening,
            b",",
            msgspec.json.encode(told)[1:-1],
            b',"outputs":',
            values,
            b',"base_values":',
            base,
            b"}",
        )
    )
    return Response(200, plan.headers, text)


def as_tensors(explanation: Explanation, plan: InferPlan, form: Form, request_id: str) -> Response:
    """As tensors of the outputs' names, each followed by its base values; binary where that was asked for."""
    outputs: list[OutputPlan] = []
    binary: list[bool] = []
    tensors: dict[str, Tensor] = {}
    for output, is_binary in zip(form.outputs, form.binary, strict=True):
        if output.name in explanation.values:
            for name, tensor in (
                (output.name, explanation.values[output.name]),
                (output.name + BASE, explanation.base[output.name]),
            ):
                outputs.append(_output(name))
                binary.append(is_binary)
                tensors[name] = tensor
    told = Form(tuple(outputs), tuple(binary), None, all(binary), any(binary), {})
    result = InferResult(explanation.model, explanation.version, tensors, Timing())
    return encode_infer(result, plan, told, request_id)


def _output(name: str) -> OutputPlan:
    text = msgspec.json.encode({"name": name, "datatype": DATATYPES[DType.DOUBLE]})[:-1] + b',"shape":['
    return OutputPlan(name, DOUBLE, text)


def _nested(tensors: dict[str, Tensor], plan: PlainPlan) -> bytes:
    parts = [jsonwrite.tensor(b"", one, DOUBLE, False, b"") for one in tensors.values()]
    return parts[0] if len(plan.outputs) == 1 else b"[" + b",".join(parts) + b"]"
