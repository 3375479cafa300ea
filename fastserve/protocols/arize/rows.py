"""A record's parts as the rows that they are kept as, in one form whichever spelling came. Pure.

Numbers that came as texts are numbers here; an actual's tags are its own.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from fastserve.protocols.arize.frame import Head
from fastserve.protocols.arize.protojson import real, whole
from fastserve.protocols.arize.record import (
    Actual,
    Environment,
    Importances,
    Label,
    Prediction,
    Record,
    ScoreCategorical,
    Value,
    Values,
)
from fastserve.protocols.arize.times import parse_ns
from fastserve.store.rows import Part, Row
from fastserve.store.rows import Value as Kept

PRODUCTION, TRAINING, VALIDATION = "production", "training", "validation"
DIGEST_BYTES = 16

Extras = dict[str, Any]

_CANONICAL = msgspec.msgpack.Encoder(order="sorted")
_JSON = msgspec.json.Encoder(order="sorted")


class Place(Struct, frozen=True):
    """What all parts of a record share."""

    space: str
    model_id: str
    version: str
    environment: str
    batch_id: str
    prediction_id: str
    ingest_ns: int
    seq: int


class Answer(Struct, frozen=True):
    """A label in the columns that it is kept in."""

    num: float | None = None
    cat: str | None = None
    score: float | None = None
    json: str | None = None


NO_ANSWER = Answer()


def rows_of(record: Record, head: Head, ingest_ns: int, seq: int) -> Iterator[Row]:
    """The parts of a record that was found good."""
    environment, batch_id = environment_of(record.environment_params)
    place = Place(
        space=head.space,
        model_id=record.model_id or head.model_id,
        version=head.model_version,
        environment=head.environment or environment,
        batch_id=head.batch_id or batch_id,
        prediction_id=record.prediction_id or head.prediction_id,
        ingest_ns=ingest_ns,
        seq=seq,
    )
    if record.prediction is not None:
        yield _prediction(record.prediction, place)
    if record.actual is not None:
        yield _actual(record.actual, place)
    if record.feature_importances is not None:
        yield _importances(record.feature_importances, place)


def environment_of(environment: Environment | None) -> tuple[str, str]:
    """Its name and batch; production where nothing is said."""
    if environment is None or environment.production is not None:
        return PRODUCTION, ""
    if environment.validation is not None:
        return VALIDATION, environment.validation.batch_id or ""
    return (TRAINING if environment.training is not None else PRODUCTION), ""


def _prediction(part: Prediction, place: Place) -> Row:
    extras: Extras = {}
    features = _values(part.features, extras)
    tags = _values(part.tags, extras)
    label = part.prediction_label if part.prediction_label is not None else part.label
    answer = predicted(label, extras)
    if part.llm_fields:
        extras["$llm_fields"] = part.llm_fields
    if part.retrieved_document_ids:
        extras["$retrieved_document_ids"] = part.retrieved_document_ids
    return row(place, "prediction", part.timestamp or None, part.model_version, answer, features, tags, {}, extras)


def _actual(part: Actual, place: Place) -> Row:
    extras: Extras = {}
    tags = _values(part.tags, extras)
    answer = happened(part.actual_label if part.actual_label is not None else part.label, extras)
    return row(place, "actual", part.timestamp or None, None, answer, {}, tags, {}, extras)


def _importances(part: Importances, place: Place) -> Row:
    values = {name: _real(value) for name, value in (part.feature_importances or {}).items()}
    return row(place, "importance", part.timestamp or None, part.model_version, NO_ANSWER, {}, {}, values, {})


def row(
    place: Place,
    kind: Part,
    timestamp: str | int | None,
    version: str | None,
    answer: Answer,
    features: dict[str, Kept],
    tags: dict[str, Kept],
    importances: dict[str, float],
    extras: Extras,
) -> Row:
    """One part. The digest is of what was sent: a part sent twice without a time is the same part."""
    version = version or place.version
    content = (
        (version, place.environment, place.batch_id, timestamp),
        (answer.num, answer.cat, answer.score, answer.json),
        (features, tags, importances, extras),
    )
    return Row(
        space=place.space,
        model_id=place.model_id,
        version=version,
        environment=place.environment,
        batch_id=place.batch_id,
        prediction_id=place.prediction_id,
        ts_ns=parse_ns(timestamp, "") if isinstance(timestamp, str) else timestamp or place.ingest_ns,
        ingest_ns=place.ingest_ns,
        seq=place.seq,
        kind=kind,
        label_num=answer.num,
        label_cat=answer.cat,
        score=answer.score,
        label_json=answer.json,
        features=features,
        tags=tags,
        importances=importances,
        extras=extras,
        digest=hashlib.blake2b(_CANONICAL.encode(content), digest_size=DIGEST_BYTES).digest(),
    )


def _values(values: Values | None, extras: Extras) -> dict[str, Kept]:
    return {name: _value(name, value, extras) for name, value in values.items()} if values else {}


def _value(name: str, value: Value, extras: Extras) -> Kept:
    if value.double is not None:
        return _real(value.double)
    if value.string is not None:
        return value.string
    if value.int is not None:
        number = whole(value.int)
        assert number is not None, "it was found good"
        return number
    if value.multi_value is not None:
        return value.multi_value.values
    if value.embedding is not None:
        beside = {"link_to_data": value.embedding.link_to_data, "raw_data": _tokens(value.embedding.raw_data)}
        beside = {what: text for what, text in beside.items() if text}
        if beside:
            extras[name] = beside
        return [_real(number) for number in value.embedding.vector]
    assert value.dictionary is not None, "it was found good"
    return _JSON.encode({key: _finite(_real(one)) for key, one in value.dictionary.values.items()}).decode()


def _tokens(raw_data: Mapping[str, Any] | None) -> list[str]:
    tokens: list[str] = ((raw_data or {}).get("tokenArray") or {}).get("tokens") or []
    return tokens


def predicted(label: Label | None, extras: Extras) -> Answer:
    """What a prediction says."""
    if label is None:
        return NO_ANSWER
    if label.ranking is not None:
        return Answer(
            cat=label.ranking.get("label"), score=label.ranking.get("prediction_score"), json=_composed(label)
        )
    if label.multi_class is not None:
        scores = label.multi_class.get("single_label", {}).get("prediction_scores", {})
        best = max(scores, key=scores.__getitem__, default=None)
        return Answer(cat=best, score=None if best is None else scores[best], json=_composed(label))
    return _answer(label, extras)


def happened(label: Label | None, extras: Extras) -> Answer:
    """What an actual says."""
    if label is None:
        return NO_ANSWER
    if label.ranking is not None:
        values = label.ranking.get("category", {}).get("values", [])
        return Answer(cat=_sole(values), score=label.ranking.get("relevance_score"), json=_composed(label))
    if label.multi_class is not None:
        return Answer(cat=_sole(label.multi_class.get("actual_labels", [])), json=_composed(label))
    return _answer(label, extras)


def _answer(label: Label, extras: Extras) -> Answer:
    if label.numeric is not None:
        return Answer(num=_real(label.numeric))
    if label.score_categorical is not None:
        return _scored(label.score_categorical, extras)
    if label.categorical is not None:
        return Answer(cat=label.categorical)
    if label.binary is not None:
        return Answer(cat=str(label.binary))  # as the Python clients say it
    return Answer(json=_composed(label))


def _scored(label: ScoreCategorical, extras: Extras) -> Answer:
    if label.score_category is not None:
        one = label.score_category
        if one.numeric_sequence:
            extras["$numeric_sequence"] = [_real(number) for number in one.numeric_sequence]
        # A double that is not set is 0 to protobuf, and is left out by its writers.
        return Answer(cat=one.category, score=0.0 if one.score is None else _real(one.score))
    if label.category is not None:
        return Answer(cat=label.category.category)
    if label.score_value is not None:
        return Answer(score=0.0 if label.score_value.value is None else _real(label.score_value.value))
    return Answer(cat=label.categorical, score=None if label.score is None else _real(label.score))


def _composed(label: Label) -> str | None:
    """What is neither a number nor a category, as JSON."""
    for kind in ("ranking", "multi_class", "object_detection", "cv_label"):
        given = getattr(label, kind)
        if given is not None:
            return composed(kind, given)
    return None


def composed(kind: str, label: Mapping[str, Any]) -> str:
    """A label that is neither a number nor a category, as it is kept."""
    return _JSON.encode({kind: _finite(label)}).decode()


def _finite(value: Any) -> Any:
    """Numbers that JSON has no word for, as protobuf writes them."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def _sole(values: list[str]) -> str | None:
    return values[0] if len(values) == 1 else None


def _real(value: float | str) -> float:
    number = value if type(value) is float else real(value)
    assert type(number) is float, "it was found good"
    return number
