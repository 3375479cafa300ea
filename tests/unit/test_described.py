"""A loaded model as its configuration describes it: filled in, reshaped, or refused; and what is run to warm it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T

from fastserve.config import ModelConfig
from fastserve.config.fields import TensorConfig
from fastserve.config.queueing import QueuePolicyConfig
from fastserve.config.warming import WarmupConfig, WarmupInput
from fastserve.engine.queue_rules import rules_of
from fastserve.errors import FastServeError
from fastserve.types import HIGHEST_PRIORITY, InferRequest, VersionState
from tests.support import models
from tests.support.shelf import Asked, Shelf, known


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


def open_model() -> Any:
    """`x` [N, A, B] -> `y`, x twice."""
    return models.build(
        [models.node("Add", "x x", "y")],
        [models.tensor("x", ["N", "A", "B"])],
        [models.tensor("y", ["N", "A", "B"])],
    )


def flat_model() -> Any:
    """`x` [N] -> `y` [N], x twice."""
    return models.build([models.node("Add", "x x", "y")], [models.tensor("x", ["N"])], [models.tensor("y", ["N"])])


def x(**said: Any) -> ModelConfig:
    return ModelConfig(name="m", inputs=(TensorConfig(name="x", where="config.pbtxt, line 3", **said),))


def test_dimensions_that_the_graph_leaves_open_are_as_they_are_said_to_be(shelf: Shelf):
    shelf.put("m", open_model())
    with shelf.engine(x(shape=(2, -1), batched=True, datatype="FP32")) as engine:
        lease = engine.lease("m")
        (spec,) = lease.signature.inputs
        assert spec.shape == (-1, 2, -1)
        assert spec.dim_names == ("N", "", "B")
        assert Asked(engine, lease, {"x": np.ones((3, 2, 5), np.float32)}).outputs["y"].shape == (3, 2, 5)
        with pytest.raises(FastServeError, match="2"):
            Asked(engine, lease, {"x": np.ones((3, 4, 5), np.float32)})


def test_what_runs_take_is_measured_at_the_sizes_that_are_said(shelf: Shelf):
    shelf.put("m", open_model())
    with shelf.engine(x(shape=(100, 70), batched=True)) as engine:
        assert engine.lease("m").validator.fixed_rows
        assert engine.lease("m").validator._example_row_bytes == 100 * 70 * 4


DISAGREEMENTS = [
    (x(datatype="INT64"), 'config.pbtxt, line 3: "x": said to be INT64, and the graph has FP32'),
    (x(datatype="FLOAT"), "there is no datatype FLOAT; expected one of BOOL, UINT8"),
    (x(shape=(3,), batched=True), "said to be [-1, 3], and the graph has [-1, 4, 2]"),
    (x(shape=(4, 3), batched=True), "said to be [-1, 4, 3], and the graph has [-1, 4, 2]"),
    (x(shape=(5, 4, 2)), ""),
    (x(shape=(4, 2), batched=None), ""),
    (x(shape=(7, 4, 2), batched=None), ""),
    (x(shape=(-1, 4, 2), batched=None), ""),
    (x(shape=(4, 2), reshape=(2, 3), batched=True), "[4, 2] cannot be reshaped to [2, 3]"),
    (x(shape=(8,), reshape=(4, 2), batched=True), ""),
    (x(shape=(8,), reshape=(2, 4), batched=True), "said to be [-1, 2, 4], and the graph has [-1, 4, 2]"),
    (
        ModelConfig(name="m", inputs=(TensorConfig(name="z"),)),
        '"z": the model has no input of that name; it has x',
    ),
    (
        ModelConfig(name="m", outputs=(TensorConfig(name="y", datatype="BYTES"),)),
        '"y": said to be BYTES, and the graph has FP32',
    ),
]


@pytest.mark.parametrize(("config", "reason"), DISAGREEMENTS)
def test_what_disagrees_with_the_graph_is_not_served_and_it_is_said_why(shelf: Shelf, config: ModelConfig, reason: str):
    model = models.build(
        [models.node("Add", "x x", "y")], [models.tensor("x", ["N", 4, 2])], [models.tensor("y", ["N", 4, 2])]
    )
    shelf.put("m", model)
    with shelf.engine(config) as engine:
        (status,) = engine.status("m")
        assert status.state is (VersionState.FAILED if reason else VersionState.READY)
        assert reason in status.reason


def test_a_batch_needs_a_free_first_dimension(shelf: Shelf):
    shelf.put(
        "m", models.build([models.node("Neg", "x", "y")], [models.tensor("x", [1, 4])], [models.tensor("y", [1, 4])])
    )
    with shelf.engine(x(shape=(4,), batched=True)) as engine:
        (status,) = engine.status("m")
        assert "said to have a free first dimension for batches, and the graph has [1, 4]" in status.reason


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_requests_have_one_shape_and_the_graph_another(shelf: Shelf, rows: int):
    shelf.put("m", flat_model())
    said = TensorConfig(name="x", shape=(1,), reshape=(), batched=True)
    config = ModelConfig(
        name="m", inputs=(said,), outputs=(TensorConfig(name="y", shape=(1, 1), reshape=(), batched=True),)
    )
    with shelf.engine(config) as engine:
        lease = engine.lease("m")
        assert lease.signature.inputs[0].shape == (-1, 1)
        assert lease.signature.outputs[0].shape == (-1, 1, 1)
        assert lease.batching.batchable
        outputs = Asked(engine, lease, {"x": np.arange(rows, dtype=np.float32).reshape(rows, 1)}).outputs
        assert outputs["y"].tolist() == [[[2.0 * i]] for i in range(rows)]


def test_a_free_dimension_follows_from_the_number_of_elements(shelf: Shelf):
    shelf.put("m", open_model())
    with shelf.engine(x(shape=(4, -1), reshape=(-1, 2, 2))) as engine:
        lease = engine.lease("m")
        assert not lease.batching.batchable
        for count in (0, 3):
            outputs = Asked(engine, lease, {"x": np.ones((4, count), np.float32)}).outputs
            assert outputs["y"].shape == (count, 2, 2)


def test_without_batching_a_request_runs_alone_and_as_it_came(shelf: Shelf):
    shelf.put("m", flat_model())
    with shelf.engine(ModelConfig(name="m", batching=False, max_batch_rows=2)) as engine:
        lease = engine.lease("m")
        assert (lease.batching.batchable, lease.batching.reason) == (False, "switched off in the configuration")
        asked = Asked(engine, lease, {"x": np.ones(7, np.float32)})
        assert asked.outputs["y"].shape == (7,)
        assert asked.outcome.timing.batch_rows == 1  # type: ignore[union-attr]


def sample(**said: Any) -> WarmupConfig:
    return WarmupConfig(name="w", inputs={"x": WarmupInput(**said)}, rows=3)


@pytest.mark.parametrize("data", ["zero", "random"])
@pytest.mark.parametrize("dtype", [T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16, T.INT8, T.UINT64, T.BOOL, T.STRING])
def test_warm_up_requests_are_run_with_every_type(shelf: Shelf, dtype: int, data: Any):
    shelf.put(
        "m",
        models.build(
            [models.node("Identity", "x", "y")],
            [models.tensor("x", ["N", 2], dtype)],
            [models.tensor("y", ["N", 2], dtype)],
        ),
    )
    with shelf.engine(ModelConfig(name="m", warmup=(sample(shape=(2,), data=data),))) as engine:
        assert known(engine) == {1: VersionState.READY}


def test_warm_up_requests_come_from_files_too(shelf: Shelf, tmp_path: Path):
    shelf.put("m", flat_model())
    file = tmp_path / "x.bin"
    file.write_bytes(np.array([1.5], "<f4").tobytes())
    with shelf.engine(ModelConfig(name="m", warmup=(sample(data="file", file=str(file)),))) as engine:
        assert known(engine) == {1: VersionState.READY}
    shelf.put(
        "s",
        models.build(
            [models.node("Identity", "x", "y")],
            [models.tensor("x", ["N", 2], T.STRING)],
            [models.tensor("y", ["N", 2], T.STRING)],
        ),
    )
    file.write_bytes(b"\1\0\0\0a\2\0\0\0\xc3\xbc")
    with shelf.engine(ModelConfig(name="s", warmup=(sample(shape=(2,), data="file", file=str(file)),))) as engine:
        assert known(engine, "s") == {1: VersionState.READY}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"shape": (2, 2)}, 'warm-up request "w": '),
        ({"datatype": "INT64"}, "input x is said to be INT64, and the model takes FLOAT"),
        ({"shape": (-1,)}, "expected sizes, none of them -1, got [-1]"),
        ({"shape": (1 << 40,)}, "expected sizes"),
        ({"data": "file", "file": "/nowhere/x.bin"}, "No such file"),
    ],
)
def test_a_version_that_does_not_take_its_warm_up_request_is_not_served(shelf: Shelf, said: Any, reason: str):
    shelf.put("m", flat_model())
    with shelf.engine(ModelConfig(name="m", warmup=(sample(**said),))) as engine:
        (status,) = engine.status("m")
        assert status.state is VersionState.FAILED
        assert reason in status.reason


REJECT, DELAY = "reject", "delay"


def policy(timeout_us: int = 0, action: Any = REJECT, *, override: bool = True) -> QueuePolicyConfig:
    return QueuePolicyConfig(timeout_us=timeout_us, timeout_action=action, allow_timeout_override=override)


LEVELS: list[tuple[Any, int, int]] = [
    ({}, 0, 0),
    ({"default_priority": 2}, 0, HIGHEST_PRIORITY - 2),
    ({"default_priority": 2, "priority_levels": 3}, HIGHEST_PRIORITY - 1, HIGHEST_PRIORITY - 1),
    ({"default_priority": 2, "priority_levels": 3}, HIGHEST_PRIORITY - 4, HIGHEST_PRIORITY - 2),
    ({"queue_policy": policy(5)}, HIGHEST_PRIORITY - 9, HIGHEST_PRIORITY - 9),
    ({"priority_policies": {1: policy(7)}}, 0, 0),
]


@pytest.mark.parametrize(("said", "asked", "priority"), LEVELS)
def test_rules_put_requests_on_their_level(said: Any, asked: int, priority: int):
    rules = rules_of(ModelConfig(name="m", **said))
    assert (rules is None) == (not said)
    request = InferRequest({}, priority=asked)
    if rules is not None:
        rules.apply(request)
    assert request.priority == priority


WAITS: list[tuple[Any, int, int, int]] = [
    # What is configured; the level and the wait that are asked for; the longest wait, below 0 the one before others go first.
    ({"queue_policy": policy(5)}, 0, 0, 5_000),
    ({"queue_policy": policy(5)}, 0, 3_000, 3_000),
    ({"queue_policy": policy(5)}, 0, 9_000, 5_000),
    ({"queue_policy": policy(5, override=False)}, 0, 3_000, 5_000),
    ({"queue_policy": policy(override=False)}, 0, 3_000, 0),
    ({"default_priority": 1}, 0, 3_000, 3_000),
    ({"queue_policy": policy(5, DELAY)}, 0, 0, -5_000),
    ({"queue_policy": policy(5, DELAY)}, 0, 3_000, -3_000),
    ({"priority_policies": {1: policy(7)}}, 1, 0, 7_000),
    ({"priority_policies": {1: policy(7)}}, 2, 0, 0),
    ({"queue_policy": policy(5), "priority_policies": {1: policy()}, "default_priority": 1}, 0, 0, 0),
    ({"queue_policy": policy(5), "priority_policies": {1: policy(7, DELAY)}}, 1, 0, -7_000),
]


@pytest.mark.parametrize(("said", "level", "asked_ns", "wait_ns"), WAITS)
def test_rules_say_how_long_a_request_waits(said: Any, level: int, asked_ns: int, wait_ns: int):
    rules = rules_of(ModelConfig(name="m", **said))
    assert rules is not None
    request = InferRequest({}, priority=HIGHEST_PRIORITY - level if level else 0, wait_ns=asked_ns, deadline_ns=7)
    rules.apply(request)
    assert (request.wait_ns, request.deadline_ns) == (wait_ns, 7)


def test_a_request_that_has_no_time_left_is_not_run(shelf: Shelf):
    shelf.put("m", flat_model())
    with (
        shelf.engine(ModelConfig(name="m", queue_policy=policy(1))) as engine,
        pytest.raises(FastServeError, match="the time for this request was over"),
    ):
        Asked(engine, engine.lease("m"), {"x": np.ones(1, np.float32)}, received_ns=engine.clock() - 10_000)


def test_what_a_folder_says_can_be_asked_for(shelf: Shelf):
    folder = shelf.put("m", flat_model()).parent.parent
    (folder / "config.pbtxt").write_text("max_batch_size: 8 metric_tags { key: 'a' value: 'b' }")
    with shelf.engine() as engine:
        assert engine.declared("m") == {"max_batch_size": 8, "metric_tags": {"a": "b"}}
        with pytest.raises(FastServeError):
            engine.declared("n")
