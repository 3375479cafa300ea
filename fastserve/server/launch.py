"""From a configuration to running workers, and down again: the parent process of `fastserve serve`.

Thread: the parent's main thread waits here; it serves nothing and loads no model. It never imports onnxruntime: workers
are forked from it, and onnxruntime's threads do not survive a fork.
"""

import gc
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from msgspec.structs import replace

from fastserve import logs
from fastserve.backends.shared import SharedFolder
from fastserve.config import Config, ServerConfig
from fastserve.engine.catalog import Catalog
from fastserve.engine.engine import Engine
from fastserve.engine.plan import available_cpus
from fastserve.engine.worker_plan import planned
from fastserve.limits import MAX_HEAD_BYTES, MAX_HEADERS_BYTES
from fastserve.lines import LineFile
from fastserve.server import worker
from fastserve.server.app import App, create_app
from fastserve.server.certificates import Certificates
from fastserve.server.ending import STOP, settle_in
from fastserve.server.exposure import warnings
from fastserve.server.hub import Hub, Line
from fastserve.server.keeper import keeper
from fastserve.server.listeners import MAX_WAITING_CONNECTIONS, Listeners
from fastserve.server.startup import announce
from fastserve.server.supervisor import Supervisor, want_of_threads
from fastserve.store.folder import check

MAX_REQUESTS_IN_FLIGHT = 16_384
"""Per worker; the batch queues refuse (429) long before, this bounds what waits for its body."""

PONG_S = 20
"""Clients of HTTP/2 that are silent for as long as headers may take are asked whether they are there, and answer within."""

_log = logging.getLogger(__name__)


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the exit code: 0 drained, 1 failed, forced, or not drained in time.

    Raises ConfigError where it cannot listen as configured.
    """
    certificates = Certificates(config.server) if config.server.ssl_certificate else None
    config, workers = _planned(config)
    listeners = Listeners(config.server)
    server = listeners.server
    config = replace(config, server=server)
    _check(config)
    multiprocessing.set_start_method("fork", force=True)  # workers inherit what they speak with; see `Hub`
    first = multiprocessing.get_context().Semaphore(1)
    weights = _weights_folder(server)
    weights_path = None if weights is None else weights.path
    hub = Hub(server.worker_count, Catalog(config), config.repository.poll_seconds, weights_path)
    if server.worker_count > 1:
        _have_in_common()
    target = _worker(server)
    stop_signal = signal.SIGTERM if target is None else STOP
    supervisor = Supervisor(server, hub, listeners, certificates, stop_signal, **granian_options(server))
    compacting = keeper(config)
    if compacting is not None:
        compacting.start()
    try:
        load = partial(_load_app, config, workers, first, os.getpid(), hub, listeners, certificates)
        supervisor.serve(target, load, wrap_loader=False)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except RuntimeError as error:
        return _without_threads(supervisor, error)
    finally:
        if compacting is not None:
            compacting.stop()
        if weights is not None:
            weights.close()
    return 1 if supervisor.cut_short else 0


def _check(config: Config) -> None:
    """Warn, and raise ConfigError for what workers could not write."""
    for warning in warnings(config):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if config.server.access_log is not None:
        LineFile(config.server.access_log, "--access-log").close()  # workers open it; that it cannot be is said here
    if config.log_directory is not None:
        check(Path(config.log_directory))


def _planned(config: Config) -> tuple[Config, str]:
    """With a number of workers; and, where they were to be chosen, how many and why."""
    if config.server.workers != "auto":
        return config, ""
    plan = planned(config.server, Catalog(config).look(), available_cpus())
    return replace(config, server=replace(config.server, workers=plan.count)), f"{plan.count} (auto: {plan.why})"


def _have_in_common() -> None:
    """What every worker will import, and what there is already, lies in memory once as long as nobody writes to it."""
    import_module("onnx")
    gc.collect()
    gc.freeze()  # the collector of a worker would write to every object


def _weights_folder(server: ServerConfig) -> SharedFolder | None:
    """Where several workers share large models."""
    if server.worker_count == 1 or not server.share_weights_bytes:
        return None
    try:
        return SharedFolder(server.weights_dir)
    except OSError as error:
        _log.warning("each worker has its own copy of all weights, for want of a folder (--weights-dir): %s", error)
        return None


def _without_threads(supervisor: Supervisor, error: RuntimeError) -> int:
    """The exit code, where threads are what is wanting. Raises what else it is."""
    wanting = want_of_threads()
    if not wanting:
        raise error
    print(f"Error: {error}{wanting}", file=sys.stderr, flush=True)
    supervisor.kill_all()
    return 1


def _worker(server: ServerConfig) -> Callable[..., None] | None:
    """What runs a worker: ours where it can be had, for RSGI with the door without a loop; else Granian's own (None)."""
    reason = worker.unsupported()
    if reason:
        _log.warning("serving with Granian's own workers, which is slower: %s", reason)
        return None
    return worker.run_worker if server.interface == "rsgi" else worker.run_asgi_worker


def _load_app(
    config: Config,
    workers: str,
    first: Any,
    parent_pid: int,
    hub: Hub,
    listeners: Listeners,
    certificates: Certificates | None,
    line: Line,
) -> App:
    """In a worker: the app. The first worker to be ready prints the table; all of them load the same models."""
    settle_in(parent_pid)
    hub.abandon(line)
    listeners.keep(line.slot)
    logs.set_up(config.server.log_dir)

    def started(engine: Engine) -> None:
        if first.acquire(block=False):
            announce(engine, config.server, workers)

    app = create_app(config, started, line)
    app.certificates = certificates
    return app


def granian_options(server: ServerConfig) -> dict[str, Any]:
    """What Granian is started with; its echoes in bench/load are started with the same."""
    tls: dict[str, Any] = {}
    header_ms = server.header_timeout_ms
    if server.ssl_certificate and server.ssl_keyfile:
        tls = {
            "ssl_cert": Path(server.ssl_certificate),
            "ssl_key": Path(server.ssl_keyfile),
            "ssl_ca": Path(server.ssl_ca) if server.ssl_ca else None,
            "ssl_client_verify": server.ssl_ca is not None and server.ssl_client_certificate == "required",
            "ssl_protocol_min": SSLProtocols.tls12,
        }
    return {
        "address": server.host,
        "port": server.port,
        "uds": Path(server.uds) if server.uds else None,
        "interface": Interfaces(server.interface),
        "workers": server.worker_count,
        # Measured (bench/README.md): one runtime thread and one Python thread, uvloop, is the fastest for one worker.
        "runtime_threads": 1,
        "runtime_mode": RuntimeModes.mt,
        "blocking_threads": 1,
        "loop": Loops.uvloop,
        "http": HTTPModes.auto,
        "http1_settings": HTTP1Settings(header_read_timeout=header_ms, max_buffer_size=MAX_HEAD_BYTES),
        "http2_settings": HTTP2Settings(
            max_headers_size=MAX_HEADERS_BYTES,
            keep_alive_interval=header_ms,
            keep_alive_timeout=min(PONG_S, -(-header_ms // 1000)),
        ),
        "websockets": False,
        "backlog": MAX_WAITING_CONNECTIONS,
        "backpressure": MAX_REQUESTS_IN_FLIGHT,
        "log_level": "warning",
        **tls,
    }
