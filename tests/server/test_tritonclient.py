"""Triton's own HTTP client, as its users have it, against a served process."""

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.protocols.case_models import DTYPES, write_repository
from tests.support.server import ServerProcess

WIRE = {
    "float": "FP32",
    "double": "FP64",
    "half": "FP16",
    "bfloat16": "BF16",
    "bool": "BOOL",
    "string": "BYTES",
}
NUMPY: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "half": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "bool": np.bool_,
    "string": np.object_,
}
# BF16 as JSON is refused by the client itself.
WAYS = [(name, binary) for name in DTYPES for binary in (True, False) if binary or name != "bfloat16"]
TEXTS = [["a", "é", ""], ["😀", "x" * 70_000, "\x00"]]
COMPRESSIONS = [None, "gzip", "deflate"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    config = write_repository(tmp_path_factory.mktemp("triton"))
    with ServerProcess(str(config)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(f"{server.host}:{server.port}")
    yield client
    client.close()


def sample(name: str) -> np.ndarray:
    if name == "string":
        return np.array([[text.encode() for text in row] for row in TEXTS], np.object_)
    return np.array([[0, 1, 2], [3, 5, 100]]).astype(NUMPY.get(name, name))


def given(array: np.ndarray, name: str, *, binary: bool = True, called: str = "x") -> triton.InferInput:
    one = triton.InferInput(called, list(array.shape), WIRE.get(name, name.upper()))
    one.set_data_from_numpy(array, binary_data=binary)
    return one


def same(ours: np.ndarray | None, theirs: np.ndarray, name: str) -> None:
    assert ours is not None
    assert ours.shape == theirs.shape
    if name == "string":
        texts = [item if isinstance(item, bytes) else item.encode() for item in ours.flat]
        assert texts == list(theirs.flat)
    else:
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())


@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize(("name", "binary_in"), WAYS)
def test_every_datatype_both_ways(
    client: triton.InferenceServerClient, name: str, binary_in: bool, binary_out: bool | None
):
    array = sample(name)
    if name == "bool":
        array = array.astype(bool)
    wanted = None if binary_out is None else [triton.InferRequestedOutput("y", binary_data=binary_out)]
    result = client.infer(f"same_{name}", [given(array, name, binary=binary_in)], outputs=wanted)
    same(result.as_numpy("y"), array, name)
    assert ("data" in result.get_output("y")) is (binary_out is False)


@pytest.mark.parametrize("asked", COMPRESSIONS)
@pytest.mark.parametrize("sent", COMPRESSIONS)
def test_compression(client: triton.InferenceServerClient, sent: str | None, asked: str | None):
    array = np.arange(60_000, dtype=np.float32).reshape(-1, 4)
    result = client.infer(
        "four", [given(array, "float")], request_compression_algorithm=sent, response_compression_algorithm=asked
    )
    same(result.as_numpy("y"), array, "float")


@pytest.mark.parametrize("rows", [0, 1, 100, 30_000])
def test_any_number_of_rows(client: triton.InferenceServerClient, rows: int):
    array = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
    same(client.infer("four", [given(array, "float")]).as_numpy("y"), array, "float")


def test_large_tensors_one_after_another(client: triton.InferenceServerClient):
    """The first has its JSON parsed, the others are known by it, and are read on the thread that they come on."""
    for n in range(6):
        array = np.random.default_rng(n).standard_normal((30_000, 4)).astype(np.float32)
        same(client.infer("four", [given(array, "float")]).as_numpy("y"), array, "float")


def test_several_inputs_and_outputs(client: triton.InferenceServerClient):
    a, b = np.array([[1, 2], [3, 4]], np.float32), np.array([b"x", b"y"], np.object_)
    inputs = [given(b, "string", called="b"), given(a, "float", called="a", binary=False)]
    outputs = [triton.InferRequestedOutput("text"), triton.InferRequestedOutput("twice", binary_data=False)]
    result = client.infer("pair", inputs, outputs=outputs, request_id="é-7")
    same(result.as_numpy("twice"), a * 2, "float")
    same(result.as_numpy("text"), b, "string")
    assert result.get_response()["id"] == "é-7"


def test_what_a_request_may_say_besides(client: triton.InferenceServerClient):
    array = np.ones((1, 4), np.float32)
    result = client.infer(
        "four",
        [given(array, "float")],
        model_version="1",
        sequence_id=7,
        sequence_start=True,
        sequence_end=True,
        priority=1,
        timeout=60_000_000,
        parameters={"mine": "x", "yours": 2},
        headers={"X-Mine": "1"},
        query_params={"a": "b"},
    )
    same(result.as_numpy("y"), array, "float")
    assert result.get_response()["model_version"] == "1"


def test_what_is_built_by_hand(client: triton.InferenceServerClient, server: ServerProcess):
    array = np.arange(8, dtype=np.float32).reshape(2, 4)
    body, size = triton.InferenceServerClient.generate_request_body([given(array, "float")])
    connection = server.connection()
    connection.request("POST", "/v2/models/four/infer", body, {"Inference-Header-Content-Length": str(size)})
    answer = connection.getresponse()
    size = int(answer.headers["Inference-Header-Content-Length"])
    result = triton.InferenceServerClient.parse_response_body(answer.read(), header_length=size)
    connection.close()
    same(result.as_numpy("y"), array, "float")


def test_health_and_metadata(client: triton.InferenceServerClient):
    assert client.is_server_live()
    assert not client.is_server_ready()  # one of the models is broken
    assert client.is_model_ready("four")
    assert client.is_model_ready("half_plus", "1")
    assert not client.is_model_ready("broken")
    assert not client.is_model_ready("nope")
    assert client.get_server_metadata()["name"] == "fastserve"
    assert client.get_model_metadata("half_plus")["versions"] == ["1", "2"]
    assert client.get_model_metadata("four", "1")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.mark.parametrize(
    ("model", "shape", "datatype", "status", "text"),
    [
        ("nope", (1, 4), "float", "404", 'no model named "nope"'),
        ("four", (1, 5), "float", "400", "[-1,4]"),
        ("four", (1, 4), "double", "400", "FP32"),
        ("pair", (1, 4), "float", "400", "one of the model's inputs"),
        ("broken", (1, 4), "float", "503", "did not load"),
    ],
)
def test_errors_are_shown_as_what_they_are(
    client: triton.InferenceServerClient, model: str, shape: tuple[int, ...], datatype: str, status: str, text: str
):
    with pytest.raises(InferenceServerException) as raised:
        client.infer(model, [given(np.ones(shape, NUMPY[datatype]), datatype)])
    assert raised.value.status() == status
    assert text in raised.value.message()


def test_requests_side_by_side(server: ServerProcess):
    client = triton.InferenceServerClient(f"{server.host}:{server.port}", concurrency=4)
    arrays = [np.full((n % 3 + 1, 4), n, np.float32) for n in range(24)]
    waiting = [client.async_infer("four", [given(array, "float")], request_id=str(n)) for n, array in enumerate(arrays)]
    for n, (one, array) in enumerate(zip(waiting, arrays, strict=True)):
        result = one.get_result()
        same(result.as_numpy("y"), array, "float")
        assert result.get_response()["id"] == str(n)
    client.close()
