"""The table of /v2's paths, put together from its families of calls.

Thread: whichever the door runs a route on; answers may leave from any thread.
Memory: none of its own; what is worked out for a version hangs on its lease.
"""

import re
from collections.abc import Callable
from typing import Protocol

from fastserve.engine.engine import Engine
from fastserve.errors import FastServeError
from fastserve.http.message import Response
from fastserve.http.routes import Route
from fastserve.protocols.oip import errors
from fastserve.protocols.oip.generate import Generate
from fastserve.protocols.oip.infer import Inference
from fastserve.protocols.oip.inspect import Inspection
from fastserve.protocols.oip.mlrun import Mlrun
from fastserve.protocols.oip.models import Models
from fastserve.protocols.oip.repository import Repository
from fastserve.protocols.oip.server import Server
from fastserve.protocols.oip.settings import Settings
from fastserve.protocols.oip.shared_memory import SharedMemory


class Family(Protocol):
    """Calls that belong together: one file of this folder."""

    def routes(self) -> list[Route]:
        """Their paths, those of other families that might match them too standing behind."""


FAMILIES: tuple[Callable[[Engine], Family], ...] = (
    Server,
    Mlrun,
    Inference,
    Generate,
    Inspection,
    Repository,
    Settings,
    SharedMemory,
    Models,
)
"""The order in which paths are tried."""


class OpenInference:
    """The protocol over one engine."""

    name = "oip"
    owns = re.compile(r"/(?:v2(?:/.*)?)?", re.DOTALL)

    def __init__(self, engine: Engine) -> None:
        self._routes = [route for family in FAMILIES for route in family(engine).routes()]

    def routes(self) -> list[Route]:
        """Every path of every family."""
        return self._routes

    def unmatched(self, method: str, path: str) -> FastServeError:
        """The error for / or a path under /v2 that no call has with that method."""
        return errors.unmatched(method, path, [route.method for route in self._routes if route.pattern.fullmatch(path)])

    def encode_error(self, error: FastServeError) -> Response:
        """`error` as `{"error": "..."}`."""
        return errors.encode_error(error)
