"""The least that an RSGI server does with a request that has a large body and a small answer."""

from typing import Any

from bench.load.echo_rsgi import HEADERS

TAKEN = b'{"taken": true}'


class Sink:
    """Takes every body, and answers shortly."""

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """RSGI."""
        await proto()
        proto.response_bytes(200, HEADERS, TAKEN)


app = Sink()
