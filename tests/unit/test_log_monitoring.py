"""/log/performance and /log/drift through the whole application: answers, hostile parameters, callers of some models only."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.log_store import actual, row
from tests.unit.test_log_routes import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("log"))
    rows = [row(number, label_num=number * 1.5, seq=1000 + number) for number in range(40)]
    rows += [row(number, space="t", features={"age": "text"}, seq=2000 + number) for number in range(4)]
    rows += [row(number, model_id="n", environment="training", seq=3000 + number) for number in range(4)]
    server.write(*rows)
    server.write(*(actual(number, label_num=number * 1.5 + 1, seq=4000 + number) for number in range(30)))
    yield server
    server.door.close()


def asked(server: Server, path: str, key: str = "all", **parameters: Any) -> tuple[int, Any]:
    answer = server.send("POST", path, parameters, key)
    return answer.status, json.loads(answer.body)


def test_performance_is_answered_at_once_after_the_200(server: Server) -> None:
    status, found = asked(server, "/log/performance", model="m", space="s", window="none")
    assert (status, found["task"]) == (200, "regression")
    assert found["counts"]["predictions"] == 40
    assert found["counts"]["joined"] == 30
    assert found["metrics"]["mae"] == pytest.approx(1)
    assert found["metrics"]["mean_error"] == pytest.approx(-1)
    same = server.get("/log/performance?model=m&space=s&window=none")
    assert same == found


def test_drift(server: Server) -> None:
    status, found = asked(server, "/log/drift", model="m", space="s", window="none")
    assert (status, found["baseline"]["kind"]) == (200, "first half")
    assert [one["name"] for one in found["dimensions"] if one["verdict"] == "significant"]
    narrowed = server.get("/log/drift?model=m&dimension=f.age&dimension=prediction&filter=f.age>=10&space=s")
    assert {one["name"] for one in narrowed["dimensions"]} == {"f.age", "prediction"}


HOSTILE = [
    ("", 400, "model: is needed"),
    ("model=", 400, "model: "),
    ("model=m&model=n", 400, "model: given twice"),
    ("model=m&nonsense=1", 400, '"nonsense": no such parameter'),
    ("model=m&environment=moon", 400, "environment: "),
    ("model=m&max_slices=0", 400, "max_slices: "),
    ("model=m&max_slices=1e99", 400, "max_slices: "),
    ("model=m&max_slices=x", 400, "max_slices: "),
    ("model=m&window=0d", 400, "window: "),
    ("model=m&start=2026-02-30", 400, "start: "),
    ("model=m&start=9999-12-31", 400, "start: "),
    ("model=m&slice=" + quote('f."; drop view joined; --'), 400, "slice: there is no column"),
    ("model=m&filter=" + quote("f.age>1 or 1=1"), 400, 'filter: "f.age" holds numbers'),
    ("model=m&filter=a%00b", 400, "filter: "),
    ("model=%ff", 400, "the query: "),
    ("model=" + "m" * 2000, 400, "model: "),
    ("&".join(["version=1"] * 300) + "&model=m", 400, "version: "),
    ("model=nobody", 404, "model: the prediction log has no records"),
]


@pytest.mark.parametrize("path", ["/log/performance", "/log/drift"])
@pytest.mark.parametrize(("query", "status", "says"), HOSTILE)
def test_what_is_wrong_is_named(server: Server, path: str, query: str, status: int, says: str) -> None:
    answer = server.send("GET", f"{path}?{query}")
    assert answer.status == status, answer.body
    assert json.loads(answer.body)["error"].startswith(says)


BODIES = [
    b"",
    b"[]",
    b"{",
    b'{"model": 7}',
    b'{"model": "m", "bins": "10"}',
    b'{"model": "m", "version": [1]}',
    b"\xff",
]


@pytest.mark.parametrize("body", BODIES)
def test_bodies_that_are_no_question(server: Server, body: bytes) -> None:
    from tests.support.doors import Sent

    headers = {"x-api-key": "a-secret-key-for-all", "host": "x"}
    answer = server.door.send(Sent("POST", "/log/drift", headers, body))
    assert answer.status == 400
    assert json.loads(answer.body)["error"].split(":")[0] in ("the body", "model", "bins", "version[0]")


def test_callers_ask_about_what_is_theirs(server: Server) -> None:
    assert asked(server, "/log/performance", "one model", model="m")[0] == 200
    status, told = asked(server, "/log/performance", "one model", model="n")
    assert status == 403
    assert 'may not use the model "n"' in told["error"]
    status, found = asked(server, "/log/performance", "one space", model="m")
    assert (status, found["counts"]["predictions"]) == (200, 4)
    assert asked(server, "/log/drift", "one space", model="m", space="s")[0] == 403
    assert asked(server, "/log/drift", "one space", model="n")[0] == 404


def test_other_methods_are_not_taken(server: Server) -> None:
    assert server.send("DELETE", "/log/drift").status == 405
