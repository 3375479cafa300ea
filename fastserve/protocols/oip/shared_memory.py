"""What is refused: tensors in memory that client and server share. Every call about it is told so.

Thread: the door's. Memory: none.
"""

import re

from fastserve.engine.engine import Engine
from fastserve.http.message import Reply, Request
from fastserve.http.routes import Route
from fastserve.protocols.oip.errors import NotOffered

_REGIONS = "/v2/(?:system|cuda)sharedmemory"


class SharedMemory:
    """The calls about regions."""

    def __init__(self, _: Engine) -> None:
        pass

    def routes(self) -> list[Route]:
        """All of them end alike."""
        calls = [
            ("GET", "(?:/region/[^/]+)?/status/?"),
            ("POST", "/region/[^/]+/register/?"),
            ("POST", "(?:/region/[^/]+)?/unregister/?"),
        ]
        return [Route(method, re.compile(_REGIONS + call), "read", infer=self.refuse) for method, call in calls]

    def refuse(self, _: Request, __: Reply) -> None:
        """501."""
        raise NotOffered(
            "shared memory is not served; send the tensors themselves, in binary they are not copied twice"
        )
