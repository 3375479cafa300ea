"""Drift of vectors: how far the mean of the current ones lies from the baseline's.

Vectors of another length than most of the baseline's, and those with NaN or infinities, are counted and left out. At most
`SAMPLED_CELLS` numbers of either side are read: always the same rows, chosen by a hash of their ids.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fastserve.monitor.distances import CentroidDistances, of_centroids
from fastserve.monitor.numeric import PARTS, Dimension, Side
from fastserve.monitor.parts import ALL, Key
from fastserve.monitor.source import Grouping, Relation, Source

SAMPLED_CELLS = 10_000_000


class Vectors(Struct, frozen=True):
    """What was found of one dimension. `other_lengths`: current vectors that are not of the baseline's length."""

    dimensions: int
    distances: dict[Key, CentroidDistances]
    rows: dict[Key, int]
    sides: tuple[Side, Side]
    other_lengths: int
    sampled: bool


def measure(
    source: Source,
    dimension: Dimension,
    baseline: tuple[Relation, Grouping],
    current: tuple[Relation, Grouping],
) -> Vectors:
    """Of one dimension, for each window and slice too; the baseline's centroid is one for all of them."""
    lengths = source.rows(
        f"select len({dimension.sql}) l, count(*) n from {baseline[0].sql} "
        "where l > 0 group by l order by n desc, l limit 1"
    )
    sides = _side(source, dimension, baseline[0]), _side(source, dimension, current[0])
    if not lengths:
        return Vectors(0, {}, {}, sides, 0, False)
    length = lengths[0][0]
    before = _pull(source, dimension, baseline[0], Grouping([], 0), length, sides[0].rows)
    now = _pull(source, dimension, current[0], current[1], length, sides[1].rows)
    other = source.row(f"select count(*) from {current[0].sql} where len({dimension.sql}) not in (0, {length:d})")[0]
    centroid = _mean(before[0])
    distances, rows = {}, {}
    for where, mask in _groups(now[1], now[2], current[1]):
        own = now[0][mask]
        rows[where] = len(own)
        distances[where] = of_centroids(centroid, _mean(own)) if len(own) and len(centroid) else CentroidDistances()
    sampled = max(sides[0].rows, sides[1].rows) * length > SAMPLED_CELLS
    return Vectors(length, distances, rows, sides, other, sampled)


def _side(source: Source, dimension: Dimension, rows: Relation) -> Side:
    total, there = source.row(f"select count(*), coalesce(countif(len({dimension.sql}) > 0), 0) from {rows.sql}")
    return Side(rows=total, missing=total - there, missing_share=(total - there) / total if total else None)


def _pull(
    source: Source, dimension: Dimension, rows: Relation, grouping: Grouping, length: int, total: int
) -> tuple[NDArray[np.float64], list[Any], list[Any]]:
    """Vectors as rows of one array, their windows and their slices."""
    wanted = max(1, SAMPLED_CELLS // length)
    part = PARTS if total <= wanted else max(1, wanted * PARTS // total)
    found = source.connection.sql(
        f"select {grouping.bucket} b, {grouping.slice} s, {dimension.sql}::double[] v from {rows.sql} "
        f"where len({dimension.sql}) = {length:d} and hash(prediction_id) % {PARTS} < {part:d}"
    ).to_arrow_table()
    flat = found.column("v").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float64, copy=False).reshape(-1, length)
    good = np.isfinite(vectors).all(axis=1)
    windows = np.array(found.column("b").to_pylist(), dtype=object)[good]
    slices = np.array(found.column("s").to_pylist(), dtype=object)[good]
    return vectors[good], list(windows), list(slices)


def _mean(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.mean(vectors, axis=0) if len(vectors) else np.empty(0)


def _groups(windows: list[Any], slices: list[Any], grouping: Grouping) -> list[tuple[Key, NDArray[np.bool_]]]:
    """All, then each window and each slice, as masks."""
    found: list[tuple[Key, NDArray[np.bool_]]] = [(ALL, np.ones(len(windows), dtype=bool))]
    for name, values, wanted in (("window", windows, bool(grouping.starts)), ("slice", slices, grouping.sliced)):
        if wanted:
            own = np.array(values, dtype=object)
            found += [((name, value), own == value) for value in sorted(set(values))]
    return found
