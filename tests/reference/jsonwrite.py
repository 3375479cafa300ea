"""The slow, obvious twin of ext/jsonwrite.pyx: every float by exact fractions, every list by Python's own nesting."""

import base64
import json
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from fastserve.types import DType, Tensor

FLOATS = {
    DType.FLOAT: (8, 23, np.uint32, 8),
    DType.DOUBLE: (11, 52, np.uint64, 16),
    DType.FLOAT16: (5, 10, np.uint16, 8),
    DType.BFLOAT16: (8, 7, np.uint16, 8),
}
"""Bits of exponent and of fraction, what holds the whole, and from which power of ten on the exponent is written."""


def tensor(prefix: bytes, array: Tensor, dtype: int, b64: bool, suffix: bytes) -> bytes:
    return prefix + _nested(array, DType(dtype), b64) + suffix


def row_objects(
    prefix: bytes,
    names: tuple[str, ...],
    arrays: tuple[Tensor, ...],
    dtypes: tuple[int, ...],
    b64: tuple[bool, ...],
    suffix: bytes,
) -> bytes:
    columns = list(zip(arrays, dtypes, b64, strict=True))
    rows = [
        _object(names, [_nested(array[row], DType(dtype), as_b64) for array, dtype, as_b64 in columns])
        for row in range(len(arrays[0]))
    ]
    return prefix + _listed(rows) + suffix


def column_object(
    prefix: bytes,
    names: tuple[str, ...],
    arrays: tuple[Tensor, ...],
    dtypes: tuple[int, ...],
    b64: tuple[bool, ...],
    suffix: bytes,
) -> bytes:
    columns = [_nested(array, DType(dtype), as_b64) for array, dtype, as_b64 in zip(arrays, dtypes, b64, strict=True)]
    return prefix + _object(names, columns) + suffix


def _nested(array: Any, dtype: DType, b64: bool) -> bytes:
    if isinstance(array, np.ndarray) and array.ndim > 0:
        return _listed(_nested(item, dtype, b64) for item in array)
    if isinstance(array, np.ndarray):
        array = array[()]
    return _item(array, dtype, b64)


def _listed(items: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _object(names: tuple[str, ...], values: list[bytes]) -> bytes:
    members = (_string(name) + b":" + value for name, value in zip(names, values, strict=True))
    return b"{" + b",".join(members) + b"}"


def _item(item: Any, dtype: DType, b64: bool) -> bytes:
    if dtype in FLOATS:
        return float_text(item, dtype).encode()
    if dtype is DType.STRING:
        text = item.decode("utf-8", "replace") if isinstance(item, bytes) and not b64 else item
        return b'{"b64":"' + base64.b64encode(_bytes(text)) + b'"}' if b64 else _string(text)
    if dtype is DType.BOOL:
        return b"true" if item else b"false"
    return str(int(item)).encode()


def _string(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _bytes(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def float_text(item: Any, dtype: DType) -> str:
    """The text of one float (one element of an array that holds `dtype`)."""
    exponent_bits, fraction_bits, whole, fixed_below = FLOATS[dtype]
    bits = int(np.asarray(item).view(whole)[()])
    sign = "-" if bits >> (exponent_bits + fraction_bits) else ""
    biased = bits >> fraction_bits & ((1 << exponent_bits) - 1)
    fraction = bits & ((1 << fraction_bits) - 1)
    if biased == (1 << exponent_bits) - 1:
        return "NaN" if fraction else sign + "Infinity"
    if biased == fraction == 0:
        return sign + "0.0"
    significand = fraction + (1 << fraction_bits if biased else 0)
    step = Fraction(2) ** (max(biased, 1) - (1 << exponent_bits - 1) + 1 - fraction_bits)
    gap_below = step / 2 if fraction == 0 and biased > 1 else step
    value = significand * step
    digits, power = _shortest(value, value - gap_below / 2, value + step / 2, ends=significand % 2 == 0)
    return sign + _laid_out(digits, power, fixed_below)


def _shortest(value: Fraction, lower: Fraction, upper: Fraction, *, ends: bool) -> tuple[str, int]:
    """The fewest digits, and the power of ten that they count, of a decimal between the ends; the one next to `value`."""
    power = len(str(int(value))) - 1 if value >= 1 else -len(str(int(1 / value)))
    while True:
        unit = Fraction(10) ** power
        below = int(value / unit)
        within = [
            digits
            for digits in (below, below + 1)
            if (lower <= digits * unit <= upper if ends else lower < digits * unit < upper)
        ]
        if within:
            best = min(within, key=lambda digits: (abs(digits * unit - value), digits % 2))
            return str(best), power
        power -= 1


def _laid_out(digits: str, power: int, fixed_below: int) -> str:
    stripped = digits.rstrip("0")
    power += len(digits) - len(stripped)
    exponent = power + len(stripped) - 1
    if 0 <= exponent < fixed_below:
        whole = stripped[: exponent + 1].ljust(exponent + 1, "0")
        return f"{whole}.{stripped[exponent + 1 :] or '0'}"
    if -4 <= exponent < 0:
        return "0." + "0" * (-exponent - 1) + stripped
    point = "." if len(stripped) > 1 else ""
    return f"{stripped[0]}{point}{stripped[1:]}e{exponent}"
