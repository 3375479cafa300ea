"""Which function answers which path. Paths are matched once decoded.

A protocol owns the paths its `owns` pattern matches: whatever goes wrong there is answered in its shape.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol as TypingProtocol

from msgspec import Struct

from fastserve.errors import FastServeError
from fastserve.http.message import Pending, Reply, Request, Response, Subject

InferEndpoint = Callable[[Request, Reply], Pending | None]
"""A plain function: calls `reply` exactly once, now or later, from any thread."""

WaitingEndpoint = Callable[[Request], Awaitable[Response]]
"""A coroutine function, for what waits for other things than the engine."""


class Light(Struct, frozen=True):
    """Which large bodies are read in no time: `test` says it of a request, and only those with `header` are worth asking."""

    header: str
    test: Callable[[Request], bool]


class Lane(TypingProtocol):
    """Requests to one path that are all alike, answered many at a time, without a look at any of them that is not needed.

    `light`: whether large bodies are read in no time. `limit`: what bodies must be shorter than, set by the door. `header`:
    one that must be `header_value` (None: not there); None for any. `subject`: of all of them, for metrics.
    """

    light: bool
    limit: int
    header: str | None
    header_value: str | None
    subject: Subject

    @property
    def waits(self) -> bool:
        """Whether requests wait for their turn now: they are to be submitted, and cannot be answered at once."""

    def answer(self, bodies: list[bytes], came_ns: list[int]) -> list[Response | None] | None:
        """An answer for each body; None for one that is to be looked at. None for all: the lane is closed for good."""

    def refused(self, came_ns: list[int]) -> FastServeError | None:
        """What those that came then are told without being read, where they would wait too long; None where they may not."""

    def submit(
        self, bodies: list[bytes], came_ns: list[int], replies: Sequence[Reply], deadline_ns: int
    ) -> list[bool] | None:
        """Whether each body's `reply` will be called; it is to be looked at where not. None: the lane is closed for good."""


class Route(Struct, frozen=True):
    """`pattern` fully matches the decoded path; its named groups become `request.params` (absent groups are left out).

    `scope`: the right it takes (infer, read, log, admin, or open for health). Exactly one of `infer` and `waits` is set.
    """

    method: str
    pattern: re.Pattern[str]
    scope: str
    infer: InferEndpoint | None = None
    waits: WaitingEndpoint | None = None
    light: Light | None = None
    """None: large bodies always take long to read, and are read on another thread."""
    lane: Callable[[Request], Lane | None] | None = None
    """Makes the lane for requests like that one, which was answered well; None where they are not so simple."""
    early: Callable[[Request, Reply], None] | None = None
    """Raises what can be said before a body is read that takes long to read. `infer` says the same of all others."""
    sifts: bool = False
    """How it treats callers who may use some models only, where its path names no model: refused before it is asked, or,
    if it sifts, let in, for it looks at `request.caller` for each model that it uses or tells of."""


class Protocol(TypingProtocol):
    """What a folder under `protocols/` gives the server."""

    name: str
    owns: re.Pattern[str]

    def routes(self) -> list[Route]:
        """Every path it answers; the first match wins."""

    def unmatched(self, method: str, path: str) -> FastServeError:
        """The error for an owned path that no route matches with that method."""

    def encode_error(self, error: FastServeError) -> Response:
        """`error` in this protocol's body and status."""
