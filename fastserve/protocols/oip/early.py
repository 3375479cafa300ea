"""Requests that are turned away before their bodies are read: their models could not answer in time, whatever they hold.

Thread: the door's, before a large body is handed over; an executor's, before it is read. Memory: none.
"""

from collections.abc import Callable
from functools import partial

from fastserve.engine.engine import Engine
from fastserve.engine.lease import Lease
from fastserve.http.message import Reply, Request
from fastserve.protocols.oip.binary import LENGTH_HEADER
from fastserve.protocols.oip.models import find

PRIORITY = b'"priority"'
SHORT_DIGITS = 9


def turn_away(lease: Lease, request: Request) -> None:
    """Raises Overloaded."""
    if lease.gate is not None:
        lease.gate.turn_away(request.received_ns, request.deadline_ns, partial(_names_priority, request))


def early(engine: Engine) -> Callable[[Request, Reply], None]:
    """The same of a body that may be compressed still, by its path. Raises what `find` does, too."""

    def turn_away_early(request: Request, reply: Reply) -> None:
        lease = find(engine, request.params)
        reply.subject = lease.subject
        if lease.gate is not None:
            lease.gate.turn_away(request.received_ns, request.deadline_ns, partial(_may_name_priority, request))

    return turn_away_early


def _may_name_priority(request: Request) -> bool:
    return request.headers.get("content-encoding") is not None or _names_priority(request)


def _names_priority(request: Request) -> bool:
    """Whether the word is there: looking for it is a small part of reading the body."""
    length = request.headers.get(LENGTH_HEADER) or ""
    end = int(length) if length.isascii() and length.isdigit() and len(length) <= SHORT_DIGITS else len(request.body)
    return request.body.find(PRIORITY, 0, end) >= 0
