"""Several workers are one server: its counts, its state, its connections; and workers that are killed come back."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import models, slow_models
from tests.support.failing_serve import FAILING_STARTS
from tests.support.served import ENDLESS, PATIENT, Load, health, wire, workers_of
from tests.support.server import ServerProcess, free_port
from tests.support.shelf import times
from tests.support.waiting import WITHIN_S, until
from tests.support.wire import Wire

PREDICT = "/v1/models/m:predict"
BODY = b'{"instances": [[1, 2]]}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with one quick model."""
    models.save(times(1), tmp_path / "models" / "m" / "1")
    return tmp_path / "models"


def metric(server: ServerProcess, name: str) -> float:
    """The sum of a metric's series; `name` may hold labels."""
    with wire(server) as one:
        text = one.get("/metrics").body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def serving(server: ServerProcess) -> int:
    """How many workers take requests; 0 where nobody listens."""
    with contextlib.suppress(OSError):
        return int(metric(server, 'fastserve_workers{state="serving"}'))
    return 0


def connections_of(pid: int, port: int) -> int:
    """Established connections that a process has at a port of its own (proc(5), /proc/net/tcp)."""
    mine = set(links_of(pid))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f"0100007F:{port:04X}"
    return sum(line[1] == here and line[3] == "01" and f"socket:[{line[9]}]" in mine for line in lines)


def shares(server: ServerProcess, count: int) -> dict[int, int]:
    """How many of `count` connections each worker has, once those of clients that are gone are closed."""
    found: dict[int, int] = {}

    def are_settled() -> bool:
        found.update({pid: connections_of(pid, server.port) for pid in workers_of(server)})
        return sum(found.values()) == count

    until(are_settled)
    return found


@contextlib.contextmanager
def connected(server: ServerProcess, count: int) -> Iterator[list[Wire]]:
    """Clients that have been answered, and stay."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(wire(server)) for _ in range(count)]
        for one in clients:
            assert one.post(PREDICT, BODY).status == 200
        yield clients


@pytest.mark.parametrize("workers", [2, 4])
def test_connections_are_spread_over_workers(folder: Path, workers: int):
    with ServerProcess(str(folder), "--workers", str(workers)) as server, connected(server, 64):
        counts = list(shares(server, 64).values())
        # The kernel spreads by a hash: a share of 16 has a standard deviation of 3.5.
        assert min(counts) >= 64 / workers / 4, counts


def test_whatever_worker_is_asked_counts_and_states_are_those_of_all(folder: Path):
    with ServerProcess(str(folder), "--workers", "2") as server, connected(server, 32) as clients:
        asked = 'fastserve_requests_total{model="m",protocol="tfserving",status="200",version="1"} 32.0'
        for one in clients:
            text = one.get("/metrics").body.decode()
            assert asked in text
            assert text.count('fastserve_model_info{model="m",state="READY",version="1"} 1.0') == 1
            assert "fastserve_workers_counted 2.0" in text
            assert one.get("/readyz").status == 200
            assert b"AVAILABLE" in one.get("/v1/models/m").body


def test_started_means_all_of_them(folder: Path):
    models.save(slow_models.patient(base_steps=400), folder / "patient" / "1")
    with ServerProcess(str(folder), "--workers", "2") as server, connected(server, 16) as clients:
        for one in clients:
            assert one.get("/readyz").status == 200
            assert one.post(PATIENT, b'{"instances": [1]}').status == 200


def test_the_parent_has_no_onnxruntime_and_workers_have_nothing_of_each_other(folder: Path):
    with ServerProcess(str(folder), "--workers", "3") as server:
        pids = [server.process.pid, *workers_of(server)]
        loaded = ["onnxruntime" in Path(f"/proc/{pid}/maps").read_text() for pid in pids]
        assert loaded == [False, True, True, True], "its threads would not survive a fork"
        counts = [files_of_counts(pid) for pid in pids]
        assert [len(each) for each in counts] == [3, 1, 1, 1]
        assert set().union(*counts[1:]) == counts[0]


def files_of_counts(pid: int) -> set[int]:
    """The inodes of the files of counts that a process has open."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "fastserve-counts" in os.readlink(file):
                found.add(file.stat().st_ino)
    return found


def links_of(pid: int) -> list[str]:
    """What the file descriptors of a process are."""
    found = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(file))
    return found


@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
def test_a_killed_worker_comes_back_again_and_again_and_the_others_serve_on(folder: Path, interface: str):
    answered, seconds = 0, []
    launched = time.monotonic()
    with ServerProcess(str(folder), "--workers", "2", "--interface", interface) as server:
        start_s = time.monotonic() - launched
        for killed in range(4):
            victim, other = workers_of(server)
            with connected(server, 24) as clients:
                answered += len(clients)
                staying = shares(server, len(clients))[other]
                os.kill(victim, signal.SIGKILL)
                began = time.monotonic()
                failed = 0
                for one in clients:
                    try:
                        assert one.post(PREDICT, BODY).status == 200
                        answered += 1
                    except OSError:
                        failed += 1
                assert failed == len(clients) - staying, "only the connections of the one that was killed"
            until(lambda: serving(server) == 2)
            seconds.append(time.monotonic() - began)
            assert metric(server, 'fastserve_requests_total{model="m"') >= answered, "counters never go back"
            assert metric(server, "fastserve_worker_restarts_total") == killed + 1
            assert health(server, "/readyz") == (200, {"ready": True})
        # A second is what is promised where a start takes two; a machine with other work is slow at both.
        assert sorted(seconds)[len(seconds) // 2] < max(5, 2 * start_s), (seconds, start_s)
        assert "Unexpected exit" not in server.output
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 0


def test_both_workers_killed_at_once_come_back(folder: Path):
    with ServerProcess(str(folder), "--workers", "2") as server:
        for _ in range(2):
            for worker in workers_of(server):
                os.kill(worker, signal.SIGKILL)
            until(lambda: serving(server) == 2)
        assert metric(server, "fastserve_worker_restarts_total") == 4
        assert health(server, "/readyz")[0] == 200


def test_a_successor_serves_what_is_on_disk_now(folder: Path):
    with ServerProcess(str(folder), "--workers", "2", "--poll-seconds", "0.1") as server:
        with Load(server, clients=4) as load:
            models.save(times(2), folder / "m" / "2")
            until(lambda: load.versions == {2})
        os.kill(workers_of(server)[0], signal.SIGKILL)
        until(lambda: serving(server) == 2)
        with connected(server, 16) as clients:
            assert {one.post(PREDICT, BODY).body for one in clients} == {b'{"predictions": [[2,4]]}'}


def test_a_worker_that_is_told_to_end_is_replaced(folder: Path):
    with ServerProcess(str(folder), "--workers", "2") as server:
        os.kill(workers_of(server)[0], signal.SIGTERM)
        until(lambda: "ended with code 0; another one takes its place" in server.output)
        until(lambda: serving(server) == 2)


@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_signal_to_the_whole_group_drains_quietly(folder: Path, interface: str, workers: int):
    arguments = ("--workers", str(workers), "--interface", interface, "--drain-delay-ms", "1200")
    with ServerProcess(str(folder), *arguments) as server:
        with Load(server, clients=3) as load:
            signalled = time.monotonic()
            os.killpg(server.process.pid, signal.SIGTERM)
            assert server.process.wait(WITHIN_S) == 0, server.output
        assert time.monotonic() - signalled >= 1.2, "the drain's delay holds for a signal to the workers too"
        assert [why for sent, why in load.failed if sent < signalled + 0.3] == []
        assert "ERROR" not in server.output
        assert "Unexpected" not in server.output
        assert "Traceback" not in server.output


@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
def test_what_does_not_end_is_ended_with_several_workers_too(folder: Path, interface: str):
    models.save(slow_models.patient(), folder / "patient" / "1")
    arguments = ("--workers", "2", "--drain-timeout-ms", "400", "--interface", interface)
    with ServerProcess(str(folder), *arguments) as server, wire(server) as one:
        one.send(PATIENT, ENDLESS)
        assert health(server, "/livez")[0] == 200
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 1, "a request was cut short"


def test_a_hangup_signal_to_the_whole_group_makes_it_look_and_ends_nobody(folder: Path):
    with ServerProcess(str(folder), "--poll-seconds", "0", "--workers", "2") as server:
        workers = workers_of(server)
        models.save(times(2), folder / "m" / "2")
        os.killpg(server.process.pid, signal.SIGHUP)
        with Load(server, clients=4) as load:
            until(lambda: load.versions == {2})
            assert load.failed == []
            assert workers_of(server) == workers


def test_a_worker_whose_parent_hangs_answers_for_itself_and_says_so(folder: Path):
    with ServerProcess(str(folder), "--workers", "2") as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: metric(server, "fastserve_workers_counted") == 1)
            assert health(server, "/readyz")[0] == 200
            with connected(server, 8):
                pass
        finally:
            server.process.send_signal(signal.SIGCONT)
        until(lambda: metric(server, "fastserve_workers_counted") == 2)


def test_workers_that_cannot_start_are_not_started_for_ever(folder: Path, tmp_path: Path):
    (tmp_path / "failing").touch()
    module = FAILING_STARTS[1:]
    command = [sys.executable, *module, str(folder), "--workers", "2", "--port", str(free_port())]
    ended = subprocess.run(
        command,
        check=False,
        capture_output=True,
        timeout=WITHIN_S,
        env={**os.environ, "FAILING": str(tmp_path / "failing")},
    )
    assert ended.returncode == 1
    assert b"ended with code 3 before it served" in ended.stderr
    assert b"giving up" in ended.stderr


def test_a_successor_that_cannot_start_is_started_ever_later_and_the_others_serve(folder: Path, tmp_path: Path):
    failing = tmp_path / "failing"
    environment = {"FAILING": str(failing)}
    with ServerProcess(str(folder), "--workers", "2", environment=environment, program=FAILING_STARTS) as server:
        failing.touch()
        os.kill(workers_of(server)[0], signal.SIGKILL)
        until(lambda: len(pauses(server)) >= 4)
        assert pauses(server)[:4] == [0.1, 0.2, 0.4, 0.8]
        assert health(server, "/readyz")[0] == 200
        with connected(server, 8):
            pass
        failing.unlink()
        until(lambda: serving(server) == 2)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        until(lambda: serving(server) == 2)


def pauses(server: ServerProcess) -> list[float]:
    """How much later workers that did not start were to be started again."""
    return [float(found) for found in re.findall(r"started again in ([\d.]+) s", server.output)]
