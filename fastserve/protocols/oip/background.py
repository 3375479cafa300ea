"""The rows that an explanation compares with: the request's own, or those of the model's configured dataset.

Thread: the explainer's, which waits for a dataset that is read again. Memory: a copy of `MAX_ROWS` rows.
"""

import threading

import numpy as np
from msgspec.structs import replace

from fastserve.datasets.mapping import plan
from fastserve.datasets.shelf import Datasets
from fastserve.datasets.table import Array, Column, Table
from fastserve.engine.lease import Lease
from fastserve.errors import FastServeError, InvalidRequest, quoted
from fastserve.protocols.oip.explain_settings import BACKGROUND, Settings
from fastserve.protocols.oip.plain import plain_plan
from fastserve.types import Tensor

MAX_ROWS = 100


def background_of(lease: Lease, settings: Settings, datasets: Datasets) -> dict[str, Tensor]:
    """At most `MAX_ROWS` rows of the model's inputs. Raises InvalidRequest where there are none, DatasetError."""
    if settings.background is not None:
        return _thinned(settings.background)
    name = lease.config.dataset
    if not name:
        raise InvalidRequest(
            f"an explanation needs rows to compare with: send some as {BACKGROUND}, or configure a dataset for model"
            f" {quoted(lease.model)}"
        )
    table = _sample(_table(datasets, name))
    if not table.rows:
        raise InvalidRequest(f"the dataset of this model has no rows to compare with; send some as {BACKGROUND}")
    known = plain_plan(lease)
    config = replace(lease.config, features=known.features) if known.wide else lease.config
    return plan(lease.signature, table, config, batchable=True).tensors(table, 0)


def _table(datasets: Datasets, name: str) -> Table:
    there = threading.Event()
    found: list[Table | FastServeError] = []

    def then(outcome: Table | FastServeError) -> None:
        found.append(outcome)
        there.set()

    datasets.use(name, then)
    there.wait()
    if isinstance(found[0], FastServeError):
        raise found[0]
    return found[0]


def _sample(table: Table) -> Table:
    """At most `MAX_ROWS` of its rows."""
    if table.rows <= MAX_ROWS:
        return table
    at = _spread(table.rows)
    columns = {
        name: Column(name, one.kind, one.values[at], None if one.missing is None else one.missing[at])
        for name, one in table.columns.items()
    }
    return Table(len(at), columns, table.time_column)


def _thinned(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """At most `MAX_ROWS` of the rows."""
    count = min((len(tensor) if tensor.ndim else 0) for tensor in inputs.values())
    if count <= MAX_ROWS:
        return inputs
    at = _spread(count)
    return {name: np.ascontiguousarray(tensor[at]) for name, tensor in inputs.items()}


def _spread(count: int) -> Array:
    """The places of `MAX_ROWS` rows, evenly spread."""
    return np.linspace(0, count - 1, MAX_ROWS).round().astype(np.intp)
