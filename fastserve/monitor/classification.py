"""Metrics of classes and their scores: DuckDB counts, numpy divides.

As scikit-learn defines them: a precision of nothing predicted, or a recall of nothing there, is 0; macro and weighted are
taken over all classes that were predicted or came true. What one class alone cannot have (AUC) is None.
Reads the table `pairs`: b, s, p (predicted class), a (true class), score, m (the score of each class, where they are known).
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fastserve.monitor.parts import ALL, Key, key, keys, sets
from fastserve.monitor.source import Grouping, Source, literal

MAX_CLASSES = 500
SHOWN_CLASSES = 50
CALIBRATION_BINS = 10
LEAST = 2.220446049250313e-16
"""A probability of 0 counts as this much in log loss: a float64's epsilon."""

USUAL_POSITIVE = ("1", "true", "True", "TRUE", "yes", "Yes", "positive", "1.0")

Metrics = dict[str, float | None]
Table = NDArray[np.float64]


class ClassCounts(Struct, frozen=True):
    """One class: how often it was predicted and came true, and how well the two agree."""

    name: str
    predicted: int
    actual: int
    precision: float
    recall: float
    f1: float


class CalibrationBin(Struct, frozen=True):
    """Predictions whose score lies in one tenth: what they promised, and what came."""

    low: float
    high: float
    rows: int
    mean_score: float
    positive_rate: float


class Classified(Struct, frozen=True):
    """Metrics of each group, and details of all rows. `confusion[i][j]`: rows of true class i that were predicted as j."""

    metrics: dict[Key, Metrics]
    positive_class: str | None
    classes: list[ClassCounts]
    confusion: list[list[int]]
    calibration: list[CalibrationBin]
    notes: list[str]


def evaluate(source: Source, grouping: Grouping, positive: str | None, score_of: str) -> Classified:
    """Everything that labels and scores say."""
    names = [row[0] for row in source.rows(_CLASSES)]
    notes: list[str] = []
    if len(names) > MAX_CLASSES:
        notes.append(f"more than {MAX_CLASSES} classes: only accuracy is computed")
        return Classified(_accuracies(source, grouping), None, [], [], [], notes)
    tables = _tables(source, grouping, names)
    chosen = _positive(positive, names, notes)
    metrics = {
        where: of_table(table, names.index(chosen) if chosen in names else None) for where, table in tables.items()
    }
    calibration: list[CalibrationBin] = []
    scores: dict[Key, Metrics]
    if chosen is not None:
        scores, calibration = _scores(source, grouping, chosen, score_of, notes)
    else:
        scores = _of_each_class(source, grouping, names)
    for where, more in scores.items():
        metrics.setdefault(where, {}).update(more)
    whole = tables.get(ALL, np.zeros((0, 0)))
    shown = len(names) <= SHOWN_CLASSES
    return Classified(
        metrics, chosen, _by_class(whole, names), whole.T.astype(int).tolist() if shown else [], calibration, notes
    )


_CLASSES = f"""select distinct c from (
  select p c from pairs where a is not null union all select a from pairs
) where c is not null order by c limit {MAX_CLASSES + 1}"""


def _accuracies(source: Source, grouping: Grouping) -> dict[Key, Metrics]:
    found = source.rows(
        f"select {keys(grouping)}, avg((p = a)::int) from pairs where p is not null and a is not null "
        f"group by {sets(grouping)}"
    )
    return {key(row): {"accuracy": row[4]} for row in found}


def _tables(source: Source, grouping: Grouping, names: list[str]) -> dict[Key, Table]:
    """Of each group: how often each class was predicted (rows) where each was true (columns)."""
    place = {name: number for number, name in enumerate(names)}
    tables: dict[Key, Table] = {}
    for row in source.rows(
        f"select {keys(grouping)}, p, a, count(*) from pairs where p is not null and a is not null "
        f"group by {sets(grouping, 'p', 'a')}"
    ):
        table = tables.setdefault(key(row), np.zeros((len(names), len(names))))
        table[place[row[4]], place[row[5]]] = row[6]
    return tables


def _positive(asked: str | None, names: list[str], notes: list[str]) -> str | None:
    """The positive class: the one asked for, else of two the usual word, else the later by name; of more, none."""
    if asked is not None:
        if asked not in names:
            notes.append(f"the positive class {asked!r} is no label that came true or was predicted")
        return asked
    if not 0 < len(names) <= 2:
        return None
    return next((name for name in USUAL_POSITIVE if name in names), names[-1] if len(names) == 2 else None)


def of_table(table: Table, positive: int | None) -> Metrics:
    """Metrics of one table of predicted (rows) by true (columns) classes."""
    total = float(table.sum())
    if total == 0:
        return {}
    hits, predicted, actual = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    there = (predicted + actual) > 0
    precision, recall = _ratio(hits, predicted), _ratio(hits, actual)
    f1 = _ratio(2 * hits, predicted + actual)
    found: Metrics = {"accuracy": float(hits.sum()) / total}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        if positive is not None:
            found[name] = float(values[positive])
        found[f"{name}_macro"] = float(values[there].mean())
        found[f"{name}_weighted"] = float(np.average(values, weights=actual))
        found[f"{name}_micro"] = float(hits.sum()) / total
    if positive is not None:
        false_positives = float(predicted[positive] - hits[positive])
        negatives = total - float(actual[positive])
        found["fpr"] = false_positives / negatives if negatives else None
        found["specificity"] = 1 - false_positives / negatives if negatives else None
        found["fnr"] = 1 - float(recall[positive]) if actual[positive] else None
    return found


def _ratio(part: Table, whole: Table) -> Table:
    return np.divide(part, whole, out=np.zeros_like(whole, dtype=np.float64), where=whole > 0)


def _by_class(table: Table, names: list[str]) -> list[ClassCounts]:
    if not table.size:
        return []
    hits, predicted, actual = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    precision, recall, f1 = _ratio(hits, predicted), _ratio(hits, actual), _ratio(2 * hits, predicted + actual)
    return [
        ClassCounts(name, int(predicted[i]), int(actual[i]), float(precision[i]), float(recall[i]), float(f1[i]))
        for i, name in enumerate(names)
    ]


def _scores(
    source: Source, grouping: Grouping, positive: str, score_of: str, notes: list[str]
) -> tuple[dict[Key, Metrics], list[CalibrationBin]]:
    """What scores add: whether they order well, and whether they are probabilities."""
    chosen = literal(positive)
    own = "score" if score_of == "positive" else f"case when p = {chosen} then score else 1 - score end"
    score = f"coalesce(m[{chosen}], {own})"
    rows = f"(select b, s, {score} x, a = {chosen} y from pairs where a is not null and isfinite({score}))"
    found = _ordering(source, grouping, rows)
    if not found:
        return {}, []
    outside = source.row(f"select count(*) filter (x < 0 or x > 1) from {rows}")[0]
    if outside:
        notes.append(f"{outside} scores lie outside 0..1: log loss, Brier score and calibration are not computed")
        return found, []
    for where, more in _probability(source, grouping, rows).items():
        found[where].update(more)
    bins: dict[Key, list[CalibrationBin]] = {}
    for row in source.rows(
        f"select {keys(grouping)}, bin, count(*), avg(x), avg(y::int) from "
        f"(select *, least(floor(x * {CALIBRATION_BINS}), {CALIBRATION_BINS - 1})::int bin from {rows}) "
        f"group by {sets(grouping, 'bin')} order by bin"
    ):
        low = row[4] / CALIBRATION_BINS
        high = (row[4] + 1) / CALIBRATION_BINS
        bins.setdefault(key(row), []).append(CalibrationBin(low, high, row[5], row[6], row[7]))
    for where, each in bins.items():
        total = sum(one.rows for one in each)
        found[where]["calibration_error"] = (
            sum(one.rows * abs(one.mean_score - one.positive_rate) for one in each) / total
        )
    return found, bins.get(ALL, [])


def _ordering(source: Source, grouping: Grouping, rows: str) -> dict[Key, Metrics]:
    """AUC (ties count half) and average precision, from the counts of each score."""
    found = source.rows(f"""
        with counted as (
          select {keys(grouping)}, x, countif(y)::double pos, countif(not y)::double neg from {rows}
          group by {sets(grouping, "x")}
        ), running as (
          select *, sum(neg) over up - neg below, sum(pos) over down hits, sum(pos + neg) over down taken from counted
          window up as (partition by gb, gs, b, s order by x rows unbounded preceding),
                 down as (partition by gb, gs, b, s order by x desc rows unbounded preceding)
        )
        select gb, gs, b, s, sum(pos) p, sum(neg) n, sum(pos * (below + neg / 2)), sum(pos * hits / taken)
        from running group by gb, gs, b, s""")
    answers: dict[Key, Metrics] = {}
    for row in found:
        positives, negatives = row[4], row[5]
        both = positives > 0 and negatives > 0
        answers[key(row)] = {
            "auc": row[6] / (positives * negatives) if both else None,
            "pr_auc": row[7] / positives if positives > 0 else None,
        }
    return answers


def _of_each_class(source: Source, grouping: Grouping, names: list[str]) -> dict[Key, Metrics]:
    """Of several classes with a score for each: log loss, and the mean AUC of each class against all others."""
    found: dict[Key, Metrics] = {}
    if len(names) > SHOWN_CLASSES or not source.row("select count(*) from pairs where m is not null")[0]:
        return found
    loss = f"avg(-ln(least(greatest(coalesce(m[a], 0), {LEAST!r}), 1 - {LEAST!r})))"
    for row in source.rows(
        f"select {keys(grouping)}, {loss} from pairs where m is not null and a is not null group by {sets(grouping)}"
    ):
        found[key(row)] = {"log_loss": row[4], "auc_macro": None}
    areas: dict[Key, list[float | None]] = {}
    for name in names:
        rows = f"(select b, s, m[{literal(name)}] x, a = {literal(name)} y from pairs where a is not null and m is not null)"
        for where, own in _ordering(source, grouping, rows).items():
            areas.setdefault(where, []).append(own["auc"])
    for where, each in areas.items():
        known = [area for area in each if area is not None]
        if where in found and len(known) == len(names):
            found[where]["auc_macro"] = float(np.mean(known))
    return found


def _probability(source: Source, grouping: Grouping, rows: str) -> dict[Key, Metrics]:
    found = source.rows(
        f"select {keys(grouping)}, avg(-ln(least(greatest(case when y then x else 1 - x end, {LEAST!r}), 1 - {LEAST!r}))), "
        f"avg((x - y::int) * (x - y::int)), avg(x), avg(y::int) from {rows} group by {sets(grouping)}"
    )
    return {key(row): _told(row[4:]) for row in found}


def _told(values: tuple[Any, ...]) -> Metrics:
    loss, brier, promised, came = values
    return {"log_loss": loss, "brier": brier, "calibration": promised / came if came else None}
