"""MLServer's model-settings.json: what it sets here, what of it is told, and what is refused."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastserve.config.fields import TensorConfig
from fastserve.config.folder import FolderSettings, read_settings
from fastserve.errors import ConfigError


def read(folder: Path, settings: Any) -> FolderSettings:
    text = settings if isinstance(settings, str) else msgspec.json.encode(settings).decode()
    (folder / "model-settings.json").write_text(text)
    return read_settings(folder)


VALUES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"name": "m"}, {}),
    ({"max_batch_size": 16, "max_batch_time": 0.25}, {"max_batch_rows": 16, "max_queue_delay_us": 250_000}),
    ({"max_batch_size": 0, "max_batch_time": 0.25}, {}),
    ({"max_batch_size": 1, "max_batch_time": 1}, {"max_batch_rows": 1}),
]


@pytest.mark.parametrize(("said", "values"), VALUES)
def test_a_field_sets_what_it_means_here(tmp_path: Path, said: dict[str, Any], values: dict[str, Any]):
    settings = read(tmp_path, said)
    assert dict(settings.values) == values
    assert settings.notes == ()


def test_the_model_is_named_and_found_as_it_says(tmp_path: Path):
    settings = read(tmp_path, {"name": "q", "parameters": {"uri": "./net.onnx", "version": "v3"}})
    assert (settings.name, settings.renames, settings.version) == ("q", True, 3)
    assert settings.model_path == f"{tmp_path}/net.onnx"
    assert read(tmp_path, {"parameters": {"uri": f"file://{tmp_path}/net.onnx"}}).model_path == f"{tmp_path}/net.onnx"


def test_a_version_that_is_no_number_is_told(tmp_path: Path):
    settings = read(tmp_path, {"parameters": {"version": "v0.1.0"}})
    assert settings.version == 1
    assert settings.notes == (
        f'{tmp_path}/model-settings.json: parameters.version "v0.1.0" is no whole number;'
        " it is version 1, and has that label",
    )
    assert settings.values["labels"] == {"v0.1.0": 1}


VERSIONS: list[tuple[Any, int, dict[str, int]]] = [
    ("v2", 2, {"v2": 2}),
    ("2", 2, {}),
    ("02", 2, {}),
    (3, 3, {}),
    ("", 1, {}),
    ("9" * 5000, 1, {"9" * 5000: 1}),
]


@pytest.mark.parametrize(("version", "number", "labels"), VERSIONS, ids=["v2", "2", "02", "three", "none", "too long"])
def test_a_version_is_asked_for_by_what_it_is_called(tmp_path: Path, version: Any, number: int, labels: dict[str, int]):
    settings = read(tmp_path, {"parameters": {"version": version}})
    assert (settings.version, settings.values.get("labels", {})) == (number, labels)


def test_tensors_are_what_the_graph_must_have(tmp_path: Path):
    settings = read(tmp_path, {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]})
    where = f"{tmp_path}/model-settings.json: inputs"
    assert settings.values["inputs"] == (
        TensorConfig(name="x", datatype="FP32", shape=(-1, 4), batched=None, where=where),
    )


def test_what_is_not_applied_is_told_with_its_line(tmp_path: Path):
    text = '{"name": "m",\n"implementation": "x.Y",\n"parameters": {\n"extra": {"a": 1}},\n"novelty": 1}'
    assert read(tmp_path, text).notes == (
        f"{tmp_path}/model-settings.json, line 2: implementation is not applied: ONNX models are served, by onnxruntime",
        f"{tmp_path}/model-settings.json, line 5: novelty is not applied: unknown",
        f"{tmp_path}/model-settings.json, line 4: parameters.extra is not applied: no Python of the model's runs",
    )


def test_what_is_not_applied_of_a_tensor_is_told(tmp_path: Path):
    tensor = {"name": "x", "tags": ["a"], "parameters": {"content_type": "np", "novelty": 1}}
    place = f"{tmp_path}/model-settings.json, line 1: outputs[0]"
    assert read(tmp_path, {"outputs": [tensor]}).notes == (
        f"{place}.tags is not applied: a content type says what a tensor means",
        f"{place}.parameters.novelty is not applied: unknown",
    )


MISTAKES = [
    ('{"name": "m",\n}', "model-settings.json, line 2: not JSON: "),
    ("[]", "Expected `object`, got `array`"),
    ('{"max_batch_size": "many"}', "Expected `int`, got `str` - at `$.max_batch_size`"),
    ('{"max_batch_size": -1}', "expected max_batch_size and max_batch_time of at least 0"),
    ('{"parameters": {"uri": "../../secret.onnx"}}', 'parameters.uri "../../secret.onnx" leads out of '),
    ('{"parameters": {"uri": "s3://bucket/m"}}', "models are read from this machine only"),
    ("[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_file(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert f"{tmp_path}/model-settings.json" in str(caught.value)
    assert expected in str(caught.value)
