"""Requests in lanes, for doors with an event loop: those whose bodies come in one turn of the loop are answered together.

Thread: the loop's. Memory: one object per request, gone when its turn is over.
"""

import asyncio
import logging

from msgspec import Struct

from fastserve._ext.arrivals import suits
from fastserve.http.lanes import Lanes, submitted
from fastserve.http.message import HeaderMap, Reply
from fastserve.http.routes import Lane
from fastserve.http.site import Site

_log = logging.getLogger(__name__)


class Arrival(Struct, gc=False):
    """A body that is there. `taken`: whether its `reply` is called, or will be; None: its turn has not come."""

    lane: Lane
    reply: Reply
    body: bytes
    came_ns: int
    taken: bool | None = None


class Turn:
    """What has come since the loop last turned. `lanes`: which paths have one."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._here: list[Arrival] = []
        self._lane_of: dict[str, Lane] = {}
        self.lanes = Lanes(self._lane_of, site)

    def lane(self, method: str, path: str, headers: HeaderMap) -> Lane | None:
        """The lane for a request, whose body is to be read."""
        lane = self._lane_of.get(path)
        return lane if lane is not None and method == "POST" and suits(headers, lane) else None

    async def takes(self, lane: Lane, reply: Reply, body: bytes) -> bool:
        """Whether `reply` is called, or will be, together with those that come in this turn; else look at it by itself."""
        arrival = Arrival(lane, reply, body, self._site.clock())
        self._here.append(arrival)
        await asyncio.sleep(0)  # all tasks that can go on do; the first that comes here again answers for all
        if arrival.taken is None:
            self._answer()
        return arrival.taken is True

    def _answer(self) -> None:
        together: dict[int, list[Arrival]] = {}
        for arrival in self._here:
            together.setdefault(id(arrival.lane), []).append(arrival)
        self._here = []
        for arrivals in together.values():
            lane = arrivals[0].lane
            taken = self._queued(lane, arrivals) if lane.waits else self._answered(lane, arrivals)
            if taken is None:
                self.lanes.close(lane)
                taken = [False] * len(arrivals)
            for arrival, is_taken in zip(arrivals, taken, strict=True):
                arrival.taken = is_taken

    def _answered(self, lane: Lane, arrivals: list[Arrival]) -> list[bool] | None:
        """Which of them are answered now; None: the lane is closed."""
        try:
            answers = lane.answer([arrival.body for arrival in arrivals], [arrival.came_ns for arrival in arrivals])
        except Exception:  # the app's edge: the general way tells each of them what is wrong
            _log.exception("a lane failed")
            return None
        if answers is None:
            return None
        for arrival, answer in zip(arrivals, answers, strict=True):
            if answer is not None:
                arrival.reply.subject = lane.subject
                arrival.reply.send(answer)
        return [answer is not None for answer in answers]

    def _queued(self, lane: Lane, arrivals: list[Arrival]) -> list[bool] | None:
        """Which of them are refused, or wait for their turn of the model; None: the lane is closed."""
        replies, came_ns = [arrival.reply for arrival in arrivals], [arrival.came_ns for arrival in arrivals]
        for reply in replies:  # before any is answered: it is counted by that
            reply.subject = lane.subject
        error = lane.refused(came_ns)
        if error is None:
            return submitted(self._site, lane, [arrival.body for arrival in arrivals], came_ns, replies)
        for reply in replies:
            reply.fail(error)
        return [True] * len(replies)
