"""Arrow columns as the values that the log keeps: which types are taken, and what becomes of them.

Thread: any. Memory: a slice of rows as Python objects at a time.
"""

import math
from collections.abc import Callable
from typing import Any

from fastserve.errors import quoted
from fastserve.limits import MAX_DIMENSIONS
from fastserve.protocols.arize.messages import INVALID_FEATURE
from fastserve.protocols.arize.protojson import Mistake

Convert = Callable[[Any], list[Any]]
"""A slice of a column to values; None where there is none."""

SECOND_NS = 1_000_000_000


def place(name: str) -> str:
    """How messages call a column."""
    return f"column {quoted(name)}"


def kept_values(kind: Any, name: str) -> Convert | None:
    """How a feature or tag of that type is read; None for a column of nothing. Raises Mistake for one that is not taken."""
    from pyarrow import types

    if types.is_null(kind):
        return None
    if types.is_boolean(kind):
        return _booleans
    if types.is_integer(kind):
        return _integers
    if types.is_floating(kind) or types.is_decimal(kind):
        return numbers
    if types.is_string(kind) or types.is_large_string(kind):
        return _plain
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind):
        return texts
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _list_values(kind.value_type, name)
    raise Mistake(expected=_EXPECTED, got=str(kind), path=place(name), message=INVALID_FEATURE)


_EXPECTED = "numbers, texts, booleans, times or lists of texts or numbers"


def _list_values(kind: Any, name: str) -> Convert | None:
    from pyarrow import types

    if types.is_string(kind) or types.is_large_string(kind):
        return _plain
    if types.is_floating(kind) or types.is_integer(kind):
        return vectors
    if types.is_null(kind):
        return None
    raise Mistake(expected=_EXPECTED, got=f"lists of {kind}", path=place(name), message=INVALID_FEATURE)


def _plain(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return [[item for item in one if item is not None] if type(one) is list else one for one in values]


def _booleans(column: Any) -> list[str | None]:
    """As the clients' single records have them."""
    return [None if one is None else str(one) for one in column.to_pylist()]


def _integers(column: Any) -> list[int | None]:
    values: list[int | None] = column.to_pylist()
    return values


def numbers(column: Any) -> list[float | None]:
    """Doubles; NaN is what pandas has where there is nothing."""
    import pyarrow

    values = column.cast(pyarrow.float64(), safe=False).to_pylist()
    return [None if one is None or math.isnan(one) else one for one in values]


def texts(column: Any) -> list[str | None]:
    """Whatever it is, as text."""
    import pyarrow
    from pyarrow import types

    if types.is_boolean(column.type):
        return _booleans(column)
    values: list[str | None] = column.cast(pyarrow.string()).to_pylist()
    return values


def vectors(column: Any) -> list[list[float] | None]:
    """Lists of doubles."""
    return [
        None if one is None else [float("nan") if x is None else float(x) for x in one] for one in column.to_pylist()
    ]


def text_lists(column: Any) -> list[list[str] | None]:
    """Lists of texts; a text alone is a list of one."""
    return [
        None if one is None else ([str(x) for x in one] if isinstance(one, list) else [str(one)])
        for one in column.to_pylist()
    ]


def times_ns(column: Any, name: str) -> Any:
    """A column of times as nanoseconds since 1970: seconds as numbers, or times (without a zone: of UTC). Raises Mistake."""
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    try:
        if types.is_null(kind):
            return column.cast(pyarrow.int64())
        if types.is_integer(kind):
            return compute.multiply_checked(column.cast(pyarrow.int64()), SECOND_NS)
        if types.is_floating(kind):
            scaled = compute.multiply(column.cast(pyarrow.float64()), float(SECOND_NS))
            return compute.if_else(compute.is_nan(scaled), None, scaled).cast(pyarrow.int64(), safe=False)
        if types.is_date(kind):
            column, kind = column.cast(pyarrow.timestamp("s")), pyarrow.timestamp("s")
        if types.is_timestamp(kind):
            return column.cast(pyarrow.timestamp("ns", kind.tz)).cast(pyarrow.int64())
    except pyarrow.ArrowInvalid as error:
        raise Mistake(expected="times", got=str(error)[:128], path=place(name)) from None
    raise Mistake(expected="seconds since 1970, or times", got=str(kind), path=place(name))


def anything(column: Any) -> list[Any]:
    """As Python has it, for what is kept as JSON."""
    values: list[Any] = column.to_pylist()
    return values


def check_values(column: Any, name: str) -> None:
    """Raises Mistake for values that cannot be kept: whole numbers beyond int64, lists without end, texts with NUL."""
    from pyarrow import compute, types

    kind = column.type
    if types.is_uint64(kind):
        most = compute.max(column).as_py()
        if most is not None and most >= 1 << 63:
            raise Mistake(expected="numbers within int64", got=str(most), path=place(name))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        most = compute.max(compute.list_value_length(column)).as_py() or 0
        if most > MAX_DIMENSIONS:
            raise Mistake(expected=f"at most {MAX_DIMENSIONS} items in a list", got=str(most), path=place(name))
        column, kind = compute.list_flatten(column), kind.value_type
    if (types.is_string(kind) or types.is_large_string(kind)) and compute.any(
        compute.match_substring(column, "\0")
    ).as_py():
        raise Mistake(expected="texts without NUL", got="some with it", path=place(name))


def is_text(kind: Any) -> bool:
    """Whether a column holds texts."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))
