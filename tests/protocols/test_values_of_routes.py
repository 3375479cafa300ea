"""Values at the edge of what any number, shape or string can be, on every way into a model: the exact value, or 400 by name.

What is right is what Python and NumPy make of the same text; no way has its own opinion.
"""

import base64
import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T

from fastserve import limits
from fastserve.config import load_config
from fastserve.server.app import create_app
from tests.protocols.test_limits_of_routes import IDS, POSTS
from tests.support import models
from tests.support.doors import Answer, AsgiDoor, Sent

DTYPES: Mapping[str, tuple[int, str]] = {
    "float32": (T.FLOAT, "FP32"),
    "float64": (T.DOUBLE, "FP64"),
    "int32": (T.INT32, "INT32"),
    "int64": (T.INT64, "INT64"),
    "uint64": (T.UINT64, "UINT64"),
}
RANK = (1,) * (limits.MAX_RANK - 1)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    folder = tmp_path_factory.mktemp("values")
    for name, (dtype, _) in DTYPES.items():
        models.save(models.identity(dtype, ("N",)), folder / "models" / name / "1")
    models.save(models.identity(T.STRING, ("N",)), folder / "models" / "words" / "1")
    models.save(models.identity(T.FLOAT, ("N", *RANK)), folder / "models" / "deep" / "1")
    door = AsgiDoor(create_app(load_config([str(folder / "models")], options={"log_dir": str(folder / "log")})))
    door.open()
    yield door
    door.close()


def post(door: AsgiDoor, path: str, body: str | bytes, **headers: str) -> Answer:
    data = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return door.send(Sent("POST", path, {"content-type": "application/json", **named}, data))


def tensor(datatype: str, shape: str, rest: str) -> str:
    return f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},{rest}}}]}}'


# --- R3: numbers

WAYS: Mapping[str, tuple[str, Callable[[str, str], str], str]] = {
    "rows": ("/v1/models/{}:predict", lambda _, text: f'{{"instances":[{text}]}}', "predictions"),
    "rows by name": ("/v1/models/{}:predict", lambda _, text: f'{{"instances":[{{"x":{text}}}]}}', "predictions"),
    "columns": ("/v1/models/{}:predict", lambda _, text: f'{{"inputs":[{text}]}}', "outputs"),
    "columns by name": ("/v1/models/{}:predict", lambda _, text: f'{{"inputs":{{"x":[{text}]}}}}', "outputs"),
    "a tensor": ("/v2/models/{}/infer", lambda kind, text: tensor(kind, "[1]", f'"data":[{text}]'), "data"),
    "a list": ("/v2/models/{}/infer", lambda _, text: f'{{"inputs":[{text}]}}', "outputs"),
}
NUMBERS = (
    *("0", "-0", "0.0", "-0.0", "1e400", "-1e400", "1e-400", "-1e-400", "NaN", "Infinity", "-Infinity"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "18446744073709551616", "2147483647", "2147483648", "-2147483648", "-2147483649"),
    *("3.4028235e38", "3.5e38", "1e38", "1e39", "1.7976931348623157e308", "1e309", "5e-324", "1e-46"),
    *("9" * 10_000, "-" + "9" * 10_000, "1" + "0" * 300, "0." + "1" * 10_000, "1e" + "9" * 10_000),
    *("0e" + "9" * 10_000, "0." + "0" * 10_000 + "1", "1" * 25),
)


def expected(kind: "np.dtype[Any]", text: str) -> Any:
    """The number that this text is for that type; None where there is none."""
    if kind.kind != "f":
        whole = text.lstrip("-").isdigit()
        bounds = np.iinfo(kind)
        return kind.type(text) if whole and len(text) < 100 and bounds.min <= int(text) <= bounds.max else None
    if text.lstrip("-")[0].isdigit() and np.isinf(float(text)):
        return None
    with np.errstate(
        over="ignore"
    ):  # what a double holds and a float does not is infinite, as TensorFlow Serving has it
        return kind.type(float(text))


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("way", list(WAYS))
def test_numbers_are_what_they_say_or_refused_by_name(door: AsgiDoor, way: str, dtype: str):
    path, body, answers = WAYS[way]
    kind = np.dtype(dtype)
    for text in NUMBERS:
        answer = post(door, path.format(dtype), body(DTYPES[dtype][1], text))
        right = expected(kind, text)
        found = json.loads(answer.body)
        if right is None:
            assert answer.status == 400, (text[:40], answer.body[:200])
            assert "$.in" in found["error"] or "too large for a double at offset" in found["error"]
            assert len(answer.body) < 1000
        else:
            assert answer.status == 200, (text[:40], answer.body[:200])
            (value,) = found["outputs"][0]["data"] if answers == "data" else found[answers]
            assert repr(kind.type(value)) == repr(right), text[:40]


# --- R2: depth


def test_a_tensor_of_as_many_dimensions_as_there_can_be(door: AsgiDoor):
    rows = "[" * limits.MAX_RANK + "1.5" + "]" * limits.MAX_RANK
    deeper = f"[{rows}]"
    shape = json.dumps([1] * limits.MAX_RANK)
    for path, body, bad in (
        ("/v1/models/deep:predict", f'{{"instances":{rows}}}', f'{{"instances":{deeper}}}'),
        ("/v1/models/deep:predict", f'{{"inputs":{rows}}}', f'{{"inputs":{deeper}}}'),
        ("/v2/models/deep/infer", tensor("FP32", shape, f'"data":{rows}'), tensor("FP32", shape, f'"data":{deeper}')),
    ):
        assert post(door, path, body).status == 200, path
        refused = post(door, path, bad)
        assert refused.status == 400, path
        assert len(refused.body) < 1000


LARGE = 600_000


def peak_kb() -> int:
    """The most memory that this process has had since it was last asked."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1])


@pytest.mark.parametrize(("path", "route"), POSTS, ids=IDS)
def test_nesting_without_end_takes_the_time_and_the_memory_of_reading_it(door: AsgiDoor, path: str, route: Any):
    post(door, path, b"[")  # what is imported once
    texts = (
        "[" * LARGE,
        '{"x":' * (LARGE // 5),
        '{"inputs":%s' % ("[" * LARGE),
        '{"z":%s}' % ("[" * LARGE + "]" * LARGE),
    )
    for text in texts:
        body = text.encode()
        peak_kb()
        before = peak_kb()
        began = time.process_time()
        answer = post(door, path, body)
        took = time.process_time() - began
        assert answer.status in (200, 400, 404, 422, 501), (body[:40], answer.body[:200])
        assert peak_kb() - before < 4 * len(body) / 1024 + 8192, body[:40]
        assert took < 2, "so long is no reading of half a megabyte"
        assert len(answer.body) < 20_000


# --- R4: shapes

FOUR = struct.pack("<f", 1.5)
HUGE = (1 << 62, 1 << 63, 1 << 64, 10**30)
SHAPES = (
    "[-1]",
    "[-1,-1]",
    "[-2,-1]",
    "[2]",
    "[0]",
    "[1,1]",
    "[]",
    json.dumps([1] * 65),
    "[1.0]",
    '["1"]',
    "null",
    "1",
    "[[1]]",
)
PRODUCTS = [json.dumps([1 << 62, 1 << 62]), json.dumps([1 << 32, 1 << 32]), json.dumps([0, 1 << 63]), "[4294967297]"]
PRODUCTS += [json.dumps([size]) for size in HUGE] + [json.dumps([1 << 61, 8]), json.dumps([(1 << 63) - 1, 2, 0])]


@pytest.mark.parametrize("shape", [*SHAPES, *PRODUCTS], ids=lambda shape: shape[:40])
def test_shapes_that_the_data_does_not_fill_are_refused_by_name(door: AsgiDoor, shape: str):
    for data, binary in (("[1.5]", FOUR), ("[]", b"")):
        head = tensor("FP32", shape, f'"parameters":{{"binary_data_size":{len(binary)}}}')
        length = {"Inference_Header_Content_Length": str(len(head))}
        for answer in (
            post(door, "/v2/models/float32/infer", tensor("FP32", shape, f'"data":{data}')),
            post(door, "/v2/models/float32/infer", head.encode() + binary, **length),
        ):
            if shape == "[0]" and not binary:
                assert answer.status == 200, answer.body
                continue
            assert answer.status == 400, answer.body
            assert b"$.inputs[0]" in answer.body
            assert len(answer.body) < 2000


# --- R7: lengths

SIZES = ("-1", "0", "3", "5", "8", "1e1", "4.0", '"4"', "true", "[4]", *map(str, HUGE), str(-(1 << 63)), "9" * 5000)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size[:20])
def test_sizes_of_binary_data_that_lie_are_refused(door: AsgiDoor, size: str):
    head = tensor("FP32", "[1]", f'"parameters":{{"binary_data_size":{size}}}')
    length = {"Inference_Header_Content_Length": str(len(head))}
    answer = post(door, "/v2/models/float32/infer", head.encode() + FOUR, **length)
    assert answer.status == 400, answer.body
    assert b"binary" in answer.body or b"$.inputs[0]" in answer.body or b"at offset" in answer.body


@pytest.mark.parametrize("by", ["-1", "+1", "-5", "x", "0", "-0", *map(str, HUGE), "9" * 300, " ", "1.0", "0x10", "٣"])
def test_lengths_of_the_json_that_lie_are_refused(door: AsgiDoor, by: str):
    head = tensor("FP32", "[1]", '"parameters":{"binary_data_size":4}')
    told = str(len(head) + int(by)) if by in ("-1", "+1", "-5") else by
    headers = {"inference-header-content-length": told.encode().decode("latin-1"), "content-type": "application/json"}
    answer = door.send(Sent("POST", "/v2/models/float32/infer", headers, head.encode() + FOUR))
    assert answer.status == 400, answer.body
    right = post(door, "/v2/models/float32/infer", head.encode() + FOUR, Inference_Header_Content_Length=str(len(head)))
    assert right.status == 200, right.body


# --- R8: strings


def in_bytes(text: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<I", len(text) if claimed is None else claimed) + text


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "\U0001f600", "a" * (16 << 20)], ids=lambda text: repr(text[:9]))
def test_strings_come_back_as_they_went(door: AsgiDoor, text: str):
    quoted, binary = json.dumps(text), in_bytes(text.encode())
    head = tensor("BYTES", "[1]", f'"parameters":{{"binary_data_size":{len(binary)}}}')
    length = {"Inference_Header_Content_Length": str(len(head))}
    bodies = [
        post(door, "/v1/models/words:predict", f'{{"instances":[{quoted}]}}'),
        post(door, "/v2/models/words/infer", head.encode() + binary, **length),
    ]
    if len(text) < 100:
        b64 = json.dumps({"b64": base64.b64encode(text.encode()).decode()})
        bodies.append(post(door, "/v1/models/words:predict", f'{{"inputs":[{b64}]}}'))
        bodies.append(post(door, "/v2/models/words/infer", tensor("BYTES", "[1]", f'"data":[{quoted}]')))
    for answer in bodies:
        assert strings_of(answer) == [text]


def strings_of(answer: Answer) -> Any:
    """What either protocol answers."""
    found = json.loads(answer.body)
    outputs = found["predictions"] if "predictions" in found else found["outputs"]
    return outputs[0]["data"] if "model_name" in found else outputs


OVERRUN = [in_bytes(b"ab", claimed) for claimed in (1, 3, 4, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)]


@pytest.mark.parametrize(
    "data", [*OVERRUN, b"", b"\0", b"\0\0\0", in_bytes(b"") * 2, in_bytes(b"\xff"), in_bytes(b"\xed\xa0\x80")]
)
def test_strings_whose_lengths_lie_are_refused(door: AsgiDoor, data: bytes):
    head = tensor("BYTES", "[1]", f'"parameters":{{"binary_data_size":{len(data)}}}')
    length = {"Inference_Header_Content_Length": str(len(head))}
    answer = post(door, "/v2/models/words/infer", head.encode() + data, **length)
    assert answer.status == 400, answer.body
    assert b"$.inputs[0]" in answer.body


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '"\\udc00\\ud800"', '"\\u12"', '"\\x"', '"\x00"', '"a', '{"b64":"a"}', '{"b64":"é"}']
)
def test_strings_that_are_none_are_refused(door: AsgiDoor, text: str):
    for path, body in (
        ("/v1/models/words:predict", f'{{"instances":[{text}]}}'),
        ("/v1/models/words:predict", f'{{"inputs":[{text}]}}'),
        ("/v2/models/words/infer", tensor("BYTES", "[1]", f'"data":[{text}]')),
    ):
        answer = post(door, path, body)
        assert answer.status == 400, answer.body
        assert len(answer.body) < 1000
