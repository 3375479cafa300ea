"""Datasets: what is read, when it is read again, and what a broken file changes. Time is told, nothing sleeps."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from fastserve.config import DatasetConfig
from fastserve.datasets import duck
from fastserve.datasets.shelf import Dataset, Datasets
from fastserve.datasets.table import Table, in_order
from fastserve.errors import DatasetError, FastServeError
from tests.support.waiting import until

SECOND = 1_000_000_000
CSV = "a,b\n1,2.5\n3,4.5\n"


def dataset(source: Path | str = "", name: str = "d", others: tuple[DatasetConfig, ...] = (), **fields: Any) -> Dataset:
    where = {"source": f"file:{source}"} if source else {}
    config = DatasetConfig(name=name, **where, **fields)
    return Dataset(config, (*others, config))


def looked(one: Dataset, at_s: float = 0.0, *, finished: bool = False) -> dict[str, list[Any]]:
    """The table after a look, as lists."""
    one.look(round(at_s * SECOND), finished=finished)
    return values(one.table)


def values(table: Table | None) -> dict[str, list[Any]]:
    assert table is not None
    return {name: column.values.tolist() for name, column in table.columns.items()}


def write(path: Path, text: str, mtime_s: int = 1) -> Path:
    path.write_text(text)
    os.utime(path, (mtime_s, mtime_s))
    return path


def copied(path: Path, query: str) -> Path:
    with duckdb.connect() as one:
        one.execute(f"copy ({query}) to '{path}'")
    return path


def two_files(folder: Path) -> Path:
    write(folder / "x.csv", "a,b\n3,4.5\n")
    return write(folder / "w.csv", "a,b\n1,2.5\n").parent


FORMATS: dict[str, Callable[[Path], Path]] = {
    "csv": lambda folder: write(folder / "x.csv", CSV),
    "semicolons": lambda folder: write(folder / "x.csv", "a;b\n1;2.5\n3;4.5\n"),
    "tsv": lambda folder: write(folder / "x.tsv", "a\tb\n1\t2.5\n3\t4.5\n"),
    "json lines": lambda folder: write(folder / "x.jsonl", '{"a": 1, "b": 2.5}\n{"a": 3, "b": 4.5}\n'),
    "json": lambda folder: write(folder / "x.json", '[{"a": 1, "b": 2.5}, {"a": 3, "b": 4.5}]'),
    "parquet": lambda folder: copied(folder / "x.parquet", "select * from (values (1, 2.5::double), (3, 4.5)) t(a, b)"),
    "gzip": lambda folder: copied(folder / "x.csv.gz", "select * from (values (1, 2.5::double), (3, 4.5)) t(a, b)"),
    "a folder": lambda folder: write(folder / "x.csv", CSV).parent,
    "a pattern": lambda folder: (
        write(folder / "x.csv", "a,b\n3,4.5\n") and write(folder / "w.csv", "a,b\n1,2.5\n").parent / "*.csv"
    ),
    "odd name": lambda folder: write(folder / "it's.csv", CSV),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_files_are_read(kind: str, tmp_path: Path):
    assert looked(dataset(FORMATS[kind](tmp_path))) == {"a": [1, 3], "b": [2.5, 4.5]}


def test_rows_are_in_the_order_of_their_time(tmp_path: Path):
    path = write(tmp_path / "x.csv", "ts,a\n2024-01-02,2\n2024-01-01,1\n")
    one = dataset(path)
    assert looked(one)["a"] == [1, 2]
    assert one.table is not None
    assert one.table.time_column == "ts"
    assert looked(dataset(path, time_column="a"))["a"] == [1, 2]


def test_a_type_is_taken_from_all_rows(tmp_path: Path):
    text = "a\n" + "1\n" * 30_000 + "1.5\n"
    assert looked(dataset(write(tmp_path / "x.csv", text)))["a"][-2:] == [1.0, 1.5]


def test_sql_over_datasets_and_over_such_as_are_sql(tmp_path: Path):
    base = DatasetConfig(name="the base", source=f"file:{write(tmp_path / 'x.csv', CSV)}")
    sums = DatasetConfig(name="sums", sql='select a + b as s from "the base"')
    one = dataset(name="top", sql="select max(s) as most from sums;", others=(base, sums))
    assert looked(one) == {"most": [7.5]}


def test_datasets_made_of_each_other_in_a_circle_are_told():
    one = dataset(name="p", sql="select * from q", others=(DatasetConfig(name="q", sql="select * from p"),))
    one.look(0)
    assert "in a circle" in one.error


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select content from read_text('/etc/hostname')",
        "select * from glob('/etc/*')",
        "select 1; copy (select 1) to 'FOLDER/out.csv'",
        "select 1; attach 'FOLDER/out.db' as o",
        "select 1; set memory_limit = '100GB'",
        "select 1; install httpfs",
        "select 1; load httpfs",
        "select * from read_csv('https://127.0.0.1:1/x.csv')",
    ],
)
def test_sql_reaches_nothing_but_the_datasets_it_names(sql: str, tmp_path: Path):
    base = DatasetConfig(name="base", source=f"file:{write(tmp_path / 'x.csv', CSV)}")
    one = dataset(sql=sql.replace("FOLDER", str(tmp_path)), others=(base,))
    one.look(0)
    assert one.error
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_memory_is_bounded(tmp_path: Path):
    one = dataset(sql="select list(range) as x from range(20_000_000)", memory_bytes=32 << 20)
    one.look(0)
    assert "Out of Memory" in one.error


def test_more_rows_than_allowed_are_refused(tmp_path: Path):
    one = dataset(write(tmp_path / "x.csv", CSV), max_rows=1)
    one.look(0)
    assert one.error == "it has more than 1 rows (max_rows)"
    assert one.table is None


def test_files_are_looked_at_once_a_second_and_read_when_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "x.csv", CSV)
    one = dataset(path)
    before = looked(one)
    table = one.table
    assert one.is_fresh(SECOND - 1)
    assert not one.is_fresh(SECOND)
    one.look(SECOND)
    assert one.table is table
    write(path, "a,b\n9,9.5\n", mtime_s=2)
    assert looked(one, 2) == {"a": [9], "b": [9.5]} != before
    assert values(table) == before


def test_an_interval_is_kept_and_nobody_waits_for_it(tmp_path: Path):
    one = dataset(write(tmp_path / "x.csv", CSV), refresh_seconds=10)
    assert not one.is_fresh(0)
    one.look(0)
    assert one.is_fresh(100 * SECOND)
    assert [one.due_in_ns(at * SECOND) for at in (0, 4, 10, 11)] == [10 * SECOND, 6 * SECOND, 0, 0]


BROKEN = [
    ("x.parquet", lambda data: data[: len(data) // 2]),
    ("x.csv", lambda data: b"a,b\n1,2.5\n3,4"),
    ("x.csv", lambda data: b'a,b\n1,"x\n'),
    ("x.csv", lambda data: b"c,d\n1,2\n"),
    ("x.csv", lambda data: b"a,b\n1,2.5\n3\n"),
    ("x.csv", lambda data: b"a,b\n1,2.5\n3\n4,5,6\n"),
    ("x.csv", lambda data: b""),
    ("x.csv", lambda data: b"\xff\xfe\x00,\n\x80,1\n"),
    ("x.jsonl", lambda data: b'{"a": 1, "b": 2.5}\n{"a": 3, "b"'),
    ("x.jsonl", lambda data: b'{"a": 1, "b": 2.5}\n{"a": \n'),
]
KINDS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json lines"}


@pytest.mark.parametrize(("name", "broken"), BROKEN)
def test_a_broken_file_keeps_the_old_table_and_says_so(
    name: str, broken: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = FORMATS[KINDS[Path(name).suffix]](tmp_path)
    one = dataset(path)
    before = looked(one)
    whole = path.read_bytes()
    path.write_bytes(broken(whole))
    os.utime(path, (2, 2))
    assert looked(one, 1) == before
    assert one.status().state == "Error"
    assert one.error
    assert "the rows read before stay" in caplog.text
    path.write_bytes(whole)
    os.utime(path, (3, 3))
    assert looked(one, 2) == before
    assert one.error == ""
    assert one.status().state == "Ready"


def test_a_text_without_a_last_line_end_is_taken_when_it_looks_the_same_twice(tmp_path: Path):
    path = write(tmp_path / "x.csv", CSV)
    one = dataset(path)
    looked(one)
    write(path, "a,b\n5,6.5", mtime_s=2)
    assert looked(one, 1)["a"] == [1, 3]
    assert one.error == "x.csv ends inside a line: it may be half written"
    assert looked(one, 2)["a"] == [5]
    assert one.error == ""


def test_a_call_takes_files_as_they_are(tmp_path: Path):
    path = write(tmp_path / "x.csv", CSV)
    one = dataset(path)
    looked(one)
    write(path, "c\n7", mtime_s=2)
    assert looked(one, 1, finished=True) == {"c": [7]}


def test_a_broken_file_is_not_read_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "x.csv", CSV)
    one = dataset(path)
    looked(one)
    write(path, 'a,b\n1,"x\n', mtime_s=2)
    reads: list[str] = []
    read = duck.read
    monkeypatch.setattr(duck, "read", lambda *given: reads.append("") or read(*given))
    for second in range(1, 5):
        one.look(second * SECOND)
    assert len(reads) == 1
    assert one.error


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "x.csv", CSV)
    one = dataset(path)
    read = duck.read

    def slow(*given: Any) -> Table:
        table = read(*given)
        write(path, CSV, mtime_s=9)
        return table

    with monkeypatch.context() as patched:
        patched.setattr(duck, "read", slow)
        one.look(0)
    assert one.error == "the files changed while they were read"
    assert looked(one, 1)["a"] == [1, 3]


def test_a_file_that_is_gone_or_of_no_known_kind_is_told(tmp_path: Path):
    gone = dataset(tmp_path / "x.csv")
    gone.look(0)
    assert gone.error == "no file is there (x.csv)"
    odd = dataset(write(tmp_path / "x.bin", "a"))
    odd.look(0)
    assert "expected names that end in .csv, .parquet or .jsonl" in odd.error
    assert looked(dataset(tmp_path / "x.bin", format="csv"))


def test_errors_name_no_folder_of_this_machine(tmp_path: Path):
    for text in ('a,b\n1,"x\n', "\0\0\0"):
        one = dataset(write(tmp_path / "x.csv", text))
        one.look(0)
        assert str(tmp_path) not in one.error


def test_without_duckdb_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duck, "find_spec", lambda _: None)
    one = dataset(write(tmp_path / "x.csv", CSV))
    one.look(0)
    assert one.error == "reading datasets takes DuckDB: pip install 'fastserve[datasets]'"


class Shelf:
    """All datasets with a clock that is told the time; what requests do next is done at once."""

    def __init__(self, *configs: DatasetConfig) -> None:
        self.now_ns = 0
        self.datasets = Datasets(configs, lambda work: work(), lambda: self.now_ns)

    def __enter__(self) -> "Shelf":
        self.datasets.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.datasets.stop()

    def use(self, name: str = "d") -> dict[str, list[Any]]:
        found: list[Table | FastServeError] = []
        self.datasets.use(name, found.append)
        until(lambda: found)
        if isinstance(found[0], FastServeError):
            raise found[0]
        return values(found[0])


def test_requests_get_the_table_and_then_the_one_that_changed(tmp_path: Path):
    path = write(tmp_path / "x.csv", CSV)
    with Shelf(DatasetConfig(name="d", source=f"file:{path}")) as shelf:
        assert shelf.use()["a"] == [1, 3]
        write(path, "a,b\n9,9.5\n", mtime_s=2)
        assert shelf.use()["a"] == [1, 3]
        shelf.now_ns = SECOND
        assert shelf.use()["a"] == [9]


def test_a_call_refreshes_and_one_with_an_interval_answers_at_once(tmp_path: Path):
    path = write(tmp_path / "x.csv", CSV)
    with Shelf(DatasetConfig(name="d", source=f"file:{path}", refresh_seconds=3600)) as shelf:
        assert shelf.use()["a"] == [1, 3]
        write(path, "a,b\n9,9.5\n", mtime_s=2)
        shelf.now_ns = 3599 * SECOND
        assert shelf.use()["a"] == [1, 3]
        shelf.datasets.refresh("d")
        until(lambda: shelf.use()["a"] == [9])


def test_what_is_not_there_is_told(tmp_path: Path):
    with Shelf(DatasetConfig(name="d", source=f"file:{tmp_path}/x.csv")) as shelf:
        with pytest.raises(DatasetError, match='dataset "d": no file is there'):
            shelf.use()
        with pytest.raises(DatasetError, match='no dataset is named "e"'):
            shelf.use("e")
        assert [one.state for one in shelf.datasets.statuses()] == ["Error"]
    shelf.now_ns = 10 * SECOND
    with pytest.raises(FastServeError, match="shutting down"):
        shelf.use()


def test_datasets_come_change_and_go_while_they_are_used(tmp_path: Path):
    first, second = write(tmp_path / "x.csv", CSV), write(tmp_path / "y.csv", "a,b\n7,8\n")
    with Shelf() as shelf:
        with pytest.raises(DatasetError, match="no dataset is named"):
            shelf.use()
        one = DatasetConfig(name="d", source=f"file:{first}")
        shelf.datasets.follow([one])
        assert shelf.use()["a"] == [1, 3]
        kept = shelf.datasets._all["d"]
        shelf.datasets.follow([one, DatasetConfig(name="e", source=f"file:{second}")])
        assert shelf.datasets._all["d"] is kept, "what is configured as before is not read again"
        assert shelf.use("e")["a"] == [7]
        shelf.datasets.follow([DatasetConfig(name="d", source=f"file:{second}")], keep_others=True)
        assert shelf.use()["a"] == [7]
        assert shelf.use("e")["a"] == [7]
        shelf.datasets.follow([DatasetConfig(name="d", source=f"file:{second}")])
        with pytest.raises(DatasetError, match="no dataset is named"):
            shelf.use("e")


def test_a_dataset_that_is_configured_wrongly_now_keeps_its_rows(tmp_path: Path):
    path = write(tmp_path / "x.csv", CSV)
    with Shelf(DatasetConfig(name="d", source=f"file:{path}")) as shelf:
        assert shelf.use()["a"] == [1, 3]
        shelf.datasets.follow([DatasetConfig(name="d", source=f"file:{path}", time_column="none")])
        assert shelf.use()["a"] == [1, 3]
        (status,) = shelf.datasets.statuses()
        assert 'there is no time column "none"' in status.error


def test_sql_follows_the_datasets_that_it_is_made_of(tmp_path: Path):
    first, second = write(tmp_path / "x.csv", CSV), write(tmp_path / "y.csv", "a,b\n7,8\n")
    sums = DatasetConfig(name="s", sql="select sum(a)::int as n from d")
    with Shelf(DatasetConfig(name="d", source=f"file:{first}"), sums) as shelf:
        assert shelf.use("s") == {"n": [4]}
        shelf.datasets.follow([DatasetConfig(name="d", source=f"file:{second}"), sums])
        assert shelf.use("s") == {"n": [7]}


@pytest.mark.parametrize(
    "time", ["(range // 3) % 5", "((range // 3) % 5)::varchar", "date '2026-01-01' + ((range // 3) % 5)::int", "7"]
)
def test_rows_of_one_time_stay_in_the_order_of_their_file(tmp_path: Path, time: str):
    path = copied(tmp_path / "x.parquet", f"select {time} as ts, range as a from range(300000)")
    found = looked(dataset(path))
    assert found["a"] == sorted(range(300_000), key=lambda i: 0 if time == "7" else i // 3 % 5)


def test_rows_without_a_time_come_last_and_mixed_ones_are_refused(tmp_path: Path):
    rows = "(null, 1), (2.0, 2), (null, 3), ('nan'::double, 4), (1.0, 5), (2.0, 6)"
    path = copied(tmp_path / "x.parquet", f"select * from (values {rows}) t(ts, a)")
    assert looked(dataset(path))["a"] == [5, 2, 6, 4, 1, 3]
    with pytest.raises(DatasetError, match='cannot be ordered by the column "t": its values are mixed'):
        in_order({"t": np.array([1, "a"], object)}, "t")
