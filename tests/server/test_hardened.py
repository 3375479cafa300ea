"""Little to be had: a root that is read only, a user who may nothing, few file descriptors. It serves all the same."""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from onnx import TensorProto as T

from tests.support import models
from tests.support.served import health, workers_of
from tests.support.server import ServerProcess, free_port
from tests.support.shelf import times
from tests.support.waiting import until
from tests.support.wire import Wire

PREDICT = "/v1/models/m:predict"
GOOD = b'{"instances": [[1, 2]]}'
FASTSERVE = str(Path(sys.executable).parent / "fastserve")


class Confined(ServerProcess):
    """A server that another program starts, with what it takes away."""

    def __init__(self, wrapper: Sequence[str], *arguments: str) -> None:
        super().__init__(FASTSERVE, "serve", *arguments, program=wrapper)


def can(*command: str) -> bool:
    """Whether this machine lets us do that."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models.save(times(1), tmp_path / "m" / "1")
    return tmp_path


@pytest.fixture
def readable() -> Iterator[Path]:
    """As `folder`, where any user may look: pytest's own folders are for one only."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        os.chmod(made, 0o755)
        models.save(times(1), Path(made) / "m" / "1")
        yield Path(made)


def answers(server: ServerProcess) -> bool:
    with Wire((server.host, server.port)) as wire:
        return wire.post(PREDICT, GOOD).status == 200


POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
READ_ONLY = 'mount --make-rprivate / && mount -o remount,ro,bind / && ! touch /tmp/written 2>/dev/null && exec "$@"'


@pytest.mark.skipif(
    os.geteuid() != 0 or not can("unshare", "-m") or not can(*POWERLESS), reason="takes root, unshare and setpriv"
)
def test_nothing_can_be_written_and_nothing_is_permitted(readable: Path):
    # Another user where this environment can be read by one; else ours without a single capability.
    tried = subprocess.run([*POWERLESS, *NOBODY, FASTSERVE, "version"], check=False, capture_output=True)
    reachable = tried.returncode == 0
    wrapper = ("unshare", "-m", "sh", "-c", READ_ONLY, "sh", *POWERLESS, *(NOBODY if reachable else ()))
    with Confined([shutil.which(wrapper[0]) or "", *wrapper[1:]], str(readable), "--workers", "2") as server:
        assert answers(server)
        assert "Traceback" not in server.output


@pytest.mark.skipif(not can("prlimit", "--nofile=80"), reason="takes prlimit")
def test_few_file_descriptors(folder: Path):
    """Who comes when there are none left waits, or is hung up on; when others have left, it goes on."""
    wrapper = (shutil.which("prlimit") or "", "--nofile=80")
    with Confined(wrapper, str(folder), "--poll-seconds", "0.1") as server:
        staying = Wire((server.host, server.port))
        assert staying.post(PREDICT, GOOD).status == 200
        crowd = []
        for _ in range(150):
            crowd.append(socket.create_connection((server.host, server.port), 20))
            crowd[-1].send(b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n")
        assert staying.post(PREDICT, GOOD).status == 200, "who is there is served"
        for one in crowd:
            one.close()
        until(lambda: _answers_at_all(server))
        assert staying.post(PREDICT, GOOD).status == 200
        staying.close()
        assert server.process.poll() is None


def address_space(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmSize")]
    return int(line.split()[1]) * 1024


ONES = b",".join([b"1"] * 4_000_000)
ROOMS_MB = (60, 45, 30, 3)
"""What is left to a worker. The request takes about 16 MB as it comes, as a tensor, as an answer, and as its text."""


@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
def test_what_there_is_no_memory_for_is_refused_and_what_comes_after_it_served(folder: Path, interface: str):
    """Answered, told that there is no memory, or, where even the network's side has none, hung up on; never left alone."""
    models.save(models.identity(T.FLOAT, ("N", "K")), folder / "wide" / "1")
    refused = 0
    with ServerProcess(str(folder), "--interface", interface) as server:
        for room_mb in ROOMS_MB:
            until(lambda: health(server, "/readyz")[0] == 200)
            (worker,) = workers_of(server)
            limit = address_space(worker) + (room_mb << 20)
            resource.prlimit(worker, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            with Wire((server.host, server.port)) as wire, contextlib.suppress(ConnectionError):
                answer = wire.post("/v1/models/wide:predict", b'{"instances": [[%b]]}' % ONES)
                assert answer.status in (200, 503), answer.body[:200]
                if answer.status == 503:
                    refused += 1
                    assert b"no memory" in answer.body
                    assert answer.headers["retry-after"] == "1"
                    assert wire.post(PREDICT, GOOD).status == 200, "on the same connection"
            until(lambda: health(server, "/readyz")[0] == 200)
            with contextlib.suppress(ProcessLookupError):  # it may be another worker by now
                resource.prlimit(worker, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert refused, "some of these rooms hold the request and not its answer"
        assert "Traceback" not in server.output


ANOTHER = 100_000 + os.getpid()
"""A user whom nobody else is: threads are counted by user."""
OF_ANOTHER = (f"--reuid={ANOTHER}", f"--regid={ANOTHER}", "--clear-groups")
READS = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--bounding-set=-all,+dac_override")
"""Limits of threads are for users without rights; ours may read this environment all the same."""


@pytest.mark.skipif(
    os.geteuid() != 0 or not can("prlimit", "--nproc=4000", "setpriv", *OF_ANOTHER, *READS),
    reason="takes root, prlimit and setpriv",
)
def test_without_threads_it_does_not_start_and_says_what_to_do(readable: Path):
    def ended_with(threads: int) -> tuple[int, str]:
        wrapper = ["prlimit", f"--nproc={threads}", "setpriv", *OF_ANOTHER, *READS]
        command = [*wrapper, FASTSERVE, "serve", str(readable), "--port", str(free_port())]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stdout + ended.stderr

    for threads in (5, 10):  # too few for the parent, for the worker
        status, output = ended_with(threads)
        assert status == 1
        assert f"only {threads} processes and threads are allowed here" in output
        assert "ulimit -u" in output


def _answers_at_all(server: ServerProcess) -> bool:
    try:
        return answers(server)
    except OSError:
        return False
