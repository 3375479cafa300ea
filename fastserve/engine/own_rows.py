"""The server's own predictions as the log keeps them: tensors to columns, columns to a frame, a frame to rows.

An input of one value a row is a feature under its name; one of several is as many features where its columns have names, or
are few, else a vector. What comes out is a number, a class with its score, or, where it is neither, kept as JSON.
Pure; any thread. Memory: one request's values as Python objects.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fastserve.limits import MAX_DIMENSIONS
from fastserve.store.frames import Frame
from fastserve.store.order import SEQ_STEP
from fastserve.store.rows import Row
from fastserve.types import DType, Signature, Tensor, TensorSpec

MAX_COLUMNS = 64
"""Of an input whose columns have no names; a wider one is a vector."""
MAX_SHOWN = 1024
"""Values of a row's outputs that are kept as JSON."""

PRODUCTION = "production"


class Shown(Struct, frozen=True):
    """What is known of a version, to read its tensors by."""

    model: str
    version: str
    signature: Signature
    batchable: bool
    features: tuple[str, ...]
    classes: tuple[str, ...]


class OwnRows(Struct, frozen=True, array_like=True):
    """One request's rows. Columns are lists as long as there are rows. Fields are added at the end, with a default."""

    model: str
    version: str
    prediction_id: str
    ts_ns: int
    count: int
    features: dict[str, list[Any]]
    nums: list[float] | None = None
    cats: list[str] | None = None
    scores: list[float] | None = None
    shown: list[dict[str, Any]] | None = None
    first: int = 0
    of: int = 1


class Origin(Struct, frozen=True):
    """Where rows come from: their request's id and time; `first`, `of`: their place among those that share the id."""

    prediction_id: str
    ts_ns: int
    first: int
    of: int


def own_rows(shown: Shown, origin: Origin, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> OwnRows:
    """Of a request's tensors, and its answer's."""
    count = rows_in(shown, inputs)
    nums, cats, scores, more = _answers(shown, outputs, count)
    return OwnRows(
        model=shown.model,
        version=shown.version,
        prediction_id=origin.prediction_id,
        ts_ns=origin.ts_ns,
        count=count,
        features=_features(shown, inputs, count),
        nums=nums,
        cats=cats,
        scores=scores,
        shown=more,
        first=origin.first,
        of=origin.of,
    )


def rows_in(shown: Shown, inputs: dict[str, Tensor]) -> int:
    """How many rows a request has: one, where rows are not coalesced."""
    first = next(iter(inputs.values()), None)
    return int(first.shape[0]) if shown.batchable and first is not None and first.ndim else 1


def is_kept(tensor: Tensor, count: int) -> bool:
    """Whether an input is small enough to be kept."""
    return bool(tensor.size <= MAX_DIMENSIONS * count)


def encode(rows: OwnRows) -> bytes:
    """A frame's payload."""
    return _ENCODER.encode(rows)


def read_own(frame: Frame) -> Iterator[Row]:
    """The rows of a frame of the kind OWN."""
    own = _DECODER.decode(frame.payload)
    for i in range(own.count):
        features = {name: column[i] for name, column in own.features.items() if column[i] is not None}
        said = (
            None if own.nums is None else own.nums[i],
            None if own.cats is None else own.cats[i],
            None if own.scores is None else own.scores[i],
            None if own.shown is None else _JSON.encode(own.shown[i]).decode(),
        )
        content = _ENCODER.encode((own.version, own.ts_ns, said, features))
        yield Row(
            space="",
            model_id=own.model,
            version=own.version,
            environment=PRODUCTION,
            batch_id="",
            prediction_id=row_id(own.prediction_id, own.first + i, own.of),
            ts_ns=own.ts_ns,
            ingest_ns=frame.ingest_ns,
            seq=frame.seq + i * SEQ_STEP,
            kind="prediction",
            label_num=said[0],
            label_cat=said[1],
            score=said[2],
            label_json=said[3],
            features=features,
            digest=hashlib.blake2b(content, digest_size=16).digest(),
        )


def row_id(prediction_id: str, index: int, of: int) -> str:
    """Of a request with one row its own; of several, theirs is followed by the row's index."""
    return prediction_id if of == 1 else f"{prediction_id}:{index}"


def _features(shown: Shown, inputs: dict[str, Tensor], count: int) -> dict[str, list[Any]]:
    features: dict[str, list[Any]] = {}
    specs = shown.signature.inputs
    single = shown.features if len(shown.features) == len(specs) else tuple(spec.name for spec in specs)
    for spec, own_name in zip(specs, single, strict=True):
        tensor = inputs.get(spec.name)
        if tensor is None or not tensor.size or not is_kept(tensor, count):
            continue
        table = _table(tensor, spec, count)
        width = table.shape[1]
        if width == 1:
            features[own_name] = _values(table[:, 0], spec)
        elif len(specs) == 1 and len(shown.features) == width:
            for i, name in enumerate(shown.features):
                features[name] = _values(table[:, i], spec)
        elif width <= MAX_COLUMNS:
            for i in range(width):
                features[f"{spec.name}[{i}]"] = _values(table[:, i], spec)
        else:
            features[spec.name] = _vectors(table, spec)
    return features


def _answers(
    shown: Shown, outputs: dict[str, Tensor], count: int
) -> tuple[list[float] | None, list[str] | None, list[float] | None, list[dict[str, Any]] | None]:
    """Numbers, classes, scores and what is kept as JSON; None for what there is not."""
    tables = [
        (spec, _table(outputs[spec.name], spec, count))
        for spec in shown.signature.outputs
        if spec.name in outputs and outputs[spec.name].size and outputs[spec.name].size % count == 0
    ]
    label = next(((spec, table) for spec, table in tables if table.shape[1] == 1 and not spec.dtype.is_float), None)
    scores = next((table for spec, table in tables if table.shape[1] > 1 and spec.dtype.is_float), None)
    classifies = len(tables) == (label is not None) + (scores is not None)  # there is nothing else
    if classifies and label and (scores is not None or shown.classes or label[0].dtype is DType.STRING):
        cats = _class_names(_values(label[1][:, 0], label[0]), shown.classes)
        return None, cats, None if scores is None else _best(scores), _by_class(scores, shown.classes)
    if classifies and scores is not None and len(shown.classes) == scores.shape[1]:
        cats = [shown.classes[i] for i in scores.argmax(axis=1).tolist()]
        return None, cats, _best(scores), _by_class(scores, shown.classes)
    if len(tables) == 1 and tables[0][1].shape[1] == 1:
        return _numbers(tables[0][1][:, 0]), None, None, None
    return None, None, None, _everything(tables, count)


def _class_names(labels: Sequence[Any], classes: tuple[str, ...]) -> list[str]:
    """Names for numbers, where the numbers are the classes' places and no class is called like one."""
    names = set(classes)
    return [
        classes[one] if type(one) is int and str(one) not in names and 0 <= one < len(classes) else str(one)
        for one in labels
    ]


def _best(scores: Tensor) -> list[float]:
    best: list[float] = scores.max(axis=1).astype(np.float64).tolist()
    return best


def _by_class(scores: Tensor | None, classes: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """Each class's score, where they have names."""
    if scores is None or len(classes) != scores.shape[1] or len(classes) > MAX_SHOWN:
        return None
    rows: list[list[float]] = scores.astype(np.float64).tolist()
    return [
        {
            "multi_class": {
                "single_label": {"prediction_scores": dict(zip(classes, map(_json_number, row), strict=True))}
            }
        }
        for row in rows
    ]


def _everything(tables: list[tuple[TensorSpec, Tensor]], count: int) -> list[dict[str, Any]] | None:
    """All outputs of each row, if they are few."""
    if not tables or sum(table.shape[1] for _, table in tables) > MAX_SHOWN:
        return None
    columns = {spec.name: [_values(row, spec) for row in table] for spec, table in tables}
    return [
        {"outputs": {name: [_json_number(one) for one in rows[i]] for name, rows in columns.items()}}
        for i in range(count)
    ]


def _json_number(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def _table(tensor: Tensor, spec: TensorSpec, count: int) -> Tensor:
    """A row for each row. bfloat16 is the upper half of a float."""
    table = tensor.reshape(count, -1)
    return (table.astype(np.uint32) << 16).view(np.float32) if spec.dtype is DType.BFLOAT16 else table


def _values(column: Tensor, spec: TensorSpec) -> list[Any]:
    if spec.dtype is DType.STRING:
        return [_text(one) for one in column.tolist()]
    if spec.dtype is DType.BOOL:
        return [str(one) for one in column.tolist()]
    if spec.dtype is DType.UINT64:
        return [one if one < 1 << 63 else float(one) for one in column.tolist()]
    values: list[Any] = column.tolist()
    return values


def _numbers(column: Tensor) -> list[float]:
    numbers: list[float] = column.astype(np.float64).tolist()
    return numbers


def _vectors(table: Tensor, spec: TensorSpec) -> list[Any]:
    if spec.dtype is DType.STRING:
        return [[_text(one) for one in row] for row in table.tolist()]
    vectors: list[Any] = table.astype(np.float64).tolist()
    return vectors


def _text(value: Any) -> str:
    """What was not UTF-8, and NUL, as escapes: the log's texts are neither."""
    return str(value).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(OwnRows)
_JSON = msgspec.json.Encoder(order="sorted")
