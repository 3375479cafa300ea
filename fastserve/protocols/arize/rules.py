"""Whether a record may be kept: the checks of the contract's table in its order, with its messages, then our own.

Pure. What a check costs is counted: they run for each record, on a door's thread.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from fastserve.limits import (
    MAX_DIMENSIONS,
    MAX_EMBEDDINGS,
    MAX_ID_CHARS,
    MAX_NAME_CHARS,
    MAX_TAG_CHARS,
    MAX_VALUES,
)
from fastserve.protocols.arize.messages import EMBEDDING, INVALID_FEATURE, KINDS, LABEL_KINDS
from fastserve.protocols.arize.protojson import Mistake, Read, below, double, int64, real
from fastserve.protocols.arize.record import Actual, Embedding, Importances, Label, Prediction, Record, Value, Values
from fastserve.protocols.arize.times import parse_ns

NO_PART = "log must include prediction or actual"
BAD_TIME = "timestamp must range from now back to T-{days} days"
AHEAD = "timestamp must not be ahead of now"

_DAY_NS = 86_400 * 1_000_000_000
_SOLE = len(KINDS) - 1
_SOLE_LABEL = len(LABEL_KINDS) - 1
_SHORT_NATURAL = re.compile("0|[1-9][0-9]{0,17}").fullmatch
"""Whatever has so few digits is an int64; one that begins with a nought is no number in JSON."""


class Limits(Struct, frozen=True):
    """How old a record's time may be, and how far ahead. `max_age_days` 0: as old as it likes."""

    max_age_days: int = 90
    max_ahead_ns: int = 60 * 1_000_000_000

    def check(self, ts_ns: int, now_ns: int, path: str) -> None:
        """Raises Mistake for a time outside."""
        too_old = self.max_age_days and ts_ns < now_ns - self.max_age_days * _DAY_NS
        if too_old or ts_ns > now_ns + self.max_ahead_ns:
            raise Mistake(
                expected=f"a time from {self.max_age_days or 'any number of'} days ago until now",
                got=f"one of {(now_ns - ts_ns) / _DAY_NS:.1f} days ago",
                path=path,
                message=BAD_TIME.format(days=self.max_age_days) if self.max_age_days else AHEAD,
            )


def check(record: Record, now_ns: int, limits: Limits, path: str = "$") -> None:
    """Raises Mistake for the first thing that is wrong."""
    prediction, actual, importances = record.prediction, record.actual, record.feature_importances
    if prediction is None and actual is None and importances is None:
        raise Mistake(
            expected="prediction, actual or feature_importances", got="none of them", path=path, message=NO_PART
        )
    embeddings = 0
    if prediction is not None:
        embeddings = _check_values(prediction.features, path, "prediction.features")
        embeddings += _check_values(prediction.tags, path, "prediction.tags", MAX_TAG_CHARS)
    if actual is not None:
        embeddings += _check_values(actual.tags, path, "actual.tags", MAX_TAG_CHARS)
    if embeddings > MAX_EMBEDDINGS:
        raise Mistake(expected=f"at most {MAX_EMBEDDINGS} embeddings", got=str(embeddings), path=path)
    if prediction is not None:
        _check_prediction(prediction, now_ns, limits, path)
    if actual is not None:
        _check_actual(actual, now_ns, limits, path)
    if importances is not None:
        _check_importances(importances, now_ns, limits, path)
    _check_names(record, path)


def _check_values(values: Values | None, path: str, field: str, max_chars: int = 0) -> int:
    """Of features or tags. Answers how many are embeddings."""
    if not values:
        return 0
    _check_count(values, path, field)
    embeddings = 0
    for name, value in values.items():
        if len(name) > MAX_NAME_CHARS:
            raise _too_long("a name", MAX_NAME_CHARS, len(name), f"{path}.{field}")
        if astuple(value).count(None) != _SOLE:
            raise _no_kind(value, _place(path, field, name))
        number, whole = value.double, value.int
        if number is not None:
            if type(number) is str and real(number) is None:
                _told_by(double, number, path, field, name, "double")
        elif whole is not None:
            if not (type(whole) is str and _SHORT_NATURAL(whole)):
                _told_by(int64, whole, path, field, name, "int")
        else:
            embeddings += value.embedding is not None
            _check_other(value, path, field, name, max_chars)
    return embeddings


def _check_other(value: Value, path: str, field: str, name: str, max_chars: int) -> None:
    """What is no number; lists of texts are what they are."""
    text = value.string
    if text is not None:
        if max_chars and len(text) > max_chars:
            raise _too_long("a tag", max_chars, len(text), _place(path, field, name))
    elif value.embedding is not None:
        check_embedding(value.embedding, f"{_place(path, field, name)}.embedding")
    elif value.dictionary is not None:
        place = f"{_place(path, field, name)}.dictionary.values"
        _check_count(value.dictionary.values, place, "")
        for key, number in value.dictionary.values.items():
            if type(number) is not float:  # the tables have made numbers of texts already, NaN among them
                double(number, below(place, key))


def check_embedding(embedding: Embedding, path: str) -> None:
    """Its vector's length and numbers, and its raw text's shape."""
    vector = embedding.vector
    if len(vector) > MAX_DIMENSIONS:
        raise Mistake(expected=f"at most {MAX_DIMENSIONS} dimensions", got=str(len(vector)), path=f"{path}.vector")
    for i, number in enumerate(vector):
        if type(number) is not float:
            double(number, f"{path}.vector[{i}]")
    if embedding.raw_data is not None:
        EMBEDDING({"raw_data": embedding.raw_data}, path)


def _check_prediction(prediction: Prediction, now_ns: int, limits: Limits, path: str) -> None:
    _check_label(prediction.prediction_label, path, "prediction.prediction_label")
    _check_label(prediction.label, path, "prediction.label")
    if prediction.timestamp:
        place = f"{path}.prediction.timestamp"
        limits.check(parse_ns(prediction.timestamp, place), now_ns, place)
    _check_id(prediction.model_version, path, "prediction.model_version")
    if prediction.llm_fields is not None:
        _check_count(prediction.llm_fields.get("llm_params", {}), path, "prediction.llm_fields.llm_params")


def _check_actual(actual: Actual, now_ns: int, limits: Limits, path: str) -> None:
    _check_label(actual.actual_label, path, "actual.actual_label")
    _check_label(actual.label, path, "actual.label")
    if actual.timestamp:
        place = f"{path}.actual.timestamp"
        limits.check(parse_ns(actual.timestamp, place), now_ns, place)


def _check_importances(importances: Importances, now_ns: int, limits: Limits, path: str) -> None:
    values = importances.feature_importances or {}
    _check_count(values, path, "feature_importances.feature_importances")
    for name, number in values.items():
        if len(name) > MAX_NAME_CHARS:
            raise _too_long("a name", MAX_NAME_CHARS, len(name), f"{path}.feature_importances.feature_importances")
        if type(number) is not float:
            double(number, below(f"{path}.feature_importances.feature_importances", name))
    if importances.timestamp:
        place = f"{path}.feature_importances.timestamp"
        limits.check(parse_ns(importances.timestamp, place), now_ns, place)
    _check_id(importances.model_version, path, "feature_importances.model_version")


def _check_label(label: Label | None, path: str, field: str) -> None:
    if label is None:
        return
    place = f"{path}.{field}"
    if astuple(label).count(None) < _SOLE_LABEL:
        given = [name for name in LABEL_KINDS if getattr(label, name) is not None]
        raise Mistake(expected=f"one of {', '.join(LABEL_KINDS)}", got=" and ".join(given), path=place)
    if type(label.numeric) is str:
        double(label.numeric, f"{place}.numeric")
    scored = label.score_categorical
    if scored is None:
        return
    place += ".score_categorical"
    if astuple(scored)[:3].count(None) < 2:
        raise Mistake(expected="one of category, score_category, score_value", got="several", path=place)
    if type(scored.score) is str:
        double(scored.score, f"{place}.score")
    if scored.score_value is not None and type(scored.score_value.value) is str:
        double(scored.score_value.value, f"{place}.score_value.value")
    if scored.score_category is not None:
        _check_score_category(scored.score_category, f"{place}.score_category")


def _check_score_category(scored: Any, path: str) -> None:
    if type(scored.score) is str:
        double(scored.score, f"{path}.score")
    if len(scored.numeric_sequence) > MAX_DIMENSIONS:
        got = str(len(scored.numeric_sequence))
        raise Mistake(expected=f"at most {MAX_DIMENSIONS} numbers", got=got, path=f"{path}.numeric_sequence")
    for i, number in enumerate(scored.numeric_sequence):
        if type(number) is not float:
            double(number, f"{path}.numeric_sequence[{i}]")


def _check_names(record: Record, path: str) -> None:
    """The model's and the prediction's, and where it was predicted."""
    if not record.model_id:
        raise Mistake(expected="the model's id", got="none", path=f"{path}.model_id")
    _check_id(record.model_id, path, "model_id")
    _check_id(record.prediction_id, path, "prediction_id")
    if not record.prediction_id and record.prediction is None:
        raise Mistake(
            expected=f"the id of the prediction that this belongs to, of 1 to {MAX_ID_CHARS} characters",
            got="none",
            path=f"{path}.prediction_id",
        )
    environment = record.environment_params
    if environment is None:
        return
    if astuple(environment).count(None) < 2:
        raise Mistake(expected="one environment", got="several", path=f"{path}.environment_params")
    if environment.validation is not None:
        _check_id(environment.validation.batch_id, path, "environment_params.validation.batch_id")


def _check_id(text: str | None, path: str, field: str) -> None:
    if text is not None and len(text) > MAX_ID_CHARS:
        raise _too_long("a text", MAX_ID_CHARS, len(text), f"{path}.{field}")


def _check_count(values: Mapping[str, Any], path: str, field: str) -> None:
    if len(values) > MAX_VALUES:
        raise Mistake(expected=f"at most {MAX_VALUES} members", got=str(len(values)), path=f"{path}.{field}")


def _too_long(what: str, most: int, chars: int, path: str) -> Mistake:
    return Mistake(expected=f"{what} of at most {most} characters", got=f"one of {chars}", path=path)


def _no_kind(value: Value, path: str) -> Mistake:
    given = [kind for kind in KINDS if getattr(value, kind) is not None]
    got = " and ".join(given) if given else "none of them"
    return Mistake(expected=f"one of {', '.join(KINDS)}", got=got, path=path, message="" if given else INVALID_FEATURE)


def _told_by(read: Read, value: Any, path: str, field: str, name: str, kind: str) -> None:
    """Raises what the tables say of it, if it is wrong."""
    read(value, f"{_place(path, field, name)}.{kind}")


def _place(path: str, field: str, name: str) -> str:
    return below(f"{path}.{field}", name)
