"""Metrics over joined records: against scikit-learn where it is installed (the dev extra), by hand where it is not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.errors import InvalidRequest
from fastserve.monitor.performance import METRICS, Performance, ask
from fastserve.monitor.question import PerformanceQuestion, convert
from tests.support import logged
from tests.support.logged import DAY_NS, START_NS

NOW_NS = START_NS + 100 * DAY_NS


def asked(predictions: dict[str, Any], actuals: dict[str, Any], **parameters: Any) -> Performance:
    question = convert({"model": "m", **parameters}, PerformanceQuestion, lax=True)
    with logged.connection(predictions, actuals) as connection:
        return ask(connection, question, NOW_NS)


LABELS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=60)


@settings(max_examples=10, deadline=None)
@given(LABELS)
def test_classes_agree_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, actual = [p for p, _ in pairs], [a for _, a in pairs]
    found = asked({"label_cat": predicted}, {"label_cat": actual}, positive_class="a", window="none").metrics
    expected = {"accuracy": metrics.accuracy_score(actual, predicted)}
    for average in ("macro", "micro", "weighted"):
        values = metrics.precision_recall_fscore_support(actual, predicted, average=average, zero_division=0)
        expected |= {f"{n}_{average}": v for n, v in zip(("precision", "recall", "f1"), values[:3], strict=True)}
    mine = {"average": "binary", "zero_division": 0}
    is_a = [[one == "a" for one in own] for own in (actual, predicted)]
    values = metrics.precision_recall_fscore_support(*is_a, **mine)
    if "a" in predicted + actual:
        expected |= dict(zip(("precision", "recall", "f1"), values[:3], strict=True))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


SCORED = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=10, deadline=None)
@given(SCORED)
def test_scores_agree_with_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, truth = [score for score, _ in rows], [true for _, true in rows]
    labels = {"label_cat": [str(true) for true in truth]}
    found = asked({"score": scores}, labels, positive_class="True", window="none").metrics
    both = len(set(truth)) == 2
    assert found["auc"] == (pytest.approx(metrics.roc_auc_score(truth, scores)) if both else None)
    if any(truth):
        assert found["pr_auc"] == pytest.approx(metrics.average_precision_score(truth, scores))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, scores, labels=[False, True]))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth, scores))


NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=60))
def test_numbers_agree_with_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, actual = np.array(pairs).T
    found = asked({"label_num": predicted}, {"label_num": actual}, window="none")
    assert found.task == "regression"
    mse = metrics.mean_squared_error(actual, predicted)
    assert found.metrics["mae"] == pytest.approx(metrics.mean_absolute_error(actual, predicted))
    assert found.metrics["rmse"] == pytest.approx(mse**0.5)
    there = actual != 0
    mape = metrics.mean_absolute_percentage_error(actual[there], predicted[there]) if there.any() else None
    assert found.metrics["mape"] == (None if mape is None else pytest.approx(mape))
    if len(set(actual)) > 1:
        assert found.metrics["r2"] == pytest.approx(metrics.r2_score(actual, predicted), rel=1e-6, abs=1e-6)
    else:
        assert found.metrics["r2"] is None


def ranking_rows(lists: list[list[float]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`lists`: relevances in the order of the ranks."""
    flat = [(g, r, y) for g, own in enumerate(lists) for r, y in enumerate(own)]
    return {
        "label_json": [f'{{"ranking":{{"prediction_group_id":"g{g}","rank":{r + 1}}}}}' for g, r, _ in flat],
    }, {
        "score": [y for _, _, y in flat],
        "label_json": [f'{{"ranking":{{"relevance_score":{y}}}}}' for *_, y in flat],
    }


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 3.0]), min_size=2, max_size=8), min_size=1, max_size=6))
def test_rankings_agree_with_scikit_learn(lists: list[list[float]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    found = asked(*ranking_rows(lists), k=3, window="none")
    assert found.task == "ranking"
    relevant = [own for own in lists if any(own)]
    each = [metrics.ndcg_score([own], [range(len(own), 0, -1)], k=3) for own in relevant]
    assert found.metrics["ndcg"] == (pytest.approx(np.mean(each)) if each else None)
    firsts = [1 / (1 + next(i for i, y in enumerate(own) if y)) for own in relevant]
    assert found.metrics["mrr"] == (pytest.approx(np.mean(firsts)) if firsts else None)


def test_a_ranking_by_what_happened() -> None:
    labels = ["click", "buy", "click"]
    predictions = {
        "label_json": [
            f'{{"ranking":{{"label":"{label}","prediction_group_id":"g","rank":{rank}}}}}'
            for rank, label in enumerate(labels, 1)
        ],
        "label_cat": labels,
    }
    actuals = {"label_json": ['{"ranking":{"category":{"values":["buy"]}}}'] * 3, "label_cat": ["buy"] * 3}
    found = asked(predictions, actuals)
    assert found.task == "ranking"
    assert found.metrics["ndcg"] == pytest.approx(1 / np.log2(3))
    assert found.metrics["mrr"] == 0.5
    assert found.metrics["map"] == 0.5


def test_metrics_by_hand() -> None:
    found = asked(
        {"label_cat": list("aaab"), "score": [0.9, 0.8, 0.4, 0.1]}, {"label_cat": list("aabb")}, positive_class="a"
    )
    assert found.metrics["accuracy"] == 0.75
    assert found.metrics["precision"] == pytest.approx(2 / 3)
    assert found.metrics["recall"] == 1
    assert found.metrics["fpr"] == 0.5
    assert found.metrics["auc"] == 1
    assert found.metrics["calibration"] == pytest.approx(2.2 / 2)
    assert found.confusion == [[2, 0], [1, 1]]
    assert [(one.name, one.predicted, one.actual) for one in found.classes] == [("a", 3, 2), ("b", 1, 2)]
    assert [(one.low, one.rows) for one in found.calibration] == [(0.1, 1), (0.4, 1), (0.8, 1), (0.9, 1)]


def test_scores_of_the_predicted_class_are_turned() -> None:
    rows = {"label_cat": ["a", "b", "b"], "score": [0.9, 0.8, 0.6]}
    found = asked(rows, {"label_cat": ["a", "b", "a"]}, positive_class="a", score_of="predicted").metrics
    assert found["auc"] == 1
    assert found["brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.6**2) / 3)


def test_scores_alone_take_a_threshold() -> None:
    rows, actuals = {"score": [0.9, 0.2, 0.6]}, {"label_cat": ["yes", "no", "no"]}
    found = asked(rows, actuals, positive_class="yes", threshold="0.5").metrics
    assert found["accuracy"] == pytest.approx(2 / 3)
    with pytest.raises(InvalidRequest, match=r"^threshold: takes positive_class"):
        asked(rows, actuals, threshold="0.5")


def test_scores_of_every_class() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    scores = rng.dirichlet([1, 1, 1], size=200)
    truth = [str("abc"[i]) for i in rng.integers(0, 3, 200)]
    told = [
        f'{{"multi_class":{{"single_label":{{"prediction_scores":{{"a":{a},"b":{b},"c":{c}}}}}}}}}'
        for a, b, c in scores
    ]
    found = asked({"label_json": told, "label_cat": ["abc"[i] for i in scores.argmax(axis=1)]}, {"label_cat": truth})
    assert found.metrics["log_loss"] == pytest.approx(metrics.log_loss(truth, scores))
    assert found.metrics["auc_macro"] == pytest.approx(metrics.roc_auc_score(truth, scores, multi_class="ovr"))
    one = asked({"label_json": told}, {"label_cat": truth}, positive_class="b")
    assert one.metrics["auc"] == pytest.approx(metrics.roc_auc_score([t == "b" for t in truth], scores[:, 1]))


def test_windows_slices_and_counts() -> None:
    rows = 240
    right = [day % 2 == 0 for day in range(rows)]
    predictions = {
        "label_cat": ["1" if one else "0" for one in right],
        "ts_ns": [START_NS + number * DAY_NS // 10 for number in range(rows)],
        "t.region": ["eu" if number < 120 else "us" for number in range(rows)],
    }
    actuals = {
        "label_cat": ["1" if number < 120 or number % 4 == 0 else "0" for number in range(200)] + ["1"],
        "prediction_id": [*map(str, range(200)), "nobody"],
        "ts_ns": [START_NS + number * DAY_NS // 10 + 60_000_000_000 for number in range(200)] + [START_NS + 1],
    }
    found = asked(predictions, actuals, window="1d", slice="t.region")
    assert (found.counts.predictions, found.counts.joined, found.counts.unjoined) == (240, 200, 40)
    assert found.counts.label_delay_s.p50 == pytest.approx(60)
    assert found.actuals_without_prediction == 1
    assert [one.start for one in found.windows[:2]] == ["2024-10-04T00:00:00Z", "2024-10-05T00:00:00Z"]
    assert len(found.windows) == 24
    assert {one.metrics["accuracy"] for one in found.windows[:12]} == {0.5}
    assert found.windows[-1].metrics == {}
    assert found.windows[-1].counts.unjoined == 10
    assert [(one.value, one.counts.joined) for one in found.slices] == [("eu", 120), ("us", 80)]
    assert found.slices[0].metrics["accuracy"] == 0.5
    assert found.slices[1].metrics["accuracy"] == 0.75
    by_label = asked(predictions, actuals, filter=["t.region=us"], window="none")
    assert by_label.counts.predictions == 120
    assert by_label.metrics["accuracy"] == 0.75


def test_slices_of_a_number_are_its_quarters() -> None:
    values = [float(one) for one in range(100)]
    predictions = {"label_num": values, "f.x": [*values[:-1], None]}
    found = asked(predictions, {"label_num": [0.0] * 100}, slice="f.x")
    assert len(found.slices) == 5
    assert found.slices[0].value.startswith(">") or found.slices[0].value == "(missing)"
    assert sum(one.counts.predictions for one in found.slices) == 100
    assert found.metric == "mae"
    assert [one.metrics["mae"] for one in found.slices] == sorted(
        (one.metrics["mae"] for one in found.slices), reverse=True
    )


NONE_AT_ALL = [
    ({}, {}, "classification"),
    ({"label_num": [1.0]}, {}, "regression"),
    ({"label_num": [None, float("nan")]}, {"label_num": [1.0, 2.0]}, "regression"),
    ({"label_num": [float("inf"), 1e300]}, {"label_num": [1.0, -1e300]}, "regression"),
    ({"label_cat": ["a", "a"]}, {"label_cat": ["a", "a"]}, "classification"),
    ({"score": [0.5, float("nan")]}, {"label_cat": ["a", "a"]}, "classification"),
    ({"score": [7.0, -1.0]}, {"label_cat": ["a", "b"]}, "classification"),
    (*ranking_rows([[0.0, 0.0]]), "ranking"),
]


@pytest.mark.parametrize(("predictions", "actuals", "task"), NONE_AT_ALL)
@pytest.mark.parametrize("forced", ["auto", *METRICS])
def test_there_is_always_an_answer(
    predictions: dict[str, Any], actuals: dict[str, Any], task: str, forced: str
) -> None:
    found = asked(predictions, actuals, task=forced, slice="version")
    assert found.task == (task if forced == "auto" else forced)
    for value in found.metrics.values():
        assert value is None or np.isfinite(value)


def test_constant_truth_has_no_r2_and_one_class_no_auc() -> None:
    assert asked({"label_num": [1.0, 2.0]}, {"label_num": [3.0, 3.0]}).metrics["r2"] is None
    found = asked({"label_cat": ["a"], "score": [0.7]}, {"label_cat": ["a"]}, positive_class="a").metrics
    assert found["auc"] is None
    assert found["accuracy"] == 1


def test_many_classes_have_an_accuracy() -> None:
    names = [str(number) for number in range(700)]
    found = asked({"label_cat": names}, {"label_cat": [*names[1:], "0"]})
    assert found.metrics == {"accuracy": 0.0}
    assert "more than 500 classes" in found.notes[0]


WRONG = [
    ({"metric": "rmse"}, r"^metric: expected one of classification's: .*, got|^metric: .*; got \"rmse\""),
    ({"slice": "f.nothing"}, r'^slice: there is no column "f.nothing"; there are version'),
    ({"slice": 'f."; drop table kept'}, r"^slice: there is no column"),
    ({"filter": ["t.x"]}, r"^filter: there is no column"),
    ({"filter": ["f.x~3"]}, r"^filter: expected as in t.region=eu|^filter: there is no column"),
    ({"filter": ["f.x>three"]}, r'^filter: "f.x" holds numbers, got "three"'),
    ({"start": "yesterday"}, r"^start: expected a moment"),
    ({"end": "2026-13-01"}, r"^end: expected a moment"),
    ({"start": "2024-10-05", "end": "2024-10-04"}, r"^end: .* is before the start"),
    ({"start": "2024-10-05", "end": "2025-10-04", "window": "1s"}, r"^window: .* at most 1000"),
    ({"window": "1 day"}, r"^window: expected a length"),
    ({"window": "999999w"}, r"^window: expected a length"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_what_is_wrong_is_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        asked({"label_cat": ["a"], "f.x": [1.0]}, {"label_cat": ["a"]}, **parameters)


def test_quotes_in_values_are_values() -> None:
    nasty = "eu'; drop table kept; --"
    found = asked({"label_cat": ["a", "b"], "t.x\"'": [nasty, "us"]}, {"label_cat": ["a", "a"]}, slice="t.x\"'")
    assert {one.value for one in found.slices} == {nasty, "us"}
    narrowed = asked({"label_cat": ["a", "b"], "t.x": [nasty, "us"]}, {}, filter=[f"t.x={nasty}"])
    assert narrowed.counts.predictions == 1
