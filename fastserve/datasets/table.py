"""A dataset as it is held: columns of numbers, texts and times. Frozen: readers of an old one are not disturbed by a new one.

Thread: any. Memory: one array a column; `columns_of` takes what DuckDB gives over without copying numbers.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from fastserve.errors import DatasetError, quoted

Kind = Literal["number", "text", "time", "list", "other"]
Array = np.ndarray[Any, np.dtype[Any]]


class Column(Struct, frozen=True):
    """`missing`: where there is no value; None: nowhere. Lists of equal length are one array [rows, length]."""

    name: str
    kind: Kind
    values: Array
    missing: Array | None = None


class Table(Struct, frozen=True):
    """Rows in the order of `time_column`, if there is one."""

    rows: int
    columns: Mapping[str, Column]
    time_column: str | None = None

    @property
    def schema(self) -> tuple[tuple[str, str], ...]:
        """Names and kinds: tables that agree in them are given to models alike."""
        return tuple((column.name, column.kind) for column in self.columns.values())


def in_order(arrays: dict[str, Any], by: str) -> dict[str, Any]:
    """The rows in ascending order of that column, those without a value last.

    Rows that are equal there stay as they were: DuckDB's own sort has them in another order each time. One array at a time
    is copied, and none where they are in order already. Raises DatasetError where values cannot be compared.
    """
    keys, missing = np.ma.getdata(arrays[by]), np.ma.getmaskarray(arrays[by])
    try:
        if missing.any():
            present = np.flatnonzero(~missing)
            order = np.concatenate([present[np.argsort(keys[present], kind="stable")], np.flatnonzero(missing)])
        elif len(keys) < 2 or (keys[1:] >= keys[:-1]).all():
            return arrays
        else:
            order = np.argsort(keys, kind="stable")
    except TypeError:
        raise DatasetError(f"the rows cannot be ordered by the column {quoted(by)}: its values are mixed") from None
    for name in arrays:
        arrays[name] = arrays[name][order]
    return arrays


def columns_of(arrays: Mapping[str, Any]) -> dict[str, Column]:
    """Columns of arrays, masked where values are missing."""
    return {name: _column(name, array) for name, array in arrays.items()}


def _column(name: str, array: Any) -> Column:
    missing = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    if missing is not None and not missing.any():
        missing = None
    values = np.ma.getdata(array)
    if values.dtype.kind in "biuf":
        return Column(name, "number", values, missing)
    if values.dtype.kind in "Mm":
        return Column(name, "time", values, missing)
    present = values if missing is None else values[~missing]
    first = present[0] if len(present) else None
    if isinstance(first, str) and all(isinstance(value, str) for value in present):
        return Column(name, "text", values, missing)
    if isinstance(first, np.ndarray) and missing is None:
        return _lists(name, values)
    return Column(name, "other", values, missing)


def _lists(name: str, values: Array) -> Column:
    """Lists that are equally long, of numbers, as one array."""
    shapes = {np.shape(value) for value in values}
    plain = len(shapes) == 1 and all(value.dtype.kind in "biuf" for value in values)
    if (
        not plain
        or len(next(iter(shapes))) != 1
        or any(isinstance(v, np.ma.MaskedArray) and v.mask.any() for v in values)
    ):
        return Column(name, "other", values)
    return Column(name, "list", np.stack([np.ma.getdata(value) for value in values]))
