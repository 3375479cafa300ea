"""What a protocol's lane answers is what the general way answers, byte for byte; what it does not is left to that."""

import gc
import json
import struct
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.config import ModelConfig
from tests.support import models
from tests.support.lanes import INFER, LONG_NS, PREDICT, SHORT_NS, Pair, Sent
from tests.support.shelf import Shelf
from tests.support.waiting import until

ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture(scope="module", params=[SHORT_NS, LONG_NS], ids=["short", "waits"])
def pairs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Pair]]:
    """Models whose runs are short, and so long that each waits for its turn."""
    open_engines: list[Any] = []
    made: dict[str, Pair] = {}

    def pair(model: Callable[[], onnx.ModelProto], **config: Any) -> Pair:
        key = f"{model.__name__} {config}"
        if key not in made:
            shelf = Shelf(tmp_path_factory.mktemp("lanes"))
            shelf.put("m", model())
            opened = shelf.engine(ModelConfig(name="m", **config)) if config else shelf.engine()
            open_engines.append(opened)
            made[key] = Pair(opened.__enter__(), request.param)
        return made[key]

    yield pair
    for opened in open_engines:
        opened.__exit__(None, None, None)


def predict(rows: Any) -> Sent:
    return json.dumps({"instances": rows}).encode(), {}


def binary(rows: list[list[float]], *, text_end: str = "") -> Sent:
    shape = [len(rows), len(ROW)]
    entry = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": 16 * len(rows)}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode() + text_end.encode()
    numbers = b"".join(struct.pack("<4f", *row) for row in rows)
    return head + numbers, {"inference-header-content-length": str(len(head))}


def in_json(rows: list[list[float]], **more: Any) -> Sent:
    entry = {"name": "x", "shape": [len(rows), len(ROW)], "datatype": "FP32", "data": rows}
    return json.dumps({"inputs": [entry], **more}).encode(), {}


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ROWS = st.lists(st.lists(FLOATS, min_size=4, max_size=4), min_size=1, max_size=5)
BAD = st.sampled_from(
    [
        b"",
        b"{",
        b'{"instances": []}',
        b'{"instances": [[1, 2, 3]]}',
        b'{"instances": [[1, 2, 3, "x"]]}',
        b'{"instances": [{"x": [1, 2, 3, 4]}]}',
        b'{"inputs": [[1, 2, 3, 4]]}',
        b'{"instances": [[1, 2, 3, 4]], "signature_name": "serving_default"}',
        b'{"instances": [[1, 2, 3, 4]], "signature_name": "x"}',
        b'{"instances": [[1, NaN, Infinity, -0.0]]} ',
        b'{"instances": [1, 2, 3, 4]}',
    ]
).map(lambda body: (body, {}))


@settings(deadline=None, max_examples=40)
@given(sent=st.lists(st.one_of(ROWS.map(predict), BAD.filter(lambda one: one[0])), min_size=1, max_size=8))
def test_predict(pairs: Callable[..., Pair], sent: list[Sent]):
    pair = pairs(models.tiny)
    pair.both(PREDICT, [predict([ROW])])
    assert pair.rides(PREDICT)
    pair.both(PREDICT, sent)


@settings(deadline=None, max_examples=20)
@given(rows=ROWS)
@pytest.mark.parametrize("form", [binary, in_json])
def test_infer(pairs: Callable[..., Pair], rows: list[list[float]], form: Callable[..., Sent]):
    pair = pairs(models.tiny)
    pair.fast.door.lanes.clear()
    pair.both(INFER, [form([ROW])])
    assert pair.rides(INFER)
    pair.both(INFER, [form([ROW]), form(rows), form([ROW[::-1]]), form([ROW])])


@pytest.mark.parametrize(
    "other",
    [
        in_json([ROW], id="7"),
        in_json([ROW], parameters={"priority": 1}),
        in_json([ROW], outputs=[{"name": "y", "parameters": {"classification": 2}}]),
        in_json([ROW], outputs=[{"name": "z"}]),
        in_json([ROW[:3]]),
        (in_json([ROW])[0] + b" ", {}),
        (in_json([ROW])[0].replace(b"0.2]", b"0.2}"), {}),
        (in_json([ROW])[0].replace(b"0.2]", b'"NaN"]'), {}),
        binary([ROW]),
        binary([ROW, ROW]),
        binary([ROW], text_end=" "),
        (binary([ROW])[0][:-1], binary([ROW])[1]),
        (binary([ROW])[0], {"inference-header-content-length": "10"}),
        (binary([ROW])[0], {}),
    ],
)
@pytest.mark.parametrize("form", [binary, in_json])
def test_what_differs_from_the_lane_gets_its_own_answer(
    pairs: Callable[..., Pair], form: Callable[..., Sent], other: Sent
):
    pair = pairs(models.tiny)
    pair.fast.door.lanes.clear()
    pair.both(INFER, [form([ROW])])
    assert pair.rides(INFER)
    pair.both(INFER, [form([ROW]), other, form([ROW])])


@pytest.mark.parametrize(
    ("model", "config", "row"),
    [
        (models.two_inputs, {}, {"a": [1, 2, 3], "b": [1, 2, 3]}),
        (models.tiny, {"non_finite": "error"}, ROW),
    ],
)
def test_models_that_have_no_lane(
    pairs: Callable[..., Pair], model: Callable[[], onnx.ModelProto], config: dict[str, Any], row: Any
):
    pair = pairs(model, **config)
    pair.fast.post(PREDICT, predict([row])[0])
    assert not pair.rides(PREDICT)


def test_requests_with_an_id_keep_others_from_no_lane(pairs: Callable[..., Pair]):
    pair = pairs(models.tiny)
    pair.both(INFER, [in_json([ROW], id="7")])
    pair.fast.door.lanes.clear()
    pair.both(INFER, [in_json([ROW])])
    assert pair.rides(INFER)


def test_several_outputs_are_told_by_name(pairs: Callable[..., Pair]):
    def two_outputs() -> onnx.ModelProto:
        return models.build(
            [models.node("Relu", "x", "positive"), models.node("Neg", "x", "negative")],
            [models.tensor("x", ["N", 2])],
            [models.tensor("positive", ["N", 2]), models.tensor("negative", ["N", 2])],
            [],
        )

    pair = pairs(two_outputs)
    pair.both(PREDICT, [predict([[1, -1]])])
    assert pair.rides(PREDICT)
    answers = pair.both(PREDICT, [predict([[1, -1]]), predict([[2, 2], [0, 1]])])
    assert json.loads(answers[1].body)["predictions"][0] == {"positive": [2.0, 2.0], "negative": [-2.0, -2.0]}


def test_a_lane_ends_with_its_version(tmp_path: Path):
    shelf = Shelf(tmp_path)
    shelf.put("m", models.tiny())
    with shelf.engine() as engine:
        pair = Pair(engine)
        pair.both(PREDICT, [predict([ROW])])
        pair.both("/v1/models/m/versions/1:predict", [predict([ROW])])
        assert pair.rides(PREDICT)
        shelf.put("m", models.tiny(), 2)
        engine.refresh()
        (answer,) = pair.both(PREDICT, [predict([ROW])])
        assert answer.headers["x-model-version"] == "2"
        (gone,) = pair.both("/v1/models/m/versions/1:predict", [predict([ROW])])
        assert gone.status == 404


@pytest.mark.parametrize(("path", "sent"), [(PREDICT, predict([ROW])), (INFER, binary([ROW])), (INFER, in_json([ROW]))])
def test_a_lane_that_went_keeps_no_version(tmp_path: Path, path: str, sent: Sent):
    shelf = Shelf(tmp_path)
    shelf.put("m", models.tiny())
    with shelf.engine() as engine:
        pair = Pair(engine)
        pair.both(path, [sent])
        pair.both(path, [sent])
        assert pair.rides(path)
        gc.collect()  # what the test's own exchanges hold in circles
        gc.disable()
        try:
            held = weakref.ref(engine.lease("m"))
            shelf.put("m", models.tiny(), 2)
            engine.refresh()
            pair.fast.door.lanes.clear()
            until(lambda: held() is None)
        finally:
            gc.enable()


def test_what_lanes_answer_is_counted_as_all_else(pairs: Callable[..., Pair]):
    pair = pairs(models.tiny)
    pair.both(PREDICT, [predict([ROW])])
    meters = pair.engine.lease("m").meters
    before = meters.version
    counts = [one.count for one in (meters.decode, meters.queue, meters.run, meters.encode, meters.batch_rows)]
    pair.both(PREDICT, [predict([ROW]), predict([ROW, ROW])])
    after = [one.count for one in (meters.decode, meters.queue, meters.run, meters.encode, meters.batch_rows)]
    decoded, queued, runs, encoded, batches = (b - a for a, b in zip(counts, after, strict=True))
    assert (decoded, queued, encoded) == (4, 4, 4)
    assert runs == batches <= 4
    assert before is meters.version
