"""What a request asks, whatever its body looks like: what the engine is asked, and how it is answered.

Pure.
"""

from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fastserve.engine.lease import Lease
from fastserve.errors import FastServeError, InvalidRequest, InvalidTensor
from fastserve.http.message import Request, Response
from fastserve.protocols.oip.binary import raw_tensor
from fastserve.protocols.oip.decode import decode_infer, located
from fastserve.protocols.oip.dicts import read_dicts
from fastserve.protocols.oip.encode import encode_infer
from fastserve.protocols.oip.errors import ContentTyped
from fastserve.protocols.oip.explanation import Explanation, as_lists, as_tensors
from fastserve.protocols.oip.flavour import IMAGE, Flavour, flavour_of, hint, media_type
from fastserve.protocols.oip.images import image_tensor
from fastserve.protocols.oip.plain import Plain, PlainPlan, located_plain, plain_plan, read_plain, read_rows
from fastserve.protocols.oip.plain_answer import encode_plain, event_id, timestamp
from fastserve.protocols.oip.plan import Form, InferPlan, plan_of
from fastserve.protocols.oip.typed import read_typed
from fastserve.types import InferRequest, InferResult, Tensor

CONTENT_TYPE = b'"content_type"'
"""Without it, a body has no content types."""


class Question(Protocol):
    """One request, read."""

    @property
    def infer(self) -> InferRequest:
        """What the engine is asked."""

    @property
    def told_id(self) -> str:
        """The id that its answer has; empty where that is the engine's request's."""

    def located(self, error: InvalidTensor) -> InvalidTensor:
        """An error of the engine, told of the place in the body."""

    def encode(self, result: InferResult) -> Response:
        """The answer."""

    def encode_explanation(self, explanation: Explanation) -> Response:
        """The answer of `explain`."""


class TensorQuestion(Struct, frozen=True):
    """In Open Inference's tensors."""

    infer: InferRequest
    plan: InferPlan
    form: Form
    order: tuple[str, ...]
    told_id: str = ""

    def located(self, error: InvalidTensor) -> InvalidTensor:
        """See Question."""
        return located(error, self.infer, self.order, self.plan)

    def encode(self, result: InferResult) -> Response:
        """See Question."""
        return encode_infer(result, self.plan, self.form, self.infer.id)

    def encode_explanation(self, explanation: Explanation) -> Response:
        """See Question."""
        return as_tensors(explanation, self.plan, self.form, self.infer.id)


class PlainQuestion(Struct, frozen=True):
    """In MLRun's lists."""

    infer: InferRequest
    plan: PlainPlan
    id: bytes
    began: bytes

    @property
    def told_id(self) -> str:
        """See Question."""
        told = msgspec.json.decode(self.id)
        return told if isinstance(told, str) else self.id.decode()

    def located(self, error: InvalidTensor) -> InvalidTensor:
        """See Question."""
        return located_plain(error, self.infer.inputs, self.plan)

    def encode(self, result: InferResult) -> Response:
        """See Question."""
        return encode_plain(result, self.plan, self.infer.outputs, self.id, self.began)

    def encode_explanation(self, explanation: Explanation) -> Response:
        """See Question."""
        return as_lists(explanation, self.plan, self.id)


class Elsewhere(Struct, frozen=True):
    """A request whose inputs are at a URL; `asked` is the rest of it."""

    url: str
    asked: Plain
    began: bytes


def read_question(request: Request, lease: Lease, *, dicts: bool) -> Question | Elsewhere:
    """What the body asks. `dicts`: its rows are objects of names and values, whatever they are called."""
    flavour = Flavour.PLAIN if dicts else flavour_of(request)
    if flavour is Flavour.BINARY:
        return _binary(request, lease)
    if flavour is Flavour.PLAIN:
        return _plain(request, lease, dicts)
    return _tensors(request, lease)


def _tensors(request: Request, lease: Lease) -> TensorQuestion:
    plan = plan_of(lease)
    try:
        return TensorQuestion(*_decoded(request, plan))
    except FastServeError as error:
        is_typed = isinstance(error, ContentTyped)
        may_be = is_typed or plan.always_typed or CONTENT_TYPE in request.body
        typed = read_typed(request, lease) if may_be else None
        if typed is not None:
            return TensorQuestion(*typed)
        if is_typed:  # of a kind that means nothing here
            return TensorQuestion(
                *_decoded(request, replace(plan, heeds_types=False, asked={}, latest=[], templates=[]))
            )
        more = hint(request)
        if more:
            raise InvalidRequest(f"{error}{more}") from error
        raise


def read_elsewhere(request: Request, lease: Lease, found: Elsewhere, *, dicts: bool) -> Question:
    """What is asked by `found` of what was read from its URL, which is the body of `request`."""
    content = request.body.lstrip()
    if content.startswith(b"[") and not media_type(request).startswith(IMAGE):
        request.body = b'{"inputs":' + request.body + b"}"
    flavour = Flavour.PLAIN if dicts and content[:1] in (b"[", b"{") else flavour_of(request)
    plan, asked = plain_plan(lease), found.asked
    request_id = asked.id or event_id(request)
    if flavour is Flavour.BINARY:
        inputs = binary_inputs(request, lease)
    elif flavour is Flavour.PLAIN:
        inputs = _inputs_of(read_plain(request.body, plan, read_dicts if dicts else read_rows), plan)
    else:
        inputs = decode_infer(request, plan_of(lease))[0].inputs
    return PlainQuestion(_infer(request, inputs, asked.wanted), plan, request_id, found.began)


def binary_inputs(request: Request, lease: Lease) -> dict[str, Tensor]:
    """The tensors of a body that is no JSON: an image, or the bytes of the one input."""
    if media_type(request).startswith(IMAGE):
        return image_tensor(request.body, lease)
    return raw_tensor(request.body, plan_of(lease))


def _decoded(request: Request, plan: InferPlan) -> tuple[InferRequest, InferPlan, Form, tuple[str, ...]]:
    infer, form, order = decode_infer(request, plan)
    return infer, plan, form, order


def _plain(request: Request, lease: Lease, dicts: bool) -> PlainQuestion | Elsewhere:
    began, plan = timestamp(), plain_plan(lease)
    asked = read_plain(request.body, plan, read_dicts if dicts else read_rows)
    if asked.inputs is None:
        return Elsewhere(asked.data_url, asked, began)
    return PlainQuestion(_infer(request, asked.inputs, asked.wanted), plan, asked.id or event_id(request), began)


def _binary(request: Request, lease: Lease) -> PlainQuestion:
    began = timestamp()
    infer = _infer(request, binary_inputs(request, lease), None)
    return PlainQuestion(infer, plain_plan(lease), event_id(request), began)


def _infer(request: Request, inputs: dict[str, Tensor], wanted: tuple[str, ...] | None) -> InferRequest:
    return InferRequest(inputs, wanted, "", request.received_ns, request.deadline_ns)


def _inputs_of(asked: Plain, plan: PlainPlan) -> dict[str, Tensor]:
    if asked.inputs is None:
        raise InvalidTensor(
            expected=f'"inputs" in what data_url holds; the model takes {plan.takes}',
            got="another data_url",
            path="$.data_url",
        )
    return asked.inputs
