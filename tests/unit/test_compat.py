"""The names that Triton and TensorFlow Serving give the metrics: read as Prometheus reads them, through the path."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastserve.engine.meters import ModelMeters
from fastserve.metrics import Metrics
from fastserve.server.admin import Admin

MODEL = 'a "b" \\ c'


def counted() -> Metrics:
    """Of a model: one request that failed after 7 us, and what doors count of three."""
    metrics = Metrics()
    ModelMeters(metrics, MODEL, 3).version.failed(7000)
    metrics.gauge("fastserve_queue_rows", "Rows.", {"model": MODEL}, lambda: 5.0)
    for protocol, status, times in (
        ("tfserving", "200", 2),
        ("tfserving", "429", 1),
        ("tfserving", "418", 1),
        ("oip", "200", 9),
    ):
        labels = {"protocol": protocol, "model": MODEL, "version": "3", "status": status}
        for _ in range(times):
            metrics.counter("fastserve_requests_total", "Answers.", labels).add()
    for protocol in ("tfserving", "oip"):
        labels = {"protocol": protocol, "model": MODEL}
        metrics.histogram("fastserve_request_seconds", "Time.", labels, (1000, 5000), 1e9).observe(2000)
    return metrics


def asked(metrics: Metrics, compat: bool) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of /metrics, by its name and labels."""
    engine: Any = SimpleNamespace(control=SimpleNamespace(collect=lambda tell: tell(metrics.snapshot())))
    sent: list[Any] = []
    caller = SimpleNamespace(caller=SimpleNamespace(models=None))
    Admin(engine, lambda: False, metrics_compat=compat).metrics(caller, SimpleNamespace(send=sent.append))  # type: ignore[arg-type]
    samples = [sample for family in text_string_to_metric_families(sent[0].body.decode()) for sample in family.samples]
    # The reader has every counter end in _total, as ours do and theirs do not.
    names = {True: lambda name: name, False: lambda name: name.removesuffix("_total")}
    return {
        (names[one.name.startswith("fastserve_")](one.name), frozenset(one.labels.items())): one.value
        for one in samples
    }


OURS, THEIRS = {"model": MODEL, "version": "3"}, {"model_name": MODEL}
REST = {**THEIRS, "API": "predict", "entrypoint": "REST"}
EXPECTED = [
    ("nv_inference_request_success", OURS, 0),
    ("nv_inference_request_failure", OURS, 1),
    ("nv_inference_count", OURS, 0),
    ("nv_inference_pending_request_count", {"model": MODEL}, 5),
    (":tensorflow:serving:request_count", {**THEIRS, "status": "OK"}, 2),
    (":tensorflow:serving:request_count", {**THEIRS, "status": "RESOURCE_EXHAUSTED"}, 1),
    (":tensorflow:serving:request_count", {**THEIRS, "status": "INVALID_ARGUMENT"}, 1),
    (":tensorflow:serving:request_latency_count", REST, 1),
    (":tensorflow:serving:request_latency_sum", REST, 2),
    (":tensorflow:serving:request_latency_bucket", {**REST, "le": "1.0"}, 0),
    (":tensorflow:serving:request_latency_bucket", {**REST, "le": "5.0"}, 1),
]


@pytest.mark.parametrize(("name", "labels", "value"), EXPECTED)
def test_a_metric_has_the_name_that_dashboards_ask_for(name: str, labels: dict[str, str], value: float) -> None:
    assert asked(counted(), compat=True)[name, frozenset(labels.items())] == value


def test_without_being_asked_for_they_are_not_there() -> None:
    names = {name for name, _ in asked(counted(), compat=False)}
    assert "fastserve_requests_total" in names
    assert not [name for name in names if not name.startswith("fastserve_")]
    assert not [name for name, _ in asked(Metrics(), compat=True)]
