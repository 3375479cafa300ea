"""Drift of numbers. The bins are quantiles of the baseline (`distances.edges_of`), frozen; DuckDB counts all rows in them.

Quantiles, Kolmogorov-Smirnov and Wasserstein are taken from samples of at most `SAMPLED_ROWS` of either side: always the same
rows, chosen by a hash of their ids. NaN counts as missing, infinities fall into the outer bins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fastserve.monitor.distances import Sample, SampleDistances, edges_of, of_samples
from fastserve.monitor.parts import ALL, Key, key, keys, sets
from fastserve.monitor.source import Grouping, Relation, Source

SAMPLED_ROWS = 20_000
SAMPLED_CELLS = 10_000_000
PARTS = 1_000_000
AT_ONCE = 40
"""Dimensions counted in one scan."""

LARGEST = "1e150"
"""Numbers beyond it have no square: they are counted in bins, and left out of means and deviations."""

Counts = NDArray[np.float64]


class Dimension(Struct, frozen=True):
    """Something that may drift: its name in answers, its SQL, its kind; `clash`: the column of values of another type."""

    name: str
    sql: str
    kind: str
    clash: str | None = None


class Side(Struct, frozen=True, kw_only=True):
    """What one side's values are. `cardinality`: different values, near enough (HyperLogLog) for numbers."""

    rows: int = 0
    missing: int = 0
    missing_share: float | None = None
    cardinality: int | None = None
    clashes: int = 0
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    p05: float | None = None
    p50: float | None = None
    p95: float | None = None
    max: float | None = None


class Numbers(Struct, frozen=True):
    """What was found of one dimension: counts per bin, the missing ones last, of each group."""

    edges: list[float]
    baseline: dict[Key, Counts]
    current: dict[Key, Counts]
    sides: tuple[Side, Side]
    samples: SampleDistances
    sampled: bool


def measure(
    source: Source,
    dimensions: Sequence[Dimension],
    baseline: tuple[Relation, Grouping],
    current: tuple[Relation, Grouping],
    bins: int,
) -> list[Numbers]:
    """Of every dimension; each side is scanned three times, whatever their number."""
    found: list[Numbers] = []
    for start in range(0, len(dimensions), AT_ONCE):
        found += _measure(source, dimensions[start : start + AT_ONCE], baseline, current, bins)
    return found


def _measure(
    source: Source,
    dimensions: Sequence[Dimension],
    baseline: tuple[Relation, Grouping],
    current: tuple[Relation, Grouping],
    bins: int,
) -> list[Numbers]:
    totals = [source.row(f"select count(*) from {one[0].sql}")[0] for one in (baseline, current)]
    sides = list(zip((baseline, current), totals, strict=True))
    samples = [_sample(source, dimensions, one[0], total) for one, total in sides]
    edges = [edges_of(sample, bins) for sample in samples[0]]
    scans = [_scan(source, dimensions, edges, *one) for one in (baseline, current)]
    found = []
    for number, dimension in enumerate(dimensions):
        finite = [sample[number][np.isfinite(sample[number])] for sample in samples]
        told = [_side(scan[1], number, own) for scan, own in zip(scans, finite, strict=True)]
        found.append(
            Numbers(
                edges[number],
                scans[0][0][number],
                scans[1][0][number],
                (told[0], told[1]),
                of_samples(finite[0], finite[1]) if dimension.kind == "numeric" else SampleDistances(),
                max(totals) > SAMPLED_ROWS,
            )
        )
    return found


def _sample(source: Source, dimensions: Sequence[Dimension], rows: Relation, total: int) -> list[Sample]:
    """Values of each dimension, NaN where there is none."""
    wanted = min(SAMPLED_ROWS, SAMPLED_CELLS // max(1, len(dimensions)))
    part = PARTS if total <= wanted else max(1, wanted * PARTS // total)
    where = "" if part == PARTS else f" where hash(prediction_id) % {PARTS} < {part:d}"
    columns = ", ".join(f"{one.sql}::double x{number}" for number, one in enumerate(dimensions))
    found = source.arrays(f"select {columns} from {rows.sql}{where}")
    return [np.ma.filled(found[f"x{number}"], np.nan) for number in range(len(dimensions))]


def _scan(
    source: Source, dimensions: Sequence[Dimension], edges: list[list[float]], rows: Relation, grouping: Grouping
) -> tuple[list[dict[Key, Counts]], Sequence[Any]]:
    """Of every dimension, of each group: rows per bin, the missing ones last. And the columns of `_stats`, of all rows.

    Where there is one group all of it is one scan.
    """
    inner, stats = _inner(dimensions, grouping, rows), _stats(dimensions)
    grouped = bool(grouping.starts) or grouping.sliced
    columns = ["count(*)", *_bins(edges), *([] if grouped else stats)]
    found: list[dict[Key, Counts]] = [{} for _ in dimensions]
    answer = source.rows(f"select {keys(grouping)}, {', '.join(columns)} from {inner} group by {sets(grouping)}")
    width = 5 + sum(len(own) + 1 for own in edges)
    for row in answer:
        for counts, own in zip(found, _counted(row, edges), strict=True):
            counts[key(row)] = own
    for counts, one in zip(found, edges, strict=True):
        counts.setdefault(ALL, np.zeros(len(one) + 2))
    if grouped:
        return found, source.row(f"select count(*), {', '.join(stats)} from {inner}")
    return found, (answer[0][4], *answer[0][width:])


def _inner(dimensions: Sequence[Dimension], grouping: Grouping, rows: Relation) -> str:
    """Rows as b, s, x (the number), y (NULL where it has no square), c (what is of another type), for each dimension."""
    columns = [f"{grouping.bucket} b, {grouping.slice} s"]
    for number, one in enumerate(dimensions):
        columns.append(
            f"{one.sql}::double x{number}, case when abs(x{number}) <= {LARGEST} then x{number} end y{number}"
        )
        columns.append(f"{one.clash or 'NULL'} c{number}")
    return f"(select {', '.join(columns)} from {rows.sql})"


def _bins(edges: list[list[float]]) -> list[str]:
    """Of each dimension: the missing ones, then what is not above each edge."""
    columns = []
    for number, own in enumerate(edges):
        columns.append(f"count(*) - coalesce(countif(not isnan(x{number})), 0)")
        columns += [f"coalesce(countif(x{number} <= '{edge!r}'::double), 0)" for edge in own]
    return columns


def _stats(dimensions: Sequence[Dimension]) -> list[str]:
    """Seven columns a dimension."""
    columns = []
    for number in range(len(dimensions)):
        columns.append(f"coalesce(countif(not isnan(x{number})), 0)")
        columns.append(f"count(c{number})")
        columns += [f"{how}(y{number})" for how in ("approx_count_distinct", "avg", "stddev_samp", "min", "max")]
    return columns


def _counted(row: Sequence[Any], edges: list[list[float]]) -> list[Counts]:
    """One group's counts per bin."""
    total, at, found = row[4], 5, []
    for own in edges:
        missing, below = row[at], row[at + 1 : at + 1 + len(own)]
        at += 1 + len(own)
        up_to = np.array([0, *below, total - missing], dtype=np.float64)
        found.append(np.append(np.diff(up_to), missing))
    return found


def _side(stats: Sequence[Any], number: int, finite: Sample) -> Side:
    total = stats[0]
    there, clashes, distinct, mean, std, least, most = stats[1 + 7 * number : 8 + 7 * number]
    p05, p50, p95 = (float(one) for one in np.quantile(finite, [0.05, 0.5, 0.95])) if len(finite) else (None,) * 3
    return Side(
        rows=total,
        missing=total - there - clashes,
        missing_share=(total - there - clashes) / total if total else None,
        cardinality=distinct,
        clashes=clashes,
        mean=mean,
        std=std,
        min=least,
        p05=p05,
        p50=p50,
        p95=p95,
        max=most,
    )
