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

    labels = ("model", "version", "state")
    metrics.family("fastserve_model_info", "Versions and their states.", labels, model_info, "max")
    metrics.family("fastserve_queue_rows", "Rows that wait.", ("model",), queue_rows)
