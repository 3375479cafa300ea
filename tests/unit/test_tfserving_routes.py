"""What the calls ask of the engine, and what becomes of its answers."""

import json

import numpy as np
import pytest

from fastserve.errors import DeadlineExceeded, FastServeError, ModelNotReady, QueueFull, RunFailed, RunRefused
from fastserve.http.message import Request
from fastserve.protocols.tfserving.errors import wording
from fastserve.protocols.tfserving.routes import TfServing
from fastserve.types import DType, Signature, TensorSpec, VersionState, VersionStatus
from tests.support.fake_engine import FakeEngine, KeptReply, call

SIGNATURE = Signature(
    (TensorSpec("x", DType.FLOAT, (-1, 2), ("N", "")),), (TensorSpec("y", DType.FLOAT, (-1, 2), ("N", "")),)
)
BODY = b'{"instances": [[1.0, 2.0]]}'


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    for version in (1, 2):
        engine.add("m", version, SIGNATURE, lambda inputs: {"y": inputs["x"]})
    return engine


def test_the_engine_is_told_the_tensor_and_the_deadline(engine: FakeEngine):
    call(TfServing(engine), "POST", "/v1/models/m:predict", BODY, deadline_ns=1234)
    (request,) = engine.submitted
    assert request.deadline_ns == 1234
    np.testing.assert_array_equal(request.inputs["x"], np.array([[1.0, 2.0]], np.float32), strict=True)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull("the queue of m is full"), 429),
        (DeadlineExceeded("out of time"), 504),
        (RunFailed("the model failed"), 500),
        (RunRefused("the model takes no such input"), 400),
        (ModelNotReady("m is loading"), 503),
    ],
)
def test_the_engines_errors_come_in_this_protocols_shape(engine: FakeEngine, error: FastServeError, status: int):
    engine.refusal = error
    response = call(TfServing(engine), "POST", "/v1/models/m:predict", BODY)
    assert response.status == status
    assert json.loads(response.body) == {"error": wording(error)}
    assert ("retry-after" in dict(response.headers)) is (error.retry_after_s is not None)


def test_a_body_is_read_before_an_unknown_model_is_told(engine: FakeEngine):
    protocol = TfServing(engine)
    for path in ("/v1/models/nope", "/v1/models/m/versions/9", "/v1/models/m/labels/nope"):
        assert call(protocol, "POST", f"{path}:predict", b"{").status == 400
        assert b"JSON Parse error" in call(protocol, "POST", f"{path}:predict", b"{").body
        assert b"JSON Parse error" not in call(protocol, "POST", f"{path}:predict", b"{}").body


def test_a_real_version_0_is_not_the_latest(engine: FakeEngine):
    protocol = TfServing(engine)
    assert dict(call(protocol, "POST", "/v1/models/m/versions/0:predict", BODY).headers)["x-model-version"] == "2"
    engine.add("m", 0, SIGNATURE, lambda inputs: {"y": inputs["x"]})
    assert dict(call(protocol, "POST", "/v1/models/m/versions/0:predict", BODY).headers)["x-model-version"] == "0"


def test_what_a_version_needs_is_worked_out_once(engine: FakeEngine):
    protocol = TfServing(engine)
    call(protocol, "POST", "/v1/models/m:predict", BODY)
    plan = engine.leases["m"][2].codecs["tfserving"]
    call(protocol, "POST", "/v1/models/m:predict", BODY)
    assert engine.leases["m"][2].codecs["tfserving"] is plan


@pytest.mark.parametrize(
    ("method", "path", "subject"),
    [
        ("POST", "/v1/models/m:predict", ("m", "2")),
        ("GET", "/v1/models/m/versions/1/metadata", ("m", "1")),
        ("GET", "/v1/models/m", ("m", "")),
        ("GET", "/v1/models/m/versions/1", ("m", "")),
    ],
)
def test_metrics_are_told_who_was_asked(engine: FakeEngine, method: str, path: str, subject: tuple[str, str]):
    protocol = TfServing(engine)
    reply = KeptReply(protocol)
    for route in protocol.routes():
        match = route.pattern.fullmatch(path)
        if match and route.method == method and route.infer:
            params = {name: value for name, value in match.groupdict().items() if value is not None}
            route.infer(Request(method, path, "", {}, BODY, params, 1, 0), reply)
    assert reply.subject == subject


@pytest.mark.parametrize(
    ("state", "word", "code"),
    [
        (VersionState.LOADING, "LOADING", "OK"),
        (VersionState.READY, "AVAILABLE", "OK"),
        (VersionState.DRAINING, "UNLOADING", "OK"),
        (VersionState.UNLOADED, "END", "OK"),
        (VersionState.FAILED, "END", "UNKNOWN"),
    ],
)
def test_states_have_upstreams_names(engine: FakeEngine, state: VersionState, word: str, code: str):
    reason = "no ONNX file" if state is VersionState.FAILED else ""
    engine.lines["m"] = [VersionStatus(7, state, reason)]
    response = call(TfServing(engine), "GET", "/v1/models/m")
    assert json.loads(response.body) == {
        "model_version_status": [
            {"version": "7", "state": word, "status": {"error_code": code, "error_message": reason}}
        ]
    }


def test_version_0_of_status_is_the_newest_that_serves(engine: FakeEngine):
    engine.lines["m"].insert(0, VersionStatus(3, VersionState.FAILED, "broken"))
    body = json.loads(call(TfServing(engine), "GET", "/v1/models/m/versions/0").body)
    assert [line["version"] for line in body["model_version_status"]] == ["2"]
    engine.lines["m"] = engine.lines["m"][:1]
    body = json.loads(call(TfServing(engine), "GET", "/v1/models/m/versions/0").body)
    assert [line["version"] for line in body["model_version_status"]] == ["3"]


def test_a_model_without_versions_has_no_status(engine: FakeEngine):
    engine.lines["empty"] = []
    response = call(TfServing(engine), "GET", "/v1/models/empty")
    assert response.status == 404
    assert json.loads(response.body) == {"error": "Could not find any versions of model empty"}


def test_a_model_with_many_inputs_does_not_make_a_long_error(engine: FakeEngine):
    inputs = tuple(TensorSpec(f"input_{i}", DType.FLOAT, (-1,)) for i in range(5000))
    engine.add("wide", 1, Signature(inputs, inputs), lambda inputs: inputs)
    response = call(TfServing(engine), "POST", "/v1/models/wide:predict", b'{"inputs": {}}')
    assert response.status == 400
    assert len(response.body) < 1500
