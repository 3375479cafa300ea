"""How well a model does: its predictions beside what really happened.

Thread: the one that asks. Memory: the columns that count, of the rows asked about, in DuckDB's own.
"""

from typing import Any

from msgspec import Struct

from fastserve.errors import InvalidRequest, quoted
from fastserve.monitor import classification, ranking, regression, spans
from fastserve.monitor.classification import CalibrationBin, ClassCounts
from fastserve.monitor.parts import ALL, Key, key, keys, sets
from fastserve.monitor.question import PerformanceQuestion
from fastserve.monitor.source import Grouping, Relation, Source, literal

LARGEST = "1e150"
"""Numbers beyond it have no square; they are counted and left out."""

PRIMARY = {"classification": "accuracy", "regression": "mae", "ranking": "ndcg"}
WORSE_WHEN_HIGHER = frozenset(
    {"mae", "rmse", "mse", "mape", "smape", "wape", "log_loss", "brier", "calibration_error", "fpr", "fnr"}
)
METRICS = {
    "classification": (
        *(
            f"{name}{average}"
            for name in ("precision", "recall", "f1")
            for average in ("", "_macro", "_micro", "_weighted")
        ),
        *("accuracy", "specificity", "fpr", "fnr", "auc", "auc_macro", "pr_auc"),
        *("log_loss", "brier", "calibration", "calibration_error"),
    ),
    "regression": (
        *("mae", "rmse", "mse", "mape", "smape", "wape", "r2"),
        *("mean_error", "mean_prediction", "mean_actual"),
    ),
    "ranking": ("ndcg", "mrr", "map"),
}

Metrics = dict[str, float | None]


class Delay(Struct, frozen=True):
    """From a prediction to what really happened, in seconds."""

    p50: float | None
    p95: float | None
    max: float | None


class Joined(Struct, frozen=True):
    """How many predictions there are, and how many of them are known to be right or wrong."""

    predictions: int = 0
    joined: int = 0
    unjoined: int = 0
    label_delay_s: Delay | None = None


class Window(Struct, frozen=True):
    """Some of the time."""

    start: str
    end: str
    counts: Joined
    metrics: Metrics


class Slice(Struct, frozen=True):
    """Some of the rows."""

    value: str
    counts: Joined
    metrics: Metrics


class Performance(Struct, frozen=True, kw_only=True):
    """The answer. `slices`: worst first. `actuals_without_prediction`: None where filters leave it open."""

    model: str
    space: str | None
    environment: str | None
    start: str | None
    end: str | None
    window_s: float
    task: str
    metric: str
    positive_class: str | None = None
    counts: Joined
    actuals_without_prediction: int | None = None
    metrics: Metrics
    classes: list[ClassCounts] = []
    confusion: list[list[int]] = []
    calibration: list[CalibrationBin] = []
    windows: list[Window] = []
    slice: str | None = None
    slices: list[Slice] = []
    notes: list[str] = []


class _Found(Struct):
    """What one task's metrics are, before they are put in order."""

    metrics: dict[Key, Metrics]
    positive: str | None = None
    classes: list[ClassCounts] = []
    confusion: list[list[int]] = []
    calibration: list[CalibrationBin] = []
    notes: list[str] = []


def ask(connection: Any, question: PerformanceQuestion, now_ns: int) -> Performance:
    """The answer, over a connection with the log's views. Raises InvalidRequest."""
    source = Source(connection)
    span = time_of(source, question, now_ns)
    rows = _rows(source, question, span)
    grouping = source.grouping(question, rows, *span)
    _keep(source, rows, grouping)
    task = _task(source, question)
    metric = question.metric or PRIMARY[task]
    if metric not in METRICS[task]:
        raise InvalidRequest(f"metric: expected one of {task}'s: {', '.join(METRICS[task])}; got {quoted(metric)}")
    found = _TASKS[task](source, question, rows, grouping)
    counts = _counts(source, grouping)
    return Performance(
        model=question.model,
        space=question.space,
        environment=question.environment,
        start=spans.told(span[0]) if counts else None,
        end=spans.told(span[1]) if counts else None,
        window_s=grouping.length_ns / 1e9,
        task=task,
        metric=metric,
        positive_class=found.positive,
        counts=counts.get(ALL, Joined()),
        actuals_without_prediction=_orphans(source, question, *span),
        metrics=found.metrics.get(ALL, {}),
        classes=found.classes,
        confusion=found.confusion,
        calibration=found.calibration,
        windows=_windows(grouping, counts, found.metrics),
        slice=question.slice,
        slices=_slices(counts, found.metrics, metric),
        notes=found.notes,
    )


def _rows(source: Source, question: PerformanceQuestion, span: tuple[int, int]) -> Relation:
    return source.relation(
        question,
        "joined",
        environment=question.environment,
        start_ns=span[0],
        end_ns=span[1],
        versions=question.version,
        batch_id=question.batch_id,
    )


def time_of(source: Source, question: Any, now_ns: int) -> tuple[int, int]:
    """From when to when: as asked, else all that there is. Raises InvalidRequest."""
    start_ns = None if question.start is None else spans.moment_ns(question.start, "start", now_ns)
    end_ns = None if question.end is None else spans.moment_ns(question.end, "end", now_ns)
    if start_ns is None or end_ns is None:
        rows = source.relation(question, environment=question.environment, versions=question.version)
        first, last = source.row(f"select min(ts_ns), max(ts_ns) from {rows.sql}")
        start_ns = start_ns if start_ns is not None else min(first or 0, end_ns or first or 0)
        end_ns = end_ns if end_ns is not None else max(last + 1 if last is not None else 0, start_ns)
    if end_ns < start_ns:
        raise InvalidRequest(f"end: {spans.told(end_ns)} is before the start, {spans.told(start_ns)}")
    return start_ns, end_ns


def _keep(source: Source, rows: Relation, grouping: Grouping) -> None:
    """The join is done once: what counts of it is kept."""
    source.connection.execute(f"""
        create or replace temp table kept as
        select {grouping.bucket} b, {grouping.slice} s, label_num pn, label_cat pc, score, actual_num an,
          actual_cat ac, {_IS_RANKING} listed, {_CLASS_SCORES} m, label_delay_s delay,
          coalesce(actual_num is not null or actual_cat is not null or actual_score is not null
            or actual_json is not null, false) has_label
        from {rows.sql}""")


_IS_RANKING = """coalesce(starts_with(label_json, '{"ranking"'), false)"""
_CLASS_SCORES = """case when starts_with(label_json, '{"multi_class":{"single_label"') then from_json(label_json,
  '{"multi_class":{"single_label":{"prediction_scores":"MAP(VARCHAR,DOUBLE)"}}}').multi_class.single_label.prediction_scores
  end"""
"""The score of each class, where there are several."""


def _task(source: Source, question: PerformanceQuestion) -> str:
    """What is asked for, else what most joined labels are; without any, what most predictions are."""
    if question.task != "auto":
        return question.task
    for wanted in ("has_label and (an is not null or ac is not null or listed)", "true"):
        classes, numbers, lists = source.row(
            "select count(*) filter (coalesce(pc, ac) is not null or (score is not null and an is null)), "
            f"count(*) filter (pn is not null and ac is null), count(*) filter (listed) from kept where {wanted}"
        )
        if classes or numbers or lists:
            break
    if lists and lists >= max(classes, numbers):
        return "ranking"
    return "regression" if numbers > classes else "classification"


def _classification(source: Source, question: PerformanceQuestion, _: Relation, grouping: Grouping) -> _Found:
    predicted = f"coalesce(pc, {_class_of('pn')})"
    if question.threshold is not None:
        if question.positive_class is None:
            raise InvalidRequest("threshold: takes positive_class too, to say what a score from there on means")
        positive = literal(question.positive_class)
        other = f"coalesce((select min(c) from (select {_ACTUAL} c from kept) where c <> {positive}), '(other)')"
        decided = f"case when score >= {question.threshold!r}::double then {positive} else {other} end"
        predicted = f"case when isfinite(score) then {decided} else {predicted} end"
    source.connection.execute(
        f"create or replace temp table pairs as select b, s, {predicted} p, {_ACTUAL} a, score, m from kept where has_label"
    )
    done = classification.evaluate(source, grouping, question.positive_class, question.score_of)
    return _Found(done.metrics, done.positive_class, done.classes, done.confusion, done.calibration, done.notes)


def _class_of(number: str) -> str:
    """A number as a class's name: 1 and not 1.0."""
    whole = f"{number} = trunc({number}) and abs({number}) < 1e15"
    return f"case when {whole} then {number}::bigint::varchar else {number}::varchar end"


_ACTUAL = f"coalesce(ac, {_class_of('an')})"


def _regression(source: Source, _: PerformanceQuestion, __: Relation, grouping: Grouping) -> _Found:
    source.connection.execute(
        "create or replace temp table pairs as select b, s, pn p, an a from kept "
        f"where pn is not null and an is not null and abs(pn) <= {LARGEST} and abs(an) <= {LARGEST}"
    )
    left_out = source.row(
        "select count(*) filter (pn is not null and an is not null) - (select count(*) from pairs) from kept"
    )[0]
    notes = [f"{left_out} rows are left out: not finite, or beyond {LARGEST}"] if left_out else []
    return _Found(regression.evaluate(source, grouping), notes=notes)


def _ranking(source: Source, question: PerformanceQuestion, rows: Relation, grouping: Grouping) -> _Found:
    source.connection.execute(f"""
        create or replace temp table ranked as
        select {grouping.bucket} b, {grouping.slice} s, {_RANKED} from {rows.sql}
        where {_IS_RANKING} and (actual_json is not null or actual_score is not null)""")
    source.connection.execute("delete from ranked where g is null or r is null or not isfinite(r) or not isfinite(y)")
    metrics, without = ranking.evaluate(source, grouping, question.k)
    notes = [f"{without} lists in which nothing is relevant are left out"] if without else []
    return _Found(metrics, notes=notes)


_RANKED = """label_json->>'$.ranking.prediction_group_id' g,
  coalesce(try_cast(label_json->>'$.ranking.rank' as double), -score) r,
  greatest(0, coalesce(actual_score, try_cast(actual_json->>'$.ranking.relevance_score' as double),
    list_contains(from_json(actual_json->'$.ranking.category.values', '["VARCHAR"]'),
      label_json->>'$.ranking.label')::int::double,
    (json_array_length(actual_json->'$.ranking.category.values') > 0)::int::double, 0)) y,
  seq n"""
"""A prediction's list, rank and relevance: the actual's score; without one, whether its label is among what happened."""

_TASKS = {"classification": _classification, "regression": _regression, "ranking": _ranking}


def _counts(source: Source, grouping: Grouping) -> dict[Key, Joined]:
    found = {}
    for row in source.rows(
        f"select {keys(grouping)}, count(*), count(*) filter (has_label), "
        "approx_quantile(delay, [0.5, 0.95]) filter (has_label), max(delay) filter (has_label) "
        f"from kept group by {sets(grouping)}"
    ):
        predictions, joined, quantiles, longest = row[4:]
        delay = Delay(quantiles[0], quantiles[1], longest) if quantiles else None
        found[key(row)] = Joined(predictions, joined, predictions - joined, delay)
    return found if found.get(ALL, Joined()).predictions else {}


def _orphans(source: Source, question: PerformanceQuestion, start_ns: int, end_ns: int) -> int | None:
    """Actuals of that time that no prediction belongs to; an actual alone says nothing of versions and features."""
    if question.filter or question.version or question.environment != "production" or question.batch_id:
        return None
    actuals = source.relation(question, "actuals", start_ns=start_ns, end_ns=end_ns, environment="production")
    every = source.relation(question)
    found: int = source.row(
        f"select count(*) from {actuals.sql} a anti join {every.sql} p "
        "on a.space is not distinct from p.space and a.prediction_id = p.prediction_id"
    )[0]
    return found


def _windows(grouping: Grouping, counts: dict[Key, Joined], metrics: dict[Key, Metrics]) -> list[Window]:
    found = []
    for start in grouping.starts:
        where = ("window", start // grouping.length_ns)
        span = spans.told(start), spans.told(start + grouping.length_ns)
        found.append(Window(*span, counts.get(where, Joined()), metrics.get(where, {})))
    return found


def _slices(counts: dict[Key, Joined], metrics: dict[Key, Metrics], metric: str) -> list[Slice]:
    """Worst first; those that nothing is known of last."""
    sign = -1 if metric in WORSE_WHEN_HIGHER else 1

    def place(one: Slice) -> tuple[bool, float, str]:
        value = one.metrics.get(metric)
        return (value is None, sign * (value or 0.0), one.value)

    found = [Slice(str(where[1]), own, metrics.get(where, {})) for where, own in counts.items() if where[0] == "slice"]
    return sorted(found, key=place)
