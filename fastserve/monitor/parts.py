"""An answer for everything, for each window and for each slice, from one scan: SQL's GROUPING SETS.

Pure text and keys. A group's key: `ALL`, `("window", its number)` or `("slice", its label)`.
"""

from collections.abc import Sequence
from typing import Any

from fastserve.monitor.source import Grouping

Key = tuple[str, Any]
ALL: Key = ("all", None)


def keys(grouping: Grouping) -> str:
    """The first four columns of a grouped answer over rows that have columns `b` and `s`: gb, gs, b, s; `key` reads them."""
    window = "grouping(b) gb" if grouping.starts else "1 gb"
    label = "grouping(s) gs" if grouping.sliced else "1 gs"
    return f"{window}, {label}, {'b' if grouping.starts else 'NULL b'}, {'s' if grouping.sliced else 'NULL s'}"


def sets(grouping: Grouping, *beside: str) -> str:
    """The GROUP BY that goes with `keys`; `beside`: what rows are also grouped by."""
    wanted = [[], *([["b"]] if grouping.starts else []), *([["s"]] if grouping.sliced else [])]
    return "grouping sets (" + ", ".join(f"({', '.join([*own, *beside])})" for own in wanted) + ")"


def key(row: Sequence[Any]) -> Key:
    """Which group a row of such an answer is of."""
    no_window, no_slice, number, label = row[:4]
    if not no_window:
        return ("window", number)
    return ALL if no_slice else ("slice", label)
