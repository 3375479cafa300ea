"""Predict's JSON: whatever tensor a model takes and gives back, its bits survive both ways, in both styles."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.http.message import Response
from fastserve.protocols.tfserving.routes import TfServing
from fastserve.types import DType, Signature, Tensor, TensorSpec
from tests.support.fake_engine import FakeEngine, call
from tests.support.json_tensors import bits, plain, tensors

WHOLE = [d for d in DType if d.numpy.kind in "iu" and d is not DType.BFLOAT16]
FLOATS = [DType.FLOAT, DType.DOUBLE, DType.FLOAT16]


def server(inputs: dict[str, DType], outputs: dict[str, DType], run: Callable[..., Any]) -> TfServing:
    """The protocol over one model `m` whose tensors have any shape."""
    engine = FakeEngine()
    specs = [tuple(TensorSpec(name, dtype, None) for name, dtype in side.items()) for side in (inputs, outputs)]
    engine.add("m", 1, Signature(*specs), run)
    return TfServing(engine)


def identity(dtype: DType) -> TfServing:
    return server({"x": dtype}, {"y": dtype}, lambda inputs: {"y": inputs["x"]})


def answered(response: Response, key: str) -> Any:
    assert response.status == 200, response.body[:500]
    assert response.headers == [("content-type", "application/json"), ("x-model-version", "1")]
    body = json.loads(response.body)
    assert list(body) == [key]
    return body[key]


@given(tensors())
def test_columns_come_back_bit_by_bit(typed: tuple[DType, Tensor]):
    dtype, tensor = typed
    sent = plain(tensor, dtype)
    response = call(identity(dtype), "POST", "/v1/models/m:predict", json.dumps({"inputs": {"x": sent}}).encode())
    assert bits(answered(response, "outputs"), dtype) == bits(sent, dtype)


@given(tensors(min_rank=1).filter(lambda typed: len(typed[1]) > 0))
def test_rows_come_back_bit_by_bit(typed: tuple[DType, Tensor]):
    dtype, tensor = typed
    sent = plain(tensor, dtype)
    response = call(identity(dtype), "POST", "/v1/models/m:predict", json.dumps({"instances": sent}).encode())
    assert bits(answered(response, "predictions"), dtype) == bits(sent, dtype)


@given(st.data(), st.integers(1, 4))
def test_row_objects_come_back_bit_by_bit(data: st.DataObject, rows: int):
    typed = {name: data.draw(tensors(min_rank=1), label=name) for name in ("a", "b")}
    sent = {name: [plain(tensor[:1], dtype) for _ in range(rows)] for name, (dtype, tensor) in typed.items()}
    dtypes = {name: dtype for name, (dtype, _) in typed.items()}
    protocol = server(dtypes, dtypes, lambda inputs: inputs)
    body = {"instances": [{"b": sent["b"][row], "a": sent["a"][row]} for row in range(rows)]}
    response = call(protocol, "POST", "/v1/models/m:predict", json.dumps(body).encode())
    answer = answered(response, "predictions")
    for name, dtype in dtypes.items():
        assert bits([row[name] for row in answer], dtype) == bits(sent[name], dtype)


@pytest.mark.parametrize("dtype", WHOLE)
def test_whole_numbers_keep_to_their_range(dtype: DType):
    info = np.iinfo(dtype.numpy)
    for value, status in ((info.min, 200), (info.max, 200), (info.min - 1, 400), (info.max + 1, 400)):
        response = call(identity(dtype), "POST", "/v1/models/m:predict", json.dumps({"inputs": [value]}).encode())
        assert response.status == status


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_are_written_short_and_never_as_integers(dtype: DType):
    response = call(identity(dtype), "POST", "/v1/models/m:predict", b'{"inputs": [0.2, 3, 0.1, -0.0]}')
    texts = response.body.decode().removeprefix('{"outputs": [').removesuffix("]}").replace(" ", "").split(",")
    assert texts[0] == "0.2"
    assert texts[2] == "0.1"
    assert all("." in text or "e" in text for text in texts)


@given(st.binary(max_size=200))
def test_no_body_is_more_than_an_error(body: bytes):
    for model in ("m", "nope"):
        response = call(identity(DType.FLOAT), "POST", f"/v1/models/{model}:predict", body)
        assert response.status in (200, 400, 404)
        json.loads(response.body)


FRAGMENTS = [
    '{"',
    "instances",
    "inputs",
    "signature_name",
    '":',
    "[",
    "]",
    "{",
    "}",
    ",",
    "1.5",
    "-",
    "NaN",
    '"x"',
    "b64",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30))
def test_no_mixture_of_the_right_words_is_more_than_an_error(parts: list[str]):
    for dtype in (DType.FLOAT, DType.STRING):
        response = call(identity(dtype), "POST", "/v1/models/m:predict", "".join(parts).encode())
        assert response.status in (200, 400)
        json.loads(response.body)
