"""Triton's config.pbtxt: what it sets here, what of it is told, and what is refused."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import ModelConfig
from fastserve.config.fields import TensorConfig
from fastserve.config.folder import FolderSettings, read_settings
from fastserve.config.queueing import QueuePolicyConfig
from fastserve.config.triton import read_overrides
from fastserve.config.warming import WarmupConfig, WarmupInput
from fastserve.errors import ConfigError


def read(folder: Path, text: str) -> FolderSettings:
    (folder / "config.pbtxt").write_text(text)
    return read_settings(folder)


def test_a_folder_without_a_file_says_nothing(tmp_path: Path):
    assert read_settings(tmp_path) == FolderSettings()


VALUES: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ('name: "m" platform: "onnxruntime_onnx"', {}),
    ('backend: "onnxruntime"', {}),
    ("max_batch_size: 8", {"max_batch_rows": 8}),
    ("max_batch_size : 0", {"batching": False}),
    ("version_policy: { all {} }", {"versions": "all"}),
    ("version_policy { latest { num_versions: 2 } }", {"versions": {"latest": 2}}),
    ("version_policy { specific { versions: [1, 3] } }", {"versions": (1, 3)}),
    ("instance_group [ { count: 2 kind: KIND_CPU } ]", {"slots": 2}),
    ("instance_group [ { kind: KIND_CPU }, { count: 3 } ]", {"slots": 4}),
    ("dynamic_batching { }", {}),
    ("dynamic_batching { max_queue_delay_microseconds: 100 }", {"max_queue_delay_us": 100}),
    ("dynamic_batching { preferred_batch_size: [ 4, 8 ] }", {"preferred_batch_rows": (4, 8)}),
    (
        "dynamic_batching { priority_levels: 3 default_priority_level: 2 }",
        {"priority_levels": 3, "default_priority": 2},
    ),
    (
        "dynamic_batching { default_queue_policy { default_timeout_microseconds: 5 max_queue_size: 100 } }",
        {"queue_policy": QueuePolicyConfig(timeout_us=5, max_requests=100, allow_timeout_override=False)},
    ),
    (
        "dynamic_batching { default_queue_policy { timeout_action: DELAY allow_timeout_override: true } }",
        {"queue_policy": QueuePolicyConfig(timeout_action="delay")},
    ),
    (
        "dynamic_batching { priority_queue_policy { key: 1 value: { default_timeout_microseconds: 7 } } }",
        {"priority_policies": {1: QueuePolicyConfig(timeout_us=7, allow_timeout_override=False)}},
    ),
    ('parameters { key: "intra_op_thread_count" value: { string_value: "2" } }', {"threads": 2}),
]


@pytest.mark.parametrize(("text", "values"), VALUES)
def test_a_field_sets_what_it_means_here(tmp_path: Path, text: str, values: dict[str, Any]):
    settings = read(tmp_path, text)
    assert dict(settings.values) == values
    assert (settings.notes, settings.problems, settings.refused) == ((), (), ())


def test_tensors_are_what_the_graph_must_have(tmp_path: Path):
    settings = read(
        tmp_path,
        """
        max_batch_size: 8
        input [
          { name: "x" data_type: TYPE_FP32 dims: [ 4, -1 ] },
          { name: "s", data_type: TYPE_STRING, dims: 1, reshape { shape: [ ] } }
        ]
        output { name: "y" }
        """,
    )
    file = f"{tmp_path}/config.pbtxt"
    assert settings.values["inputs"] == (
        TensorConfig(name="x", datatype="FP32", shape=(4, -1), batched=True, where=f"{file}, line 4"),
        TensorConfig(name="s", datatype="BYTES", shape=(1,), reshape=(), batched=True, where=f"{file}, line 5"),
    )
    assert settings.values["outputs"] == (TensorConfig(name="y", batched=True, where=f"{file}, line 7"),)


@pytest.mark.parametrize(("rows", "batched"), [("", None), ("max_batch_size: 0", False), ("max_batch_size: 1", True)])
def test_dims_leave_the_batch_out_where_there_is_one(tmp_path: Path, rows: str, batched: bool | None):
    (one,) = read(tmp_path, f'{rows} input {{ name: "x" dims: [4] }}').values["inputs"]
    assert one.batched is batched


def test_labels_are_classes(tmp_path: Path):
    (tmp_path / "labels.txt").write_text("cat\n dog \nbird\n")
    settings = read(tmp_path, 'output { name: "y" label_filename: "labels.txt" }')
    assert settings.values["classes"] == ("cat", "dog", "bird")
    assert settings.read == (f"{tmp_path}/config.pbtxt", f"{tmp_path}/labels.txt")


def test_warm_up_requests(tmp_path: Path):
    settings = read(
        tmp_path,
        """
        model_warmup [{
          name: "zeros" batch_size: 4 count: 2
          inputs { key: "x" value: { data_type: TYPE_FP32 dims: [4] zero_data: true } }
          inputs { key: "i" value: { data_type: TYPE_INT64 dims: [1] random_data: true } }
          inputs { key: "s" value: { data_type: TYPE_STRING dims: [1] input_data_file: "s.bin" } }
        }]
        """,
    )
    assert settings.values["warmup"] == (
        WarmupConfig(
            name="zeros",
            rows=4,
            count=2,
            inputs={
                "i": WarmupInput(shape=(1,), datatype="INT64", data="random"),
                "s": WarmupInput(shape=(1,), datatype="BYTES", data="file", file=f"{tmp_path}/warmup/s.bin"),
                "x": WarmupInput(shape=(4,), datatype="FP32"),
            },
        ),
    )
    assert f"{tmp_path}/warmup/s.bin" in settings.read


NOTES = [
    ("optimization { graph { level: 1 } cuda { graphs: true } }", "optimization is not applied"),
    ('metric_tags { key: "a" value: "b" }', "metric_tags is not applied"),
    ("response_cache { enable: true }", "response_cache is not applied"),
    ("sequence_batching { max_sequence_idle_microseconds: 5 }", "sequence_batching is not applied"),
    (
        'sequence_batching { control_input [ { name: "S" control [ { kind: CONTROL_SEQUENCE_START } ] } ] }',
        "sequence_batching is not applied",
    ),
    (
        'optimization { execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" } ] } }',
        "optimization is not applied",
    ),
    ("model_transaction_policy { decoupled: true }", "model_transaction_policy is not applied"),
    ('input [ { name: "x" dims: [1] format: FORMAT_NCHW } ]', "input[0].format is not applied"),
    ("batch_input [ { kind: BATCH_ELEMENT_COUNT } ]", "batch_input is not applied"),
    ("instance_group [ { kind: KIND_GPU count: 2 } ]", "KIND_GPU is not applied"),
    ("instance_group [ { count: 1 gpus: [ 0, 1 ] } ]", "instance_group[0].gpus is not applied"),
    ('parameters [ { key: "x" value { string_value: "1" } } ]', 'parameter "x" is not applied'),
    ("dynamic_batching { preserve_ordering: true }", "dynamic_batching.preserve_ordering is not applied"),
    (
        "dynamic_batching { default_queue_policy { max_queue_size: 4294967295 } }",
        "max_requests is 1073741824, the most there may be, instead of 4294967295",
    ),
    ("max_batch_size: 100000", "max_batch_rows is 65536, the most there may be, instead of 100000"),
    ("quantum_leaps { count: 3 }", "quantum_leaps: unknown field; known here: name, platform"),
]


@pytest.mark.parametrize(("text", "note"), NOTES)
def test_what_is_not_applied_is_told_with_its_line(tmp_path: Path, text: str, note: str):
    settings = read(tmp_path, f"\n{text}")
    assert len(settings.notes) == 1, settings.notes
    assert settings.notes[0].startswith(f"{tmp_path}/config.pbtxt, line 2: ")
    assert note in settings.notes[0]
    assert settings.problems == settings.refused == ()


def test_a_slip_in_a_name_is_a_problem_and_the_model_is_served(tmp_path: Path):
    settings = read(tmp_path, "max_batch_szie: 3")
    assert settings.problems == (
        f"{tmp_path}/config.pbtxt, line 1: max_batch_szie: unknown field; did you mean max_batch_size?",
    )
    assert settings.refused == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('platform: "ensemble"', "line 1: ensembles are not served"),
        ('\nensemble_scheduling { step [ { model_name: "a" } ] }', "line 2: ensembles are not served"),
        ('backend: "python"', 'line 1: backend "python" is not served here; ONNX models are'),
        ('platform: "tensorrt_plan"', 'platform "tensorrt_plan" is not served here'),
    ],
)
def test_what_is_no_onnx_model_is_refused(tmp_path: Path, text: str, reason: str):
    assert reason in read(tmp_path, text).refused[0]


MISTAKES = [
    ("max_batch_size: -1", "line 1: max_batch_size: expected at least 0, got -1"),
    ('max_batch_size: "8"', 'line 1, column 17: expected an integer, got "8"'),
    ("input [ { data_type: TYPE_FP32 } ]", 'line 1: input[0].name: expected name: "...", got none'),
    ('input [ { name: "x" data_type: FP32 } ]', "line 1, column 32: there is no value FP32 here"),
    ('input [ { name: "x" dims: [ -2 ] } ]', "input[0].dims: expected dimensions of at least -1, got [-2]"),
    ("dynamic_batching { priority_levels: 2 }", "default_priority_level: expected a default_priority_level of 1 to"),
    ("dynamic_batching { preferred_batch_size: 0 }", "preferred_batch_size: expected sizes of at least 1"),
    ("instance_group { count: -1 }", "instance_group[0].count: expected at least 1, got -1"),
    ('output { name: "y" label_filename: "../x" }', 'label_filename "../x" leads out of '),
    ('output { name: "y" label_filename: "none.txt" }', "none.txt: cannot be read: No such file"),
    ('default_model_filename: "/etc/passwd"', 'default_model_filename "/etc/passwd" leads out of '),
    (
        'model_warmup { inputs { key: "x" value { input_data_file: "../../x" } } }',
        'input_data_file "warmup/../../x" leads out of ',
    ),
    ("model_warmup { batch_size: 9 } max_batch_size: 8", "line 1: model_warmup[0]: expected a batch_size up to"),
    ('input [ { name: "x" ', 'expected "}" for what begins in line 1'),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert f"{tmp_path}/config.pbtxt" in str(caught.value)
    assert expected in str(caught.value)


def test_all_that_was_said_is_kept_as_plain_values(tmp_path: Path):
    settings = read(
        tmp_path,
        'name: "m" max_batch_size: 8 input { name: "x" data_type: TYPE_INT64 dims: [4] } version_policy { all {} }'
        'metric_tags { key: "a" value: "b" } dynamic_batching { max_queue_delay_microseconds: 9007199254740993 }'
        'parameters { key: "p" value { string_value: "v" } }',
    )
    assert settings.declared == {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_INT64", "dims": [4]}],
        "version_policy": {"all": {}},
        "metric_tags": {"a": "b"},
        "dynamic_batching": {"max_queue_delay_microseconds": 9007199254740993},
        "parameters": {"p": {"string_value": "v"}},
    }


def test_a_load_call_brings_the_same_as_json(tmp_path: Path):
    text = '{"max_batch_size": 16, "dynamic_batching": {"max_queue_delay_microseconds": "250"}, "new": 1}'
    settings, given = read_overrides(text, tmp_path)
    assert settings.values == {"max_batch_rows": 16, "max_queue_delay_us": 250}
    assert given == {"max_batch_size", "dynamic_batching"}
    assert read_overrides('{"maxBatchSize": 0}', tmp_path)[0].values == {"batching": False}
    for broken in ("{", '{"max_batch_size": "x"}', "[" * 1000, "[]"):
        with pytest.raises(ConfigError, match=r"/config: "):
            read_overrides(broken, tmp_path)


PIECES = [
    *(
        "name",
        "input",
        "output",
        "dims",
        "data_type",
        "reshape",
        "shape",
        "max_batch_size",
        "dynamic_batching",
        "count",
    ),
    *(
        "instance_group",
        "version_policy",
        "latest",
        "all",
        "specific",
        "versions",
        "model_warmup",
        "inputs",
        "key",
        "value",
    ),
    *(
        "parameters",
        "label_filename",
        "optimization",
        "priority_queue_policy",
        "default_queue_policy",
        "max_queue_size",
    ),
    *("preferred_batch_size", "priority_levels", "default_timeout_microseconds", "input_data_file", "TYPE_FP32", "x"),
    *(
        "{",
        "{",
        "}",
        "}",
        "[",
        "]",
        ":",
        ":",
        ",",
        "-1",
        "0",
        "1",
        "4294967295",
        "18446744073709551615",
        '"a"',
        '"../x"',
        '""',
    ),
]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_text_is_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]):
    folder = tmp_path_factory.getbasetemp()
    refused = ""
    try:
        read(folder, " ".join(pieces))
    except ConfigError as error:
        refused = str(error)
    assert not refused or str(folder) in refused


@st.composite
def _entries(draw: st.DrawFn) -> str:
    """Well-formed fields with any numbers."""
    number = st.one_of(st.integers(-2, 5), st.integers(-(2**31), 2**64))
    numbers = draw(st.lists(number, min_size=6, max_size=6))
    return (
        "max_batch_size: {} input {{ name: 'x' dims: {} reshape {{ shape: {} }} }} instance_group {{ count: {} }} "
        "dynamic_batching {{ max_queue_delay_microseconds: {} preferred_batch_size: {} }}"
    ).format(*numbers)


@given(text=_entries())
def test_any_numbers_are_read_within_their_bounds_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str):
    try:
        values = read(tmp_path_factory.getbasetemp(), text).values
    except ConfigError:
        return
    ModelConfig(name="m", **values)
    msgspec.convert(msgspec.to_builtins(ModelConfig(name="m", **values)), ModelConfig)
