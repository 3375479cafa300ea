"""Drift of texts, and of the texts in lists.

There is a bin for each of the baseline's most frequent values, one for all others, one for missing.
All counts are of all rows. A list counts once for each of its texts, an empty one as missing.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fastserve.monitor.numeric import Dimension, Side
from fastserve.monitor.parts import ALL, Key, key, keys, sets
from fastserve.monitor.source import Grouping, Relation, Source, literal

EXAMPLES = 10

Counts = NDArray[np.float64]


class NewValues(Struct, frozen=True):
    """Values that the baseline has not: how many, in how many rows, and the most frequent ones."""

    values: int
    rows: int
    share: float
    examples: list[str]


class Texts(Struct, frozen=True):
    """What was found of one dimension: counts per value, then of all others, then of missing ones, of each group."""

    values: list[str]
    baseline: dict[Key, Counts]
    current: dict[Key, Counts]
    sides: tuple[Side, Side]
    new: NewValues | None


def measure(
    source: Source,
    dimensions: Sequence[Dimension],
    baseline: tuple[Relation, Grouping],
    current: tuple[Relation, Grouping],
    max_values: int,
) -> list[Texts]:
    """Of every dimension, all of one kind: `categorical`, or a single `list`."""
    if not dimensions:
        return []
    _count_values(source, dimensions, baseline[0], "baseline_values")
    _count_values(source, dimensions, current[0], "current_values")
    values = _most_frequent(source, len(dimensions), max_values)
    sides = [_sides(source, table, len(dimensions)) for table in ("baseline_values", "current_values")]
    counts = [
        _counts(source, dimensions, values, table, *one)
        for table, one in (("baseline_values", baseline), ("current_values", current))
    ]
    new = _new(source, len(dimensions))
    found = []
    for number in range(len(dimensions)):
        known = sides[0][number].rows > sides[0][number].missing
        pair = sides[0][number], sides[1][number]
        found.append(Texts(values[number], counts[0][number], counts[1][number], pair, new[number] if known else None))
    return found


def _inner(dimensions: Sequence[Dimension], grouping: Grouping, rows: Relation) -> str:
    """Rows as b, s, c0, c1, ...; of a list, one for each of its texts."""
    columns = [
        f"unnest(case when len({one.sql}) > 0 then {one.sql} else [NULL]::varchar[] end) c{number}"
        if one.kind == "list"
        else f"{one.sql}::varchar c{number}"
        for number, one in enumerate(dimensions)
    ]
    return f"(select {grouping.bucket} b, {grouping.slice} s, {', '.join(columns)} from {rows.sql})"


def _count_values(source: Source, dimensions: Sequence[Dimension], rows: Relation, table: str) -> None:
    """Into `table`: d (dimension), v (NULL: missing), n; one scan for all of them."""
    every = range(len(dimensions))
    which = " ".join(f"when grouping(c{number}) = 0 then {number}" for number in every)
    value = f"coalesce({', '.join(f'c{number}' for number in every)}, NULL)"
    wanted = ", ".join(f"(c{number})" for number in every)
    source.connection.execute(
        f"create or replace temp table {table} as select case {which} end d, {value} v, count(*) n "
        f"from {_inner(dimensions, Grouping([], 0), rows)} group by grouping sets ({wanted})"
    )


def _most_frequent(source: Source, dimensions: int, max_values: int) -> list[list[str]]:
    """The baseline's, most frequent first; where it has none, the current ones."""
    values: list[list[str]] = [[] for _ in range(dimensions)]
    for number, value in source.rows(f"""
        with every as (
          select d, v, n from baseline_values where v is not null union all
          select d, v, n from current_values where v is not null
            and d not in (select d from baseline_values where v is not null)
        ) select d, v from every qualify row_number() over (partition by d order by n desc, v) <= {max_values:d}
        order by d, n desc, v"""):
        values[number].append(value)
    return values


def _sides(source: Source, table: str, dimensions: int) -> list[Side]:
    found = [Side() for _ in range(dimensions)]
    for number, rows, missing, distinct in source.rows(
        f"select d, sum(n)::bigint, coalesce(sum(n) filter (v is null), 0)::bigint, count(v) from {table} group by d"
    ):
        found[number] = Side(rows=rows, missing=missing, missing_share=missing / rows, cardinality=distinct)
    return found


def _counts(
    source: Source,
    dimensions: Sequence[Dimension],
    values: list[list[str]],
    table: str,
    rows: Relation,
    grouping: Grouping,
) -> list[dict[Key, Counts]]:
    """Of each group; those of all rows are in `table` already."""
    found: list[dict[Key, Counts]] = [{ALL: np.zeros(len(own) + 2)} for own in values]
    place = [{value: at for at, value in enumerate(own)} for own in values]
    for number, own in enumerate(values):
        listed = ", ".join(map(literal, own)) or "NULL"
        for value, missing, total in source.rows(
            f"select case when v in ({listed}) then v end w, v is null m, sum(n) from {table} "
            f"where d = {number:d} group by w, m"
        ):
            found[number][ALL][len(own) + 1 if missing else place[number].get(value, len(own))] = total
    if grouping.starts or grouping.sliced:
        _grouped(source, dimensions, values, found, rows, grouping)
    return found


def _grouped(
    source: Source,
    dimensions: Sequence[Dimension],
    values: list[list[str]],
    found: list[dict[Key, Counts]],
    rows: Relation,
    grouping: Grouping,
) -> None:
    """Windows and slices: values are numbers before they are grouped, so that there are few groups."""
    every = range(len(dimensions))
    placed = ", ".join(
        f"case when c{number} is null then {len(own) + 1} else "
        f"coalesce(nullif(list_position({_list(own)}, c{number}), 0) - 1, {len(own)}) end i{number}"
        for number, own in enumerate(values)
    )
    which = " ".join(f"when grouping(i{number}) = 0 then {number}" for number in every)
    index = f"coalesce({', '.join(f'i{number}' for number in every)}, NULL)"
    wanted = ", ".join(
        sets(grouping, f"i{number}").removeprefix("grouping sets (").removesuffix(")") for number in every
    )
    for row in source.rows(
        f"select {keys(grouping)}, case {which} end d, {index}, count(*) from "
        f"(select b, s, {placed} from {_inner(dimensions, grouping, rows)}) group by grouping sets ({wanted})"
    ):
        where, number = key(row), row[4]
        if where != ALL:
            own = found[number].setdefault(where, np.zeros(len(values[number]) + 2))
            own[row[5]] = row[6]


def _list(values: list[str]) -> str:
    return "[" + ", ".join(map(literal, values)) + "]::varchar[]"


def _new(source: Source, dimensions: int) -> list[NewValues]:
    found = [NewValues(0, 0, 0.0, [])] * dimensions
    for number, values, rows, total, examples in source.rows(f"""
        with fresh as (
          select c.d, c.v, c.n from current_values c anti join baseline_values b on c.d = b.d and c.v = b.v
          where c.v is not null
        ), totals as (select d, sum(n) total from current_values group by d)
        select d, count(*), sum(n)::bigint, any_value(total)::bigint, max_by(v, n, {EXAMPLES})
        from fresh join totals using (d) group by d"""):
        found[number] = NewValues(values, rows, rows / total, list(examples))
    return found
