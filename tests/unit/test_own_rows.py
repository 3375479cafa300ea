"""The server's own predictions as rows: every tensor type, names, classes; and a recorder that never holds an answer up."""

import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.engine.own_rows import Origin, Shown, encode, own_rows, read_own
from fastserve.engine.recording import (
    MAX_PIECE_ROWS,
    MAX_PIECE_VALUES,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    Recorder,
    Recording,
)
from fastserve.limits import MAX_DIMENSIONS
from fastserve.metrics import Metrics
from fastserve.store.errors import StoreBusy, StoreFull
from fastserve.store.frames import Frame, Kind
from fastserve.store.rows import Row
from fastserve.types import DType, InferRequest, InferResult, Signature, Tensor, TensorSpec, Timing
from tests.support.waiting import until

SIGNATURE = Signature((TensorSpec("x", DType.FLOAT, (-1, 2)),), (TensorSpec("y", DType.FLOAT, (-1,)),))


def shown(
    inputs: dict[str, DType], outputs: dict[str, DType], features: tuple[str, ...] = (), classes: tuple[str, ...] = ()
) -> Shown:
    specs = [tuple(TensorSpec(name, dtype, None) for name, dtype in part.items()) for part in (inputs, outputs)]
    return Shown("m", "3", Signature(*specs), True, features, classes)


def rows(
    version: Shown, inputs: dict[str, Tensor], outputs: dict[str, Tensor], origin: Origin | None = None
) -> list[Row]:
    count = len(next(iter(inputs.values())))
    own = own_rows(version, origin or Origin("id", 5, 0, count), inputs, outputs)
    return list(read_own(Frame(Kind.OWN, 9, 1000, encode(own))))


FEATURES = {
    "float": (DType.FLOAT, np.float32([0.5]), 0.5),
    "nan": (DType.DOUBLE, np.float64([float("nan")]), float("nan")),
    "half": (DType.FLOAT16, np.float16([1.5]), 1.5),
    "bfloat16": (DType.BFLOAT16, np.uint16([0x3FC0]), 1.5),
    "int": (DType.INT64, np.int64([-(2**63)]), -(2**63)),
    "uint": (DType.UINT64, np.uint64([2**63 - 1]), 2**63 - 1),
    "a uint beyond int64": (DType.UINT64, np.uint64([2**64 - 1]), float(2**64)),
    "bool": (DType.BOOL, np.array([True]), "True"),
    "text": (DType.STRING, np.array(["é"], object), "é"),
    "bytes that were no text": (DType.STRING, np.array(["a\udcff"], object), "a\\udcff"),
    "NUL": (DType.STRING, np.array(["\0"], object), "\\0"),
}


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_of_each_type(name: str) -> None:
    dtype, tensor, value = FEATURES[name]
    version = shown({"x": dtype}, {"y": DType.FLOAT})
    (row,) = rows(version, {"x": tensor}, {"y": np.float32([1])})
    assert repr(row.features) == repr({"x": value})
    assert (row.model_id, row.version, row.prediction_id, row.ts_ns, row.ingest_ns) == ("m", "3", "id", 5, 9)


Y = np.float32([[0.25, 0.75], [1, 0]])
LABELS: dict[str, tuple[dict[str, tuple[DType, Any]], tuple[str, ...], list[tuple[Any, Any, Any]]]] = {
    "a number": ({"y": (DType.DOUBLE, np.float64([1, 2]))}, (), [(1.0, None, None), (2.0, None, None)]),
    "a column of numbers": ({"y": (DType.FLOAT, np.float32([[1], [2]]))}, (), [(1.0, None, None), (2.0, None, None)]),
    "a count": ({"y": (DType.INT64, np.int64([3, 4]))}, (), [(3.0, None, None), (4.0, None, None)]),
    "a class by its place": (
        {"y": (DType.INT64, np.int64([1, 7]))},
        ("a", "b"),
        [(None, "b", None), (None, "7", None)],
    ),
    "a class by its number": (
        {"y": (DType.INT64, np.int64([1, 2]))},
        ("1", "2"),
        [(None, "1", None), (None, "2", None)],
    ),
    "a class by its name": (
        {"y": (DType.STRING, np.array(["a", "b"], object))},
        (),
        [(None, "a", None), (None, "b", None)],
    ),
    "a class and its scores": (
        {"label": (DType.INT64, np.int64([1, 0])), "p": (DType.FLOAT, Y)},
        (),
        [(None, "1", 0.75), (None, "0", 1.0)],
    ),
    "scores of classes with names": ({"p": (DType.FLOAT, Y)}, ("a", "b"), [(None, "b", 0.75), (None, "a", 1.0)]),
    "scores of who knows what": ({"p": (DType.FLOAT, Y)}, (), [(None, None, None)] * 2),
    "two numbers": (
        {"y": (DType.FLOAT, np.float32([1, 2])), "z": (DType.FLOAT, np.float32([3, 4]))},
        (),
        [(None, None, None)] * 2,
    ),
    "nothing": ({"y": (DType.FLOAT, np.float32([]).reshape(2, 0))}, (), [(None, None, None)] * 2),
}


@pytest.mark.parametrize("name", LABELS)
def test_what_outputs_say(name: str) -> None:
    outputs, classes, expected = LABELS[name]
    version = shown({"x": DType.FLOAT}, {key: dtype for key, (dtype, _) in outputs.items()}, classes=classes)
    found = rows(version, {"x": np.float32([1, 2])}, {key: tensor for key, (_, tensor) in outputs.items()})
    assert [(row.label_num, row.label_cat, row.score) for row in found] == expected


def test_what_is_neither_a_number_nor_a_class_is_kept_as_json() -> None:
    version = shown({"x": DType.FLOAT}, {"p": DType.FLOAT, "q": DType.FLOAT})
    outputs = {"p": np.float32([[0.5, np.nan]]), "q": np.float32([[np.inf]])}
    (row,) = rows(version, {"x": np.float32([1])}, outputs)
    assert row.label_json == '{"outputs":{"p":[0.5,"NaN"],"q":["Infinity"]}}'


def test_only_outputs_that_were_asked_for_are_there() -> None:
    version = shown({"x": DType.FLOAT}, {"p": DType.FLOAT, "q": DType.FLOAT})
    (row,) = rows(version, {"x": np.float32([1])}, {"q": np.float32([2])})
    assert row.label_num == 2.0


@pytest.mark.parametrize(
    ("width", "features", "expected"),
    [
        (2, ("a", "b"), {"a": 1.0, "b": 1.0}),
        (2, (), {"x[0]": 1.0, "x[1]": 1.0}),
        (2, ("a",), {"x[0]": 1.0, "x[1]": 1.0}),
        (65, (), {"x": [1.0] * 65}),
        (MAX_DIMENSIONS, (), {"x": [1.0] * MAX_DIMENSIONS}),
        (MAX_DIMENSIONS + 1, (), {}),
    ],
)
def test_names_of_wide_inputs(width: int, features: tuple[str, ...], expected: dict[str, Any]) -> None:
    version = shown({"x": DType.FLOAT}, {"y": DType.FLOAT}, features)
    (row,) = rows(version, {"x": np.ones((1, width), np.float32)}, {"y": np.float32([1])})
    assert row.features == expected


def test_several_inputs_may_have_other_names() -> None:
    version = shown({"x": DType.FLOAT, "z": DType.INT64}, {"y": DType.FLOAT}, ("age", "height"))
    (row,) = rows(version, {"x": np.float32([1]), "z": np.int64([[2]])}, {"y": np.float32([1])})
    assert row.features == {"age": 1.0, "height": 2}


def test_pieces_of_one_prediction_go_on_counting() -> None:
    version = shown({"x": DType.FLOAT}, {"y": DType.FLOAT})
    x = np.float32([1, 2])
    found = rows(version, {"x": x}, {"y": x}, Origin("id", 5, 3, 9))
    assert [row.prediction_id for row in found] == ["id:3", "id:4"]
    assert found[0].seq < found[1].seq


@given(
    values=st.lists(st.one_of(st.text(), st.floats(width=32), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=4)
)
def test_whatever_is_predicted_can_be_read_again(values: list[Any]) -> None:
    kinds = {str: (DType.STRING, object), float: (DType.FLOAT, np.float32), int: (DType.INT64, np.int64)}
    inputs = {f"f{i}": np.array([value], kinds[type(value)][1]) for i, value in enumerate(values)}
    dtypes = {f"f{i}": kinds[type(value)][0] for i, value in enumerate(values)}
    version = shown(dtypes, dtypes)
    (row,) = rows(version, inputs, inputs)
    assert list(row.features) == list(inputs)
    for name, value in row.features.items():
        if not isinstance(value, str):
            assert np.array_equal(np.array([value], inputs[name].dtype), inputs[name], equal_nan=True)
    if row.label_json:
        json.loads(row.label_json)


class SlowWriter:
    """A log that takes nothing before it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.frames: list[tuple[int, bytes]] = []
        self.refusal: Exception | None = None
        self.outcome: Any = None

    def append(self, frames: Any, done: Any, rows: int) -> None:
        self.let.wait(20)
        if self.refusal is not None:
            raise self.refusal
        self.frames += frames
        done(self.outcome)


def recorder(writer: SlowWriter) -> tuple[Recorder, Metrics]:
    metrics = Metrics()
    made: Any = writer
    return Recorder(made, metrics), metrics


def counted(metrics: Metrics) -> dict[str, float]:
    found = {}
    for line in metrics.text().decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("fastserve_predictions_"):
            found[name.removeprefix("fastserve_predictions_")] = float(value)
    return found


def put(one: Recorder, count: int, rows: int = 1, width: int = 2) -> None:
    version = Shown("m", "1", SIGNATURE, True, (), ())
    for _ in range(count):
        one.put(version, "id", {"x": np.ones((rows, width), np.float32)}, {"y": np.ones(rows, np.float32)})


def test_what_there_is_no_room_for_is_counted_and_nobody_waits() -> None:
    writer = SlowWriter()
    one, metrics = recorder(writer)
    put(one, MAX_WAITING + 100)
    writer.let.set()
    one.close()
    found = counted(metrics)
    dropped = found['not_recorded_total{reason="busy"}']
    assert 99 <= dropped <= 100  # one may be on its way already
    assert found["recorded_total"] == MAX_WAITING + 100 - dropped == len(writer.frames)


def test_bytes_are_bounded_too() -> None:
    writer = SlowWriter()
    one, metrics = recorder(writer)
    width = 10_000
    put(one, MAX_WAITING_BYTES // (4 * width) + 10, width=width)
    writer.let.set()
    one.close()
    assert counted(metrics)['not_recorded_total{reason="busy"}'] > 0


def stored_rows(writer: SlowWriter) -> list[Row]:
    return [row for _, payload in writer.frames for row in read_own(Frame(Kind.OWN, 9, 1000, payload))]


@pytest.mark.parametrize(
    ("sent", "width"),
    [(0, 2), (1, 2), (MAX_PIECE_ROWS, 2), (MAX_PIECE_ROWS + 1, 2), (3 * MAX_PIECE_ROWS, 60), (9, 9999)],
)
def test_every_row_of_a_request_is_kept_in_pieces_of_few_values(sent: int, width: int) -> None:
    writer = SlowWriter()
    writer.let.set()
    one, metrics = recorder(writer)
    x = np.arange(sent * width, dtype=np.float64).reshape(sent, width)
    one.put(Shown("m", "1", SIGNATURE, True, (), ()), "id", {"x": x}, {"y": x[:, 0].copy()}, 7, sent + 9)
    one.close()
    rows = stored_rows(writer)
    assert [row.prediction_id for row in rows] == [f"id:{7 + i}" for i in range(sent)]
    assert [row.label_num for row in rows] == x[:, 0].tolist()
    assert counted(metrics)["recorded_total"] == (sent > 0)
    for _, payload in writer.frames:
        count = len(list(read_own(Frame(Kind.OWN, 9, 1000, payload))))
        assert count == 1 or (count <= MAX_PIECE_ROWS and count * (width + 1) <= MAX_PIECE_VALUES)


@pytest.mark.parametrize(("outcome", "refusal", "reason"), [(StoreFull(), None, "failed"), (None, StoreBusy(), "busy")])
def test_a_request_whose_first_piece_is_not_stored_is_counted_once(outcome: Any, refusal: Any, reason: str) -> None:
    writer = SlowWriter()
    writer.let.set()
    writer.outcome, writer.refusal = outcome, refusal
    one, metrics = recorder(writer)
    put(one, 1, rows=3 * MAX_PIECE_ROWS)
    one.close()
    found = counted(metrics)
    assert (found["recorded_total"], found[f'not_recorded_total{{reason="{reason}"}}']) == (0, 1)
    assert len(writer.frames) == (refusal is None)


def test_one_request_that_is_larger_than_all_that_may_wait_is_kept_where_nothing_waits() -> None:
    writer = SlowWriter()
    writer.let.set()
    one, metrics = recorder(writer)
    put(one, 1, rows=MAX_WAITING_BYTES // (4 * 10_000) + 1, width=10_000)
    one.close()
    assert counted(metrics)["recorded_total"] == 1


def test_a_log_that_is_full_or_fails_is_counted() -> None:
    writer = SlowWriter()
    writer.let.set()
    writer.refusal = StoreBusy()
    one, metrics = recorder(writer)
    put(one, 1)
    until(lambda: counted(metrics)['not_recorded_total{reason="busy"}'] == 1)
    writer.refusal, writer.outcome = None, StoreFull()
    put(one, 1)
    until(lambda: counted(metrics)['not_recorded_total{reason="failed"}'] == 1)
    writer.outcome, writer.refusal = None, ValueError("of another kind")
    put(one, 1)
    until(lambda: counted(metrics)['not_recorded_total{reason="failed"}'] == 2)
    writer.refusal = None
    put(one, 1)
    one.close()
    assert counted(metrics)["recorded_total"] == 1
    put(one, 1)  # too late
    assert len(writer.frames) == 2


def test_a_fraction_is_kept() -> None:
    writer = SlowWriter()
    writer.let.set()
    one, _ = recorder(writer)
    chances = iter([0.0, 0.49, 0.5, 0.99])
    recording = Recording(one, Shown("m", "1", SIGNATURE, True, (), ()), 0.5, lambda: next(chances))
    asked = [InferRequest({}) for _ in range(4)]
    ids = [recording.begin(one, "") for one in asked]
    assert [bool(one) for one in ids] == [True, True, False, False]
    assert [one.id for one in asked] == ids
    recording.note("a", InferRequest({"x": np.ones((1, 2), np.float32)}), InferResult("m", 1, {}, Timing()))
    one.close()
    assert len(writer.frames) == 1
