"""A served prediction log: what is acknowledged is stored, whatever is killed; a disk that is full makes nothing else fail.

FASTSERVE_TEST_SERVER_KILLS: how many workers (and now and then the compactor) are killed under load (2).
"""

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import fastserve.demo
from fastserve.protocols.arize.reader import READERS
from fastserve.store import folder
from fastserve.store.reader import Reader
from tests.support import waiting
from tests.support.served import workers_of
from tests.support.server import ServerProcess

KILLS = int(os.environ.get("FASTSERVE_TEST_SERVER_KILLS", "2"))
SIZE_BYTES = 30 << 20
FILLER_BYTES = 10 << 20


WITHIN_S = 100.0
"""Workers start in seconds, and in many more where the machine is busy; nothing here is about time."""


def until(condition: Callable[[], bool]) -> None:
    waiting.until(condition, WITHIN_S)


def record(prediction_id: str, padding: int = 300) -> bytes:
    prediction = {"prediction_label": {"categorical": "a"}, "features": {"x": {"string": "y" * padding}}}
    return json.dumps({"model_id": "m", "prediction_id": prediction_id, "prediction": prediction}).encode()


def posted(server: ServerProcess, body: bytes, connection: http.client.HTTPConnection | None = None) -> int:
    own = connection or server.connection()
    try:
        own.request("POST", "/v1/log", body)
        answer = own.getresponse()
        answer.read()
        return answer.status
    finally:
        if connection is None:
            own.close()


def got(server: ServerProcess, path: str) -> tuple[int, str]:
    connection = server.connection()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def stored(directory: Path) -> Counter[str]:
    """How often each prediction id is there, in files and segments."""
    with Reader(directory, READERS).connection() as duck:
        rows = duck.execute("select prediction_id, count(*) from records group by 1").fetchall()
    return Counter(dict(rows))


def compactor_of(server: ServerProcess) -> int | None:
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            with suppress(FileNotFoundError):
                if "fastserve.server.compactor" in Path(f"/proc/{pid}/cmdline").read_text():
                    return int(pid)
    return None


def settings(path: Path, **log: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in log.items()]
    file = path / "fastserve.toml"
    file.write_text("\n".join(["[log]", 'directory = "log"', *lines]))
    return str(file)


@pytest.mark.timeout(300)
def test_a_log_without_models_is_ready_counted_and_compacted(tmp_path: Path) -> None:
    with ServerProcess(settings(tmp_path, max_segment_seconds=0.2)) as server:
        assert got(server, "/readyz")[0] == 200
        for i in range(5):
            assert posted(server, record(f"p{i}")) == 200
        assert stored(tmp_path / "log") == {f"p{i}": 1 for i in range(5)}
        metrics = got(server, "/metrics")[1]
        assert "\nfastserve_log_records_total 5.0\n" in metrics
        assert "\nfastserve_log_ready 1.0\n" in metrics
        assert "\nfastserve_log_sync_seconds_count" in metrics
        until(lambda: any((tmp_path / "log").glob("parquet/*/*/*.parquet")))
        until(lambda: not any(segment.sealed for segment in folder.listed(tmp_path / "log")))
        assert stored(tmp_path / "log") == {f"p{i}": 1 for i in range(5)}
        compactor = compactor_of(server)
        assert compactor is not None
        assert posted(server, record("last")) == 200
    assert stored(tmp_path / "log")["last"] == 1
    assert all(segment.sealed for segment in folder.listed(tmp_path / "log")), "what was open is sealed at the end"
    until(lambda: not Path(f"/proc/{compactor}").exists())


class Load:
    """Threads that send records, each once, and remember which were acknowledged."""

    def __init__(self, server: ServerProcess, threads: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(i,)) for i in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, thread: int) -> None:
        connection = self._server.connection()
        number = 0
        while not self._stop.is_set():
            number += 1
            name = f"{thread}-{number}"
            try:
                status = posted(self._server, record(name), connection)
            except (OSError, http.client.HTTPException):  # its worker was killed: nobody knows what became of it
                connection.close()
                connection = self._server.connection()
                continue
            if status == 200:
                self.acknowledged.append(name)
            else:
                self.refused.append(status)
        connection.close()


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.timeout(300 + 60 * KILLS)
def test_killed_workers_have_stored_what_they_acknowledged_once(tmp_path: Path, workers: int) -> None:
    seed = int.from_bytes(os.urandom(4))
    rand = random.Random(seed)
    file = settings(tmp_path, max_segment_seconds=0.5, max_segment_bytes=100_000)
    with ServerProcess(file, "--workers", str(workers)) as server, Load(server) as load:
        for kill in range(KILLS):
            count = len(load.acknowledged) + rand.randint(1, 200)
            until(lambda count=count: len(load.acknowledged) > count)  # type: ignore[misc]
            victims = workers_of(server)
            os.kill(rand.choice(victims), signal.SIGKILL)
            compactor = compactor_of(server)
            if kill % 2 == 1 and compactor is not None:
                os.kill(compactor, signal.SIGKILL)
            until(lambda old=victims: len(set(workers_of(server)) - set(old)) == 1)  # type: ignore[misc]
    assert set(load.refused) <= {503}, seed
    there = stored(tmp_path / "log")
    wrong = {name: there[name] for name in load.acknowledged if there[name] != 1}
    assert not wrong, f"seed {seed}: {len(wrong)} of {len(load.acknowledged)}: {dict(list(wrong.items())[:5])}"
    assert set(there.values()) == {1}, seed


def on_small_disk(at: Path) -> tuple[str, ...]:
    """`fastserve serve` seeing a disk of SIZE_BYTES at that path, with a `filler` on it; nobody else sees it."""
    at.mkdir()
    unshare = shutil.which("unshare")
    command = (str(unshare), "--user", "--map-root-user", "--mount", "sh", "-c")
    mount = f"mount -t tmpfs -o size={SIZE_BYTES} tmpfs '{at}' && head -c {FILLER_BYTES} /dev/zero > '{at}/filler' && "
    if unshare is None or subprocess.run([*command, f"{mount} true"], capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be made here: unshare and mount are not allowed")
    return (*command, mount + 'exec "$0" "$@"', str(Path(sys.executable).parent / "fastserve"), "serve")


@pytest.mark.timeout(300)
def test_a_full_disk_refuses_records_and_nothing_else_until_there_is_room(tmp_path: Path) -> None:
    file = settings(tmp_path, max_prepared_bytes=0)  # files that end sooner are compacted sooner, which makes room
    models = Path(fastserve.demo.__file__).parent / "models"
    with open(file, "a") as text:
        text.write(f'\n[repository]\npath = "{models}"\n')
    with ServerProcess(file, program=on_small_disk(tmp_path / "log")) as server:
        inside = Path(f"/proc/{server.process.pid}/root{tmp_path}/log")
        until(lambda: got(server, "/readyz")[0] == 200)
        statuses = {f"p{i}": posted(server, record(f"p{i}", padding=300_000)) for i in range(80)}
        assert set(statuses.values()) == {200, 503}
        status, reason = got(server, "/readyz")
        assert (status, "disk is full" in reason) == (503, True)
        assert got(server, "/v1/models/iris")[0] == 200
        assert "\nfastserve_log_ready 0.0\n" in got(server, "/metrics")[1]
        (inside / "filler").unlink()
        until(lambda: got(server, "/readyz")[0] == 200)
        assert posted(server, record("after")) == 200
        kept = {name: 1 for name, status in statuses.items() if status == 200}
        assert stored(inside) == {**kept, "after": 1}


def test_where_it_cannot_be_written_the_server_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    command = [sys.executable, "-m", "fastserve", "serve", settings(tmp_path), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "the prediction log cannot be written to" in ended.stderr
    assert "[log] directory" in ended.stderr
    assert "Traceback" not in ended.stderr
