"""One Parquet file of the log: written whole or not there, read with pyarrow.

`<directory>/parquet/model=<name>/date=<day>/part-<uuid>.parquet`, for one model and the UTC day of what happened. Names that
clients choose are percent-encoded, and cut where no file system takes them; the true one stands in the file.
Thread: any. Memory: the table that is written or read.
"""

import datetime
import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastserve.store import columns
from fastserve.store.catalogue import File
from fastserve.store.disk import Disk

FOLDER = "parquet"
TEMPORARY = ".tmp"
ROW_GROUP_ROWS = 128 * 1024
DAY_NS = 86_400_000_000_000
MAX_FOLDER_CHARS = 200

_SORTED_BY = [("kind", "ascending"), ("prediction_id", "ascending"), ("seq", "ascending")]


def folder_of(model_id: str, date: str) -> Path:
    """Below the log's folder, for whatever a model is called."""
    name = quote(model_id, safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E")
    if len(name) > MAX_FOLDER_CHARS:
        digest = hashlib.blake2b(model_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        name = f"{name[:MAX_FOLDER_CHARS]}~{digest}"
    return Path(FOLDER) / f"model={name}" / f"date={date}"


def by_day(table: pa.Table) -> Iterator[tuple[str, int, pa.Table]]:
    """The table's rows by the day that they happened and the one that they came: date, days since 1970 of the other, rows."""
    happened = table.column("ts_ns").to_numpy() // DAY_NS
    came = table.column("ingest_ns").to_numpy() // DAY_NS
    pairs, index = np.unique(np.stack([happened, came]), axis=1, return_inverse=True)
    index = index.reshape(-1)
    for number, (day, ingest_day) in enumerate(pairs.T.tolist()):
        rows = table if pairs.shape[1] == 1 else table.filter(pa.array(index == number))
        yield date_of(day), ingest_day, rows


def date_of(day: int) -> str:
    """Days since 1970 as a date."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def write(directory: Path, model_id: str, date: str, ingest_day: int, table: pa.Table, disk: Disk) -> File:
    """A new file, on disk when it returns; it counts once the catalogue says so. Raises OSError."""
    below = folder_of(model_id, date)
    folder = directory / below
    _make(directory, folder, disk)
    name = f"part-{uuid.uuid4().hex}.parquet"
    temporary = folder / f"{name}{TEMPORARY}"
    table = table.sort_by(_SORTED_BY)
    pq.write_table(
        table,
        temporary,
        compression="zstd",
        row_group_size=ROW_GROUP_ROWS,
        write_statistics=True,
        write_page_index=True,
    )
    size_bytes = _sync(temporary, disk)
    disk.rename(temporary, folder / name)
    disk.sync_folder(folder)
    happened = pc.min_max(table.column("ts_ns")).as_py()
    return File(
        path=str(below / name),
        model_id=model_id,
        date=date,
        rows=table.num_rows,
        size_bytes=size_bytes,
        min_ts_ns=happened["min"],
        max_ts_ns=happened["max"],
        max_ingest_ns=pc.max(table.column("ingest_ns")).as_py(),
        ingest_day=ingest_day,
        columns=tuple((one.part, one.name, one.type) for one in columns.columns_of(table.schema)),
    )


def read(directory: Path, file: File, names: Sequence[str] | None = None) -> pa.Table:
    """The file's rows, with all columns or some. Raises OSError."""
    return pq.ParquetFile(directory / file.path).read(columns=None if names is None else list(names))


def _sync(path: Path, disk: Disk) -> int:
    """The file is on disk; its bytes."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.sync(fd)
        return os.fstat(fd).st_size
    finally:
        disk.close(fd)


def _make(directory: Path, folder: Path, disk: Disk) -> None:
    """A folder, on disk with those above it."""
    if folder.exists():
        return
    disk.make_folder(folder)
    above = folder.parent
    while True:
        disk.sync_folder(above)
        if above == directory:
            return
        above = above.parent
