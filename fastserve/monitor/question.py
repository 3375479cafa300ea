"""What may be asked of the log: parameters with their bounds, from a query string or a JSON body.

Pure. What is wrong with one is an InvalidRequest that begins with its name.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from fastserve.errors import InvalidRequest, quoted

Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Texts = Annotated[list[Text], Meta(max_length=200)]
Environment = Literal["production", "training", "validation", "all"]

MAX_PARAMETERS = 500
LISTS = frozenset({"version", "filter", "dimension", "baseline_version"})
"""Parameters of which there may be several: repeated in a query, a list in JSON."""


SENTENCES = {
    "model": "The model that it is about.",
    "space": "Of this space only.",
    "version": "Of this version of the model only.",
    "environment": "Whose records are looked at.",
    "batch_id": "Of this batch only.",
    "start": "From then on: 2026-11-20T08:00:00Z, 2026-11-20, or 7d (ago).",
    "end": "Until then: as start.",
    "window": "Windows of time: 1h, 1d, ..., auto or none.",
    "slice": "Also for each value of a column: f.NAME, t.NAME, version, environment, batch_id.",
    "max_slices": "Most slices that are told apart.",
    "filter": "Records that meet this only: t.region=eu, f.age>=18.",
    "task": "What kind of prediction it is.",
    "metric": "The metric that slices are ordered by, worst first.",
    "positive_class": "The class that precision, recall, AUC and the like are about.",
    "score_of": "Whose probability a score is: the positive class's or the predicted one's.",
    "threshold": "A score from here on means the positive class, where there is no label.",
    "k": "Ranks that count in ranking metrics.",
    "baseline": "What records are compared with: another environment's, or those of a time.",
    "baseline_start": "Where a fixed baseline begins: as start.",
    "baseline_end": "Where a fixed baseline ends: as start.",
    "baseline_window": "How long a moving baseline is: 1d, 2w.",
    "baseline_version": "The baseline is of this version only.",
    "baseline_batch_id": "The baseline is of this batch only.",
    "dimension": "This one only: f.NAME, t.NAME, prediction, score, actual.",
    "bins": "Quantile bins of numbers.",
    "max_values": "Values of texts that have a bin of their own.",
}
"""What each parameter is, for the command line and the API document."""


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which predictions it is about.

    `version`: any of these; `filter`: `t.region=eu`, all of them. `start`, `end`, `window`: see `spans`. `slice`: the column
    whose values the answer is also given for: `f.NAME`, `t.NAME`, `version`, `environment` or `batch_id`.
    """

    model: Text
    space: str | None = None
    version: Texts = []
    environment: Environment = "production"
    batch_id: Text | None = None
    start: Text | None = None
    end: Text | None = None
    window: Text = "auto"
    slice: Text | None = None
    max_slices: Annotated[int, Meta(ge=1, le=100)] = 20
    filter: Texts = []


class PerformanceQuestion(Question, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well does it do?

    `metric`: the one that slices are ordered by, worst first. `positive_class`, `score_of`: whose probability a score is:
    the positive class's, or the predicted one's. `threshold`: from this score on a prediction without a label is positive.
    `k`: ranks that count in ranking metrics.
    """

    task: Literal["auto", "classification", "regression", "ranking"] = "auto"
    metric: Text | None = None
    positive_class: Text | None = None
    score_of: Literal["positive", "predicted"] = "positive"
    threshold: Annotated[float, Meta(ge=-1e300, le=1e300)] | None = None
    k: Annotated[int, Meta(ge=1, le=1000)] = 10


class DriftQuestion(Question, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Are its data what they were?

    `baseline`: what they are compared with: the records of an environment, a `fixed` time (`baseline_start`, `baseline_end`)
    or a `moving` one (`baseline_window` long, right before); `auto`: training if there is any, else validation, else the
    first half of the time.
    `dimension`: these only, as `f.NAME`, `t.NAME`, `prediction`, `score`, `actual`.
    """

    baseline: Literal["auto", "training", "validation", "fixed", "moving"] = "auto"
    baseline_start: Text | None = None
    baseline_end: Text | None = None
    baseline_window: Text | None = None
    baseline_version: Texts = []
    baseline_batch_id: Text | None = None
    dimension: Texts = []
    bins: Annotated[int, Meta(ge=2, le=100)] = 10
    max_values: Annotated[int, Meta(ge=2, le=200)] = 50


Q = TypeVar("Q", bound=Question)


def from_query(query: str, kind: type[Q]) -> Q:
    """The question in a URL's query. Raises InvalidRequest."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise InvalidRequest(
            f"the query: expected at most {MAX_PARAMETERS} parameters as name=value in UTF-8"
        ) from None
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in LISTS:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise InvalidRequest(f"{name}: given twice, and there can be one only")
        else:
            values[name] = value
    return convert(values, kind, lax=True)


def from_body(body: bytes, kind: type[Q]) -> Q:
    """The question in a JSON body. Raises InvalidRequest."""
    try:
        values = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body: expected a JSON object of parameters: {str(error)[:200]}") from None
    if not isinstance(values, dict):
        raise InvalidRequest(f"the body: expected a JSON object of parameters, got {type(values).__name__}")
    listed = {name: [value] if name in LISTS and isinstance(value, str) else value for name, value in values.items()}
    return convert(listed, kind, lax=False)


def convert(values: Mapping[str, Any], kind: type[Q], *, lax: bool) -> Q:
    """The question of these values; `lax`: numbers come as text. Raises InvalidRequest."""
    try:
        question = msgspec.convert(values, kind, strict=not lax)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_named(str(error), kind)) from None
    for name in kind.__struct_fields__:
        for text in _texts(getattr(question, name)):
            if "\0" in text:
                raise InvalidRequest(f"{name}: expected text, got some with NUL characters")
    return question


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) else []


def _named(message: str, kind: type[Question]) -> str:
    """msgspec's message with the parameter's name in front."""
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL)
    if unknown:
        return f"{quoted(unknown[1])}: no such parameter; there are {', '.join(kind.__struct_fields__)}"
    missing = re.fullmatch(r"Object missing required field `(.*)`", message)
    if missing:
        return f"{missing[1]}: is needed"
    what, _, place = message.rpartition(" - at `$.")
    return f"{place.rstrip('`')}: {what[:1].lower()}{what[1:]}" if what else message
