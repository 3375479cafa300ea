"""Whether Granian serves with these certificates: run in a process of its own, since what it cannot use ends the process.

`python -m fastserve.server.tls_probe CERTIFICATE KEY [AUTHORITIES]` exits with 0 where it does.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

WITHIN_S = 30.0
ABORTED = -6


def refused(paths: Sequence[str], files: Sequence[int]) -> bool:
    """Whether it was seen that Granian cannot serve with them. `files`: descriptors that the paths lead to."""
    command = [sys.executable, "-m", __name__, *paths]
    try:
        done = subprocess.run(  # noqa: S603 - Python itself, with paths of our own
            command, pass_fds=files, capture_output=True, timeout=WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False  # nothing was seen
    return done.returncode == ABORTED


def _serve(certificate: str, key: str, authorities: str | None = None) -> None:
    granian: Any = import_module("granian._granian")
    loop = asyncio.new_event_loop()
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind("")  # Linux finds a name that no file has
        listener = granian.SocketHolder(os.dup(nobody.fileno()), True, 1)
    tls: Any = (True, certificate, key, None, "tls1.2", authorities, [], authorities is not None)
    before_tls = (1, (None, listener), None, 1, 1, 1, 30, 1, "auto", None, None, False, None)
    worker = granian.RSGIWorker(*before_tls, *tls, (None, None))
    worker.serve_mtr_uds(granian.CallbackScheduler(loop, None, None, None, None), loop, granian.WorkerSignal())


if __name__ == "__main__":
    _serve(*sys.argv[1:])
    os._exit(0)  # what serves now would be waited for
