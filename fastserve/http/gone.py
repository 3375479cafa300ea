"""A client that goes away takes its request out of the queue.

Thread: told on the network's. Memory: none that outlives the answer.
"""

from typing import Any

from fastserve.http.message import Reply


class ClientGone:
    """Called when the client is gone, or the watch for it was ended."""

    __slots__ = ("_future", "_reply")

    def __init__(self, reply: Reply, future: Any) -> None:
        self._reply: Reply | None = reply
        self._future = future
        future.add_done_callback(self, context=None)

    def __call__(self, _: Any) -> None:
        """Take the request out of the queue, if it still waits."""
        reply = self._reply
        if reply is not None and not reply.done:
            reply.give_up()

    def end(self) -> None:
        """The request is answered. Granian keeps us with the future, and would keep the reply, its tensors and itself."""
        future, self._future, self._reply = self._future, None, None
        if future is not None:
            future.cancel()
