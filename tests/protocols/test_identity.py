"""Any tensor that an identity model takes comes back bit by bit: JSON, engine, onnxruntime and back."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given

from fastserve.config import load_config
from fastserve.protocols.oip.schema import DATATYPES
from fastserve.server.app import create_app
from fastserve.types import DType, Tensor
from tests.protocols.case_files import LENGTH_HEADER
from tests.protocols.case_models import write_repository
from tests.reference import binarytensor
from tests.support.doors import AsgiDoor, Sent
from tests.support.json_tensors import bits, plain, tensors

MODELS = {
    DType.FLOAT16: "same_half",
    **{dtype: f"same_{dtype.name.lower()}" for dtype in DType if dtype is not DType.FLOAT16},
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    config = write_repository(tmp_path_factory.mktemp("identity"))
    door = AsgiDoor(create_app(load_config(file=str(config), env={})))
    door.open()
    yield door
    door.close()


def asked(door: AsgiDoor, dtype: DType, body: dict[str, Any]) -> Any:
    answer = door.send(Sent("POST", f"/v1/models/{MODELS[dtype]}:predict", body=json.dumps(body).encode()))
    assert answer.status == 200, answer.body[:500]
    return json.loads(answer.body)


@given(typed=tensors())
def test_in_columns(door: AsgiDoor, typed: tuple[DType, Tensor]):
    dtype, sent = typed[0], plain(typed[1], typed[0])
    assert bits(asked(door, dtype, {"inputs": sent})["outputs"], dtype) == bits(sent, dtype)


@given(typed=tensors(min_rank=1).filter(lambda typed: len(typed[1]) > 0))
def test_in_rows(door: AsgiDoor, typed: tuple[DType, Tensor]):
    dtype, sent = typed[0], plain(typed[1], typed[0])
    assert bits(asked(door, dtype, {"instances": sent})["predictions"], dtype) == bits(sent, dtype)


def inferred(door: AsgiDoor, dtype: DType, entry: dict[str, Any], tail: bytes, *, binary: bool) -> tuple[Any, bytes]:
    """Through the Open Inference protocol: the answer's one output, and what follows the JSON."""
    entry = {"name": "x", "datatype": DATATYPES[dtype], **entry}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": binary}}).encode()
    headers = {LENGTH_HEADER: str(len(head))} if tail or binary else {}
    answer = door.send(Sent("POST", f"/v2/models/{MODELS[dtype]}/infer", headers, head + tail))
    assert answer.status == 200, answer.body[:500]
    size = int(answer.headers.get(LENGTH_HEADER, len(answer.body)))
    (output,) = json.loads(answer.body[:size])["outputs"]
    return output, answer.body[size:]


@given(typed=tensors())
def test_in_flat_data(door: AsgiDoor, typed: tuple[DType, Tensor]):
    dtype, tensor = typed
    sent = plain(tensor.reshape(-1), dtype)
    output, _ = inferred(door, dtype, {"shape": list(tensor.shape), "data": sent}, b"", binary=False)
    assert output["shape"] == list(tensor.shape)
    assert bits(output["data"], dtype) == bits(sent, dtype)


@given(typed=tensors())
def test_in_binary(door: AsgiDoor, typed: tuple[DType, Tensor]):
    """NaN's bits, subnormals and all: what goes in comes out."""
    dtype, tensor = typed
    tail = binarytensor.pack(tensor) if dtype is DType.STRING else tensor.tobytes()
    entry = {"shape": list(tensor.shape), "parameters": {"binary_data_size": len(tail)}}
    output, behind = inferred(door, dtype, entry, tail, binary=True)
    assert output["shape"] == list(tensor.shape)
    assert behind == tail
