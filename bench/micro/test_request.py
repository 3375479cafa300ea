"""A whole request in this process, through the door without a loop, and the parts it is made of: where the time goes.

What a server adds, HTTP and the kernel's share, is not in it; bench/load has that.
"""

import asyncio
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from bench.load.workload import Workload
from bench.micro.goals import (
    CONTENDER,
    DECODE,
    ENCODE,
    IN_LANE,
    IN_LANE_TOGETHER,
    MODELS,
    RUN,
    SUBMIT,
    TOGETHER,
    WHOLE,
    WHOLE_TOGETHER,
    request_group,
)
from fastserve.backends.base import LoadOptions
from fastserve.backends.table import backend_for
from fastserve.config import Config, RepositoryConfig
from fastserve.protocols.tfserving import codec
from fastserve.server.app import App, create_app
from fastserve.types import InferRequest

PATIENCE_S = 10.0
"""A run that was measured in a bad moment goes to another thread: its answer is waited for."""


class Client:
    """Granian's side of one connection: watcher, protocol object, body and the watch for a disconnect, all in one."""

    def __init__(self, path: str, content: bytes) -> None:
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        self.scope = SimpleNamespace(method="POST", path=path, query_string="", headers=headers)
        self.proto = self
        self._content = content
        self._answered: Callable[[Any], None] = self.ignore
        self.answers: SimpleQueue[tuple[int, bytes]] = SimpleQueue()

    def __call__(self) -> "Client":
        return self

    def add_done_callback(self, callback: Callable[[Any], None], **_: Any) -> None:
        self._answered = callback

    def arrive(self) -> None:
        """The body is there."""
        self._answered(self)

    def result(self) -> bytes:
        return self._content

    def response_bytes(self, status: int, _headers: Any, body: bytes) -> None:
        self.answers.put((status, body))

    def client_disconnect(self) -> Any:
        return SimpleNamespace(add_done_callback=self.ignore, cancel=self.ignore)

    def ignore(self, *_: Any, **__: Any) -> None:
        """The client stays."""


class Parts:
    """The parts of a request for one model, each as a function without arguments; all of them answer rightly once made."""

    def __init__(self, app: App, workload: Workload) -> None:
        assert app.site is not None
        self._app, self._workload = app, workload
        self._lease = app.engine.lease(workload.name)
        self._plan = codec.make_plan(self._lease.signature, self._lease.answer_headers)
        match = app.site.find("POST", workload.path)
        self._request = app.site.request(match, "POST", workload.path, "", {}, workload.body)
        self._asked, self._style = self.decode()
        self._results: SimpleQueue[Any] = SimpleQueue()

    def whole(self, together: int, *, in_lane: bool = False) -> Callable[[], None]:
        """`together` requests: all headers, then all bodies, then all answers."""
        door = self._app.direct_door()
        takes = door.express.takes if in_lane else door.takes
        clients = [Client(self._workload.path, self._workload.body) for _ in range(together)]

        def whole() -> None:
            for client in clients:
                takes(client)
            for client in clients:
                client.arrive()
            for client in clients:
                assert client.answers.get(timeout=PATIENCE_S)[0] == 200

        return whole

    def decode(self) -> tuple[InferRequest, str]:
        return codec.decode_predict(self._request, self._plan)

    def submit(self) -> Any:
        """Checked, run, counted; the answer is taken, not encoded."""
        self._app.engine.submit(self._lease, InferRequest(self._asked.inputs), self._results.put)
        return self._results.get(timeout=PATIENCE_S)

    def run(self) -> Callable[[], Any]:
        """The backend alone."""
        path = self._workload.model_file
        runner, inputs = backend_for(path).load(path, LoadOptions()).runner(), self._asked.inputs
        return lambda: runner.run_one(inputs, 1)

    def encode(self) -> Callable[[], Any]:
        result = self.submit()
        return lambda: codec.encode_predict(result, self._plan, self._style)


PARTS: dict[str, Callable[[Parts], Callable[[], Any]]] = {
    WHOLE: lambda parts: parts.whole(1),
    WHOLE_TOGETHER: lambda parts: parts.whole(TOGETHER),
    IN_LANE: lambda parts: parts.whole(1, in_lane=True),
    IN_LANE_TOGETHER: lambda parts: parts.whole(TOGETHER, in_lane=True),
    DECODE: lambda parts: parts.decode,
    SUBMIT: lambda parts: parts.submit,
    RUN: Parts.run,
    ENCODE: Parts.encode,
}


@pytest.fixture(scope="module")
def parts_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Parts]]:
    folder = tmp_path_factory.mktemp("request")
    workloads = [Workload(folder, name) for name in MODELS]
    app = create_app(Config(repository=RepositoryConfig(path=(str(folder / "models"),))))
    loop = asyncio.new_event_loop()
    app.start(loop)
    app.engine.refresh()
    yield {workload.name: Parts(app, workload) for workload in workloads}
    app.stop()
    loop.close()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("model", MODELS)
def test_request(benchmark: Any, parts_of: dict[str, Parts], model: str, part: str) -> None:
    benchmark.group = request_group(model)
    benchmark.extra_info[CONTENDER] = part
    benchmark(PARTS[part](parts_of[model]))
