"""Inference: POST /v2/models/M/infer, the other calls that run a model, and POST /, which names the call in its body.

Most requests are Open Inference's tensors and take the short way in `infer`. What is none of those is looked at again:
MLRun's plain lists, images and other bytes, tensors with content types.

Thread: whichever the door runs a route on; answers may leave from any thread. What takes long before a model is asked
(fetching, decoding images, explaining) runs on other threads.
Memory: none of its own.
"""

import re
from collections.abc import Callable
from functools import partial

from fastserve.engine.engine import Engine, Lease, Pending
from fastserve.engine.executor import on_executor_thread
from fastserve.errors import FastServeError, InvalidTensor, ModelForbidden
from fastserve.http.message import Reply, Request, Response
from fastserve.http.recorded import Encode, recorded
from fastserve.http.routes import Light, Route
from fastserve.protocols.later import Later
from fastserve.protocols.oip.binary import LENGTH_HEADER
from fastserve.protocols.oip.decode import decode_infer, known, located
from fastserve.protocols.oip.early import early, turn_away
from fastserve.protocols.oip.elsewhere import Reader
from fastserve.protocols.oip.encode import encode_infer
from fastserve.protocols.oip.event import read_event
from fastserve.protocols.oip.explain import Explainer
from fastserve.protocols.oip.flavour import PLAIN_FROM_THE_START, Flavour, flavour_of
from fastserve.protocols.oip.lane import InferLane, lane_for
from fastserve.protocols.oip.models import TARGET, find
from fastserve.protocols.oip.plan import plan_of
from fastserve.protocols.oip.question import Elsewhere, Question, read_elsewhere, read_question
from fastserve.protocols.oip.tracing import Tracing
from fastserve.types import InferResult

Then = Callable[[Lease, Request, Question, Reply], Pending | None]
"""What becomes of a question that was read."""


class Inference:
    """The calls that run a model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tracing = Tracing(engine)
        self._reader = Reader(engine.config.data_url)
        self._explainer = Explainer(engine)
        self._calls = {
            "infer": self.infer,
            "predict": self.infer,
            "infer_dict": self.infer_dict,
            "predict_dict": self.infer_dict,
            "explain": self.explain,
        }

    def routes(self) -> list[Route]:
        """A path for each call; without one, infer."""
        light, at_the_door = Light(LENGTH_HEADER, self.is_light), early(self._engine)
        calls = [
            Route(
                "POST",
                re.compile(f"{TARGET}/{name}/?"),
                "infer",
                infer=call,
                light=light if name == "infer" else None,
                lane=self.lane if name == "infer" else None,
                early=None if name == "explain" else at_the_door,
            )
            for name, call in self._calls.items()
        ]
        return [
            *calls,
            Route("POST", re.compile(TARGET + "/?"), "infer", infer=self.infer, early=at_the_door),
            Route("POST", re.compile("/"), "infer", infer=self.event, sifts=True),
        ]

    def infer(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL/infer."""
        lease = self._found(request, reply)
        turn_away(lease, request)
        plan = plan_of(lease)
        if PLAIN_FROM_THE_START(request.body):
            return self._read(lease, request, reply, self._submit, dicts=False)
        try:
            asked, form, order = decode_infer(request, plan)
        except FastServeError:  # it may be another kind of body; if not, it is read again, and told again what is wrong
            return self._read(lease, request, reply, self._submit, dicts=False)
        encode: Encode = encode_infer
        if lease.recording is not None:  # it may give the request an id, which its answer has then
            encode = recorded(lease.recording, asked, request.headers, encode)
        answer = reply.then(encode, plan, form, asked.id)
        if self._tracing.active:
            answer = self._tracing.traced(lease, asked, answer)
        try:
            return self._engine.submit(lease, asked, answer)
        except InvalidTensor as error:
            raise located(error, asked, order, plan) from error

    def lane(self, request: Request) -> InferLane | None:
        """The short way for requests like that one, where the model has a short one, and nobody traces it."""
        lease = find(self._engine, request.params)
        params, tracing = request.params, self._tracing
        return lane_for(lease, request, lambda: not tracing.active and find(self._engine, params) is lease)

    def is_light(self, request: Request) -> bool:
        """Whether the JSON before the tensors is known, and all else, there and back, are numbers in binary."""
        try:
            lease = find(self._engine, request.params)
        except FastServeError:
            return True  # the answer is at hand
        asked = known(request, plan_of(lease))
        return asked is not None and asked.numbers_only

    def infer_dict(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL/infer_dict: rows as objects of names and values."""
        lease = self._found(request, reply)
        turn_away(lease, request)
        return self._read(lease, request, reply, self._submit, dicts=True)

    def explain(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL/explain: what each value contributed."""
        lease = self._found(request, reply)
        return self._read(lease, request, reply, self._explainer.explain, dicts=False)

    def event(self, request: Request, reply: Reply) -> Pending | None:
        """POST /: the body, or a header, says which model and which call."""
        engine, caller = self._engine, request.caller
        call, request.params = read_event(request, [*filter(caller.may_use, engine.models())], list(self._calls))
        model = request.params["model"]
        if not caller.may_use(engine.own_name(model), model):
            raise ModelForbidden(caller.name, model)
        return self._calls[call](request, reply)

    def _found(self, request: Request, reply: Reply) -> Lease:
        lease = find(self._engine, request.params)
        reply.subject = lease.subject
        return lease

    def _read(self, lease: Lease, request: Request, reply: Reply, then: Then, *, dicts: bool) -> Pending | None:
        """Read the body, whatever it is; an image on an executor thread, what is elsewhere on the reader's."""
        if not dicts and not on_executor_thread() and flavour_of(request) is Flavour.BINARY:
            later = Later(reply, partial(self._read, lease, request, reply, then, dicts=dicts))
            self._engine.executor.post(later.run)
            return later
        question = read_question(request, lease, dicts=dicts)
        if isinstance(question, Elsewhere):
            return self._reader.read(
                question, request, reply, partial(self._arrived, lease, question, reply, then, dicts)
            )
        return then(lease, request, question, reply)

    def _arrived(
        self, lease: Lease, found: Elsewhere, reply: Reply, then: Then, dicts: bool, request: Request
    ) -> Pending | None:
        """What a URL named is there, as the body of `request`."""
        return then(lease, request, read_elsewhere(request, lease, found, dicts=dicts), reply)

    def _submit(self, lease: Lease, request: Request, question: Question, reply: Reply) -> Pending | None:
        encode: Encode = _encoded
        if lease.recording is not None:
            encode = recorded(lease.recording, question.infer, request.headers, encode, question.told_id)
        answer = reply.then(encode, question)
        if self._tracing.active:
            answer = self._tracing.traced(lease, question.infer, answer)
        try:
            return self._engine.submit(lease, question.infer, answer)
        except InvalidTensor as error:
            raise question.located(error) from error


def _encoded(result: InferResult, question: Question) -> Response:
    return question.encode(result)
