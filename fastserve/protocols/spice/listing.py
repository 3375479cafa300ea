"""Which models and datasets there are, as Spice lists them: JSON, or CSV with `?format=csv`. Pure but for the engine."""

import csv
import io
from typing import Any
from urllib.parse import parse_qs

import msgspec

from fastserve.engine.engine import Engine
from fastserve.errors import InvalidRequest, quoted
from fastserve.http.message import Headers, Response
from fastserve.protocols.spice.answers import JSON
from fastserve.types import Caller, VersionState

CSV: Headers = [("content-type", "text/csv; charset=utf-8")]
Rows = list[dict[str, Any]]

WORDS = (
    (VersionState.READY, "Ready"),
    (VersionState.LOADING, "Initializing"),
    (VersionState.FAILED, "Error"),
    (VersionState.DRAINING, "ShuttingDown"),
)
"""Spice's words; the first that some version of a model has counts."""


def wants_csv(query: str) -> bool:
    """Whether CSV is asked for. Raises InvalidRequest for a format that there is not."""
    asked = _asked(query, "format", "json")
    if asked not in ("json", "csv"):
        raise InvalidRequest(f"format: expected json or csv, got {quoted(asked)}")
    return asked == "csv"


def wants_status(query: str) -> bool:
    """Whether `?status=true`."""
    return _asked(query, "status", "false") == "true"


def models(engine: Engine) -> Rows:
    """Every model."""
    rows = []
    for name in engine.models():
        config = engine.config_of(name)
        dataset = config.dataset if config is not None else None
        states = {status.state for status in engine.status(name)}
        word = next((word for state, word in WORDS if state in states), "Disabled")
        datasets = [dataset] if dataset else []
        rows.append({"id": name, "object": "model", "owned_by": "fastserve", "datasets": datasets, "status": word})
    return rows


def datasets(engine: Engine, caller: Caller, *, status: bool) -> Rows:
    """Every dataset that a model of the caller's has; with `status` also how it is, and what is wrong with its files."""
    rows: Rows = []
    theirs = _datasets_of(engine, caller)
    for one in engine.datasets.statuses():
        if theirs is not None and one.name not in theirs:
            continue
        row = {"from": one.source, "name": one.name, "replication_enabled": False, "acceleration_enabled": True}
        if status:
            row |= {
                "status": one.state,
                "rows": one.rows,
                "columns": [*one.columns],
                "error_message": one.error or None,
            }
        rows.append(row)
    return rows


def _datasets_of(engine: Engine, caller: Caller) -> set[str] | None:
    """None: all, those that no model has too."""
    if caller.models is None:
        return None
    configs = [engine.config_of(name) for name in engine.models() if caller.may_use(name)]
    return {config.dataset for config in configs if config is not None and config.dataset is not None}


def as_csv(rows: Rows, columns: list[str]) -> Response:
    """A header and a line a row; lists joined by commas."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        table.writerow([",".join(map(str, v)) if isinstance(v, list) else v for v in (row[name] for name in columns)])
    return Response(200, CSV, text.getvalue().encode("utf-8", "backslashreplace"))


def as_json(value: Any) -> Response:
    """`value` as it is."""
    return Response(200, JSON, msgspec.json.encode(value))


def _asked(query: str, name: str, default: str) -> str:
    return parse_qs(query, max_num_fields=100, errors="replace").get(name, [default])[-1]
