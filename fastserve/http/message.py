"""One request and its answer, the same whichever door it came through.

Thread: a request belongs to the thread that runs its route; a `Reply` may be called from any thread, once.
Memory: `body` is the door's own bytes object; nothing is copied out of it unless a codec does.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from fastserve.errors import FastServeError
from fastserve.types import Answer, InferResult

Headers = list[tuple[str, str]]
"""Names in lower case; values visible ASCII only (RSGI panics on anything else)."""


class Pending(Protocol):
    """Work that a caller may still give up on."""

    def cancel(self) -> None:
        """Leave the queue; the answer, if it still comes, is dropped."""


class Response(Struct, frozen=True):
    """A finished answer."""

    status: int
    headers: Headers
    body: bytes


class Request(Struct):
    """A request whose body has arrived, decompressed and within its limit."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    params: dict[str, str]
    received_ns: int
    deadline_ns: int


class Reply:
    """Where the answer goes, exactly once: the first of `send` and `fail` wins, later ones are dropped."""

    __slots__ = ("_done", "_encode_error", "_send")

    def __init__(self, send: Callable[[Response], None], encode_error: Callable[[FastServeError], Response]) -> None:
        self._send = send
        self._encode_error = encode_error
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the answer is out."""
        return self._done

    def send(self, response: Response) -> None:
        """Answer with `response`."""
        if not self._done:
            self._done = True
            self._send(response)

    def fail(self, error: FastServeError) -> None:
        """Answer with `error`, in the shape of the protocol that the path belongs to."""
        self.send(self._encode_error(error))

    def then(self, encode: Callable[..., Response], *arguments: Any) -> Answer:
        """An `Answer` for the engine: `encode(result, *arguments)` is sent, an error goes to `fail`."""

        def answer(outcome: InferResult | FastServeError) -> None:
            if isinstance(outcome, FastServeError):
                self.fail(outcome)
                return
            try:
                response = encode(outcome, *arguments)
            except FastServeError as error:
                self.fail(error)
                return
            self.send(response)

        return answer
