"""Inference: POST /v2/models/M/infer.

Thread: whichever the door runs a route on; answers may leave from any thread.
Memory: none of its own.
"""

import re

from fastserve.engine.engine import Engine
from fastserve.errors import FastServeError, InvalidTensor
from fastserve.http.message import Pending, Reply, Request
from fastserve.http.routes import Light, Route
from fastserve.protocols.oip.binary import LENGTH_HEADER
from fastserve.protocols.oip.decode import decode_infer, known, located
from fastserve.protocols.oip.encode import encode_infer
from fastserve.protocols.oip.models import TARGET, find
from fastserve.protocols.oip.plan import plan_of


class Inference:
    """The call that runs a model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """One call."""
        light = Light(LENGTH_HEADER, self.is_light)
        return [Route("POST", re.compile(TARGET + "/infer/?"), "infer", infer=self.infer, light=light)]

    def infer(self, request: Request, reply: Reply) -> Pending | None:
        """POST MODEL/infer."""
        lease = find(self._engine, request.params)
        reply.subject = lease.subject
        plan = plan_of(lease)
        asked, form, order = decode_infer(request, plan)
        try:
            return self._engine.submit(lease, asked, reply.then(encode_infer, plan, form, asked.id))
        except InvalidTensor as error:
            raise located(error, asked, order, plan) from error

    def is_light(self, request: Request) -> bool:
        """Whether the JSON before the tensors is known, and all else, there and back, are numbers in binary."""
        try:
            lease = find(self._engine, request.params)
        except FastServeError:
            return True  # the answer is at hand
        asked = known(request, plan_of(lease))
        return asked is not None and asked.numbers_only
