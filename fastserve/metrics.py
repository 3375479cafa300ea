"""Counters, histograms and gauges by name and labels, as Prometheus text.

Thread: any; asking for a series that exists takes no lock, making or dropping one does. Gauges are read by the thread
that renders, outside the lock.
Memory: the cells of counters and histograms stand in pages, which live as long as a meter in them is held; a dropped
series that is still counted into does no harm and is not rendered.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from fastserve._ext.meters import Counter, Histogram

PAGE_CELLS = 512
_NAME = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")

Labels = tuple[tuple[str, str], ...]
"""Sorted names and values: the identity of a series within its family."""

Rows = Iterable[tuple[Sequence[str], float]]
"""Label values and a value, for each series of a family."""


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A histogram of integers, rendered divided by `scale`."""

    histogram: Histogram
    bounds: tuple[int, ...]
    scale: float

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds with how many values lie at or below each."""
        names = [*(str(bound / self.scale) for bound in self.bounds), "+Inf"]
        return list(zip(names, np.cumsum(self.histogram.buckets).tolist(), strict=True))


_Series = Counter | _Scaled | Callable[[], float]
_Kind = type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]


@dataclass(frozen=True, slots=True)
class _Family:
    """All series of one name. `kind` is the class that renders them."""

    kind: _Kind
    text: str
    series: dict[Labels, _Series] = field(default_factory=dict)


class Metrics:
    """The series of one worker. Label values may come from outside: they are escaped, and never fail to render."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._families: dict[str, _Family] = {}
        self._asked: dict[str, tuple[str, tuple[str, ...], Callable[[], Rows]]] = {}
        self._page = np.zeros(0, np.int64)
        self._used_cells = 0

    def counter(self, name: str, text: str, labels: Mapping[str, str]) -> Counter:
        """Answer the counter of that name (it ends in `_total`) and labels, made when it is not there."""
        if not name.endswith("_total"):
            raise ValueError(f"expected a counter's name to end in _total, got {name}")
        series = self._series(name, CounterMetricFamily, text, labels, lambda: Counter(*self._cells(1)))
        assert isinstance(series, Counter)
        return series

    def histogram(
        self, name: str, text: str, labels: Mapping[str, str], bounds: tuple[int, ...], scale: float
    ) -> Histogram:
        """Answer the histogram of that name and labels, made when it is not there.

        It observes integers (nanoseconds, rows) and is rendered in its unit: bounds and sum divided by `scale`.
        """

        def make() -> _Series:
            return _Scaled(Histogram(*self._cells(len(bounds) + 2), bounds), bounds, scale)

        series = self._series(name, HistogramMetricFamily, text, labels, make)
        assert isinstance(series, _Scaled)
        if series.bounds != bounds or series.scale != scale:
            raise ValueError(f"expected the bounds and scale that {name} was made with")
        return series.histogram

    def gauge(self, name: str, text: str, labels: Mapping[str, str], read: Callable[[], float]) -> None:
        """Render what `read` answers, which must not raise; it takes the place of an earlier one with these labels."""
        with self._lock:
            self._family(name, GaugeMetricFamily, text).series[_identity(labels)] = read

    def family(self, name: str, text: str, label_names: tuple[str, ...], read: Callable[[], Rows]) -> None:
        """Render gauges whose labels are known only then: `read` answers label values and a value for each; see `gauge`."""
        with self._lock:
            self._asked[name] = (text, label_names, read)

    def remove(self, labels: Mapping[str, str]) -> None:
        """Drop every series that has all of these labels, in every family."""
        wanted = set(_identity(labels))
        with self._lock:
            for family in self._families.values():
                for identity in [identity for identity in family.series if wanted <= set(identity)]:
                    del family.series[identity]

    def text(self) -> bytes:
        """Everything, in Prometheus text exposition format."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has series, as the Prometheus library's own class for it."""
        with self._lock:
            families = [(name, family, list(family.series.items())) for name, family in self._families.items()]
            asked = list(self._asked.items())
        for name, family, series in families:
            if series:
                yield _rendered(name, family, series)
        for name, (text, label_names, read) in asked:
            gauges = GaugeMetricFamily(name, text, labels=label_names)
            for values, value in read():
                gauges.add_metric([_readable(each) for each in values], value)
            yield gauges

    def _series(
        self, name: str, kind: _Kind, text: str, labels: Mapping[str, str], make: Callable[[], _Series]
    ) -> _Series:
        identity = _identity(labels)
        family = self._families.get(name)
        series = family.series.get(identity) if family is not None and family.kind is kind else None
        if series is not None:
            return series
        with self._lock:
            made = self._family(name, kind, text).series
            if identity not in made:
                made[identity] = make()
            return made[identity]

    def _family(self, name: str, kind: _Kind, text: str) -> _Family:
        """The family of that name. Under the lock."""
        family = self._families.get(name)
        if family is None:
            if not _NAME.fullmatch(name):
                raise ValueError(f"expected a name that Prometheus takes, got {name!r}")
            family = self._families[name] = _Family(kind, text)
        if family.kind is not kind:
            raise ValueError(f"expected {name} to stay a {family.kind.__name__}, got a {kind.__name__}")
        return family

    def _cells(self, count: int) -> tuple[np.ndarray[Any, Any], int]:
        """`count` cells that nobody has, all zero: their page and the first one's index. Under the lock."""
        if self._used_cells + count > len(self._page):
            self._page = np.zeros(max(PAGE_CELLS, count), np.int64)
            self._used_cells = 0
        first = self._used_cells
        self._used_cells += count
        return self._page, first


def _identity(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, _readable(value)) for name, value in labels.items()))


def _readable(value: str) -> str:
    """`value` with lone surrogates replaced: they have no UTF-8, and one of them would spoil the whole text."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _rendered(name: str, family: _Family, series: list[tuple[Labels, _Series]]) -> Metric:
    metric = family.kind(name, family.text)
    for labels, source in series:
        if isinstance(source, Counter):
            metric.add_sample(name, dict(labels), source.value)
        elif isinstance(source, _Scaled):
            _add_histogram(metric, dict(labels), source)
        else:
            metric.add_sample(name, dict(labels), source())
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], source: _Scaled) -> None:
    buckets = source.buckets()
    for bound, count in buckets:
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, buckets[-1][1])
    metric.add_sample(f"{metric.name}_sum", labels, source.histogram.total / source.scale)
