"""A column's values as an input's type, or why they cannot be. Nothing is rounded to an integer or wrapped around.

Pure. Memory: copies the rows asked for.
"""

from typing import Any

import numpy as np

from fastserve.datasets.table import Array, Column
from fastserve.errors import DatasetError, quoted
from fastserve.types import DType, Tensor


def cast(column: Column, dtype: DType, start: int, stop: int) -> Tensor:
    """Rows start to stop. Raises DatasetError naming column and row."""
    wanted = "text" if dtype is DType.STRING else "number"
    if column.kind not in (wanted, "list" if wanted == "number" else wanted):
        raise DatasetError(f"column {quoted(column.name)} holds {_KINDS[column.kind]}, the input takes {dtype.name}")
    values = column.values[start:stop]
    missing = None if column.missing is None else column.missing[start:stop]
    if dtype.is_float:
        return _floats(values, missing, dtype)
    if missing is not None and missing.any():
        raise _at(column, start, int(missing.argmax()), "has no value", dtype)
    if dtype is DType.STRING:
        return values.copy()
    return _whole(column, values, dtype, start)


def _floats(values: Array, missing: Array | None, dtype: DType) -> Tensor:
    """Without a value: NaN. Beyond the type's range: infinite."""
    with np.errstate(over="ignore"):
        found = values.astype(np.float32 if dtype is DType.BFLOAT16 else dtype.numpy)
    if missing is not None:
        found[missing] = np.nan
    return _bfloat16(found) if dtype is DType.BFLOAT16 else np.ascontiguousarray(found)


def _bfloat16(values: Array) -> Tensor:
    """The upper halves, rounded to even."""
    bits = values.view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _whole(column: Column, values: Array, dtype: DType, start: int) -> Tensor:
    low, high = (0, 1) if dtype is DType.BOOL else _range(dtype)
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            # The upper bound of 64 bits is no float: the power of two above it is, and is one too many.
            fits = (values == np.floor(values)) & (values >= low) & (values < float(high) + (1 if high < 2**53 else 0))
    else:
        fits = np.ones(values.shape, bool) if values.dtype.kind == "b" else _between(values, low, high)
    if not fits.all():
        flat = int((~fits).ravel().argmax())
        row = flat // (values.shape[1] if values.ndim == 2 else 1)
        raise _at(column, start, row, f"is {values.ravel()[flat]}", dtype)
    return np.ascontiguousarray(values.astype(dtype.numpy))


def _between(values: Array, low: int, high: int) -> Array:
    own = np.iinfo(values.dtype)
    fits = np.ones(values.shape, bool)
    if own.min < low:
        fits &= values >= low
    if own.max > high:
        fits &= values <= high
    return fits


def _range(dtype: DType) -> tuple[int, int]:
    limits: Any = np.iinfo(dtype.numpy)
    return int(limits.min), int(limits.max)


def _at(column: Column, start: int, row: int, what: str, dtype: DType) -> DatasetError:
    return DatasetError(f"column {quoted(column.name)} {what} in row {start + row}, the input takes {dtype.name}")


_KINDS = {"number": "numbers", "text": "text", "time": "times", "list": "lists", "other": "mixed values"}
