"""Who is measured: fastserve through its doors, the bare echoes, fastserve with one thing switched off, and what one would
write without it."""

from pathlib import Path

from msgspec import Struct

from bench.load.echo_sink import TAKEN
from bench.load.servers import Server

FASTSERVE = "fastserve"
ECHO = "Granian RSGI echo"
ASGI_ECHO = "Granian ASGI echo"
SINK = "Granian RSGI, body taken, short answer"
LEAST = "a socket loop and onnxruntime, nothing else"
ASGI = "fastserve --interface asgi"
AFFINE = "fastserve --adaptive-affinity true"
RAW = "onnxruntime alone"
ON_LOOP = "all on the loop"
FASTAPI = "FastAPI, orjson, onnxruntime on uvicorn"
FASTAPI_GRANIAN = "the same on Granian"
LOGGING = "fastserve, /v1/log"
SQLITE_EACH = "the same with SQLite, a commit a request"
SQLITE_GROUPED = "the same with SQLite, commits shared"
SEGMENTS = "the log's segments"
SQLITE = "SQLite, WAL, synchronous=FULL"
STORES = {SEGMENTS: "segments", SQLITE: "sqlite"}
"""Stores alone: no servers, see `bench.load.stores`."""


class Contender(Struct, frozen=True):
    """How to start one; "{models}" stands for the folder of models. `bare`: there are no models behind it."""

    command: tuple[str, ...]
    bare: bool = False

    def answer(self, body: bytes) -> bytes | None:
        """What a request with that body is answered; None where a model says so."""
        return None if not self.bare else TAKEN if "sink" in self.command else body


_SERVE = ("serve", "{models}", "--port", "{port}")
_LOG = (*_SERVE, "--log-dir", "{models}-log-{port}")

CONTENDERS = {
    ECHO: Contender(("bench.load.echo", "rsgi", "{port}"), bare=True),
    FASTSERVE: Contender(("fastserve", *_SERVE)),
    "fastserve, coroutines": Contender(("bench.load.coroutine", *_SERVE)),
    ASGI_ECHO: Contender(("bench.load.echo", "asgi", "{port}"), bare=True),
    SINK: Contender(("bench.load.echo", "sink", "{port}"), bare=True),
    ASGI: Contender(("fastserve", *_SERVE, "--interface", "asgi")),
    AFFINE: Contender(("fastserve", *_SERVE, "--adaptive-affinity", "true")),
    ON_LOOP: Contender(("bench.load.on_loop", *_SERVE)),
    LOGGING: Contender(("fastserve", *_LOG)),
    SQLITE_EACH: Contender(("bench.load.log_sqlite", "each", *_LOG)),
    SQLITE_GROUPED: Contender(("bench.load.log_sqlite", "grouped", *_LOG)),
    LEAST: Contender(("bench.load.least", "{models}", "{port}")),
    FASTAPI: Contender(("bench.load.fastapi_server", "uvicorn", "{models}", "{port}")),
    FASTAPI_GRANIAN: Contender(("bench.load.fastapi_server", "granian", "{models}", "{port}")),
}


def server(name: str, models: Path) -> Server:
    """`name`, serving `models`; not started yet."""
    contender = CONTENDERS[name]
    command = tuple(part.replace("{models}", str(models)) for part in contender.command)
    return Server(name, command, "" if contender.bare else "/readyz")
