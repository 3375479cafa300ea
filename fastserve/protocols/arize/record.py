"""A record as clients send it, in JSON: read by types where it is as most clients write it, else by the tables of `messages`.

Both give the same: `Record` in the fields' own spelling. Typed reading takes all fields that it does not know for a mistake,
so that every other spelling, and every mistake, is left to the tables, which know the place of it.
Pure. Memory: texts are copies.
"""

from typing import Any

import msgspec
from msgspec import Struct

from fastserve.errors import InvalidRequest
from fastserve.protocols.arize import messages
from fastserve.protocols.arize.protojson import Mistake

Number = float | str | None
"""A double: as it came; see `protojson.real`."""

Whole = int | float | str | None


class MultiValue(Struct, gc=False, forbid_unknown_fields=True):
    """Several texts."""

    values: list[str] = []


class Embedding(Struct, gc=False, forbid_unknown_fields=True):
    """A vector, and what it was made of."""

    vector: list[float | str] = []
    link_to_data: str | None = None
    raw_data: dict[str, Any] | None = None


class Dictionary(Struct, gc=False, forbid_unknown_fields=True):
    """Numbers by name."""

    values: dict[str, float | str] = {}


class Value(Struct, gc=False, forbid_unknown_fields=True):
    """A feature or tag: one of these."""

    string: str | None = None
    int: Whole = None
    double: Number = None
    multi_value: MultiValue | None = None
    embedding: Embedding | None = None
    dictionary: Dictionary | None = None


Values = dict[str, Value]


class Category(Struct, gc=False, forbid_unknown_fields=True):
    """A class."""

    category: str = ""


class ScoreCategory(Struct, gc=False, forbid_unknown_fields=True):
    """A class and its score."""

    category: str = ""
    score: Number = None
    numeric_sequence: list[float | str] = []


class ScoreValue(Struct, gc=False, forbid_unknown_fields=True):
    """A score alone."""

    value: Number = None


class ScoreCategorical(Struct, gc=False, forbid_unknown_fields=True):
    """A class, its score or both; `categorical` and `score` are how it once was said."""

    category: Category | None = None
    score_category: ScoreCategory | None = None
    score_value: ScoreValue | None = None
    categorical: str | None = None
    score: Number = None


class Label(Struct, gc=False, forbid_unknown_fields=True):
    """What was predicted, or what happened: one of these. Those that are dictionaries are as the tables give them."""

    numeric: Number = None
    score_categorical: ScoreCategorical | None = None
    categorical: str | None = None
    binary: bool | None = None
    ranking: dict[str, Any] | None = None
    object_detection: dict[str, Any] | None = None
    multi_class: dict[str, Any] | None = None
    cv_label: dict[str, Any] | None = None


class Prediction(Struct, gc=False, forbid_unknown_fields=True):
    """What a model said, of which features."""

    timestamp: str | None = None
    model_version: str | None = None
    label: Label | None = None
    prediction_label: Label | None = None
    features: Values | None = None
    tags: Values | None = None
    llm_fields: dict[str, Any] | None = None
    retrieved_document_ids: list[str] | None = None


class Actual(Struct, gc=False, forbid_unknown_fields=True):
    """What really happened."""

    timestamp: str | None = None
    label: Label | None = None
    actual_label: Label | None = None
    tags: Values | None = None


class Importances(Struct, gc=False, forbid_unknown_fields=True):
    """What each feature had to do with a prediction."""

    timestamp: str | None = None
    model_version: str | None = None
    feature_importances: dict[str, float | str] | None = None


class Both(Struct, gc=False, forbid_unknown_fields=True):
    """How prediction and actual were once sent together."""

    prediction: Prediction | None = None
    actual: Actual | None = None


class Nothing(Struct, gc=False, forbid_unknown_fields=True):
    """An environment of which nothing more is said."""


class Validation(Struct, gc=False, forbid_unknown_fields=True):
    """A batch of validation."""

    batch_id: str | None = None


class Environment(Struct, gc=False, forbid_unknown_fields=True):
    """Where it was predicted: one of these."""

    production: Nothing | None = None
    training: Nothing | None = None
    validation: Validation | None = None


class Record(Struct, gc=False, forbid_unknown_fields=True):
    """Parts that belong to one prediction."""

    model_id: str | None = None
    prediction_id: str | None = None
    prediction: Prediction | None = None
    actual: Actual | None = None
    feature_importances: Importances | None = None
    environment_params: Environment | None = None
    is_generative_llm_record: bool | None = None
    space_key: str | None = None
    organization_key: str | None = None
    prediction_and_actual: Both | None = None


NUL_ESCAPE = b"\\u0000"


def read_record(body: bytes, path: str = "$") -> Record:
    """The record that `body` is. Raises Mistake, InvalidRequest (no JSON)."""
    if NUL_ESCAPE not in body:
        try:
            record = _TYPED.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            if is_plain(record):
                return record
    return of_json(any_json(body), path)


def of_json(value: Any, path: str) -> Record:
    """The record that a JSON value is. Raises Mistake."""
    record = msgspec.convert(messages.RECORD(value, path), Record)
    both = record.prediction_and_actual
    if both is not None:
        if record.prediction is not None or record.actual is not None:
            raise Mistake(
                expected="prediction and actual, or prediction_and_actual",
                got="both",
                path=f"{path}.prediction_and_actual",
            )
        record.prediction, record.actual, record.prediction_and_actual = both.prediction, both.actual, None
    return record


def any_json(body: bytes) -> Any:
    """What `body` is, whatever it is. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {str(error)[:256]}") from None


def is_plain(record: Record) -> bool:
    """Whether typed reading has looked at everything that was sent: what it leaves as dictionaries it has not."""
    if record.prediction_and_actual is not None:
        return False
    prediction, actual = record.prediction, record.actual
    if prediction is not None and (
        prediction.llm_fields is not None
        or not _label_is_plain(prediction.label)
        or not _label_is_plain(prediction.prediction_label)
    ):
        return False
    return actual is None or (_label_is_plain(actual.label) and _label_is_plain(actual.actual_label))


def _label_is_plain(label: Label | None) -> bool:
    return label is None or (
        label.ranking is None
        and label.object_detection is None
        and label.multi_class is None
        and label.cv_label is None
    )


_TYPED = msgspec.json.Decoder(Record)
