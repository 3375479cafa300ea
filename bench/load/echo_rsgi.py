"""The least that an RSGI server can do with a body: give it back. What fastserve's doors are measured against."""

from typing import Any

HEADERS = [("content-type", "application/json")]


class Echo:
    """Answers every request with its own body."""

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """RSGI."""
        proto.response_bytes(200, HEADERS, await proto())


app = Echo()
