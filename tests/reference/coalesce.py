"""The plain twin of ext/coalesce.pyx."""

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
