"""The access log: one JSON line per answer, whichever door it left through; and the id that tells one request from another.

Never in it: headers (but the client's own request id), queries, bodies; of credentials only whose they are.
Thread: `note` on any; lines are made on the writer's thread.
"""

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec import Struct

from fastserve.clock import Clock
from fastserve.http.message import HeaderMap, Reply, Response
from fastserve.lines import LineFile, LineWriter
from fastserve.types import Timing

ID_HEADER = "x-request-id"
MAX_TEXT_CHARS = 512

_ID = re.compile(r"[!#-\[\]-~]{1,128}")
"""Ids that are taken over from a client: visible ASCII without quote and backslash: they go into lines as they are."""


class Asked(Struct, frozen=True, gc=False):
    """What a door knows of a request. `body_bytes`: as sent; `caller`: the user's or key's name, empty where nobody knows."""

    method: str
    path: str
    client: str
    body_bytes: int
    caller: str = ""


Entry = tuple[int, str, Asked, str, tuple[str, str], int, int, Timing | None, int]
"""Time, id, request, protocol, subject, status, bytes of the answer, timing, nanoseconds in all."""


class AccessLog:
    """Ids and lines for one process. `dropped`: told of lines that the file had no room for; see `LineWriter`."""

    def __init__(self, path: str, dropped: Callable[[int], None], wall_ns: Clock = time.time_ns) -> None:
        self._writer = LineWriter(LineFile(path, "--access-log"), encode, dropped)
        self._wall_ns = wall_ns
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)

    def id_for(self, headers: HeaderMap) -> str:
        """The client's own id for its request, where it sent one that can be told again; else one that nobody has."""
        given = headers.get(ID_HEADER)
        if given is not None and _ID.fullmatch(given):
            return str(given)
        return f"{self._prefix}-{next(self._numbers):x}"

    def note(
        self, request_id: str, asked: Asked, reply: Reply, response: Response, timing: Timing | None, elapsed_ns: int
    ) -> None:
        """An answer went out."""
        entry: Entry = (
            self._wall_ns(),
            request_id,
            asked,
            reply.protocol.name,
            reply.subject,
            response.status,
            len(response.body),
            timing,
            elapsed_ns,
        )
        self._writer.add(entry)

    def look(self) -> None:
        """The file may have been moved away."""
        self._writer.look()

    def close(self) -> None:
        """Write what waits, and end."""
        self._writer.close()


def encode(entries: Iterable[Entry]) -> bytes:
    """Entries as lines. By hand: an object per line would take three times as long, with the GIL."""
    second, prefix = -1, ""
    lines = []
    for wall_ns, request_id, asked, protocol, (model, version), status, sent_bytes, timing, elapsed_ns in entries:
        if wall_ns // 1_000_000_000 != second:
            second = wall_ns // 1_000_000_000
            prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        lines.append(
            f'{{"time":"{prefix}.{wall_ns // 1000 % 1_000_000:06d}Z","id":"{request_id}","client":{_text(asked.client)},'
            f'"caller":{_text(asked.caller) if asked.caller else "null"},'
            f'"method":{_text(asked.method)},"path":{_text(asked.path)},"protocol":{_text(protocol)},'
            f'"model":{_text(model)},"version":{_text(version)},"status":{status},'
            f'"request_bytes":{asked.body_bytes},"response_bytes":{sent_bytes},{_run(timing)},'
            f'"total_ms":{elapsed_ns / 1e6:.3f}}}\n'
        )
    return "".join(lines).encode()


def _run(timing: Timing | None) -> str:
    if timing is None:
        return '"queue_ms":null,"run_ms":null,"batch_rows":null'
    return f'"queue_ms":{timing.queue_ns / 1e6:.3f},"run_ms":{timing.run_ns / 1e6:.3f},"batch_rows":{timing.batch_rows}'


@lru_cache(maxsize=4096)
def _text(value: str) -> str:
    """A string as JSON, cut; what was not UTF-8 came as lone surrogates and goes as their escapes."""
    cut = value if len(value) <= MAX_TEXT_CHARS else value[:MAX_TEXT_CHARS] + "..."
    return json.dumps(cut)
