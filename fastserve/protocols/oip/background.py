"""The rows that an explanation compares with: the request's own, or those of the model's configured dataset.

Thread: the explainer's. Memory: `MAX_ROWS` rows a version are kept.
"""

import logging
from collections.abc import Sequence

import numpy as np

from fastserve.config import DatasetConfig
from fastserve.datasets.reading import UnreadableDataset, read_columns
from fastserve.engine.lease import Lease
from fastserve.errors import InvalidRequest, quoted
from fastserve.protocols.oip.explain_settings import BACKGROUND, Settings
from fastserve.protocols.oip.plain import PlainPlan, plain_plan
from fastserve.types import DType, Tensor

NAME = "oip.background"
MAX_ROWS = 100

_log = logging.getLogger(__name__)


def background_of(lease: Lease, settings: Settings, datasets: Sequence[DatasetConfig]) -> dict[str, Tensor]:
    """At most `MAX_ROWS` rows of the model's inputs. Raises InvalidRequest where there are none."""
    if settings.background is not None:
        return _thinned(settings.background)
    kept: dict[str, Tensor] | None = lease.codecs.get(NAME)
    if kept is None:
        kept = lease.codecs[NAME] = _from_dataset(lease, datasets)
    return kept


def _from_dataset(lease: Lease, datasets: Sequence[DatasetConfig]) -> dict[str, Tensor]:
    source = next((one for one in datasets if one.name == lease.config.dataset), None)
    if source is None:
        raise InvalidRequest(
            f"an explanation needs rows to compare with: send some as {BACKGROUND}, or configure a dataset for model"
            f" {quoted(lease.model)}"
        )
    plan = plain_plan(lease)
    if not plan.features:
        raise InvalidRequest(
            f"the columns of this model have no names to find in its dataset; send rows as {BACKGROUND}"
        )
    try:
        columns = read_columns(source.source, plan.features, MAX_ROWS)
        return _inputs(columns, plan)
    except (UnreadableDataset, ValueError, TypeError, OverflowError) as error:
        _log.warning("dataset %s of model %s cannot be read: %s", source.name, lease.model, error)
        raise InvalidRequest(
            f"the dataset of this model cannot be read (the server's log says why); send rows as {BACKGROUND}"
        ) from error


def _inputs(columns: list[list[object]], plan: PlainPlan) -> dict[str, Tensor]:
    known = plan.inputs * len(columns) if plan.wide else plan.inputs
    arrays = [_array(values, DType(one.dtype)) for values, one in zip(columns, known, strict=True)]
    if plan.wide:
        return {known[0].name: np.ascontiguousarray(np.stack(arrays, axis=1))}
    return {
        one.name: array.reshape(-1, 1) if one.shape is not None and len(one.shape) == 2 else array
        for one, array in zip(known, arrays, strict=True)
    }


def _array(values: list[object], dtype: DType) -> Tensor:
    if dtype is DType.STRING:
        texts = np.empty(len(values), object)
        texts[:] = [str(value) for value in values]
        return texts
    if dtype is DType.BOOL:
        return np.array([str(value).strip().lower() in ("true", "1", "1.0") for value in values])
    if dtype.is_float:
        return np.array([float(str(value)) for value in values]).astype(dtype.numpy)
    return np.array([int(float(str(value))) for value in values]).astype(dtype.numpy)


def _thinned(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """At most `MAX_ROWS` of the rows, evenly spread."""
    count = min((len(tensor) if tensor.ndim else 0) for tensor in inputs.values())
    if count <= MAX_ROWS:
        return inputs
    places = np.linspace(0, count - 1, MAX_ROWS).astype(np.intp)
    return {name: np.ascontiguousarray(tensor[places]) for name, tensor in inputs.items()}
