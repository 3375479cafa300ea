"""Rows of many requests into one buffer; one output into a row range per request. See ext/coalesce.pyx."""

from typing import Any

import numpy as np

def gather(buffer: np.ndarray[Any, Any], parts: list[np.ndarray[Any, Any]], /) -> int: ...
def split(output: np.ndarray[Any, Any], rows: list[int], /) -> list[np.ndarray[Any, Any]]: ...
