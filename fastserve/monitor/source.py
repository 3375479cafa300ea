"""The log as SQL sees it: which columns there are, which rows a question is about, how they are grouped.

Thread: the one that asks; a connection is one question's. Values get into SQL as quoted literals, names only where the log
has such a column; both come from outside.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct

from fastserve.errors import InvalidRequest, quoted
from fastserve.monitor import spans
from fastserve.monitor.question import Question

PLAIN = ("version", "environment", "batch_id", "space")
"""Columns beside features and tags that slices and filters may name."""

NUMBERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "UBIGINT"})
SLICE_BINS = 4
MISSING_SLICE = "(missing)"
OTHER_SLICE = "(other)"

_FILTER = re.compile(r"(<=|>=|!=|=|<|>)")


class Relation(Struct, frozen=True):
    """Rows that a question is about: `sql` stands in a FROM clause."""

    sql: str


class Grouping(Struct, frozen=True):
    """How rows are grouped: by windows where there are `starts`, by slices where `sliced`. `bucket`, `slice`: SQL."""

    starts: list[int]
    length_ns: int
    bucket: str = "NULL::BIGINT"
    slice: str = "NULL::VARCHAR"
    sliced: bool = False
    slice_of: str | None = None


class Source:
    """One model's part of the log, over one connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.columns: dict[str, str] = {row[0]: row[1] for row in connection.execute("describe predictions").fetchall()}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer to `sql`."""
        found: list[tuple[Any, ...]] = self.connection.execute(sql).fetchall()
        return found

    def row(self, sql: str) -> tuple[Any, ...]:
        """The only row of the answer."""
        return self.rows(sql)[0]

    def arrays(self, sql: str) -> dict[str, Any]:
        """The answer's columns as arrays, masked where there are NULLs."""
        found: dict[str, Any] = self.connection.execute(sql).fetchnumpy()
        return found

    def kind(self, column: str) -> str:
        """`numeric`, `categorical`, `list` (of texts) or `embedding`."""
        kind = self.columns[column]
        if kind.endswith("[]"):
            return "embedding" if kind[:-2] in NUMBERS else "list"
        return "numeric" if kind in NUMBERS or kind.startswith("DECIMAL") else "categorical"

    def named(self, text: str, parameter: str) -> str:
        """`text` where it names a column that may be asked about. Raises InvalidRequest."""
        if text in self.columns and (text in PLAIN or text[:2] in ("f.", "t.")):
            return text
        known = [name for name in self.columns if name[:2] in ("f.", "t.")]
        named = ", ".join([*PLAIN, *known[:20]]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
        raise InvalidRequest(f"{parameter}: there is no column {quoted(text)}; there are {named}")

    def relation(  # what is left out does not narrow
        self,
        question: Question,
        view: str = "predictions",
        *,
        environment: str = "all",
        start_ns: int | None = None,
        end_ns: int | None = None,
        versions: Sequence[str] = (),
        batch_id: str | None = None,
    ) -> Relation:
        """The rows of `view` within the question's model, space and filters; `labelled`: those joined to a label."""
        terms = [f"model_id = {literal(question.model)}"]
        terms += [] if question.space is None else [f"space = {literal(question.space)}"]
        terms += [] if environment == "all" else [f"environment = {literal(environment)}"]
        terms += [] if batch_id is None else [f"batch_id = {literal(batch_id)}"]
        terms += [f"version in ({', '.join(map(literal, versions))})"] if versions else []
        terms += [] if start_ns is None else [f"ts_ns >= {start_ns:d}"]
        terms += [] if end_ns is None else [f"ts_ns < {end_ns:d}"]
        terms += [self._filter(text) for text in question.filter]
        if view == "labelled":
            view = "joined"
            terms.append("(actual_cat is not null or actual_num is not null)")
        return Relation(f"(select * from {view} where {' and '.join(terms)})")

    def _filter(self, text: str) -> str:
        """`t.region=eu` as SQL: the longest column that it begins with."""
        places = [found for found in _FILTER.finditer(text) if text[: found.start()] in self.columns]
        if not places:
            self.named(_FILTER.split(text)[0], "filter")
            raise InvalidRequest(f"filter: expected as in t.region=eu or f.age>=18, got {quoted(text)}")
        place = places[-1]
        column = self.named(text[: place.start()], "filter")
        value, operator = text[place.end() :], place[0]
        kind = self.kind(column)
        if kind in ("list", "embedding"):
            raise InvalidRequest(f"filter: {quoted(column)} holds lists, which cannot be compared")
        if kind == "categorical":
            return f"{identifier(column)} {operator} {literal(value)}"
        return f"{identifier(column)} {operator} {_number(value, column)}"

    def grouping(self, question: Question, rows: Relation, start_ns: int, end_ns: int) -> Grouping:
        """The windows and the slices that the question asks for."""
        length = spans.window_ns(question.window, start_ns, end_ns)
        starts = spans.windows(start_ns, end_ns, length)
        bucket = f"ts_ns // {length:d}" if starts else "NULL::BIGINT"
        if question.slice is None:
            return Grouping(starts, length, bucket)
        column = self.named(question.slice, "slice")
        kind = self.kind(column)
        name = f"nullif({identifier(column)}, '')" if column in PLAIN else identifier(column)
        if kind in ("list", "embedding"):
            raise InvalidRequest(f"slice: {quoted(column)} holds lists, of which there are no slices")
        if kind == "numeric":
            found = self.rows(f"select count(distinct {name}) from {rows.sql}")[0][0]
            if found > question.max_slices:
                return Grouping(starts, length, bucket, self._ranges(name, rows), True, column)
            name = f"{name}::varchar"
        top = self.rows(
            f"select {name} v, count(*) n from {rows.sql} where v is not null "
            f"group by v order by n desc, v limit {question.max_slices:d}"
        )
        values = [row[0] for row in top]
        listed = ", ".join(map(literal, values)) or "NULL"
        missing, other = literal(MISSING_SLICE), literal(OTHER_SLICE)
        sql = f"case when {name} is null then {missing} when {name} in ({listed}) then {name} else {other} end"
        return Grouping(starts, length, bucket, sql, True, column)

    def _ranges(self, name: str, rows: Relation) -> str:
        """A number's slices: its quarters."""
        at = [number / SLICE_BINS for number in range(1, SLICE_BINS)]
        found = self.row(f"select approx_quantile({_real(name)}, {at}) from {rows.sql}")[0] or []
        edges = sorted({edge for edge in found if math.isfinite(edge)})
        labels = [f"<= {edges[0]:g}"] if edges else ["(all)"]
        labels += [f"{low:g} .. {high:g}" for low, high in pairwise(edges)]
        labels += [f"> {edges[-1]:g}"] if edges else []
        cases = [
            f"when {name} <= {edge!r}::double then {literal(label)}" for edge, label in zip(edges, labels, strict=False)
        ]
        missing = f"{name} is null or isnan({name}::double)"
        return f"case when {missing} then {literal(MISSING_SLICE)} {' '.join(cases)} else {literal(labels[-1])} end"


def _real(name: str) -> str:
    """A number that is none (NaN) as NULL."""
    return f"(case when isfinite({name}::double) then {name}::double end)"


def _number(text: str, column: str) -> str:
    try:
        value = float(text)
    except ValueError:
        raise InvalidRequest(f"filter: {quoted(column)} holds numbers, got {quoted(text)}") from None
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return f"{int(text):d}"
    return f"'{value!r}'::double"


def identifier(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"
