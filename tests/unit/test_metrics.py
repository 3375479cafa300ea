"""Metrics as Prometheus reads them: names, escapes, cumulative buckets; series that come, are shared, and go."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fastserve.metrics import PAGE_CELLS, Family, Metrics, PrivateCells, combined

BOUNDS = (1_000_000, 10_000_000)


class Filled(PrivateCells):
    """Cells of which each has counted already."""

    def __init__(self, value: int) -> None:
        self._value = value

    def page(self, count: int) -> tuple[np.ndarray[Any, Any], int]:
        cells, at = super().page(count)
        cells[:] = self._value
        return cells, at


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a scrape reads, by name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_the_text_is_prometheus_format() -> None:
    metrics = Metrics()
    metrics.counter("fastserve_refused_total", "Requests refused.", {"reason": "queue"}).add(3)
    times = metrics.histogram("fastserve_stage_seconds", "Time.", {"stage": "run", "model": "iris"}, BOUNDS, 1e9)
    for value_ns in (1_000_000, 2_000_000, 50_000_000):
        times.observe(value_ns)
    metrics.gauge("fastserve_queue_rows", "Rows.", {}, lambda: 7)
    assert metrics.text().decode().splitlines() == [
        "# HELP fastserve_refused_total Requests refused.",
        "# TYPE fastserve_refused_total counter",
        'fastserve_refused_total{reason="queue"} 3.0',
        "# HELP fastserve_stage_seconds Time.",
        "# TYPE fastserve_stage_seconds histogram",
        'fastserve_stage_seconds_bucket{le="0.001",model="iris",stage="run"} 1.0',
        'fastserve_stage_seconds_bucket{le="0.01",model="iris",stage="run"} 2.0',
        'fastserve_stage_seconds_bucket{le="+Inf",model="iris",stage="run"} 3.0',
        'fastserve_stage_seconds_count{model="iris",stage="run"} 3.0',
        'fastserve_stage_seconds_sum{model="iris",stage="run"} 0.053',
        "# HELP fastserve_queue_rows Rows.",
        "# TYPE fastserve_queue_rows gauge",
        "fastserve_queue_rows 7.0",
    ]


def test_nothing_counted_is_no_text() -> None:
    assert Metrics().text() == b""


def test_a_series_is_made_once_whatever_the_order_of_its_labels() -> None:
    metrics = Metrics()
    one = metrics.counter("a_total", "A.", {"x": "1", "y": "2"})
    assert metrics.counter("a_total", "A.", {"y": "2", "x": "1"}) is one
    assert metrics.counter("a_total", "A.", {"x": "2", "y": "1"}) is not one
    times = metrics.histogram("b", "B.", {"x": "1"}, (1, 2), 1)
    assert metrics.histogram("b", "B.", {"x": "1"}, (1, 2), 1) is times


def test_a_later_gauge_takes_the_place_of_the_first() -> None:
    metrics = Metrics()
    metrics.gauge("a", "A.", {"model": "m"}, lambda: 1)
    metrics.gauge("a", "A.", {"model": "m"}, lambda: 2)
    assert samples(metrics) == {("a", (("model", "m"),)): 2.0}


def test_a_family_is_asked_for_its_series_each_time() -> None:
    metrics = Metrics()
    states = {"iris": "READY", "di\udce9ts": "FAILED"}  # a name on disk that is no UTF-8
    metrics.family("info", "I.", ("model", "state"), lambda: [(item, 1.0) for item in states.items()])
    assert samples(metrics) == {
        ("info", (("model", "iris"), ("state", "READY"))): 1.0,
        ("info", (("model", "di?ts"), ("state", "FAILED"))): 1.0,
    }
    states.clear()
    assert samples(metrics) == {}


def test_series_with_the_labels_go_and_the_others_stay() -> None:
    metrics = Metrics()
    for model in ("old", "new"):
        metrics.counter("a_total", "A.", {"model": model, "status": "200"}).add()
        metrics.histogram("b", "B.", {"model": model}, (1,), 1)
        metrics.gauge("c", "C.", {"model": model}, lambda: 1)
    metrics.counter("d_total", "D.", {"reason": "x"})
    metrics.remove({"model": "old"})
    assert {labels for _, labels in samples(metrics) if ("model", "old") in labels} == set()
    assert {name for name, labels in samples(metrics) if ("model", "new") in labels} == {
        "a_total",
        "b_bucket",
        "b_count",
        "b_sum",
        "c",
    }
    assert ("d_total", (("reason", "x"),)) in samples(metrics)
    metrics.remove({"model": "new"})
    assert b" a_total" not in metrics.text()


def test_a_removed_series_comes_back_from_zero_and_its_old_meter_does_no_harm() -> None:
    metrics = Metrics()
    old = metrics.counter("a_total", "A.", {"model": "m"})
    old.add(5)
    metrics.remove({"model": "m"})
    metrics.counter("a_total", "A.", {"model": "m"}).add(1)
    old.add(100)
    assert samples(metrics) == {("a_total", (("model", "m"),)): 1.0}


def test_cells_of_many_series_do_not_meet() -> None:
    metrics = Metrics()
    meters = []
    for index in range(PAGE_CELLS):
        meters.append((metrics.counter("a_total", "A.", {"i": str(index)}), index))
        metrics.histogram("b", "B.", {"i": str(index)}, (1, 2, 3), 1).observe(index % 5)
    for counter, index in meters:
        counter.add(index)
    assert [counter.value for counter, _ in meters] == list(range(PAGE_CELLS))
    large = tuple(range(PAGE_CELLS * 2))
    wide = metrics.histogram("wide", "W.", {}, large, 1)
    wide.observe(PAGE_CELLS * 2)
    assert (wide.count, wide.buckets[-1]) == (1, 1)


def test_memory_of_series_that_are_gone_is_let_go() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.", {"generation": "old"})
    page = weakref.ref(metrics._page)
    for index in range(PAGE_CELLS):
        metrics.counter("a_total", "A.", {"generation": "old", "i": str(index)})
    assert page() is not None
    metrics.remove({"generation": "old"})
    gc.collect()
    assert page() is None


@pytest.mark.parametrize(
    "again",
    [
        lambda metrics: metrics.gauge("a_total", "A.", {}, lambda: 1),
        lambda metrics: metrics.histogram("a_total", "A.", {}, (1,), 1),
        lambda metrics: metrics.counter("b", "B.", {}),
        lambda metrics: metrics.counter("times", "T.", {"x": "1"}),
        lambda metrics: metrics.histogram("times", "T.", {"x": "1"}, (1, 2), 1),
        lambda metrics: metrics.histogram("times", "T.", {"x": "1"}, (1,), 2),
        lambda metrics: metrics.counter("no such name_total", "N.", {}),
        lambda metrics: metrics.gauge("", "N.", {}, lambda: 1),
    ],
)
def test_a_name_means_one_thing(again: Any) -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.", {})
    metrics.histogram("times", "T.", {"x": "1"}, (1,), 1)
    before = metrics.text()
    with pytest.raises(ValueError, match=r".+"):
        again(metrics)
    assert metrics.text() == before


HOSTILE = ['"', "\\", "\n", 'a"} 1\nevil{x="', "é\u2028\U0001f600", "\ud800", "\udcff", "\x00", "", "x" * 10_000, "{}"]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_label_from_outside_stays_one_label(value: str) -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.", {"model": value}).add(2)
    metrics.gauge("b", "B.", {"model": value}, lambda: 1)
    readable = value.encode("utf-8", "replace").decode()
    assert samples(metrics) == {("a_total", (("model", readable),)): 2.0, ("b", (("model", readable),)): 1.0}
    metrics.remove({"model": value})
    assert samples(metrics) == {}


def test_two_labels_that_read_the_same_are_one_series() -> None:
    metrics = Metrics()
    for value in ("\ud800", "\udfff", "?"):
        metrics.counter("a_total", "A.", {"model": value}).add()
    assert samples(metrics) == {("a_total", (("model", "?"),)): 3.0}


@given(st.dictionaries(st.sampled_from(["model", "reason", "status"]), st.text(), max_size=3))
def test_any_text_in_labels_is_read_back(labels: dict[str, str]) -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.", labels).add(2)
    expected = {name: value.encode("utf-8", "replace").decode() for name, value in labels.items()}
    assert samples(metrics) == {("a_total", tuple(sorted(expected.items()))): 2.0}


def test_a_gauge_may_ask_the_metrics_itself() -> None:
    metrics = Metrics()
    counter = metrics.counter("a_total", "A.", {})
    counter.add(4)
    metrics.gauge("b", "B.", {}, lambda: metrics.counter("c_total", "C.", {}).value + counter.value)
    assert samples(metrics)["b", ()] == 4.0


def test_series_made_by_several_threads_are_shared() -> None:
    metrics = Metrics()
    start = threading.Barrier(4)

    def count() -> None:
        start.wait()
        for index in range(300):
            metrics.counter("a_total", "A.", {"i": str(index)}).add()
            if index % 50 == 0:
                metrics.text()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(samples(metrics).values()) == {4.0}


def test_a_tally_is_counted_and_not_rendered() -> None:
    metrics = Metrics()
    tally = metrics.tally("sums", "", {"model": "m"}, 2)
    assert metrics.tally("sums", "", {"model": "m"}, 2) is tally
    assert metrics.text() == b""
    (family,) = metrics.snapshot()
    assert (family.kind, family.points[0].values) == ("tally", (0, 0))


def test_a_tally_says_how_several_are_one() -> None:
    def counted(value: int) -> list[Family]:
        metrics = Metrics(Filled(value))
        metrics.tally("sums", "", {}, 2)
        metrics.tally("last", "", {}, 1, "max")
        return metrics.snapshot()

    together = combined([counted(5), counted(3)])
    assert {family.name: family.points[0].values for family in together} == {"sums": (8, 8), "last": (5,)}


def test_who_keeps_meters_is_told_what_is_removed() -> None:
    metrics = Metrics()
    removed: list[object] = []
    metrics.when_removed(removed.append)
    metrics.remove({"model": "m", "version": "1"})
    assert removed == [{"model": "m", "version": "1"}]
