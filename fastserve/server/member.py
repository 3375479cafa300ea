"""A worker's end: the control of an engine whose director is in the parent.

Thread: its own link thread; the control's calls on any. A parent that does not answer is not waited for: calls fail, and
health, status and counts are this worker's own.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastserve.engine.control import Worker
from fastserve.engine.state import Told, View
from fastserve.errors import FastServeError, InvalidRequest, WorkerSilent
from fastserve.metrics import Family, Made, Point, Snapshot
from fastserve.server import wire
from fastserve.server.hub import Line
from fastserve.server.ledger import SharedCells
from fastserve.server.link import Link, LinkThread

SILENT_S = 5.0
"""A parent that says nothing for so long (it says something every second) is not waited for."""

COLLECT_WITHIN_S = 2.0
ALONE_TEXT = "Workers in these counts: 1, this one alone, because its parent process does not answer."

_log = logging.getLogger(__name__)


class Member:
    """A `Control` that asks the parent. `admitted` is called, on the link thread, when requests may be taken."""

    def __init__(self, line: Line, cells: SharedCells, worker: Worker, admitted: Callable[[], None]) -> None:
        self._worker = worker
        self._admitted = admitted
        self._thread = LinkThread("link", self._tick)
        self._link = Link(self._thread, line.connection, self._received, self._closed)
        self._cells = cells
        self._calls: dict[int, Told] = {}
        self._collections: dict[int, tuple[float, Callable[[Snapshot], None]]] = {}
        self._number = 0
        self._view: View | None = None
        self._reported = False
        self._stopping = False

    def start(self) -> None:
        """Begin to speak; the first state comes soon."""
        self._cells.tell(self._tell_made)
        self._worker.when_changed(self._report_soon)
        self._thread.start()

    def stop(self) -> None:
        """End; the parent counts on what it has heard."""
        self._stopping = True
        self._thread.stop()
        self._link.close()

    def refresh(self, told: Told) -> None:
        """See `Control`."""
        self._ask(wire.Asked(0, "refresh"), told)

    def index(self, told: Told) -> None:
        """See `Control`."""
        self._ask(wire.Asked(0, "index"), told)

    def load(self, model: str, told: Told, overrides: Mapping[str, Any] | None = None) -> None:
        """See `Control`."""
        self._ask(wire.Asked(0, "load", model, dict(overrides or {})), told)

    def unload(self, model: str, told: Told) -> None:
        """See `Control`."""
        self._ask(wire.Asked(0, "unload", model), told)

    def change(self, area: str, told: Told, values: Mapping[str, Any]) -> None:
        """See `Control`."""
        self._ask(wire.Asked(0, "change", area, dict(values)), told)

    def collect(self, told: Callable[[Snapshot], None]) -> None:
        """See `Control`."""
        self._thread.call(partial(self._collect, told))

    def view(self) -> View | None:
        """What all workers serve; None while the parent is silent."""
        return None if self._is_alone else self._view

    @property
    def _is_alone(self) -> bool:
        return self._stopping or self._link.silent_for_s() > SILENT_S

    def _ask(self, asked: wire.Asked, told: Told) -> None:
        try:
            wire.encoded(asked)
        except (ValueError, OverflowError, TypeError) as error:
            told(InvalidRequest(f"this cannot be sent to the other workers: {error}"))
            return
        if self._stopping:
            told(_silent())
        else:
            self._thread.call(partial(self._ask_now, asked, told))

    def _ask_now(self, asked: wire.Asked, told: Told) -> None:
        if self._is_alone:
            told(_silent())
            return
        self._number += 1
        self._calls[self._number] = told
        self._send(wire.Asked(self._number, asked.call, asked.subject, asked.values))

    def _collect(self, told: Callable[[Snapshot], None]) -> None:
        if self._is_alone:
            told(self._own_counts())
            return
        self._number += 1
        self._collections[self._number] = time.monotonic() + COLLECT_WITHIN_S, told
        self._send(wire.Collect(self._number))

    def _own_counts(self) -> list[Family]:
        alone = Family("fastserve_workers_counted", "gauge", ALONE_TEXT, (Point((), (1.0,)),))
        return [*self._worker.metrics.snapshot(), alone]

    def _send(self, message: wire.FromWorker) -> None:
        self._link.send(wire.encoded(message))

    def _tell_made(self, made: Made | Mapping[str, str]) -> None:
        message = wire.Counting(made) if isinstance(made, Made) else wire.Dropped(dict(made))
        self._thread.call(partial(self._send, message))

    def _report_soon(self) -> None:
        """Any thread; many changes at once are one report."""
        if not self._reported:
            self._reported = True
            self._thread.call(self._report)

    def _report(self) -> None:
        self._reported = False
        self._send(wire.Reported(wire.sendable_report(self._worker.report())))

    def _received(self, frame: bytes) -> None:
        message = wire.to_worker(frame)
        match message:
            case wire.Apply():
                self._worker.loader.apply(message.state)
                self._worker.loader.when_applied(message.state.revision, self._report_soon)
            case wire.Show():
                self._view = message.view
                self._send(wire.Seen(message.number))
            case wire.Admit():
                self._admitted()
            case wire.Ping():
                self._send(wire.Pong())
            case wire.ReadGauges():
                self._send(wire.Gauges(message.number, tuple(self._worker.metrics.gauges())))
            case wire.Answered():
                told = self._calls.pop(message.number, None)
                if told is not None:
                    told(wire.outcome_of(message))
            case wire.Collected():
                _, collected = self._collections.pop(message.number, (0.0, None))
                if collected is not None:
                    collected(message.families)

    def _tick(self) -> None:
        now = time.monotonic()
        for number, (due_s, told) in list(self._collections.items()):
            if now > due_s or self._is_alone:
                del self._collections[number]
                told(self._own_counts())
        if self._is_alone:
            self._fail_calls()

    def _fail_calls(self) -> None:
        calls, self._calls = self._calls, {}
        for told in calls.values():
            told(_silent())

    def _closed(self) -> None:
        """The parent gave up on us, or is gone: without it we would serve what is out of date. Another one takes over."""
        self._fail_calls()
        collections, self._collections = self._collections, {}
        for _, told in collections.values():
            told(self._own_counts())
        self._admitted()
        if not self._stopping:
            _log.warning("the connection to the parent process is gone; this worker ends")
            os.kill(os.getpid(), signal.SIGTERM)


def _silent() -> FastServeError:
    return WorkerSilent("the server's parent process does not answer")
