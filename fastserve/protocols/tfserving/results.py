"""Outputs of classifiers and regressors to the `results` of classify and regress, as far as a model is one.

A classifier gives scores, floats `[examples, classes]`: alone; with as many labels, strings of that shape; or with one
label an example, strings or integers. Beside such a label, an output for each class will do, floats `[examples]`: what
scikit-learn's converter makes with zipmap = "columns". A regressor gives one float an example, and nothing else.
Thread: any; pure functions. Memory: a plan lives as long as its lease.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fastserve._ext import jsonwrite
from fastserve.errors import InvalidRequest
from fastserve.types import DType, Metadata, Signature, Tensor, TensorSpec, decode_classes

_LABELS = (DType.STRING, DType.INT64, DType.INT32)

_CLASSIFIERS = (
    "classify takes models with scores, a float output [examples, classes], alone or with an output of labels:"
    " strings of the same shape, or one string or integer for each example"
)
_REGRESSORS = "regress takes models with exactly one output, of floats [examples] or [examples, 1]"


class ResultPlan(Struct, frozen=True, gc=False):
    """Which outputs are the results. `names`: the classes' in JSON, where they are known. `refusal`: why there are none.

    `columns`: the outputs that are the scores side by side; empty where `scores` is.
    """

    scores: str = ""
    dtype: int = 0
    labels: str = ""
    names: tuple[bytes, ...] = ()
    refusal: str = ""
    columns: tuple[str, ...] = ()


def classify_plan(signature: Signature, metadata: Metadata, gives: str) -> ResultPlan:
    """How a model of that signature classifies. `gives`: its outputs in words."""
    scores = [spec for spec in signature.outputs if spec.dtype.is_float and _has_rank(spec, 2)]
    labels = [spec for spec in signature.outputs if spec.dtype in _LABELS and _may_be_labels(spec)]
    columns = _columns_plan(signature, labels, metadata)
    if columns is not None:
        return columns
    if len(scores) != 1 or len(scores) + len(labels) != len(signature.outputs) or len(labels) > 1:
        return ResultPlan(refusal=f"{_CLASSIFIERS}; this one gives {gives}")
    names = tuple(map(_quoted, decode_classes(metadata)))
    return ResultPlan(scores[0].name, int(scores[0].dtype), labels[0].name if labels else "", names)


def _columns_plan(signature: Signature, labels: list[TensorSpec], metadata: Metadata) -> ResultPlan | None:
    """The plan of a model with a label and an output for each class; None for others."""
    columns = [
        spec for spec in signature.outputs if spec.dtype.is_float and spec.shape is not None and len(spec.shape) == 1
    ]
    others = len(signature.outputs) - len(columns)
    if len(columns) < 2 or others != 1 or len(labels) != 1 or len({spec.dtype for spec in columns}) != 1:
        return None
    known = decode_classes(metadata)
    kind = "s" if labels[0].dtype is DType.STRING else "i"
    if len(known) != len(columns):  # the converter's own names: i0, i1 of integers, sred, sblue of strings
        known = tuple(spec.name[1:] for spec in columns if spec.name[:1] == kind)
    if len(known) != len(columns):
        return None
    outputs = tuple(spec.name for spec in columns)
    return ResultPlan("", int(columns[0].dtype), "", tuple(map(_quoted, known)), columns=outputs)


def regress_plan(signature: Signature, gives: str) -> ResultPlan:
    """How a model of that signature regresses. `gives`: its outputs in words."""
    first, *others = signature.outputs
    if others or not first.dtype.is_float or not (_has_rank(first, 1) or _is_column(first)):
        return ResultPlan(refusal=f"{_REGRESSORS}; this one gives {gives}")
    return ResultPlan(first.name, int(first.dtype))


def _has_rank(spec: TensorSpec, rank: int) -> bool:
    return spec.shape is None or len(spec.shape) == rank


def _is_column(spec: TensorSpec) -> bool:
    return spec.shape is not None and len(spec.shape) == 2 and spec.shape[1] in (1, -1)


def _may_be_labels(spec: TensorSpec) -> bool:
    return _has_rank(spec, 1) or _is_column(spec) or (_has_rank(spec, 2) and spec.dtype is DType.STRING)


def classes_of(outputs: dict[str, Tensor], plan: ResultPlan, count: int) -> bytes:
    """The pairs of label and score of every example, classes in the order of the model's scores."""
    scores = _side_by_side(outputs, plan, count) if plan.columns else outputs[plan.scores]
    if scores.ndim != 2 or len(scores) != count:
        raise _unfit(_CLASSIFIERS, plan.scores, scores, count)
    labels = outputs[plan.labels] if plan.labels else None
    if labels is not None and labels.shape not in ((count,), (count, 1), scores.shape):
        raise _unfit(_CLASSIFIERS, plan.labels, labels, count)
    classes = scores.shape[1]
    texts = jsonwrite.tensor(b"", scores.reshape(-1), plan.dtype, False, b"")[1:-1].split(b",") if classes else []
    if labels is not None and labels.shape == scores.shape and labels.dtype == object:
        return _pairs(_label_texts(labels.reshape(-1)), texts, count, classes)
    if len(plan.names) == classes:
        return _pairs(plan.names * count, texts, count, classes)
    known = [b'""'] * (count * classes)
    if labels is not None and classes:
        winners = np.arange(count) * classes + _best(scores, plan.dtype)
        for winner, label in zip(winners.tolist(), _label_texts(labels.reshape(-1)), strict=True):
            known[winner] = label
    return _pairs(known, texts, count, classes)


def _side_by_side(outputs: dict[str, Tensor], plan: ResultPlan, count: int) -> Tensor:
    for name in plan.columns:
        if outputs[name].shape != (count,):
            raise _unfit(_CLASSIFIERS, name, outputs[name], count)
    return np.stack([outputs[name] for name in plan.columns], axis=1)


def values_of(outputs: dict[str, Tensor], plan: ResultPlan, count: int) -> bytes:
    """One number for every example."""
    values = outputs[plan.scores]
    if values.shape not in ((count,), (count, 1)):
        raise _unfit(_REGRESSORS, plan.scores, values, count)
    return jsonwrite.tensor(b"", values.reshape(-1), plan.dtype, False, b"")


def _pairs(labels: Sequence[bytes], scores: list[bytes], count: int, classes: int) -> bytes:
    parts = [b""] * (2 * count * classes)
    parts[0::2] = labels
    parts[1::2] = scores
    row = b"[" + b",".join([b"[%s,%s]"] * classes) + b"]"
    return b"[" + b",".join([row] * count) % tuple(parts) + b"]"


def _best(scores: Tensor, dtype: int) -> Tensor:
    """Column of each row's highest score; NaN is the lowest."""
    numbers = (scores.astype(np.uint32) << 16).view(np.float32) if dtype == DType.BFLOAT16 else scores
    best: Tensor = np.where(np.isnan(numbers), -np.inf, numbers).argmax(axis=1)
    return best


def _label_texts(labels: Tensor) -> list[bytes]:
    plain: list[str | int] = labels.tolist()
    texts = {label: _quoted(label) for label in set(plain)}
    return [texts[label] for label in plain]


def _quoted(label: str | int) -> bytes:
    """A label as a JSON string; integers in decimal."""
    text = np.array(label if isinstance(label, str) else str(label), dtype=object)
    return jsonwrite.tensor(b"", text, DType.STRING, False, b"")


def _unfit(wanted: str, name: str, array: Tensor, count: int) -> InvalidRequest:
    got = f"shape {list(array.shape)} for {count} example" + ("" if count == 1 else "s")
    return InvalidRequest(f"{wanted}; this one answers {name} of {got}")
