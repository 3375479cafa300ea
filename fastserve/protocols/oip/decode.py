"""A request's body to what the engine is asked, and the form its answer is to have.

Pure, but for what it keeps in the plan.
"""

from fastserve.errors import InvalidTensor, quoted
from fastserve.http.message import Request
from fastserve.protocols.oip import template
from fastserve.protocols.oip.binary import LENGTH_HEADER, json_bytes, raw_tensor, tensors_behind
from fastserve.protocols.oip.envelope import Asked
from fastserve.protocols.oip.plan import MAX_KEPT_BYTES, Form, InferPlan
from fastserve.protocols.oip.schema import fits, shape_text
from fastserve.types import InferRequest

Decoded = tuple[InferRequest, Form, tuple[str, ...]]
"""What the engine is asked, the form of the answer, and the inputs' names in the order of the body."""


def decode_infer(request: Request, plan: InferPlan) -> Decoded:
    """What is asked of the version with that plan. Raises what says why it cannot be."""
    body = request.body
    declared = request.headers.get(LENGTH_HEADER)
    if declared is None:
        return _submitted(request, template.read(body, plan), body, len(body))
    for length, text, asked in plan.latest:
        if declared == length and body.startswith(text):
            return _submitted(request, asked, body, len(text))
    return _read(request, declared, plan)


def _read(request: Request, declared: str, plan: InferPlan) -> Decoded:
    """A request with a header that says where its JSON ends."""
    body = request.body
    end = json_bytes(declared, body)
    if end == 0:
        return _raw(request, plan)
    text = body[:end]
    asked = plan.asked.get(text) if end <= MAX_KEPT_BYTES else None
    if asked is None:
        return _submitted(request, template.read(text, plan), body, end)
    plan.latest[:] = [(declared, text, asked)]
    return _submitted(request, asked, body, end)


def known(request: Request, plan: InferPlan) -> Asked | None:
    """What is asked, where binary tensors follow JSON that came before."""
    declared = request.headers.get(LENGTH_HEADER)
    if declared is None or not (declared.isascii() and declared.isdigit()) or len(declared) > len(str(MAX_KEPT_BYTES)):
        return None
    return plan.asked.get(request.body[: int(declared)])


def located(error: InvalidTensor, asked: InferRequest, order: tuple[str, ...], plan: InferPlan) -> InvalidTensor:
    """An error of the engine, which knows inputs by name and types by ONNX's, as this protocol says it."""
    known = plan.inputs.get(error.path)
    if known is None:
        return error
    path = f"$.inputs[{order.index(known.name)}]" if known.name in order else known.name
    shape = asked.inputs[known.name].shape
    if fits(shape, known.shape):
        return error.at(path)
    expected = f"{known.datatype} of shape {shape_text(known.shape)} for input {quoted(known.name)}"
    return InvalidTensor(expected=expected, got=f"shape {shape_text(shape)}", path=f"{path}.shape")


def _submitted(request: Request, asked: Asked, body: bytes, end: int) -> Decoded:
    inputs = tensors_behind(body, end, asked)
    form = asked.form
    infer = InferRequest(
        inputs, form.wanted, asked.id, request.received_ns, request.deadline_ns, asked.priority, asked.timeout_ns
    )
    return infer, form, asked.order


def _raw(request: Request, plan: InferPlan) -> Decoded:
    """All outputs, in binary unless JSON is asked for by name."""
    form = plan.all_json if "application/json" in request.headers.get("accept", "") else plan.all_binary
    inputs = raw_tensor(request.body, plan)
    return InferRequest(inputs, None, "", request.received_ns, request.deadline_ns), form, ()
