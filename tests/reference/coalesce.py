"""The plain twin of ext/coalesce.pyx."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastserve.types import Tensor


def gather(buffer: Tensor, parts: list[Tensor]) -> int:
    for part in parts:
        if part.ndim != buffer.ndim or part.shape[1:] != buffer.shape[1:] or part.dtype != buffer.dtype:
            raise ValueError
    rows = sum(len(part) for part in parts)
    if rows > len(buffer):
        raise ValueError
    if parts:
        buffer[:rows] = np.concatenate(parts)
    return rows


def split(output: Tensor, rows: list[int]) -> list[Tensor]:
    if any(count < 0 for count in rows) or sum(rows) != len(output):
        raise ValueError
    ends = np.cumsum(rows).tolist()
    return [output[end - count : end].copy() for count, end in zip(rows, ends, strict=True)]


class Bound:
    """As the native one; looks at every tensor before it copies any."""

    def __init__(
        self, run: Callable[[], None], inputs: tuple[tuple[str, Tensor], ...], outputs: tuple[tuple[str, Tensor], ...]
    ) -> None:
        self.run = run
        self.inputs = inputs
        self.outputs = outputs

    def answer(self, request: dict[str, Any]) -> dict[str, Tensor] | None:
        if not all(_fills(request.get(name), buffer) for name, buffer in self.inputs):
            return None
        for name, buffer in self.inputs:
            buffer[...] = request[name]
        self.run()
        return {name: buffer.copy() for name, buffer in self.outputs}


def _fills(item: Any, buffer: Tensor) -> bool:
    if not isinstance(item, np.ndarray) or not item.flags.c_contiguous:
        return False
    return item.shape == buffer.shape and item.dtype == buffer.dtype


class RowShapes:
    """As the native one, by sets."""

    def __init__(self, inputs: tuple[tuple[str, Any, tuple[int, ...]], ...]) -> None:
        self.inputs = {name: (np.dtype(dtype), shape) for name, dtype, shape in inputs}

    def rows(self, tensors: dict[str, Any]) -> int:
        if set(tensors) != set(self.inputs) or not all(isinstance(item, np.ndarray) for item in tensors.values()):
            return -1
        if any((tensors[name].dtype, tensors[name].shape[1:]) != row for name, row in self.inputs.items()):
            return -1
        # A scalar has no rows, whatever its type.
        rows = {tensor.shape[:1] for tensor in tensors.values()}
        return rows.pop()[0] if len(rows) == 1 and () not in rows else -1
