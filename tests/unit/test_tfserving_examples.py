"""Classify and regress: what examples hold reaches the model bit by bit, and what it answers comes back beside its labels."""

import json
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastserve.http.message import Response
from fastserve.protocols.tfserving import examples
from fastserve.protocols.tfserving.routes import TfServing
from fastserve.types import DType, Signature, Tensor, TensorSpec
from tests.support.fake_engine import FakeEngine, call
from tests.support.json_tensors import bits, plain, tensors

FLOATS = [dtype for dtype in DType if dtype.is_float]
LONG = st.sampled_from([0, 1 << 30])
"""Lists of numbers longer than this go another way: here all of them, or none."""


def engine_of(
    inputs: dict[str, TensorSpec], outputs: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> FakeEngine:
    """A model `m` that takes `inputs` and answers `outputs` whatever it is asked."""
    engine = FakeEngine()
    specs = tuple(TensorSpec(name, dtype_of(array), (-1, *array.shape[1:])) for name, array in outputs.items())
    lease = engine.add("m", 1, Signature(tuple(inputs.values()), specs), lambda _: outputs)
    lease.metadata.update(metadata or {})
    return engine


def dtype_of(array: Tensor) -> DType:
    return next(dtype for dtype in DType if dtype.numpy == array.dtype)


def one_input(dtype: DType, dims: tuple[int, ...] | None, rows: int) -> FakeEngine:
    shape = None if dims is None else (-1, *dims)
    return engine_of({"x": TensorSpec("x", dtype, shape)}, {"y": np.zeros((rows, 1), np.float32)})


def asked(engine: FakeEngine, body: Any, verb: str = "regress", long: int = 1024) -> Response:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    with mock.patch.object(examples, "LONG_LIST_BYTES", long):
        return call(TfServing(engine), "POST", f"/v1/models/m:{verb}", text)


def received(engine: FakeEngine, body: Any, long: int = 1024) -> dict[str, Tensor]:
    response = asked(engine, body, long=long)
    assert response.status == 200, response.body[:500]
    return engine.submitted[-1].inputs


def feature_of(row: Any, lone: bool) -> Any:
    """The values of one row as a flat list; a lone one as itself, if so wanted."""
    flat = np.array(row, dtype=object).reshape(-1).tolist()
    return flat[0] if lone and len(flat) == 1 else flat


@given(tensors(min_rank=1).filter(lambda typed: len(typed[1]) > 0), st.booleans(), st.booleans(), LONG)
def test_examples_reach_the_model_bit_by_bit(typed: tuple[DType, Tensor], lone: bool, free: bool, long: int):
    dtype, tensor = typed
    rows, dims = len(tensor), tensor.shape[1:]
    if dtype is DType.UINT64:  # features hold no more
        tensor = tensor & np.uint64(2**63 - 1)
    free = free and bool(dims) and 0 not in dims
    declared = (*dims[:-1], -1) if free else dims
    sent = [{"x": feature_of(plain(row, dtype), lone)} for row in tensor.reshape(rows, -1)]
    got = received(one_input(dtype, declared, rows), {"examples": sent}, long)["x"]
    assert got.shape == tensor.shape
    assert got.dtype == dtype.numpy
    assert got.flags.c_contiguous
    assert bits(plain(got, dtype), dtype) == bits(plain(tensor, dtype), dtype)


@given(st.data(), st.integers(1, 4), LONG)
def test_the_context_stands_in_for_what_examples_lack(data: st.DataObject, rows: int, long: int):
    names = ["a", "b", "c"]
    values = st.lists(st.integers(-5, 5), min_size=2, max_size=2)
    context = data.draw(st.dictionaries(st.sampled_from(names), values))
    lacking = st.sets(st.sampled_from(sorted(context))) if context else st.just(set())
    own = [
        {name: data.draw(values) for name in names if name not in absent}
        for absent in data.draw(st.lists(lacking, min_size=rows, max_size=rows))
    ]
    inputs = {name: TensorSpec(name, DType.INT32, (-1, 2)) for name in names}
    engine = engine_of(inputs, {"y": np.zeros(rows, np.float32)})
    body = {"examples": own, "context": context} if data.draw(st.booleans()) else {"context": context, "examples": own}
    got = received(engine, body, long)
    for name in names:
        np.testing.assert_array_equal(got[name], [row.get(name, context.get(name)) for row in own])


TOKENS = ["1", "0", "-7", "1.5", "1e2", "NaN", "-Infinity", "true", "false", "null", '"s"', "[1]", "{}", '{"b64":"YQ"}']
TOKENS += ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551616", "1e400", " 1 "]


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4), st.sampled_from(list(DType)), st.booleans())
@example(["1", "2.5"], DType.FLOAT, False).via("two kinds")
@example(["2.5", "1"], DType.FLOAT, False).via("two kinds, the other way round")
@example(["1.5", "1", "1.5"], DType.FLOAT, False).via("two kinds, one inside")
@example(["1", "true"], DType.INT64, False).via("one kind in two spellings")
@example(["9223372036854775808"], DType.DOUBLE, False).via("too large for the kind")
@example(["18446744073709551616"], DType.DOUBLE, False).via("so large that it is a float")
def test_long_lists_are_read_as_short_ones(tokens: list[str], dtype: DType, in_context: bool):
    answers = []
    for long in (0, 1 << 30):
        engine = one_input(dtype, (-1,), 1)
        feature = f'{{"x": [{",".join(tokens)}]}}'
        text = f'{{"context": {feature}, "examples": [{{}}]}}' if in_context else f'{{"examples": [{feature}]}}'
        response = asked(engine, text.encode(), long=long)
        tensor = engine.submitted[0].inputs["x"] if engine.submitted else None
        answers.append((response.status, response.body, tensor))
    (status, body, tensor), (other_status, other_body, other_tensor) = answers
    assert (status, body) == (other_status, other_body)
    assert status in (200, 400)
    if tensor is not None and other_tensor is not None:
        np.testing.assert_array_equal(tensor, other_tensor, strict=True)


@pytest.mark.parametrize("long", [0, 1 << 30])
@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (DType.FLOAT, 1e39, 0x7F800000),
        (DType.FLOAT, -1e-50, 0x80000000),
        (DType.FLOAT16, 65520.0, 0x7C00),
        (DType.FLOAT16, 65519.0, 0x7BFF),
        (DType.BFLOAT16, 3.4e38, 0x7F80),
        (DType.BFLOAT16, 1.00390625, 0x3F80),  # halfway, to even
        (DType.BFLOAT16, 1.0039062500001, 0x3F81),  # float32 alone would make it halfway
        (DType.BFLOAT16, 1.01171875, 0x3F82),
        (DType.BFLOAT16, -1e39, 0xFF80),
    ],
)
def test_numbers_are_rounded_once(dtype: DType, value: float, expected: int, long: int):
    engine = one_input(dtype, (1,), 1)
    got = received(engine, {"examples": [{"x": [value]}]}, long)["x"]
    assert int(got.view(f"u{got.itemsize}")[0, 0]) == expected


@pytest.mark.parametrize(
    ("values", "shape"),
    [([1, 2], (2,)), ([[1], [2]], (2, 1)), ([[1, 2], [3, 4]], (2, 2)), ([1, [2]], (2, 1))],
)
def test_an_input_of_unknown_rank_is_as_its_features_are(values: list[Any], shape: tuple[int, ...]):
    engine = one_input(DType.FLOAT, None, 2)
    got = received(engine, {"examples": [{"x": value} for value in values]})["x"]
    assert got.shape == shape


def test_inputs_that_no_list_can_fill_are_told():
    for shape, words in (((), "has no axis of examples"), ((-1, -1, -1), "several free dimensions")):
        engine = engine_of({"x": TensorSpec("x", DType.FLOAT, shape)}, {"y": np.zeros(1, np.float32)})
        response = asked(engine, {"examples": [{"x": 1}]})
        assert response.status == 400
        assert words in json.loads(response.body)["error"]


# ---- answers ----------------------------------------------------------------------------------------------------


def scores_of(dtype: DType) -> st.SearchStrategy[Tensor]:
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5)
    return hnp.arrays(dtype.numpy, shapes)


def results(outputs: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Any:
    rows = len(next(iter(outputs.values())))
    engine = engine_of({"x": TensorSpec("x", DType.FLOAT, (-1,))}, outputs, metadata)
    response = asked(engine, {"examples": [{"x": 1}] * rows}, "classify")
    assert response.status == 200, response.body[:500]
    return json.loads(response.body)["results"]


def assert_pairs(got: Any, labels: list[list[str]], scores: Tensor, dtype: DType) -> None:
    assert [[pair[0] for pair in row] for row in got] == labels
    assert bits([[pair[1] for pair in row] for row in got], dtype) == bits(plain(scores, dtype), dtype)


@given(st.data(), st.sampled_from([DType.FLOAT, DType.DOUBLE, DType.FLOAT16]))
def test_labels_of_the_same_shape_stand_beside_their_scores(data: st.DataObject, dtype: DType):
    scores = data.draw(scores_of(dtype))
    labels = data.draw(hnp.arrays(object, scores.shape, elements=st.text(max_size=5)))
    assert_pairs(results({"classes": labels, "scores": scores}), labels.tolist(), scores, dtype)


@given(st.data(), st.booleans())
def test_names_of_the_classes_stand_beside_the_scores(data: st.DataObject, labelled: bool):
    scores = data.draw(scores_of(DType.FLOAT))
    names = data.draw(st.lists(st.text(max_size=5), min_size=scores.shape[1], max_size=scores.shape[1]))
    outputs = {"label": np.zeros(len(scores), np.int64)} if labelled else {}
    got = results({**outputs, "probabilities": scores}, {"classes": json.dumps(names)})
    assert_pairs(got, [names] * len(scores), scores, DType.FLOAT)


@given(st.data(), st.booleans())
def test_without_names_the_best_has_the_models_label(data: st.DataObject, texts: bool):
    scores = data.draw(scores_of(DType.FLOAT))
    rows, classes = scores.shape
    whole = data.draw(hnp.arrays(np.int64, rows))
    labels = np.array([f"label {number}" for number in whole], object) if texts else whole
    told = {"classes": json.dumps(["too", *["many"] * classes])} if data.draw(st.booleans()) else {}
    got = results({"label": labels, "probabilities": scores}, told)
    expected = [[""] * classes for _ in range(rows)]
    for row in range(rows):
        finite = [column for column in range(classes) if not np.isnan(scores[row, column])]
        best = max(finite, key=lambda column: (scores[row, column], -column)) if finite else 0
        expected[row][best] = str(labels[row])
    assert_pairs(got, expected, scores, DType.FLOAT)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=1, max_side=5)), st.booleans())
def test_values_come_back_bit_by_bit(values: Tensor, column: bool):
    outputs = {"y": values.reshape(-1, 1) if column else values}
    engine = engine_of({"x": TensorSpec("x", DType.FLOAT, (-1,))}, outputs)
    response = asked(engine, {"examples": [{"x": 1}] * len(values)})
    assert response.status == 200, response.body
    assert bits(json.loads(response.body)["results"], DType.FLOAT) == bits(values.tolist(), DType.FLOAT)


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize("shape", [(2, 1), (4, 1), (1,), ()])
def test_an_answer_that_does_not_follow_the_examples_is_told(verb: str, shape: tuple[int, ...]):
    engine = FakeEngine()
    signature = Signature((TensorSpec("x", DType.FLOAT, (-1,)),), (TensorSpec("y", DType.FLOAT, None),))
    engine.add("m", 1, signature, lambda _: {"y": np.zeros(shape, np.float32)})
    response = asked(engine, {"examples": [{"x": 1}] * 3}, verb)
    assert response.status == 400
    assert f"this one answers y of shape {list(shape)} for 3 examples" in json.loads(response.body)["error"]


# ---- anything at all --------------------------------------------------------------------------------------------

FRAGMENTS = [
    '{"',
    "examples",
    "context",
    "signature_name",
    "x",
    '":',
    '"',
    "[",
    "]",
    "{",
    "}",
    ",",
    "1.5",
    "-",
    "NaN",
    "b64",
]


@given(
    st.one_of(st.binary(max_size=100), st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join).map(str.encode))
)
def test_no_body_is_more_than_an_error(body: bytes):
    for engine in (one_input(DType.FLOAT, (-1,), 1), one_input(DType.STRING, (), 1), FakeEngine()):
        response = asked(engine, body)
        assert response.status in (200, 400, 404)
        json.loads(response.body)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"examples": JSON_VALUES}, optional={"context": JSON_VALUES}), LONG)
def test_no_value_is_more_than_an_error(body: Any, long: int):
    for engine in (one_input(DType.FLOAT, (-1,), 1), one_input(DType.STRING, (1,), 1), FakeEngine()):
        response = asked(engine, body, long=long)
        assert response.status in (200, 400, 404)
        json.loads(response.body)
