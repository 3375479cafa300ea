"""Plain lists mean what the signature says: what stands in them comes to the engine as the tensors that NumPy makes."""

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastserve.config import ModelConfig
from fastserve.errors import FastServeError
from fastserve.protocols.oip.routes import OpenInference
from fastserve.types import DType, Signature, Tensor, TensorSpec
from tests.support.fake_engine import FakeEngine, call

NUMBERS = (DType.FLOAT, DType.DOUBLE, DType.INT8, DType.INT32, DType.INT64, DType.UINT8, DType.UINT64, DType.BOOL)


def engine_of(*inputs: TensorSpec, features: tuple[str, ...] = ()) -> FakeEngine:
    """An engine with a model m of those inputs, whose outputs are its inputs."""
    engine = FakeEngine()
    lease = engine.add("m", 1, Signature(inputs, inputs), lambda tensors: tensors)
    lease.config = ModelConfig(name="m", features=features)
    return engine


def asked(engine: FakeEngine, operation: str, body: Any) -> dict[str, Tensor]:
    """The tensors that the engine was asked."""
    response = call(OpenInference(engine), "POST", f"/v2/models/m/{operation}", _text(body))
    assert response.status == 200, response.body
    return engine.submitted[-1].inputs


def _text(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def elements(dtype: DType) -> st.SearchStrategy[Any]:
    if dtype is DType.STRING:
        return st.text(st.characters(codec="utf-8"), max_size=8)
    return hnp.from_dtype(dtype.numpy)


def texts(least: int = 0) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), min_size=least, max_size=5)


def arrays(dtype: DType, rows: int, *row: int) -> st.SearchStrategy[Tensor]:
    return hnp.arrays(dtype.numpy, (rows, *row), elements=elements(dtype))


@st.composite
def tensors(draw: st.DrawFn) -> tuple[DType, Tensor]:
    dtype = draw(st.sampled_from((*NUMBERS, DType.STRING)))
    row = draw(st.lists(st.integers(1, 3), max_size=3))
    return dtype, draw(arrays(dtype, draw(st.integers(1, 5)), *row))


def spec(name: str, dtype: DType, *row: int) -> TensorSpec:
    return TensorSpec(name, dtype, (-1, *row))


@given(tensors())
def test_one_input_is_its_tensor_and_a_row_is_a_batch_of_one(drawn: tuple[DType, Tensor]) -> None:
    dtype, tensor = drawn
    engine = engine_of(spec("x", dtype, *tensor.shape[1:]))
    found = asked(engine, "infer", {"inputs": tensor.tolist()})
    np.testing.assert_array_equal(found["x"], tensor, strict=True)
    if tensor.ndim > 1:
        found = asked(engine, "predict", {"inputs": tensor[0].tolist()})
        np.testing.assert_array_equal(found["x"], tensor[:1], strict=True)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, tuple[DType, Tensor]]:
    """Columns [N] or [N,1] of any types, by names of any text."""
    rows = draw(st.integers(1, 300 if draw(st.booleans()) else 3))
    names = draw(st.lists(texts(1), min_size=2, max_size=5, unique=True))
    found = {}
    for name in names:
        dtype = draw(st.sampled_from((*NUMBERS, DType.STRING)))
        row = draw(st.sampled_from(((), (1,))))
        # One row again and again: long tables are about their length.
        first = draw(arrays(dtype, 1, *row))
        found[name] = dtype, np.repeat(first, rows, axis=0)
    return found


@given(tables(), st.randoms(use_true_random=False))
def test_columns_and_named_rows_come_to_the_same(table: dict[str, tuple[DType, Tensor]], random: Any) -> None:
    engine = engine_of(*(spec(name, dtype, *column.shape[1:]) for name, (dtype, column) in table.items()))
    columns = {name: column.reshape(-1).tolist() for name, (_, column) in table.items()}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    for inputs in (rows, rows[0]):
        found = asked(engine, "infer", {"inputs": inputs})
        count = len(rows) if inputs is rows else 1
        for name, (_, column) in table.items():
            np.testing.assert_array_equal(found[name], column[:count], strict=True)
    dicts = []
    for row in rows:
        members = [*zip(columns, row, strict=True), *([("unknown " * 9, [{}])] if random.random() < 0.5 else [])]
        random.shuffle(members)
        dicts.append(dict(members))
    for inputs in (dicts, dicts[0]):
        found = asked(engine, "infer_dict", {"inputs": inputs})
        count = len(rows) if inputs is dicts else 1
        for name, (_, column) in table.items():
            np.testing.assert_array_equal(found[name], column[:count], strict=True)


@given(st.data())
def test_features_of_a_wide_input_stand_in_the_order_of_the_model(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from((*NUMBERS, DType.STRING)))
    names = data.draw(st.lists(texts(1), min_size=1, max_size=5, unique=True))
    tensor = data.draw(arrays(dtype, data.draw(st.integers(1, 4)), len(names)))
    engine = engine_of(spec("x", dtype, len(names)), features=tuple(names))
    order = data.draw(st.permutations(range(len(names))))
    rows = [{names[at]: row[at] for at in order} for row in tensor.tolist()]
    np.testing.assert_array_equal(asked(engine, "infer_dict", {"inputs": rows})["x"], tensor, strict=True)
    body = {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {"name": names[at], "shape": [len(tensor)], "datatype": DATATYPE[dtype], "data": tensor[:, at].tolist()}
            for at in order
        ],
    }
    np.testing.assert_array_equal(asked(engine, "infer", body)["x"], tensor, strict=True)


def test_a_feature_may_be_called_like_the_input():
    engine = engine_of(spec("x", DType.FLOAT, 2), features=("x", "y"))
    columns = [{"name": name, "shape": [2], "datatype": "FP32", "data": [at, at + 1]} for at, name in enumerate("yx")]
    body = {"parameters": {"content_type": "pd"}, "inputs": columns}
    np.testing.assert_array_equal(asked(engine, "infer", body)["x"], [[1, 0], [2, 1]])
    whole = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [3, 4]}
    body = {"parameters": {"content_type": "pd"}, "inputs": [whole]}
    np.testing.assert_array_equal(asked(engine, "infer", body)["x"], [[3, 4]])


DATATYPE = {
    DType.FLOAT: "FP32",
    DType.DOUBLE: "FP64",
    DType.INT8: "INT8",
    DType.INT32: "INT32",
    DType.INT64: "INT64",
    DType.UINT8: "UINT8",
    DType.UINT64: "UINT64",
    DType.BOOL: "BOOL",
    DType.STRING: "BYTES",
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "a", "b", "parameters"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["id", "inputs", "outputs", "data_url", "parameters", "model", "operation"])
OPERATIONS = ("infer", "predict", "infer_dict", "predict_dict")


@given(st.dictionaries(MEMBERS, JSON, max_size=5), st.sampled_from(OPERATIONS), st.integers(0, 3))
def test_any_json_is_answered(body: dict[str, Any], operation: str, which: int) -> None:
    signatures = (
        (spec("x", DType.FLOAT, 2),),
        (spec("a", DType.FLOAT), spec("b", DType.STRING, 1)),
        (spec("a", DType.FLOAT, 2), spec("b", DType.INT64)),
        (TensorSpec("x", DType.FLOAT, None),),
    )
    engine = engine_of(*signatures[which], features=("a", "b") if which == 0 else ())
    answered(engine, f"/v2/models/m/{operation}", _text(body))
    answered(engine, "/", _text({"model": "m", "operation": operation, **body}))


@given(st.binary(max_size=60), st.sampled_from(OPERATIONS))
def test_any_bytes_are_answered(body: bytes, operation: str) -> None:
    engine = engine_of(spec("x", DType.FLOAT, 2), features=("a", "b"))
    answered(engine, f"/v2/models/m/{operation}", body)
    answered(engine, f"/v2/models/m/{operation}", b'{"inputs":' + body)


def answered(engine: FakeEngine, path: str, body: bytes) -> None:
    """With an answer or with a 4xx; anything else that is raised fails the test."""
    try:
        response = call(OpenInference(engine), "POST", path, body)
    except FastServeError as error:  # pragma: no cover - the protocol answers its own errors
        raise AssertionError(error) from error
    assert response.status < 500
    if response.status != 200:
        assert json.loads(response.body)["error"]
