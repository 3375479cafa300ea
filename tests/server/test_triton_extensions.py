"""Triton's extensions as its own clients ask for them, of one worker and of two: each call reaches all of them."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from tests.protocols.case_models import write_repository
from tests.support.served import workers_of
from tests.support.server import ServerProcess
from tests.support.waiting import until

X = np.arange(8, dtype=np.float32).reshape(2, 4)
MANY = 12
"""Connections, so that several workers are asked."""


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, workers: int) -> Path:
    return write_repository(tmp_path_factory.mktemp(f"extensions-{workers}")).parent / "models"


@pytest.fixture(scope="module")
def server(repository: Path, workers: int) -> Iterator[ServerProcess]:
    config = repository.parent / "fastserve.toml"
    folder = config.parent / "models" / "described"
    four = config.parent / "models" / "four" / "1" / "model.onnx"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(four.read_bytes())
    (folder / "config.pbtxt").write_text(DESCRIPTION)
    (folder / "names.txt").write_text("zero\none\ntwo\nthree\n")
    chain = config.parent / "models" / "chain"
    (chain / "1").mkdir(parents=True)
    (chain / "config.pbtxt").write_text(CHAIN)
    with ServerProcess(str(config), "--workers", str(workers), "--weights-dir", str(config.parent)) as server:
        yield server
    assert uploads(repository) == []


def uploads(repository: Path) -> list[Path]:
    """The folders of what came with load calls."""
    return list(repository.parent.glob("fastserve-upload-*"))


DESCRIPTION = """
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "names.txt" }
dynamic_batching {
  preferred_batch_size: [4]
  max_queue_delay_microseconds: 100
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { default_timeout_microseconds: 5000000 allow_timeout_override: true }
}
instance_group { kind: KIND_CPU count: 1 }
metric_tags { key: "team" value: "seven" }
"""


CHAIN = """
platform: "ensemble"
ensemble_scheduling { step [ { model_name: "four" model_version: -1 } ] }
"""


@pytest.fixture
def client(server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    client = made(server)
    yield client
    client.close()


def made(server: ServerProcess) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(f"{server.host}:{server.port}")


def everywhere(server: ServerProcess, ask: Callable[[triton.InferenceServerClient], Any]) -> list[Any]:
    """What many connections are answered."""
    answers = []
    for _ in range(MANY):
        client = made(server)
        answers.append(ask(client))
        client.close()
    return answers


def given(rows: int = 2) -> triton.InferInput:
    array = np.resize(X, (rows, 4))
    one = triton.InferInput("x", list(array.shape), "FP32")
    one.set_data_from_numpy(array)
    return one


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Status and text of the error."""
    with pytest.raises(InferenceServerException) as raised:
        call()
    return raised.value.status(), raised.value.message()


def asked(server: ServerProcess, ask: Callable[[aio.InferenceServerClient], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        async with aio.InferenceServerClient(f"{server.host}:{server.port}") as client:
            return await ask(client)

    return asyncio.run(whole())


def stats_of(client: triton.InferenceServerClient, model: str, version: str = "") -> dict[str, Any]:
    (one,) = client.get_inference_statistics(model, version)["model_stats"]
    return dict(one)


def counts(client: triton.InferenceServerClient, model: str) -> tuple[int, int]:
    """Rows, requests."""
    one = stats_of(client, model)
    return one["inference_count"], one["inference_stats"]["success"]["count"]


def state_of(client: triton.InferenceServerClient, model: str) -> list[tuple[str, str, str]]:
    index = client.get_model_repository_index()
    return [(one["version"], one["state"], one["reason"]) for one in index if one["name"] == model]


def test_the_configuration_is_what_is_in_force_and_what_the_folder_says(client: triton.InferenceServerClient):
    config = client.get_model_config("described")
    assert config["max_batch_size"] == 8
    assert (config["platform"], config["backend"]) == ("onnxruntime_onnx", "onnxruntime")
    assert config["input"][0] | {"name": "x", "data_type": "TYPE_FP32", "dims": [4]} == config["input"][0]
    assert config["output"][0]["label_filename"] == "names.txt"
    assert config["instance_group"] == [{"name": "described", "kind": "KIND_CPU", "count": 1}]
    assert config["metric_tags"] == {"team": "seven"}
    batching = config["dynamic_batching"]
    assert batching["preferred_batch_size"] == [4]
    assert (batching["max_queue_delay_microseconds"], batching["priority_levels"]) == (100, 3)
    assert batching["default_priority_level"] == 2
    assert batching["default_queue_policy"] == {
        "timeout_action": "REJECT",
        "default_timeout_microseconds": 5_000_000,
        "allow_timeout_override": True,
        "max_queue_size": 0,
    }
    assert client.get_model_config("half_plus", "2")["version_policy"] == {"specific": {"versions": [1, 2]}}
    metadata = client.get_model_metadata("described")
    assert metadata["inputs"][0]["shape"] == [-1, *config["input"][0]["dims"]]


def test_statistics_are_sums_over_all_workers(server: ServerProcess, client: triton.InferenceServerClient):
    before = counts(client, "four")
    everywhere(server, lambda one: one.infer("four", [given(rows=3)]))
    after = (before[0] + 3 * MANY, before[1] + MANY)
    until(lambda: counts(client, "four") == after)
    assert everywhere(server, lambda one: counts(one, "four")) == [after] * MANY
    one = stats_of(client, "four", "1")
    told = one["inference_stats"]
    assert one["last_inference"] > 1_700_000_000_000
    assert 1 <= one["execution_count"] <= after[1]
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert told[stage]["count"] == after[1]
    assert told["success"]["ns"] >= told["compute_infer"]["ns"] > 0
    assert sum(size["batch_size"] * size["compute_infer"]["count"] for size in one["batch_stats"]) == after[0]
    assert sum(size["compute_infer"]["count"] for size in one["batch_stats"]) == one["execution_count"]


def test_statistics_tell_what_the_files_of_a_version_take_in_all_workers(
    client: triton.InferenceServerClient, repository: Path, workers: int
):
    size = (repository / "four" / "1" / "model.onnx").stat().st_size
    assert stats_of(client, "four", "1")["memory_usage"] == [{"type": "CPU", "id": 0, "byte_size": workers * size}]


def test_statistics_of_all_models_and_of_versions(client: triton.InferenceServerClient):
    every = [(one["name"], one["version"]) for one in client.get_inference_statistics()["model_stats"]]
    assert {("four", "1"), ("half_plus", "1"), ("half_plus", "2")} <= set(every)
    assert "broken" not in dict(every)
    both = client.get_inference_statistics("half_plus")["model_stats"]
    assert [one["version"] for one in both] == ["1", "2"]
    assert refused(lambda: client.get_inference_statistics("nope"))[0] == "404"
    assert refused(lambda: client.get_inference_statistics("four", "9"))[0] == "404"


def test_what_came_too_late_is_counted_as_failed(client: triton.InferenceServerClient):
    before = stats_of(client, "strict_half")["inference_stats"]["fail"]["count"]
    array = np.ones(2, np.float16)
    one = triton.InferInput("x", [2], "FP16")
    one.set_data_from_numpy(array)
    status, _ = refused(lambda: client.infer("strict_half", [one], timeout=1))
    assert status == "504"
    until(lambda: stats_of(client, "strict_half")["inference_stats"]["fail"]["count"] == before + 1)


def test_models_come_and_go_in_every_worker(server: ServerProcess, client: triton.InferenceServerClient):
    client.unload_model("cube")
    assert not any(everywhere(server, lambda one: one.is_model_ready("cube")))
    until(lambda: state_of(client, "cube") == [("1", "UNAVAILABLE", "unloaded")])
    assert refused(lambda: client.infer("cube", [given()]))[0] == "404"
    assert refused(lambda: client.get_model_config("cube"))[0] == "404"
    client.load_model("cube")
    assert all(everywhere(server, lambda one: one.is_model_ready("cube")))
    assert state_of(client, "cube") == [("1", "READY", "")]


def test_the_index_looks_at_the_disk(server: ServerProcess, client: triton.InferenceServerClient):
    assert state_of(client, "four") == [("1", "READY", "")]
    assert [state for _, state, _ in state_of(client, "broken")] == ["UNAVAILABLE"]
    assert dict((version, state) for version, state, _ in state_of(client, "half_plus"))["10"] == "UNAVAILABLE"
    connection = server.connection()
    connection.request("POST", "/v2/repository/index", b'{"ready": true}')
    index = json.loads(connection.getresponse().read())
    connection.close()
    assert {one["state"] for one in index} == {"READY"}


def test_a_configuration_comes_with_a_load_call(server: ServerProcess, client: triton.InferenceServerClient):
    config = client.get_model_config("described")
    client.load_model("described", config=json.dumps(config))
    assert client.get_model_config("described") == config, "what was told is taken as it was told"
    config["max_batch_size"] = 64
    config["dynamic_batching"] |= {"max_queue_delay_microseconds": 7, "preferred_batch_size": []}
    config["metric_tags"] = {"team": "eight"}
    client.load_model("described", config=json.dumps(config))
    assert everywhere(server, lambda one: one.get_model_config("described")) == [config] * MANY
    assert client.infer("described", [given()]).as_numpy("y").tolist() == X.tolist()
    client.load_model("described", config='{"max_batch_size": 16}')
    part = client.get_model_config("described")
    assert (part["max_batch_size"], part["dynamic_batching"]["max_queue_delay_microseconds"]) == (16, 100)
    client.load_model("described")
    assert client.get_model_config("described")["max_batch_size"] == 8


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ('{"input": [{"name": "x", "data_type": "TYPE_INT8", "dims": [4]}]}', "said to be INT8"),
        ('{"input": [{"name": "z"}]}', "no input of that name"),
        ('{"backend": "tensorrt"}', '"tensorrt" is not served here'),
    ],
)
def test_a_load_that_fails_says_why_and_changes_nothing(
    server: ServerProcess, client: triton.InferenceServerClient, config: str, text: str, tmp_path: Path
):
    before = client.get_model_config("four")
    status, told = refused(lambda: client.load_model("four", config=config))
    assert (status, text in told) == ("400", True), told
    assert everywhere(server, lambda one: one.is_model_ready("four")) == [True] * MANY
    until(lambda: client.get_model_config("four") == before and state_of(client, "four") == [("1", "READY", "")])


SENT = {
    "max_batch_size": 8,
    "default_model_filename": "net.onnx",
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4], "label_filename": "names.txt"}],
}


def test_a_model_comes_with_a_load_call(server: ServerProcess, client: triton.InferenceServerClient, repository: Path):
    model = (repository / "four" / "1" / "model.onnx").read_bytes()
    files = {"file:3/net.onnx": model, "file:names.txt": b"n\ne\ns\nw\n", "file:3/more/large": bytes(1 << 18)}
    client.load_model("sent", config=json.dumps(SENT), files=files)
    versions = everywhere(server, lambda one: one.get_model_metadata("sent")["versions"])
    assert versions == [["3"]] * MANY
    best = client.infer("sent", [given()], outputs=[triton.InferRequestedOutput("y", class_count=1)]).as_numpy("y")
    assert best.tolist() == [[b"3.000000:3:w"], [b"7.000000:3:w"]]
    status, told = refused(lambda: client.load_model("sent", config="{}", files={"file:4/model.onnx": b"junk"}))
    assert (status, "not an ONNX file" in told, "/tmp" in told) == ("400", True, False), told
    assert everywhere(server, lambda one: one.infer("sent", [given(1)]).get_response()["model_version"]) == ["3"] * MANY
    assert refused(lambda: client.load_model("sent"))[1].endswith("is not on disk: send its files again")
    until(lambda: len(uploads(repository)) == 1)
    client.unload_model("sent")
    assert everywhere(server, lambda one: refused(lambda: one.get_model_metadata("sent"))[0]) == ["404"] * MANY
    assert state_of(client, "sent") == []
    until(lambda: uploads(repository) == [])


def test_files_stand_in_for_those_on_disk_until_the_next_load(
    server: ServerProcess, client: triton.InferenceServerClient, repository: Path
):
    model = (repository / "scores" / "1" / "model.onnx").read_bytes()
    client.load_model("described", config="{}", files={"file:7/model.onnx": model})
    assert state_of(client, "described") == [("7", "READY", "")]
    shapes = everywhere(server, lambda one: one.get_model_metadata("described")["inputs"][0]["shape"])
    assert shapes == [[-1, 3]] * MANY, "what the folder's config.pbtxt says is of other files"
    assert client.get_model_config("described")["max_batch_size"] != 8
    client.load_model("described")
    assert (
        everywhere(server, lambda one: one.infer("described", [given(1)]).get_response()["model_version"])
        == ["1"] * MANY
    )
    assert client.get_model_config("described")["max_batch_size"] == 8
    until(lambda: uploads(repository) == [])


def test_a_worker_that_is_replaced_has_what_came_with_a_call(
    server: ServerProcess, client: triton.InferenceServerClient, repository: Path, workers: int
):
    model = (repository / "four" / "1" / "model.onnx").read_bytes()
    client.load_model("kept", config="{}", files={"file:1/model.onnx": model})
    before = workers_of(server)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: before[0] not in workers_of(server) and len(workers_of(server)) == len(before))

    def all_serve() -> bool:
        try:
            return everywhere(server, lambda one: one.is_model_ready("kept")) == [True] * MANY
        except OSError:
            return False

    until(all_serve)
    client.unload_model("kept")


def test_what_cannot_be_loaded(client: triton.InferenceServerClient):
    assert refused(lambda: client.load_model("nope")) == ("404", 'no model named "nope"')
    assert refused(lambda: client.unload_model("nope"))[0] == "404"
    status, text = refused(lambda: client.load_model("broken"))
    assert (status, "not an ONNX file" in text) == ("400", True)
    assert refused(lambda: client.load_model("a/b"))[0] == "400"


def test_the_same_from_the_asyncio_client(server: ServerProcess):
    async def ask(client: aio.InferenceServerClient) -> Any:
        await client.unload_model("choice_told", unload_dependents=True)
        gone = await client.is_model_ready("choice_told")
        await client.load_model("choice_told", config='{"max_batch_size": 4}')
        config = await client.get_model_config("choice_told")
        stats = await client.get_inference_statistics("choice_told")
        index = await client.get_model_repository_index()
        await client.load_model("choice_told")
        return gone, config["max_batch_size"], stats["model_stats"][0]["name"], len(index)

    gone, size, name, known = asked(server, ask)
    assert (gone, size, name) == (False, 4, "choice_told")
    assert known > 20


@pytest.mark.parametrize("binary", [True, False])
def test_the_best_classes_by_name(client: triton.InferenceServerClient, binary: bool):
    wanted = [triton.InferRequestedOutput("y", binary_data=binary, class_count=2)]
    result = client.infer("described", [given()], outputs=wanted)
    assert result.get_output("y")["datatype"] == "BYTES"
    texts = [str(item, "utf-8") if isinstance(item, bytes) else item for item in result.as_numpy("y").flat]
    assert texts == ["3.000000:3:three", "2.000000:2:two", "7.000000:3:three", "6.000000:2:two"]
    assert result.as_numpy("y").shape == (2, 2)


def test_priority_and_timeout(client: triton.InferenceServerClient):
    for model in ("four", "described"):
        result = client.infer(model, [given()], priority=1, timeout=30_000_000)
        assert result.as_numpy("y").tolist() == X.tolist()
        assert refused(lambda model=model: client.infer(model, [given()], timeout=1))[0] == "504"  # type: ignore[misc]


def test_ensembles_and_shared_memory_are_refused_as_such(server: ServerProcess, client: triton.InferenceServerClient):
    placed, wanted = given(), triton.InferRequestedOutput("y")
    for one in (placed, wanted):
        one.set_shared_memory("r", 32)
    for call in (
        lambda: client.infer("chain", [given()]),
        lambda: client.get_model_config("chain"),
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        lambda: client.register_system_shared_memory("r", "/r", 16),
        lambda: client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 16),
        client.unregister_system_shared_memory,
        client.unregister_cuda_shared_memory,
        lambda: client.infer("four", [placed]),
        lambda: client.infer("four", [given()], outputs=[wanted]),
    ):
        assert refused(call)[0] == "501"
    wanted.unset_shared_memory()
    assert client.infer("four", [given()], outputs=[wanted]).as_numpy("y").shape == X.shape
    assert not client.is_model_ready("chain")
    status, text = refused(lambda: client.load_model("chain"))
    assert (status, "ensembles are not served" in text) == ("400", True)


def test_the_server_says_what_it_can(client: triton.InferenceServerClient):
    extensions = client.get_server_metadata()["extensions"]
    told = ("classification", "model_repository", "model_configuration", "statistics", "schedule_policy", "trace")
    assert {*told, "logging"} <= set(extensions)
    assert not {"system_shared_memory", "cuda_shared_memory", "sequence"} & set(extensions)
