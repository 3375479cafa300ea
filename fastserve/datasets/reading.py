"""Some rows of a dataset's file: CSV, JSON lines or Parquet, by its name.

Thread: the caller's; reads the disk. Memory: the rows that are read, at most `MAX_READ`.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from fastserve.config.allowed import FILE
from fastserve.errors import LoadFailed, quoted

MAX_READ = 10_000
"""Rows that are looked at; what is given of them is spread evenly."""

Row = dict[str, Any]


class UnreadableDataset(LoadFailed):
    """A dataset that cannot be read; the text says why. For operators, not clients."""


def read_columns(source: str, names: Sequence[str], most: int) -> list[list[Any]]:
    """The columns of these names, of at most `most` rows. Raises UnreadableDataset."""
    if not source.startswith(FILE):
        raise UnreadableDataset(f"{source}: datasets are files: from = 'file:data/x.csv'")
    path = Path(source.removeprefix(FILE))
    try:
        rows = _thinned(list(islice(_rows(path, names), MAX_READ)), most)
    except (OSError, UnicodeDecodeError, csv.Error, msgspec.DecodeError) as error:
        raise UnreadableDataset(f"{path}: {error}") from error
    if not rows:
        raise UnreadableDataset(f"{path}: it has no rows")
    for name in names:
        if any(row.get(name) is None for row in rows):
            raise UnreadableDataset(f"{path}: column {quoted(name)} is not there, or has gaps")
    return [[row[name] for row in rows] for name in names]


def _rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file)
    elif path.suffix in (".jsonl", ".ndjson", ".json"):
        with path.open("rb") as lines:
            yield from (msgspec.json.decode(line, type=Row) for line in lines if line.strip())
    elif path.suffix == ".parquet":
        yield from _parquet(path, names)
    else:
        raise UnreadableDataset(f"{path}: expected a file .csv, .jsonl or .parquet")


def _parquet(path: Path, names: Sequence[str]) -> Iterable[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UnreadableDataset("Parquet is read by pyarrow: pip install 'fastserve[parquet]'") from None
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024, columns=list(names)):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise UnreadableDataset(f"{path}: {error}") from error


def _thinned(rows: list[Row], most: int) -> list[Row]:
    if len(rows) <= most:
        return rows
    return [rows[at * (len(rows) - 1) // (most - 1)] for at in range(most)]
