"""Metrics of numbers, computed by DuckDB in one scan. Reads the table `pairs`: b, s, p (predicted), a (true), both finite.

MAPE leaves out rows whose true value is 0; R2 is None where all true values are the same.
"""

from fastserve.monitor.parts import Key, key, keys, sets
from fastserve.monitor.source import Grouping, Source

Metrics = dict[str, float | None]

_COLUMNS = """count(*), avg(abs(p - a)), avg((p - a) * (p - a)), avg(p - a),
  avg(abs(p - a) / abs(a)) filter (a <> 0),
  avg(2 * abs(p - a) / (abs(p) + abs(a))) filter (p <> 0 or a <> 0),
  sum(abs(p - a)) / nullif(sum(abs(a)), 0), var_pop(a), avg(p), avg(a)
from pairs where p is not null and a is not null group by """


def evaluate(source: Source, grouping: Grouping) -> dict[Key, Metrics]:
    """Metrics of each group."""
    answers: dict[Key, Metrics] = {}
    for row in source.rows(f"select {keys(grouping)}, {_COLUMNS}{sets(grouping)}"):
        _, mae, mse, mean_error, mape, smape, wape, variance, predicted, actual = row[4:]
        answers[key(row)] = {
            "mae": mae,
            "rmse": None if mse is None else mse**0.5,
            "mse": mse,
            "mean_error": mean_error,
            "mape": mape,
            "smape": smape,
            "wape": wape,
            "r2": 1 - mse / variance if variance else None,
            "mean_prediction": predicted,
            "mean_actual": actual,
        }
    return answers
