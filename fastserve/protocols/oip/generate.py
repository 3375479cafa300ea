"""Triton's generate: each member of the body an input, each output a member of the answer; whole, or as an event.

`{"text_input": "hello", "temperature": 0.5}` asks a model with these two inputs. A lone value, or a list that lacks
dimensions, is one row. MLServer's clients send Open Inference's own body here, and to infer_stream: they are answered with
what infer answers. Models here answer once, so a stream has one event.

Thread: whichever the door runs a route on; answers may leave from any thread. Memory: none of its own.
"""

import re
from collections.abc import Callable
from functools import partial

import msgspec

from fastserve._ext import jsonwrite
from fastserve._ext.tensorize import Cursor
from fastserve.engine.engine import Engine, Lease, Pending
from fastserve.errors import InvalidJson, InvalidRequest, InvalidTensor, quoted
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.recorded import Encode, recorded
from fastserve.http.routes import Route
from fastserve.protocols.oip.decode import decode_infer, located
from fastserve.protocols.oip.early import early, turn_away
from fastserve.protocols.oip.encode import encode_infer
from fastserve.protocols.oip.envelope import WHITE_SPACE
from fastserve.protocols.oip.models import TARGET, find
from fastserve.protocols.oip.plan import Form, InferPlan, InputPlan, plan_of
from fastserve.types import InferRequest, InferResult, Tensor

EVENTS: Headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
INPUTS = "inputs"

Given = tuple[dict[str, Tensor], str]
"""The inputs, and the request's id."""


class Generate:
    """The calls that ask for an answer by names."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """Each for the whole answer and for a stream of events; infer itself is elsewhere."""
        calls: list[tuple[str, Callable[[Request, Reply], Pending | None]]] = [
            ("generate", partial(self.generate, stream=False)),
            ("generate_stream", partial(self.generate, stream=True)),
            ("infer_stream", self.infer_stream),
        ]
        at_the_door = early(self._engine)
        return [
            Route("POST", re.compile(f"{TARGET}/{name}/?"), "infer", infer=call, early=at_the_door)
            for name, call in calls
        ]

    def generate(self, request: Request, reply: Reply, *, stream: bool) -> Pending | None:
        """POST MODEL/generate, MODEL/generate_stream."""
        lease = find(self._engine, request.params)
        reply.subject = lease.subject
        turn_away(lease, request)
        plan = plan_of(lease)
        given = _read(request.body, plan)
        if given is None:
            return self._infer(lease, request, reply, stream=stream)
        inputs, request_id = given
        asked = InferRequest(inputs, None, request_id, request.received_ns, request.deadline_ns)
        encode: Encode = _encoded
        if lease.recording is not None:
            encode = recorded(lease.recording, asked, request.headers, encode)
        try:
            return self._engine.submit(lease, asked, reply.then(encode, plan, asked.id, stream))
        except InvalidTensor as error:
            raise error.at(f"$.{error.path}") from error

    def infer_stream(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL/infer_stream."""
        lease = find(self._engine, request.params)
        reply.subject = lease.subject
        turn_away(lease, request)
        return self._infer(lease, request, reply, stream=True)

    def _infer(self, lease: Lease, request: Request, reply: Reply, *, stream: bool) -> Pending | None:
        plan = plan_of(lease)
        asked, form, order = decode_infer(request, plan)
        if stream and form.any_binary:
            raise InvalidRequest("events are text: no output of a stream can be binary")
        encode: Encode = _streamed if stream else encode_infer
        if lease.recording is not None:
            encode = recorded(lease.recording, asked, request.headers, encode)
        answer = reply.then(encode, plan, form, asked.id)
        try:
            return self._engine.submit(lease, asked, answer)
        except InvalidTensor as error:
            raise located(error, asked, order, plan) from error


def _read(body: bytes, plan: InferPlan) -> Given | None:
    """What the members say; None where the body is Open Inference's."""
    cursor = Cursor(body, finite=plan.strict)
    if cursor.kind() != "{":
        raise InvalidRequest(f"the body must be a JSON object, got {cursor.excerpt()}")
    cursor.enter_object()
    inputs: dict[str, Tensor] = {}
    request_id = ""
    while (key := cursor.next_key()) is not None:
        known = plan.inputs.get(key)
        if known is not None and key not in inputs:
            inputs[key] = _as_row(cursor.tensor(known.dtype, f"$.{key}", known.takes_words), known)
        elif key == INPUTS:
            return None
        elif key == "id" and not request_id and cursor.kind() != "n":
            request_id = cursor.string("$.id")
        else:  # Triton's clients put parameters of their backends anywhere
            cursor.skip()
    if body[cursor.offset :].strip(WHITE_SPACE):
        raise InvalidJson("more text follows the top value", cursor.offset)
    missing = [name for name in plan.inputs if name not in inputs]
    if missing:
        raise InvalidRequest(f"the request has no {quoted(missing[0])}; the model takes {plan.takes}")
    return inputs, request_id


def _as_row(tensor: Tensor, known: InputPlan) -> Tensor:
    rank = max(1, tensor.ndim) if known.shape is None else len(known.shape)
    return tensor.reshape((1,) * (rank - tensor.ndim) + tensor.shape) if tensor.ndim < rank else tensor


def _encoded(result: InferResult, plan: InferPlan, request_id: str, stream: bool) -> Response:
    """One element is a value, several are a flat list."""
    text = plan.opening + (b',"id":' + msgspec.json.encode(request_id) if request_id else b"")
    for name, output in plan.outputs.items():
        array = result.outputs[name]
        flat = array.reshape(() if array.size == 1 else -1)
        text = jsonwrite.tensor(text + b"," + msgspec.json.encode(name) + b":", flat, output.dtype, False, b"")
    text += b"}"
    return _event(text) if stream else Response(200, plan.json_headers, text)


def _streamed(result: InferResult, plan: InferPlan, form: Form, request_id: str) -> Response:
    return _event(encode_infer(result, plan, form, request_id).body)


def _event(text: bytes) -> Response:
    return Response(200, EVENTS, b"data: " + text + b"\n\n")
