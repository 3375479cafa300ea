"""Statements that want too much: each ends, within the time and the memory that it may have, and the next one is answered."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.store.asking import Desk
from fastserve.store.plan import Plan
from fastserve.store.question import Limits, Question, QuestionFailed, QuestionRefused
from fastserve.store.reader import QuestionTooLong, Reader
from tests.support.log_store import READERS, Log, row

LIMITS = Limits(within_s=1.0, memory_bytes=128 << 20, answer_bytes=1 << 20)
PATIENT = Limits(within_s=60.0, memory_bytes=128 << 20, answer_bytes=1 << 20)
"""For what ends by itself, on a busy machine too."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    log = Log(tmp_path_factory.mktemp("log"))
    log.segment(log.worker(), [row(number) for number in range(10)])
    found: Plan = Reader(log.directory, READERS).plan("m")
    log.close()
    return found


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(PATIENT)
    yield desk
    desk.close()


@pytest.mark.parametrize(
    "sql",
    [
        "select length(repeat('x', 2000000000))",
        "select list_aggregate(range(1000000000), 'sum')",
        "with recursive a as (select 'x' s union all select s || s from a) select max(length(s)) from a",
        "select count(*) from range(10000000000) a, range(100000000) b",
        "select list(range) from range(1000000000)",
    ],
)
def test_what_takes_too_much_memory_is_refused(desk: Desk, plan: Plan, sql: str) -> None:
    with pytest.raises(QuestionFailed, match="memory"):
        desk.ask(plan, Question(sql=sql))
    assert json.loads(desk.ask(plan, Question(sql="select count(*) from records")).body)["rows"] == [[10]]


@pytest.mark.parametrize(
    "sql",
    [
        "with recursive a as (select 1 x union all select x + 1 from a) select count(*) from a",
        "select sum(hash(a.range + b.range)) from range(1000000) a, range(1000000) b",
    ],
)
def test_what_takes_too_long_is_ended(plan: Plan, sql: str) -> None:
    desk = Desk(LIMITS)
    began = time.monotonic()
    with pytest.raises(QuestionTooLong, match="longer than 1 s"):
        desk.ask(plan, Question(sql=sql))
    assert time.monotonic() - began < 60
    desk.close()


def test_answers_have_a_largest_size(desk: Desk, plan: Plan) -> None:
    wide = "select repeat('x', 1000) from range(10000)"
    for kind in ("json", "arrow"):
        answer = desk.ask(plan, Question(sql=wide, max_rows=100_000, format=kind))
        assert answer.truncated
        assert answer.rows > 100
        assert len(answer.body) < 2 << 20


def test_values_of_all_kinds_come_as_json(desk: Desk, plan: Plan) -> None:
    sql = (
        "select 'nan'::float, '-inf'::double, 170141183460469231731687303715884105727::hugeint, 1.5::decimal(3, 1),"
        " {'a': [1, null]}, map {'k': true}, '\\xFF'::blob, date '2026-01-02', time '01:02:03', interval 90 second,"
        " timestamptz '2026-01-02 03:04:05+00', uuid '6f1d3bb8-6d1c-4b2c-9a53-bb0c1b2b8d11', null"
    )
    (found,) = json.loads(desk.ask(plan, Question(sql=sql)).body)["rows"]
    assert found[:7] == ["NaN", "-Infinity", 2**127 - 1, 1.5, {"a": [1, None]}, {"k": True}, "/w=="]
    assert found[7:10] == ["2026-01-02", "01:02:03", 90.0]
    assert found[11:] == ["6f1d3bb8-6d1c-4b2c-9a53-bb0c1b2b8d11", None]


def test_nothing_of_the_environment_or_the_disk_can_be_had(desk: Desk, plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("secret\n1\n")
    for sql in (f"select * from '{tmp_path}/x.csv'", "select getenv('HOME')", f"from read_text('{tmp_path}/x.csv')"):
        with pytest.raises(QuestionFailed, match="expected one SELECT"):
            desk.ask(plan, Question(sql=sql))


def test_errors_name_no_folder_of_the_server(desk: Desk, tmp_path: Path) -> None:
    gone = str(tmp_path / "parquet" / "gone.parquet")
    with pytest.raises(QuestionFailed) as caught:
        desk.ask(
            Plan([gone], [f"create view records as select * from read_parquet('{gone}')"], {}),
            Question(sql="from records"),
        )
    assert "gone.parquet" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_closed_desk_takes_no_questions(plan: Plan) -> None:
    desk = Desk()
    desk.close()
    with pytest.raises(QuestionRefused):
        desk.ask(plan, Question(sql="select 1"))
