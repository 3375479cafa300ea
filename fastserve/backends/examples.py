"""Inputs to try on a model that nobody has described: small, safe, and different from row to row.

Pure; any thread. A model is believed only after it ran on one of these (see probe.py).
"""

import math
from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from fastserve.types import DType, Signature, Tensor, TensorSpec

# A width that suits most graphs first; then image sizes; then what only some graphs take.
COMMON_SIZES = (8, 16, 32, 64, 224, 1, 2, 3, 4, 5)
MAX_SHAPES = 24
MAX_ELEMENTS = 1 << 23
_PRIME = 37
_PERIOD = 101
_STRINGS = "abcdefghijklmnopqrstuvwxyz"


Shapes = tuple[tuple[int, ...], ...]
"""One shape per input."""


class Values(Struct, frozen=True):
    """A way of filling tensors. `int_values`: how many integers, counted from 0; `offset` is added to them."""

    positive: bool
    int_values: int
    offset: int = 0
    numerals: bool = False


# Signs and several integers tell rows apart best; 0 and 1 are safe as indices and masks, numbers from 1 as lengths and
# divisors; where only one value works, nothing is proven, but the model has run.
WIDE = Values(positive=False, int_values=7)
SAFE = Values(positive=True, int_values=2, numerals=True)
COUNTS = Values(positive=True, int_values=7, offset=1, numerals=True)
ONES = Values(positive=True, int_values=1, offset=1, numerals=True)
ZEROS = Values(positive=True, int_values=1)
ALL_VALUES = (WIDE, SAFE, COUNTS, ONES, ZEROS)


def shapes(signature: Signature, rows: int | None, size: int) -> Shapes:
    """A shape per input: free dimensions are `size`, but `rows` where it is the first axis (None: `size` there too)."""
    return tuple(_shape(spec, size if rows is None else rows, size) for spec in signature.inputs)


def _shape(spec: TensorSpec, rows: int, size: int) -> tuple[int, ...]:
    dims = (-1, -1) if spec.shape is None else spec.shape
    return tuple((rows if axis == 0 else size) if dim == -1 else dim for axis, dim in enumerate(dims))


def fill(signature: Signature, chosen: Shapes, values: Values) -> dict[str, Tensor]:
    """Tensors of the chosen shapes, by input."""
    return {spec.name: _filled(spec.dtype, shape, values) for spec, shape in zip(signature.inputs, chosen, strict=True)}


def _filled(dtype: DType, shape: tuple[int, ...], values: Values) -> Tensor:
    # A row's content depends on its place only through `row`: the same row is the same alone and among others.
    rows = shape[0] if shape else 1
    width = int(np.prod(shape[1:], dtype=np.int64))
    column = (np.arange(width, dtype=np.int64) * _PRIME % _PERIOD)[None, :]
    row = np.arange(rows, dtype=np.int64)[:, None]
    if dtype in (DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.BFLOAT16):
        return _floats(dtype, column, row, values.positive).reshape(shape)
    whole = (column + row) % values.int_values + values.offset
    if dtype is DType.STRING:
        return _strings(whole if values.numerals else column + row, values.numerals).reshape(shape)
    return whole.astype(dtype.numpy).reshape(shape)


def _floats(dtype: DType, column: Tensor, row: Tensor, positive: bool) -> Tensor:
    base = column / _PERIOD
    # Rows differ in scale as well, so that a scale taken over the whole batch shows.
    scaled: Tensor = (base + 0.05 if positive else base - 0.45) * (1 + row % 3) + 0.1 * (row % 3)
    if dtype is DType.BFLOAT16:
        scaled = scaled.astype(np.float32).view(np.uint32) >> 16
    return scaled.astype(dtype.numpy)


def _strings(numbers: Tensor, numerals: bool) -> Tensor:
    texts = [str(number) if numerals else _STRINGS[number % len(_STRINGS)] for number in numbers.ravel().tolist()]
    out = np.empty(len(texts), dtype=object)
    out[:] = texts
    return out


def candidates(signature: Signature, batched: bool, rows: int, sizes: tuple[int, ...]) -> Iterator[dict[str, Tensor]]:
    """Inputs worth trying, likeliest first: at most MAX_SHAPES shapes, each filled in every way."""
    firsts = (rows,) if batched else (None, 1)
    wanted = [shapes(signature, first, size) for size in (*sizes[:2], *COMMON_SIZES, *sizes[2:]) for first in firsts]
    # Several free dimensions multiply: four of 224 are 10 GB.
    small = [chosen for chosen in wanted if all(math.prod(shape) <= MAX_ELEMENTS for shape in chosen)]
    # A fixed shape may be larger, and then is the only one there is.
    for chosen in list(dict.fromkeys(small or wanted[:1]))[:MAX_SHAPES]:
        for values in ALL_VALUES:
            yield fill(signature, chosen, values)
