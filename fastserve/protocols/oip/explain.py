"""Explanations: POST /v2/models/M/explain. Shapley values of each output over the model's inputs, by asking the model.

Thread: one of its own, which starts with the first explanation, or, where a model's configuration says explain = true,
with the server: what it needs takes seconds to be there. An explanation takes seconds, and thousands of rows of the model.
They go through the engine like anybody's, a batch or two at a time, so that other requests go between them.
Memory: at most `MAX_WAITING` requests; what one takes, see `shapley`.
"""

import math
import threading
from functools import partial

import numpy as np
from msgspec import Struct

from fastserve.engine.engine import Engine, Lease, Pending
from fastserve.errors import Cancelled, FastServeError, InvalidRequest, InvalidTensor, quoted
from fastserve.http.message import Reply, Request
from fastserve.protocols.later import Later, OnDemand, Room
from fastserve.protocols.oip.background import background_of
from fastserve.protocols.oip.explain_settings import Settings, read_settings
from fastserve.protocols.oip.explanation import Explanation
from fastserve.protocols.oip.plain import plain_plan
from fastserve.protocols.oip.question import Question
from fastserve.protocols.oip.shapley import Contributions, Table, contributions, warm_up
from fastserve.types import DType, InferRequest, InferResult, Tensor

MAX_WAITING = 16
CHUNK_ROWS = 256


class Explainer:
    """The thread that explains."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = OnDemand(1, "explain")
        self._room = Room(MAX_WAITING, "an explanation")
        if any(model.explain for model in engine.config.models):
            self._thread.post(warm_up)

    def explain(self, lease: Lease, request: Request, question: Question, reply: Reply) -> Pending | None:
        """Answer what each value of the question's rows contributed. Raises InvalidRequest, InvalidTensor, QueueFull."""
        settings = read_settings(request, plain_plan(lease))
        try:
            lease.validator.rows(question.infer)
        except InvalidTensor as error:
            raise question.located(error) from error
        later = Later(reply, partial(self._explain, lease, question, settings, reply))
        return self._room.post(self._thread.post, later)

    def _explain(self, lease: Lease, question: Question, settings: Settings, reply: Reply) -> None:
        background = background_of(lease, settings, self._engine.datasets)
        layout = layout_of(lease, question.infer.inputs)
        outputs = _explained(lease, question.infer)
        asked = _Asked(self._engine, lease, question.infer, layout, outputs, reply)
        found = contributions(
            layout.table(question.infer.inputs), layout.table(background), asked.rows, settings.samples
        )
        reply.send(question.encode_explanation(_explanation(lease, layout, asked, found)))


class Layout(Struct, frozen=True):
    """The inputs' rows as columns, one a value. `parts`: each input's name, its row's shape and how many values that is."""

    parts: tuple[tuple[str, tuple[int, ...], int], ...]
    features: tuple[str, ...]

    def table(self, inputs: dict[str, Tensor]) -> Table:
        """The columns of these rows. Raises InvalidRequest where a row is of another shape."""
        columns: Table = []
        for name, shape, width in self.parts:
            tensor = inputs[name]
            if tensor.shape[1:] != shape:
                raise InvalidRequest(
                    f"rows of the background have the shape {list(tensor.shape[1:])} in input {quoted(name)}, those to be"
                    f" explained {list(shape)}"
                )
            columns += list(tensor.reshape(len(tensor), width).T)
        return columns

    def inputs(self, table: Table) -> dict[str, Tensor]:
        """The inputs that have these columns."""
        found: dict[str, Tensor] = {}
        at = 0
        for name, shape, width in self.parts:
            rows = np.stack(table[at : at + width], axis=1)
            found[name] = np.ascontiguousarray(rows).reshape(len(rows), *shape)
            at += width
        return found


def layout_of(lease: Lease, inputs: dict[str, Tensor]) -> Layout:
    """The layout of inputs whose first axis is the rows. Raises InvalidRequest where there is no such axis."""
    parts = []
    rows = {tensor.shape[0] if tensor.ndim else -1 for tensor in inputs.values()}
    if len(rows) != 1 or not inputs or rows == {-1}:
        raise InvalidRequest("this model's inputs have no common axis of rows, so none of them can be explained")
    if rows == {0}:
        raise InvalidRequest("expected at least one row to be explained, got none")
    for name in lease.input_names:
        shape = inputs[name].shape[1:]
        parts.append((name, shape, math.prod(shape)))
    plan = plain_plan(lease)
    width = sum(part[2] for part in parts)
    named = plan.features if len(plan.features) == width else _features(parts)
    return Layout(tuple(parts), named)


def _features(parts: list[tuple[str, tuple[int, ...], int]]) -> tuple[str, ...]:
    """`x` of an input of one value a row, else `x[0][1]`."""
    names: list[str] = []
    for name, shape, width in parts:
        if width == 1:
            names.append(name)
        else:
            names += [name + "".join(f"[{at}]" for at in index) for index in np.ndindex(shape)]
    return tuple(names)


def _explained(lease: Lease, infer: InferRequest) -> tuple[str, ...]:
    """The outputs that hold numbers, of those that are wanted."""
    numbers = [spec.name for spec in lease.signature.outputs if spec.dtype not in (DType.STRING, DType.BFLOAT16)]
    found = tuple(name for name in infer.outputs or lease.output_names if name in numbers)
    if not found:
        raise InvalidRequest("none of the outputs that are asked for holds numbers, which alone can be explained")
    return found


class _Asked:
    """Asks the engine, from this thread, and waits. Afterwards, `shapes` has the shape of each output's row."""

    def __init__(
        self,
        engine: Engine,
        lease: Lease,
        infer: InferRequest,
        layout: Layout,
        outputs: tuple[str, ...],
        reply: Reply,
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._infer = infer
        self._layout = layout
        self._reply = reply
        self.outputs = outputs
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._chunk_rows = CHUNK_ROWS if lease.batching.batchable else 1

    def rows(self, table: Table) -> Tensor:
        """All numbers of the outputs, side by side, for each row."""
        inputs = self._layout.inputs(table)
        count = len(table[0])
        parts = []
        for start in range(0, count, self._chunk_rows):
            if self._reply.gone:
                raise Cancelled("the client went away")
            end = min(start + self._chunk_rows, count)
            parts.append(self._run({name: tensor[start:end] for name, tensor in inputs.items()}, end - start))
        return np.concatenate(parts)

    def _run(self, inputs: dict[str, Tensor], rows: int) -> Tensor:
        answer = _Answer()
        request = InferRequest(inputs, self.outputs, "", 0, self._infer.deadline_ns, self._infer.priority)
        self._engine.submit(self._lease, request, answer)
        result = answer.wait()
        columns = []
        for name in self.outputs:
            array = result.outputs[name]
            if self._chunk_rows == 1:
                array = array.reshape(1, *(array.shape[1:] if array.ndim and array.shape[0] == 1 else array.shape))
            self.shapes[name] = array.shape[1:]
            columns.append(array.reshape(rows, -1).astype(np.float64))
        return np.concatenate(columns, axis=1)


class _Answer:
    """What the engine answers, waited for."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._outcome: InferResult | FastServeError | None = None

    def __call__(self, outcome: InferResult | FastServeError) -> None:
        self._outcome = outcome
        self._there.set()

    def wait(self) -> InferResult:
        """The result. Raises what the engine answered instead."""
        self._there.wait()
        outcome = self._outcome
        if isinstance(outcome, FastServeError):
            raise outcome
        assert outcome is not None
        return outcome


def _explanation(lease: Lease, layout: Layout, asked: _Asked, found: Contributions) -> Explanation:
    values: dict[str, Tensor] = {}
    base: dict[str, Tensor] = {}
    rows, features = found.values.shape[:2]
    at = 0
    for name in asked.outputs:
        shape = asked.shapes[name]
        end = at + math.prod(shape)
        part = found.values[:, :, at:end].transpose(0, 2, 1)
        values[name] = np.ascontiguousarray(part).reshape(rows, *shape, features)
        base[name] = found.base[at:end].reshape(shape)
        at = end
    return Explanation(lease.model, lease.version, layout.features, values, base)
