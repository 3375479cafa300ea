"""The native half of the direct door: who is overdue, and which requests a lane takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.arrivals import Arrivals, Express, Overdue
from tests.reference import arrivals as reference
from tests.support.clockwork import FakeClock

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 5)),
        st.tuples(st.just("take"), st.integers(0, 5)),
        st.tuples(st.just("advance"), st.integers(0, 30)),
        st.tuples(st.just("ask"), st.integers(0, 60)),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([0, 20]))
def test_overdue_does_as_its_twin(steps: list[tuple[str, int]], limit_ns: int):
    told: list[list[object]] = []
    for kind in (Overdue, reference.Overdue):
        clock, saw = FakeClock(), []
        overdue = kind(limit_ns, clock.at, lambda waiter, saw=saw, clock=clock: saw.append((waiter, clock.now_ns)))
        for step, value in steps:
            match step:
                case "begin":
                    overdue.begin(value, clock.now_ns)
                case "take":
                    saw.append(overdue.waiting.pop(value, None))
                case "advance":
                    clock.advance(value)
                case _:
                    saw.append(overdue.any_since(clock.now_ns - value))
        told.append([*saw, dict(overdue.waiting)])
    assert told[0] == told[1]


class Lane:
    limit = 1000
    header: str | None = None
    header_value: str | None = None


class Watcher:
    """A request as Granian shows it."""

    def __init__(self, path: str, headers: dict[str, str], method: str = "POST") -> None:
        self.scope = self
        self.proto = lambda: self
        self.method = method
        self.path = path
        self.headers = headers
        self.callback: object = None

    def add_done_callback(self, callback: object, context: object = None) -> None:
        self.callback = callback


def expressed(headers: dict[str, str], lane: Lane, method: str = "POST", path: str = "/lane") -> bool:
    clock = FakeClock()
    bodies: Overdue[object] = Overdue(0, clock.at, print)
    arrivals = Arrivals(bodies, clock, clock.at, print, 4, 10, 20)
    others: list[object] = []
    express = Express(bodies, arrivals, clock, lambda watcher: bool(others.append(watcher)), print)
    express.lanes["/lane"] = lane
    watcher = Watcher(path, headers, method)
    taken = express.takes(watcher)
    assert taken is (watcher.callback is not None) is (not others)
    assert len(bodies.waiting) == taken
    return taken


@pytest.mark.parametrize(
    ("length", "taken"),
    [
        ("1", True),
        ("999", True),
        ("0000999", True),
        ("1000", False),
        ("0", False),
        ("", False),
        ("-1", False),
        ("+5", False),
        (" 5", False),
        ("5_0", False),
        ("\u0665", False),
        ("\u00b2", False),
        ("00000999", False),
        ("99999999999999999999999", False),
        (None, False),
    ],
)
def test_a_lane_takes_bodies_of_a_length_that_is_short_and_plain(length: str | None, taken: bool):
    assert expressed({} if length is None else {"content-length": length}, Lane()) is taken


@pytest.mark.parametrize("name", ["content-encoding", "x-request-timeout-ms"])
def test_a_lane_takes_nothing_out_of_the_ordinary(name: str):
    assert not expressed({"content-length": "5", name: "5"}, Lane())


def test_a_lane_takes_its_method_and_path_only():
    assert not expressed({"content-length": "5"}, Lane(), method="PUT")
    assert not expressed({"content-length": "5"}, Lane(), path="/lanes")


@pytest.mark.parametrize(
    ("value", "said", "taken"),
    [
        (None, None, True),
        (None, "5", False),
        ("5", "5", True),
        ("5", "6", False),
        ("5", None, False),
    ],
)
def test_a_lane_with_a_header_takes_those_that_say_the_same(value: str | None, said: str | None, taken: bool):
    lane = Lane()
    lane.header, lane.header_value = "x-shape", value
    assert expressed({"content-length": "5", **({} if said is None else {"x-shape": said})}, lane) is taken


def test_it_is_told_when_requests_come_one_at_a_time_and_when_they_no_longer_do():
    clock = FakeClock()
    bodies: Overdue[object] = Overdue(0, clock.at, print)
    told: list[bool] = []
    express = Express(
        bodies, Arrivals(bodies, clock, clock.at, print, 4, 10, 20), clock, lambda _: True, print, told.append, 3
    )
    for _ in range(5):
        express.takes(Watcher("/", {}))
    assert told == [True]
    bodies.begin("another", clock.now_ns)
    for _ in range(2):
        express.takes(Watcher("/", {}))
    assert told == [True, False]
    bodies.waiting.clear()
    for _ in range(2):
        express.takes(Watcher("/", {}))
    assert told == [True, False]
    express.takes(Watcher("/", {}))
    assert told == [True, False, True]


def test_while_bodies_keep_coming_the_alarm_sets_itself_and_rests_when_they_do_not():
    clock, answered = FakeClock(0), []
    bodies: Overdue[object] = Overdue(0, clock.at, print)
    arrivals = Arrivals(bodies, clock, clock.at, answered.append, 4, 10, 20)
    bodies.begin("next", 1)  # its body is about to come: the other one waits for it
    clock.now_ns = 5
    arrivals.add("one", b"1")
    assert (answered, clock.alarms) == ([], [25])
    bodies.waiting.clear()
    arrivals.add("next", b"2")
    assert [[request for request, _, _ in together] for together in answered] == [["one", "next"]]
    clock.advance(20)
    assert clock.alarms == [25 + 4 * 20], "somebody was held: others will be"
    clock.advance(80)
    assert clock.alarms == [], "nobody was"


def test_who_is_held_while_the_alarm_is_far_is_answered_by_it():
    clock, answered = FakeClock(0), []
    bodies: Overdue[object] = Overdue(0, clock.at, print)
    arrivals = Arrivals(bodies, clock, clock.at, answered.append, 4, 10, 20)
    bodies.begin("never", 1)
    clock.now_ns = 5
    arrivals.add("one", b"1")
    clock.now_ns = 15
    arrivals.add("two", b"2")  # not fresh any more: nobody waits for it
    clock.advance(10)
    bodies.begin("never either", 26)
    clock.advance(5)
    arrivals.add("three", b"3")
    clock.advance(100)
    assert [[request for request, _, _ in together] for together in answered] == [["one", "two"], ["three"]]
    assert clock.alarms == []
