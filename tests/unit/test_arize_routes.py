"""The log's routes over a log that a test holds in its hands: nothing is acknowledged before it is stored, all or nothing."""

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from fastserve.config import Config
from fastserve.errors import FastServeError, Unauthenticated
from fastserve.http.message import Reply, Request, Response
from fastserve.protocols.arize.frame import unpack
from fastserve.protocols.arize.routes import Arize
from fastserve.store.errors import SegmentUnreadable, StoreBusy, StoreFailed, StoreFull
from fastserve.store.frames import Kind
from fastserve.types import EVERYBODY, LOG, Caller
from tests.support.arrow_tables import schema, stream

NOW_NS = 1_795_000_000_000_000_000


class HeldLog:
    """Keeps what is appended, and whom to tell, until the test says so."""

    def __init__(self) -> None:
        self.appended: list[tuple[list[tuple[int, bytes]], int]] = []
        self.told: list[Callable[[FastServeError | None], None]] = []
        self.refusal: FastServeError | None = None

    def append(self, frames: Any, done: Any, rows: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.appended.append((list(frames), rows))
        self.told.append(done)


class Heard(Reply):
    """The answer, once there is one."""

    response: Response | None = None

    def deliver(self, response: Response) -> None:
        assert self.response is None
        self.response = response


class Setup:
    def __init__(self, log: HeldLog | None) -> None:
        self.posted: list[Callable[[], None]] = []
        engine: Any = SimpleNamespace(
            log=log,
            config=Config(),
            executor=SimpleNamespace(post=self.posted.append),
            own_name=lambda name: "iris" if name == "alias" else name,
        )
        self.protocol = Arize(engine, lambda: NOW_NS)
        self.routes = {route.pattern.pattern: route for route in self.protocol.routes()}

    def post(self, path: str, body: bytes, caller: Caller = EVERYBODY, headers: Any = None) -> Heard:
        reply = Heard(self.protocol)
        request = Request("POST", path, "", headers or {}, body, {}, 0, 0, caller)
        infer = self.routes[path].infer
        assert infer is not None
        try:
            infer(request, reply)
        except FastServeError as error:  # as a door does
            reply.fail(error)
        return reply

    def work(self) -> None:
        while self.posted:
            self.posted.pop()()


@pytest.fixture
def log() -> HeldLog:
    return HeldLog()


@pytest.fixture
def setup(log: HeldLog) -> Setup:
    return Setup(log)


def record(**more: Any) -> dict[str, Any]:
    return {"model_id": "iris", "prediction_id": "p", "prediction": {}, **more}


ONE = json.dumps(record()).encode()
TABLE = stream(pa.table({"id": ["a", "b"], "f": [1, 2]}), schema(model_id="iris", prediction_id="id", features=["f"]))
BODIES = {
    "/v1/log": ONE,
    "/v1/bulk": b'{"records":[%b]}' % ONE,
    "/v1/preprod": b'{"trainingRecord":{"record":%b}}' % ONE,
    "/v1/pandas_arrow": TABLE,
}
LENGTH = {"content-length": "1"}


def told(reply: Heard) -> tuple[int, Any]:
    assert reply.response is not None
    return reply.response.status, json.loads(reply.response.body)


@pytest.mark.parametrize("path", BODIES)
def test_nobody_is_told_before_it_is_stored(setup: Setup, log: HeldLog, path: str) -> None:
    reply = setup.post(path, BODIES[path], headers=LENGTH)
    assert bool(setup.posted) == (path != "/v1/log"), "several records are read elsewhere"
    setup.work()
    assert reply.response is None
    ((frames, rows),) = log.appended
    assert rows == (2 if path == "/v1/pandas_arrow" else 1)
    assert [kind for kind, _ in frames] == [Kind.ARROW if path == "/v1/pandas_arrow" else Kind.RECORD]
    assert unpack(frames[0][1])[1] == (TABLE if path == "/v1/pandas_arrow" else ONE)
    log.told[0](None)
    assert told(reply)[0] == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (StoreBusy(), 503, "the prediction log is busy"),
        (StoreFull(), 503, "the disk is full"),
        (StoreFailed("input/output error"), 503, "input/output error"),
        (SegmentUnreadable("of another kind"), 500, "^Internal service error, contact Arize$"),
    ],
)
def test_what_is_not_stored_is_no_200(
    setup: Setup, log: HeldLog, path: str, at_once: bool, error: FastServeError, status: int, message: str
) -> None:
    log.refusal = error if at_once else None
    reply = setup.post(path, BODIES[path], headers=LENGTH)
    setup.work()
    for done in log.told:
        done(error)
    found, body = told(reply)
    assert found == status
    assert re.search(message, body["message"])
    assert body["error"] == body["message"]
    assert reply.response is not None
    assert ("retry-after" in dict(reply.response.headers)) == (status == 503)


@pytest.mark.parametrize("path", [path for path in BODIES if path != "/v1/log"])
def test_our_own_mistakes_elsewhere_are_answered_too(setup: Setup, log: HeldLog, path: str) -> None:
    refusal: Any = ValueError("ours")
    log.refusal = refusal
    reply = setup.post(path, BODIES[path], headers=LENGTH)
    setup.work()
    status, body = told(reply)
    assert (status, body["code"], body["message"]) == (500, 13, "Internal service error, contact Arize")
    assert "ours" not in str(body)


@pytest.mark.parametrize("path", BODIES)
def test_without_a_log_it_says_how_to_have_one(path: str) -> None:
    setup = Setup(None)
    reply = setup.post(path, BODIES[path], headers=LENGTH)
    setup.work()
    status, body = told(reply)
    assert status == 404
    assert "--log-dir" in body["message"]


def caller(**what: Any) -> Caller:
    return Caller(name="someone", scopes=frozenset({LOG}), **what)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("who", "headers", "message"),
    [
        (caller(models=re.compile("wine")), {}, 'the caller "someone" may not use the model "iris"'),
        (caller(spaces=frozenset({"ours"})), {"arize-space-id": "theirs"}, "unable to validate authorization header"),
        (caller(spaces=frozenset({"ours"})), {}, "unable to validate authorization header"),
    ],
)
def test_who_may_not_leaves_nothing(
    setup: Setup, log: HeldLog, path: str, who: Caller, headers: dict[str, str], message: str
) -> None:
    reply = setup.post(path, BODIES[path], who, {**LENGTH, **headers})
    setup.work()
    status, body = told(reply)
    assert (status, body["code"], body["message"]) == (403, 7, message)
    assert log.appended == []


@pytest.mark.parametrize("path", BODIES)
def test_who_may_is_let_in(setup: Setup, log: HeldLog, path: str) -> None:
    who = caller(models=re.compile("iris"), spaces=frozenset({"ours"}))
    setup.post(path, BODIES[path], who, {**LENGTH, "grpc-metadata-arize-space-id": "ours"})
    setup.work()
    assert unpack(log.appended[0][0][0][1])[0].space == "ours"


def test_an_alias_may_be_logged_to_by_who_may_use_the_model(setup: Setup, log: HeldLog) -> None:
    body = json.dumps(record(model_id="alias")).encode()
    assert setup.post("/v1/log", body, caller(models=re.compile("iris"))).response is None
    assert len(log.appended) == 1


def test_one_record_of_many_that_may_not_be_written_keeps_all_out(setup: Setup, log: HeldLog) -> None:
    body = json.dumps({"records": [record(space_key="ours"), record(space_key="theirs")]}).encode()
    reply = setup.post("/v1/bulk", body, caller(spaces=frozenset({"ours"})))
    setup.work()
    assert told(reply)[0] == 403
    assert log.appended == []


def test_records_sent_together_are_stored_together(setup: Setup, log: HeldLog) -> None:
    body = json.dumps({"records": [record(prediction_id=""), record(), record(prediction_id="")]}).encode()
    setup.post("/v1/bulk", body)
    setup.work()
    ((frames, _),) = log.appended
    ids = [unpack(payload)[0].prediction_id for _, payload in frames]
    assert ids[1] == ""
    assert len({*ids}) == 3


def test_nothing_to_store_is_stored_at_once(setup: Setup, log: HeldLog) -> None:
    reply = setup.post("/v1/bulk", b"{}")
    setup.work()
    assert told(reply) == (200, {})
    assert log.appended == []


@pytest.mark.parametrize(
    ("missing", "message"), [(True, "must provide authorization header"), (False, "invalid api-key")]
)
def test_who_is_not_known_gets_403_and_is_asked_for_nothing(setup: Setup, missing: bool, message: str) -> None:
    response = setup.protocol.encode_error(Unauthenticated(("Bearer realm=x",), missing=missing))
    assert (response.status, json.loads(response.body)["message"]) == (403, message)
    assert dict(response.headers) == {"content-type": "application/json"}
