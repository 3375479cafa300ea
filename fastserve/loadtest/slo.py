"""Objectives, and whether they were met. Pure.

A percentile counts every request: one that failed was not answered in any time, so with more than 1 % of failures no p99
objective is met.
"""

import math
import re
from collections.abc import Sequence

from msgspec import Struct

from fastserve._ext.loadgen import HdrHistogram
from fastserve.errors import ConfigError

UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m)")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
EXPECTED = "as in p99=5ms, p99.9=20ms, errors=1% or rate=1000, several with commas"


class Objective(Struct, frozen=True):
    """One of them. `kind`: latency (limit in ns, of `share`), errors (share of the requests) or rate (a second)."""

    text: str
    kind: str
    limit: float
    share: float = 0.0


class Verdict(Struct, frozen=True):
    """What was measured for it, in the same unit; None: not even that many requests were answered."""

    objective: str
    kind: str
    limit: float
    measured: float | None
    met: bool


def parse_duration(text: str) -> int:
    """`5ms` in ns. Raises ConfigError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"expected a time as in 500us, 5ms, 10s or 2m, got {text!r}")
    return round(float(found[1]) * UNITS_NS[found[2]])


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """`p99=5ms,errors=1%`. Raises ConfigError."""
    return tuple(_objective(part.strip()) for part in text.split(","))


def _objective(text: str) -> Objective:
    name, _, value = (part.strip() for part in text.partition("="))
    percentile = _PERCENTILE.fullmatch(name)
    if percentile is not None and _DURATION.fullmatch(value):
        return Objective(text, "latency", parse_duration(value), float(percentile[1]) / 100)
    if name == "errors" and (percent := _PERCENT.fullmatch(value)):
        return Objective(text, "errors", float(percent[1]) / 100)
    if name == "rate" and _NUMBER.fullmatch(value):
        return Objective(text, "rate", float(value))
    raise ConfigError(f"expected an objective {EXPECTED}; got {text!r}")


def verdicts(objectives: Sequence[Objective], latency: HdrHistogram, failed: int, per_s: float) -> list[Verdict]:
    """One for each."""
    return [_verdict(objective, latency, failed, per_s) for objective in objectives]


def _verdict(objective: Objective, latency: HdrHistogram, failed: int, per_s: float) -> Verdict:
    total = latency.count + failed
    measured: float | None
    if objective.kind == "latency":
        measured = percentile_of_all(latency, failed, objective.share)
        met = measured is not None and measured <= objective.limit
    elif objective.kind == "errors":
        measured = failed / total if total else None
        met = measured is not None and measured <= objective.limit
    else:
        measured = per_s
        met = per_s >= objective.limit
    return Verdict(objective.text, objective.kind, objective.limit, measured, met)


def percentile_of_all(latency: HdrHistogram, failed: int, share: float) -> float | None:
    """The time in which `share` of all requests were answered; None where fewer were."""
    rank = max(1, math.ceil(round(share * (latency.count + failed), 6)))
    if rank > latency.count:
        return None
    return latency.quantile(rank / latency.count)
