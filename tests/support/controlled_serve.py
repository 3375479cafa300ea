"""`fastserve` with a protocol of a few lines that makes the engine's calls: POST /calls/NAME/MODEL, overrides as the body."""

import re

import msgspec

from fastserve.cli.main import main
from fastserve.engine.engine import Engine
from fastserve.engine.state import IndexEntry
from fastserve.errors import FastServeError, UnknownPath
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.http.status import status_of
from fastserve.protocols.table import PROTOCOLS
from fastserve.server import app

WITH_CALLS = ("python", "-m", "tests.support.controlled_serve", "serve")
"""As the `program` of a ServerProcess."""


class Calls:
    """Owns `/calls`."""

    name = "calls"
    owns = re.compile("/calls/.*")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """One for all."""
        pattern = re.compile("/calls/(?P<call>load|unload|index|refresh)(/(?P<model>[^/]+))?")
        return [Route("POST", pattern, "admin", infer=self.call)]

    def unmatched(self, method: str, path: str) -> FastServeError:
        """404."""
        return UnknownPath(f"no {method} {path}")

    def encode_error(self, error: FastServeError) -> Response:
        """Its text."""
        return Response(status_of(error), [], str(error).encode())

    def call(self, request: Request, reply: Reply) -> None:
        """Ask, and answer from wherever it is told."""
        told = reply.then(encode)
        call = getattr(self._engine.control, request.params["call"])
        model = request.params.get("model")
        overrides = [msgspec.json.decode(request.body)] if request.body else []
        call(told) if model is None else call(model, told, *overrides)


def encode(entries: list[IndexEntry]) -> Response:
    """`{"m/1": "READY"}`."""
    states = {f"{entry.model}/{entry.version}": entry.state.value for entry in entries}
    return Response(200, [("content-type", "application/json")], msgspec.json.encode(states))


if __name__ == "__main__":
    app.PROTOCOLS = (Calls, *PROTOCOLS)
    main()
