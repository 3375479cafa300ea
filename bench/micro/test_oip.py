"""A request of the Open Inference protocol: its body to tensors and back, when its JSON came before and when it did not."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.load.workload import Workload
from fastserve.config import Config, RepositoryConfig
from fastserve.engine.lease import Lease
from fastserve.http.message import Request
from fastserve.protocols.oip.decode import decode_infer
from fastserve.protocols.oip.encode import encode_infer
from fastserve.protocols.oip.plan import InferPlan, plan_of
from fastserve.server.app import create_app
from fastserve.types import InferResult, Timing

WORKLOADS = ("tiny, v2 binary", "mlp, v2 JSON", "wide, v2 binary")
Parts = tuple[Request, InferPlan, InferResult]


@pytest.fixture(scope="module")
def parts_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Parts]]:
    folder = tmp_path_factory.mktemp("oip")
    workloads = {name: Workload(folder, name) for name in WORKLOADS}
    app = create_app(Config(repository=RepositoryConfig(path=(str(folder / "models"),))))
    loop = asyncio.new_event_loop()
    app.start(loop)
    app.engine.refresh()

    def parts(name: str) -> Parts:
        workload = workloads[name]
        assert app.site is not None
        match = app.site.find("POST", workload.path)
        headers = {key.lower(): value for key, value in workload.headers.items()}
        request = app.site.request(match, "POST", workload.path, "", headers, workload.body)
        lease: Lease = app.engine.lease(workload.model)
        plan = plan_of(lease)
        asked, _, _ = decode_infer(request, plan)
        runner = lease.batcher.short.runner
        outputs = runner.run_one(asked.inputs, 1)
        return request, plan, InferResult(workload.model, 1, outputs, Timing())

    yield parts
    app.stop()
    loop.close()


@pytest.mark.benchmark(group="Open Inference: decode")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", WORKLOADS)
def test_decode(benchmark: Any, parts_of: Callable[[str], Parts], name: str, known: bool) -> None:
    request, plan, _ = parts_of(name)

    def decode() -> None:
        if not known:
            plan.asked.clear()
            plan.latest.clear()
            plan.templates.clear()
        decode_infer(request, plan)

    benchmark(decode)


@pytest.mark.benchmark(group="Open Inference: encode")
@pytest.mark.parametrize("request_id", ["", "7f3a-1"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_encode(benchmark: Any, parts_of: Callable[[str], Parts], name: str, request_id: str) -> None:
    request, plan, result = parts_of(name)
    _, form, _ = decode_infer(request, plan)
    benchmark(encode_infer, result, plan, form, request_id)
