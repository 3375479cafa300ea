"""Requests to runs: rows of many requests into bound buffers, outputs back to each; and the plain path beside it.

Thread: a runner belongs to one at a time. Memory: BoundRunner owns its buffers, PlainRunner has none; answers are always
arrays of their own.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import numpy as np

from fastserve._ext.coalesce import gather, split
from fastserve.backends.base import Runner
from fastserve.errors import FastServeError, RunFailed, RunRefused
from fastserve.types import Batching, DType, Signature, Tensor, TensorSpec

# A binding is a few kB; more shapes than this at once are rare, and binding anew costs about 15 us.
MAX_BINDINGS = 128
# Larger tensors are run in place: nothing that big is copied or kept for a client's sake.
MAX_BOUND_BYTES = 1 << 28
_ALIGNMENT_BYTES = 64

NamedTensor = tuple[str, Tensor]
OutputDim = int | tuple[int, int]
"""A dimension of an output: a number, or (input, axis) where it is found."""


class Session(Protocol):
    """What runners need of a session; shared by threads. `errors`: what a bound run may raise."""

    signature: Signature
    errors: tuple[type[Exception], ...]

    def run(self, feed: dict[str, Tensor]) -> list[Tensor]:
        """Run once on arrays as they are; raises RunRefused or RunFailed."""
        ...

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Callable[[], None]:
        """Bind these arrays to all inputs and outputs; the answer runs once on what they hold."""
        ...


class PlainRunner:
    """Runs on the requests' own arrays: for strings, unknown shapes, and what is too large to keep buffers for."""

    def __init__(self, session: Session, batchable: bool) -> None:
        self._session = session
        self._names = tuple(spec.name for spec in session.signature.inputs)
        self._outputs = tuple(spec.name for spec in session.signature.outputs)
        self._batchable = batchable

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer each request; several are concatenated first."""
        if len(requests) == 1:
            return [dict(zip(self._outputs, self._checked(requests[0], rows[0]), strict=True))]
        feed = {name: np.concatenate([request[name] for request in requests]) for name in self._names}
        columns = [split(output, rows) for output in self._checked(feed, sum(rows))]
        return [dict(zip(self._outputs, parts, strict=True)) for parts in zip(*columns, strict=True)]

    def _checked(self, feed: dict[str, Tensor], rows: int) -> list[Tensor]:
        try:
            outputs = self._session.run(feed)
        except FastServeError as error:
            if self._batchable and rows == 0:
                raise RunRefused(f"the model takes no empty batch: {error}") from error
            raise
        if self._batchable:
            for name, output in zip(self._outputs, outputs, strict=True):
                if output.ndim == 0 or len(output) != rows:
                    raise RunFailed(f'output "{name}" has shape {list(output.shape)} for {rows} rows')
        return outputs


class _Bound:
    """Prefixes of a runner's buffers, bound: fill `inputs`, call `run`, read `outputs`."""

    __slots__ = ("inputs", "outputs", "run")

    def __init__(
        self, run: Callable[[], None], inputs: tuple[NamedTensor, ...], outputs: tuple[NamedTensor, ...]
    ) -> None:
        self.run = run
        self.inputs = inputs
        self.outputs = outputs


class BoundRunner:
    """Runs on buffers bound once per number of rows (and per row shape, where that is free)."""

    def __init__(
        self, session: Session, batchable: bool, max_batch_rows: int, dims: Sequence[Sequence[OutputDim]]
    ) -> None:
        self._session = session
        self._errors = session.errors
        self._batchable = batchable
        self._max_batch_rows = max_batch_rows
        self._dims = dims
        self._free = tuple(spec.name for spec in session.signature.inputs if batchable and -1 in (spec.shape or ())[1:])
        self._plain = PlainRunner(session, batchable)
        self._buffers: dict[int, Tensor] = {}
        self._bound: dict[Hashable, _Bound] = {}

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer each request from one run."""
        alone = len(requests) == 1
        total = rows[0] if alone else sum(rows)
        key = (total, *[requests[0][name].shape[1:] for name in self._free]) if self._free else total
        bound = self._bound.get(key) or self._bind(key, requests[0], total)
        if bound is None:
            return self._plain.run(requests, rows)
        for name, buffer in bound.inputs:
            self._fill(buffer, [request[name] for request in requests])
        try:
            bound.run()
        except self._errors:
            # A bound run reports every error alike; the plain one says whose fault it was, or answers after all where
            # the output's shape was not the declared one.
            return self._plain.run(requests, rows)
        if alone:
            return [{name: buffer.copy() for name, buffer in bound.outputs}]
        columns = [(name, split(buffer, rows)) for name, buffer in bound.outputs]
        return [{name: parts[at] for name, parts in columns} for at in range(len(requests))]

    def _fill(self, buffer: Tensor, parts: list[Tensor]) -> None:
        if buffer.ndim == 0:
            buffer[...] = parts[0]
        elif gather(buffer, parts) != len(buffer):
            # Never run on what an earlier request left in the buffer.
            raise RunFailed(f"expected {len(buffer)} rows, got fewer")

    def _bind(self, key: Hashable, request: dict[str, Tensor], rows: int) -> _Bound | None:
        """Bind prefixes of the buffers for this many rows; None where that is not worth it."""
        signature = self._session.signature
        shapes = [
            (rows, *request[spec.name].shape[1:]) if self._batchable else spec.shape or () for spec in signature.inputs
        ]
        results = [
            tuple(dim if isinstance(dim, int) else shapes[dim[0]][dim[1]] for dim in dims) for dims in self._dims
        ]
        wanted = [*zip(signature.inputs, shapes, strict=True), *zip(signature.outputs, results, strict=True)]
        if (self._batchable and rows == 0) or max(_bytes(spec, shape) for spec, shape in wanted) > MAX_BOUND_BYTES:
            return None
        arrays = [self._prefix(at, spec, shape) for at, (spec, shape) in enumerate(wanted)]
        inputs, outputs = arrays[: len(shapes)], arrays[len(shapes) :]
        bound = _Bound(
            self._session.bind(inputs, outputs), _named(signature.inputs, inputs), _named(signature.outputs, outputs)
        )
        if len(self._bound) >= MAX_BINDINGS:
            del self._bound[next(iter(self._bound))]
        self._bound[key] = bound
        return bound

    def _prefix(self, at: int, spec: TensorSpec, shape: tuple[int, ...]) -> Tensor:
        """The first elements of buffer `at` as an array of that shape; the buffer grows where it is too small."""
        count = math.prod(shape)
        buffer = self._buffers.get(at)
        if buffer is None or buffer.size < count:
            rows = shape[0] if self._batchable else 1
            # To the next power of two, so that a rising load binds a handful of times.
            capacity = min(1 << (rows - 1).bit_length(), max(self._max_batch_rows, rows))
            buffer = self._buffers[at] = _aligned(spec.dtype, count // rows * capacity)
            self._bound.clear()
        return buffer[:count].reshape(shape)


def _named(specs: tuple[TensorSpec, ...], arrays: list[Tensor]) -> tuple[NamedTensor, ...]:
    return tuple((spec.name, array) for spec, array in zip(specs, arrays, strict=True))


def _bytes(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * spec.dtype.numpy.itemsize


def _aligned(dtype: DType, count: int) -> Tensor:
    """Zeros that start on a cache line."""
    size_bytes = count * dtype.numpy.itemsize
    raw = np.zeros(size_bytes + _ALIGNMENT_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT_BYTES
    return raw[start : start + size_bytes].view(dtype.numpy)


def output_dims(signature: Signature, batching: Batching) -> list[list[OutputDim]] | None:
    """Where each output's dimensions come from; None where they are not known before the run, or cannot be bound."""
    if any(spec.dtype is DType.STRING or spec.shape is None for spec in (*signature.inputs, *signature.outputs)):
        return None
    if not batching.batchable and any(-1 in (spec.shape or ()) for spec in signature.inputs):
        return None
    symbols = {
        name: (at, axis)
        for at, spec in enumerate(signature.inputs)
        for axis, name in enumerate(spec.dim_names)
        if name and axis > 0
    }
    found = [_spec_dims(spec, batching.batchable, symbols) for spec in signature.outputs]
    known = [dims for dims in found if dims is not None]
    return known if len(known) == len(found) else None


def _spec_dims(spec: TensorSpec, batchable: bool, symbols: dict[str, tuple[int, int]]) -> list[OutputDim] | None:
    dims: list[OutputDim] = []
    for axis, dim in enumerate(spec.shape or ()):
        if batchable and axis == 0:
            dims.append((0, 0))
        elif dim != -1:
            dims.append(dim)
        elif spec.dim_names and spec.dim_names[axis] in symbols:
            dims.append(symbols[spec.dim_names[axis]])
        else:
            return None
    return dims


def runner_for(session: Session, batching: Batching, max_batch_rows: int) -> Runner:
    """The fastest runner that is right for this model."""
    dims = output_dims(session.signature, batching)
    if dims is None:
        return PlainRunner(session, batching.batchable)
    return BoundRunner(session, batching.batchable, max_batch_rows, dims)
