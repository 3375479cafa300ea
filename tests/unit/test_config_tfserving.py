"""TensorFlow Serving's files: models.config, what lies beside it, and the two variables of its image."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2, monitoring_config_pb2

from fastserve.config import Config, ModelConfig, load_config
from fastserve.config.tfserving import read_batching, read_models, read_monitoring
from fastserve.errors import ConfigError

ONE = 'model_config_list { config { name: "a" base_path: "/a" } }'


def write(folder: Path, text: str, name: str = "models.config") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def config_of(folder: Path, entry: str) -> ModelConfig:
    """The one model of a list, where `entry` stands inside its config."""
    text = f'model_config_list {{ config {{ name: "m" base_path: "/m" {entry} }} }}'
    (model,) = read_models(write(folder, text)).models
    return model


def test_the_example_of_the_documents_is_read(tmp_path: Path):
    config = read_models(
        write(
            tmp_path,
            """
            # Two models.
            model_config_list: {
              config: {
                name: 'first',
                base_path: "/models/first",
                model_platform: "tensorflow"
                model_version_policy: { specific: { versions: 42 versions: 43 } };
                version_labels { key: 'stable' value: 42 }
                version_labels { key: 'canary', value: 43 }
              }
              config {
                name: "second"
                base_path: "here/second"
                model_version_policy { all {} }
              }
            }
            """,
        )
    )
    assert config.models == (
        ModelConfig(name="first", path="/models/first", versions=(42, 43), labels={"canary": 43, "stable": 42}),
        ModelConfig(name="second", path=str(tmp_path / "here/second"), versions="all"),
    )
    assert config.origin.notes == ()


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", None),
        ("model_version_policy {}", None),
        ("model_version_policy { latest {} }", "latest"),
        ("model_version_policy { latest { num_versions: 1 } }", "latest"),
        ("model_version_policy { latest { num_versions: 3 } }", {"latest": 3}),
        ("model_version_policy { all {} }", "all"),
        ("model_version_policy { all: {} }", "all"),
        ("model_version_policy { specific { versions: 7 } }", (7,)),
        ("model_version_policy { specific { versions: [9, 2] } }", (9, 2)),
    ],
)
def test_policies_are_those_of_tensorflow_serving(tmp_path: Path, policy: str, versions: Any):
    assert config_of(tmp_path, policy).versions == versions


MISTAKES = [
    ("", "expected model_config_list { ... }, and found none"),
    ("model_config_lists {}", "line 1: model_config_lists: unknown field; did you mean model_config_list?"),
    (
        "model_config_list { config { base_path: '/a' } }",
        'line 1: model_config_list.config[0].name: expected name: "..."',
    ),
    (
        "model_config_list {\n config {\n name: 'a' } }",
        "line 2: model_config_list.config[0].base_path: expected base_path",
    ),
    (
        "model_config_list {\n config { name: 'a' base_path: '/a' }\n config { base_path: '/b'\n name: 'a' } }",
        'models.config, line 4: model_config_list.config[1].name: "a" is already the model of ',
    ),
    (
        "model_config_list {\n config { name: 'a'\n base_path: 's3://bucket/a' } }",
        'line 3: model_config_list.config[0].base_path: expected a folder of this machine, got "s3://bucket/a"',
    ),
    (
        "model_config_list {\n config { base_path: '/a'\n name: 'a:b' } }",
        'line 3: model_config_list.config[0].name: a model\'s name cannot have : in it, got "a:b"',
    ),
    (
        "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { specific {} } } }",
        "model_version_policy.specific: expected versions: N at least once, got none",
    ),
    (
        "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { all {} latest {} } } }",
        "latest is given beside all: only one of them may be",
    ),
    ("model_config_list { config { name: 'a' base_path '/a' } }", 'line 1, column 50: expected ":" or "{", got \'/a\''),
    ("model_config_list {\n config {\n name: 'a' base_path: '/a'\n", 'expected "}" for what begins in line 2'),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        read_models(write(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path / "models.config"))
    assert expected in str(caught.value)


def test_both_lines_of_a_name_that_is_given_twice_are_told(tmp_path: Path):
    twice = "model_config_list {\n config { name: 'a' base_path: '/a' }\n\n config { name: 'a' base_path: '/b' } }"
    with pytest.raises(ConfigError, match=r"line 4: .* is already the model of .*models\.config, line 2$"):
        read_models(write(tmp_path, twice))


@pytest.mark.parametrize(
    ("entry", "note"),
    [
        ("logging_config { sampling_config { sampling_rate: 0.1 } }", "logging_config is not applied: "),
        ("model_type: TENSORFLOW", "model_type is not applied: "),
        ('model_platform: "pytorch"', 'model_platform "pytorch" is not applied'),
    ],
)
def test_what_is_not_applied_is_named_with_its_line(tmp_path: Path, entry: str, note: str):
    text = f'model_config_list {{ config {{ name: "m" base_path: "/m"\n\n {entry} }} }}'
    (found,) = read_models(write(tmp_path, text)).origin.notes
    assert found.startswith(f"{tmp_path}/models.config, line 3: ")
    assert note in found


@pytest.mark.parametrize("platform", ["tensorflow", "onnxruntime", ""])
def test_platforms_that_load_need_no_word(tmp_path: Path, platform: str):
    assert read_models(write(tmp_path, ONE.replace("name:", f'model_platform: "{platform}" name:'))).origin.notes == ()


def test_an_empty_list_is_a_list(tmp_path: Path):
    assert read_models(write(tmp_path, "model_config_list {}")).models == ()


MODEL_NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/:%\\"), min_size=1, max_size=12)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
FOLDERS = NAMES.filter(lambda name: "://" not in name)
"""Below the root of this machine; with that in it, a path is taken for an address."""
POLICIES = st.one_of(
    st.none(), st.just("all"), st.integers(1, 2**31), st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4)
)
MODELS = st.lists(
    st.tuples(MODEL_NAMES, FOLDERS, POLICIES, st.dictionaries(NAMES, st.integers(0, 2**63 - 1), max_size=3)),
    unique_by=lambda model: model[0],
    max_size=4,
)


@given(models=MODELS, as_one_line=st.booleans(), as_utf8=st.booleans(), angles=st.booleans())
def test_what_an_independent_writer_writes_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, models: Any, as_one_line: bool, as_utf8: bool, angles: bool
):
    message = model_server_config_pb2.ModelServerConfig()
    message.model_config_list.SetInParent()
    expected = []
    for name, path, policy, labels in models:
        entry = message.model_config_list.config.add(name=name, base_path=f"/{path}", model_platform="onnxruntime")
        for label, version in labels.items():
            entry.version_labels[label] = version
        versions: Any = policy
        if policy == "all":
            entry.model_version_policy.all.SetInParent()
        elif isinstance(policy, int):
            entry.model_version_policy.latest.num_versions = policy
            versions = {"latest": policy} if policy > 1 else "latest"
        elif policy is not None:
            entry.model_version_policy.specific.versions.extend(policy)
            versions = tuple(policy)
        expected.append(ModelConfig(name=name, path=str(Path(f"/{path}")), versions=versions, labels=labels))
    text = text_format.MessageToString(message, as_one_line=as_one_line, as_utf8=as_utf8, pointy_brackets=angles)
    path = write(tmp_path_factory.getbasetemp(), text)
    assert read_models(path).models == tuple(expected)


BATCHING = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 500 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 8 }
"""


def test_a_batching_file_sets_what_it_means_here(tmp_path: Path):
    values, notes = read_batching(write(tmp_path, BATCHING))
    assert values == {"max_batch_rows": 128, "max_queue_delay_us": 500, "max_queue_rows": 128_000, "slots": 8}
    assert notes == []


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("max_batch_size { value: 64 } max_execution_batch_size { value: 16 }", {"max_batch_rows": 16}),
        ("max_enqueued_batches { value: 10 }", {"max_queue_rows": 640}),
        ("batch_timeout_micros {}", {"max_queue_delay_us": 0}),
        ("allowed_batch_sizes: 1 allowed_batch_sizes: 8", {"batch_sizes": (1, 8)}),
        ("max_batch_size { value: 4 } allowed_batch_sizes: [2, 4]", {"max_batch_rows": 4, "batch_sizes": (2, 4)}),
        ("", {}),
    ],
)
def test_batching_values_stand_each_for_itself(tmp_path: Path, text: str, values: Any):
    assert read_batching(write(tmp_path, text)) == (values, [])


def test_batching_values_beyond_what_there_may_be_are_cut_and_said(tmp_path: Path):
    values, notes = read_batching(
        write(tmp_path, "max_batch_size { value: 1000000 } max_enqueued_batches { value: 1000000 }", "b.txt")
    )
    assert values == {"max_batch_rows": 65_536, "max_queue_rows": 1 << 30}
    assert notes == [
        f"{tmp_path}/b.txt: max_batch_rows is 65536, the most there may be, instead of 1000000",
        f"{tmp_path}/b.txt: max_queue_rows is 1073741824, the most there may be, instead of 1000000000000",
    ]


@pytest.mark.parametrize(
    "field",
    [
        "thread_pool_name { value: 'x' }",
        "pad_variable_length_inputs: true",
        "enable_large_batch_splitting { value: true }",
    ],
)
def test_batching_that_does_not_apply_is_named(tmp_path: Path, field: str):
    values, notes = read_batching(write(tmp_path, field))
    assert values == {}
    assert notes
    assert all(f"line 1: {field.split(maxsplit=1)[0].strip(':')} is not applied: " in note for note in notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_batch_size { value: 0 }", "line 1: max_batch_size.value: expected at least 1, got 0"),
        ("batch_timeout_micros { value: -1 }", "line 1: batch_timeout_micros.value: expected at least 0, got -1"),
        ("max_batch_size: 3", 'line 1, column 17: expected "{", got 3'),
        ("allowed_batch_sizes: 0", "allowed_batch_sizes: expected ascending sizes of at least 1, got [0]"),
        ("allowed_batch_sizes: [4, 2]", "allowed_batch_sizes: expected ascending sizes of at least 1, got [4, 2]"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
            "allowed_batch_sizes: expected the last to be the largest batch, 8, got 4",
        ),
        ("max_batchsize { value: 3 }", "unknown field; did you mean max_batch_size?"),
    ],
)
def test_a_mistake_in_the_batching_file_is_told(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        read_batching(write(tmp_path, text))
    assert expected in str(caught.value)


def test_the_monitoring_file_of_an_independent_writer_names_the_path(tmp_path: Path):
    message = monitoring_config_pb2.MonitoringConfig()
    message.prometheus_config.enable = True
    message.prometheus_config.path = "/my/metrics"
    assert read_monitoring(write(tmp_path, text_format.MessageToString(message))) == ("/my/metrics", [])
    message.prometheus_config.path = "/monitoring/prometheus/metrics"
    assert read_monitoring(write(tmp_path, text_format.MessageToString(message))) == (None, [])


def test_metrics_that_are_switched_off_are_served_all_the_same_and_it_is_said(tmp_path: Path):
    path, (note,) = read_monitoring(write(tmp_path, "prometheus_config { path: '/x' }"))
    assert path is None
    assert "line 1: metrics are served all the same" in note


def test_a_path_of_the_models_cannot_be_that_of_the_metrics(tmp_path: Path):
    write(tmp_path, "prometheus_config { enable: true path: '/v1/models' }", "monitoring.config")
    with pytest.raises(ConfigError, match="metrics_path: /v1/models is under /v1/"):
        load_config([str(write(tmp_path, ONE))])


def test_files_beside_models_config_are_found(tmp_path: Path):
    models = write(tmp_path, ONE)
    write(tmp_path, BATCHING + "pad_variable_length_inputs: true", "batching_parameters.txt")
    write(tmp_path, "prometheus_config { enable: true path: '/my/metrics' }", "monitoring.config")
    config = load_config([str(models)])
    assert config.server.metrics_path == "/my/metrics"
    assert config.origin.defaults["max_batch_rows"] == 128
    (note,) = config.origin.notes
    assert "batching_parameters.txt, line 6: pad_variable_length_inputs is not applied" in note


def test_files_that_options_name_are_read_instead_and_with_plain_paths_too(tmp_path: Path):
    write(tmp_path, "max_batch_size { value: 1 }", "batching_parameters.txt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    batching = str(write(elsewhere, "max_batch_size { value: 2 }", "mine"))
    for path in (str(write(tmp_path, ONE)), "models/"):
        config = load_config([path], options={"batching_parameters_file": batching})
        assert config.origin.defaults == {"max_batch_rows": 2}


def test_an_option_wins_over_the_monitoring_file(tmp_path: Path):
    write(tmp_path, "prometheus_config { enable: true path: '/my/metrics' }", "monitoring.config")
    config = load_config([str(write(tmp_path, ONE))], options={"metrics_path": "/mine"})
    assert config.server.metrics_path == "/mine"


def test_models_config_is_known_by_its_name_or_by_what_it_holds(tmp_path: Path):
    assert load_config([], str(write(tmp_path, ONE, "models.txt"))).models[0].name == "a"
    assert load_config([], env={"FASTSERVE_CONFIG": str(write(tmp_path, ONE))}).models[0].name == "a"
    assert load_config([], str(write(tmp_path, "[server]\nport = 3", "settings"))).server.port == 3


def test_the_variables_of_tensorflow_servings_image_name_a_model():
    assert load_config(env={"MODEL_NAME": "net"}).models == (ModelConfig(name="net", path="/models/net"),)
    env = {"MODEL_NAME": "net", "MODEL_BASE_PATH": "/data/"}
    assert load_config(env=env).models == (ModelConfig(name="net", path="/data/net"),)
    assert load_config(env={"MODEL_BASE_PATH": "/data/", "MODEL_NAME": ""}) == Config()
    with pytest.raises(ConfigError, match="MODEL_NAME: a model's name cannot have / in it"):
        load_config(env={"MODEL_NAME": "../net"})


def test_what_is_given_wins_over_these_variables(tmp_path: Path):
    env = {"MODEL_NAME": "net"}
    assert load_config(["models/"], env=env).models == ()
    assert load_config([], str(write(tmp_path, ONE)), env).models[0].name == "a"
    assert load_config(env={**env, "FASTSERVE_PATH": "models"}).models == ()


def test_printing_a_configuration_prints_no_environment(tmp_path: Path):
    config = load_config([str(write(tmp_path, ONE))], env={"SECRET": "do-not-tell"})
    assert "do-not-tell" not in repr(config)
