"""Triton's asyncio client against a served process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from tests.protocols.case_models import write_repository
from tests.support.server import ServerProcess

Ask = Callable[[aio.InferenceServerClient], Awaitable[Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    config = write_repository(tmp_path_factory.mktemp("triton-aio"))
    with ServerProcess(str(config)) as server:
        yield server


def asked(server: ServerProcess, ask: Ask) -> Any:
    async def whole() -> Any:
        async with aio.InferenceServerClient(f"{server.host}:{server.port}") as client:
            return await ask(client)

    return asyncio.run(whole())


def given(array: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    one = triton.InferInput("x", list(array.shape), "FP32")
    one.set_data_from_numpy(array, binary_data=binary)
    return one


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("received", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_infer(server: ServerProcess, binary: bool, sent: str | None, received: str | None):
    array = np.random.default_rng(1).standard_normal((9000, 4)).astype(np.float32)
    outputs = [triton.InferRequestedOutput("y", binary_data=binary)]

    async def ask(client: aio.InferenceServerClient) -> Any:
        return await client.infer(
            "four",
            [given(array, binary=binary)],
            outputs=outputs,
            request_compression_algorithm=sent,
            response_compression_algorithm=received,
        )

    np.testing.assert_array_equal(asked(server, ask).as_numpy("y"), array, strict=True)


def test_many_at_once(server: ServerProcess):
    arrays = [np.full((n % 4 + 1, 4), n, np.float32) for n in range(40)]

    async def ask(client: aio.InferenceServerClient) -> Any:
        return await asyncio.gather(
            *(client.infer("four", [given(array)], request_id=f"n{n}") for n, array in enumerate(arrays))
        )

    for n, (result, array) in enumerate(zip(asked(server, ask), arrays, strict=True)):
        np.testing.assert_array_equal(result.as_numpy("y"), array, strict=True)
        assert result.get_response()["id"] == f"n{n}"


def test_health_and_metadata(server: ServerProcess):
    async def ask(client: aio.InferenceServerClient) -> Any:
        return (
            await client.is_server_live(),
            await client.is_model_ready("four"),
            await client.is_model_ready("nope"),
            (await client.get_server_metadata())["name"],
            (await client.get_model_metadata("four"))["outputs"],
        )

    shape = [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
    assert asked(server, ask) == (True, True, False, "fastserve", shape)


def test_errors(server: ServerProcess):
    async def ask(client: aio.InferenceServerClient) -> Any:
        await client.infer("nope", [given(np.ones((1, 4), np.float32))])

    with pytest.raises(InferenceServerException, match='no model named "nope"'):
        asked(server, ask)
