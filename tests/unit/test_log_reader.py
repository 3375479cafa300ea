"""What is asked of the log: everything that was acknowledged, once, wherever it is at the moment."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.store import superseded
from fastserve.store.compactor import Compactor
from fastserve.store.reader import QuestionTooLong, Reader
from fastserve.types import EVERYBODY, Caller
from tests.support.log_store import DAY_NS, NOW_NS, READERS, Log, actual, row


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.close()


@pytest.fixture
def reader(log: Log) -> Iterator[Reader]:
    reader = Reader(log.directory, READERS)
    yield reader
    reader.close()


def compact(log: Log) -> None:
    one = Compactor.open(log.directory, READERS)
    assert one is not None
    one.round(NOW_NS)
    one.close()


def ask(reader: Reader, sql: str, model: str | None = "m", caller: Caller = EVERYBODY) -> list[Any]:
    with reader.connection(model, caller) as one:
        return [found[0] if len(found) == 1 else found for found in one.execute(sql).fetchall()]


@pytest.fixture(params=["in segments", "in files", "in both"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Placed:
    """Writes frames one after the other; where they lie when they are asked for is `place`'s to say."""

    def __init__(self, log: Log, place: str) -> None:
        self._log = log
        self._place = place
        self._worker = log.worker()
        self._count = 0

    def write(self, *rows: Any) -> None:
        self._count += 1
        self._log.segment(self._worker, list(rows))
        if self._place == "in files" or (self._place == "in both" and self._count == 1):
            compact(self._log)


@pytest.fixture
def placed(log: Log, place: str) -> Placed:
    return Placed(log, place)


def test_an_empty_log_has_views_without_rows(reader: Reader) -> None:
    for view in ("records", "predictions", "actuals", "importances", "joined"):
        assert ask(reader, f"select count(*) from {view}", None) == [0]
    assert reader.record("m", "p") == []
    assert reader.moment().models == []


def test_what_is_appended_is_seen_at_once(log: Log, reader: Reader) -> None:
    segment = log.segment(log.worker(), [row(0)], sealed=False)
    for number in range(1, 30):
        assert ask(reader, "select count(*) from records") == [number]
        log.append(segment, [row(number)])


def test_a_prediction_is_joined_to_its_actual_in_whichever_order(placed: Placed, reader: Reader) -> None:
    placed.write(actual(0, seq=5), actual(1, seq=6))
    placed.write(row(0), row(2))
    rows = ask(reader, "select prediction_id, label_num, actual_num, actual_ts is null from joined order by 1")
    assert rows == [("p0", 0.0, 0.0, False), ("p2", 2.0, None, True)]
    assert ask(
        reader, "select count(*) from actuals where prediction_id not in (from predictions select prediction_id)"
    ) == [1]


def test_the_last_one_wins_by_its_number_and_not_by_when_it_was_read(placed: Placed, reader: Reader) -> None:
    placed.write(row(0, seq=50, label_num=2.0), actual(0, seq=60, label_num=7.0))
    placed.write(row(0, seq=40, label_num=1.0), actual(0, seq=70, label_num=8.0))
    placed.write(row(0, seq=45, label_num=3.0))
    assert ask(reader, "select label_num, actual_num from joined") == [(2.0, 8.0)]
    assert ask(reader, "select count(*) from records") == [5]


def test_what_is_sent_again_is_there_once(placed: Placed, reader: Reader) -> None:
    for seq in (10, 11, 12):
        placed.write(row(0, seq=seq), row(1, seq=seq + 100))
    assert ask(reader, "select prediction_id, seq from predictions order by 1") == [("p0", 12), ("p1", 112)]


def test_what_is_sent_again_counts_again_where_that_is_wanted(placed: Placed, log: Log) -> None:
    """Each prediction with the one actual, whose last value counts."""
    for seq in (10, 11, 12):
        placed.write(row(0, seq=seq, label_num=float(seq)), actual(0, seq=seq + 100, label_num=float(seq)))
    reader = Reader(log.directory, READERS, count_duplicates=True)
    try:
        assert ask(reader, "select label_num, actual_num from joined order by 1") == [
            (10.0, 12.0),
            (11.0, 12.0),
            (12.0, 12.0),
        ]
        assert ask(reader, "select label_num from actuals") == [12.0]
    finally:
        reader.close()


def test_the_same_id_is_another_one_in_another_space_or_model(placed: Placed, reader: Reader) -> None:
    placed.write(row(0), row(0, space="t", seq=2, label_num=5.0))
    placed.write(row(0, model_id="n", seq=3), actual(0, space="t"))
    assert ask(reader, "select space, actual_num from joined order by 1") == [("s", None), ("t", 0.0)]
    assert ask(reader, "select count(*) from predictions", None) == [3]


def test_tags_that_come_late_take_no_label_away(placed: Placed, reader: Reader) -> None:
    placed.write(row(0, tags={"a": "own"}), actual(0, seq=5, tags={"b": "with it"}))
    placed.write(actual(0, seq=6, label_num=None, tags={"c": "late", "a": "too late"}))
    assert ask(reader, 'select actual_num, "t.a", "t.b", "t.c" from joined') == [(0.0, "own", "with it", "late")]


def test_importances_come_whenever_they_like(placed: Placed, reader: Reader) -> None:
    placed.write(row(0))
    placed.write(row(0, kind="importance", features={}, label_num=None, importances={"age": 0.25}, seq=9))
    assert ask(reader, 'select "i.age" from importances') == [0.25]
    assert ask(reader, "select count(*) from predictions") == [1]


def test_features_of_several_types(placed: Placed, reader: Reader) -> None:
    placed.write(row(0, features={"x": 2**60 + 1, "Case": 1}), row(1, features={"x": 0.5, "case": "c"}))
    placed.write(row(2, features={"x": "many", "v": [1.0, 2.0], "l": ["a"]}))
    rows = ask(reader, 'select "f.x", "f.x:int64", "f.x:string", "f.v", "f.l" from predictions order by prediction_id')
    assert rows == [
        (float(2**60), 2**60 + 1, None, None, None),
        (0.5, None, None, None, None),
        (None, None, "many", [1.0, 2.0], ["a"]),
    ]
    assert next(column.name for column in reader.columns("m") if column.of.lower() == "case") == "f.Case"


def test_hostile_names_are_only_names(placed: Placed, reader: Reader) -> None:
    name = "a\"; drop view records; --'\0\n*[x]"
    placed.write(
        row(0, model_id="../" + name, prediction_id=name, features={name: 1, "": 2}, tags={"*": "x"}, space=name)
    )
    assert ask(reader, "select model_id, prediction_id, space from records", None) == [("../" + name, name, name)]
    (found,) = reader.record("../" + name, name)
    assert found.features == {name: 1, "": 2}


def test_a_record_is_all_that_was_logged_for_it(placed: Placed, reader: Reader) -> None:
    placed.write(row(0, extras={"x": {"link": "u"}}), row(1))
    placed.write(actual(0), row(0, model_id="n"))
    assert [(one.kind, one.seq) for one in reader.record("m", "p0")] == [("prediction", 1), ("actual", 10_000)]
    assert reader.record("m", "p0")[0] == row(0, extras={"x": {"link": "u"}})
    assert reader.record("m", "nobody") == []


def test_callers_see_their_models_and_spaces_alone(placed: Placed, reader: Reader) -> None:
    import re

    placed.write(row(0), row(1, space="t"), row(2, model_id="n"))
    placed.write(row(3), row(4, space="t"), row(5, model_id="n"))
    limited = Caller(name="c", scopes=frozenset({"read"}), models=re.compile("m"), spaces=frozenset({"t"}))
    assert ask(reader, "select prediction_id from records order by 1", None, limited) == ["p1", "p4"]
    assert ask(reader, "select count(*) from records", "n", limited) == [0]
    assert reader.record("m", "p0", limited) == []
    assert len(reader.record("m", "p1", limited)) == 1
    nothing = Caller(name="c", scopes=frozenset({"read"}), spaces=frozenset())
    assert ask(reader, "select count(*) from records", None, nothing) == [0]


def test_a_deletion_is_seen_at_once_and_is_about_what_came_before(log: Log, reader: Reader) -> None:
    worker = log.worker()
    log.segment(worker, [row(0), row(1), actual(0, seq=4), row(0, space="t", seq=5)])
    compact(log)
    open_one = log.segment(worker, [row(0, seq=6)], sealed=False)
    log.tombstone(worker, "m", "p0", seq=7, space="s")
    log.append(open_one, [row(0, seq=8)])
    for _ in range(3):
        assert sorted(ask(reader, "select seq from records")) == [2, 5, 8]
        assert [one.seq for one in reader.record("m", "p0")] == [5, 8]
        compact(log)


def test_it_has_no_other_file_and_no_setting_can_be_changed(log: Log, reader: Reader, tmp_path: Path) -> None:
    log.segment(log.worker(), [row(0)])
    compact(log)
    (tmp_path / "other.csv").write_text("a\n1\n")
    for sql in (f"select * from '{tmp_path}/other.csv'", "set memory_limit = '100GB'", "attach '/tmp/x.db'"):
        with pytest.raises(Exception, match=r"disabled|locked|permission|not allowed"):
            ask(reader, sql)


def test_what_takes_too_long_is_ended(log: Log, reader: Reader) -> None:
    log.segment(log.worker(), [row(0)])
    with pytest.raises(QuestionTooLong), reader.connection("m", within_s=0.05) as one:
        one.execute("with recursive a as (select 1 x union all select x + 1 from a) select count(*) from a").fetchall()


# --- what took whose place is kept


def first_question(log: Log, sql: str) -> list[Any]:
    """Of a process that has asked nothing before."""
    reader = Reader(log.directory, READERS)
    found = ask(reader, sql)
    reader.close()
    return found


LABELS = "select label_num from predictions order by prediction_id"


def test_a_first_question_need_not_find_out_what_took_whose_place(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = log.worker()
    for seq in (1, 10):
        log.segment(worker, [row(number, seq=seq + number, label_num=float(seq)) for number in range(8)])
        compact(log)

    def must_not(*_: Any) -> None:
        pytest.fail("it is kept, and was found out once more")

    with monkeypatch.context() as patched:
        patched.setattr(superseded, "_found_out", must_not)
        assert first_question(log, LABELS) == [10.0] * 8
    log.segment(worker, [row(0, seq=100, label_num=7.0)])
    compact(log)
    with monkeypatch.context() as patched:  # of seventeen rows one is new: that one is looked at, all are not
        patched.setattr(superseded, "_replaced_anywhere", must_not)
        assert first_question(log, LABELS) == [7.0, *[10.0] * 7]


def test_what_is_kept_of_a_later_moment_or_is_damaged_is_not_believed(log: Log) -> None:
    worker = log.worker()
    log.segment(worker, [row(0, seq=1, label_num=1.0)])
    compact(log)
    earlier = Reader(log.directory, READERS)
    moment = earlier.moment()
    log.segment(worker, [row(0, seq=2, label_num=2.0)])
    compact(log)
    with duckdb.connect() as one:
        known = superseded.of_files(one, log.directory, moment.files, {})
    assert known.num_rows == 0  # the row that took the place is none of that moment's
    earlier.close()
    (kept,) = log.directory.rglob(superseded.FILE_NAME)
    kept.write_bytes(kept.read_bytes()[:-20])
    assert first_question(log, LABELS) == [2.0]


def test_it_goes_with_the_last_file_of_its_model(log: Log) -> None:
    log.segment(log.worker(), [row(0, ts_ns=NOW_NS - 9 * DAY_NS, ingest_ns=NOW_NS - 9 * DAY_NS)])
    one = Compactor.open(log.directory, READERS, retention_days=3)
    assert one is not None
    one.round(NOW_NS - 9 * DAY_NS)
    assert list(log.directory.rglob(superseded.FILE_NAME))
    one.round(NOW_NS)
    one.close()
    assert not list(log.directory.rglob(superseded.FILE_NAME))


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=6), st.integers(1, 12))
@settings(max_examples=8, deadline=None)
def test_what_is_kept_is_what_would_be_found_out(rounds: list[list[int]], factor: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(superseded, "KEPT_FROM", factor)
        log, seq = Log(Path(folder)), 0
        worker = log.worker()
        last: dict[int, int] = {}
        for numbers in rounds:
            rows = []
            for number in numbers:
                seq += 1
                rows.append(row(number, seq=seq))
                last[number] = seq
            log.segment(worker, rows)
            compact(log)
        assert sorted(first_question(log, "select seq from predictions")) == sorted(last.values())
        log.close()
