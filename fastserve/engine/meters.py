"""One served version's counters; names as in the contract for the command line, bounds chosen for microseconds to minutes."""

from collections.abc import Mapping
from functools import partial

from fastserve._ext.meters import SIZES_PER_TALLY, SUMS_PER_SIZE, VERSION_SUMS, Counter, Histogram, Tally, VersionMeter
from fastserve.metrics import Metrics

TIME_BOUNDS_NS = tuple(
    round(seconds * 1e9)
    for seconds in (
        10e-6,
        25e-6,
        50e-6,
        1e-4,
        2.5e-4,
        5e-4,
        1e-3,
        2.5e-3,
        5e-3,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1,
        2.5,
        10,
    )
)
ROW_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

VERSION_TALLY, LAST_TALLY, SIZES_TALLY = "version", "version_last_ns", "version_sizes"
"""Families of tallies by model and version; the last one by `chunk` of batch sizes too (see VersionMeter)."""


class ModelMeters:
    """What the engine counts for one version.

    The histograms are the model's (versions share them: dashboards follow a model over its versions), the sums in `version`
    the version's own; both go on counting when the version is loaded anew.
    """

    def __init__(self, metrics: Metrics, model: str, version: int) -> None:
        self.model = model
        labels = {"model": model}

        def stage(name: str) -> Histogram:
            text = "Time per stage of a request."
            return metrics.histogram("fastserve_stage_seconds", text, {**labels, "stage": name}, TIME_BOUNDS_NS, 1e9)

        self.decode = stage("decode")
        self.queue = stage("queue")
        self.run = stage("run")
        self.encode = stage("encode")
        text = "Rows that ran together."
        self.batch_rows: Histogram = metrics.histogram("fastserve_batch_rows", text, labels, ROW_BOUNDS, 1)
        text = "Batches split because a run of them failed."
        self.isolated: Counter = metrics.counter("fastserve_batch_isolated_total", text, labels)
        self.version = _version_meter(metrics, {**labels, "version": str(version)}, self)


def _version_meter(metrics: Metrics, labels: Mapping[str, str], meters: ModelMeters) -> VersionMeter:
    return VersionMeter(
        meters.queue,
        meters.run,
        meters.encode,
        meters.batch_rows,
        metrics.tally(VERSION_TALLY, "", labels, VERSION_SUMS),
        metrics.tally(LAST_TALLY, "", labels, 1, "max"),
        partial(_sizes, metrics, labels),
    )


def _sizes(metrics: Metrics, labels: Mapping[str, str], chunk: int) -> Tally:
    return metrics.tally(SIZES_TALLY, "", {**labels, "chunk": str(chunk)}, SIZES_PER_TALLY * SUMS_PER_SIZE)


class ObjectiveMeters:
    """What became of the requests of one model that has an objective."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        def outcome(name: str) -> Counter:
            text = "Requests of models with an objective: met, missed, expired (never run), refused."
            return metrics.counter("fastserve_objective_requests_total", text, {"model": model, "outcome": name})

        self.met = outcome("met")
        self.missed = outcome("missed")
        self.expired = outcome("expired")
        self.refused = outcome("refused")
