"""A protocol for doors to serve: what becomes of a request, its path says."""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fastserve.errors import FastServeError, InvalidRequest, QueueFull, UnknownPath
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Lane, Light, Route
from fastserve.http.status import error_headers, status_of

TEXT = [("content-type", "text/plain")]


def _is_light(request: Request) -> bool:
    return request.body.startswith(b"light")


class Waiting:
    """A request that a route left in a queue."""

    def __init__(self, request: Request | None, reply: Reply) -> None:
        self.request = request
        self.reply = reply
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


class ToyLane:
    """Answers bodies twice over; those that it cannot, and when it closes or breaks, the body says."""

    light = False
    limit = 0
    header: str | None = "x-toy"
    header_value: str | None = None
    subject = ("m", "1")
    waits = False

    def __init__(self) -> None:
        self.seen: list[list[bytes]] = []
        self.waiting: list[tuple[Reply, bytes]] = []
        self.deadline_ns = 0
        self.full = False

    def refused(self, came_ns: list[int]) -> FastServeError | None:
        return QueueFull("no room") if self.full else None

    def submit(
        self, bodies: list[bytes], came_ns: list[int], replies: Sequence[Reply], deadline_ns: int
    ) -> list[bool] | None:
        self.deadline_ns = deadline_ns
        if b"break" in bodies:
            raise RuntimeError("the lane is broken")
        if b"close" in bodies:
            return None
        for reply, body in zip(replies, bodies, strict=True):
            if body == b"full":
                reply.fail(QueueFull("the queue is full"))
            elif body != b"other":
                reply.pending = Waiting(None, reply)
                self.waiting.append((reply, body))
        return [body != b"other" for body in bodies]

    def answer(self, bodies: list[bytes], came_ns: list[int]) -> list[Response | None] | None:
        self.seen.append(bodies)
        if b"break" in bodies:
            raise RuntimeError("the lane is broken")
        if b"close" in bodies:
            return None
        return [None if body == b"other" else Response(200, TEXT, body * 2) for body in bodies]


class Toy:
    """A protocol whose paths say what becomes of their requests."""

    name = "toy"
    owns = re.compile(r".*", re.DOTALL)

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.seen: list[Request] = []
        self.lane = ToyLane()
        self.lanes = 0

    def routes(self) -> list[Route]:
        table: dict[str, Callable[[Request, Reply], Any]] = {
            "echo": self.echo,
            "later": self.later,
            "refuse": self.refuse,
            "full": self.full,
            "break": self.fault,
        }
        routes = [
            Route(method, re.compile(f"/{name}"), "infer", infer=call)
            for name, call in table.items()
            for method in ("GET", "POST")
        ]
        return [
            *routes,
            Route("POST", re.compile("/change"), "admin", infer=self.echo),
            Route("POST", re.compile("/light"), "infer", infer=self.echo, light=Light("x-light", _is_light)),
            Route("POST", re.compile("/lane"), "infer", infer=self.echo, lane=self.make_lane),
            Route("POST", re.compile("/waits"), "read", waits=self.waits),
            Route("POST", re.compile("/waits-badly"), "read", waits=self.waits_badly),
        ]

    def make_lane(self, request: Request) -> Lane | None:
        self.lanes += 1
        return None if request.body == b"no lane" else self.lane

    def unmatched(self, method: str, path: str) -> FastServeError:
        return UnknownPath(f"no {method} {path}")

    def encode_error(self, error: FastServeError) -> Response:
        body = msgspec.json.encode({"toy": str(error)})
        return Response(status_of(error), [*TEXT, *error_headers(error)], body)

    def echo(self, request: Request, reply: Reply) -> None:
        self.seen.append(request)
        reply.subject = ("m", "1")
        reply.send(Response(200, TEXT, request.body))

    def later(self, request: Request, reply: Reply) -> Waiting:
        self.waiting.append(Waiting(request, reply))
        return self.waiting[-1]

    def refuse(self, request: Request, reply: Reply) -> None:
        raise InvalidRequest("not like this")

    def full(self, request: Request, reply: Reply) -> None:
        raise QueueFull("full")

    def fault(self, request: Request, reply: Reply) -> None:
        raise RuntimeError("our own fault")

    async def waits(self, request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(200, TEXT, b"waited " + request.body)

    async def waits_badly(self, request: Request) -> Response:
        raise RuntimeError("our own fault")
