"""Requests that repeat: a client's JSON is the same each time but for its id and its numbers, so the rest is parsed once.

A template is the text between those holes, byte for byte. Where a text begins with the first piece, what stands in the hole
is read where it stands, the next piece must follow, and so on to the end: it then means what the first such text meant.
What does not fit is read as if nothing had come before.

Pure, but for what is kept in the plan. Memory: pieces of at most `MAX_KEPT_BYTES` in all.
"""

from msgspec import Struct

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidJson, InvalidTensor
from fastserve.protocols.oip.envelope import Asked, Envelope
from fastserve.protocols.oip.plan import MAX_KEPT_BYTES, InferPlan, keep
from fastserve.protocols.oip.tensors import Hole
from fastserve.types import Tensor

MAX_TEMPLATES = 8
MAX_HOLES = 16


class Template(Struct, frozen=True):
    """`asked` has neither id nor tensors. `steps`: holes, each with the text that follows it."""

    asked: Asked
    first: bytes
    steps: tuple[tuple[Hole, bytes], ...]


def read(text: bytes, plan: InferPlan) -> Asked:
    """What `text`, all of it one JSON object, asks of the version with that plan. Raises as `Envelope.read`."""
    for template in plan.templates:
        asked = fill(template, text, strict=plan.strict)
        if asked is not None:
            return asked
    envelope = Envelope(text, plan)
    asked = envelope.read()
    _remember(envelope, asked, text, plan)
    return asked


def fill(template: Template, text: bytes, *, strict: bool) -> Asked | None:
    """What `text` asks; None where it is no such text, or not for certain."""
    # The end first: it costs nothing, and tells apart what begins alike.
    if not (text.startswith(template.first) and text.endswith(template.steps[-1][1])):
        return None
    try:
        return _filled(template, text, strict)
    except (InvalidTensor, InvalidJson):
        # What does not fit a hole may be right all the same: where data stands first in an input, what follows says what
        # it is. And if it is wrong, reading all of it tells so.
        return None


def _filled(template: Template, text: bytes, strict: bool) -> Asked | None:
    cursor = Cursor(text, finite=strict)
    at = len(template.first)
    request_id = ""
    inputs: dict[str, Tensor] = {}
    for hole, after in template.steps:
        cursor.seek(at)
        if cursor.kind() != ("[" if hole.name else '"'):
            return None
        if not hole.name:
            request_id = cursor.string("$.id")
        else:
            tensor = cursor.tensor(hole.dtype, hole.path, hole.takes_words)
            if tensor.size != hole.count:
                return None
            inputs[hole.name] = tensor.reshape(hole.shape)
        at = cursor.offset
        if not text.startswith(after, at):
            return None
        at += len(after)
    return template.asked.with_values(request_id, inputs) if at == len(text) else None


def _remember(envelope: Envelope, asked: Asked, text: bytes, plan: InferPlan) -> None:
    holes = sorted(envelope.holes, key=lambda hole: hole.start)
    if not holes:
        if len(text) <= MAX_KEPT_BYTES:
            keep(plan.asked, text, asked)
        return
    literal_bytes = len(text) - sum(hole.end - hole.start for hole in holes)
    if len(holes) > MAX_HOLES or literal_bytes > MAX_KEPT_BYTES:
        return
    ends = [*(hole.start for hole in holes[1:]), len(text)]
    steps = tuple((hole, text[hole.end : end]) for hole, end in zip(holes, ends, strict=True))
    # Readers on other threads see the list before or after, whole.
    plan.templates[:] = [Template(asked.with_values("", {}), text[: holes[0].start], steps), *plan.templates][
        :MAX_TEMPLATES
    ]
