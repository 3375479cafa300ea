"""What is asked for at each scrape: which versions there are, and what waits.

Thread: whichever scrapes.
"""

from collections.abc import Sequence
from typing import Protocol

from fastserve.engine.registry import Registry
from fastserve.metrics import Metrics
from fastserve.types import VersionStatus

Rows = list[tuple[tuple[str, ...], float]]


class Models(Protocol):
    """What there is, and how it is."""

    def models(self) -> list[str]:
        """Names of all models."""

    def status(self, model: str) -> Sequence[VersionStatus]:
        """Every known version of a model."""


def offer_gauges(metrics: Metrics, models: Models, registry: Registry) -> None:
    """Have them asked for."""

    def model_info() -> Rows:
        found = ((model, status) for model in models.models() for status in models.status(model))
        return [((model, str(one.version), one.state.value), 1.0) for model, one in found]

    def queue_rows() -> Rows:
        rows = dict.fromkeys(models.models(), 0)
        for one in registry.loaded():
            rows[one.lease.model] = rows.get(one.lease.model, 0) + one.lease.batcher.queued_rows
        return [((model,), float(count)) for model, count in rows.items()]

    def objectives() -> Rows:
        leases = [one.lease for one in registry.loaded()]
        return [((lease.model,), lease.config.slo_ms / 1e3) for lease in leases if lease.config.slo_ms]

    def waits() -> Rows:
        longest: dict[str, float] = {}
        for one in registry.loaded():
            gate = one.lease.batcher.gate
            if gate is not None:
                longest[one.lease.model] = max(gate.wait_ns / 1e9, longest.get(one.lease.model, 0.0))
        return [((model,), wait_s) for model, wait_s in longest.items()]

    labels = ("model", "version", "state")
    metrics.family("fastserve_model_info", "Versions and their states.", labels, model_info, "max")
    metrics.family("fastserve_queue_rows", "Rows that wait.", ("model",), queue_rows)
    text = "What the model's requests are to be answered within (slo_ms)."
    metrics.family("fastserve_objective_seconds", text, ("model",), objectives, "max")
    text = "How long a request that comes now is expected to wait for its run, of models with an objective."
    metrics.family("fastserve_predicted_wait_seconds", text, ("model",), waits, "max")
