"""What is fuzzed of the Python layer and the native modules below it: functions of any bytes that must hold what they say.

A target returns for whatever a client or a file may hold; it raises where something is wrong with us. The first bytes choose
(a model, a call, a header), the rest is the body or the file.
"""

import json
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np

from fastserve._ext import binarytensor
from fastserve.backends import skeleton
from fastserve.backends.graph import read_graph
from fastserve.config import mlserver, source, spicepod, tfserving, triton
from fastserve.engine.executor import Executor
from fastserve.errors import FastServeError
from fastserve.http.body import decompressed
from fastserve.http.message import Request, Response
from fastserve.http.routes import Protocol
from fastserve.http.table import PathTable
from fastserve.protocols.arize import rules
from fastserve.protocols.arize.frame import Head, pack
from fastserve.protocols.arize.reader import READERS
from fastserve.protocols.arize.record import read_record
from fastserve.protocols.arize.several import Enclosed, read_bulk, read_lines
from fastserve.protocols.arize.table import Records
from fastserve.protocols.oip import images
from fastserve.protocols.oip.routes import OpenInference
from fastserve.protocols.spice import routes as spice
from fastserve.protocols.tfserving.routes import TfServing
from fastserve.store.frames import Frame, Kind
from fastserve.types import DType, Signature, TensorSpec
from tests.fuzz.lanes import lanes
from tests.reference import binarytensor as reference
from tests.support.fake_engine import FakeEngine, call

Target = Callable[[bytes], None]

LENGTH = "inference-header-content-length"
MAX_BODY_BYTES = 1 << 16

MODELS: Mapping[str, tuple[TensorSpec, ...]] = {
    "floats": (TensorSpec("x", DType.FLOAT, (-1, 2)),),
    "image": (TensorSpec("x", DType.UINT8, (-1, 4, 4, 3)),),
    "words": (TensorSpec("x", DType.STRING, (-1,)),),
    "columns": (
        TensorSpec("a", DType.INT64, (-1, 1)),
        TensorSpec("b", DType.STRING, (-1, 1)),
        TensorSpec("c", DType.BOOL, (-1, 1)),
    ),
    "any": (TensorSpec("x", DType.DOUBLE, None), TensorSpec("y", DType.BFLOAT16, None)),
    "half": (TensorSpec("x", DType.FLOAT16, (-1, -1)),),
    "small": (TensorSpec("x", DType.INT8, (2, 2)), TensorSpec("y", DType.UINT64, ())),
}
TFSERVING_CALLS = ("predict", "classify", "regress")
OIP_CALLS = ("infer", "predict", "infer_dict", "generate", "generate_stream", "infer_stream")
TYPES = ("", "application/json", "application/octet-stream", "image/png", "text/plain")


class AtOnce:
    """An executor that is waited for."""

    def __init__(self) -> None:
        self._executor = Executor(1, "fuzz")

    def post(self, work: Callable[[], None]) -> None:
        done = threading.Event()
        self._executor.post(lambda: (work(), done.set()))
        assert done.wait(60)


@cache
def engine() -> FakeEngine:
    """Models that give what they take; every second one strict."""
    made = FakeEngine()
    made.executor = AtOnce()  # type: ignore[attr-defined]
    for index, (name, specs) in enumerate(MODELS.items()):
        made.add(name, 1, Signature(specs, specs), lambda inputs: inputs).strict = index % 2 == 1
    return made


def fits(response: Response) -> None:
    """An answer that a client may get: no fault of ours, and a body of the type that it says."""
    assert response.status != 500, response.body
    headers = dict(response.headers)
    body = response.body[: int(headers.get(LENGTH, len(response.body)))]
    if headers["content-type"].startswith("application/json"):
        json.loads(body)
    assert response.status == 200 or len(body) < 20_000, "no error grows with its request"


def tfserving_calls(data: bytes) -> None:
    """A model, a verb, and the body."""
    model, verb, body = _chosen(data, (list(MODELS), TFSERVING_CALLS))
    fits(call(_protocol(TfServing), "POST", f"/v1/models/{model}:{verb}", body))


def oip_calls(data: bytes) -> None:
    """A model, a call, a content type, where the JSON ends (two bytes; 65535: not said), and the body."""
    model, verb, kind, body = _chosen(data, (list(MODELS), OIP_CALLS, TYPES))
    end, body = int.from_bytes(body[:2], "little"), body[2:]
    headers = {**({"content-type": kind} if kind else {}), **({LENGTH: str(end)} if end != 65535 else {})}
    fits(call(_protocol(OpenInference), "POST", f"/v2/models/{model}/{verb}", body, headers=headers))


def events(data: bytes) -> None:
    """POST /, with a path in the header where the first byte says so."""
    (path, body) = _chosen(data, (("", "/v2/models/floats/infer", "floats", "/v2/models//x", "%2e"),))
    headers = {"mlrun-event-path": path} if path else {}
    fits(call(_protocol(OpenInference), "POST", "/", body, headers=headers))


def spice_bodies(data: bytes) -> None:
    """The body of POST predict."""
    request = Request("POST", "/v1/predict", "", {"content-type": "application/json"}, data, {}, 0, 0)
    _tried(partial(spice._read, request))


def log_records(data: bytes) -> None:
    """A record, an object or lines of several, or a table: what is taken can be read again, and says the same each time."""
    (way, body) = _chosen(data, (list(LOG_WAYS),))
    for kind, payload in _tried(partial(LOG_WAYS[way], body)) or ():
        frame = Frame(kind, NOW_NS, 1 << 20, payload)
        rows = list(READERS[kind](frame))
        assert rows == list(READERS[kind](frame)) or "nan" in repr(rows).lower()
        for row in rows:
            assert row.ts_ns is None or abs(row.ts_ns - NOW_NS) <= (LOG_LIMITS.max_age_days + 1) * 86_400 * 10**9
            msgspec.msgpack.encode(row)


def _one_record(body: bytes) -> list[tuple[int, bytes]]:
    record = read_record(body)
    rules.check(record, NOW_NS, LOG_LIMITS)
    return [(Kind.RECORD, pack(Head("s", "made"), body))]


def _table_of_records(body: bytes) -> list[tuple[int, bytes]]:
    records = Records(body)
    records.check(NOW_NS, LOG_LIMITS)
    return [(Kind.ARROW, pack(Head("s", "made"), body))]


def _enclosed(found: list[Enclosed]) -> list[tuple[int, bytes]]:
    return [(Kind.RECORD, pack(one.head, one.body)) for one in found]


NOW_NS = 1_750_000_000 * 10**9
LOG_LIMITS = rules.Limits()
LOG_WAYS: Mapping[str, Callable[[bytes], list[tuple[int, bytes]]]] = {
    "log": _one_record,
    "bulk": lambda body: _enclosed(read_bulk(body, Head("s"), NOW_NS, LOG_LIMITS)),
    "preprod": lambda body: _enclosed(read_lines(body, Head("s"), NOW_NS, LOG_LIMITS)),
    "table": _table_of_records,
}


def binary_tensors(data: bytes) -> None:
    """Elements of a kind and a shape: as the plain twin reads them."""
    head, body = data[:6].ljust(6, b"\0"), data[6:]
    dtype = list(DType)[head[0] % len(DType)]
    shape = tuple(head[2 : 2 + head[1] % 4])
    offset, size = head[5] % 3, max(0, len(body) - head[5] % 3)
    ours, theirs = _read_both(body, offset, size, dtype, shape)
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes() if dtype is not DType.STRING else list(ours.flat) == list(theirs.flat)


def bodies(data: bytes) -> None:
    """A compressed body: as zlib has it, and never beyond the limit."""
    (encoding, body) = _chosen(data, (("gzip", "deflate", "x-gzip", "identity", "br", "gzip, gzip"),))
    found = _tried(partial(decompressed, body, encoding, MAX_BODY_BYTES))
    assert found is None or len(found) <= MAX_BODY_BYTES
    if found is not None and encoding.endswith("gzip"):
        assert zlib.decompress(body, 32 + zlib.MAX_WBITS) == found


def image_files(data: bytes) -> None:
    """An image, for models of several shapes."""
    (index, body) = _chosen(data, ((0, 1, 2),))
    shapes = ((-1, 4, 4, 3), (1, 1, 8, 8), (-1, -1, -1, 4))
    plan = images.make_plan(TensorSpec("x", DType.FLOAT, shapes[index]), images.ImageConfig())
    found = _tried(lambda: images.to_tensor(images.decoded(body, plan), plan))
    assert found is None or found.size <= images.MAX_PIXELS * 4


def paths(data: bytes) -> None:
    """Any path leads to a route, or to an error that is no larger than it may be."""
    (method, rest) = _chosen(data, (("GET", "POST", "HEAD", "OPTIONS", "PATCH"),))
    match = _table().find(method, "/" + rest.decode("utf-8", "surrogateescape"))
    assert (match.route is None) == (match.error is not None)
    if match.error is not None:
        response = match.protocol.encode_error(match.error)
        assert 400 <= response.status < 500
        assert len(response.body) < 10_000


def model_files(data: bytes) -> None:
    """An ONNX file, with the least that counts as large so low that contents are left out of it."""
    path = _file("model.onnx", data)
    with mock.patch.object(skeleton, "LARGE_BYTES", 64):
        read = skeleton.read_skeleton(path)
        assert not read.complete or read.data == data
        assert len(read.data) <= len(data)
        found = _tried(partial(read_graph, path))
    for spec in (*found.signature.inputs, *found.signature.outputs) if found is not None else ():
        assert isinstance(spec.name, str)
        assert all(isinstance(name, str) for name in spec.dim_names)


CONFIGS: Mapping[str, Callable[[Path], Any]] = {
    "config.pbtxt": triton.read_config,
    "models.config": tfserving.read_models,
    "batching.config": tfserving.read_batching,
    "monitoring.config": tfserving.read_monitoring,
    "model-settings.json": mlserver.read_settings,
    "fastserve.toml": lambda path: source.read_toml(path, {"HOME": "/x"}),
    "spicepod.yaml": lambda path: spicepod.read_spicepod(path, {"HOME": "/x"}),
}


def configurations(data: bytes) -> None:
    """A configuration file of any kind: read, or refused with its name."""
    name, body = _chosen(data, (list(CONFIGS),))
    path = _file(name, body)
    told = name
    try:
        CONFIGS[name](path)
    except FastServeError as error:
        told = str(error)
    assert name in told


TARGETS: Mapping[str, Target] = {
    "tfserving_calls": tfserving_calls,
    "oip_calls": oip_calls,
    "lanes": lanes,
    "events": events,
    "spice_bodies": spice_bodies,
    "log_records": log_records,
    "binary_tensors": binary_tensors,
    "bodies": bodies,
    "image_files": image_files,
    "paths": paths,
    "model_files": model_files,
    "configurations": configurations,
}


def _chosen(data: bytes, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """One of each, by a byte of its own; and what follows."""
    head = data[: len(choices)].ljust(len(choices), b"\0")
    return *(options[byte % len(options)] for options, byte in zip(choices, head, strict=True)), data[len(choices) :]


def _tried(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except FastServeError:
        return None


def _read_both(body: bytes, offset: int, size: int, dtype: DType, shape: tuple[int, ...]) -> tuple[Any, Any]:
    try:
        if dtype is DType.STRING:
            theirs = reference.strings(body, offset, size, shape)
        else:
            theirs = reference.view(body, offset, size, dtype, shape)
    except reference.Refused:
        theirs = None
    try:
        if dtype is DType.STRING:
            ours = binarytensor.strings(body, offset, size, shape, "$")
        else:
            ours = binarytensor.view(body, offset, size, int(dtype), shape)
    except (FastServeError, ValueError):
        ours = None
    return None if ours is None else np.asarray(ours), theirs


@cache
def _protocol(kind: Callable[[Any], Protocol]) -> Protocol:
    return kind(engine())


@cache
def _table() -> PathTable:
    return PathTable([_protocol(TfServing), _protocol(OpenInference), _last()])


@cache
def _last() -> Protocol:
    from fastserve.server.admin import Admin

    admin: Any = Admin(engine(), bool)  # type: ignore[arg-type]
    return admin  # type: ignore[no-any-return]


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path
