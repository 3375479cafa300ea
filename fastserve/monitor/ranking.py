"""Metrics of ranked lists, computed by DuckDB. Reads the table `ranked`: b, s, g (a list's id), r (rank), y (relevance).

A list counts in the window and slice of each of its rows; lists in which nothing is relevant are counted and left out, for
they have no best order. Gains are linear, discounts logarithmic to base 2, as in scikit-learn's `ndcg_score`.
"""

from fastserve.monitor.parts import Key, key, keys, sets
from fastserve.monitor.source import Grouping, Source

Metrics = dict[str, float | None]


def evaluate(source: Source, grouping: Grouping, k: int) -> tuple[dict[Key, Metrics], int]:
    """NDCG@k, MRR and MAP@k of each group, and how many of all lists had nothing relevant."""
    found = source.rows(f"""
        with expanded as (
          select {keys(grouping)}, g, r, y from ranked group by {sets(grouping, "g", "r", "y", "n")}
        ), placed as (
          select *, row_number() over (partition by gb, gs, b, s, g order by r, y) place,
            row_number() over (partition by gb, gs, b, s, g order by y desc) best,
            countif(y > 0) over (partition by gb, gs, b, s, g order by r, y rows unbounded preceding) hits
          from expanded
        ), lists as (
          select gb, gs, b, s, g, sum(y / log2(place + 1)) filter (place <= {k:d}) dcg,
            sum(y / log2(best + 1)) filter (best <= {k:d}) ideal, min(place) filter (y > 0) first,
            sum(hits / place) filter (y > 0 and place <= {k:d}) precisions, countif(y > 0) relevant
          from placed group by gb, gs, b, s, g
        )
        select gb, gs, b, s, avg(dcg / ideal) filter (ideal > 0), avg(1 / first) filter (relevant > 0),
          avg(coalesce(precisions, 0) / least(relevant, {k:d})) filter (relevant > 0), countif(relevant = 0), count(*)
        from lists group by gb, gs, b, s""")
    answers: dict[Key, Metrics] = {}
    without = 0
    for row in found:
        where = key(row)
        answers[where] = {"ndcg": row[4], "mrr": row[5], "map": row[6], "lists": float(row[8])}
        without = row[7] if where == ("all", None) else without
    return answers, without
