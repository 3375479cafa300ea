"""What scikit-learn answers is what its models answer once converted: with ZipMap and without, and of many kinds.

The models are files, made by tests/make_sklearn_models.py.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import load_config
from fastserve.server.app import create_app
from tests.support.doors import AsgiDoor, Sent

MODELS = Path(__file__).parents[1] / "sklearn_models"
ANSWERS: dict[str, Any] = json.loads((MODELS / "answers.json").read_text())


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    root = tmp_path_factory.mktemp("sklearn")
    for name in ANSWERS:
        folder = root / name / "1"
        folder.mkdir(parents=True)
        shutil.copy(MODELS / f"{name}.onnx", folder / "model.onnx")
    door = AsgiDoor(create_app(load_config([str(root)], env={})))
    door.open()
    yield door
    door.close()


def results(door: AsgiDoor, name: str, examples: list[Any]) -> Any:
    body = json.dumps({"examples": examples}).encode()
    answer = door.send(Sent("POST", f"/v1/models/{name}:{ANSWERS[name]['verb']}", body=body))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["results"]


def assert_alike(got: Any, expected: Any) -> None:
    """Labels in the same places, numbers nearly equal."""
    if isinstance(expected, list):
        assert len(got) == len(expected)
        for left, right in zip(got, expected, strict=True):
            assert_alike(left, right)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)
    else:
        assert got == expected


def test_there_is_a_model_of_every_kind():
    assert {path.stem for path in MODELS.glob("*.onnx")} == set(ANSWERS)
    assert sum(name.endswith("_zipmap") for name in ANSWERS) > 10
    assert sum(name.endswith("_regressor") for name in ANSWERS) > 5


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answers_are_those_of_scikit_learn(door: AsgiDoor, name: str):
    expected = ANSWERS[name]
    assert_alike(results(door, name, expected["examples"]), expected["results"])
    for example, result in zip(expected["examples"], expected["results"], strict=True):
        assert_alike(results(door, name, [example]), [result])


@pytest.mark.parametrize("name", [name for name, answer in ANSWERS.items() if answer["verb"] == "classify"])
def test_a_classifier_is_no_regressor(door: AsgiDoor, name: str):
    body = json.dumps({"examples": ANSWERS[name]["examples"]}).encode()
    answer = door.send(Sent("POST", f"/v1/models/{name}:regress", body=body))
    assert answer.status == 400
    assert "regress takes models with exactly one output" in json.loads(answer.body)["error"]


def test_more_examples_than_a_batch_holds_are_answered_in_their_order(door: AsgiDoor):
    name = "forest_strings_zipmap"
    examples = ANSWERS[name]["examples"]
    assert results(door, name, examples * 200) == results(door, name, examples) * 200
