"""Drift over the log's views: every kind of column, every baseline, and data that has nothing to compare."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastserve.errors import InvalidRequest
from fastserve.monitor.drift import Drift, Drifted, ask
from fastserve.monitor.question import DriftQuestion, convert
from tests.support import logged
from tests.support.logged import DAY_NS, START_NS

NOW_NS = START_NS + 100 * DAY_NS
ROWS = 400


def asked(columns: dict[str, Any], actuals: dict[str, Any] | None = None, **parameters: Any) -> Drift:
    question = convert({"model": "m", **parameters}, DriftQuestion, lax=True)
    with logged.connection(columns, actuals) as connection:
        return ask(connection, question, NOW_NS)


def two_sides(baseline: dict[str, Any], current: dict[str, Any], **parameters: Any) -> dict[str, Drifted]:
    """Of training records and production ones with these columns."""
    before, after = (len(next(iter(own.values()))) for own in (baseline, current))
    columns = {name: [*baseline[name], *current[name]] for name in baseline}
    columns["environment"] = ["training"] * before + ["production"] * after
    found = asked(columns, window="none", **parameters)
    assert (found.baseline.kind, found.baseline.rows, found.rows) == ("training", before, after)
    return {one.name: one for one in found.dimensions}


RNG = np.random.default_rng(11)
NORMAL = RNG.normal(size=ROWS)
TEXTS = [str(one) for one in RNG.choice(list("abcd"), size=ROWS)]
VECTORS = RNG.normal(1, 1, size=(ROWS, 4)).tolist()


def test_identical_data_has_not_drifted() -> None:
    own = {"f.x": NORMAL, "f.t": TEXTS, "f.l": [[one, "z"] for one in TEXTS], "f.v": VECTORS, "label_cat": TEXTS}
    found = two_sides(own, own)
    assert set(found) == {"f.x", "f.t", "f.l", "f.v", "prediction"}
    assert {one.kind for one in found.values()} == {"numeric", "categorical", "list", "embedding"}
    for one in found.values():
        assert one.psi in (0, None)
        assert one.js == pytest.approx(0, abs=1e-6) if one.js is not None else one.kind == "embedding"
        assert one.verdict == ("stable" if one.psi is not None else "unknown")
        assert one.baseline == one.current
    assert found["f.x"].ks.p_value == 1
    assert found["f.v"].euclidean == 0
    assert found["f.v"].cosine == pytest.approx(0, abs=1e-12)


def test_a_shift_shows_in_every_distance() -> None:
    found = two_sides({"f.x": NORMAL, "f.y": NORMAL}, {"f.x": NORMAL + 1, "f.y": NORMAL + 0.2})
    assert list(found) == ["f.x", "f.y"]
    x, y = found["f.x"], found["f.y"]
    for name in ("psi", "js", "l_infinity", "wasserstein", "wasserstein_normed"):
        assert getattr(x, name) > getattr(y, name) > 0
    assert x.verdict == "significant"
    assert x.wasserstein == pytest.approx(1)
    assert x.ks.statistic == pytest.approx(stats.ks_2samp(NORMAL, NORMAL + 1).statistic)
    assert x.chi_square.p_value < 1e-6
    assert sum(x.bins.baseline) == sum(x.bins.current) == ROWS
    assert len(x.bins.labels) == len(x.bins.edges) + 2
    assert (x.baseline.mean, x.baseline.min, x.baseline.max) == pytest.approx(
        (NORMAL.mean(), NORMAL.min(), NORMAL.max())
    )
    assert x.baseline.std == pytest.approx(NORMAL.std(ddof=1))


NUMBER = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.none())
SAMPLE = st.lists(NUMBER, min_size=1, max_size=30)


@settings(max_examples=15, deadline=None)
@given(SAMPLE, SAMPLE)
def test_any_numbers_have_an_answer(one: list[float | None], other: list[float | None]) -> None:
    found = two_sides({"f.x": one}, {"f.x": other}, dimension=["f.x"])["f.x"]
    nothing = [sum(value is None or math.isnan(value) for value in own) for own in (one, other)]
    assert [found.baseline.missing, found.current.missing] == nothing
    assert (found.bins.baseline[-1], found.bins.current[-1]) == (nothing[0], nothing[1])
    assert sum(found.bins.baseline) == len(one)
    assert sum(found.bins.current) == len(other)
    assert found.psi >= 0


TEXT = st.one_of(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=5), st.none())
SOME = st.lists(TEXT, min_size=1, max_size=30)


@settings(max_examples=15, deadline=None)
@given(SOME, SOME)
def test_any_texts_have_an_answer(one: list[str | None], other: list[str | None]) -> None:
    found = two_sides({"f.x": [*one, None]}, {"f.x": [*other, "known"]}, dimension=["f.x"])["f.x"]
    known = {value for value in one if value is not None}
    fresh = [value for value in [*other, "known"] if value is not None and value not in known]
    if known:
        assert found.new_values.rows == len(fresh)
        assert found.new_values.values == len(set(fresh))
        assert set(found.new_values.examples) <= set(fresh)
    else:
        assert found.new_values is None
    assert found.current.missing == sum(value is None for value in other)
    assert sum(found.bins.current) == len(other) + 1


def test_rare_values_share_a_bin() -> None:
    before, after = ["a"] * 50 + ["b"] * 30 + ["c", "d"], ["a"] * 50 + ["e"] * 10 + ["c"]
    found = two_sides({"f.x": before}, {"f.x": after}, max_values="2")["f.x"]
    assert found.bins.labels == ["a", "b", "(other)", "(missing)"]
    assert found.bins.baseline == [50, 30, 2, 0]
    assert found.bins.current == [50, 0, 11, 0]
    assert (found.new_values.values, found.new_values.rows, found.new_values.examples) == (1, 10, ["e"])
    assert (found.baseline.cardinality, found.current.cardinality) == (4, 3)


def test_vectors_of_other_lengths_and_without_numbers_are_left_out() -> None:
    before = [[1.0, 0.0]] * 10
    after = [[0.0, 2.0]] * 4 + [[float("nan"), 1.0], [1.0, 2.0, 3.0], [], None]
    found = two_sides({"f.v": before}, {"f.v": after})["f.v"]
    assert found.cosine == pytest.approx(1)
    assert found.euclidean == pytest.approx(5**0.5)
    assert found.other_lengths == 1
    assert (found.current.rows, found.current.missing) == (8, 2)


def test_values_of_another_type_are_counted_apart() -> None:
    before = {"f.x": [1.0, 2.0, None, 3.0], "f.x:string": [None, None, None, None]}
    after = {"f.x": [1.0, None, None, 3.0], "f.x:string": [None, "n/a", None, None]}
    found = two_sides(before, after)
    assert list(found) == ["f.x"]
    assert (found["f.x"].current.clashes, found["f.x"].current.missing) == (1, 1)


DAYS = [START_NS + number * DAY_NS // 40 for number in range(ROWS)]
"""Ten days, forty rows each."""


def jumping(day: int) -> list[float]:
    """A column that jumps on that day."""
    return [float(value) + (5 if number >= day * 40 else 0) for number, value in enumerate(NORMAL)]


def of(found: Drift, name: str) -> Drifted:
    return next(one for one in found.dimensions if one.name == name)


def test_windows_show_when_it_began() -> None:
    columns = {"f.x": jumping(6), "f.c": ["new" if number >= 240 else "old" for number in range(ROWS)], "ts_ns": DAYS}
    found = asked(columns, window="1d", baseline_start="2024-10-04", baseline_end="2024-10-07")
    assert (found.baseline.kind, found.baseline.rows) == ("fixed", 120)
    for name in ("f.x", "f.c"):
        windows = of(found, name).windows
        assert [part.start for part in windows[:2]] == ["2024-10-04T00:00:00Z", "2024-10-05T00:00:00Z"]
        assert [part.psi > 1 for part in windows] == [False] * 6 + [True] * 4
        assert {part.rows for part in windows} == {40}


def test_a_moving_baseline_shows_the_jump_alone() -> None:
    columns = {"f.x": jumping(6), "f.v": [[value, 1.0] for value in jumping(6)], "ts_ns": DAYS}
    found = asked(columns, window="1d", baseline="moving", baseline_window="2d")
    assert found.baseline.window_s == 2 * 86_400
    parts = {part.start: part.psi for part in of(found, "f.x").windows}
    assert len(parts) == 8
    assert max(parts, key=parts.__getitem__) == "2024-10-10T00:00:00Z"
    assert parts["2024-10-10T00:00:00Z"] > 3 * sorted(parts.values())[-3]
    vectors = {part.start: part.cosine for part in of(found, "f.v").windows}
    assert max(vectors, key=vectors.__getitem__) == "2024-10-10T00:00:00Z"


def test_without_training_the_first_half_is_the_baseline() -> None:
    found = asked({"f.x": jumping(5), "ts_ns": DAYS}, window="none")
    assert (found.baseline.kind, found.baseline.rows, found.rows) == ("first half", 200, 200)
    assert of(found, "f.x").psi > 1


def test_slices_are_compared_with_the_same_slice() -> None:
    region = ["eu" if number % 2 else "us" for number in range(ROWS)]
    drifted = [value + (3 if number >= 200 and number % 2 else 0) for number, value in enumerate(NORMAL)]
    columns = {"f.x": drifted, "f.v": [[value, 1.0] for value in drifted], "t.region": region, "ts_ns": DAYS}
    found = asked(columns, slice="t.region", window="none")
    slices = of(found, "f.x").slices
    assert [part.value for part in slices] == ["eu", "us"]
    assert slices[0].psi > 1 > slices[1].psi
    assert [part.rows for part in slices] == [100, 100]
    assert [part.value for part in of(found, "f.v").slices] == ["eu", "us"]


def test_versions_are_compared_with_the_whole_baseline() -> None:
    versions = ["0"] * 200 + ["1", "2"] * 100
    columns = {
        "f.x": [value + (3 if version == "2" else 0) for value, version in zip(NORMAL, versions, strict=True)],
        "version": versions,
        "environment": ["training"] * 200 + ["production"] * 200,
    }
    found = asked(columns, slice="version", window="none")
    assert [(part.value, part.psi > 1) for part in of(found, "f.x").slices] == [("2", True), ("1", False)]
    narrowed = asked(columns, version=["1"], window="none")
    assert narrowed.rows == 100
    assert of(narrowed, "f.x").psi < 1


def test_what_really_happened_drifts_too() -> None:
    columns = {"label_cat": ["a"] * ROWS, "ts_ns": DAYS}
    actuals = {"label_cat": ["a" if number < 200 else "b" for number in range(300)]}
    found = asked(columns, actuals, window="none")
    assert of(found, "actual").psi > 1
    assert of(found, "actual").current.rows == 100, "what is not joined yet is not missing"
    assert of(found, "prediction").psi == 0


NOTHING = [
    ({"f.x": []}, {}),
    ({"f.x": [None, None], "f.t": [None, None]}, {}),
    ({"f.x": [float("nan")] * 3}, {}),
    ({"f.x": [1.0]}, {"baseline": "training"}),
    ({"f.x": [1.0], "f.t": ["a"], "f.v": [[1.0, 2.0]], "f.l": [["a"]]}, {"start": "2030-01-01", "end": "2030-01-02"}),
    ({"f.x": [1.0], "f.t": ["a"], "f.v": [[1.0, 2.0]]}, {"baseline": "moving"}),
]


@pytest.mark.parametrize(("columns", "parameters"), NOTHING)
@pytest.mark.parametrize("asked_for", [{}, {"slice": "version"}, {"dimension": ["f.x", "actual", "score"]}])
def test_nothing_to_compare_is_said(
    columns: dict[str, Any], parameters: dict[str, Any], asked_for: dict[str, Any]
) -> None:
    found = asked(columns, **parameters, **asked_for)
    assert found.notes
    for one in found.dimensions:
        assert one.psi is None or one.psi >= 0


def test_dimensions_may_be_chosen() -> None:
    columns = {"f.x": NORMAL, "t.x": NORMAL, "score": RNG.random(ROWS)}
    assert {one.name for one in asked(columns).dimensions} == {"f.x", "score"}
    assert {one.name for one in asked(columns, dimension=["t.x", "t.x"]).dimensions} == {"t.x"}


WRONG = [
    ({"dimension": ["f.nothing"]}, r'^dimension: there is no column "f.nothing"'),
    ({"dimension": ["version"]}, r"^dimension: expected f.NAME"),
    ({"baseline": "fixed"}, r"^baseline_start: a fixed baseline takes it"),
    ({"baseline_end": "2024-10-04"}, r"^baseline_start: a fixed"),
    ({"baseline_start": "2024-10-05", "baseline_end": "2024-10-04"}, r"^baseline_end: .* is not after"),
    ({"baseline_window": "x"}, r"^baseline_window: expected a length"),
    ({"baseline": "moving", "window": "1h"}, r"^window: .* with a moving baseline at most 100"),
    ({"slice": "f.v"}, r'^slice: "f.v" holds lists'),
    ({"filter": ["f.v=1"]}, r'^filter: "f.v" holds lists'),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_what_is_wrong_is_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        asked({"f.x": NORMAL, "f.v": VECTORS, "ts_ns": DAYS}, **parameters)


def test_large_data_are_sampled_for_what_takes_samples_and_counted_in_full() -> None:
    rows = 120_000
    x = RNG.normal(size=rows)
    found = two_sides({"f.x": x[: rows // 2]}, {"f.x": x[rows // 2 :] + 0.5})["f.x"]
    assert found.sampled
    assert sum(found.bins.current) == rows // 2
    assert found.ks.statistic == pytest.approx(stats.ks_2samp(x, x + 0.5).statistic, abs=0.02)
    assert found.wasserstein == pytest.approx(0.5, abs=0.03)
