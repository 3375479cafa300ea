"""A request's JSON, walked once: what is asked, with the tensors that stand in it.

Pure. Members that mean nothing here may hold anything; of duplicate members the first counts.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidJson, InvalidRequest, InvalidTensor, quoted
from fastserve.protocols.oip import parameters
from fastserve.protocols.oip.errors import ContentTyped
from fastserve.protocols.oip.plan import STRING, Form, InferPlan
from fastserve.protocols.oip.tensors import Behind, Hole, InputReader, OutputReader
from fastserve.types import Tensor

WHITE_SPACE = b" \t\r\n"
MAX_NAMED = 20


class Asked(Struct, frozen=True):
    """What a request's JSON asks for.

    `inputs`: those in the JSON. `behind`: those behind it, in the order of their bytes. `order`: all names, as the JSON has
    them. `timeout_ns`: 0 for none.
    """

    id: str
    inputs: dict[str, Tensor]
    behind: tuple[Behind, ...]
    behind_bytes: int
    order: tuple[str, ...]
    form: Form
    priority: int
    timeout_ns: int

    @property
    def numbers_only(self) -> bool:
        """Whether all that follows the JSON, there and back, are numbers, and nothing is in it."""
        return self.form.numbers_only and not self.inputs and all(one.dtype != STRING for one in self.behind)

    def with_values(self, request_id: str, inputs: dict[str, Tensor]) -> "Asked":
        """The same of another id and other tensors."""
        return Asked(
            request_id, inputs, self.behind, self.behind_bytes, self.order, self.form, self.priority, self.timeout_ns
        )


class Envelope:
    """The members of one request, while they are read."""

    def __init__(self, text: bytes, plan: InferPlan) -> None:
        self.text = text
        self.cursor = Cursor(text, finite=plan.strict)
        self.plan = plan
        self.id = ""
        self.inputs: dict[str, Tensor] = {}
        self.behind: list[Behind] = []
        self.behind_bytes = 0
        self.order: dict[str, None] = {}
        self.outputs: list[tuple[str, bool | None, int]] = []
        self.parameters: parameters.Found = {}
        self.holes: list[Hole] = []
        """Where the id and the tensors stand."""

    def read(self) -> Asked:
        """All of the text. Raises InvalidRequest, InvalidTensor, InvalidJson, NotOffered."""
        cursor = self.cursor
        if cursor.kind() != "{":
            raise InvalidRequest(f"the body must be a JSON object, got {cursor.excerpt()}")
        cursor.enter_object()
        seen: set[str] = set()
        while (key := cursor.next_key()) is not None:
            read = READERS.get(key)
            if read is None or key in seen:
                cursor.skip()
            else:
                seen.add(key)
                read(self)
        if "inputs" not in seen and self.plan.inputs:
            raise InvalidRequest(f'the request has no "inputs"; the model takes {self.plan.takes}')
        if self.text[cursor.offset :].strip(WHITE_SPACE):
            raise InvalidJson("more text follows the top value", cursor.offset)
        if self.plan.always_typed and self.plan.heeds_types:
            raise ContentTyped
        return self._asked()

    def _asked(self) -> Asked:
        found = self.parameters
        return Asked(
            id=self.id,
            inputs=self.inputs,
            behind=tuple(self.behind),
            behind_bytes=self.behind_bytes,
            order=tuple(self.order),
            form=self._form(found.get("binary_data_output", False)),
            priority=parameters.priority(found),
            timeout_ns=parameters.timeout_ns(found),
        )

    def _form(self, binary: bool) -> Form:
        """`binary`: the form of the outputs of which nothing else is said."""
        if not self.outputs:
            return self.plan.all_binary if binary else self.plan.all_json
        return self.plan.form(tuple((name, binary if own is None else own, most) for name, own, most in self.outputs))


def _read_id(envelope: Envelope) -> None:
    cursor = envelope.cursor
    if cursor.kind() == "n":  # some clients write what they leave out as null
        cursor.skip()
    else:
        start = cursor.offset
        envelope.id = cursor.string("$.id")
        envelope.holes.append(Hole(start, cursor.offset))


def _read_parameters(envelope: Envelope) -> None:
    envelope.parameters = parameters.read_parameters(
        envelope.cursor, "$.parameters", parameters.REQUEST, scalars_only=True
    )
    if envelope.plan.heeds_types and parameters.is_typed(envelope.parameters):
        raise ContentTyped


def _read_inputs(envelope: Envelope) -> None:
    cursor = envelope.cursor
    if cursor.kind() != "[":
        raise InvalidTensor(expected="list of inputs", got=cursor.excerpt(), path="$.inputs")
    cursor.enter_array()
    while cursor.next_item():
        index = len(envelope.order)
        entry = InputReader(cursor, envelope.plan, f"$.inputs[{index}]").read()
        if entry.name in envelope.order:
            path = f"$.inputs[{index}].name"
            raise InvalidTensor(expected="each input once", got=f"{quoted(entry.name)} twice", path=path)
        envelope.order[entry.name] = None
        tensor = entry.tensor()
        if tensor is not None:
            envelope.inputs[entry.name] = tensor
            envelope.holes.append(entry.hole())
        else:
            place = entry.behind(envelope.behind_bytes)
            envelope.behind.append(place)
            envelope.behind_bytes += place.size
    missing = [name for name in envelope.plan.inputs if name not in envelope.order]
    if missing:
        got = "missing " + ", ".join(map(quoted, missing[:MAX_NAMED])) if envelope.order else "an empty list"
        raise InvalidTensor(expected=f"all inputs ({envelope.plan.takes})", got=got, path="$.inputs")


def _read_outputs(envelope: Envelope) -> None:
    cursor = envelope.cursor
    if cursor.kind() == "n":
        cursor.skip()
        return
    if cursor.kind() != "[":
        raise InvalidTensor(expected="list of outputs", got=cursor.excerpt(), path="$.outputs")
    cursor.enter_array()
    names: set[str] = set()
    while cursor.next_item():
        path = f"$.outputs[{len(names)}]"
        entry = OutputReader(cursor, envelope.plan, path).read()
        if entry.name in names:
            raise InvalidTensor(expected="each output once", got=f"{quoted(entry.name)} twice", path=f"{path}.name")
        names.add(entry.name)
        envelope.outputs.append((entry.name, entry.binary, entry.classes))


READERS: Mapping[str, Callable[[Envelope], None]] = {
    "id": _read_id,
    "parameters": _read_parameters,
    "inputs": _read_inputs,
    "outputs": _read_outputs,
}
"""The members that mean something."""
