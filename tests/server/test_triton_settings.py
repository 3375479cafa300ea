"""Settings changed while serving, by Triton's own clients: shown the same, and in effect, in every worker."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http as triton
from tritonclient.http import aio

from tests.server.test_triton_extensions import everywhere, given, made, refused
from tests.support import models
from tests.support.server import ServerProcess
from tests.support.waiting import until

LOGS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
TRACES = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("settings")
    for name in ("m", "other"):
        place = folder / "models" / name / "1"
        place.mkdir(parents=True)
        models.save(models.tiny(), place)
    logs = folder / "log"
    arguments = ("--workers", str(request.param), "--poll-seconds", "0", "--log-dir", str(logs))
    with ServerProcess(str(folder / "models"), *arguments) as server:
        server.log_file = logs / "fastserve.log"  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    client = made(server)
    yield client
    client.update_log_settings({name: value for name, value in LOGS.items() if name != "log_file"})
    for model in (None, "m", "other"):
        client.update_trace_settings(model, dict.fromkeys(TRACES))
    client.close()


def lines(server: ServerProcess) -> list[dict[str, Any]]:
    """What the log's file has, from any worker and the parent."""
    log: Path = server.log_file  # type: ignore[attr-defined]
    return [json.loads(line) for line in log.read_text().splitlines()]


def traces(server: ServerProcess) -> list[dict[str, Any]]:
    told = [line["message"] for line in lines(server) if line["logger"].endswith("oip.tracing")]
    return [json.loads(message.removeprefix("trace ")) for message in told]


def test_log_settings_change_in_every_worker(server: ServerProcess, client: triton.InferenceServerClient):
    known = {**LOGS, "log_file": "fastserve.log"}
    assert client.get_log_settings() == known
    changed = {"log_verbose_level": 1, "log_warning": False, "log_format": "ISO8601"}
    assert client.update_log_settings(changed) == {**known, **changed}
    assert everywhere(server, lambda one: one.get_log_settings()) == [{**known, **changed}] * 12
    assert client.update_log_settings(known) == known


def test_what_is_switched_off_is_not_logged(server: ServerProcess, client: triton.InferenceServerClient):
    def said(level: str) -> int:
        return sum(line["level"] == level for line in lines(server))

    client.update_log_settings({"log_verbose_level": 1})
    client.unload_model("other")
    client.load_model("other")
    assert said("DEBUG"), "loading is told in detail"
    client.update_log_settings({"log_info": False, "log_verbose_level": 0})
    before = said("DEBUG"), said("INFO"), said("ERROR")
    client.unload_model("other")
    client.load_model("other")
    assert (said("DEBUG"), said("INFO"), said("ERROR")) == before
    assert not any(line[10:11] == "T" for line in server.output.splitlines())
    client.update_log_settings({"log_info": True, "log_format": "ISO8601"})
    client.unload_model("other")
    client.load_model("other")
    assert said("INFO") > before[1]
    assert any(line[10:11] == "T" and "+00:00 INFO" in line for line in server.output.splitlines())


def test_trace_settings_of_all_models_and_of_one(server: ServerProcess, client: triton.InferenceServerClient):
    assert client.get_trace_settings() == TRACES
    own = {**TRACES, "trace_level": ["TIMESTAMPS"], "trace_rate": "5", "trace_count": "7"}
    wanted = {"trace_level": ["TIMESTAMPS"], "trace_rate": "5", "trace_count": "7"}
    assert client.update_trace_settings("m", wanted) == own
    every = {**TRACES, "trace_rate": "9", "log_frequency": "3"}
    assert client.update_trace_settings(None, {"trace_rate": ["9"], "log_frequency": "3"}) == every
    assert everywhere(server, lambda one: one.get_trace_settings("m")) == [{**own, "log_frequency": "3"}] * 12
    assert everywhere(server, lambda one: one.get_trace_settings("other")) == [every] * 12
    cleared = client.update_trace_settings("m", {"trace_rate": None, "trace_level": None, "trace_count": None})
    assert cleared == client.get_trace_settings("m") == every
    assert client.update_trace_settings(None, {"trace_rate": None, "log_frequency": None}) == TRACES
    assert refused(lambda: client.get_trace_settings("nope"))[0] == "404"
    assert refused(lambda: client.update_trace_settings(None, {"trace_file": "/tmp/x"}))[0] == "501"


def test_traces_tell_what_happened_when(server: ServerProcess, client: triton.InferenceServerClient):
    client.infer("m", [given()])
    before = len(traces(server))
    client.update_trace_settings("m", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    client.infer("m", [given()], request_id="seven")
    client.infer("other", [given()])
    until(lambda: len(traces(server)) == before + 1)
    trace = traces(server)[-1]
    assert (trace["model_name"], trace["model_version"], trace["request_id"]) == ("m", 1, "seven")
    names, times = zip(*((one["name"], one["ns"]) for one in trace["timestamps"]), strict=True)
    assert names == ("REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_END", "REQUEST_END")
    assert list(times) == sorted(times)
    assert "tensors" not in trace
    client.update_trace_settings("m", {"trace_level": ["TIMESTAMPS", "TENSORS"]})
    client.infer("m", [given(rows=3)])
    until(lambda: len(traces(server)) == before + 2)
    told = traces(server)[-1]["tensors"]
    assert told[0] == {"name": "x", "datatype": "FP32", "shape": [3, 4]}
    assert "data" not in json.dumps(told).replace("datatype", "")
    client.update_trace_settings("m", {"trace_level": ["OFF"]})
    client.infer("m", [given()])
    assert len(traces(server)) == before + 2


def test_only_some_requests_are_traced(server: ServerProcess, client: triton.InferenceServerClient):
    before = len(traces(server))
    client.update_trace_settings(None, {"trace_level": ["TIMESTAMPS"], "trace_rate": "3", "trace_count": "2"})
    one = made(server)  # one connection, so one worker
    for _ in range(20):
        one.infer("m", [given()])
    one.close()
    until(lambda: len(traces(server)) == before + 2)


def test_the_same_from_the_asyncio_client(server: ServerProcess, client: triton.InferenceServerClient):
    async def ask() -> Any:
        async with aio.InferenceServerClient(f"{server.host}:{server.port}") as other:
            logs = await other.update_log_settings({"log_verbose_level": 3})
            traced = await other.update_trace_settings("m", {"trace_rate": "2"})
            return logs, await other.get_log_settings(), traced, await other.get_trace_settings("m")

    logs, logs_again, traced, traced_again = asyncio.run(ask())
    assert logs == logs_again == client.get_log_settings()
    assert (logs["log_verbose_level"], traced["trace_rate"]) == (3, "2")
    assert traced == traced_again
