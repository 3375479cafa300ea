"""Columns to tensors: which column goes to which input, and the values of some rows.

Pure. Memory: a tensor is a copy of the rows asked for.
"""

import numpy as np
from msgspec import Struct

from fastserve.config import ModelConfig
from fastserve.datasets import casting
from fastserve.datasets.table import Column, Table
from fastserve.errors import DatasetError, quoted
from fastserve.types import DType, Signature, Tensor, TensorSpec

WINDOW_RANK = 3
ROWS_AT_A_TIME = 8192


class Source(Struct, frozen=True):
    """Where one input comes from: columns side by side, or one as it is."""

    spec: TensorSpec
    columns: tuple[str, ...]
    stacked: bool


class Mapping(Struct, frozen=True):
    """What a table of one schema is for one model. `window`: all rows make one tensor [1, lookback, variates]."""

    sources: tuple[Source, ...]
    rows_at_a_time: int
    window: bool = False
    spice: bool = False
    oldest: bool = False

    def starts(self, table: Table) -> range:
        """Where requests begin; none for a table without rows."""
        return (
            range(0, min(table.rows, 1), 1)
            if self.window
            else range(0, table.rows, self.rows_at_a_time or table.rows or 1)
        )

    def tensors(self, table: Table, start: int) -> dict[str, Tensor]:
        """The inputs of the request that begins at that row. Raises DatasetError."""
        if self.window:
            (source,) = self.sources
            return {source.spec.name: _window(self, source, table)}
        stop = min(start + self.rows_at_a_time, table.rows) if self.rows_at_a_time else table.rows
        return {source.spec.name: _rows(source, table, start, stop) for source in self.sources}


def plan(signature: Signature, table: Table, config: ModelConfig, *, batchable: bool) -> Mapping:
    """How such a table fills the model's inputs. Raises DatasetError where it does not."""
    inputs = signature.inputs
    if len(inputs) == 1 and inputs[0].shape is not None and len(inputs[0].shape) == WINDOW_RANK:
        return _window_plan(inputs[0], table, config)
    if not config.features and all(_fits(spec, table.columns.get(spec.name), len(inputs)) for spec in inputs):
        sources = tuple(Source(spec, (spec.name,), stacked=False) for spec in inputs)
    elif len(inputs) == 1:
        sources = (_side_by_side(inputs[0], table, config),)
    elif len(config.features) == len(inputs):
        names = _columns(inputs[0], table, config)
        sources = tuple(Source(spec, (name,), stacked=False) for spec, name in zip(inputs, names, strict=True))
    else:
        raise _missing(inputs, table)
    return Mapping(sources, _rows_at_a_time(inputs, table, batchable=batchable))


def _rows_at_a_time(inputs: tuple[TensorSpec, ...], table: Table, *, batchable: bool) -> int:
    """0: all at once, since rows may have to do with each other."""
    if batchable:
        return ROWS_AT_A_TIME
    fixed = {spec.shape[0] for spec in inputs if spec.shape} - {-1, 0}
    if len(fixed) != 1:
        return 0
    (rows,) = fixed
    if table.rows % rows:
        raise DatasetError(f"the model takes {rows} rows at a time, and the dataset has {table.rows}")
    return rows


def _fits(spec: TensorSpec, column: Column | None, inputs: int) -> bool:
    """Whether that column alone is that input."""
    if column is None or spec.shape is None:
        return column is not None and spec.shape is None
    if column.kind == "list":
        return len(spec.shape) == 2
    return len(spec.shape) == 1 or (len(spec.shape) == 2 and (spec.shape[1] == 1 or (spec.shape[1] < 0 and inputs > 1)))


def _side_by_side(spec: TensorSpec, table: Table, config: ModelConfig) -> Source:
    names = _columns(spec, table, config)
    if spec.shape is not None and len(spec.shape) == 1 and len(names) == 1:
        return Source(spec, names, stacked=False)
    if spec.shape is not None and len(spec.shape) != 2:
        raise DatasetError(
            f"columns fill inputs of the shape [N] or [N, k], and {quoted(spec.name)} has {list(spec.shape)}"
        )
    width = spec.shape[1] if spec.shape is not None else -1
    if width >= 0 and width != len(names):
        raise DatasetError(
            f"expected {width} columns for the input {quoted(spec.name)}, got {len(names)}: {', '.join(names[:50])}"
            " (features names those to take)"
        )
    return Source(spec, names, stacked=True)


def _columns(spec: TensorSpec, table: Table, config: ModelConfig) -> tuple[str, ...]:
    """Those that are features by their names, or all of the input's kind in their order."""
    if config.features:
        absent = [name for name in config.features if name not in table.columns]
        if absent:
            raise DatasetError(f"the dataset has no column {', '.join(map(quoted, absent[:20]))} (features)")
        return config.features
    kind = "text" if spec.dtype is DType.STRING else "number"
    names = tuple(name for name, one in table.columns.items() if one.kind == kind and name != table.time_column)
    if not names:
        raise DatasetError(f"the dataset has no column of {kind}s for the input {quoted(spec.name)}")
    return names


def _missing(inputs: tuple[TensorSpec, ...], table: Table) -> DatasetError:
    absent = [quoted(spec.name) for spec in inputs if not _fits(spec, table.columns.get(spec.name), len(inputs))]
    has = ", ".join([*table.columns][:50])
    return DatasetError(f"no column is (or fits) the input {', '.join(absent[:20])}; the columns are {has}")


def _window_plan(spec: TensorSpec, table: Table, config: ModelConfig) -> Mapping:
    assert spec.shape is not None
    if spec.shape[0] not in (1, -1):
        raise DatasetError(f"expected an input of the shape [1, lookback, variates], the model has {list(spec.shape)}")
    names = _columns(spec, table, config)
    variates = spec.shape[2]
    if variates not in (-1, len(names)):
        raise DatasetError(f"Number of variates {len(names)} does not match expected ({variates}) from model")
    spice = config.params.layout == "spice"
    oldest = (config.params.window or ("oldest" if spice else "latest")) == "oldest"
    return Mapping((Source(spec, names, stacked=True),), 0, window=True, spice=spice, oldest=oldest)


def _window(mapping: Mapping, source: Source, table: Table) -> Tensor:
    spec = source.spec
    assert spec.shape is not None
    columns = [table.columns[name] for name in source.columns]
    if mapping.spice:
        return _by_column(mapping, spec, columns)
    lookback = spec.shape[1] if spec.shape[1] >= 0 else table.rows
    if table.rows < lookback:
        raise DatasetError(f"the model looks at {lookback} rows, and the dataset has {table.rows}")
    start = 0 if mapping.oldest else table.rows - lookback
    return np.ascontiguousarray(_stacked(source, table, start, start + lookback)[np.newaxis])


def _by_column(mapping: Mapping, spec: TensorSpec, columns: list[Column]) -> Tensor:
    """Spice's layout: what each column has, missing values left out, one column behind the other."""
    assert spec.shape is not None
    present = [one if one.missing is None else _present(one) for one in columns]
    fewest = min(present, key=lambda one: len(one.values))
    lookback = spec.shape[1] if spec.shape[1] >= 0 else len(fewest.values)
    if len(fewest.values) < lookback:
        raise DatasetError(
            f"column {quoted(fewest.name)} has {len(fewest.values)} values, the model looks at {lookback}"
        )
    parts = []
    for one in present:
        start = 0 if mapping.oldest else len(one.values) - lookback
        parts.append(casting.cast(one, spec.dtype, start, start + lookback))
    return np.ascontiguousarray(np.concatenate(parts).reshape(1, lookback, len(columns)))


def _present(column: Column) -> Column:
    assert column.missing is not None
    return Column(column.name, column.kind, column.values[~column.missing])


def _rows(source: Source, table: Table, start: int, stop: int) -> Tensor:
    if source.stacked:
        return _stacked(source, table, start, stop)
    column = table.columns[source.columns[0]]
    values = casting.cast(column, source.spec.dtype, start, stop)
    wants_matrix = source.spec.shape is not None and len(source.spec.shape) == 2
    return values.reshape(-1, 1) if wants_matrix and values.ndim == 1 else values


def _stacked(source: Source, table: Table, start: int, stop: int) -> Tensor:
    found = np.empty((stop - start, len(source.columns)), source.spec.dtype.numpy)
    for at, name in enumerate(source.columns):
        values = casting.cast(table.columns[name], source.spec.dtype, start, stop)
        if values.ndim != 1:
            raise DatasetError(f"column {quoted(name)} holds lists, and stands beside others")
        found[:, at] = values
    return found
