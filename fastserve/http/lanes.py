"""Which paths have lanes (see `http.routes.Lane`), and when they get and lose them.

Thread: any. Memory: `MAX_LANES` lanes a door.
"""

import logging
from collections.abc import Callable, Sequence

from fastserve._ext.arrivals import ExpressRequest, send_all
from fastserve.errors import FastServeError
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Lane
from fastserve.http.site import OFFLOAD_BYTES, Site
from fastserve.http.status import status_of

LIGHT_BYTES = 1 << 20
"""Bodies that are read in no time are taken up to here: being handed over, such a one holds the thread for 0.3 ms."""

MAX_LANES = 1024
MAX_LANE_CHARS = 512
"""Clients choose the paths that have lanes: so many, and so long."""

ASK_AGAIN_NS = 1_000_000_000
"""A path that got no lane is not asked for again sooner."""

Expressed = tuple[ExpressRequest, bytes, int]
"""A request in a lane, its body, and when that came."""

_log = logging.getLogger(__name__)


class Lanes:
    """Which paths have lanes: those of `lanes`, which the door looks at."""

    def __init__(self, lanes: dict[str, Lane], site: Site) -> None:
        self._lanes = lanes
        self._site = site
        self._asked_ns: dict[str, int] = {}
        self._cleared = 0
        self._refused: tuple[str, FastServeError | None, Response | None] = "", None, None
        """What was told last, and as what, by which protocol: under overload the same is told to many."""

    def ask(self, path: str, make: Callable[[Request], Lane | None], request: Request) -> None:
        """A request was answered, or will be: those that come after it may get a lane."""
        cleared = self._cleared  # before it is asked whether there may be lanes: who says no clears them afterwards
        lanes, now = self._lanes, request.received_ns
        if path in lanes or now - self._asked_ns.get(path, 0) < ASK_AGAIN_NS or not self._site.plain:
            return
        if len(path) > MAX_LANE_CHARS:
            return
        if len(self._asked_ns) >= MAX_LANES:
            self._asked_ns.clear()
            lanes.clear()
        self._asked_ns[path] = now
        try:
            lane = make(request)
        except FastServeError:
            return
        if lane is None:
            return
        lane.limit = min(LIGHT_BYTES if lane.light else OFFLOAD_BYTES, self._site.max_body_bytes + 1)
        lanes[path] = lane
        if cleared != self._cleared:  # models changed meanwhile: it may be the old one's
            lanes.pop(path, None)

    def send(
        self, arrivals: list[Expressed], answers: list[Response | None], error: FastServeError | None = None
    ) -> list[int]:
        """Send and count what can leave as it is; the places of the others. `error`: what all are told. All of one lane."""
        site, first = self._site, arrivals[0][0]
        places: list[int] = []
        most_bytes = 0 if site.adds_headers else site.packs_from_bytes
        elapsed_ns = send_all(arrivals, answers, most_bytes, site.clock, _cannot_send, places)
        if elapsed_ns:
            name = site.find("POST", first.scope.path).protocol.name
            if error is None:
                site.observe_many(name, first.lane.subject, elapsed_ns)
            else:
                site.observe_many(name, first.lane.subject, elapsed_ns, status_of(error), error.code)
        return places

    def refuse(self, arrivals: list[Expressed], error: FastServeError) -> list[Expressed]:
        """Tell all of them `error`, which is written once; those that it cannot be sent to as it is."""
        protocol = self._site.find("POST", arrivals[0][0].scope.path).protocol
        name, refused, response = self._refused
        if response is None or refused is not error or name != protocol.name:
            response = protocol.encode_error(error)
            self._refused = protocol.name, error, response
        return [arrivals[at] for at in self.send(arrivals, [response] * len(arrivals), error)]

    def clear(self) -> None:
        """Models have changed, or who may call: a lane would keep one that is gone, or ask nobody."""
        self._cleared += 1
        self._asked_ns.clear()
        self._lanes.clear()

    def close(self, lane: Lane) -> None:
        """It serves no more."""
        for path in [path for path, one in list(self._lanes.items()) if one is lane]:
            self._lanes.pop(path, None)


def submitted(
    site: Site, lane: Lane, bodies: list[bytes], came_ns: list[int], replies: Sequence[Reply]
) -> list[bool] | None:
    """Have requests of a lane wait for their turn: whether each does; None where the lane is to be closed."""
    deadline_ns = site.clock() + site.request_timeout_ns if site.request_timeout_ns else 0
    try:
        return lane.submit(bodies, came_ns, replies, deadline_ns)
    except Exception:  # the app's edge: the general way tells each of them what is wrong
        _log.exception("a lane failed")
        return None


def _cannot_send() -> None:
    _log.exception("an answer could not be sent")
