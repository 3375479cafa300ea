"""Files to a table, through DuckDB: the only file that names it.

Thread: the datasets'; a read that takes too long is interrupted from a timer's.
Memory: DuckDB's own is bounded by `memory_bytes`; the table that comes out by `max_rows`.
A connection sees the files of the dataset it reads and nothing else: no other file, no network, no extension.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from fastserve.config import DatasetConfig
from fastserve.datasets import files
from fastserve.datasets.files import Identities
from fastserve.datasets.table import Table, columns_of, in_order
from fastserve.errors import DatasetError

INSTALL = "reading datasets takes DuckDB: pip install 'fastserve[datasets]'"
READ_WITHIN_S = 600.0
DEFAULT_TIME_COLUMN = "ts"
MAX_REASON_CHARS = 400

READERS: Mapping[str, str] = {
    # Types are taken from all rows: a sample says little of what comes after it.
    # The dialect is told: DuckDB's own guess takes half a file for a whole one with other columns.
    "csv": "read_csv({}, union_by_name = true, sample_size = -1, delim = '{}', quote = '\"', escape = '\"', comment = '',"
    " header = true, skip = 0, null_padding = false, strict_mode = true, ignore_errors = false)",
    "parquet": "read_parquet({}, union_by_name = true)",
    "json": "read_json({}, union_by_name = true, sample_size = -1)",
}
OPTIONS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "threads": "2",
}


def unsupported() -> str:
    """Why nothing can be read; empty where it can."""
    return "" if find_spec("duckdb") else INSTALL


def needed(config: DatasetConfig, others: Sequence[DatasetConfig]) -> tuple[DatasetConfig, ...]:
    """The datasets that its SQL names, those that they name before them; itself last. Raises DatasetError for a circle."""
    found: dict[str, DatasetConfig] = {}
    _collect(config, {other.name: other for other in others}, found, ())
    return tuple(found.values())


def _collect(
    config: DatasetConfig, known: Mapping[str, DatasetConfig], found: dict[str, DatasetConfig], above: tuple[str, ...]
) -> None:
    if config.name in above:
        raise DatasetError(f"datasets are made of each other in a circle: {', '.join(above)}")
    for name, other in known.items():
        if config.sql and name != config.name and re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", config.sql):
            _collect(other, known, found, (*above, config.name))
    found[config.name] = config


def read(config: DatasetConfig, parts: Sequence[DatasetConfig], paths: Mapping[str, Identities]) -> Table:
    """The table as its files are now. `parts`: from `needed`; `paths`: the files of each. Raises DatasetError."""
    reason = unsupported()
    if reason:
        raise DatasetError(reason)
    import duckdb  # it takes 60 MB and a tenth of a second: only for those who have datasets

    try:
        with duckdb.connect(":memory:", config={**OPTIONS, "memory_limit": f"{config.memory_bytes >> 20}MiB"}) as one:
            _lock(one, [path for own in paths.values() for path in own])
            for part in parts:
                one.execute(f"create temp view {_name(part.name)} as {_query(part, paths)}")
            timer = threading.Timer(READ_WITHIN_S, one.interrupt)
            timer.daemon = True
            timer.start()
            try:
                return _fetched(one, config)
            finally:
                timer.cancel()
    except duckdb.Error as error:
        raise DatasetError(_reason(error, paths)) from None


def _lock(one: Any, paths: Sequence[str]) -> None:
    one.execute(f"set allowed_paths = {_list(paths)}")
    one.execute("set enable_external_access = false")
    one.execute("set lock_configuration = true")


def _query(config: DatasetConfig, paths: Mapping[str, Identities]) -> str:
    if config.sql:
        return config.sql.strip().rstrip(";")
    own = paths[config.name]
    kind = files.format_of(config, own)
    delimiter = files.delimiter_of(next(iter(own))) if kind == "csv" else ""
    reader = READERS[kind].format(_list([*own]), delimiter)
    return f"select * from {reader}"  # noqa: S608 - names and texts are quoted


def _fetched(one: Any, config: DatasetConfig) -> Table:
    view = _name(config.name)
    names = [row[0] for row in one.execute(f"describe {view}").fetchall()]
    time_column = config.time_column or (DEFAULT_TIME_COLUMN if DEFAULT_TIME_COLUMN in names else None)
    if time_column is not None and time_column not in names:
        raise DatasetError(f'there is no time column "{time_column}"; the columns are {", ".join(names[:50])}')
    query = f"select * from {view} limit {config.max_rows + 1}"  # noqa: S608 - names are quoted
    arrays = one.execute(query).fetchnumpy()
    rows = len(next(iter(arrays.values()))) if arrays else 0
    if rows > config.max_rows:
        raise DatasetError(f"it has more than {config.max_rows} rows (max_rows)")
    return Table(rows, columns_of(arrays if time_column is None else in_order(arrays, time_column)), time_column)


def _reason(error: Exception, paths: Mapping[str, Identities]) -> str:
    """DuckDB's first line, without the folders of this machine."""
    text = str(error).partition("\n")[0][:MAX_REASON_CHARS]
    if "sniffing" in text:
        text += " It is no CSV with a header and rows as long as the header."
    for own in paths.values():
        for path in own:
            text = text.replace(path, path.rpartition("/")[2])
    return re.sub(r"(?<![\w])/[\w./-]*/", "", text)


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"
