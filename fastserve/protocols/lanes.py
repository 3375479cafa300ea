"""What the protocols' lanes have in common (see `http.routes.Lane`): one version's requests that are all alike.

Thread: the door's; answers of what waits are encoded on an executor's. Memory: a lane holds the lease of its version for as
long as that is the one that its path means.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastserve.engine.block import Blocks, Found
from fastserve.engine.lease import Lease
from fastserve.errors import FastServeError
from fastserve.http.message import Reply, Response
from fastserve.types import Tensor

Told = Callable[[Any], None]


class ModelLane:
    """One path's requests. `serves`: whether the path still means this version; raises what a lookup raises."""

    light = False
    limit = 0
    header: str | None = None
    header_value: str | None = None

    def __init__(self, lease: Lease, blocks: Blocks, serves: Callable[[], bool]) -> None:
        self.subject = lease.subject
        self._lease = lease
        self._blocks = blocks
        self._serves = serves

    def read(self, bodies: list[bytes]) -> Found:
        """The input of each body; None for one that is not like the others."""
        raise NotImplementedError

    def encode(self, outputs: tuple[Tensor, ...], rows: list[int]) -> list[Response]:
        """An answer for each request of a run, of so many rows each."""
        raise NotImplementedError

    def told(self, reply: Reply) -> Told:
        """What is told of a request that is answered by itself."""
        raise NotImplementedError

    @property
    def waits(self) -> bool:
        """See `Lane`."""
        return not self._blocks.short

    def answer(self, bodies: list[bytes], came_ns: list[int]) -> list[Response | None] | None:
        """See `Lane`."""
        return self._blocks.run(self.read(bodies), came_ns, self.encode) if self._is_open() else None

    def refused(self, came_ns: list[int]) -> FastServeError | None:
        """See `Lane`."""
        gate = self._lease.gate
        return gate.refusal(came_ns) if gate is not None and self._is_open() else None

    def submit(
        self, bodies: list[bytes], came_ns: list[int], replies: Sequence[Reply], deadline_ns: int
    ) -> list[bool] | None:
        """See `Lane`."""
        if not self._is_open():
            return None
        answers = [self.told(reply) for reply in replies]
        tickets = self._blocks.tickets(self.read(bodies), came_ns, answers, deadline_ns, self._lease, self)
        for reply, ticket in zip(replies, tickets, strict=True):
            reply.pending = ticket
        self._lease.batcher.enqueue_all([ticket for ticket in tickets if ticket is not None])
        return [ticket is not None for ticket in tickets]

    def _is_open(self) -> bool:
        try:
            return self._serves()
        except FastServeError:
            return False
