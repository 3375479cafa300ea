"""Answers to plain bodies: `outputs` as plain lists, with an id and a time.

Pure, but for the time and the ids that are made up. Memory: what goes out is made in place.
"""

import os
from datetime import UTC, datetime

import msgspec

from fastserve._ext import jsonwrite
from fastserve.http.message import Request, Response
from fastserve.protocols.oip.plain import PlainPlan
from fastserve.protocols.oip.plan import OutputPlan
from fastserve.types import InferResult, Tensor

EVENT_ID = "mlrun-event-id"


def event_id(request: Request) -> bytes:
    """The id of a request whose body has none, as JSON: its header's, or any."""
    return msgspec.json.encode(request.headers.get(EVENT_ID) or os.urandom(16).hex())


def timestamp() -> bytes:
    """Now, as MLRun writes it."""
    return datetime.now(UTC).isoformat(sep=" ", timespec="microseconds").encode()


def encode_plain(
    result: InferResult, plan: PlainPlan, wanted: tuple[str, ...] | None, request_id: bytes, began: bytes
) -> Response:
    """The answer: of a model with one output its tensor, else a list with an entry for each output that was wanted."""
    opening = b'{"id":' + request_id + plan.opening + b',"timestamp":"' + began + b'","outputs":'
    return Response(200, plan.headers, outputs_text(opening, chosen(plan, wanted), result.outputs, plan, b"}"))


def chosen(plan: PlainPlan, wanted: tuple[str, ...] | None) -> list[OutputPlan]:
    """The outputs of an answer, in its order."""
    if wanted is None:
        return list(plan.outputs)
    by_name = {output.name: output for output in plan.outputs}
    return [by_name[name] for name in wanted]


def outputs_text(
    before: bytes, outputs: list[OutputPlan], tensors: dict[str, Tensor], plan: PlainPlan, after: bytes
) -> bytes:
    """`before`, the tensors as nested lists, `after`."""
    if len(plan.outputs) == 1:
        return jsonwrite.tensor(before, tensors[outputs[0].name], outputs[0].dtype, False, after)
    parts = [jsonwrite.tensor(b"", tensors[output.name], output.dtype, False, b"") for output in outputs]
    return b"".join([before, b"[", b",".join(parts), b"]", after])
