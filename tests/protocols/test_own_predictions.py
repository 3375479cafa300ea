"""The server's own predictions in the prediction log: through every protocol, named as the model names its features."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from onnx import TensorProto as T
from onnx import helper

from fastserve.config import load_config
from fastserve.server.app import App, create_app
from fastserve.store.rows import Row
from tests.support import models
from tests.support.doors import Answer, AsgiDoor, Sent
from tests.support.kept_log import KeptLog
from tests.support.waiting import until

HEADER = "fastserve-prediction-id"
CONFIG = """
[repository]
path = "models"
[log]
directory = "log"
record_predictions = true
max_segment_seconds = 3600
[[models]]
name = "named"
features = ["a", "b"]
[[models]]
name = "classes"
classes = ["cat", "dog"]
[[models]]
name = "silent"
record_predictions = false
[[models]]
name = "strict"
non_finite = "error"
[[models]]
name = "rows"
dataset = "points"
[[datasets]]
name = "points"
from = "points.csv"
"""


def identity(shape: list[Any], dtype: int = T.FLOAT) -> Any:
    return _graph([helper.make_node("Identity", ["x"], ["y"])], [("x", dtype, shape)], [("y", dtype, shape)])


def _graph(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Any:
    values = [[helper.make_tensor_value_info(*value) for value in part] for part in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def columns() -> Any:
    """A number and a text; both come back."""
    nodes = [helper.make_node("Identity", ["age"], ["older"]), helper.make_node("Identity", ["city"], ["town"])]
    inputs = [("age", T.INT64, ["N"]), ("city", T.STRING, ["N"])]
    return _graph(nodes, inputs, [("older", T.INT64, ["N"]), ("town", T.STRING, ["N"])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    graphs = {
        "named": identity(["N", 2]),
        "silent": identity(["N", 2]),
        "strict": _graph(
            [helper.make_node("Reciprocal", ["x"], ["y"])], [("x", T.FLOAT, ["N"])], [("y", T.FLOAT, ["N"])]
        ),
        "one": identity(["N"]),
        "classes": identity(["N", 2]),
        "columns": columns(),
        "wide": identity(["N", 100]),
        "rows": identity(["N", 2]),
    }
    for name, graph in graphs.items():
        models.save(graph, folder / "models" / name / "1")
    (folder / "points.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "fastserve.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def app(folder: Path) -> App:
    return create_app(load_config(file=str(folder / "fastserve.toml"), env={}))


@pytest.fixture(scope="module")
def door(app: App) -> Iterator[AsgiDoor]:
    door = AsgiDoor(app)
    door.open()
    yield door
    door.close()


@pytest.fixture(scope="module")
def kept(folder: Path, door: AsgiDoor) -> KeptLog:
    return KeptLog(folder / "log")


Ask = Callable[..., tuple[Answer, list[Row]]]


@pytest.fixture
def ask(door: AsgiDoor, kept: KeptLog) -> Ask:
    """The answer, and what is kept of it; `rows`: so many are waited for."""

    def ask(
        path: str, body: Any = None, rows: int = 1, method: str = "POST", **headers: str
    ) -> tuple[Answer, list[Row]]:
        sent = Sent(
            method,
            path,
            {name.replace("_", "-"): value for name, value in headers.items()},
            b"" if body is None else json.dumps(body).encode(),
        )
        answer = door.send(sent)
        found: list[Row] = []

        def there() -> bool:
            found.extend(kept.rows())
            return len(found) >= rows

        until(there)
        return answer, found

    return ask


def tfserving(model: str) -> str:
    return f"/v1/models/{model}:predict"


def test_a_prediction_is_kept_with_its_features_by_name(ask: Ask) -> None:
    answer, (row,) = ask(tfserving("named"), {"instances": [[0.5, 2]]})
    assert (row.model_id, row.version, row.space, row.environment, row.kind) == (
        "named",
        "1",
        "",
        "production",
        "prediction",
    )
    assert row.features == {"a": 0.5, "b": 2.0}
    assert row.prediction_id == unquote(answer.headers[HEADER])
    assert json.loads(row.label_json or "") == {"outputs": {"y": [0.5, 2.0]}}
    assert row.digest


def test_rows_of_one_request_are_numbered(ask: Ask) -> None:
    answer, rows = ask(tfserving("one"), {"instances": [1, 2, 3]}, rows=3)
    told = unquote(answer.headers[HEADER])
    assert [row.prediction_id for row in rows] == [f"{told}:{i}" for i in range(3)]
    assert [row.label_num for row in rows] == [1.0, 2.0, 3.0]
    assert [row.features for row in rows] == [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]
    assert len({row.seq for row in rows}) == 3


def test_the_client_chooses_the_id(ask: Ask) -> None:
    answer, (row,) = ask(tfserving("one"), {"instances": [1]}, fastserve_prediction_id="%2fa%20%C3%A9")
    assert row.prediction_id == "/a é"
    assert answer.headers[HEADER] == "%2Fa%20%C3%A9"


@pytest.mark.parametrize("given", ["%FF", "%00", "x" * 513])
def test_an_id_that_is_none_is_refused(ask: Ask, given: str) -> None:
    answer, rows = ask(tfserving("one"), {"instances": [1]}, rows=0, fastserve_prediction_id=given)
    assert answer.status == 400
    assert "fastserve-prediction-id: expected 1 to 512 characters" in json.loads(answer.body)["error"]
    assert rows == []


def oip(data: list[Any], **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [len(data)], "datatype": "FP32", "data": data}], **more}


def test_open_inference_has_the_id_in_its_answer(ask: Ask) -> None:
    answer, (row,) = ask("/v2/models/one/infer", oip([7]))
    assert json.loads(answer.body)["id"] == row.prediction_id == answer.headers[HEADER]


def test_open_inference_takes_the_client_s_own_id(ask: Ask) -> None:
    answer, (row,) = ask("/v2/models/one/infer", oip([7], id="mine"))
    assert json.loads(answer.body)["id"] == row.prediction_id == answer.headers[HEADER] == "mine"


def test_a_header_counts_more_than_the_body_s_id(ask: Ask) -> None:
    answer, (row,) = ask("/v2/models/one/infer", oip([7], id="mine"), fastserve_prediction_id="other")
    assert json.loads(answer.body)["id"] == "mine"
    assert row.prediction_id == answer.headers[HEADER] == "other"


def test_an_id_that_cannot_be_kept_is_answered_and_another_one_is_kept(ask: Ask) -> None:
    answer, (row,) = ask("/v2/models/one/infer", oip([7], id="x" * 600))
    assert json.loads(answer.body)["id"] == "x" * 600
    assert row.prediction_id == answer.headers[HEADER] != "x" * 600


@pytest.mark.parametrize("path", ["/v2/models/one/infer", "/v2/models/one/predict"])
def test_plain_lists_have_the_id_in_their_answer(ask: Ask, path: str) -> None:
    answer, (row,) = ask(path, {"inputs": [4.0]})
    assert json.loads(answer.body)["id"] == row.prediction_id == answer.headers[HEADER]


def test_generate(ask: Ask) -> None:
    answer, (row,) = ask("/v2/models/one/generate", {"x": [2.5]})
    assert answer.status == 200
    assert row.prediction_id == answer.headers[HEADER]
    assert row.label_num == 2.5


def test_a_prediction_from_a_dataset(ask: Ask) -> None:
    answer, rows = ask("/v1/models/rows/predict", method="GET", rows=2)
    assert [row.prediction_id for row in rows] == [f"{answer.headers[HEADER]}:{i}" for i in range(2)]
    assert [row.features for row in rows] == [{"x[0]": 1.0, "x[1]": 2.0}, {"x[0]": 3.0, "x[1]": 4.0}]


def test_several_predictions_from_datasets(ask: Ask) -> None:
    body = {"predictions": [{"model_name": "rows"}, {"model_name": "nobody"}, {"model_name": "rows"}]}
    answer, rows = ask("/v1/predict", body, rows=4, content_type="application/json")
    first, none, last = answer.headers[HEADER].split(",")
    assert none == ""
    assert {row.prediction_id for row in rows} == {f"{one}:{i}" for one in (first, last) for i in range(2)}


def test_classes_have_a_score_each(ask: Ask) -> None:
    _, (row,) = ask(tfserving("classes"), {"instances": [[0.25, 0.75]]})
    assert (row.label_cat, row.score) == ("dog", 0.75)
    scores = {"cat": 0.25, "dog": 0.75}
    assert json.loads(row.label_json or "") == {"multi_class": {"single_label": {"prediction_scores": scores}}}


def test_columns_are_features_of_their_own_types(ask: Ask) -> None:
    _, (row,) = ask(tfserving("columns"), {"instances": [{"age": 2**62, "city": "Ulm\0"}]})
    assert row.features == {"age": 2**62, "city": "Ulm\\0"}
    assert json.loads(row.label_json or "") == {"outputs": {"older": [2**62], "town": ["Ulm\\0"]}}


def test_a_wide_input_without_names_is_a_vector(ask: Ask) -> None:
    _, (row,) = ask(tfserving("wide"), {"instances": [[0.5] * 100]})
    assert row.features == {"x": [0.5] * 100}


@pytest.mark.parametrize(
    ("model", "body", "status"),
    [
        ("silent", {"instances": [[1, 2]]}, 200),
        ("one", {"instances": ["x"]}, 400),
        ("strict", {"instances": [0]}, 500),
        ("nobody", {"instances": [0]}, 404),
    ],
)
def test_nothing_is_kept(ask: Ask, model: str, body: Any, status: int) -> None:
    answer, _ = ask(tfserving(model), body, rows=0)
    assert answer.status == status
    assert HEADER not in answer.headers
    _, rows = ask(tfserving("one"), {"instances": [5]})  # comes after it, and is there alone
    assert [row.label_num for row in rows] == [5.0]


def test_explaining_keeps_nothing_of_what_it_asks(ask: Ask) -> None:
    pytest.importorskip("shap")
    body = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    answer, _ = ask("/v2/models/rows/explain", body, rows=0)
    assert answer.status == 200, answer.body
    _, rows = ask(tfserving("one"), {"instances": [5]})
    assert [row.label_num for row in rows] == [5.0]


def test_an_actual_finds_its_prediction(ask: Ask) -> None:
    answer, (row,) = ask(tfserving("one"), {"instances": [8]})
    body = {"model_id": "one", "prediction_id": unquote(answer.headers[HEADER]), "actual": {"label": {"numeric": 9}}}
    logged, (actual,) = ask("/v1/log", body)
    assert logged.status == 200
    assert (actual.model_id, actual.prediction_id, actual.space) == (row.model_id, row.prediction_id, row.space)


def test_they_are_counted(ask: Ask) -> None:
    ask(tfserving("one"), {"instances": [8]})
    answer, _ = ask("/metrics", method="GET", rows=0)
    assert b"fastserve_predictions_recorded_total" in answer.body
    assert b'fastserve_predictions_not_recorded_total{reason="busy"} 0' in answer.body
