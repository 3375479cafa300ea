"""explain: what each value contributed adds up to what the model answers, for tensors and lists, by any background."""

import importlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T

from fastserve.config import load_config
from fastserve.protocols.oip import shapley
from fastserve.server.app import create_app
from tests.support import graphs, models
from tests.support.doors import Answer, AsgiDoor, Sent
from tests.support.waiting import WITHIN_S

CONFIG = """
[repository]
path = "models"
poll_seconds = 0

[[models]]
name = "linear"
features = ["a", "b", "c"]
dataset = "rows"

[[models]]
name = "mixed"
dataset = "lines"

[[models]]
name = "undescribed"
dataset = "broken"
features = ["a", "b"]

[[models]]
name = "long"
dataset = "thousand"

[[datasets]]
name = "thousand"
from = "file:long.csv"

[[datasets]]
name = "rows"
from = "file:rows.csv"

[[datasets]]
name = "lines"
from = "file:lines.jsonl"

[[datasets]]
name = "broken"
from = "file:none.csv"
"""
BACKGROUND = [[0.0, 0.0, 0.0], [2.0, 4.0, 6.0]]
"""Means 1, 2, 3; also what rows.csv holds."""


def linear() -> Any:
    """y = x @ [[1, 0], [2, 0], [0, 1]]: what each value contributes is known by heart."""
    weight = np.array([[1, 0], [2, 0], [0, 1]], np.float32)
    return graphs.build(
        [graphs.node("MatMul", "x w", "y"), graphs.node("ReduceSum", "x axes", "sum", keepdims=0)],
        [graphs.tensor("x", ["N", 3])],
        [graphs.tensor("y", ["N", 2]), graphs.tensor("sum", ["N"])],
        [graphs.weight("w", weight), graphs.weight("axes", np.array([1], np.int64))],
    )


def mixed() -> Any:
    """score = size + 10 where colour is red; and the colour itself, which is no number."""
    encoder = graphs.node(
        "LabelEncoder",
        "colour",
        "redness",
        domain="ai.onnx.ml",
        keys_strings=["red"],
        values_floats=[10.0],
        default_float=0.0,
    )
    return graphs.build(
        [encoder, graphs.node("Add", "size redness", "score"), graphs.node("Identity", "colour", "same")],
        [graphs.tensor("size", ["N"]), graphs.tensor("colour", ["N"], T.STRING)],
        [graphs.tensor("score", ["N"]), graphs.tensor("same", ["N"], T.STRING)],
    )


def product() -> Any:
    """The sum of 40 values and the product of the first two of them."""
    weights = [graphs.weight("axes", np.array([1], np.int64)), graphs.weight("two", np.array([2], np.int64))]
    weights.append(graphs.weight("zero", np.array([0], np.int64)))
    return graphs.build(
        [
            graphs.node("Slice", "x zero two axes", "pair"),
            graphs.node("ReduceProd", "pair", "product", axes=[1], keepdims=0),
            graphs.node("ReduceSum", "x axes", "sum", keepdims=0),
            graphs.node("Add", "sum product", "y"),
        ],
        [graphs.tensor("x", ["N", 40])],
        [graphs.tensor("y", ["N"])],
        weights,
    )


def alone() -> Any:
    """Rows that influence each other when they run together: each must be asked alone."""
    return graphs.build(
        [graphs.node("ReduceMean", "x", "mean", axes=[0], keepdims=1), graphs.node("Add", "x mean", "y")],
        [graphs.tensor("x", ["N", 2])],
        [graphs.tensor("y", ["N", 2])],
    )


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    root = tmp_path_factory.mktemp("explain")
    for name, model in {
        "linear": linear(),
        "mixed": mixed(),
        "alone": alone(),
        "undescribed": models.identity(T.FLOAT, ("N", 2)),
        "words": models.identity(T.STRING),
        "wide": product(),
        "long": models.identity(T.DOUBLE, ("N",)),
        "scalar": models.identity(T.FLOAT, ()),
    }.items():
        models.save(model, root / "models" / name / "1")
    (root / "rows.csv").write_text("c,other,b,a\n0,x,0,0\n6,y,4,2\n")
    (root / "lines.jsonl").write_text('{"size": 1, "colour": "red"}\n{"colour": "blue", "size": 3}\n')
    (root / "long.csv").write_text("x\n" + "".join(f"{at}\n" for at in range(1001)))
    config = root / "fastserve.toml"
    config.write_text(CONFIG)
    door = AsgiDoor(create_app(load_config(file=str(config), env={})))
    door.open()
    yield door
    door.close()


def explain(door: AsgiDoor, model: str, body: Any) -> Answer:
    return door.send(Sent("POST", f"/v2/models/{model}/explain", {}, json.dumps(body).encode()))


def explained(door: AsgiDoor, model: str, body: Any) -> Any:
    answer = explain(door, model, body)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_contributions_of_lists(door: AsgiDoor) -> None:
    body = {"id": "7", "inputs": [[5, 6, 7], [1, 2, 3]], "parameters": {"background": BACKGROUND}}
    found = explained(door, "linear", body)
    # What a value contributes to a linear model: its distance from the mean, times its weight.
    y = [[[4, 8, 0], [0, 0, 4]], [[0, 0, 0], [0, 0, 0]]]
    total = [[4, 4, 4], [0, 0, 0]]
    np.testing.assert_allclose(found["outputs"][0], y, atol=1e-4)
    np.testing.assert_allclose(found["outputs"][1], total, atol=1e-4)
    np.testing.assert_allclose(found["base_values"][0], [5, 3], atol=1e-4)
    np.testing.assert_allclose(found["base_values"][1], 6, atol=1e-4)
    assert {name: found[name] for name in ("id", "model_name", "model_version", "features", "explained")} == {
        "id": "7",
        "model_name": "linear",
        "model_version": "1",
        "features": ["a", "b", "c"],
        "explained": ["y", "sum"],
    }
    assert "timestamp" not in found


def test_the_background_of_the_configured_dataset(door: AsgiDoor) -> None:
    found = explained(door, "linear", {"inputs": [5, 6, 7], "outputs": ["sum"]})
    np.testing.assert_allclose(found["outputs"], [[[4, 4, 4]]], atol=1e-4)


def test_a_background_of_named_rows(door: AsgiDoor) -> None:
    rows = [{"b": 0, "a": 0, "c": 0}, {"c": 6, "a": 2, "b": 4, "more": 1}]
    found = explained(door, "linear", {"inputs": [5, 6, 7], "outputs": ["sum"], "parameters": {"background": rows}})
    np.testing.assert_allclose(found["outputs"], [[[4, 4, 4]]], atol=1e-4)


def test_contributions_of_tensors(door: AsgiDoor) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [5, 6, 7]}
    body = {"id": "7", "inputs": [tensor], "parameters": {"background": BACKGROUND}, "outputs": [{"name": "y"}]}
    found = explained(door, "linear", body)
    values, base = found["outputs"]
    assert (values["name"], values["datatype"], values["shape"]) == ("y", "FP64", [1, 2, 3])
    np.testing.assert_allclose(values["data"], [4, 8, 0, 0, 0, 4], atol=1e-4)
    assert (base["name"], base["shape"]) == ("y:base_values", [2])
    np.testing.assert_allclose(base["data"], [5, 3], atol=1e-4)
    assert found["id"] == "7"


def test_values_of_any_type_contribute(door: AsgiDoor) -> None:
    found = explained(door, "mixed", {"inputs": [[2, "red"], [1, "green"]]})
    # The dataset's mean: size 2, and half of its rows are red.
    np.testing.assert_allclose(found["outputs"], [[[0, 5], [-1, -5]]], atol=1e-4)
    np.testing.assert_allclose(found["base_values"], [7], atol=1e-4)
    assert found["features"] == ["size", "colour"]


def test_rows_that_influence_each_other_are_asked_alone(door: AsgiDoor) -> None:
    found = explained(door, "alone", {"inputs": [[3, 5]], "parameters": {"background": [[1, 1]]}})
    np.testing.assert_allclose(found["outputs"], [[[4, 0], [0, 8]]], atol=1e-4)
    assert found["features"] == ["x[0]", "x[1]"]


@pytest.mark.parametrize("samples", [None, 1, 600])
def test_many_features_are_sampled_and_still_add_up(door: AsgiDoor, samples: int | None) -> None:
    rng = np.random.default_rng(5)
    row, background = rng.normal(size=(1, 40)), rng.normal(size=(10, 40))
    parameters = {"background": background.tolist()} | ({"samples": samples} if samples else {})
    found = explained(door, "wide", {"inputs": row.tolist(), "parameters": parameters})
    values, base = np.array(found["outputs"]), np.array(found["base_values"])
    assert values.shape == (1, 40)
    np.testing.assert_allclose(values.sum(axis=1) + base, row.sum(axis=1) + row[:, 0] * row[:, 1], atol=1e-3)


MISTAKES = [
    ("wide", {"inputs": [[0.0] * 40]}, 400, "$.parameters.background"),
    ("words", {"inputs": ["a", "b"], "parameters": {"background": ["b", "c"]}}, 400, "holds numbers"),
    ("scalar", {"inputs": [1], "parameters": {"background": [2]}}, 400, "axis of rows"),
    ("linear", {"inputs": [[1, 2]]}, 400, "$.inputs"),
    ("linear", {"inputs": []}, 400, "$.inputs"),
    ("linear", {"inputs": [1, 2, 3], "parameters": {"background": []}}, 400, "$.parameters.background"),
    ("linear", {"inputs": [1, 2, 3], "parameters": {"background": 5}}, 400, "$.parameters.background"),
    ("linear", {"inputs": [1, 2, 3], "parameters": {"background": [[1, "x", 2]]}}, 400, "background[0][1]"),
    ("linear", {"inputs": [1, 2, 3], "parameters": {"background": [[1, 2]]}}, 400, "background"),
    ("linear", {"inputs": [1, 2, 3], "parameters": {"samples": 0}}, 400, "$.parameters.samples"),
    ("linear", {"inputs": [1, 2, 3], "parameters": {"samples": "x"}}, 400, "$.parameters.samples"),
    ("linear", {"inputs": [1, 2, 3], "outputs": ["nope"]}, 400, "$.outputs[0]"),
    ("nope", {"inputs": [1, 2, 3]}, 404, "nope"),
]


@pytest.mark.parametrize(("model", "body", "status", "said"), MISTAKES)
def test_mistakes_are_told(door: AsgiDoor, model: str, body: Any, status: int, said: str) -> None:
    answer = explain(door, model, body)
    assert answer.status == status, answer.body
    assert said in json.loads(answer.body)["error"]


def test_a_dataset_that_cannot_be_read_is_told(door: AsgiDoor) -> None:
    answer = explain(door, "undescribed", {"inputs": [[0, 1]]})
    assert answer.status != 200
    assert "broken" in json.loads(answer.body)["error"]
    assert explain(door, "undescribed", {"inputs": [[0, 1]], "parameters": {"background": [[1, 1]]}}).status == 200


def test_long_datasets_are_sampled_evenly(door: AsgiDoor) -> None:
    found = explained(door, "long", {"inputs": [3]})
    np.testing.assert_allclose(found["base_values"], 500, atol=0.1)
    np.testing.assert_allclose(found["outputs"], [[-497]], atol=0.1)


def test_a_deadline_ends_it(door: AsgiDoor) -> None:
    body = json.dumps({"inputs": [[0.0] * 40] * 200, "parameters": {"background": [[1.0] * 40] * 50}}).encode()
    answer = door.send(Sent("POST", "/v2/models/wide/explain", {"x-request-timeout-ms": "1"}, body))
    assert answer.status == 504


def test_without_the_library_it_is_said_what_to_install(door: AsgiDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    answer = explain(door, "linear", {"inputs": [5, 6, 7]})
    assert answer.status == 501
    assert "fastserve[explain]" in json.loads(answer.body)["error"]


def test_without_pillow_it_is_said_what_to_install(door: AsgiDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    images = importlib.import_module("fastserve.protocols.oip.images")
    plan = images.make_plan(models_spec(), images.ImageConfig())
    with pytest.raises(Exception, match=r"fastserve\[images\]"):
        images.decoded(b"", plan)


def models_spec() -> Any:
    from fastserve.types import DType, TensorSpec

    return TensorSpec("x", DType.FLOAT, (-1, -1, -1, 3))


@pytest.mark.parametrize("wanted", [True, False])
def test_a_model_that_is_to_be_explained_has_the_library_ready_from_the_start(
    wanted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked_for = threading.Event()
    real = shapley._library

    def library() -> Any:
        asked_for.set()
        return real()

    monkeypatch.setattr(shapley, "_library", library)
    models.save(linear(), tmp_path / "models" / "linear" / "1")
    config = tmp_path / "fastserve.toml"
    config.write_text(f'[repository]\npath = "models"\n[[models]]\nname = "linear"\nexplain = {str(wanted).lower()}\n')
    door = AsgiDoor(create_app(load_config(file=str(config), env={})))
    door.open()
    assert asked_for.wait(WITHIN_S if wanted else 0) is wanted
    assert explained(door, "linear", {"inputs": [5, 6, 7], "parameters": {"background": BACKGROUND}})["outputs"]
    door.close()
    assert asked_for.is_set()
