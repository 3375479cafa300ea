"""What one question is about, made visible to its DuckDB: some models' files and tails, as some caller may see them.

Thread: the question's. Memory: the tables are borrowed from the reader.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fastserve.store import columns, superseded, views
from fastserve.store.catalogue import File
from fastserve.store.columns import Column
from fastserve.store.deleting import NARROW, doomed_in
from fastserve.store.plan import Plan
from fastserve.store.reader import Moment
from fastserve.store.rows import Row
from fastserve.store.superseded import Memory
from fastserve.types import Caller


class Scope:
    """`model` None: all that the caller may use."""

    def __init__(self, directory: Path, moment: Moment, model: str | None, caller: Caller) -> None:
        self._directory = directory
        models = {name for name in moment.models if model in (None, name) and caller.may_use(name)}
        self._files = [file for file in moment.files if file.model_id in models]
        self._tail = [table for name, table in sorted(moment.tail.items()) if name in models]
        self._tombstones = [one for one in moment.tombstones if one.model_id in models]
        self._spaces = caller.spaces
        self._columns = sorted(
            {*_columns_of(self._files), *(c for t in self._tail for c in columns.columns_of(t.schema))}
        )
        self.paths = tuple(file.path for file in self._files)
        self.shown = views.shown(self._columns)

    def plans(self, one: Any, memory: Memory, *, count_duplicates: bool) -> tuple[Plan, Plan]:
        """What makes `_all`, which is done in `one`, an empty database; and what makes the views on it.

        `count_duplicates`: no prediction takes another's place.
        """
        below = self._below()
        below.make(one)
        replaced = self._superseded(one, memory)
        if count_duplicates:
            replaced = replaced.filter(pc.not_equal(replaced.column("role"), "prediction"))
        tables = {"_superseded": replaced} if replaced.num_rows else {}
        return below, Plan(below.paths, views.view_sqls(self.shown, superseded=bool(tables)), tables)

    def record(self, one: Any, prediction_id: str) -> list[Row]:
        """Every part of that prediction."""
        below = self._below()
        below.make(one)
        below.lock(one)
        keys = sorted({columns.key_of(file.model_id, prediction_id) for file in self._files})
        keys += [
            key for key in {columns.key_of(_model(table), prediction_id) for table in self._tail} if key not in keys
        ]
        if not keys:
            return []
        listed = ", ".join(map(str, keys))
        query = f"select * from _all where key in ({listed}) and prediction_id = ? order by seq"  # noqa: S608 - numbers
        found = one.sql(query, params=[prediction_id]).to_arrow_table()
        fields = [*columns.FIXED, *map(columns.field_of, self._columns)]
        return columns.rows_of(found.cast(pa.schema(fields)))

    def _below(self) -> Plan:
        """`_files`, `_tail` and `_all`."""
        paths = [str(self._directory / path) for path in self.paths]
        sqls: list[str] = []
        tables: dict[str, pa.Table] = {}
        if self._files:
            alike = len({file.columns for file in self._files}) == 1
            sqls.append(f"create view _files as {views.files_sql(paths, alike=alike)}")
        if self._tail:
            tables["_tail"] = columns.joined(self._tail)
        deleted = self._deleted()
        if deleted:
            tables["_deleted"] = pa.table({"seq": pa.array(deleted, pa.uint64())})
        sources = [*(["_files"] if self._files else []), *(["_tail"] if self._tail else [])]
        sqls.append(views.all_sql(sources, self._columns, self._spaces, deleted=bool(deleted)))
        return Plan(paths=paths, sqls=sqls, tables=tables)

    def _deleted(self) -> list[int]:
        """What files still hold and a deletion that was acknowledged a moment ago is about."""
        from fastserve.store import parts

        found: list[int] = []
        for file in self._files:
            own = [one for one in self._tombstones if one.model_id == file.model_id]
            if own:
                narrow = parts.read(self._directory, file, NARROW)
                found += narrow.column("seq").take(doomed_in(narrow, own)).to_pylist()
        return found

    def _superseded(self, one: Any, memory: Memory) -> pa.Table:
        """Role and seq of the rows whose place another took: in files, which is remembered, and where the tail meets them."""
        found = [superseded.NONE]
        if self._files:
            found.append(superseded.of_files(one, self._directory, self._files, memory))
        if self._tail:
            rows = f"select {superseded.ONE}, seq from _tail"  # noqa: S608
            if self._files:
                rows += f" union all select {superseded.ONE}, seq from _files semi join _tail using (key)"  # noqa: S608
            found.append(superseded.among(one, rows))
        return pa.concat_tables(found)


def _columns_of(files: list[File]) -> set[Column]:
    return {Column(*column) for about in {file.columns for file in files} for column in about}


def _model(table: pa.Table) -> str:
    return str(table.column("model_id")[0].as_py())
