"""Infer's bodies: any tensor comes back bit by bit in any form, and nothing that a client sends is more than an error."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.http.message import Response
from fastserve.protocols.oip.routes import OpenInference
from fastserve.protocols.oip.schema import DATATYPES
from fastserve.types import DType, Signature, Tensor, TensorSpec
from tests.reference import binarytensor as reference
from tests.support.fake_engine import FakeEngine, call
from tests.support.json_tensors import bits, plain, tensors

LENGTH = "inference-header-content-length"
INFER = "/v2/models/m/infer"
HUGE = [2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40]


def server(
    inputs: dict[str, DType], outputs: dict[str, DType], run: Callable[..., Any], *, strict: bool = False
) -> OpenInference:
    """The protocol over one model `m` whose tensors have any shape."""
    engine = FakeEngine()
    specs = [tuple(TensorSpec(name, dtype, None) for name, dtype in side.items()) for side in (inputs, outputs)]
    engine.add("m", 1, Signature(*specs), run).strict = strict
    return OpenInference(engine)


def mirror(dtypes: dict[str, DType]) -> OpenInference:
    """A model that gives what it takes."""
    return server(dtypes, dtypes, lambda inputs: inputs)


def packed(tensor: Tensor, dtype: DType) -> bytes:
    return reference.pack(tensor) if dtype is DType.STRING else tensor.tobytes()


def entry(name: str, tensor: Tensor, dtype: DType, **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(tensor.shape), "datatype": DATATYPES[dtype], **more}


def parts(response: Response) -> tuple[dict[str, Any], bytes]:
    """The JSON of an answer, and what follows it."""
    assert response.status == 200, response.body[:500]
    size = int(dict(response.headers).get(LENGTH, len(response.body)))
    return json.loads(response.body[:size]), response.body[size:]


def same_bytes(ours: bytes, tensor: Tensor, dtype: DType) -> None:
    """Equal, but for what JSON does not tell of a NaN: its sign and payload."""
    if dtype is DType.STRING:
        assert ours == packed(tensor, dtype)
    else:
        assert bits(flat(np.frombuffer(ours, dtype.numpy), dtype), dtype) == bits(flat(tensor, dtype), dtype)


def flat(tensor: Tensor, dtype: DType) -> Any:
    return plain(tensor.reshape(-1), dtype)


@given(tensors(), st.booleans(), st.permutations(["name", "shape", "datatype", "data"]), st.text(max_size=5))
def test_json_comes_back_bit_by_bit(typed: tuple[DType, Tensor], nested: bool, order: list[str], request_id: str):
    dtype, tensor = typed
    nested = nested and tensor.ndim > 0 and tensor.size > 0
    member = entry("x", tensor, dtype, data=plain(tensor, dtype) if nested else flat(tensor, dtype))
    body = {"inputs": [{key: member[key] for key in order}], "id": request_id}
    answer, _ = parts(call(mirror({"x": dtype}), "POST", INFER, json.dumps(body).encode()))
    (output,) = answer["outputs"]
    assert output["shape"] == list(tensor.shape)
    assert output["datatype"] == DATATYPES[dtype]
    assert bits(output["data"], dtype) == bits(flat(tensor, dtype), dtype)
    assert answer.get("id", "") == request_id


@given(tensors(), st.integers(0, 9), st.text(max_size=5))
def test_binary_comes_back_byte_by_byte(typed: tuple[DType, Tensor], spaces: int, request_id: str):
    dtype, tensor = typed
    tail = packed(tensor, dtype)
    member = entry("x", tensor, dtype, parameters={"binary_data_size": len(tail)})
    asked = {"id": request_id, "inputs": [member], "parameters": {"binary_data_output": True}}
    head = json.dumps(asked).encode() + b" " * spaces
    answer, behind = parts(call(mirror({"x": dtype}), "POST", INFER, head + tail, headers={LENGTH: str(len(head))}))
    assert behind == tail
    (output,) = answer["outputs"]
    assert output == entry("x", tensor, dtype, parameters={"binary_data_size": len(tail)})


@given(st.data())
def test_any_mixture_comes_back(data: st.DataObject):
    names = data.draw(st.permutations(["a", "b", "c"]))
    typed = {name: data.draw(tensors(), label=name) for name in names}
    members, tail = [], b""
    for name, (dtype, tensor) in typed.items():
        if data.draw(st.booleans(), label=f"{name} in binary"):
            members.append(entry(name, tensor, dtype, parameters={"binary_data_size": len(packed(tensor, dtype))}))
            tail += packed(tensor, dtype)
        else:
            members.append(entry(name, tensor, dtype, data=flat(tensor, dtype)))
    wanted = data.draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True))
    binary = [data.draw(st.booleans()) for _ in wanted]
    outputs = [{"name": name, "parameters": {"binary_data": one}} for name, one in zip(wanted, binary, strict=True)]
    head = json.dumps({"inputs": members, "outputs": outputs}).encode()
    protocol = mirror({name: dtype for name, (dtype, _) in typed.items()})
    answer, behind = parts(call(protocol, "POST", INFER, head + tail, headers={LENGTH: str(len(head))}))
    assert [output["name"] for output in answer["outputs"]] == wanted
    for output, one in zip(answer["outputs"], binary, strict=True):
        dtype, tensor = typed[output["name"]]
        assert output["shape"] == list(tensor.shape)
        if one:
            size = output["parameters"]["binary_data_size"]
            same_bytes(behind[:size], tensor, dtype)
            behind = behind[size:]
        else:
            assert bits(output["data"], dtype) == bits(flat(tensor, dtype), dtype)
    assert behind == b""


# ---- requests that repeat -------------------------------------------------------------------------------------------

TEXTS = [
    '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":DATA}]}',
    '{"id":"ID","inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":DATA}]}',
    '{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":DATA}],"id":"ID"}',
    '{"inputs":[{"data":DATA,"name":"x","shape":[2],"datatype":"FP32"}],"outputs":[{"name":"x"}]}',
    '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":DATA}],"parameters":{"binary_data_output":true}}',
    '{"id":ID,"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":DATA,"data":[9,9]}]}',
    '{"id":"ID","inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}',
]
DATA = [
    "[1,2]",
    "[[1],[2]]",
    "[1,2,3]",
    "[1]",
    "[]",
    "1",
    "null",
    '"x"',
    "[1,",
    "[NaN,-1e3]",
    "[ 1 , 2 ]",
    "[1,2]]",
    "{}",
]
IDS = ["a", "", "null", "\\u00e9", "\\ud800", '"', "5", 'b","c":"d', "\x01"]
ENDS = ["", "", "", " ", "}", "x"]

request_texts = st.builds(
    lambda text, values, own, end: (text.replace("DATA", values).replace("ID", own) + end).encode(),
    st.sampled_from(TEXTS),
    st.sampled_from(DATA),
    st.sampled_from(IDS),
    st.sampled_from(ENDS),
)


@given(st.lists(st.tuples(request_texts, st.booleans()), min_size=1, max_size=12))
def test_a_request_means_the_same_whatever_came_before(requests: list[tuple[bytes, bool]]):
    known = mirror({"x": DType.FLOAT})
    for text, binary in requests:
        headers = {LENGTH: str(len(text))} if binary else {}
        body = text + b"\0\0\x80?\0\0\0@" if binary and b"binary_data_size" in text else text
        fresh = call(mirror({"x": DType.FLOAT}), "POST", INFER, body, headers=headers)
        again = call(known, "POST", INFER, body, headers=headers)
        assert (again.status, again.headers, again.body) == (fresh.status, fresh.headers, fresh.body)


def test_what_is_kept_of_requests_is_bounded():
    engine = FakeEngine()
    specs = (TensorSpec("x", DType.FLOAT, None),)
    lease = engine.add("m", 1, Signature(specs, specs), lambda inputs: inputs)
    protocol = OpenInference(engine)
    for n in range(600):
        tensor = np.zeros((1, n), np.float32)
        json_body = {"inputs": [entry("x", tensor, DType.FLOAT, data=tensor.tolist())]}
        assert call(protocol, "POST", INFER, json.dumps(json_body).encode()).status == 200
        binary = {"inputs": [entry("x", tensor, DType.FLOAT, parameters={"binary_data_size": tensor.nbytes})]}
        binary["parameters"] = {"binary_data_output": True}  # type: ignore[assignment]
        head = json.dumps(binary).encode()
        body = head + tensor.tobytes()
        assert call(protocol, "POST", INFER, body, headers={LENGTH: str(len(head))}).status == 200
    plan = lease.codecs["oip"]
    assert len(plan.templates) <= 8
    assert 0 < len(plan.asked) <= 128
    assert 0 < len(plan.all_binary.heads) <= 128


def test_long_requests_are_not_kept():
    engine = FakeEngine()
    specs = (TensorSpec("x", DType.FLOAT, None),)
    lease = engine.add("m", 1, Signature(specs, specs), lambda inputs: inputs)
    body = {"inputs": [entry("x", np.zeros(1), DType.FLOAT, data=[1])], "mine": "x" * 5000}
    assert call(OpenInference(engine), "POST", INFER, json.dumps(body).encode()).status == 200
    assert lease.codecs["oip"].templates == []


# ---- hostile bodies -------------------------------------------------------------------------------------------------


def refused(response: Response) -> None:
    """200, or an error in the shape that clients show."""
    assert response.status in (200, 400, 501), response.body[:300]
    if response.status != 200:
        assert list(json.loads(response.body)) == ["error"]


HEAD = json.dumps({"inputs": [entry("x", np.zeros((2, 2)), DType.FLOAT, parameters={"binary_data_size": 16})]}).encode()
lengths = st.integers(-5, len(HEAD) + 20).map(str) | st.sampled_from([str(n) for n in HUGE]) | st.text(max_size=6)


@given(lengths, st.binary(max_size=40))
def test_any_header_length(length: str, tail: bytes):
    refused(call(mirror({"x": DType.FLOAT}), "POST", INFER, HEAD + tail, headers={LENGTH: length}))


@given(
    st.lists(st.integers(-1, 5) | st.sampled_from(HUGE), max_size=4),
    st.integers(-2, 70) | st.sampled_from(HUGE),
    st.binary(max_size=64),
    st.sampled_from(list(DType)),
)
def test_any_shape_and_size(shape: list[int], size: int, tail: bytes, dtype: DType):
    member = {"name": "x", "shape": shape, "datatype": DATATYPES[dtype], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [member]}).encode()
    refused(call(mirror({"x": dtype}), "POST", INFER, head + tail, headers={LENGTH: str(len(head))}))


@given(st.binary(max_size=200), st.none() | st.integers(0, 200).map(str))
def test_no_body_is_more_than_an_error(body: bytes, length: str | None):
    for dtype in (DType.FLOAT, DType.STRING):
        refused(call(mirror({"x": dtype}), "POST", INFER, body, headers={} if length is None else {LENGTH: length}))


WORDS = ["inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data", "x", "FP32", "binary_data_size"]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.sampled_from([*WORDS, *HUGE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=12,
)
members = st.dictionaries(st.sampled_from(WORDS), values, max_size=4)


@given(
    st.fixed_dictionaries({"inputs": st.lists(st.just(json.loads(HEAD)["inputs"][0]) | members, max_size=2)}), members
)
def test_no_mixture_of_the_right_words_is_more_than_an_error(inputs: dict[str, Any], others: dict[str, Any]):
    body = json.dumps({**others, **inputs}).encode()
    refused(call(mirror({"x": DType.FLOAT}), "POST", INFER, body))
    refused(call(mirror({"x": DType.FLOAT}), "POST", INFER, body + bytes(16), headers={LENGTH: str(len(body))}))


# ---- raw, strict, and what the engine is told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "batchable", "size", "expected"),
    [
        ((-1, 4), True, 32, (2, 4)),
        ((-1, -1), True, 12, (1, 3)),
        ((-1, -1), False, 12, None),
        ((2, -1), False, 24, (2, 3)),
        ((2, 2), False, 16, (2, 2)),
        ((2, 2), False, 20, None),
        ((), False, 4, ()),
        ((-1, 0), True, 0, None),
        ((-1, 4), True, 30, None),
        (None, True, 16, None),
    ],
)
def test_the_shape_of_a_raw_request(shape: Any, batchable: bool, size: int, expected: tuple[int, ...] | None):
    engine = FakeEngine()
    specs = (TensorSpec("x", DType.FLOAT, shape),)
    lease = engine.add("m", 1, Signature(specs, specs), lambda inputs: inputs)
    lease.batching = type(lease.batching)(batchable=batchable, reason="")
    response = call(OpenInference(engine), "POST", INFER, bytes(size), headers={LENGTH: "0"})
    if expected is None:
        assert response.status == 400
    else:
        assert parts(response)[0]["outputs"][0]["shape"] == list(expected)


@pytest.mark.parametrize("number", ["NaN", "Infinity", '"NaN"', '"-Infinity"'])
def test_a_strict_model_reads_no_nan(number: str):
    text = f'{{"inputs":[{{"name":"x","shape":[2],"datatype":"FP32","data":[1,{number}]}}]}}'.encode()
    strict = server({"x": DType.FLOAT}, {"x": DType.FLOAT}, lambda inputs: inputs, strict=True)
    assert call(mirror({"x": DType.FLOAT}), "POST", INFER, text).status == 200
    for _ in range(2):
        assert call(strict, "POST", INFER, text.replace(number.encode(), b"2")).status == 200
        assert call(strict, "POST", INFER, text).status == 400


def test_requests_that_begin_like_others_mean_what_they_say():
    """Data stands first, as where members are sorted: what it is comes after it."""
    protocol = mirror({"a": DType.FLOAT, "b": DType.STRING})
    numbers = {"data": [1.5], "datatype": "FP32", "name": "a", "shape": [1]}
    texts = {"data": ["x"], "datatype": "BYTES", "name": "b", "shape": [1]}
    for _ in range(3):
        for inputs in ([numbers, texts], [texts, numbers]):
            told, _ = parts(call(protocol, "POST", INFER, json.dumps({"inputs": inputs}).encode()))
            assert [output["data"] for output in told["outputs"]] == [[1.5], ["x"]]


def test_what_does_not_fit_a_request_that_came_before_is_told_with_its_place():
    protocol = mirror({"a": DType.FLOAT})
    for data, told in (([1.5], 200), (["x"], b"$.inputs[0].data[0]"), ([1, 2], b"$.inputs[0].data"), ([2], 200)):
        body = {"id": "i", "inputs": [{"data": data, "datatype": "FP32", "name": "a", "shape": [1]}]}
        answer = call(protocol, "POST", INFER, json.dumps(body).encode())
        assert answer.status == told if isinstance(told, int) else told in answer.body


@pytest.mark.parametrize(
    ("parameters", "deadline_ns", "wait_ns", "priority"),
    [
        ({}, 0, 0, 0),
        ({}, 500, 0, 0),
        ({"timeout": 3}, 0, 3000, 0),
        ({"timeout": 3}, 500, 3000, 0),
        ({"timeout": 0, "priority": 0}, 9000, 0, 0),
        ({"timeout": 2**64 - 1}, 0, 2**62, 0),
        ({"priority": 1}, 0, 0, 2**31 - 1),
        ({"priority": 2}, 0, 0, 2**31 - 2),
        ({"priority": 2**64 - 1}, 0, 0, 1),
    ],
)
def test_timeout_and_priority_reach_the_engine(
    parameters: dict[str, int], deadline_ns: int, wait_ns: int, priority: int
):
    engine = FakeEngine()
    specs = (TensorSpec("x", DType.FLOAT, None),)
    engine.add("m", 1, Signature(specs, specs), lambda inputs: inputs)
    protocol = OpenInference(engine)
    body = {"inputs": [entry("x", np.zeros(1), DType.FLOAT, data=[1])], "parameters": parameters}
    for _ in range(2):
        call(protocol, "POST", INFER, json.dumps(body).encode(), deadline_ns=deadline_ns)
    told = [(one.deadline_ns, one.wait_ns, one.priority) for one in engine.submitted]
    assert told == [(deadline_ns, wait_ns, priority)] * 2
