"""Clients that leave at every stage: neighbours are answered, and nothing is left of those that went.

`FASTSERVE_TEST_LEAVERS=100000`: so many of them.
"""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from tests.soak.leaving import Visits, make_folder, visits
from tests.soak.watch import Sample, look
from tests.support.served import counted, wire, workers_of
from tests.support.server import ServerProcess
from tests.support.waiting import until

LEAVERS = int(os.environ.get("FASTSERVE_TEST_LEAVERS", "400"))
LONG = 20_000
"""From here on, memory says something, and every interface has its turn."""
BYTES_EACH = 100
"""Of memory that may be left by each: less than any object of a request takes."""


@pytest.fixture(scope="module", params=["rsgi", "asgi"][: 2 if LEAVERS >= LONG else 1])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    file = make_folder(tmp_path_factory.mktemp("leaving"))
    with ServerProcess(str(file), "--interface", request.param) as server:
        yield server
        assert "Traceback" not in server.output
        assert "ERROR" not in server.output


def at_rest(server: ServerProcess, descriptors: int) -> Sample:
    """A look, once nothing is open any more."""
    until(lambda: look(server.process.pid, 0).descriptors <= descriptors)
    return look(server.process.pid, 0)


@pytest.mark.timeout(240 + LEAVERS / 10)
def test_clients_that_leave_at_every_stage_leave_nothing_behind(server: ServerProcess):
    with visits(server) as made:
        made.round()  # what is had once: threads, arenas, the first sizes of buffers
        before, workers = look(server.process.pid, 0), workers_of(server)
        memory = [at_rest(server, before.descriptors).memory_mb]
        while made.gone < LEAVERS:
            leave(made, LEAVERS // 20)
            memory.append(at_rest(server, before.descriptors + 4).memory_mb)
            print(f"{made.gone} left, {memory[-1]:.0f} MB", flush=True)
        after = at_rest(server, before.descriptors)
    assert workers_of(server) == workers
    assert after.threads <= before.threads + 2
    with wire(server) as one:
        assert counted(one, "fastserve_queue_rows{") == 0
    print(
        f"{made.gone} left; memory {[round(each) for each in memory]} MB; out of the queue in ms: "
        f"median {np.median(made.freed_ms):.1f}, p99 {np.percentile(made.freed_ms, 99):.1f}"
    )
    if made.gone >= LONG:
        late = memory[len(memory) // 4 :]
        assert np.polyfit(np.linspace(0, 0.75 * made.gone, len(late)), late, 1)[0] * 1e6 < BYTES_EACH


def leave(made: Visits, count: int) -> None:
    """So many more, or a round."""
    until_gone = made.gone + count
    made.round()
    while made.gone < until_gone:
        made.round()
