"""Does a request fit its model? Asked before batching, so that a bad request fails alone.

Thread: any. Memory: looks at shapes only, never at elements.
"""

from typing import Any

import numpy as np

from fastserve._ext.coalesce import RowShapes
from fastserve.errors import InvalidRequest, InvalidTensor, quoted
from fastserve.types import DType, InferRequest, Signature, Tensor, TensorSpec


class Validator:
    """The checks of one signature, laid out once at load."""

    def __init__(self, signature: Signature, batchable: bool, example_row_bytes: int) -> None:
        self.fixed_rows: bool = all(_row_is_fixed(spec, batchable) for spec in signature.inputs)
        self._shapes = _row_shapes(signature) if batchable and self.fixed_rows else None
        self._example_row_bytes = max(1, example_row_bytes)
        self._inputs = tuple(_InputCheck(spec, batchable) for spec in signature.inputs)
        self._names = tuple(spec.name for spec in signature.inputs)
        self._outputs = frozenset(spec.name for spec in signature.outputs)
        self._batchable = batchable

    def rows(self, request: InferRequest) -> int:
        """Rows of the request: the length of axis 0 where rows may be coalesced, else 1.

        Raises InvalidRequest for missing or unknown names, InvalidTensor for a dtype, rank or dimension that does not fit.
        """
        inputs = request.inputs
        if self._shapes is not None:
            rows = self._shapes.rows(inputs)
            if rows >= 0:
                if request.outputs is not None:
                    self._check_outputs(request.outputs)
                return rows
        return self._checked_rows(request, inputs)

    def _checked_rows(self, request: InferRequest, inputs: dict[str, Tensor]) -> int:
        """`rows` step by step, for signatures with free dimensions, and to say what is wrong."""
        if len(inputs) != len(self._inputs):
            raise self._wrong_names(inputs)
        rows = -1
        for check in self._inputs:
            tensor = inputs.get(check.name)
            if tensor is None:
                raise self._wrong_names(inputs)
            check.check(tensor)
            if self._batchable:
                if rows >= 0 and tensor.shape[0] != rows:
                    raise self._unequal_rows(inputs)
                rows = tensor.shape[0]
        if request.outputs is not None:
            self._check_outputs(request.outputs)
        return rows if self._batchable else 1

    def bucket(self, inputs: dict[str, Tensor]) -> object:
        """What must be equal for requests to share a run: the shapes of their rows, where the signature leaves them free."""
        if self.fixed_rows:
            return None
        return tuple(inputs[name].shape[1:] for name in self._names)

    def size(self, inputs: dict[str, Tensor], rows: int) -> int:
        """The request's size in rows as large as the example's: `rows` itself where a row's shape is fixed."""
        if self.fixed_rows:
            return rows
        return -(-sum(tensor.nbytes for tensor in inputs.values()) // self._example_row_bytes)

    def _check_outputs(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self._outputs:
                raise InvalidRequest(f"the model has no output {quoted(name)}; it has {_listed(sorted(self._outputs))}")

    def _wrong_names(self, inputs: dict[str, Tensor]) -> InvalidRequest:
        missing = [name for name in self._names if name not in inputs]
        unknown = [name for name in inputs if name not in self._names]
        said = [f"missing {_listed(missing)}"] if missing else []
        said += [f"unknown {_listed(unknown)}"] if unknown else []
        return InvalidRequest(f"the model takes the inputs {_listed(list(self._names))}: {', '.join(said)}")

    def _unequal_rows(self, inputs: dict[str, Tensor]) -> InvalidRequest:
        sizes = ", ".join(f"{name}: {inputs[name].shape[0]}" for name in self._names)
        return InvalidRequest(f"all inputs must have the same number of rows (first dimension), got {sizes}")


class _InputCheck:
    """One input's dtype, rank and fixed dimensions."""

    __slots__ = ("_dtype", "_fixed", "_rank", "_spec", "name")

    def __init__(self, spec: TensorSpec, batchable: bool) -> None:
        self.name = spec.name
        self._spec = spec
        self._dtype: np.dtype[Any] = spec.dtype.numpy
        shape = spec.shape
        self._rank = -1 if shape is None else len(shape)
        first_free = 1 if batchable else 0
        self._fixed = tuple((axis, size) for axis, size in enumerate(shape or ()) if size >= 0 and axis >= first_free)

    def check(self, tensor: Tensor) -> None:
        if tensor.dtype != self._dtype:
            raise InvalidTensor(expected=self._spec.dtype.name, got=str(tensor.dtype), path=self.name)
        shape = tensor.shape
        if self._rank >= 0:
            if len(shape) != self._rank:
                raise self._wrong_shape(shape)
            for axis, size in self._fixed:
                if shape[axis] != size:
                    raise self._wrong_shape(shape)

    def _wrong_shape(self, shape: tuple[int, ...]) -> InvalidTensor:
        expected = f"shape {list(self._spec.shape or ())} ({DType(self._spec.dtype).name})"
        return InvalidTensor(expected=expected, got=f"shape {list(shape)}", path=self.name)


def _row_is_fixed(spec: TensorSpec, batchable: bool) -> bool:
    """Whether every request's row (or whole tensor, where rows are not coalesced) has the same shape."""
    return spec.shape is not None and all(size >= 0 for size in spec.shape[1 if batchable else 0 :])


def _row_shapes(signature: Signature) -> RowShapes:
    return RowShapes(tuple((spec.name, spec.dtype.numpy, (spec.shape or ())[1:]) for spec in signature.inputs))


def _listed(names: list[str]) -> str:
    return ", ".join(quoted(name) for name in names[:20]) + (", ..." if len(names) > 20 else "")
