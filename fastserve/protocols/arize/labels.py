"""A table's columns of labels, as the answers that rows keep.

Each kind of model has its own columns; a row with none of them set has no answer. Thread: any. Memory: a slice at a time.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fastserve.protocols.arize.columns import anything, numbers, place, text_lists, texts
from fastserve.protocols.arize.protojson import Mistake
from fastserve.protocols.arize.rows import Answer, composed
from fastserve.protocols.arize.table_schema import MULTI_CLASS, NUMERIC, RANKING, BoxColumns, Columns

SCALAR, NUMBERS, CLASSES, TEXTS, NESTED = "scalar", "numbers", "classes", "texts", "nested"
NUMBER_LISTS, PARAMS = "number lists", "params"
"""What a column of labels may hold: see `check_label_type`."""


MAX_PARAMS = 256


def used_columns(columns: Columns, model_type: int) -> dict[str, str]:
    """The columns of labels, and what each must hold; empty names left out."""
    several = model_type == MULTI_CLASS
    used = {
        columns.prediction_label: NUMBERS if model_type == NUMERIC else SCALAR,
        columns.prediction_score: CLASSES if several else NUMBERS,
        columns.actual_label: TEXTS if model_type == RANKING else (NUMBERS if model_type == NUMERIC else SCALAR),
        columns.actual_score: CLASSES if several else NUMBERS,
        columns.prediction_group_id: SCALAR,
        columns.rank: NUMBERS,
        columns.threshold_scores: CLASSES,
    }
    for boxes in (*_predicted_boxes(columns).values(), *_actual_boxes(columns).values()):
        if boxes is not None:
            used |= dict.fromkeys((boxes.coordinates, boxes.boxes, boxes.categories, boxes.scores), NESTED)
    used.pop("", None)
    return used


def check_label_type(kind: Any, wanted: str, name: str) -> None:
    """Raises Mistake for a column that is none of what it must be."""
    from pyarrow import types

    if types.is_null(kind):
        return
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    text = types.is_string(kind) or types.is_large_string(kind)
    items: Any = kind.value_type if types.is_list(kind) or types.is_large_list(kind) else None
    fits = {
        NUMBERS: number or types.is_boolean(kind),
        SCALAR: number or text or types.is_boolean(kind),
        TEXTS: text or (items is not None and (types.is_string(items) or types.is_large_string(items))),
        CLASSES: items is not None and types.is_struct(items) and {"class_name", "score"} <= _names(items),
        NESTED: items is not None and _is_shallow(items),
        NUMBER_LISTS: items is not None and (types.is_floating(items) or types.is_integer(items)),
        PARAMS: text or (types.is_struct(kind) and _is_flat(kind)),
    }
    if not fits[wanted]:
        raise Mistake(expected=_EXPECTED[wanted], got=str(kind), path=place(name))
    if wanted == CLASSES:
        check_label_type(items.field("class_name").type, SCALAR, name)
        check_label_type(items.field("score").type, NUMBERS, name)


_EXPECTED = {
    NUMBERS: "numbers",
    SCALAR: "texts, numbers or booleans",
    TEXTS: "texts or lists of them",
    CLASSES: "lists of class_name and score",
    NESTED: "lists of numbers or texts, or lists of those",
    NUMBER_LISTS: "lists of numbers",
    PARAMS: "texts, or structs of texts, numbers and booleans",
}


def _names(struct: Any) -> set[str]:
    return {struct.field(i).name for i in range(struct.num_fields)}


def _is_flat(struct: Any) -> bool:
    from pyarrow import types

    kinds = [struct.field(i).type for i in range(struct.num_fields)]
    is_value = (types.is_floating, types.is_integer, types.is_string, types.is_boolean)
    return len(kinds) <= MAX_PARAMS and all(any(test(kind) for test in is_value) for kind in kinds)


def _is_shallow(kind: Any) -> bool:
    """Values, or one more list of them."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    return bool(
        types.is_floating(kind) or types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)
    )


class Labels:
    """What rows of a table predict, and what happened; `model_type`: one of `table_schema`."""

    def __init__(self, columns: Columns, model_type: int) -> None:
        self._columns = columns
        self._model_type = model_type

    @property
    def predict(self) -> bool:
        """Whether any column says what was predicted."""
        columns = self._columns
        named = (columns.prediction_label, columns.prediction_score, columns.rank, columns.prediction_group_id)
        return any(named) or any(_predicted_boxes(columns).values())

    @property
    def have_actuals(self) -> bool:
        """Whether any column says what happened."""
        columns = self._columns
        return bool(columns.actual_label or columns.actual_score) or any(_actual_boxes(columns).values())

    def predicted(self, rows: Any) -> list[Answer | None]:
        """Of a slice of the table."""
        columns = self._columns
        for kind, boxes in _predicted_boxes(columns).items():
            if boxes is not None:
                return _boxes(rows, boxes, kind)
        if self._model_type == RANKING:
            return _rankings(rows, columns)
        if self._model_type == MULTI_CLASS:
            return _classes(rows, columns.prediction_score, columns.threshold_scores)
        return self._answers(rows, columns.prediction_label, columns.prediction_score)

    def happened(self, rows: Any) -> list[Answer | None]:
        """Of a slice of the table."""
        columns = self._columns
        for kind, boxes in _actual_boxes(columns).items():
            if boxes is not None:
                return _boxes(rows, boxes, kind)
        if self._model_type == RANKING:
            return _relevances(rows, columns)
        if self._model_type == MULTI_CLASS:
            return _actual_classes(rows, columns.actual_score)
        return self._answers(rows, columns.actual_label, columns.actual_score)

    def _answers(self, rows: Any, label: str, score: str) -> list[Answer | None]:
        scores = _column(rows, score, numbers)
        if self._model_type == NUMERIC:
            found = _column(rows, label, numbers)
            return [None if a is None else Answer(num=a, score=b) for a, b in zip(found, scores, strict=True)]
        categories = _column(rows, label, texts)
        return [
            None if a is None and b is None else Answer(cat=a, score=b) for a, b in zip(categories, scores, strict=True)
        ]


def _column(rows: Any, name: str, read: Any) -> list[Any]:
    """A column's values; None for each row where it is not there."""
    if not name:
        return [None] * int(rows.num_rows)
    values: list[Any] = read(rows.column(name))
    return values


def _rankings(rows: Any, columns: Columns) -> list[Answer | None]:
    groups = _column(rows, columns.prediction_group_id, texts)
    ranks = _column(rows, columns.rank, numbers)
    scores = _column(rows, columns.prediction_score, numbers)
    labels = _column(rows, columns.prediction_label, texts)
    found: list[Answer | None] = []
    for group, rank, score, label in zip(groups, ranks, scores, labels, strict=True):
        said = {
            "prediction_group_id": group,
            "rank": None if rank is None else int(rank),
            "prediction_score": score,
            "label": label,
        }
        said = {name: one for name, one in said.items() if one is not None}
        found.append(Answer(cat=label, score=score, json=composed("ranking", said)) if said else None)
    return found


def _relevances(rows: Any, columns: Columns) -> list[Answer | None]:
    labels = _column(rows, columns.actual_label, text_lists)
    scores = _column(rows, columns.actual_score, numbers)
    found: list[Answer | None] = []
    for values, score in zip(labels, scores, strict=True):
        said: dict[str, Any] = {} if values is None else {"category": {"values": values}}
        if score is not None:
            said["relevance_score"] = score
        sole = values[0] if values is not None and len(values) == 1 else None
        found.append(Answer(cat=sole, score=score, json=composed("ranking", said)) if said else None)
    return found


def _scores(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    return {
        str(one["class_name"]): float(one["score"] or 0) for one in entries if one and one["class_name"] is not None
    }


def _classes(rows: Any, scores: str, thresholds: str) -> list[Answer | None]:
    found: list[Answer | None] = []
    for given, limits in zip(_column(rows, scores, anything), _column(rows, thresholds, anything), strict=True):
        if given is None:
            found.append(None)
            continue
        by_class = _scores(given)
        if limits is not None:
            limit = _scores(limits)
            both = {
                name: {"prediction_score": one, "threshold_score": limit.get(name)} for name, one in by_class.items()
            }
            said: dict[str, Any] = {"multi_label": {"prediction_threshold_scores": both}}
            found.append(Answer(json=composed("multi_class", said)))
            continue
        best = max(by_class, key=by_class.__getitem__, default=None)
        said = {"single_label": {"prediction_scores": by_class}}
        score = None if best is None else by_class[best]
        found.append(Answer(cat=best, score=score, json=composed("multi_class", said)))
    return found


def _actual_classes(rows: Any, scores: str) -> list[Answer | None]:
    """The classes that a row has are those with a score of 1."""
    found: list[Answer | None] = []
    for given in _column(rows, scores, anything):
        if given is None:
            found.append(None)
            continue
        names = [name for name, score in _scores(given).items() if score == 1]
        sole = names[0] if len(names) == 1 else None
        found.append(Answer(cat=sole, json=composed("multi_class", {"actual_labels": names})))
    return found


def _predicted_boxes(columns: Columns) -> dict[str, BoxColumns | None]:
    return {
        "object_detection": columns.prediction_boxes,
        "semantic_segmentation_label": columns.prediction_segments,
        "prediction_instance_segmentation_label": columns.prediction_instances,
    }


def _actual_boxes(columns: Columns) -> dict[str, BoxColumns | None]:
    return {
        "object_detection": columns.actual_boxes,
        "semantic_segmentation_label": columns.actual_segments,
        "actual_instance_segmentation_label": columns.actual_instances,
    }


def _boxes(rows: Any, boxes: BoxColumns, kind: str) -> list[Answer | None]:
    members = {
        "coordinates": boxes.coordinates,
        "bbox_coordinates": boxes.boxes,
        "category": boxes.categories,
        "score": boxes.scores,
    }
    read = {member: _column(rows, name, anything) for member, name in members.items() if name}
    found: list[Answer | None] = []
    for i in range(rows.num_rows):
        lists = {member: values[i] for member, values in read.items() if values[i] is not None}
        if not lists:
            found.append(None)
            continue
        count = max(map(len, lists.values()))
        each = [{member: one[j] for member, one in lists.items() if j < len(one)} for j in range(count)]
        if kind == "object_detection":
            found.append(Answer(json=composed(kind, {"bounding_boxes": each})))
        else:
            found.append(Answer(json=composed("cv_label", {kind: {"polygons": each}})))
    return found
