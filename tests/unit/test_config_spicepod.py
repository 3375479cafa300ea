"""`spicepod.yaml` as it is: what becomes of it, what is named, and where mistakes are told."""

from pathlib import Path
from typing import Any

import pytest

from fastserve.config import Config, DatasetConfig, load_config
from fastserve.config import yaml as yaml_files
from fastserve.config.fields import ParamsConfig
from fastserve.errors import ConfigError

WHOLE = """\
version: v1
kind: Spicepod
name: app
runtime:
  task_history: {enabled: true}
  auth: {api-key: {enabled: false, keys: ["${ secrets:absent }"]}}
secrets:
  - {from: env, name: env}
datasets:
  - from: file:data/x.parquet
    name: input_data
    time_column: at
    acceleration: {enabled: true, engine: duckdb, refresh_mode: full, refresh_check_interval: 10s}
  - {from: "file:/${ env:WHERE }/y", name: other, params: {file_format: tsv}, acceleration: {refresh_sql: x}}
  - {from: "s3://bucket/z.parquet", name: far}
views:
  - {name: both, sql: "select * from input_data join other using (at)"}
models:
  - from: file:///models/price_model.onnx
    name: price_predictor
    datasets: [input_data, other]
    params: {window: latest, speed: 3}
  - {from: "file:m/x.onnx:v1", name: drive, datasets: [both], params: {layout: rows, output: z}}
  - {from: "file:m", name: listed, files: [{path: m/weights.bin}, {path: m/y.onnx}], datasets: [far]}
  - {from: "huggingface:huggingface.co/a/b", name: hub}
tools: []
"""


def read(folder: Path, text: str, **env: str) -> Config:
    file = folder / "spicepod.yaml"
    file.write_text(text)
    return load_config([str(file)], env=env)


def test_models_and_datasets_are_ours(tmp_path: Path):
    config = read(tmp_path, WHOLE, WHERE="there")
    one, other, both = config.datasets
    assert one == DatasetConfig(
        name="input_data", source=f"file:{tmp_path}/data/x.parquet", time_column="at", refresh_seconds=10
    )
    assert other == DatasetConfig(name="other", source="file:/there/y", format="csv")
    assert both.sql == "select * from input_data join other using (at)"
    found = [(m.name, m.path, m.dataset, m.version_name, m.output, m.params) for m in config.models]
    assert found == [
        (
            "price_predictor",
            "/models/price_model.onnx",
            "input_data",
            "",
            "y",
            ParamsConfig(layout="spice", window="latest"),
        ),
        ("drive", f"{tmp_path}/m/x.onnx", "both", "v1", "z", ParamsConfig()),
        ("listed", f"{tmp_path}/m/y.onnx", None, "", "y", ParamsConfig(layout="spice")),
    ]


def test_what_is_not_applied_is_named_with_its_line(tmp_path: Path):
    notes = read(tmp_path, WHOLE, WHERE="there").origin.notes
    expected = [
        "line 5: runtime.task_history is not applied: see fastserve serve --help",
        "line 14: datasets[1].acceleration.refresh_sql is not applied: it is not applied",
        'line 15: datasets[2].from is not applied: dataset "far" is not read: from names a file:, not s3',
        "line 21: models[0].datasets is not applied: other: a model is predicted from its first dataset only",
        "line 22: models[0].params.speed is not applied: unknown",
        'line 25: models[3].from is not applied: model "hub" is not served: expected file: and a path to an .onnx file',
        "line 26: tools is not applied: there is nothing like it here",
    ]
    assert sorted(notes) == sorted(f"{tmp_path}/spicepod.yaml, {note}" for note in expected)


def test_components_stand_in_files_of_their_own(tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "dataset.yaml").write_text("{from: 'file:x.csv', name: d}")
    (tmp_path / "m.yaml").write_text("{from: 'file:x.onnx', name: m, datasets: [d]}")
    config = read(tmp_path, "datasets: [{ref: d}]\nmodels: [{ref: m.yaml}]")
    assert [one.name for one in (*config.datasets, *config.models)] == ["d", "m"]


SECRETS = [
    ({"KEY": "a"}, ""),
    ({"key": "a"}, ""),
    ({"SPICE_KEY": "a"}, ""),
    ({}, "export KEY='a'\n"),
    ({"KEY": "a"}, "KEY=b"),
]


@pytest.mark.parametrize(("env", "beside"), SECRETS)
def test_secrets_come_from_the_environment_or_the_file_beside(env: dict[str, str], beside: str, tmp_path: Path):
    (tmp_path / ".env").write_text(beside)
    config = read(tmp_path, "models: [{from: 'file:/${ secrets:key }/x.onnx', name: m}]", **env)
    assert config.models[0].path == "/a/x.onnx"


MODEL = "models: [{from: 'file:x.onnx', name: m}]\n"
MISTAKES: list[tuple[str, str]] = [
    ("a: [", "line 1: not YAML: "),
    ("a: b: c", "line 1: not YAML: mapping values are not allowed here"),
    ("- a", "expected keys and values, got a list"),
    ("", "expected keys and values, got nothing"),
    ("kind: Other", "line 1: kind: expected Spicepod, got 'Other'"),
    ("models: {a: b}", "line 1: models: expected a list, got keys and values"),
    ("models:\n - name: m", "line 2: models[0].from: expected a text, got nothing"),
    ("models: [{name: 1, from: x}]", "line 1: models[0].name: expected a text, got a int"),
    (
        MODEL + "datasets:\n - {from: 'file:x', name: d, time_colum: x}",
        "line 3: datasets[0].time_colum: unknown key; did you",
    ),
    ("models: [{from: 'file:x.onnx', name: m, datasets: [d]}]", 'models[0].datasets[0]: no dataset is named "d"'),
    ("models: [{from: 'file:x.onnx', name: m}, {from: 'file:y.onnx', name: m}]", 'the name "m" is used twice'),
    ("models: [{from: 'file:${ env:GONE }', name: m}]", "models[0].from: the environment has no variable GONE"),
    ("models: [{ref: gone}]", "gone is not there"),
    ("models: [{from: 'file:x.onnx', name: m, params: {layout: odd}}]", "models[0].params: invalid enum value 'odd'"),
    (
        "datasets: [{from: 'file:x', name: d, acceleration: {refresh_check_interval: soon}}]",
        "refresh_check_interval: expected a time like 10s, 5m or 1h, got 'soon'",
    ),
    ("datasets: [{from: 'file:x', name: d, params: {file_format: xml}}]", "file_format: expected parquet, csv"),
    (MODEL + "runtime: {auth: {oidc: {}}}", "line 2: runtime.auth.oidc: expected api-key; other ways are not offered"),
    ("x: !!python/object/apply:os.system ['true']", "line 1: not YAML: could not determine a constructor"),
    ("? [a]\n: b", "not YAML"),
    ("[" * 5000, "not YAML"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert expected in str(error.value)
    assert str(tmp_path / "spicepod.yaml") in str(error.value)


KEYS = [
    ("api-key: {keys: ['1234567890']}", [("1234567890", ("infer", "read"))]),
    (
        "api_key: {enabled: true, keys: ['${ secrets:a }:rw', 'b:ro', '']}",
        [("S", ("infer", "read", "admin")), ("b", ("infer", "read"))],
    ),
    ("api-key: {keys: ['a:b']}", [("a:b", ("infer", "read"))]),
    ("api-key: {enabled: false, keys: ['${ secrets:absent }']}", []),
    ("", []),
]


@pytest.mark.parametrize(("auth", "expected"), KEYS)
def test_keys_are_ours(tmp_path: Path, auth: str, expected: list[Any]):
    config = read(tmp_path, MODEL + f"runtime: {{auth: {{{auth}}}}}", A="S")
    assert [(one.key, one.scopes) for one in config.auth.keys] == expected


@pytest.mark.parametrize("keys", ["[]", "['']", "", "[1234567890]", "['${ secrets:absent }']", "{a: b}"])
def test_a_pod_that_asks_for_keys_is_not_served_open(tmp_path: Path, keys: str):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, MODEL + f"runtime: {{auth: {{api-key: {{keys: {keys}}}}}}}")
    assert "line 2: runtime.auth.api-key.keys" in str(error.value)
    assert "1234567890" not in str(error.value)


def test_without_yaml_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(yaml_files, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'fastserve\[datasets\]'"):
        read(tmp_path, MODEL)


def test_names_that_stand_for_names_a_thousand_times_are_read_at_once(tmp_path: Path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert read(tmp_path, "\n".join([*lines, MODEL])).models[0].name == "m"
