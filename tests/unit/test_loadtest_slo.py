"""Objectives and the search for the highest rate that meets them: pure, so nothing is driven here."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.loadgen import HdrHistogram
from fastserve.errors import ConfigError
from fastserve.loadtest.slo import Objective, parse_duration, parse_objectives, percentile_of_all, verdicts
from fastserve.loadtest.sweep import LOWEST_SHARE, RateSearch

MS = 1_000_000

RIGHT = [
    ("p99=5ms", [Objective("p99=5ms", "latency", 5 * MS, 0.99)]),
    ("p99.9 = 1.5s", [Objective("p99.9 = 1.5s", "latency", 1500 * MS, 0.999)]),
    ("p50=200us, errors=1%", [Objective("p50=200us", "latency", 200_000, 0.5), Objective("errors=1%", "errors", 0.01)]),
    ("rate=1000", [Objective("rate=1000", "rate", 1000)]),
    ("p100=1m", [Objective("p100=1m", "latency", 60_000 * MS, 1.0)]),
]


@pytest.mark.parametrize(("text", "expected"), RIGHT)
def test_objectives_are_read(text: str, expected: list[Objective]) -> None:
    for got, wanted in zip(parse_objectives(text), expected, strict=True):
        assert (got.text, got.kind, got.limit) == (wanted.text, wanted.kind, wanted.limit)
        assert got.share == pytest.approx(wanted.share)


@pytest.mark.parametrize(
    "text", ["", "p99", "p99=5", "p101=5ms", "q99=5ms", "errors=1", "rate=5ms", "p99=-5ms", "p99=5ms,"]
)
def test_what_is_no_objective_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="as in p99=5ms"):
        parse_objectives(text)


@pytest.mark.parametrize(("text", "ns"), [("5ms", 5 * MS), ("1.5s", 1500 * MS), ("2m", 120_000 * MS), ("7ns", 7)])
def test_a_time_has_a_unit(text: str, ns: int) -> None:
    assert parse_duration(text) == ns
    with pytest.raises(ConfigError, match="expected a time"):
        parse_duration(text[:-1] + "x")


def histogram_of(values: list[int]) -> HdrHistogram:
    histogram = HdrHistogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=60), st.integers(0, 60), st.sampled_from([0.5, 0.9, 0.99, 1.0])
)
def test_a_request_that_failed_was_answered_in_no_time(values: list[int], failed: int, share: float) -> None:
    everything = sorted([float(value) for value in values] + [math.inf] * failed)
    exact = everything[max(1, math.ceil(round(share * len(everything), 6))) - 1]
    got = percentile_of_all(histogram_of(values), failed, share)
    assert got == (None if math.isinf(exact) else exact)


VERDICTS = [
    ("p99=5ms", [MS] * 99 + [9 * MS], 0, True),
    ("p99=5ms", [MS] * 98 + [9 * MS] * 2, 0, False),
    ("p99=5ms", [MS] * 99, 1, True),
    ("p99=5ms", [MS] * 98, 2, False),
    ("errors=1%", [MS] * 99, 1, True),
    ("errors=1%", [MS] * 98, 2, False),
    ("errors=1%", [], 0, False),
    ("rate=100", [MS], 0, True),
    ("rate=101", [MS], 0, False),
]


@pytest.mark.parametrize(("text", "values", "failed", "met"), VERDICTS)
def test_verdict(text: str, values: list[int], failed: int, met: bool) -> None:
    (verdict,) = verdicts(parse_objectives(text), histogram_of(values), failed, 100.0)
    assert verdict.met is met


@given(st.floats(10, 1e5), st.floats(0.02, 4.0))
def test_the_highest_rate_is_found_in_few_trials(guess: float, share: float) -> None:
    capacity = guess * share
    search = RateSearch(guess)
    while (rate := search.next_rate()) is not None:
        search.tell(rate, rate <= capacity)
    assert len(search.trials) <= 12
    highest = search.highest_met
    assert highest is not None
    assert capacity / 1.06 < highest <= capacity


def test_a_rate_is_not_the_highest_above_one_that_missed() -> None:
    search = RateSearch(100.0)
    search.tell(70.0, met=False)
    search.tell(35.0, met=True)
    search.tell(80.0, met=True)  # luck
    assert search.highest_met == 35.0


def test_where_nothing_meets_it_the_search_ends() -> None:
    search = RateSearch(100.0)
    while (rate := search.next_rate()) is not None:
        assert rate >= 100.0 * LOWEST_SHARE
        search.tell(rate, met=False)
    assert search.highest_met is None
    assert len(search.trials) < 12
