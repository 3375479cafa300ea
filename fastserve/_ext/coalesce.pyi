"""Rows of many requests into one buffer; one output into a row range per request. See ext/coalesce.pyx."""

from collections.abc import Callable
from typing import Any

import numpy as np

def gather(buffer: np.ndarray[Any, Any], parts: list[np.ndarray[Any, Any]], /) -> int: ...
def split(output: np.ndarray[Any, Any], rows: list[int], /) -> list[np.ndarray[Any, Any]]: ...

class Bound:
    """Buffers bound to a run, for one number of rows."""

    def __init__(
        self,
        run: Callable[[], None],
        inputs: tuple[tuple[str, np.ndarray[Any, Any]], ...],
        outputs: tuple[tuple[str, np.ndarray[Any, Any]], ...],
    ) -> None: ...
    @property
    def run(self) -> Callable[[], None]: ...
    @property
    def inputs(self) -> tuple[tuple[str, np.ndarray[Any, Any]], ...]: ...
    @property
    def outputs(self) -> tuple[tuple[str, np.ndarray[Any, Any]], ...]: ...
    def answer(self, request: dict[str, np.ndarray[Any, Any]], /) -> dict[str, np.ndarray[Any, Any]] | None: ...

class RowShapes:
    """The inputs of a signature whose rows all have fixed shapes."""

    def __init__(self, inputs: tuple[tuple[str, Any, tuple[int, ...]], ...]) -> None: ...
    def rows(self, tensors: dict[str, np.ndarray[Any, Any]], /) -> int: ...
