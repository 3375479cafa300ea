"""`--adaptive-affinity`: the door's threads share a core while one client asks at a time, and no longer."""

import http.client
import os
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fastserve.http.direct import SOLO
from tests.support import models
from tests.support.server import ServerProcess
from tests.support.waiting import until

BODY = b'{"instances": [[1, 2, 3, 4]]}'

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is shared anyway")


def ask(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/v1/models/tiny:predict", BODY)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()


def pinned(pid: int) -> int:
    """Threads of a process and its children that may use one core only."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        count += len(os.sched_getaffinity(int(task.name))) == 1
        children = (task / "children").read_text().split()
        count += sum(pinned(int(child)) for child in children)
    return count


def test_threads_are_brought_together_for_a_lone_client_and_parted_for_two(tmp_path: Path):
    models.save(models.tiny(), tmp_path / "tiny" / "1")
    with ServerProcess(str(tmp_path), "--adaptive-affinity", "true") as server:
        pid = server.process.pid
        assert pinned(pid) == 0
        with closing(server.connection()) as lone:
            for _ in range(SOLO):
                ask(lone)
        assert pinned(pid) == 2

        stop = threading.Event()

        def go_on() -> None:
            with closing(server.connection()) as connection:
                while not stop.is_set():
                    ask(connection)

        others = [threading.Thread(target=go_on) for _ in range(4)]
        for other in others:
            other.start()
        try:
            until(lambda: pinned(pid) == 0)
        finally:
            stop.set()
            for other in others:
                other.join()
