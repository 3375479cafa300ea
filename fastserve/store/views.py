"""The SQL that shows the log: `records`, `predictions`, `actuals`, `importances`, `joined`. Pure text.

What is named `_...` is inside: `_all` holds every row with the columns' names as files have them.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from fastserve.store.columns import FIXED, PARTS, REST, Column, is_showable, marked

VIEWS = ("records", "predictions", "actuals", "importances", "joined")
MAX_SHOWN = 4000
"""Columns that a view has; all of them can be had by asking for one model, or one record."""

HIDDEN = frozenset({"key", "role", "digest", "extras", REST})
_FIXED = tuple(name for name in FIXED.names if name not in HIDDEN)
_SQL_TYPES = {"int64": "BIGINT", "double": "DOUBLE", "string": "VARCHAR", "strings": "VARCHAR[]", "vector": "DOUBLE[]"}
_PREFERRED = ("double", "int64", "string", "strings", "vector")


class Shown(Struct, frozen=True):
    """A column as people see it: its name, what of (part and name), its SQL type, and how it is had from `_all`."""

    name: str
    part: str
    of: str
    type: str
    expression: str


def shown(columns: Iterable[Column]) -> list[Shown]:
    """What a model's columns are called. A name with values of several types has a column for each, one without suffix."""
    types: dict[tuple[str, str], set[str]] = {}
    for column in columns:
        types.setdefault((column.part, column.name), set()).add(column.type)
    taken: set[str] = set()
    found: list[Shown] = []
    for (part, name), there in sorted(types.items()):
        base = _free(part, name, taken)
        for index, kind in enumerate(kind for kind in _PREFERRED if kind in there):
            alias = base if index == 0 else f"{base}:{kind}"
            taken.add(alias.lower())
            expression = quoted(Column(part, name, kind).physical)
            if kind == "double" and "int64" in there:
                expression = f"coalesce({expression}, {quoted(Column(part, name, 'int64').physical)}::double)"
            found.append(Shown(alias, part, name, _SQL_TYPES[kind], expression))
    return found[:MAX_SHOWN]


def files_sql(paths: Sequence[str], *, alike: bool) -> str:
    """A query for what files hold. `alike`: they have the same columns, so that not all need be opened to know them."""
    by_name = "false" if alike else "true"
    listed = ", ".join(map(text, paths))
    return f"select * from read_parquet([{listed}], union_by_name = {by_name}, hive_partitioning = false)"  # noqa: S608


def all_sql(sources: Sequence[str], columns: Iterable[Column], spaces: Iterable[str] | None, *, deleted: bool) -> str:
    """`_all`: the rows of all sources (names of views), each with the columns of all."""
    names = [*FIXED.names, *(column.physical for column in columns)]
    if not sources:
        empty = ", ".join(f"null::{_fixed_type(name)} as {quoted(name)}" for name in FIXED.names)
        return f"create view _all as select {empty} where false"
    inner = " union all by name ".join(f"select * from {source}" for source in sources)  # noqa: S608
    where = []
    if spaces is not None:
        listed = ", ".join(map(text, sorted(spaces)))
        where.append(f"space in ({listed})" if listed else "false")
    if deleted:
        where.append("seq not in (select seq from _deleted)")
    filters = f" where {' and '.join(where)}" if where else ""
    return f"create view _all as select {', '.join(map(quoted, names))} from ({inner}){filters}"  # noqa: S608


def view_sqls(columns: Sequence[Shown], *, superseded: bool) -> list[str]:
    """The statements that make the views. `superseded`: some rows have been; `_superseded` says which."""
    fixed = [quoted(name) for name in _FIXED]
    named = [f"{column.expression} as {quoted(column.name)}" for column in columns]
    everything = ", ".join([*fixed, *named])
    sqls = [f"create view records as select {everything} from _all"]  # noqa: S608
    for view, role in (("predictions", "prediction"), ("actuals", "actual"), ("importances", "importance")):
        parts = {"importances": "i"}.get(view, "ft")
        own = ", ".join([*fixed, *(sql for column, sql in zip(columns, named, strict=True) if column.part in parts)])
        sqls.append(f"create view {view} as select {own} from _all where {_last(role, superseded=superseded)}")  # noqa: S608
    return [*sqls, _joined_sql(columns, superseded=superseded)]


def _joined_sql(columns: Sequence[Shown], *, superseded: bool) -> str:
    """Each prediction with its actual, if there is one. Tags that came with the actual, or alone, fill in."""
    tags = [column for column in columns if column.part == "t"]
    late = ", ".join([f"{column.expression} as {quoted(column.name)}" for column in tags])
    one = "key, space, model_id, prediction_id"
    actual = (
        f"select {one}, label_num, label_cat, score, label_json, ts, ts_ns, ingest_ts, ingest_ns"  # noqa: S608
        f"{', ' + late if late else ''} from _all where {_last('actual', superseded=superseded)}"
    )
    select = [
        *(f"p.{quoted(name)}" for name in _FIXED),
        *(f"p.{quoted(column.name)}" for column in columns if column.part == "f"),
        *(_first(column.name, ("p", "a", "l")) for column in tags),
        "a.label_num as actual_num, a.label_cat as actual_cat, a.score as actual_score, a.label_json as actual_json",
        "a.ts as actual_ts, a.ts_ns as actual_ts_ns, a.ingest_ts as actual_ingest_ts",
        "(a.ingest_ns - p.ts_ns) / 1e9 as label_delay_s",
    ]
    shown_here = [column for column in columns if column.part in "ft"]
    own = ", ".join([*map(quoted, _FIXED), "key", *(f"{c.expression} as {quoted(c.name)}" for c in shown_here)])
    same = " and ".join(f"{{0}}.{name} = p.{name}" for name in one.split(", "))
    joins = f" left join ({actual}) a on {same.format('a')}"
    if tags:
        later = f"select {one}, {late} from _all where {_last('tags', superseded=superseded)}"  # noqa: S608
        joins += f" left join ({later}) l on {same.format('l')}"
    predictions = f"select {own} from _all where {_last('prediction', superseded=superseded)}"  # noqa: S608
    return f"create view joined as select {', '.join(select)} from ({predictions}) p{joins}"  # noqa: S608


def _first(name: str, sources: Sequence[str]) -> str:
    return f"coalesce({', '.join(f'{source}.{quoted(name)}' for source in sources)}) as {quoted(name)}"


def _last(role: str, *, superseded: bool) -> str:
    where = f"role = '{role}'"
    if superseded:
        where += f" and seq not in (select seq from _superseded where role = '{role}')"  # noqa: S608
    return where


def _free(part: str, name: str, taken: set[str]) -> str:
    """A name that no other column has, in whatever case; the plain one where it can be had."""
    plain = f"{part}.{name}"
    return plain if is_showable(name) and not _clashes(plain, taken) else f"{part}.{marked(name)}"


def _clashes(alias: str, taken: set[str]) -> bool:
    lower = alias.lower()
    return any(f"{lower}{suffix}" in taken for suffix in ("", *(f":{kind}" for kind in _PREFERRED)))


def _fixed_type(name: str) -> str:
    kinds: Mapping[str, str] = {
        "string": "varchar",
        "int64": "bigint",
        "uint64": "ubigint",
        "double": "double",
        "timestamp[us]": "timestamp",
        "binary": "blob",
    }
    return kinds[str(FIXED.field(name).type)]


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"


assert set(PARTS) == {"f", "t", "i"}
