"""What a model that workers share must be before any of them maps it: made of these very files, and with the same answers.

Thread: loading threads, one worker at a time. Memory: a batch of example inputs, and its answers twice.
"""

import ctypes
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastserve.backends.probe import Findings
from fastserve.backends.shared import CannotPrepareError
from fastserve.types import Tensor

SPACE_TIMES = 3
"""Free space to begin with, in sizes of the model: its weights as they are and as they are packed, and one to spare."""

COMPARED_ROWS = (1, 3, 8, 64)
"""Kernels differ by the number of rows."""

LARGE_BYTES = 16 << 20

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_OWN_BLOCK_BYTES = 256 << 10
_MOST_OWN_BLOCK_BYTES = 32 << 20
_KEPT_BYTES = 8 << 20

Run = Callable[[dict[str, Tensor]], Sequence[Tensor]]


def name_of(files: Sequence[Path], runtime: str) -> str:
    """A name that no other contents of these files have had, nor another onnxruntime's. Raises OSError."""
    told = hashlib.sha256(runtime.encode())
    for file in files:
        found = file.stat()
        stamp = (os.fspath(file), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        told.update(repr(stamp).encode())
    return told.hexdigest()[:32]


def check_space(folder: Path, model_bytes: int) -> None:
    """Raises CannotPrepareError before a disk is filled for nothing."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < SPACE_TIMES * model_bytes:
        wanted = f"{SPACE_TIMES * model_bytes >> 20} MiB are to be free there"
        raise CannotPrepareError(f"{wanted} (--weights-dir), and {free_bytes >> 20} MiB are")


def same_answers(plain: Run, mapped: Run, findings: Findings, max_rows: int) -> None:
    """Raises CannotPrepareError where an answer differs in any bit."""
    names = [spec.name for spec in findings.signature.outputs]
    for feed in _feeds(findings, max_rows):
        for name, one, other in zip(names, plain(feed), mapped(feed), strict=True):
            if one.shape != other.shape or one.dtype != other.dtype or not _same(one, other):
                raise CannotPrepareError(f"output {name} would not be the same to the last bit")


def _feeds(findings: Findings, max_rows: int) -> Iterator[dict[str, Tensor]]:
    """The probe's inputs, with several numbers of rows where there are any."""
    example = findings.example
    if example is None:
        raise CannotPrepareError("no input was found that it runs with")
    if not findings.batching.batchable:
        yield example
        return
    for rows in (rows for rows in COMPARED_ROWS if rows <= max_rows):
        yield {name: np.take(array, np.arange(rows) % len(array), axis=0) for name, array in example.items()}


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one == other).all()) if one.dtype.hasobject else one.tobytes() == other.tobytes()


@contextmanager
def memory_given_back(model_bytes: int) -> Iterator[None]:
    """What loading a large model needs for a while goes back to the system; glibc would keep it for later.

    Its threshold for blocks of their own grows with each such block that is freed, up to 32 MiB, which is where it is left.
    """
    libc = ctypes.CDLL(None)
    if model_bytes < LARGE_BYTES or not hasattr(libc, "malloc_trim"):  # another C library
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _OWN_BLOCK_BYTES)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _MOST_OWN_BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.malloc_trim(0)
