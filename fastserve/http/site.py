"""What every door does with a request, whatever it came through: find the route, bound it, run it, count it.

Thread: any. A route runs on the door's own thread, or, when its body is big or compressed, on an executor thread.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from fastserve._ext.meters import Counter, Histogram
from fastserve.clock import Clock
from fastserve.errors import (
    Cancelled,
    ErrorCode,
    FastServeError,
    InvalidRequest,
    quoted,
)
from fastserve.http.access import ID_HEADER, AccessLog
from fastserve.http.body import declared_bytes, decompressed
from fastserve.http.cors import Cors
from fastserve.http.message import HeaderMap, Reply, Request, Response, Subject
from fastserve.http.packing import Packed, coding_for, packed
from fastserve.http.rights import Callers, Rights, address_of
from fastserve.http.routes import Protocol, Route
from fastserve.http.table import Match, PathTable
from fastserve.logs import mishap
from fastserve.metrics import Metrics
from fastserve.types import EVERYBODY, OPEN, Caller

OFFLOAD_BYTES = 64 * 1024
"""Bodies from here on are read by an executor thread: a scan of that size takes about 50 us."""

REQUEST_BOUNDS_NS = tuple(
    round(seconds * 1e9)
    for seconds in (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
)
REFUSALS = {
    ErrorCode.RESOURCE_EXHAUSTED: "queue_full",
    ErrorCode.OVERLOADED: "objective",
    ErrorCode.DEADLINE_EXCEEDED: "deadline",
    ErrorCode.UNAVAILABLE: "not_ready",
    ErrorCode.PAYLOAD_TOO_LARGE: "body_too_large",
    ErrorCode.REQUEST_TIMEOUT: "body_timeout",
    ErrorCode.CANCELLED: "cancelled",
    ErrorCode.UNAUTHENTICATED: "unauthenticated",
    ErrorCode.PERMISSION_DENIED: "forbidden",
}
TIMEOUT_HEADER = "x-request-timeout-ms"

_log = logging.getLogger(__name__)


class Site:
    """Routes, limits and counters that all doors of one process share."""

    def __init__(
        self,
        protocols: Sequence[Protocol],
        *,
        max_body_bytes: int,
        request_timeout_ns: int,
        cors_origins: Sequence[str],
        post: Callable[[Callable[[], None]], None],
        clock: Clock,
        metrics: Metrics,
        rights: Rights | None = None,
        compress_min_bytes: int = 0,
        access: AccessLog | None = None,
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self.request_timeout_ns = request_timeout_ns
        self.clock = clock
        self._cors = Cors(cors_origins)
        self.find = PathTable(protocols, preflight=self._cors.enabled).find
        self._post = post
        self.rights = rights or Rights(listens_locally=True)
        self._leaving = False
        self.packs_from_bytes = compress_min_bytes or sys.maxsize
        """Answers at least so long go through `packs` before they go out."""
        self.access = access
        self.adds_headers = self._cors.enabled
        """Whether `with_headers` has anything to do."""
        self._metrics = metrics
        self._counters: dict[tuple[str, Subject, int], Counter] = {}
        self._times: dict[tuple[str, str], Histogram] = {}
        self._refused: dict[str, Counter] = {}
        metrics.when_removed(self._forget)

    def declared_bytes(self, headers: HeaderMap) -> tuple[int | None, FastServeError | None]:
        """The length that the headers declare, and what is wrong with it: told to those who may ask."""
        try:
            return declared_bytes(headers.get("content-length"), self.max_body_bytes), None
        except FastServeError as error:
            return None, error

    @staticmethod
    def gives_up_ns(headers: HeaderMap, began_ns: int) -> int:
        """When the client, who began then, gives up; 0 where it does not say. Raises InvalidRequest."""
        asked = headers.get(TIMEOUT_HEADER)
        return 0 if asked is None else _end_of(asked, began_ns)

    def request(
        self,
        match: Match,
        method: str,
        path: str,
        query: str,
        headers: HeaderMap,
        body: bytes,
        caller: Caller = EVERYBODY,
        by_ns: int = 0,
    ) -> Request:
        """The request whose body just arrived, of an admitted caller, who wants the answer by then (0: whenever)."""
        now = self.clock()
        deadline_ns = now + self.request_timeout_ns if self.request_timeout_ns else by_ns
        if 0 < by_ns < deadline_ns:
            deadline_ns = by_ns
        return Request(method, path, query, headers, body, match.params, now, deadline_ns, caller)

    async def admit(self, match: Match, headers: HeaderMap, host: str | None, client: str) -> tuple[Route, Caller]:
        """What the path leads to, and who asks; before the body is read.

        Raises Unauthenticated, Forbidden, TooManyAttempts; for a caller who is known, the error of a path that leads nowhere.
        """
        route, caller = match.route, EVERYBODY
        if route is None or route.scope != OPEN:
            caller = await self._caller("" if route is None else route.scope, headers, client)
        self.rights.check(match, caller, headers, host, client)
        if route is None:
            assert match.error is not None
            raise match.error
        return route, caller

    def run(self, route: Route, request: Request, reply: Reply) -> None:
        """Answer through `reply`, now or later; what takes long goes to an executor thread. Raises what `early` does."""
        encoding = request.headers.get("content-encoding")
        if encoding is not None or (len(request.body) >= OFFLOAD_BYTES and not _is_light(route, request)):
            if route.early is not None:
                route.early(request, reply)
            self._post(partial(self._run_offloaded, route, request, reply, encoding))
        else:
            self.run_here(route, request, reply)

    def run_here(self, route: Route, request: Request, reply: Reply) -> None:
        """Answer through `reply`, now or later; reading the body happens now, on this thread."""
        assert route.infer is not None
        try:
            reply.pending = pending = route.infer(request, reply)
            if reply.gone and pending is not None:
                pending.cancel()
        except FastServeError as error:
            reply.fail(error)
        except Exception:  # the app's edge
            self.failed(reply)

    async def wait(self, route: Route, request: Request, reply: Reply) -> None:
        """Answer a route that waits for other things."""
        assert route.waits is not None
        try:
            reply.send(await route.waits(request))
        except FastServeError as error:
            reply.fail(error)
        except Exception:  # the app's edge
            self.failed(reply)

    def failed(self, reply: Reply) -> None:
        """Our own fault: a 500 in the protocol's shape, 503 for want of memory; the log has more. For `except` blocks."""
        reply.fail(mishap(_log, "a request failed"))

    def observe(self, reply: Reply, status: int, elapsed_ns: int) -> None:
        """Count an answer that went out."""
        key = (reply.protocol.name, reply.subject, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._counter(*key)
        counter.add(1)
        if reply.code is not None:
            self._count_refusal(reply.code)
        self._times[key[0], key[1][0]].observe(elapsed_ns)

    @property
    def plain(self) -> bool:
        """Whether short answers leave as they are, and nobody is asked who they are."""
        return not (self.rights.callers or self.adds_headers or self.access)

    def observe_many(
        self, protocol: str, subject: Subject, elapsed_ns: list[int], status: int = 200, code: ErrorCode | None = None
    ) -> None:
        """Count answers that went out: well, or all with the same error."""
        key = (protocol, subject, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._counter(*key)
        counter.add(len(elapsed_ns))
        if code is not None:
            self._count_refusal(code, len(elapsed_ns))
        self._times[protocol, subject[0]].observe_all(elapsed_ns)

    def packs(self, response: Response, headers: HeaderMap, deliver: Callable[[Response], None]) -> bool:
        """Whether `deliver` is called (again, later) with `response` as the client wants it compressed.

        For doors, about answers of `packs_from_bytes` or more. Compressing takes longer than a hand-over to the executor.
        """
        if type(response) is Packed:
            return False
        coding = coding_for(headers.get("accept-encoding"))
        if coding:
            self._post(lambda: deliver(packed(response, coding)))
        else:
            deliver(packed(response, ""))
        return True

    def ask_to_leave(self, asked: bool) -> None:
        """Whether every answer asks its client to hang up, so that none sends into a connection that is about to be ended."""
        self._leaving = asked
        self.adds_headers = asked or self._cors.enabled

    def request_id(self, headers: HeaderMap) -> str:
        """The request's id, to be told to its client and the access log; empty where there is no such log."""
        return self.access.id_for(headers) if self.access is not None else ""

    def with_headers(self, response: Response, headers: HeaderMap, request_id: str = "") -> Response:
        """`response` to a request with `headers`, with what the moment and the client's origin add to it."""
        if not self.adds_headers and not request_id:
            return response
        more = self._cors.headers(headers) if self._cors.enabled else []
        if self._leaving:
            more = [*more, ("connection", "close")]
        if request_id:
            more = [*more, (ID_HEADER, request_id)]
        return Response(response.status, response.headers + more, response.body)

    async def _caller(self, scope: str, headers: HeaderMap, client: str) -> Caller:
        """Who sent them, by those users and keys that there are when it is found out: they may change meanwhile."""
        while (callers := self.rights.callers) is not None:
            caller = callers.known(headers, scope) or await _recognised(callers, headers, scope, address_of(client))
            if callers is self.rights.callers:
                return caller
        return EVERYBODY

    def _run_offloaded(self, route: Route, request: Request, reply: Reply, encoding: str | None) -> None:
        if reply.gone:
            reply.fail(Cancelled("the client went away"))
            return
        if encoding is not None:
            try:
                request.body = decompressed(request.body, encoding, self.max_body_bytes)
            except FastServeError as error:
                reply.fail(error)
                return
            except Exception:  # the app's edge
                self.failed(reply)
                return
        self.run_here(route, request, reply)

    def _count_refusal(self, code: ErrorCode, times: int = 1) -> None:
        reason = REFUSALS.get(code)
        if reason is not None:
            counter = self._refused.get(reason)
            if counter is None:
                text = "Requests refused for want of time, room or readiness."
                counter = self._metrics.counter("fastserve_refused_total", text, {"reason": reason})
                self._refused[reason] = counter
            counter.add(times)

    def _forget(self, labels: Mapping[str, str]) -> None:
        """Versions come and go: what is kept for each goes with it."""
        subject = (labels.get("model"), labels.get("version"))
        for key in [key for key in list(self._counters) if key[1] == subject]:
            self._counters.pop(key, None)

    def _counter(self, protocol: str, subject: Subject, status: int) -> Counter:
        model, version = subject
        if (protocol, model) not in self._times:
            labels = {"protocol": protocol, "model": model}
            text = "Time from the request's first byte here to its answer."
            times = self._metrics.histogram("fastserve_request_seconds", text, labels, REQUEST_BOUNDS_NS, 1e9)
            self._times[protocol, model] = times
        labels = {"protocol": protocol, "model": model, "version": version, "status": str(status)}
        return self._metrics.counter("fastserve_requests_total", "Answers.", labels)


def _end_of(asked: str, began_ns: int) -> int:
    if not (asked.isascii() and asked.isdigit()) or len(asked) > 12 or int(asked) == 0:
        raise InvalidRequest(f"{TIMEOUT_HEADER}: expected a whole number of milliseconds, got {quoted(asked)}")
    return began_ns + int(asked) * 1_000_000


def _is_light(route: Route, request: Request) -> bool:
    light = route.light
    return light is not None and request.headers.get(light.header) is not None and light.test(request)


async def _recognised(callers: Callers, headers: HeaderMap, scope: str, address: str) -> Caller:
    """Who sent them, once it is found out. Raises what `Callers.recognise` tells."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Caller | FastServeError] = loop.create_future()

    def told(outcome: Caller | FastServeError) -> None:
        with suppress(RuntimeError):  # the loop is closed: we are on our way out
            loop.call_soon_threadsafe(_settle, future, outcome)

    callers.recognise(headers, scope, address, told)
    outcome = await future
    if isinstance(outcome, Caller):
        return outcome
    raise outcome


def _settle(future: "asyncio.Future[Any]", outcome: Any) -> None:
    if not future.done():
        future.set_result(outcome)
