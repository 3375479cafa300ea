"""One request and its answer, the same whichever door it came through.

Thread: a request belongs to the thread that runs its route; a `Reply` may be called from any thread, once.
Memory: `body` is the door's own bytes object; nothing is copied out of it unless a codec does.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from fastserve.errors import ErrorCode, FastServeError
from fastserve.logs import mishap
from fastserve.types import EVERYBODY, Caller

Headers = list[tuple[str, str]]
"""Names in lower case; values visible ASCII only (RSGI panics on anything else)."""

Subject = tuple[str, str]
"""A model's name and its version as text, for metrics."""

NOBODY: Subject = ("", "")
"""The subject of a request that names no model that is served."""


_log = logging.getLogger(__name__)


class HeaderMap(Protocol):
    """A request's headers, by lower-case name."""

    def get(self, name: str, default: Any = None, /) -> Any:
        """The value of the first header of that name, else `default`."""


class Pending(Protocol):
    """Work that a caller may still give up on."""

    def cancel(self) -> None:
        """Leave the queue; the answer, if it still comes, is dropped."""


class ErrorEncoder(Protocol):
    """The part of a protocol that a reply needs."""

    name: str

    def encode_error(self, error: FastServeError) -> "Response":
        """`error` in the protocol's body and status."""


class Response(Struct, frozen=True, gc=False):
    """A finished answer."""

    status: int
    headers: Headers
    body: bytes


class Request(Struct, gc=False):
    """A request whose body has arrived, decompressed and within its limit."""

    method: str
    path: str
    query: str
    headers: HeaderMap
    body: bytes
    params: dict[str, str]
    received_ns: int
    deadline_ns: int
    caller: Caller = EVERYBODY


class Reply:
    """Where the answer goes, exactly once: the first of `send` and `fail` wins, later ones are dropped.

    Doors extend it with where it goes. `subject`: (model, version) of the request, for metrics; set once they are known.
    `pending`: how to give up on it, while it waits. `gone`: the client is. `code`: of the error that `fail`
    was told; the error itself holds its traceback, and that would hold the door, the reply and the connection in a circle.
    """

    __slots__ = ("_arguments", "_encode", "code", "done", "gone", "pending", "protocol", "subject")

    def __init__(self, protocol: "ErrorEncoder") -> None:
        self.protocol = protocol
        self.subject = NOBODY
        self.pending: Pending | None = None
        self.code: ErrorCode | None = None
        self.done = False
        self.gone = False

    def deliver(self, response: Response) -> None:
        """The door's part: send `response`. Called once."""
        raise NotImplementedError

    def send(self, response: Response) -> None:
        """Answer with `response`."""
        if not self.done:
            self.done = True
            self.deliver(response)

    def fail(self, error: FastServeError) -> None:
        """Answer with `error`, in the shape of the protocol that the path belongs to."""
        self.code = error.code
        self.send(self.protocol.encode_error(error))

    def give_up(self) -> None:
        """The client went away: leave the queue, now or as soon as the request gets there (see `Site.run_here`)."""
        self.gone = True
        pending = self.pending
        if pending is not None and not self.done:
            pending.cancel()

    def then(self, encode: Callable[..., Response], *arguments: Any) -> Callable[[Any], None]:
        """An `Answer` for the engine, or a `Told` for its control; asked for once.

        `encode(outcome, *arguments)` is sent, an error goes to `fail`.
        """
        self._encode = encode
        self._arguments = arguments
        return self._answer

    def _answer(self, outcome: Any) -> None:
        if type(outcome) is Response:  # encoded together with others'
            self.send(outcome)
            return
        if isinstance(outcome, FastServeError):
            self.fail(outcome)
            return
        try:
            response = self._encode(outcome, *self._arguments)
        except FastServeError as error:
            self.fail(error)
            return
        except Exception:  # the app's edge: what the model answered cannot be written
            self.fail(mishap(_log, "an answer could not be encoded"))
            return
        self.send(response)
