"""Which files a dataset is, and when they are the same as before. Thread: the datasets'."""

import glob
import gzip
import os
import zlib
from collections.abc import Mapping

from fastserve.config import DatasetConfig
from fastserve.config.allowed import FILE
from fastserve.errors import DatasetError

MAX_FILES = 10_000
MAX_HEADER_BYTES = 1 << 20
DELIMITERS = ",;\t|"
SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "json": (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
}

Identities = Mapping[str, tuple[int, int, int]]
"""Every file by its path: time, size, inode."""


def find(config: DatasetConfig) -> Identities:
    """The files that there are now. Raises DatasetError where there are none, or very many."""
    pattern = config.source.removeprefix(FILE)
    if os.path.isdir(pattern):
        wanted = SUFFIXES[config.format] if config.format else tuple(s for own in SUFFIXES.values() for s in own)
        paths = [path for path in glob.glob(f"{glob.escape(pattern)}/**", recursive=True) if path.endswith(wanted)]
    else:
        paths = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
    paths = sorted(path for path in paths if os.path.isfile(path))
    if not paths:
        raise DatasetError(f"no file is there ({os.path.basename(pattern)})")
    if len(paths) > MAX_FILES:
        raise DatasetError(f"expected at most {MAX_FILES} files, found {len(paths)}")
    return _identities(paths)


def format_of(config: DatasetConfig, paths: Identities) -> str:
    """csv, parquet or json. Raises DatasetError where names do not say it, or do not agree."""
    if config.format:
        return config.format
    found = {next((kind for kind, ends in SUFFIXES.items() if path.lower().endswith(ends)), "") for path in paths}
    if len(found) > 1 or not all(found):
        raise DatasetError('expected names that end in .csv, .parquet or .jsonl, all alike; or format = "csv"')
    return found.pop()


def ends_in_line(path: str) -> bool:
    """Whether a text file ends where a line does; an empty one does not."""
    if path.endswith(".gz"):
        return True  # a compressed file that is cut short cannot be read
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        return file.read(1) == b"\n"


def delimiter_of(path: str) -> str:
    """What separates the names in a CSV file's header. Raises DatasetError for an empty file."""
    name = os.path.basename(path)
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            header = file.readline(MAX_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not header.strip():
        raise DatasetError(f"{name} has no header")
    return max(DELIMITERS, key=lambda one: header.count(one.encode()))


def _identities(paths: list[str]) -> Identities:
    found = {}
    try:
        for path in paths:
            status = os.stat(path)
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError as error:
        raise DatasetError(f"{os.path.basename(error.filename)} cannot be read: {error.strerror}") from None
    return found
