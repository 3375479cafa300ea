"""What is told of records and models. Pure."""

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from fastserve.http.message import Headers, Response
from fastserve.store.question import plain
from fastserve.store.rows import Row

JSON: Headers = [("content-type", "application/json")]


def as_json(value: Any, status: int = 200) -> Response:
    """`value`, whose numbers may be infinite or larger than 64 bits."""
    return Response(status, JSON, json.dumps(plain(value), ensure_ascii=False).encode("utf-8", "backslashreplace"))


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What was logged for one prediction, an entry for each space that has any of it; the last of each part counts."""
    spaces: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.seq):
        spaces.setdefault(row.space, []).append(row)
    return [_record(own) for _, own in sorted(spaces.items())]


def _record(rows: Sequence[Row]) -> dict[str, Any]:
    predictions = [row for row in rows if row.kind == "prediction"]
    actuals = [row for row in rows if row.kind == "actual" and _label(row) is not None]
    importances = [row for row in rows if row.kind == "importance"]
    documents = [row for row in rows if row.kind == "document"]
    last = (predictions or rows)[-1]
    return {
        "model_id": last.model_id,
        "prediction_id": last.prediction_id,
        "space": last.space,
        "environment": last.environment,
        "batch_id": last.batch_id or None,
        "prediction": _prediction(predictions[-1]) if predictions else None,
        "actual": _actual(actuals, [row for row in rows if row.kind == "actual"]),
        "feature_importances": _importances(importances[-1]) if importances else None,
        **({"document": _document(documents[-1])} if documents else {}),
    }


def _prediction(row: Row) -> dict[str, Any]:
    return {
        **_came(row),
        "model_version": row.version or None,
        "label": _label(row),
        "features": _values(row.features, row.extras),
        "tags": row.tags,
        **{
            name: row.extras[f"${name}"]
            for name in ("llm_fields", "retrieved_document_ids")
            if f"${name}" in row.extras
        },
    }


def _actual(labelled: Sequence[Row], rows: Sequence[Row]) -> dict[str, Any] | None:
    """The last label, and the tags of all: those that come alone add to the ones before."""
    if not rows:
        return None
    last = (labelled or rows)[-1]
    tags: dict[str, Any] = {}
    for row in rows:
        tags |= row.tags
    return {**_came(last), "label": _label(last), "tags": tags}


def _document(row: Row) -> dict[str, Any]:
    """Of a corpus."""
    return {**_came(row), "version": row.version or None, **_values(row.features, row.extras)}


def _importances(row: Row) -> dict[str, Any]:
    return {**_came(row), "model_version": row.version or None, "values": row.importances}


def _came(row: Row) -> dict[str, Any]:
    return {"timestamp": instant(row.ts_ns), "received": instant(row.ingest_ns)}


def _label(row: Row) -> dict[str, Any] | None:
    """In one form, whichever spelling it came in."""
    found: dict[str, Any] = {}
    if row.label_num is not None:
        found["numeric"] = row.label_num
    if row.label_cat is not None:
        found["categorical"] = row.label_cat
    if row.score is not None:
        found["score"] = row.score
    if row.label_json is not None:
        found |= msgspec.json.decode(row.label_json)
    return found or None


def _values(values: dict[str, Any], extras: dict[str, Any]) -> dict[str, Any]:
    """Features; an embedding with what stands beside its vector."""
    beside = {name: extra for name, extra in extras.items() if name in values and isinstance(extra, dict)}
    return {name: {"vector": value, **beside[name]} if name in beside else value for name, value in values.items()}


def instant(ns: int) -> str:
    """RFC 3339 in UTC, with as many digits as it has."""
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    digits = f".{rest:09}".rstrip("0") if rest else ""
    return f"{moment.isoformat()}{digits}Z"


def models(rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """One entry a model, from the rows of `MODELS_SQL`."""
    return {"models": [dict(zip(MODEL_FIELDS, row, strict=True)) for row in rows]}


MODEL_FIELDS = (
    "model_id",
    "spaces",
    "versions",
    "environments",
    "predictions",
    "actuals",
    "joined",
    "unjoined",
    "actuals_without_prediction",
    "feature_importances",
    "records",
    "first",
    "last",
    "label_delay_p50_s",
    "label_delay_p95_s",
)
MODELS_SQL = """
with parts as (
    select model_id, list(distinct space order by space)[:100] spaces,
        coalesce(list(distinct version order by version) filter (version <> ''), [])[:100] versions,
        list(distinct environment order by environment) environments, count(*) records, min(ts) first_ts, max(ts) last_ts
    from records group by model_id
), joins as (
    select model_id, count(*) predictions, count(actual_ts) joined,
        quantile_cont(label_delay_s, 0.5) p50, quantile_cont(label_delay_s, 0.95) p95
    from joined group by model_id
), labels as (select model_id, count(*) actuals from actuals group by model_id
), late as (
    select model_id, count(*) alone from actuals
    anti join predictions using (space, model_id, prediction_id) group by model_id
), shap as (select model_id, count(*) importances from importances group by model_id)
select model_id, spaces, versions, environments, coalesce(predictions, 0), coalesce(actuals, 0), coalesce(joined, 0),
    coalesce(predictions - joined, 0), coalesce(alone, 0), coalesce(importances, 0), records,
    strftime(first_ts, '%Y-%m-%dT%H:%M:%S.%fZ'), strftime(last_ts, '%Y-%m-%dT%H:%M:%S.%fZ'), p50, p95
from parts left join joins using (model_id) left join labels using (model_id) left join late using (model_id)
    left join shap using (model_id)
order by model_id
"""
