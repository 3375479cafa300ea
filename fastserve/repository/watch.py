"""What changed on disk: identities of files to compare. Pure; any thread, away from serving."""

import os
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from fastserve.repository.layout import MODEL_SUFFIXES, version_number


class FileStamp(Struct, frozen=True):
    """One file as it was seen. Files swapped by rename differ in inode where time and size agree."""

    path: str
    mtime_ns: int
    size_bytes: int
    inode: int


class Stamp(Struct, frozen=True):
    """All files of one version as they were seen; equal stamps mean that nothing was written."""

    files: tuple[FileStamp, ...]


def stamp(path: Path, more: Iterable[str] = ()) -> Stamp:
    """The identity of the version whose model file is `path`; without files where it is gone.

    `more`: other files that have a part in it.

    External data lies in the model file's folder: in a version's own folder every file counts, elsewhere those whose
    name starts like the model's.
    """
    own = path.parent.parent if path.parent.suffix in MODEL_SUFFIXES else path.parent
    if version_number(own.name) is not None:
        files = [os.path.join(folder, name) for folder, _, names in os.walk(own) for name in names]
    else:
        files = [entry.path for entry in _entries(path.parent) if entry.name.startswith(path.stem) and entry.is_file()]
    return Stamp(files=tuple(seen for file in sorted({*files, *more}) if (seen := _seen(file)) is not None))


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _seen(file: str) -> FileStamp | None:
    try:
        status = os.stat(file)
    except OSError:
        # Gone since the folder was read.
        return None
    return FileStamp(path=file, mtime_ns=status.st_mtime_ns, size_bytes=status.st_size, inode=status.st_ino)
