"""Tables of records: what is kept of each column."""

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastserve.errors import FastServeError
from fastserve.protocols.arize.protojson import Mistake
from fastserve.store.order import SEQ_STEP
from fastserve.store.rows import Row
from tests.support.arrow_tables import MULTI_CLASS, NOW_NS, NOW_S, NUMERIC, kept, one, schema, stream


def feature(array: Any) -> list[Any]:
    return [row.features.get("f") for row in one({"f": array}, features=["f"])]


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([1, None, -(2**63)]), [1, None, -(2**63)]),
        (pa.array([2**63 - 1], pa.uint64()), [2**63 - 1]),
        (pa.array([0.5, None, float("nan"), float("inf")]), [0.5, None, None, float("inf")]),
        (pa.array([0.5], pa.float32()), [0.5]),
        (pa.array(np.float16([0.5])), [0.5]),
        (pa.array([Decimal("1.50")]), [1.5]),
        (pa.array([True, False, None]), ["True", "False", None]),
        (pa.array(["a", "", None]), ["a", "", None]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([1, 2]).dictionary_encode(), [1, 2]),
        (pa.array([["a", None, "b"], None, []]), [["a", "b"], None, []]),
        (pa.array([[1.0, None], [2.0]]), [[1.0, float("nan")], [2.0]]),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), [[1.0, 2.0]]),
        (pa.array([None, None]), [None, None]),
        (pa.array([datetime(2026, 1, 2, tzinfo=UTC)]), ["2026-01-02 00:00:00.000000Z"]),
        (pa.array([date(2026, 1, 2)]), ["2026-01-02"]),
    ],
)
def test_features_of_each_type(array: Any, values: list[Any]) -> None:
    assert repr(feature(array)) == repr(values)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([{"a": 1}]),
        pa.array([b"bytes"]),
        pa.array([[["deep"]]]),
        pa.array([[{"a": 1}]]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
)
def test_features_of_no_kind(array: Any) -> None:
    with pytest.raises(FastServeError, match=r"^invalid feature type$"):
        feature(array)


@pytest.mark.parametrize(
    "array",
    [pa.array([2**63], pa.uint64()), pa.array(["a\0"]), pa.array([["\0"]]), pa.array([[0.5] * 20_001])],
)
def test_features_that_cannot_be_kept(array: Any) -> None:
    with pytest.raises(FastServeError, match='column "f"'):
        feature(array)


def test_parts_of_a_row() -> None:
    rows = one(
        {
            "id": ["a", "b", None],
            "said": ["x", "y", None],
            "score": [0.5, 0.25, None],
            "was": ["x", None, None],
            "shap": [0.1, None, None],
            "tag": [1, 2, 3],
            "f": ["q", None, "r"],
        },
        prediction_label="said",
        prediction_score="score",
        actual_label="was",
        shap_values={"f": "shap"},
        tags=["tag"],
        features=["f"],
        model_version="v",
    )
    assert [(row.prediction_id, row.kind, row.label_cat, row.score) for row in rows] == [
        ("a", "prediction", "x", 0.5),
        ("a", "actual", "x", None),
        ("a", "importance", None, None),
        ("b", "prediction", "y", 0.25),
        ("made-2", "prediction", None, None),
    ]
    assert [row.tags for row in rows] == [{"tag": 1}, {"tag": 1}, {}, {"tag": 2}, {"tag": 3}]
    assert rows[-1].features == {"f": "r"}
    assert rows[2].importances == {"f": 0.1}
    assert {(row.space, row.version, row.environment, row.ts_ns, row.ingest_ns) for row in rows} == {
        ("s", "v", "production", 77, 77)
    }


def test_late_actuals_with_features_are_no_new_predictions() -> None:
    rows = one({"was": ["x", None], "f": [1, 2], "tag": ["t", "t"]}, actual_label="was", features=["f"], tags=["tag"])
    assert [(row.prediction_id, row.kind, row.label_cat) for row in rows] == [
        ("p0", "actual", "x"),
        ("p1", "actual", None),
    ]


def test_late_importances() -> None:
    (row,) = one({"shap": [0.5]}, shap_values={"f": "shap"})
    assert (row.kind, row.importances) == ("importance", {"f": 0.5})


def test_ids_are_made_for_predictions_without_one() -> None:
    rows = one({"f": [1, 2]}, features=["f"], prediction_id="")
    assert [row.prediction_id for row in rows] == ["made-0", "made-1"]
    rows = one({"id": ["x", ""], "f": [1, 2]}, features=["f"])
    assert [row.prediction_id for row in rows] == ["x", "made-1"]


def test_rows_have_seqs_of_their_own() -> None:
    rows = one({"f": list(range(3000))}, batch_rows=700, features=["f"])
    assert [row.seq for row in rows] == [1000 + i * SEQ_STEP for i in range(3000)]
    assert [row.features["f"] for row in rows] == list(range(3000))
    assert len({row.digest for row in rows}) == 3000


@pytest.mark.parametrize(
    ("array", "expected_ns"),
    [
        (pa.array([NOW_S - 5]), NOW_NS - 5 * 10**9),
        (pa.array([NOW_S - 5.5]), NOW_NS - 55 * 10**8),
        (pa.array([NOW_NS // 1000 - 5], pa.timestamp("us")), NOW_NS - 5000),
        (pa.array([NOW_NS - 5], pa.timestamp("ns", "Europe/Berlin")), NOW_NS - 5),
        (pa.array([NOW_S // 86_400], pa.date32()), NOW_S // 86_400 * 86_400 * 10**9),
        (pa.array([None], pa.int64()), 77),
        (pa.array([None]), 77),
        (pa.array([float("nan")]), 77),
    ],
)
def test_times(array: Any, expected_ns: int) -> None:
    (row,) = one({"t": array, "f": [1]}, timestamp="t", features=["f"])
    assert row.ts_ns == expected_ns


@pytest.mark.parametrize(
    "array",
    [pa.array([NOW_S - 91 * 86_400]), pa.array([NOW_S + 90_000]), pa.array([0.0]), pa.array([date(2020, 1, 1)])],
)
def test_times_out_of_range(array: Any) -> None:
    with pytest.raises(FastServeError, match=r"^timestamp must range from now back to T-90 days$"):
        one({"t": array, "f": [1]}, timestamp="t", features=["f"])


@pytest.mark.parametrize("array", [pa.array(["now"]), pa.array([2**62]), pa.array([[1]])])
def test_columns_that_are_no_times(array: Any) -> None:
    with pytest.raises(FastServeError, match='column "t"'):
        one({"t": array, "f": [1]}, timestamp="t", features=["f"])


def test_columns_of_versions_environments_and_batches() -> None:
    rows = one(
        {"f": [1, 2], "v": ["v1", None], "e": ["TRAINING", None], "b": ["b1", None]},
        features=["f"],
        version_column="v",
        environment_column="e",
        batch_column="b",
        model_version="v0",
        batch_id="b0",
        environment=2,
    )
    assert [(row.version, row.environment, row.batch_id) for row in rows] == [
        ("v1", "training", "b1"),
        ("v0", "validation", "b0"),
    ]
    with pytest.raises(FastServeError, match='got "corpus"'):
        one({"f": [1], "e": ["corpus"]}, features=["f"], environment_column="e")


CORPUS = 4
DOCUMENTS = {"d": ["a", "b"], "v": ["1", None], "e": [[0.5, 1.0], None], "t": ["first", "second"]}


def test_documents_of_a_corpus() -> None:
    table = stream(
        pa.table(DOCUMENTS),
        schema(model_id="m", environment=CORPUS, documents={1: "d", 2: {1: "e", 2: "t"}, 3: "v"}, features=["nowhere"]),
    )
    first, second = kept(table)
    assert (first.kind, first.environment, first.prediction_id, first.version) == ("document", "corpus", "a", "1")
    assert (first.features, first.label_num, first.label_cat) == ({"document_text": [0.5, 1.0]}, None, None)
    assert first.extras == {"document_text": {"raw_data": ["first"]}}
    assert (second.prediction_id, second.version, second.features) == ("b", "", {"document_text": []})
    (bare, _) = kept(stream(pa.table(DOCUMENTS), schema(model_id="m", environment=CORPUS, documents={1: "d"})))
    assert (bare.kind, bare.prediction_id, bare.features) == ("document", "a", {})


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({}, "expected document_column_names with the documents' ids, got none"),
        ({2: {1: "e"}}, "expected document_column_names with the documents' ids, got none"),
        ({1: "gone"}, "expected every column that arize-schema names"),
        ({1: "v"}, "expected the id of the document .*, got 1 rows without"),
        ({1: "d", 2: {1: "t"}}, "expected lists of numbers"),
    ],
)
def test_documents_that_are_none(documents: Any, message: str) -> None:
    with pytest.raises(Mistake) as raised:
        kept(stream(pa.table(DOCUMENTS), schema(model_id="m", environment=CORPUS, documents=documents)))
    assert re.search(message, f"{raised.value.description} {raised.value}")


CLASSES = [[{"class_name": "a", "score": 0.25}, {"class_name": "b", "score": 0.75}], None]


def said(rows: list[Row], kind: str = "prediction") -> list[tuple[Any, Any, Any, Any]]:
    return [
        (row.label_num, row.label_cat, row.score, row.label_json and json.loads(row.label_json))
        for row in rows
        if row.kind == kind
    ]


def test_labels_of_each_kind_of_model() -> None:
    assert said(one({"y": [1, 2]}, model_type=NUMERIC, prediction_label="y")) == [
        (1.0, None, None, None),
        (2.0, None, None, None),
    ]
    assert said(one({"y": [True, False]}, prediction_label="y"))[0][1] == "True"
    assert said(one({"s": [0.5]}, prediction_score="s")) == [(None, None, 0.5, None)]
    scores = {"multi_class": {"single_label": {"prediction_scores": {"a": 0.25, "b": 0.75}}}}
    assert said(one({"y": CLASSES, "f": [1, 2]}, model_type=MULTI_CLASS, prediction_score="y")) == [
        (None, "b", 0.75, scores),
        (None, None, None, None),
    ]
    both = one({"y": CLASSES[:1], "t": CLASSES[:1]}, model_type=MULTI_CLASS, prediction_score="y", threshold_scores="t")
    assert said(both)[0][3]["multi_class"]["multi_label"]["prediction_threshold_scores"]["a"] == {
        "prediction_score": 0.25,
        "threshold_score": 0.25,
    }


def test_boxes_and_polygons() -> None:
    columns = {"c": [[[1.0, 2.0, 3.0, 4.0]], None], "k": [["dog"], None], "s": [[0.5], None]}
    parts = {1: "c", 2: "k", 3: "s"}
    box = {"coordinates": [1.0, 2.0, 3.0, 4.0], "category": "dog", "score": 0.5}
    rows = one(columns, prediction_boxes=parts)
    assert said(rows)[0] == (None, None, None, {"object_detection": {"bounding_boxes": [box]}})
    rows = one(columns, actual_instances={1: "c", 3: "k", 4: "s"})
    assert said(rows, "actual") == [
        (None, None, None, {"cv_label": {"actual_instance_segmentation_label": {"polygons": [box]}}})
    ]


def test_what_a_language_model_was_given() -> None:
    (row,) = one(
        {"x": ["hi"], "m": ["x-1"], "p": [{"temperature": 0.5}], "d": [["1", "2"]]},
        embeddings={"prompt": {2: "x"}},
        llm_config={1: "m", 2: "p"},
        retrieved_document_ids="d",
    )
    assert row.features == {"prompt": []}
    assert row.extras == {
        "prompt": {"raw_data": ["hi"]},
        "$llm_fields": {"llm_model_name": "x-1", "llm_params": {"temperature": 0.5}},
        "$retrieved_document_ids": ["1", "2"],
    }


GOOD = pa.table({"id": ["a"], "f": [1]})


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"model_id": "m"}, "log must include prediction or actual"),
        ({"model_id": "m", "features": ["gone"]}, 'column "gone"'),
        ({"features": ["f"]}, "arize-schema model_id"),
        ({"model_id": "m", "features": ["f"], "environment": 5}, "training, validation, production or corpus"),
        ({"model_id": "x" * 513, "features": ["f"]}, "512"),
        ({"model_id": "m", "features": ["f"] * 5000}, "at most 4096"),
        ({"model_id": "m", "actual_label": "f", "prediction_id": ""}, "each row belongs to"),
        ({"model_id": "m", "shap_values": {"f": "id"}}, "expected numbers"),
        ({"model_id": "m", "embeddings": {"e": {1: "f"}}}, "lists of numbers"),
        ({"model_id": "m", "prediction_score": "id"}, "expected numbers"),
        ({"model_id": "m", "prediction_score": "f", "model_type": MULTI_CLASS}, "class_name"),
    ],
)
def test_tables_that_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(FastServeError, match=message):
        kept(stream(GOOD, schema(**{"prediction_id": "id", **told})))
