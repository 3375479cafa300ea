"""What the server says of a run: its batches, from /metrics before and after. Pure but for asking."""

import re

from msgspec import Struct

from fastserve.loadtest.target import LoadTestError, Target

_LINE = re.compile(r"^fastserve_batch_rows_(bucket|count|sum)\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}

Readings = dict[str, float]
"""`count`, `sum`, and each bucket's count under its bound, cumulative."""


class Batches(Struct, frozen=True, kw_only=True):
    """The runs between two looks. `sizes`: how many had up to so many rows, by the bucket's bound."""

    runs: int
    rows: int
    mean_rows: float
    sizes: dict[str, int]


def look(target: Target, model: str) -> Readings | None:
    """What /metrics says of the model's batches; None where the server does not tell."""
    try:
        answer = target.ask("GET", "/metrics")
    except LoadTestError:
        return None
    return readings(answer.body.decode("utf-8", "replace"), model) if answer.is_good else None


def readings(metrics: str, model: str) -> Readings | None:
    """All versions of the model together; None where nothing was counted."""
    found: Readings = {}
    for kind, labels, value in _LINE.findall(metrics):
        told = {name: re.sub(r"\\[n\"\\]", lambda one: _ESCAPES[one[0]], text) for name, text in _LABEL.findall(labels)}
        if told.get("model") == model:
            key = told["le"] if kind == "bucket" else kind
            found[key] = found.get(key, 0.0) + float(value)
    return found or None


def between(before: Readings | None, after: Readings | None) -> Batches | None:
    """What happened between two looks; None where nothing is known of it, or nothing happened."""
    if after is None:
        return None
    more = {key: value - (before or {}).get(key, 0.0) for key, value in after.items()}
    runs, rows = round(more.pop("count", 0)), round(more.pop("sum", 0))
    if runs <= 0:
        return None
    sizes: dict[str, int] = {}
    below = 0
    for bound in sorted(more, key=float):
        sizes[bound] = round(more[bound]) - below
        below = round(more[bound])
    sizes = {bound: count for bound, count in sizes.items() if count}
    return Batches(runs=runs, rows=rows, mean_rows=rows / runs, sizes=sizes)
