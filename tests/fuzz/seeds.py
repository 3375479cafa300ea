"""Where fuzzing begins: inputs that are right, and those of the case files."""

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.lanes import LANE_FORMS, MARK
from tests.fuzz.targets import CONFIGS, MODELS, OIP_CALLS, TFSERVING_CALLS, TYPES
from tests.support import models

ROOT = Path(__file__).parents[2]
NOT_SAID = b"\xff\xff"

NUMBERS = ("0", "-0.0", "1e400", "1e-400", "9223372036854775808", "18446744073709551616", "NaN", "-Infinity", "1" * 400)
TEXTS = (
    "[[1,2],[3,4]]",
    "[[1.5,-2e3],[0.1,1e22]]",
    '["a","\\u00e9\\ud83d\\ude00",{"b64":"aGVsbG8="}]',
    "[true,false]",
    '[{"a":1,"b":"x","c":true},{"a":2,"b":"y","c":false}]',
    "[[[1,2,3],[4,5,6]]]",
    "[]",
    '"x"',
    '{"a":1}',
    "[" * 70 + "]" * 70,
    *(f"[[{number},1]]" for number in NUMBERS),
)


def seeds(target: str) -> Iterator[bytes]:
    """The inputs that a target begins with."""
    yield from MADE[target]()


def _json_texts() -> Iterator[bytes]:
    for text in TEXTS:
        yield text.encode()


def _strings() -> Iterator[bytes]:
    for text in (
        '"a\\n\\u0041\\ud83d\\ude00"',
        '{"b64": "aGVsbG8="}',
        "aGVsbG8",
        "aGVs bG8=",
        "a-_.",
        '{"\\u0062\\u0036\\u0034":""}',
    ):
        yield text.encode()


def _floats() -> Iterator[bytes]:
    for value in (0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308, 2.0**-126, float("nan"), float("inf")):
        yield struct.pack("<d", value)
        yield struct.pack("<f", np.float32(min(value, 3e38)))


def _tfserving() -> Iterator[bytes]:
    for model in range(len(MODELS)):
        for verb in range(len(TFSERVING_CALLS)):
            for text in TEXTS[:10]:
                member = "instances" if verb == 0 else "examples"
                yield bytes([model, verb]) + f'{{"{member}": {text}, "signature_name": "serving_default"}}'.encode()
        yield bytes([model, 0]) + b'{"inputs": {"a": [[1]], "b": [["x"]], "c": [[true]]}}'
        yield bytes([model, 1]) + b'{"context": {"x": 1}, "examples": [{"y": [1, 2]}, {"x": {"b64": "aGk="}}]}'


def _oip() -> Iterator[bytes]:
    for model, specs in enumerate(MODELS.values()):
        for verb in range(len(OIP_CALLS)):
            inputs = [{"name": spec.name, "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} for spec in specs]
            yield bytes([model, verb, 0]) + NOT_SAID + json.dumps({"id": "1", "inputs": inputs}).encode()
            yield bytes([model, verb, 1]) + NOT_SAID + b'{"inputs": [[1, 2]], "outputs": ["x"]}'
            yield bytes([model, verb, 1]) + NOT_SAID + b'{"inputs": [{"a": 1, "b": "x", "c": true}]}'
        yield bytes([model, 0, 2]) + b"\0\0" + bytes(16)
        yield from _binary(model)
    for kind in range(len(TYPES)):
        yield bytes([1, 0, kind]) + NOT_SAID + _image("PNG")


def _lanes() -> Iterator[bytes]:
    """Right ones, and each way of being wrong between them."""
    for form, (_, right) in enumerate(LANE_FORMS.values()):
        body = right(7)[0]
        wrong = (body[:-1], body + b" ", body.replace(b"7", b"NaN", 1), body.replace(b"7", b"1e400"), b"{", b"[" * 200)
        for waits in b"sw":
            yield bytes([form, waits]) + MARK * 4
            for one in wrong:
                yield bytes([form, waits]) + MARK.join([b"", one, b"", body, one, b""])


def _binary(model: int) -> Iterator[bytes]:
    words = b"\3\0\0\0abc\0\0\0\0"
    for datatype, shape, data in (("FP32", [1, 2], bytes(8)), ("BYTES", [2], words), ("BOOL", [2, 1], b"\0\7")):
        entry = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
        text = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
        yield bytes([model, 0, 0]) + struct.pack("<H", len(text)) + text + data


def _events() -> Iterator[bytes]:
    for path in range(5):
        yield bytes([path]) + b'{"model": "floats", "operation": "infer", "inputs": [[1, 2]]}'


def _spice() -> Iterator[bytes]:
    yield b'{"predictions": [{"model_name": "m"}, {"model_name": "\\u00e9", "x": [1]}]}'
    yield b"[]"
    yield b"{}"


def _log_records() -> Iterator[bytes]:
    """The bodies of the protocol's case files that are small."""
    ways = ("/v1/log", "/v1/bulk", "/v1/preprod", "/v1/pandas_arrow")
    for file in sorted((ROOT / "tests/protocols/cases/arize").glob("*.json")):
        for case in json.loads(file.read_text()):
            request = case["request"]
            text = request.get("text") or json.dumps(request.get("json"))
            if request.get("path") in ways and len(text) < 2000:
                yield bytes([ways.index(request["path"])]) + text.replace("@now-", "").encode()


def _tensors() -> Iterator[bytes]:
    for kind in range(14):
        yield bytes([kind, 2, 2, 1, 0, 1]) + b"\0" + bytes(16)
        yield bytes([kind, 1, 2, 0, 0, 0]) + b"\3\0\0\0abc\1\0\0\0\xff"


def _bodies() -> Iterator[bytes]:
    plain = b'{"instances": [1, 2, 3]}' * 4
    for kind, body in enumerate(
        (gzip.compress(plain, mtime=0), zlib.compress(plain), gzip.compress(bytes(70_000), mtime=0))
    ):
        yield bytes([kind]) + body
    yield b"\1" + zlib.compress(plain)[2:-4]


def _image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(file, kind)
    return file.getvalue()


def _images() -> Iterator[bytes]:
    for kind in ("PNG", "JPEG", "WEBP"):
        for index in range(3):
            yield bytes([index]) + _image(kind)


def _paths() -> Iterator[bytes]:
    for method in range(5):
        for path in ("v1/models/m:predict", "v1/models/m/versions/1/metadata", "v2/models/m/infer", "v2", "", "readyz"):
            yield bytes([method]) + path.encode()
        yield bytes([method]) + b"v1/models/../../etc/passwd:predict"


def _models() -> Iterator[bytes]:
    for model in (models.tiny(), models.two_inputs(), models.external("../x"), models.external("weights.bin")):
        yield bytes(model.SerializeToString())
    yield b"\x3a\xff\xff\xff\xff\x0f" + bytes(1 << 8)


def _configurations() -> Iterator[bytes]:
    for index, name in enumerate(CONFIGS):
        for text in WRITTEN.get(name, ()):
            yield bytes([index]) + text.encode()
    yield bytes([list(CONFIGS).index("fastserve.toml")]) + (ROOT / "examples" / "fastserve.toml").read_bytes()


WRITTEN: Mapping[str, tuple[str, ...]] = {
    "config.pbtxt": (
        'name: "m"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\ninput [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]',
        "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }\nversion_policy: { all {} }",
        'parameters { key: "a" value: { string_value: "b" } } # a comment\ninstance_group [ { count: 2 kind: KIND_CPU } ]',
    ),
    "models.config": (
        'model_config_list { config { name: "m" base_path: "/models/m" model_platform: "onnx" } }',
        'model_config_list: { config: { name: "m", base_path: "m", model_version_policy: { specific: { versions: 1 } } '
        'version_labels { key: "stable" value: 1 } } }',
    ),
    "batching.config": (
        "max_batch_size { value: 128 } batch_timeout_micros { value: 0 } num_batch_threads { value: 8 }",
    ),
    "monitoring.config": ('prometheus_config { enable: true path: "/metrics" }',),
    "model-settings.json": (
        '{"name": "m", "implementation": "x.Y", "parameters": {"uri": "./m.onnx", "version": "v1"}}',
    ),
    "fastserve.toml": ('[server]\nport = 8000\n[[models]]\nname = "m"\npath = "m"\nlabels = { stable = 1 }\n',),
    "spicepod.yaml": (
        "version: v1\nkind: Spicepod\nname: x\nmodels:\n  - from: file:m.onnx\n    name: m\n    datasets: [d]\n"
        "datasets:\n  - from: file:d.csv\n    name: d\n",
    ),
}

MADE: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "json_tensor": _json_texts,
    "strings": _strings,
    "float_text": _floats,
    "tfserving_calls": _tfserving,
    "oip_calls": _oip,
    "lanes": _lanes,
    "events": _events,
    "spice_bodies": _spice,
    "log_records": _log_records,
    "binary_tensors": _tensors,
    "bodies": _bodies,
    "image_files": _images,
    "paths": _paths,
    "model_files": _models,
    "configurations": _configurations,
}
