"""Blocks: many requests of one kind in one run, and their answers encoded in one go.

The way of requests that ask for nothing but an answer: one input, rows of a fixed shape, all outputs, the default deadline.
Whatever does not fit is left out, and goes the way of all others, which also says what is wrong with it. Where runs are
short, there is no object for any of them; where they are not, each has a ticket, and waits in the queue as all others do.

Thread: the door's; an executor's for `outputs_of`. Memory: outputs are encoded from the runner's own buffers, before anybody
else gets the runner.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from fastserve._ext.coalesce import RowShapes
from fastserve._ext.costs import CostTable
from fastserve._ext.ticket import Ticket
from fastserve.backends.base import Runner
from fastserve.clock import Clock
from fastserve.engine.gate import Gate
from fastserve.engine.meters import ModelMeters
from fastserve.engine.short import TOGETHER_NS, ShortRuns
from fastserve.engine.suspects import Suspects
from fastserve.errors import FastServeError
from fastserve.types import Answer, Signature, Tensor

Answered = TypeVar("Answered")
Encode = Callable[[tuple[Tensor, ...], list[int]], list[Answered]]
"""Outputs of one run and the rows of each request, to an answer for each; the outputs are another's afterwards."""

Found = list[Tensor | None]
"""The input of each request; None for one that could not be read."""


class Group(Protocol):
    """What requests of one kind have in common, to whoever runs them."""

    def encode(self, outputs: tuple[Tensor, ...], rows: list[int]) -> list[Any]:
        """Outputs of one run and the rows of each request, to what each is told; the outputs are another's afterwards."""


def group_of(tickets: list[Ticket]) -> Group | None:
    """What encodes their answers together; None where they are not all of one group, or one was answered already."""
    group: Group | None = tickets[0].group
    return group if group is None or all(ticket.group is group for ticket in tickets) else None


def outputs_of(tickets: list[Ticket], runner: Runner, rows: list[int]) -> tuple[Tensor, ...] | None:
    """All outputs of a run of tickets of one group, until the next run; None where they do not fit the runner's buffers.

    Raises RunFailed.
    """
    parts = [part for ticket in tickets for part in ticket.inputs.values()]
    return cast(RunsParts, runner).run_parts(parts, sum(rows))


@runtime_checkable
class RunsParts(Protocol):
    """A runner that takes rows where they lie and shows where it put what came of them."""

    def run_parts(self, parts: list[Tensor], rows: int) -> tuple[Tensor, ...] | None:
        """All outputs [rows, ...] of the one input's parts, one after the other; valid until the next run.

        None, where they do not fit its buffers. Raises RunFailed.
        """


def each(read: Callable[[bytes], Tensor | None], bodies: list[bytes]) -> Found:
    """What `read` makes of each; None also where it refuses: whoever reads it again says what is wrong."""
    found: Found = []
    for body in bodies:
        try:
            found.append(read(body))
        except FastServeError:
            found.append(None)
    return found


def blocks_for(
    signature: Signature,
    short: ShortRuns,
    suspects: Suspects,
    max_rows: int,
    clock: Clock,
    run_clock: Clock,
    meters: ModelMeters,
    gate: Gate | None = None,
) -> "Blocks | None":
    """Blocks of a version whose rows may be coalesced; None where it has several inputs, or rows of many shapes."""
    spec = signature.inputs[0]
    fixed = spec.shape is not None and all(size >= 0 for size in spec.shape[1:])
    if len(signature.inputs) != 1 or not fixed or not isinstance(short.runner, RunsParts):
        return None
    shapes = RowShapes(((spec.name, spec.dtype.numpy, (spec.shape or ())[1:]),))
    return Blocks(shapes, short, suspects, max_rows, clock, run_clock, meters, gate)


MAX_FAILURES = 16
"""Runs that fail before what is left goes the way of all others: two bad ones among 64 are found with fewer."""


class Blocks:
    """Blocks of one version."""

    def __init__(
        self,
        shapes: RowShapes,
        short: ShortRuns,
        suspects: Suspects,
        max_rows: int,
        clock: Clock,
        run_clock: Clock,
        meters: ModelMeters,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._shapes = shapes
        self._short = short
        self._suspects = suspects
        self._costs: CostTable = short.costs
        self._max_rows = max_rows
        self._clock = clock
        self._run_clock = run_clock
        self._meters = meters

    @property
    def short(self) -> bool:
        """Whether a row's run is short now. Where it is not, requests wait for their turn: `tickets`."""
        return self._short.fits(1, 1)

    def tickets(
        self, found: Found, came_ns: list[int], answers: list[Answer], deadline_ns: int, lease: Any, group: Group
    ) -> list[Ticket | None]:
        """Tickets for what fits, which `group` may answer together; None for what was left out."""
        self._meters.decode.observe_since(came_ns, self._clock())
        (name,) = lease.input_names
        tickets: list[Ticket | None] = []
        for tensor, rows, came, answer in zip(found, self._shapes.each(found), came_ns, answers, strict=True):
            if tensor is None or not 0 < rows <= self._max_rows:
                tickets.append(None)
                continue
            inputs = {name: tensor}
            ticket = Ticket(
                lease.batcher, inputs, rows, rows, None, answer, None, deadline_ns, 0, lease, came, 0, group
            )
            tickets.append(ticket)
        return tickets

    def run(self, found: Found, came_ns: list[int], encode: Encode[Answered]) -> list[Answered | None]:
        """Run what fits; an answer for each, None for what was left out. `came_ns`: when their bodies were there."""
        counts = self._shapes.each(found)
        answers: list[Answered | None] = [None] * len(found)
        waiting = self._cut(found, counts)[::-1]
        failures = 0
        while waiting:
            places = waiting.pop()
            parts: list[Tensor] = [found[at] for at in places]  # type: ignore[misc]  # -1 rows else
            rows = [counts[at] for at in places]
            try:
                done = self._run(parts, rows, [came_ns[at] for at in places], encode)
            except FastServeError:
                failures += 1
                if failures > MAX_FAILURES:
                    break
                waiting += self._halves(places, parts, failures > 1)
                continue
            if done is None:
                break  # as long as the reason lasts it is everybody's
            for at, answer in zip(places, done, strict=True):
                answers[at] = answer
        return answers

    def _halves(self, places: list[int], parts: list[Tensor], again: bool) -> list[list[int]]:
        """What to run after these failed, the first last: the way of all others takes longer than a few short runs."""
        if len(places) == 1:
            self._suspects.failed_alone(parts, of_many=again)
            return []
        self._meters.isolated.add(1)
        half = len(places) // 2
        return [places[half:], places[:half]]

    def _cut(self, found: Found, counts: list[int]) -> list[list[int]]:
        """Places in `counts` that run together: each short by itself, together no more than a door's thread is held."""
        blocks: list[list[int]] = []
        rows, spared_ns = self._max_rows, 0
        suspects = self._suspects
        for at, count in enumerate(counts):
            if count <= 0 or not self._short.fits(count, count):
                continue
            if suspects.wary and suspects.holds([found[at]]):  # type: ignore[list-item]  # -1 rows else
                continue
            rows += count
            spared_ns += self._costs.estimate_ns(count)
            if rows <= self._max_rows and spared_ns <= TOGETHER_NS and blocks:
                blocks[-1].append(at)
            else:
                blocks.append([at])
                rows, spared_ns = count, self._costs.estimate_ns(count)
        return blocks

    def _run(
        self, parts: list[Tensor], rows: list[int], came_ns: list[int], encode: Encode[Answered]
    ) -> list[Answered] | None:
        """None where it is nobody's fault that there are no answers. Raises what the run does."""
        runner = self._short.take()
        if runner is None:
            return None
        total = sum(rows)
        try:
            began, cost_began = self._clock(), self._run_clock()
            outputs = cast(RunsParts, runner).run_parts(parts, total)
            if outputs is None:
                return None
            cost, ended = self._run_clock() - cost_began, self._clock()
            answers = encode(outputs, rows)
        except FastServeError:
            if self._short.was_stopped(total):
                return None
            raise
        finally:
            self._short.give_back(runner)
        self._costs.observe(total, cost)
        self._meters.decode.observe_since(came_ns, began)
        self._meters.version.block(came_ns, rows, began, ended, self._clock())
        if self._gate is not None:
            self._gate.ran_at_once(came_ns)
        return answers
