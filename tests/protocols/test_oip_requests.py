"""Any Open Inference request, JSON or binary, whole or damaged: what onnxruntime itself answers, or a 4xx that says why.

FASTSERVE_TEST_REQUESTS: how many of each kind, for a long run. FASTSERVE_TEST_DOOR=server asks a served process.
"""

import copy
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastserve.config import load_config
from fastserve.server.app import create_app
from fastserve.types import DType, Signature, Tensor, TensorSpec
from tests.protocols.case_models import DTYPES, write_repository
from tests.reference import oip
from tests.support.doors import Answer, AsgiDoor, Door, HttpDoor, Sent
from tests.support.server import ServerProcess

EXAMPLES = int(os.environ.get("FASTSERVE_TEST_REQUESTS", "150"))
LENGTH = "inference-header-content-length"
MODELS = (
    *(f"same_{name}" for name in DTYPES),
    *("four", "half_plus", "pair", "columns", "features", "choice", "choice_named", "labelled", "scalar", "unequal"),
    *("wide", "column", "once", "cube", "positive_twice", "image", "grey", "eight"),
)
SESSIONS: dict[str, onnxruntime.InferenceSession] = {}
TYPES = {
    "tensor(float)": DType.FLOAT,
    "tensor(double)": DType.DOUBLE,
    "tensor(float16)": DType.FLOAT16,
    "tensor(bfloat16)": DType.BFLOAT16,
    "tensor(string)": DType.STRING,
    "tensor(bool)": DType.BOOL,
    **{f"tensor({name})": DType[name.upper()] for name in DTYPES if name.lstrip("u").startswith("int")},
}
many = settings(max_examples=EXAMPLES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("requests")).parent


@pytest.fixture(scope="module")
def door(root: Path) -> Iterator[Door]:
    config = str(root / "fastserve.toml")
    if os.environ.get("FASTSERVE_TEST_DOOR") == "server":
        with ServerProcess(config) as server:
            yield from opened(HttpDoor(server))
    else:
        yield from opened(AsgiDoor(create_app(load_config(file=config, env={}))))


def opened(door: Door) -> Iterator[Door]:
    door.open()
    yield door
    door.close()


def session(root: Path, model: str) -> onnxruntime.InferenceSession:
    if model not in SESSIONS:
        folder = root / "models" / model
        version = 2 if model == "half_plus" else 1
        SESSIONS[model] = onnxruntime.InferenceSession(str(folder / str(version) / "model.onnx"))
    return SESSIONS[model]


def signature(root: Path, model: str) -> Signature:
    found = session(root, model)

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(one.name, TYPES[one.type], None) for one in values)

    return Signature(specs(found.get_inputs()), specs(found.get_outputs()))


def run(root: Path, model: str, inputs: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """What onnxruntime answers; None where it refuses. bfloat16 it does not take from NumPy: those models are identities."""
    if "bfloat16" in model:
        return {"y": inputs["x"]}
    found = session(root, model)
    try:
        outputs = found.run(None, inputs)
    except Exception:
        return None
    return dict(zip((one.name for one in found.get_outputs()), outputs, strict=True))


# ---- what is sent -----------------------------------------------------------------------------------------------------


@st.composite
def arrays(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    if dtype is DType.STRING:
        texts = np.empty(shape, object)
        for place in np.ndindex(shape):
            texts[place] = draw(st.text(st.characters(codec="utf-8"), max_size=4))
        return texts
    kind = np.dtype(np.float32) if dtype is DType.BFLOAT16 else dtype.numpy
    found: Tensor = draw(hnp.arrays(kind, shape))
    return (found.view(np.uint32) >> 16).astype(np.uint16) if dtype is DType.BFLOAT16 else found


def plain(tensor: Tensor) -> Any:
    """As JSON has it."""
    return (tensor.astype(np.uint32) << 16).view(np.float32).tolist() if tensor.dtype == np.uint16 else tensor.tolist()


@st.composite
def requests(draw: st.DrawFn, root: Path) -> tuple[str, dict[str, Any], bytes]:
    """A model, a JSON that asks it, and what follows that."""
    model = draw(st.sampled_from(MODELS))
    rows = draw(st.integers(0, 3))
    free: dict[Any, int] = {}
    body: dict[str, Any] = {"inputs": []}
    tail = b""
    for one in draw(st.permutations(session(root, model).get_inputs())):
        shape = tuple(
            size if isinstance(size, int) else rows if size == "N" else free.setdefault(size, draw(st.integers(0, 3)))
            for size in one.shape
        )
        if model.startswith("same_") and model != "same_bytes":
            shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        dtype = TYPES[one.type]
        tensor = draw(arrays(dtype, shape))
        entry: dict[str, Any] = {"name": one.name, "shape": list(shape), "datatype": oip.NAMES[dtype]}
        if draw(st.booleans()):
            part = oip.packed(tensor)
            entry["parameters"] = {"binary_data_size": len(part)}
            tail += part
        else:
            data = tensor.astype(np.uint16) if dtype is DType.BFLOAT16 else tensor
            nested = plain(data) if dtype is DType.BFLOAT16 else data.tolist()
            flat = np.asarray(plain(data.reshape(-1)) if dtype is DType.BFLOAT16 else data.reshape(-1).tolist(), object)
            entry["data"] = nested if shape and draw(st.booleans()) else flat.tolist()
        body["inputs"].append(dict(draw(st.permutations(list(entry.items())))))
    if draw(st.booleans()):
        body["id"] = draw(st.text(st.characters(codec="utf-8"), max_size=6))
    if draw(st.booleans()):
        body["parameters"] = {
            "binary_data_output": draw(st.booleans()),
            "mine": draw(st.sampled_from([1, "x", None, 0.5])),
        }
    if draw(st.booleans()):
        names = [one.name for one in session(root, model).get_outputs()]
        chosen = draw(st.lists(st.sampled_from(names), unique=True))
        told = st.sampled_from([{}, {"parameters": {"binary_data": True}}, {"parameters": {"binary_data": False}}])
        body["outputs"] = [{"name": name, **draw(told)} for name in chosen]
    return model, body, tail


def sent(model: str, text: bytes, tail: bytes, coding: str = "") -> Sent:
    headers = {LENGTH: str(len(text))} if tail else {}
    body = text + tail
    if coding:
        headers["content-encoding"] = coding
        packer = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
        body = packer.compress(body) + packer.flush()
    return Sent("POST", f"/v2/models/{model}/infer", headers, body)


# ---- what is expected -------------------------------------------------------------------------------------------------


def check(root: Path, model: str, text: bytes, tail: bytes, answer: Answer) -> None:
    """The answer is what onnxruntime says; where the twin or onnxruntime refuses, a 400."""
    expected = None
    try:
        asked = oip.read(text, tail, signature(root, model))
        expected = run(root, model, asked.inputs)
    except oip.Refused:
        pass
    if expected is None or answer.status != 200:
        assert answer.status == 400, (answer.status, answer.body[:500])
        told = json.loads(answer.body)
        assert list(told) == ["error"]
        assert told["error"]
        # More is refused than onnxruntime does: unequal numbers of rows, which it would stretch.
        assert expected is None or "number of rows" in told["error"] or "expected shape" in told["error"], told
        return
    told, outputs = oip.answered(answer.body, int(answer.headers.get(LENGTH, len(answer.body))))
    assert told.get("id", "") == asked.id
    assert [entry["name"] for entry in told["outputs"]] == [name for name, _ in asked.outputs]
    for entry, (name, binary) in zip(told["outputs"], asked.outputs, strict=True):
        assert ("data" not in entry) == binary
        same(outputs[name], expected[name])


def same(ours: Tensor, theirs: Tensor) -> None:
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    if ours.dtype.kind == "f":
        np.testing.assert_array_equal(ours, theirs)
    elif ours.dtype == np.uint16:  # bfloat16 among them, whose NaNs come back as another one
        wide = [(one.astype(np.uint32) << 16).view(np.float32) for one in (ours, theirs)]
        assert ((ours == theirs) | (np.isnan(wide[0]) & np.isnan(wide[1]))).all()
    else:
        assert ours.tolist() == theirs.tolist()


@many
@given(st.data())
def test_whole_requests_are_answered_as_onnxruntime_does(root: Path, door: Door, data: st.DataObject) -> None:
    model, body, tail = data.draw(requests(root))
    text = json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode()
    answer = door.send(sent(model, text, tail, data.draw(st.sampled_from(["", "", "", "gzip", "deflate"]))))
    check(root, model, text, tail, answer)


ODD = [
    None,
    True,
    -1,
    0,
    1,
    2,
    2**31,
    2**40,
    2**63,
    2**64,
    1.5,
    1e30,
    "",
    "x",
    "NaN",
    "FP32",
    "y",
    [],
    [1],
    [[1], [2, 3]],
    {},
]
MEMBERS = ["id", "inputs", "outputs", "parameters", "name", "shape", "datatype", "data", "binary_data_size", "timeout"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a tree."""
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def odd() -> st.SearchStrategy[Any]:
    """One of them, each its own: what is put there may be damaged next."""
    return st.sampled_from(ODD).map(copy.deepcopy)


@st.composite
def damaged(draw: st.DrawFn, body: dict[str, Any]) -> Any:
    """The body with one to three things in it left out, put there, or others."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([place for place in places(body) if place] or [("inputs",)]))
        holder = body
        for key in path:
            holder = holder[key]
        what = draw(st.sampled_from(["change", "change", "leave out", "put there"]))
        if what == "leave out" and holder:
            holder.pop(last, None) if isinstance(holder, dict) else holder.pop(last)
        elif what == "put there" and isinstance(holder, dict):
            holder[draw(st.sampled_from(MEMBERS))] = draw(odd())
        elif what == "put there":
            holder.insert(last, draw(odd()))
        else:
            holder[last] = draw(odd())
    return body


@many
@given(st.data())
def test_damaged_requests_are_read_as_the_twin_reads_them(root: Path, door: Door, data: st.DataObject) -> None:
    model, body, tail = data.draw(requests(root))
    body = data.draw(damaged(body))
    if data.draw(st.integers(0, 9)) == 0:
        tail = tail[: data.draw(st.integers(0, len(tail)))] + data.draw(st.binary(max_size=3))
    text = json.dumps(body).encode()
    answer = door.send(sent(model, text, tail))
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if answer.status in (501, 504) or (
        isinstance(inputs, list) and inputs and not isinstance(inputs[0], dict) and not tail
    ):
        assert answer.status in (200, 400, 501, 504), answer  # shared memory, a microsecond's time, MLRun's lists
    else:
        check(root, model, text, tail, answer)


PIECES = [b"", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"0", b"-", b".", b"e9", b"\0", b"\xff", b"null", b" "]


@many
@given(st.data())
def test_no_bytes_at_all_are_our_own_fault(root: Path, door: Door, data: st.DataObject) -> None:
    model, body, tail = data.draw(requests(root))
    text = bytearray(json.dumps(body).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 4))] = data.draw(st.sampled_from(PIECES))
    request = sent(model, bytes(text), tail)
    length = data.draw(
        st.sampled_from([None, None, None, "0", "-1", "x", "1", str(len(text)), str(len(text) + 1), "9" * 30])
    )
    headers = {**request.headers, **({} if length is None else {LENGTH: length})}
    call = data.draw(st.sampled_from(["infer", "infer", "predict", "infer_dict", "generate", "infer_stream"]))
    kind = data.draw(st.sampled_from(["application/json", "application/octet-stream", "image/png", ""]))
    answer = door.send(
        Sent(
            "POST", f"/v2/models/{model}/{call}", {**headers, **({"content-type": kind} if kind else {})}, request.body
        )
    )
    assert answer.status in (200, 400, 501, 504), (answer.status, answer.body[:500])
    if answer.status != 200:
        assert list(json.loads(answer.body)) == ["error"]
