"""Servers of our own on free loopback ports, whose settings change while they serve.

Thread: the caller's. What was started is stopped, by its process group, whatever happens.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from fastserve.loadtest import target
from fastserve.loadtest.target import LoadTestError, Target
from fastserve.loadtest.tune.space import DEFAULT, Setting
from fastserve.loadtest.tune.written import configuration
from fastserve.repository.layout import ModelFiles

HOST = "127.0.0.1"
READY_WITHIN_S = 120.0
END_WITHIN_S = 15.0
LOOK_EVERY_S = 0.02
SHOWN_OUTPUT_CHARS = 1000


class Servers:
    """A server for each number of workers that was asked for; its other settings are changed by a load call.

    Those not driven right now are idle: nothing is looked at unless it is asked for.
    """

    def __init__(self, model: ModelFiles) -> None:
        self._model = model
        self._running: dict[int, Target] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def at(self, setting: Setting) -> Target:
        """A server with that setting, ready. Raises LoadTestError where there is none."""
        running = self._running.get(setting.workers)
        if running is None:
            bare = Setting(workers=setting.workers)
            running = self._running[setting.workers] = self._stack.enter_context(_serving(self._model, bare))
            if setting == bare:
                return running
        path = f"/v2/repository/models/{quote(self._model.name, safe='')}/load"
        config = msgspec.json.encode(_overrides(setting)).decode()
        asked = msgspec.json.encode({"parameters": {"config": config}})
        answer = running.ask("POST", path, asked, [("Content-Type", "application/json")])
        if not answer.is_good:
            raise LoadTestError(f"the server does not take {setting.text()}: {answer.text()}")
        return running


def _overrides(setting: Setting) -> dict[str, Any]:
    """What is other than configured, as Triton's load call says it."""
    config: dict[str, Any] = {}
    if setting.max_batch_rows != DEFAULT.max_batch_rows:
        config["max_batch_size"] = setting.max_batch_rows
    if setting.max_queue_delay_us:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": setting.max_queue_delay_us}
    if setting.slots:
        config["instance_group"] = [{"count": setting.slots}]
    if setting.threads:
        config["parameters"] = {"intra_op_thread_count": {"string_value": str(setting.threads)}}
    return config


@contextmanager
def _serving(model: ModelFiles, setting: Setting) -> Iterator[Target]:
    """A server with that setting, ready. Raises LoadTestError where it does not start."""
    with tempfile.TemporaryDirectory(prefix="fastserve-tune-") as folder, tempfile.TemporaryFile() as log:
        config = Path(folder) / "fastserve.toml"
        config.write_text(configuration(model, setting), encoding="utf-8")
        port = _free_port()
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [
                sys.executable,
                "-m",
                "fastserve",
                "serve",
                str(config),
                "--poll-seconds",
                "0",
                "--host",
                HOST,
                "--port",
                str(port),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_own_environment(),
            start_new_session=True,
        )
        try:
            yield _ready(process, port, log.fileno())
        finally:
            _end(process)


def _own_environment() -> dict[str, str]:
    """Ours, without what would set the server's options."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _ready(process: "subprocess.Popen[bytes]", port: int, log: int) -> Target:
    """The server, once it is ready. Raises LoadTestError where it ends, or has started and is not."""
    deadline = time.monotonic() + READY_WITHIN_S
    why = ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            reached = target.find(f"http://{HOST}:{port}", timeout_s=READY_WITHIN_S, env={})
            started = reached.ask("GET", "/startupz").is_good
            ready = reached.ask("GET", "/readyz")
        except LoadTestError:
            started = False  # nobody listens yet
        else:
            if ready.is_good:
                return reached
            if started:
                why = ready.text()
                break
        time.sleep(LOOK_EVERY_S)
    said = os.pread(log, 1 << 20, 0).decode("utf-8", "replace").strip()[-SHOWN_OUTPUT_CHARS:]
    raise LoadTestError(f"the server did not become ready: {why or said}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end; then its workers too are ended. Waits until it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
