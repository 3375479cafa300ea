"""Inference for many requests at a time that differ in their numbers only: one input, behind the JSON or within it."""

from collections.abc import Callable

from fastserve._ext import binarytensor
from fastserve._ext.coalesce import split
from fastserve._ext.tensorize import between
from fastserve.engine.block import Blocks, Found, each
from fastserve.engine.lease import Lease
from fastserve.http.message import Reply, Request, Response
from fastserve.protocols.lanes import ModelLane, Told
from fastserve.protocols.oip.binary import LENGTH_HEADER
from fastserve.protocols.oip.decode import known
from fastserve.protocols.oip.encode import encode_infer
from fastserve.protocols.oip.envelope import Asked
from fastserve.protocols.oip.plan import InferPlan, plan_of
from fastserve.protocols.oip.template import fill
from fastserve.protocols.oip.tensors import Behind, Hole
from fastserve.types import InferResult, Tensor, Timing

Read = Callable[[list[bytes]], Found]
"""The input of each body; None for one that is not like the others."""


class InferLane(ModelLane):
    """The lane of one path, for requests of one kind."""

    def __init__(
        self, lease: Lease, blocks: Blocks, asked: Asked, read: Read, length: str | None, serves: Callable[[], bool]
    ) -> None:
        super().__init__(lease, blocks, serves)
        self.header = LENGTH_HEADER
        self.header_value = length
        self.light = length is not None and asked.numbers_only
        self._plan: InferPlan = plan_of(lease)
        self._form = asked.form
        self._read = read

    def read(self, bodies: list[bytes]) -> Found:
        """See `ModelLane`."""
        return self._read(bodies)

    def told(self, reply: Reply) -> Told:
        """See `ModelLane`."""
        return reply.then(encode_infer, self._plan, self._form, "")

    def encode(self, outputs: tuple[Tensor, ...], rows: list[int]) -> list[Response]:
        """See `ModelLane`."""
        lease, plan, form = self._lease, self._plan, self._form
        names, timing = lease.output_names, Timing()
        each = zip(*[split(output, rows) for output in outputs], strict=True)
        return [
            encode_infer(
                InferResult(lease.model, lease.version, dict(zip(names, arrays, strict=True)), timing), plan, form, ""
            )
            for arrays in each
        ]


def lane_for(lease: Lease, request: Request, serves: Callable[[], bool]) -> InferLane | None:
    """The lane of requests like `request`, which was answered; None where they are looked at one by one."""
    blocks, plan = lease.blocks, plan_of(lease)
    if blocks is None or plan.strict:
        return None
    length = request.headers.get(LENGTH_HEADER)
    if length is not None:
        asked = known(request, plan)
        if asked is None or not _is_plain(asked) or asked.inputs or len(asked.behind) != 1:
            return None
        return InferLane(lease, blocks, asked, _behind(request.body[: int(length)], asked.behind[0]), length, serves)
    fitting = (one for one in plan.templates if fill(one, request.body, strict=False) is not None)
    template = next(fitting, None)  # not the one that came last: clients of a path may differ
    if template is None or len(template.steps) != 1 or not _is_plain(template.asked) or template.asked.behind:
        return None
    ((hole, after),) = template.steps
    return InferLane(lease, blocks, template.asked, _within(template.first, hole, after), None, serves)


def _is_plain(asked: Asked) -> bool:
    return not (asked.id or asked.priority or asked.timeout_ns or asked.form.rankings)


def _behind(text: bytes, one: Behind) -> Read:
    """Bodies that are `text` and one tensor in binary."""
    start, total = len(text), len(text) + one.size
    view, dtype, size, shape = binarytensor.view, one.dtype, one.size, one.shape

    def read(bodies: list[bytes]) -> Found:
        return [
            view(body, start, size, dtype, shape) if len(body) == total and body.startswith(text) else None
            for body in bodies
        ]

    return read


def _within(before: bytes, hole: Hole, after: bytes) -> Read:
    """Bodies that are a list of numbers between two texts."""

    def one(body: bytes) -> Tensor | None:
        found = between(body, before, after, hole.dtype, hole.takes_words)
        return None if found is None or found.size != hole.count else found.reshape(hole.shape)

    return lambda bodies: each(one, bodies)
