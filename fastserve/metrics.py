"""Counters, histograms and gauges by name and labels, as Prometheus text; and tallies, sums that are not rendered.

Thread: any; asking for a series that exists takes no lock, making or dropping one does. Gauges are read by the thread
that renders, outside the lock.
Memory: the cells of counters and histograms stand in pages, which live as long as a meter in them is held; a dropped
series that is still counted into does no harm and is not rendered.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from fastserve._ext.meters import Counter, Histogram, Tally

PAGE_CELLS = 512
_NAME = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")

Labels = tuple[tuple[str, str], ...]
"""Sorted names and values: the identity of a series within its family."""

Rows = Iterable[tuple[Sequence[str], float]]
"""Label values and a value, for each series of a family."""


Over = Literal["sum", "max"]
"""What a gauge or tally of several workers is together."""

_Kind = Literal["counter", "gauge", "histogram", "tally"]


class Point(Struct, frozen=True):
    """One series as it was read. A histogram's `values` are its buckets, not cumulative, then its sum, all times `scale`."""

    labels: Labels
    values: tuple[float, ...]
    bounds: tuple[int, ...] = ()
    scale: float = 1.0


class Family(Struct, frozen=True):
    """All series of one name as they were read."""

    name: str
    kind: _Kind
    text: str
    points: tuple[Point, ...]
    over: Over = "sum"


Snapshot = Sequence[Family]
"""Everything that was counted, as plain values: of one worker, or of several together."""


def combined(snapshots: Iterable[Snapshot]) -> list[Family]:
    """What several workers counted, as one: sums, but for gauges that say otherwise."""
    families: dict[str, Family] = {}
    points: dict[str, dict[Labels, Point]] = {}
    for family in (family for snapshot in snapshots for family in snapshot):
        known = points.setdefault(families.setdefault(family.name, family).name, {})
        for point in family.points:
            known[point.labels] = _together(known.get(point.labels), point, family.over)
    return [replace(family, points=tuple(points[name].values())) for name, family in families.items()]


def of_models(snapshot: Snapshot, wanted: Callable[[str], bool]) -> list[Family]:
    """Without the series of models that are not wanted; what is of no model stays."""

    def stays(point: Point) -> bool:
        return all(name != "model" or not value or wanted(value) for name, value in point.labels)

    return [replace(family, points=tuple(filter(stays, family.points))) for family in snapshot]


def _together(one: Point | None, other: Point, over: Over) -> Point:
    if one is None or one.bounds != other.bounds:  # the same series with other bounds: a worker of another version
        return other
    join = max if over == "max" else add
    return replace(other, values=tuple(map(join, one.values, other.values)))


def rendered(snapshot: Snapshot) -> bytes:
    """Prometheus text exposition format."""
    return generate_latest(_Rendered(snapshot))


class _Rendered:
    """A snapshot as the Prometheus library wants to be given it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Every family, as the library's own class for it."""
        for family in self._snapshot:
            if family.kind == "tally":
                continue
            metric = _KINDS[family.kind](family.name, family.text)
            for point in family.points:
                if family.kind == "histogram":
                    _add_histogram(metric, point)
                else:
                    metric.add_sample(family.name, dict(point.labels), point.values[0])
            yield metric


def _add_histogram(metric: Metric, point: Point) -> None:
    labels, scale = dict(point.labels), point.scale
    *buckets, total = point.values
    count = 0.0
    for bound, here in zip([*(str(bound / scale) for bound in point.bounds), "+Inf"], buckets, strict=True):
        count += here
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, total / scale)


_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A histogram of integers, rendered divided by `scale`."""

    histogram: Histogram
    bounds: tuple[int, ...]
    scale: float


_Series = Counter | _Scaled | Tally | Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Family:
    """All series of one name."""

    kind: _Kind
    text: str
    over: Over
    series: dict[Labels, _Series] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Gauges whose labels are known only when they are read."""

    text: str
    label_names: tuple[str, ...]
    read: Callable[[], Rows]
    over: Over


class Made(Struct, frozen=True):
    """A counter, histogram or tally, and where its `count` cells are."""

    name: str
    kind: _Kind
    text: str
    labels: Labels
    at: int
    count: int = 1
    bounds: tuple[int, ...] = ()
    scale: float = 1.0
    over: Over = "sum"


class Cells(Protocol):
    """Where the cells lie; asked under the metrics' lock."""

    def page(self, count: int) -> tuple[np.ndarray[Any, Any], int]:
        """At least `count` cells, all zero, and the place of the first one."""

    def made(self, made: Made) -> None:
        """A series counts in its cells from now on."""

    def dropped(self, labels: Mapping[str, str]) -> None:
        """The series with all of these labels are gone."""


class PrivateCells:
    """Cells that only this process reads."""

    def page(self, count: int) -> tuple[np.ndarray[Any, Any], int]:
        """A fresh array."""
        return np.zeros(max(PAGE_CELLS, count), np.int64), 0

    def made(self, made: Made) -> None:
        """Nobody wants to know."""

    def dropped(self, labels: Mapping[str, str]) -> None:
        """Nobody wants to know."""


class Metrics:
    """The series of one worker. Label values may come from outside: they are escaped, and never fail to render."""

    def __init__(self, cells: Cells | None = None) -> None:
        self._lock = Lock()
        self._families: dict[str, _Family] = {}
        self._asked: dict[str, _Asked] = {}
        self._source: Cells = cells or PrivateCells()
        self._page = np.zeros(0, np.int64)
        self._page_at = 0
        self._used_cells = 0
        self._on_removed: list[Callable[[Mapping[str, str]], None]] = []

    def counter(self, name: str, text: str, labels: Mapping[str, str]) -> Counter:
        """Answer the counter of that name (it ends in `_total`) and labels, made when it is not there."""
        if not name.endswith("_total"):
            raise ValueError(f"expected a counter's name to end in _total, got {name}")

        def make() -> _Series:
            cells, first = self._cells(1)
            self._source.made(Made(name, "counter", text, _identity(labels), self._page_at + first))
            return Counter(cells, first)

        series = self._series(name, "counter", text, labels, make)
        assert isinstance(series, Counter)
        return series

    def histogram(
        self, name: str, text: str, labels: Mapping[str, str], bounds: tuple[int, ...], scale: float
    ) -> Histogram:
        """Answer the histogram of that name and labels, made when it is not there.

        It observes integers (nanoseconds, rows) and is rendered in its unit: bounds and sum divided by `scale`.
        """

        def make() -> _Series:
            cells, first = self._cells(len(bounds) + 2)
            one = _Scaled(Histogram(cells, first, bounds), bounds, scale)
            at = self._page_at + first
            self._source.made(Made(name, "histogram", text, _identity(labels), at, len(bounds) + 2, bounds, scale))
            return one

        series = self._series(name, "histogram", text, labels, make)
        assert isinstance(series, _Scaled)
        if series.bounds != bounds or series.scale != scale:
            raise ValueError(f"expected the bounds and scale that {name} was made with")
        return series.histogram

    def tally(self, name: str, text: str, labels: Mapping[str, str], count: int, over: Over = "sum") -> Tally:
        """Answer the tally of that name and labels, made with `count` cells when it is not there. It is never rendered."""

        def make() -> _Series:
            cells, first = self._cells(count)
            self._source.made(Made(name, "tally", text, _identity(labels), self._page_at + first, count, over=over))
            return Tally(cells, first, count)

        series = self._series(name, "tally", text, labels, make, over)
        assert isinstance(series, Tally)
        return series

    def gauge(
        self, name: str, text: str, labels: Mapping[str, str], read: Callable[[], float], over: Over = "sum"
    ) -> None:
        """Render what `read` answers, which must not raise; it takes the place of an earlier one with these labels."""
        with self._lock:
            self._family(name, "gauge", text, over).series[_identity(labels)] = read

    def family(
        self, name: str, text: str, label_names: tuple[str, ...], read: Callable[[], Rows], over: Over = "sum"
    ) -> None:
        """Render gauges whose labels are known only then: `read` answers label values and a value for each; see `gauge`."""
        with self._lock:
            self._asked[name] = _Asked(text, label_names, read, over)

    def remove(self, labels: Mapping[str, str]) -> None:
        """Drop every series that has all of these labels, in every family. Who keeps meters is told (`when_removed`)."""
        wanted = set(_identity(labels))
        with self._lock:
            for family in self._families.values():
                for identity in [identity for identity in family.series if wanted <= set(identity)]:
                    del family.series[identity]
            self._source.dropped(dict(wanted))
        for call in self._on_removed:
            call(labels)

    def when_removed(self, call: Callable[[Mapping[str, str]], None]) -> None:
        """Have `call` called with the labels of what is dropped: meters that are kept would count for nobody."""
        self._on_removed.append(call)

    def text(self) -> bytes:
        """Everything, in Prometheus text exposition format."""
        return rendered(self.snapshot())

    def snapshot(self) -> list[Family]:
        """Read every family that has series."""
        return [*self.counted(), *self.gauges()]

    def counted(self) -> list[Family]:
        """Read the counters and histograms."""
        return self._read(lambda family: family.kind != "gauge")

    def gauges(self) -> list[Family]:
        """Read the gauges."""
        with self._lock:
            asked = list(self._asked.items())
        families = self._read(lambda family: family.kind == "gauge")
        for name, one in asked:
            points = [Point(_identity(dict(zip(one.label_names, row, strict=True))), (v,)) for row, v in one.read()]
            families.append(Family(name, "gauge", one.text, tuple(points), one.over))
        return families

    def _read(self, wanted: Callable[[_Family], bool]) -> list[Family]:
        with self._lock:
            found = [(name, one, list(one.series.items())) for name, one in self._families.items() if wanted(one)]
        return [
            Family(name, one.kind, one.text, tuple(_point(*item) for item in series), one.over)
            for name, one, series in found
            if series
        ]

    def _series(
        self,
        name: str,
        kind: _Kind,
        text: str,
        labels: Mapping[str, str],
        make: Callable[[], _Series],
        over: Over = "sum",
    ) -> _Series:
        identity = _identity(labels)
        family = self._families.get(name)
        series = family.series.get(identity) if family is not None and family.kind is kind else None
        if series is not None:
            return series
        with self._lock:
            made = self._family(name, kind, text, over).series
            if identity not in made:
                made[identity] = make()
            return made[identity]

    def _family(self, name: str, kind: _Kind, text: str, over: Over = "sum") -> _Family:
        """The family of that name. Under the lock."""
        family = self._families.get(name)
        if family is None:
            if not _NAME.fullmatch(name):
                raise ValueError(f"expected a name that Prometheus takes, got {name!r}")
            family = self._families[name] = _Family(kind, text, over)
        if family.kind is not kind:
            raise ValueError(f"expected {name} to stay a {family.kind}, got a {kind}")
        return family

    def _cells(self, count: int) -> tuple[np.ndarray[Any, Any], int]:
        """`count` cells that nobody has, all zero: their page and the first one's index. Under the lock."""
        if self._used_cells + count > len(self._page):
            self._page, self._page_at = self._source.page(count)
            self._used_cells = 0
        first = self._used_cells
        self._used_cells += count
        return self._page, first


def _identity(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, _readable(value)) for name, value in labels.items()))


def _readable(value: str) -> str:
    """`value` with lone surrogates replaced: they have no UTF-8, and one of them would spoil the whole text."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _point(labels: Labels, source: _Series) -> Point:
    if isinstance(source, Counter):
        return Point(labels, (source.value,))
    if isinstance(source, _Scaled):
        histogram = source.histogram
        return Point(labels, (*histogram.buckets, histogram.total), source.bounds, source.scale)
    if isinstance(source, Tally):
        return Point(labels, source.values)
    return Point(labels, (source(),))
