"""Tensors to JSON text. See ext/jsonwrite.pyx."""

from typing import Any

import numpy as np

def tensor(prefix: bytes, array: np.ndarray[Any, Any], dtype: int, b64: bool, suffix: bytes, /) -> bytes: ...
def each_tensor(
    prefix: bytes, array: np.ndarray[Any, Any], rows: list[int], dtype: int, b64: bool, suffix: bytes, /
) -> list[bytes]: ...
def row_objects(
    prefix: bytes,
    names: tuple[str, ...],
    arrays: tuple[np.ndarray[Any, Any], ...],
    dtypes: tuple[int, ...],
    b64: tuple[bool, ...],
    suffix: bytes,
    /,
) -> bytes: ...
def column_object(
    prefix: bytes,
    names: tuple[str, ...],
    arrays: tuple[np.ndarray[Any, Any], ...],
    dtypes: tuple[int, ...],
    b64: tuple[bool, ...],
    suffix: bytes,
    /,
) -> bytes: ...
