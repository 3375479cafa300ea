"""Which rows of a model's files another took the place of: found out once, and kept beside the files for who asks next.

What is kept stays true of its rows in whichever file they are, so that files that came since are all that is looked at.
Thread: any, each with a database of its own. Memory: two columns of the rows that were superseded, a few rows in a thousand.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from fastserve.store import parts, views
from fastserve.store.catalogue import File
from fastserve.store.disk import Disk
from fastserve.store.plan import options

ROLES = ("prediction", "actual", "tags", "importance", "document")
MOSTLY_NEW = 4
"""Where files with more than one of so many rows are new, all are looked at."""

KEPT_FROM = 8
"""It is kept anew once more than one of so many rows is in files that came since: so each row is looked at a few times."""

FILE_NAME = "superseded.arrow"
MEMORY_BYTES = 1 << 30

ONE = "space, model_id, prediction_id, role"
_REPLACED = (
    "select model_id, role, seq from (select model_id, role, seq,"
    " row_number() over (partition by {0} order by seq desc) as place from {1}) where place > 1"
)
NONE = pa.table({"role": pa.array([], pa.string()), "seq": pa.array([], pa.uint64())})


class Known(Struct, frozen=True):
    """Role and seq of the rows of these files, all of one model, whose place another took."""

    paths: frozenset[str]
    superseded: pa.Table


UNKNOWN = Known(frozenset(), NONE)

Memory = MutableMapping[str, Known]
"""What was found out before, by model."""


def of_files(one: Any, directory: Path, files: Sequence[File], memory: Memory) -> pa.Table:
    """Role and seq of the rows of `files` (all that a model has) whose place another row of theirs took; remembered."""
    by_model = _by_model(files)
    known = {model: _known(directory, model, own, memory) for model, own in by_model.items()}
    stale = [file for model, own in by_model.items() if known[model].paths != _paths(own) for file in own]
    if stale:
        known |= _found_out(one, directory, stale, known)
    memory.update(known)
    return pa.concat_tables([NONE, *(one.superseded for one in known.values())])


def among(one: Any, rows: str) -> pa.Table:
    """Role and seq of the rows of a query whose place another row of it took."""
    return _replaced(one, rows).select(NONE.column_names)


def keep(directory: Path, files: Sequence[File], memory: Memory, disk: Disk) -> None:
    """Store what questions would have to find out; for the one process that writes there. Raises OSError, duckdb.Error."""
    import duckdb

    stale = [
        own for model, own in _by_model(files).items() if _is_due(memory.get(model) or stored(directory, model), own)
    ]
    if not stale:
        return
    with duckdb.connect(":memory:", config=options(MEMORY_BYTES, 1)) as one:
        of_files(one, directory, [file for own in stale for file in own], memory)
    for own in stale:
        _store(directory, own[0].model_id, memory[own[0].model_id], disk)


def forget(directory: Path, model_id: str, disk: Disk) -> None:
    """The model has no files any more. Raises OSError."""
    path = _path(directory, model_id)
    if path.exists():
        disk.remove(path)


def stored(directory: Path, model_id: str) -> Known | None:
    """What was kept; None where nothing was, or it cannot be read."""
    try:
        with pa.memory_map(str(_path(directory, model_id))) as file:
            table = pa.ipc.open_file(file).read_all()
        paths = json.loads(table.schema.metadata[b"paths"])
        return Known(frozenset(paths), pa.table(table.columns, schema=NONE.schema))
    except (OSError, pa.ArrowInvalid, TypeError, KeyError, ValueError):
        return None


def _store(directory: Path, model_id: str, known: Known, disk: Disk) -> None:
    """Whole or not at all; not synced, since it can be found out again."""
    path = _path(directory, model_id)
    temporary = path.with_name(f"{FILE_NAME}.{os.getpid()}")
    table = known.superseded.replace_schema_metadata({b"paths": json.dumps(sorted(known.paths)).encode()})
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)
    disk.rename(temporary, path)


def _path(directory: Path, model_id: str) -> Path:
    return directory / parts.folder_of(model_id, "any").parent / FILE_NAME


def _known(directory: Path, model_id: str, files: Sequence[File], memory: Memory) -> Known:
    """What is known of these files, or of some of them.

    What is of other files, too, may be of a moment that comes later, whose rows the question does not see.
    """
    paths = _paths(files)
    remembered = memory.get(model_id, UNKNOWN)
    if remembered.paths == paths:
        return remembered
    usable = [one for one in (remembered, stored(directory, model_id) or UNKNOWN) if one.paths <= paths]
    return max(usable, key=lambda one: len(one.paths), default=UNKNOWN)


def _is_due(known: Known | None, files: Sequence[File]) -> bool:
    """`known`: what is kept."""
    if known is None or not known.paths <= _paths(files):
        return True
    return sum(file.rows for file in files if file.path not in known.paths) * KEPT_FROM > sum(
        file.rows for file in files
    )


def _found_out(one: Any, directory: Path, files: Sequence[File], known: Mapping[str, Known]) -> dict[str, Known]:
    """Of files that were looked at before, only what meets the others is looked at."""
    new = [file for file in files if file.path not in known[file.model_id].paths]
    one.execute(f"create view _stale as {_sql(directory, files)}")
    if sum(file.rows for file in new) * MOSTLY_NEW > sum(file.rows for file in files):
        found = _replaced_anywhere(one)
        return {model: Known(_paths(own), _of_model(found, model)) for model, own in _by_model(files).items()}
    found = _NOTHING
    if new:
        one.execute(f"create view _new as {_sql(directory, new)}")
        found = _replaced(one, f"select {ONE}, seq from _stale semi join _new using (key)")  # noqa: S608
    return {
        model: Known(_paths(own), _together(known[model], _of_model(found, model)))
        for model, own in _by_model(files).items()
    }


def _together(known: Known, found: pa.Table) -> pa.Table:
    """Without doubles: a key that comes again and again is found again each time."""
    if not found.num_rows:
        return known.superseded
    both = pa.concat_tables([known.superseded, found])
    return both.group_by(NONE.column_names).aggregate([]).select(NONE.column_names).cast(NONE.schema)


def _replaced_anywhere(one: Any) -> pa.Table:
    """Numbers are compared first, and texts only where numbers are the same."""
    each = [f"select key from _stale where role = '{role}' group by key having count(*) > 1" for role in ROLES]  # noqa: S608
    one.execute(f"create temp table _again as {' union '.join(each)}")
    ((count,),) = one.execute("select count(*) from _again").fetchall()
    rows = f"select {ONE}, seq from _stale semi join _again using (key)"  # noqa: S608
    return _replaced(one, rows) if count else _NOTHING


def _replaced(one: Any, rows: str) -> pa.Table:
    found: pa.Table = one.sql(_REPLACED.format(ONE, f"({rows})")).to_arrow_table()
    return found


def _of_model(found: pa.Table, model_id: str) -> pa.Table:
    if not found.num_rows:
        return NONE
    return found.filter(pc.equal(found.column("model_id"), model_id)).select(NONE.column_names)


def _sql(directory: Path, files: Sequence[File]) -> str:
    alike = len({file.columns for file in files}) == 1
    return views.files_sql([str(directory / file.path) for file in files], alike=alike)


def _by_model(files: Iterable[File]) -> Mapping[str, list[File]]:
    found: dict[str, list[File]] = defaultdict(list)
    for file in files:
        found[file.model_id].append(file)
    return found


def _paths(files: Iterable[File]) -> frozenset[str]:
    return frozenset(file.path for file in files)


_NOTHING = NONE.append_column("model_id", pa.array([], pa.string()))
