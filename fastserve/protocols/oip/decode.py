"""A request's body to what the engine is asked, and the form its answer is to have.

Pure, but for what it keeps in the plan.
"""

from fastserve.errors import InvalidTensor, quoted
from fastserve.http.message import Request
from fastserve.protocols.oip.binary import LENGTH_HEADER, json_bytes, raw_tensor, tensors_behind
from fastserve.protocols.oip.envelope import Asked, read_envelope
from fastserve.protocols.oip.plan import MAX_KEPT_BYTES, Form, InferPlan, keep
from fastserve.protocols.oip.schema import shape_text
from fastserve.types import InferRequest

Decoded = tuple[InferRequest, Form, tuple[str, ...]]
"""What the engine is asked, the form of the answer, and the inputs' names in the order of the body."""


def decode_infer(request: Request, plan: InferPlan) -> Decoded:
    """What is asked of the version with that plan. Raises what says why it cannot be."""
    body = request.body
    declared = request.headers.get(LENGTH_HEADER)
    if declared is None:
        return _submitted(request, read_envelope(body, plan), body, len(body))
    end = json_bytes(declared, body)
    if end == 0:
        return _raw(request, plan)
    text = body[:end]
    asked = plan.asked.get(text)
    if asked is None:
        asked = read_envelope(text, plan)
        if end <= MAX_KEPT_BYTES and not asked.inputs and not asked.id:
            keep(plan.asked, text, asked)
    return _submitted(request, asked, body, end)


def located(error: InvalidTensor, order: tuple[str, ...], plan: InferPlan) -> InvalidTensor:
    """An error of the engine, which knows inputs by name and types by ONNX's, as this protocol says it.

    Types were compared before: what does not fit is the shape.
    """
    known = plan.inputs.get(error.path)
    if known is None:
        return error
    path = f"$.inputs[{order.index(known.name)}].shape" if known.name in order else known.name
    expected = f"{known.datatype} of shape {shape_text(known.shape)} for input {quoted(known.name)}"
    return InvalidTensor(expected=expected, got=error.got, path=path)


def _submitted(request: Request, asked: Asked, body: bytes, end: int) -> Decoded:
    deadline_ns = request.deadline_ns
    if asked.timeout_ns:
        own_ns = request.received_ns + asked.timeout_ns
        deadline_ns = min(deadline_ns, own_ns) if deadline_ns else own_ns
    inputs = tensors_behind(body, end, asked)
    form = asked.form
    infer = InferRequest(inputs, form.wanted, asked.id, request.received_ns, deadline_ns, asked.priority)
    return infer, form, asked.order


def _raw(request: Request, plan: InferPlan) -> Decoded:
    """All outputs, in binary unless JSON is asked for by name."""
    form = plan.all_json if "application/json" in request.headers.get("accept", "") else plan.all_binary
    inputs = raw_tensor(request.body, plan)
    return InferRequest(inputs, None, "", request.received_ns, request.deadline_ns), form, ()
