"""Requests to runs: rows of many requests into bound buffers, outputs back to each; and the plain path beside it.

Thread: a runner belongs to one at a time. Memory: FixedRunner and BoundRunner own their buffers, PlainRunner has none;
answers are always arrays of their own.
"""

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol

import numpy as np

from fastserve._ext.coalesce import Bound, gather, split
from fastserve.backends.base import Runner
from fastserve.errors import FastServeError, RunFailed, RunRefused
from fastserve.types import DType, Signature, Tensor, TensorSpec

logger = logging.getLogger(__name__)

# A binding is a few kB; more shapes than this at once are rare, and binding anew costs about 15 us.
MAX_BINDINGS = 128
# Larger tensors are run in place: nothing that big is copied or kept for a client's sake.
MAX_BOUND_BYTES = 1 << 28
# From here on a request alone is run in its own memory: copying it costs more than binding saves (measured: 20 against
# 15 us at 256 kB, 6.0 against 7.1 at 32 kB).
IN_PLACE_BYTES = 1 << 17
_ALIGNMENT_BYTES = 64

BoundRun = Callable[[], None]
NamedTensor = tuple[str, Tensor]
OutputDim = int | tuple[int, int]
"""A dimension of an output: a number, or (input, axis) where it is found."""


class RunOptions(Protocol):
    """What runs of one runner have in common. `terminate`: they are to end, now and from now on."""

    terminate: bool


class Session(Protocol):
    """What runners need of a session; shared by threads. `errors`: what a bound run may raise."""

    signature: Signature
    errors: tuple[type[Exception], ...]

    def options(self) -> RunOptions:
        """Make options for the runs of one runner."""
        ...

    def run(self, feed: dict[str, Tensor], options: RunOptions) -> list[Tensor]:
        """Run once on arrays as they are; raises RunRefused or RunFailed."""
        ...

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: RunOptions) -> BoundRun:
        """Bind these arrays to all inputs and outputs; the answer runs once on what they hold."""
        ...


class Stoppable:
    """A runner whose runs can be ended from other threads."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    def stop(self) -> None:
        """End the run under way, and those until `go_on`."""
        self._options.terminate = True

    def go_on(self) -> None:
        """Take runs again."""
        self._options.terminate = False


class PlainRunner(Stoppable):
    """Runs on the requests' own arrays: for strings, unknown shapes, and what is too large to keep buffers for."""

    def __init__(self, session: Session, batchable: bool, options: RunOptions | None = None) -> None:
        super().__init__(options or session.options())
        self._session = session
        self._names = tuple(spec.name for spec in session.signature.inputs)
        self._outputs = tuple(spec.name for spec in session.signature.outputs)
        self._batchable = batchable

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer each request; several are concatenated first."""
        if len(requests) == 1:
            return [self.run_one(requests[0], rows[0])]
        feed = {name: np.concatenate([request[name] for request in requests]) for name in self._names}
        return _answers(zip(self._outputs, self._checked(feed, sum(rows)), strict=True), rows)

    def run_one(self, request: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Answer one request, on its own arrays."""
        # Out of the middle of a body, an array may start anywhere.
        feed = {name: array if array.flags.aligned else array.copy() for name, array in request.items()}
        return dict(zip(self._outputs, self._checked(feed, rows), strict=True))

    def _checked(self, feed: dict[str, Tensor], rows: int) -> list[Tensor]:
        try:
            outputs = self._session.run(feed, self._options)
        except FastServeError as error:
            if self._batchable and rows == 0:
                raise RunRefused(f"the model takes no empty batch: {error}") from error
            raise
        if self._batchable:
            for name, output in zip(self._outputs, outputs, strict=True):
                if output.ndim == 0 or len(output) != rows:
                    raise RunRefused(f'output "{name}" has shape {list(output.shape)} for these {rows} rows')
        return outputs


class FixedRunner(Stoppable):
    """Runs on buffers bound once: for models that are not batched and whose shapes are all fixed."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.options())
        self._errors = session.errors
        self._plain = PlainRunner(session, False, self._options)
        signature = session.signature
        inputs = [
            _aligned(spec.dtype, math.prod(spec.shape or ())).reshape(spec.shape or ()) for spec in signature.inputs
        ]
        outputs = [
            _aligned(spec.dtype, math.prod(spec.shape or ())).reshape(spec.shape or ()) for spec in signature.outputs
        ]
        self._inputs = _named(signature.inputs, inputs)
        self._outputs = _named(signature.outputs, outputs)
        self._run = session.bind(inputs, outputs, self._options)

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer the one request that is given."""
        return [self.run_one(request, count) for request, count in zip(requests, rows, strict=True)]

    def run_one(self, request: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Answer one request."""
        for name, buffer in self._inputs:
            # The copy would stretch a smaller array over the buffer.
            if request[name].shape != buffer.shape:
                return self._plain.run_one(request, rows)
            buffer[...] = request[name]
        try:
            self._run()
        except self._errors:
            return self._plain.run_one(request, rows)
        return {name: buffer.copy() for name, buffer in self._outputs}


class BoundRunner(Stoppable):
    """Runs batches on buffers bound once per number of rows (and per row shape, where that is free)."""

    def __init__(self, session: Session, max_batch_rows: int, dims: Sequence[Sequence[OutputDim]]) -> None:
        super().__init__(session.options())
        self._session = session
        self._errors = session.errors
        self._max_batch_rows = max_batch_rows
        self._dims = dims
        self._free = tuple(spec.name for spec in session.signature.inputs if -1 in (spec.shape or ())[1:])
        self._plain = PlainRunner(session, True, self._options)
        self._bindable = True
        self._buffers: dict[int, Tensor] = {}
        self._bound: dict[Hashable, Bound] = {}
        # Numbers of rows bound for batches, that a request alone is better run with where it lies.
        self._large: set[int] = set()

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer each request from one run."""
        if len(requests) == 1:
            return [self.run_one(requests[0], rows[0])]
        total = sum(rows)
        bound = self._bound_for(requests[0], total)
        if bound is None:
            return self._plain.run(requests, rows)
        try:
            for name, buffer in bound.inputs:
                if gather(buffer, [request[name] for request in requests]) != total:
                    raise _short_of_rows(name, total)
        except ValueError:
            return self._plain.run(requests, rows)
        try:
            bound.run()
        except self._errors:
            return self._rerun(requests, rows)
        return _answers(bound.outputs, rows)

    def run_parts(self, parts: list[Tensor], rows: int) -> tuple[Tensor, ...] | None:
        """All outputs of the one input's parts, from one run: the bound buffers, which the next run fills again.

        None where they do not fit, or are better run where they lie. Raises RunFailed.
        """
        (spec,) = self._session.signature.inputs
        bound = self._bound.get(rows) or self._bound_for({spec.name: parts[0]}, rows)
        if bound is None or rows in self._large:
            return None
        ((_, buffer),) = bound.inputs
        try:
            if gather(buffer, parts) != rows:
                return None
        except ValueError:
            return None
        try:
            bound.run()
        except self._errors as error:
            raise RunFailed("the model failed on one of these") from error
        return tuple([output for _, output in bound.outputs])

    def run_one(self, request: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Answer one request."""
        bound = self._bound.get(rows) if not self._free else None
        if bound is None:
            bound = None if _input_bytes(request) >= IN_PLACE_BYTES else self._bound_for(request, rows)
        if bound is None or rows in self._large:
            return self._plain.run_one(request, rows)
        try:
            answer = bound.answer(request)
        except self._errors:
            return self._rerun([request], [rows])[0]
        return self._plain.run_one(request, rows) if answer is None else answer

    def _rerun(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Run again unbound: a bound run reports every error alike, this one says whose fault it was.

        Where it answers, an output's shape was not the declared one: this model is not bound any more.
        """
        answers = self._plain.run(requests, rows)
        logger.warning("an output has another shape than declared: its model is run without bound buffers from here on")
        self._bindable = False
        self._bound.clear()
        self._buffers.clear()
        return answers

    def _bound_for(self, request: dict[str, Tensor], rows: int) -> Bound | None:
        """The binding for this many rows shaped like the request's; None where binding is not worth it."""
        key = (rows, *[request[name].shape[1:] for name in self._free]) if self._free else rows
        return self._bound.get(key) or self._bind(key, request, rows)

    def _bind(self, key: Hashable, request: dict[str, Tensor], rows: int) -> Bound | None:
        signature = self._session.signature
        shapes = [(rows, *_row_shape(spec, request[spec.name])) for spec in signature.inputs]
        results = [
            tuple(dim if isinstance(dim, int) else shapes[dim[0]][dim[1]] for dim in dims) for dims in self._dims
        ]
        wanted = [*zip(signature.inputs, shapes, strict=True), *zip(signature.outputs, results, strict=True)]
        if rows == 0 or not self._bindable or max(_bytes(spec, shape) for spec, shape in wanted) > MAX_BOUND_BYTES:
            return None
        arrays = [self._prefix(at, spec, shape) for at, (spec, shape) in enumerate(wanted)]
        inputs, outputs = arrays[: len(shapes)], arrays[len(shapes) :]
        run = self._session.bind(inputs, outputs, self._options)
        bound = Bound(run, _named(signature.inputs, inputs), _named(signature.outputs, outputs))
        if len(self._bound) >= MAX_BINDINGS:
            del self._bound[next(iter(self._bound))]
        self._bound[key] = bound
        if not self._free and sum(buffer.nbytes for buffer in inputs) >= IN_PLACE_BYTES:
            self._large.add(rows)
        return bound

    def _prefix(self, at: int, spec: TensorSpec, shape: tuple[int, ...]) -> Tensor:
        """The first elements of buffer `at` as an array of that shape; the buffer grows where it is too small."""
        count = math.prod(shape)
        buffer = self._buffers.get(at)
        if buffer is None or buffer.size < count:
            # To the next power of two, so that a rising load grows it a handful of times.
            rows = min(1 << (shape[0] - 1).bit_length(), max(self._max_batch_rows, shape[0]))
            buffer = self._buffers[at] = _aligned(spec.dtype, count // shape[0] * rows)
            # The old buffer would live on in its bindings.
            self._bound.clear()
        return buffer[:count].reshape(shape)


def _answers(outputs: Iterable[NamedTensor], rows: list[int]) -> list[dict[str, Tensor]]:
    """A copy of each request's rows of every output. A comprehension per answer would cost four times as much."""
    answers: list[dict[str, Tensor]] = [{} for _ in rows]
    for name, output in outputs:
        for answer, part in zip(answers, split(output, rows), strict=True):
            answer[name] = part
    return answers


def _short_of_rows(name: str, rows: int) -> RunFailed:
    # Never run on what an earlier request left in the buffer.
    return RunFailed(f'input "{name}" has fewer than {rows} rows')


def _named(specs: tuple[TensorSpec, ...], arrays: list[Tensor]) -> tuple[NamedTensor, ...]:
    return tuple((spec.name, array) for spec, array in zip(specs, arrays, strict=True))


def _row_shape(spec: TensorSpec, array: Tensor) -> tuple[int, ...]:
    declared = (spec.shape or ())[1:]
    return array.shape[1:] if -1 in declared else declared


def _input_bytes(request: dict[str, Tensor]) -> int:
    return sum(array.nbytes for array in request.values())


def _bytes(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * spec.dtype.numpy.itemsize


def _aligned(dtype: DType, count: int) -> Tensor:
    """Zeros that start on a cache line."""
    size_bytes = count * dtype.numpy.itemsize
    raw = np.zeros(size_bytes + _ALIGNMENT_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT_BYTES
    return raw[start : start + size_bytes].view(dtype.numpy)


def output_dims(signature: Signature) -> list[list[OutputDim]] | None:
    """Where a batchable model's output dimensions come from; None where they are not known before the run."""
    symbols = {
        name: (at, axis)
        for at, spec in enumerate(signature.inputs)
        for axis, name in enumerate(spec.dim_names)
        if name and axis > 0
    }
    found = [_spec_dims(spec, symbols) for spec in signature.outputs]
    known = [dims for dims in found if dims is not None]
    return known if len(known) == len(found) else None


def _spec_dims(spec: TensorSpec, symbols: dict[str, tuple[int, int]]) -> list[OutputDim] | None:
    if spec.shape is None:
        return None
    dims: list[OutputDim] = []
    for axis, dim in enumerate(spec.shape):
        if axis == 0:
            dims.append((0, 0))
        elif dim != -1:
            dims.append(dim)
        elif spec.dim_names and spec.dim_names[axis] in symbols:
            dims.append(symbols[spec.dim_names[axis]])
        else:
            return None
    return dims


def runner_for(session: Session, batchable: bool, max_batch_rows: int) -> Runner:
    """The fastest runner that is right for this model."""
    specs = (*session.signature.inputs, *session.signature.outputs)
    if any(spec.dtype is DType.STRING for spec in specs):
        return PlainRunner(session, batchable)
    if not batchable:
        fixed = all(spec.shape is not None and -1 not in spec.shape for spec in specs)
        small = fixed and sum(_bytes(spec, spec.shape or ()) for spec in specs) < IN_PLACE_BYTES
        return FixedRunner(session) if small else PlainRunner(session, batchable)
    dims = output_dims(session.signature)
    return PlainRunner(session, batchable) if dims is None else BoundRunner(session, max_batch_rows, dims)
