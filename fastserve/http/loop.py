"""Answers from any thread to the event loop that a door lives on.

Thread: `Outbox.post` and `LoopReply.deliver` on any; everything else on the loop's.
"""

import asyncio
from collections import deque
from typing import Any

from fastserve.http.message import ErrorEncoder, HeaderMap, Reply, Response
from fastserve.http.site import Site
from fastserve.types import InferResult, Timing


class Outbox:
    """Brings what finished on other threads to the loop, with one wake-up for all that came meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[asyncio.Future[None]] = deque()
        self._woken = False

    def post(self, future: "asyncio.Future[None]") -> None:
        """Resolve `future` on the loop. Any thread."""
        self._ready.append(future)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._woken = False  # first: what is appended from here on wakes the loop again
        while self._ready:
            future = self._ready.popleft()
            if not future.done():
                future.set_result(None)


class LoopReply(Reply):
    """Keeps the answer until the loop takes it.

    `response` is written before `future` is read, and the loop writes `future` before it reads `response`: whichever
    comes second sees the other, so no answer is missed and none needs a lock.
    `body_bytes`, `caller`, `timing`: for the access log.
    """

    __slots__ = ("body_bytes", "caller", "future", "headers", "outbox", "response", "site", "timing")

    def __init__(self, protocol: ErrorEncoder, outbox: Outbox, site: Site, headers: HeaderMap) -> None:
        super().__init__(protocol)
        self.outbox = outbox
        self.site = site
        self.headers = headers
        self.body_bytes = 0
        self.caller = ""
        self.timing: Timing | None = None
        self.response: Response | None = None
        self.future: asyncio.Future[None] | None = None

    def _answer(self, outcome: Any) -> None:
        if isinstance(outcome, InferResult):
            self.timing = outcome.timing
        super()._answer(outcome)

    def deliver(self, response: Response) -> None:
        """Any thread."""
        if len(response.body) >= self.site.packs_from_bytes and self.site.packs(response, self.headers, self.deliver):
            return
        self.response = response
        future = self.future
        if future is not None:
            self.outbox.post(future)
