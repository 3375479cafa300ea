"""Objectives as clients see them, through every door and protocol, on a clock that the tests turn.

Who is let in is in time; who is not is told at once, with `Retry-After`, and before anybody reads what they sent.
"""

import gzip
import json
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.support.fake_doors import DOORS, Exchange, FakeDoor
from tests.support.timed_model import MOST_ROWS, PER_S, SLO_NS, Flow, Timed, timed

ROW = [1.0, 2.0, 3.0, 4.0]
PREDICT, INFER = "/v1/models/m:predict", "/v2/models/m/infer"
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [ROW]}
BEHIND = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
HEAD = json.dumps({"inputs": [BEHIND], "parameters": {"binary_data_output": True}}).encode()
BINARY = {"inference-header-content-length": str(len(HEAD))}
LARGE = b" " * 70_000
"""More than a door's thread reads."""

FORMS: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "rows": (PREDICT, json.dumps({"instances": [ROW]}).encode(), {}),
    "columns": (PREDICT, json.dumps({"inputs": [ROW]}).encode(), {}),
    "v2": (INFER, json.dumps({"inputs": [TENSOR]}).encode(), {}),
    "v2 with an id": (INFER, json.dumps({"id": "7", "inputs": [TENSOR]}).encode(), {}),
    "v2 binary": (INFER, HEAD + struct.pack("<4f", *ROW), BINARY),
    "generate": ("/v2/models/m/generate", json.dumps({"x": ROW}).encode(), {}),
    "dict": ("/v2/models/m/infer_dict", json.dumps({"inputs": [dict(zip("abcd", ROW, strict=True))]}).encode(), {}),
    "large rows": (PREDICT, json.dumps({"instances": [ROW]}).encode() + LARGE, {}),
    "large v2": (INFER, json.dumps({"inputs": [TENSOR]}).encode() + LARGE, {}),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timed]:
    with timed(tmp_path_factory.mktemp("timed")) as made:
        yield made


@pytest.fixture
def make(model: Timed) -> Iterator[Callable[[str], FakeDoor]]:
    made: list[FakeDoor] = []

    def make(kind: str) -> FakeDoor:
        made.append(DOORS[kind](*model.protocols, clock=model.clock))
        model.behind(made[-1])
        return made[-1]

    yield make
    for door in made:
        while door.executor.posted:
            door.work()
        door.close()


@pytest.fixture(params=sorted(DOORS))
def door(request: pytest.FixtureRequest, make: Callable[[str], FakeDoor]) -> FakeDoor:
    return make(request.param)


def post(form: str, **headers: str) -> Callable[[FakeDoor], Exchange]:
    path, body, own = FORMS[form]
    return lambda door: door.post(path, body, {**own, **headers})


def told(exchange: Exchange) -> str:
    """The error of an answer in the shape of the tensor protocols."""
    body = json.loads(exchange.body)
    assert list(body) == ["error"]
    return str(body["error"])


def assert_refused(exchange: Exchange) -> None:
    assert exchange.status == 429
    after = exchange.headers["retry-after"]
    assert after.isdigit()
    assert 1 <= int(after) <= 2 * SLO_NS / 1e9 + 1
    assert "its objective is 400 ms" in told(exchange)


def crowd(door: FakeDoor) -> list[Exchange]:
    """As many requests at once as are let in, and the first that is not; none of them has run."""
    came = []
    while not came or not came[-1].answered:
        came.append(post("rows")(door))
    assert_refused(came[-1])
    return came


def assert_kept(door: FakeDoor, flow: Flow) -> list[int]:
    """Who was let in was in time, who was not was told so at once, all was counted, and no time was lost; the statuses."""
    statuses = [exchange.status for _, exchange in flow.sent]
    let_in, refused = statuses.count(200), statuses.count(429)
    assert (let_in + refused, set(statuses)) == (len(statuses), {200, 429})
    assert [(at, took) for at, took in flow.took_ns.items() if statuses[at] == 200 and took > SLO_NS] == []
    assert all(took == 0 for at, took in flow.took_ns.items() if statuses[at] == 429)
    assert let_in >= 0.9 * len(statuses) / TIMES
    assert door.count('fastserve_refused_total{reason="objective"}') == refused
    outcomes = 'fastserve_objective_requests_total{model="m",outcome="'
    counted = {name: door.count(f'{outcomes}{name}"}}') for name in ("met", "refused", "missed", "expired")}
    assert counted == {"met": let_in, "refused": refused, "missed": 0, "expired": 0}
    return statuses


TIMES = 3.0
COUNT = 100
GAP_NS = round(1e9 / (TIMES * PER_S))


@pytest.mark.parametrize("form", ["rows", "columns", "v2", "v2 with an id"])
def test_three_times_too_many(door: FakeDoor, form: str):
    flow = Flow(door)
    flow.run(post(form), COUNT, GAP_NS)
    for (_, exchange), status in zip(flow.sent, assert_kept(door, flow), strict=True):
        if status == 429:
            assert_refused(exchange)


@pytest.mark.parametrize("form", ["v2 binary", "generate", "dict"])
def test_three_times_too_many_in_other_forms(make: Callable[[str], FakeDoor], form: str):
    door = make("direct")
    flow = Flow(door)
    flow.run(post(form), COUNT, GAP_NS)
    assert_kept(door, flow)


def test_three_times_too_many_from_a_dataset(make: Callable[[str], FakeDoor]):
    door = make("rsgi")
    flow = Flow(door)
    flow.run(lambda door: door.request("GET", "/v1/models/m/predict"), COUNT, GAP_NS)
    statuses = assert_kept(door, flow)
    refused = flow.sent[statuses.index(429)][1]
    assert refused.headers["retry-after"].isdigit()
    assert "its objective is 400 ms" in json.loads(refused.body)["error_message"]


@pytest.mark.parametrize(
    "path", [PREDICT, "/v1/models/m:classify", "/v1/models/m:regress", INFER, "/v2/models/m/generate"]
)
@pytest.mark.parametrize("large", [False, True])
def test_nobody_reads_what_is_refused(make: Callable[[str], FakeDoor], path: str, large: bool):
    door = make("rsgi" if large else "direct")
    broken = b"no json" + (LARGE if large else b"")
    sent = door.post(path, broken)
    door.work()
    assert sent.status == 400
    crowd(door)
    waiting = len(door.executor.posted)
    assert_refused(door.post(path, broken))
    assert len(door.executor.posted) == waiting


@pytest.mark.parametrize("kind", ["asgi", "rsgi"])
def test_nobody_unpacks_what_is_refused(make: Callable[[str], FakeDoor], kind: str):
    door = make(kind)
    packed = {"content-encoding": "gzip"}
    crowd(door)
    waiting = len(door.executor.posted)
    assert_refused(door.post(PREDICT, b"not packed at all", packed))
    assert len(door.executor.posted) == waiting
    in_time = door.post(INFER, gzip.compress(FORMS["v2"][1]), packed)  # it may name a priority
    assert len(door.executor.posted) == waiting + 1
    assert not in_time.answered


def test_a_large_body_that_waited_for_a_thread_is_not_read_when_it_is_too_late(make: Callable[[str], FakeDoor]):
    door = make("rsgi")
    large = door.post(PREDICT, b"no json" + LARGE)
    assert not large.answered
    crowd(door)
    door.executor.run_one()
    door.settle()
    assert_refused(large)


def test_a_model_that_is_not_there_is_told_as_ever(door: FakeDoor):
    crowd(door)
    for path, status in ((PREDICT, 400), (INFER, 404)):
        sent = door.post(path.replace("models/m", "models/n"), b"no json")
        assert sent.status == status


@pytest.mark.parametrize(
    ("kind", "form"), [("direct", "rows"), ("direct", "v2"), ("rsgi", "large rows"), ("asgi", "large v2")]
)
def test_who_gives_less_time_is_refused_sooner(make: Callable[[str], FakeDoor], kind: str, form: str):
    door = make(kind)
    for _ in range(2 * MOST_ROWS):
        post("rows")(door)
    patient = post(form)(door)
    hurried = post(form, **{"x-request-timeout-ms": "90"})(door)
    assert hurried.status == 429
    assert "90" not in told(hurried)
    while door.executor.posted:
        door.work()
    assert patient.status == 200


@pytest.mark.parametrize(("kind", "more"), [("direct", b""), ("rsgi", LARGE), ("asgi", LARGE)])
def test_who_goes_first_is_let_in_and_answered_before_the_others(
    make: Callable[[str], FakeDoor], kind: str, more: bytes
):
    door = make(kind)
    came = crowd(door)
    first = {"inputs": [TENSOR], "parameters": {"priority": 1}}
    sent = door.post(INFER, json.dumps(first).encode() + more)
    assert not sent.answered
    for _ in range(3):  # reads it, if it is large; runs what a slot was called for; runs the next batch
        if door.executor.posted:
            door.executor.run_one()
            door.settle()
    assert sent.status == 200
    assert not all(exchange.answered for exchange in came)
