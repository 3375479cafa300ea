"""What TF Serving's clients read when a call goes wrong."""

import json

import pytest

from fastserve.errors import (
    DeadlineExceeded,
    FastServeError,
    InvalidRequest,
    LabelNotFound,
    ModelNotFound,
    QueueFull,
    RunFailed,
    VersionNotFound,
)
from fastserve.protocols.tfserving import errors

LONG = "n" * 100_000


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ModelNotFound("m"), 404, "Servable not found for request: Latest(m)"),
        (VersionNotFound("m", None), 404, "Servable not found for request: Latest(m); its status says why"),
        (VersionNotFound("m", 7), 404, "Servable not found for request: Specific(m, 7)"),
        (LabelNotFound("m", "canary"), 400, "Unrecognized servable version label: canary"),
        (errors.StatusNotFound("m"), 404, "Could not find any versions of model m"),
        (errors.StatusNotFound("m", 3), 404, "Could not find version 3 of model m"),
        (InvalidRequest("as it is"), 400, "as it is"),
        (QueueFull("the queue is full"), 429, "the queue is full"),
        (DeadlineExceeded("too late"), 504, "Timed out waiting for notification: too late"),
        (RunFailed("the model failed"), 500, "the model failed"),
        (ModelNotFound(LONG), 404, f"Servable not found for request: Latest({'n' * 256}...)"),
        (LabelNotFound("m", LONG), 400, f"Unrecognized servable version label: {'n' * 256}..."),
        (errors.StatusNotFound(LONG), 404, f"Could not find any versions of model {'n' * 256}..."),
    ],
)
def test_each_error_has_upstreams_words_and_status(error: FastServeError, status: int, text: str):
    response = errors.encode_error(error)
    assert response.status == status
    assert json.loads(response.body) == {"error": text}
    assert ("content-type", "application/json") in response.headers


def test_a_full_queue_says_when_to_come_back():
    assert ("retry-after", "1") in errors.encode_error(QueueFull("full")).headers


def test_text_that_no_utf8_can_carry_is_still_answered():
    response = errors.encode_error(InvalidRequest("bad \udcff name"))
    assert json.loads(response.body) == {"error": "bad \\udcff name"}


@pytest.mark.parametrize(
    ("method", "path", "word"),
    [
        ("POST", "/v1/models", "Missing model name"),
        ("GET", "/v1/models", "Missing model name"),
        ("GET", "/v1/models/", "Missing model name"),
        ("POST", "/v1/models/:predict", "Missing model name"),
        ("POST", "/v1/models//versions/1:predict", "Missing model name"),
        ("POST", "/v1/models/m", "it takes GET"),
        ("DELETE", "/v1/models/m", "it takes GET"),
        ("PUT", "/v1/models/m/versions/1", "it takes GET"),
        ("HEAD", "/v1/models/m", "it takes GET"),
        ("POST", "/v1/models/m/metadata", "it takes GET"),
        ("GET", "/v1/models/m:predict", "takes POST"),
        ("PUT", "/v1/models/m:predict", "takes POST"),
        ("POST", "/v1/models/m:PREDICT", "the verb"),
        ("POST", "/v1/models/m:foo", "the verb"),
        ("POST", "/v1/models/m:", "the verb"),
        ("GET", "/v1/models/m:classify", "takes POST"),
        ("POST", "/v1/models/m:Regress", "the verb"),
        ("POST", "/v1/models/m/versions/x:regress", "versions"),
        ("GET", "/v1/models/m/classify", "MODEL:predict"),
        ("POST", "/v1/models/m/versions/HELLO:predict", "versions"),
        ("POST", "/v1/models/m/versions/-1:predict", "versions"),
        ("POST", "/v1/models/m/versions/1.0:predict", "versions"),
        ("POST", "/v1/models/m/version/5:predict", "versions"),
        ("POST", "/v1/models/m/versions/5/labels/x:predict", "versions"),
        ("POST", "/v1/models/m/label/x:predict", "labels"),
        ("POST", "/v1/models/m/labels/:predict", "labels"),
        ("GET", "/v1/models/m/versions/HELLO", "versions"),
        ("GET", "/v1/models/m/versions", "versions"),
        ("GET", "/v1/models/m/", "versions"),
        ("GET", "/v1/models/m/metadata/", "versions"),
        ("GET", "/v1/models/m/predict", "MODEL:predict"),
        ("GET", "/model-serving/m:predict", "takes POST"),
        ("POST", "/model-serving/m/versions/x:predict", "versions"),
    ],
)
def test_a_malformed_request_is_400_and_says_which_part_is_wrong(method: str, path: str, word: str):
    error = errors.unmatched(method, path)
    response = errors.encode_error(error)
    assert response.status == 400
    assert word in json.loads(response.body)["error"]
    assert str(error).startswith((f"Malformed request: {method} {path}", "Missing model name in request."))


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("POST", "/v1/models/a/b:predict", "Servable not found for request: Latest(a/b)"),
        ("POST", "/v1/models/a:b:predict", "Servable not found for request: Latest(a:b)"),
        ("GET", "/v1/models/a/b", "Could not find any versions of model a/b"),
    ],
)
def test_a_name_that_no_model_may_have_is_not_found(method: str, path: str, text: str):
    assert errors.wording(errors.unmatched(method, path)) == text


def test_a_long_path_does_not_make_a_long_error():
    assert len(str(errors.unmatched("PATCH" * 1000, "/v1/models/" + LONG))) < 1000


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("/v1/models", True),
        ("/V1/Models/m", True),
        ("/v1/models/a\nb", True),
        ("/model-serving/m:predict", True),
        ("/model-serving", True),
        ("/v1/modelsx", False),
        ("/v1/predict", False),
        ("/x/v1/models", False),
    ],
)
def test_the_paths_of_this_protocol(path: str, owned: bool):
    assert bool(errors.OWNED.match(path)) is owned
