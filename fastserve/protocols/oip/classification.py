"""An output as its best classes: `score:index` or `score:index:label`, best first, as strings.

Pure.
"""

from math import prod

import numpy as np
from msgspec import Struct

from fastserve.errors import InvalidRequest
from fastserve.limits import MAX_CLASSES
from fastserve.types import DType, Tensor

UNRANKED = frozenset({int(DType.STRING), int(DType.BOOL)})
"""Types whose elements are no scores."""


class Ranking(Struct, frozen=True):
    """How many classes of an output are wanted, and what they are called as far as that is known.

    `dtype`: of the scores. `batched`: each row is ranked for itself.
    """

    most: int
    dtype: int
    labels: tuple[str, ...]
    batched: bool


def ranked(scores: Tensor, ranking: Ranking) -> Tensor:
    """The strings; of shape [rows, classes], or [classes] where there are no rows.

    Raises InvalidRequest for more than MAX_CLASSES of them.
    """
    rows = scores.shape[0] if ranking.batched else 1
    count = prod(scores.shape[1:]) if ranking.batched else scores.size
    most = min(ranking.most, count)
    if rows * most > MAX_CLASSES:
        raise InvalidRequest(
            f"classification: {rows} rows of {most} classes are more than {MAX_CLASSES} strings; ask for fewer"
        )
    table = _numbers(scores, ranking.dtype).reshape(rows, count)
    order = _best_first(table)[:, :most]
    best = np.take_along_axis(table, order, axis=1)
    labels = ranking.labels if len(ranking.labels) <= count else ()
    strings = np.empty((rows, most), object)
    for row, (values, places) in enumerate(zip(best.tolist(), order.tolist(), strict=True)):
        strings[row] = [_text(value, place, labels) for value, place in zip(values, places, strict=True)]
    return strings if ranking.batched else strings.reshape(most)


def _numbers(scores: Tensor, dtype: int) -> Tensor:
    if dtype == DType.BFLOAT16:  # the upper half of a float
        return (scores.astype(np.uint32) << 16).view(np.float32)
    return scores


def _best_first(table: Tensor) -> Tensor:
    """Places by falling value, equal ones by place, NaN last."""
    if table.dtype.kind == "f":
        return np.argsort(-table, axis=1, kind="stable")
    # The negative of the least integer, or of an unsigned one, is none.
    order: Tensor = table.shape[1] - 1 - np.argsort(table[:, ::-1], axis=1, kind="stable")
    return order[:, ::-1]


def _text(value: float, place: int, labels: tuple[str, ...]) -> str:
    score = f"{value:f}" if isinstance(value, float) else str(value)
    return f"{score}:{place}:{labels[place]}" if place < len(labels) else f"{score}:{place}"
