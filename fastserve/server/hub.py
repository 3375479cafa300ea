"""The parent's end of its workers: one director for all of them, what they serve together, what they counted together.

Thread: its link thread, for everything but what says otherwise; the director's thread beside it. The parent forks its
workers, so it never imports onnxruntime; `resting` keeps both threads still while it does.
Invariant: a call is answered when every worker that takes requests has it in effect and knows that the others have.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fastserve import logs
from fastserve.config import AuthConfig, DatasetConfig
from fastserve.engine.director import Director, Looks
from fastserve.engine.registry import OnDisk
from fastserve.engine.state import Outcome, Report, State, View, merged
from fastserve.metrics import Family
from fastserve.protocols.oip import log_settings
from fastserve.server import wire
from fastserve.server.ledger import Ledger, new_file
from fastserve.server.link import Link, LinkThread
from fastserve.server.tally import Tally

PING_EVERY_S = 1.0
PATIENCE_S = 15.0
"""A worker that says nothing for so long is not waited for."""

LONGEST_CALL_S = 600.0
LONE_SUCCESSOR_S = 5.0
"""So long a worker that replaces the only one waits for its models before it answers that they are not there yet."""

REST_WITHIN_S = 0.5

_log = logging.getLogger(__name__)


class Line(Struct, frozen=True):
    """What a worker is given to speak with its parent. `successor`: it replaces one that died; `slot`: its place.

    `weights`: the folder of models that all workers have mapped, where there is one.
    """

    connection: socket.socket
    file: FileIO
    successor: bool
    slot: int = 0
    weights: Path | None = None


@dataclass(eq=False)
class Member:
    """One worker. `counts`: it takes requests, so nothing is so before it is so there."""

    key: int
    slot: int
    link: Link
    ledger: Ledger
    counts: bool
    born_s: float
    report: Report = field(default_factory=Report)
    seen: int = 0

    @property
    def name(self) -> str:
        """For people."""
        return f"worker {self.slot + 1}"

    @property
    def speaks(self) -> bool:
        """Whether it has said something just now; not one that still starts."""
        return self.link.has_spoken and self.link.silent_for_s() < 2 * PING_EVERY_S

    @property
    def is_silent(self) -> bool:
        """Whether it has said nothing for too long."""
        return self.link.silent_for_s() > PATIENCE_S


@dataclass(eq=False)
class _Wait:
    """A call that waits for `revision` to be in effect; then for the view with that `number` to be seen."""

    revision: int
    then: Callable[[View], None]
    due_s: float
    number: int | None = None


class Hub:
    """A `Fleet` of worker processes."""

    def __init__(self, workers: int, catalog: Looks, poll_seconds: float, weights: Path | None = None) -> None:
        self._workers = workers
        self._weights = weights
        self._thread = LinkThread("workers", self._tick)
        self._members: dict[int, Member] = {}
        self._state = State()
        self._view = View(workers=workers)
        self._number = 0
        self._was_started = self._was_ready = False
        self._waits: list[_Wait] = []
        self._tally = Tally(workers, self._ledgers, self._serving)
        self._pinged_s = 0.0
        self._quiet = threading.Lock()
        self._adopted = 0
        self._lines: dict[int, tuple[socket.socket, FileIO]] = {}
        self._served: set[int] = set()
        self.director = Director(_Rested(catalog, self._quiet), poll_seconds, self)

    def start(self) -> None:
        """Begin to look at the disk, and to speak."""
        self._thread.start()
        self.director.start()

    def stop(self) -> None:
        """End the threads, and every line."""
        self.director.stop()
        self._thread.call(self._close)
        self._thread.stop()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While the parent forks: no look at the disk, which may be importing something. Any thread.

        A look that hangs does not keep a worker from being replaced.
        """
        held = self._quiet.acquire(timeout=REST_WITHIN_S)
        try:
            yield
        finally:
            if held:
                self._quiet.release()

    def new_line(self, slot: int, *, successor: bool) -> Line:
        """What the next worker in that place is given. The thread that forks."""
        ours, theirs = socket.socketpair()
        line = Line(theirs, new_file(), successor, slot, self._weights)
        self._lines[slot] = ours, line.file
        return line

    def adopt(self, slot: int, line: Line) -> int:
        """The worker was started; a number for it that no other has. The thread that forks."""
        line.connection.close()
        ours, file = self._lines[slot]
        self._adopted += 1
        self._thread.call(partial(self._adopt, self._adopted, slot, ours, file, line.successor))
        return self._adopted

    def abandon(self, own: Line) -> None:
        """In a fresh worker: close what it has inherited of the parent's and the other workers'."""
        for ours, file in self._lines.values():
            ours.close()
            if file is not own.file:
                file.close()

    def has_served(self, key: int) -> bool:
        """Whether the worker of that number has ever loaded what it should serve. Any thread."""
        return key in self._served

    @property
    def was_started(self) -> bool:
        """Whether all workers have once been through their first look. Any thread."""
        return self._was_started

    def publish(self, state: State) -> None:
        """Send `state` to every worker. Any thread."""
        self._thread.call(partial(self._publish, wire.sendable(state)))

    def view(self) -> View:
        """What the workers serve together. Any thread."""
        return self._view

    def when_applied(self, revision: int, then: Callable[[View], None]) -> None:
        """Call `then` once every worker that takes requests has that state and knows that all do. Any thread."""
        wait = _Wait(revision, then, time.monotonic() + LONGEST_CALL_S)
        self._thread.call(partial(self._begin_wait, wait))

    def _adopt(self, key: int, slot: int, connection: socket.socket, file: FileIO, successor: bool) -> None:
        member: Member

        def received(frame: bytes) -> None:
            self._hear(member, wire.from_worker(frame))

        def closed() -> None:
            self._part(member)

        link = Link(self._thread, connection, received, closed)
        member = Member(key, slot, link, Ledger(file), counts=False, born_s=time.monotonic())
        self._tally.restarts += successor
        self._members[slot] = member
        if self._state.revision:
            self._send(member, wire.Apply(self._state))
        self._send(member, wire.Show(self._number, self._view))
        self._changed()

    def _close(self) -> None:
        for member in list(self._members.values()):
            member.link.close()

    def _part(self, member: Member) -> None:
        """A worker is gone; what it counted stays."""
        if self._members.get(member.slot) is member:
            del self._members[member.slot]
        self._tally.retire(member.key, member.ledger)
        self._changed()

    def _ledgers(self) -> list[Ledger]:
        return [member.ledger for member in self._members.values()]

    def _serving(self) -> int:
        return sum(member.counts for member in self._members.values())

    def _send(self, member: Member, message: wire.ToWorker) -> None:
        member.link.send(wire.encoded(message))

    def _broadcast(self, message: wire.ToWorker) -> None:
        frame = wire.encoded(message)
        for member in list(self._members.values()):
            member.link.send(frame)

    def _publish(self, state: State) -> None:
        self._state = state
        # What this process logs is the server's, too: the director is in it.
        logs.choose(log_settings.choice(state.settings.get(log_settings.AREA, {})))
        self._broadcast(wire.Apply(state))

    def _hear(self, member: Member, message: wire.FromWorker) -> None:
        match message:
            case wire.Reported():
                member.report = message.report
                if message.report.started:
                    self._served.add(member.key)
                self._changed()
            case wire.Seen():
                member.seen = message.number
                self._check_waits()
            case wire.Counting():
                member.ledger.add(message.made)
            case wire.Dropped():
                member.ledger.drop(message.labels)
            case wire.Asked():
                self._ask(member, message)
            case wire.Collect():
                self._collect(member, message.number)
            case wire.Gauges():
                self._tally.add(member.key, message.number, message.families)
            case wire.Pong():
                pass

    def _ask(self, member: Member, asked: wire.Asked) -> None:
        """A worker's call; the director tells from its own thread or this one."""

        def told(outcome: Outcome) -> None:
            answer = wire.answer_of(asked.number, outcome)
            self._thread.call(lambda: self._send(member, answer))

        director, subject, values = self.director, asked.subject, asked.values or {}
        calls: Mapping[str, Callable[[], None]] = {
            "refresh": lambda: director.refresh(told),
            "index": lambda: director.index(told),
            "load": lambda: director.load(subject, told, values),
            "unload": lambda: director.unload(subject, told),
            "change": lambda: director.change(subject, told, values),
        }
        calls[asked.call]()

    def _changed(self) -> None:
        """Something about a worker is other than before: admit who is as far as the others, and show what all serve."""
        self._admit()
        counting = [member for member in self._members.values() if member.counts]
        if counting:
            self._show(View(self._together(counting), self._workers))
        self._check_waits()

    def _together(self, counting: list[Member]) -> Report:
        """What is ready once stays so: a later failure, or a worker that is replaced, never turns it off."""
        report = merged(member.report for member in counting)
        complete = len(counting) == self._workers
        self._was_started = self._was_started or (complete and report.started)
        self._was_ready = self._was_ready or (self._was_started and not report.not_ready)
        not_ready = "" if self._was_ready else report.not_ready or ("" if complete else Report().not_ready)
        return replace(report, started=self._was_started, not_ready=not_ready)

    def _show(self, view: View) -> None:
        if view != self._view:
            self._view = view
            self._number += 1
            self._broadcast(wire.Show(self._number, view))

    def _admit(self) -> bool:
        """Let a worker take requests: at the start at once, later when it has what the others have; whether one was let."""
        let = False
        for member in self._members.values():
            if not member.counts and (not self._was_started or self._may_serve(member)):
                let = member.counts = True
                self._send(member, wire.Admit())
        return let

    def _may_serve(self, member: Member) -> bool:
        if member.report.started and member.report.revision >= self._state.revision:
            return True
        alone = not any(other.counts for other in self._members.values())
        return alone and time.monotonic() - member.born_s > LONE_SUCCESSOR_S

    def _begin_wait(self, wait: _Wait) -> None:
        self._waits.append(wait)
        self._check_waits()

    def _check_waits(self) -> None:
        for wait in list(self._waits):
            silent = self._silent(wait)
            if silent is not None:
                self._waits.remove(wait)
                wait.then(replace(self._view, silent=silent))

    def _silent(self, wait: _Wait) -> tuple[str, ...] | None:
        """None: it is to be waited on. Else who does not answer."""
        counting = [member for member in self._members.values() if member.counts]
        over = time.monotonic() > wait.due_s
        behind = [member for member in counting if member.report.revision < wait.revision]
        if not over and (not counting or any(not member.is_silent for member in behind)):
            return None
        if wait.number is None:
            wait.number = self._number
        blind = [member for member in counting if member.seen < wait.number and member not in behind]
        if not over and any(not member.is_silent for member in blind):
            return None
        return tuple(member.name for member in (*behind, *blind))

    def _collect(self, asker: Member, number: int) -> None:
        speaking = [member for member in self._members.values() if member.speaks]

        def ask(key: int) -> None:
            for member in speaking:
                self._send(member, wire.ReadGauges(key))

        def told(families: list[Family]) -> None:
            self._send(asker, wire.Collected(number, tuple(families)))

        self._tally.begin({member.key for member in speaking}, told, ask)

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._pinged_s >= PING_EVERY_S:
            self._pinged_s = now
            self._broadcast(wire.Ping())
        self._tally.tick()
        if self._admit():
            self._changed()
        self._check_waits()


class _Rested:
    """A catalogue that is not looked into while the parent forks."""

    def __init__(self, catalog: Looks, quiet: threading.Lock) -> None:
        self._catalog = catalog
        self._quiet = quiet

    @property
    def problems(self) -> tuple[str, ...]:
        return self._catalog.problems

    @property
    def notes(self) -> tuple[str, ...]:
        return self._catalog.notes

    @property
    def configured(self) -> tuple[str, ...]:
        return self._catalog.configured

    @property
    def auth(self) -> AuthConfig | None:
        return self._catalog.auth

    @property
    def datasets(self) -> tuple[DatasetConfig, ...] | None:
        return self._catalog.datasets

    def look(self, finished: Container[str] = ()) -> Mapping[str, OnDisk]:
        with self._quiet:
            return self._catalog.look(finished)
