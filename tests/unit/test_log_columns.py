"""Rows to Arrow and Parquet and back: nothing is lost, whatever things are called and whichever types come together."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.store import columns, parts
from fastserve.store.columns import Column
from fastserve.store.disk import DISK
from fastserve.store.rows import Row
from fastserve.store.views import shown
from tests.support.log_store import row

TEXTS = st.text(max_size=12)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.one_of(INT64, st.floats(), TEXTS, st.lists(TEXTS, max_size=3), st.lists(st.floats(), max_size=3))
NAMES = st.one_of(
    st.sampled_from(["age", "Age", "AGE", "a:string", "a", "", "x" * 300, "a\0b", 'q"uote', "ä", "Ä"]), TEXTS
)
ROWS = st.builds(
    Row,
    space=TEXTS,
    model_id=TEXTS,
    version=TEXTS,
    environment=TEXTS,
    batch_id=TEXTS,
    prediction_id=TEXTS,
    ts_ns=INT64,
    ingest_ns=INT64,
    seq=st.integers(0, (1 << 64) - 1),
    kind=st.sampled_from(["prediction", "actual", "importance"]),
    label_num=st.none() | st.floats(),
    label_cat=st.none() | TEXTS,
    score=st.none() | st.floats(),
    label_json=st.none() | TEXTS,
    features=st.dictionaries(NAMES, VALUES, max_size=5),
    tags=st.dictionaries(NAMES, VALUES, max_size=3),
    importances=st.dictionaries(NAMES, st.floats(), max_size=3),
    extras=st.dictionaries(NAMES, st.none() | TEXTS | st.lists(TEXTS, max_size=2), max_size=2),
    digest=st.binary(max_size=8),
)


def packed(rows: list[Row]) -> bytes:
    """To compare by: NaN is NaN, 0.0 is not -0.0, and 1 is not 1.0."""
    return msgspec.msgpack.encode(rows, order="deterministic")


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6))
def test_rows_come_back_as_they_were(rows: list[Row]) -> None:
    assert packed(columns.rows_of(columns.table_of(rows))) == packed(rows)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=6))
def test_rows_come_back_from_files(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("log")
    table = columns.table_of(rows)
    found: list[Row] = []
    for date, ingest_day, own in parts.by_day(table):
        file = parts.write(directory, rows[0].model_id, date, ingest_day, own, DISK)
        assert file.rows == own.num_rows
        assert {Column(*one) for one in file.columns} == set(columns.columns_of(own.schema))
        found += columns.rows_of(parts.read(directory, file))
    assert sorted(packed([one]) for one in found) == sorted(packed([one]) for one in rows)


@given(st.lists(st.tuples(st.sampled_from("fti"), NAMES, st.sampled_from(sorted(columns.TYPES))), max_size=30))
def test_no_two_columns_have_names_that_a_database_takes_for_one(keys: list[tuple[str, str, str]]) -> None:
    them = {Column(*key) for key in keys}
    assert len({column.physical.lower() for column in them}) == len(them)
    views = shown(them)
    assert len({column.name.lower() for column in views}) == len(views) == len(them)
    assert all(column.name.isprintable() for column in views)


def names(*keys: tuple[str, str, str]) -> dict[str, str]:
    return {column.name: column.type for column in shown(Column(*key) for key in keys)}


def test_columns_are_called_as_their_features_where_there_is_no_doubt() -> None:
    assert names(("f", "Age", "int64"), ("t", "Age", "string"), ("i", "Age", "double")) == {
        "f.Age": "BIGINT",
        "t.Age": "VARCHAR",
        "i.Age": "DOUBLE",
    }


def test_a_feature_with_several_types_has_a_column_for_each() -> None:
    assert names(("f", "x", "int64"), ("f", "x", "double"), ("f", "x", "string")) == {
        "f.x": "DOUBLE",
        "f.x:int64": "BIGINT",
        "f.x:string": "VARCHAR",
    }


def test_names_that_differ_in_case_are_told_apart() -> None:
    found = names(("f", "age", "int64"), ("f", "Age", "string"))
    assert found["f.Age"] == "VARCHAR"
    assert [name for name in found if name.startswith("f.age~")]


def test_a_name_that_looks_like_another_ones_second_column_is_told_apart() -> None:
    found = names(("f", "a:string", "int64"), ("f", "a", "int64"), ("f", "a", "string"))
    assert len(found) == 3
    assert found["f.a"] == "BIGINT"


def test_whole_numbers_stay_exact() -> None:
    rows = [row(0, features={"x": 2**60 + 1}), row(1, features={"x": 0.5}), row(2, features={"x": -(2**63)})]
    assert columns.rows_of(columns.table_of(rows)) == rows


def test_numbers_no_column_holds_are_texts_and_truth_is_one_too() -> None:
    found = columns.rows_of(columns.table_of([row(0, features={"big": 2**64, "yes": True})]))
    assert found[0].features == {"big": str(2**64), "yes": "True"}


def test_half_a_surrogate_pair_is_no_reason_to_lose_the_rest() -> None:
    found = columns.rows_of(columns.table_of([row(0, features={"x": "a\ud800", "l": ["\udfff"]}, tags={"t": "ok"})]))
    assert found[0].features == {"x": "a?", "l": ["?"]}
    assert found[0].tags == {"t": "ok"}


def test_a_crowd_of_rare_columns_is_kept_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_COLUMNS", 3)
    values: list[Any] = [1, 0.5, "x", ["a"], [1.5, math.inf]]
    rows = [row(n, features={"often": n, f"rare {n}": values[n % 5]}, tags={"also often": "y"}) for n in range(20)]
    table = columns.table_of(rows)
    assert len(columns.columns_of(table.schema)) == 3
    assert columns.rows_of(table) == rows


def test_tables_with_other_columns_are_put_together() -> None:
    rows = [row(0, features={"a": 1}), row(1, features={"b": "x"})]
    table = columns.joined([columns.table_of([one]) for one in rows])
    assert columns.rows_of(table) == rows
    assert table.schema.field("f.a:int64").type == pa.int64()


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("m", "model=m"),
        ("..", "model=%2E%2E"),
        ("a/../../etc", "model=a%2F%2E%2E%2F%2E%2E%2Fetc"),
        ("*[?]{}", "model=%2A%5B%3F%5D%7B%7D"),
        ("a\0b", "model=a%00b"),
        ("", "model="),
        ("ä ~'\"", "model=%C3%A4%20%7E%27%22"),
    ],
)
def test_a_model_has_a_folder_of_its_own_whatever_it_is_called(model: str, folder: str, tmp_path: Path) -> None:
    assert parts.folder_of(model, "2026-01-02") == Path("parquet") / folder / "date=2026-01-02"
    table = columns.table_of([row(0, model_id=model)])
    file = parts.write(tmp_path, model, "2026-01-02", 0, table, DISK)
    assert (tmp_path / file.path).resolve().is_relative_to(tmp_path.resolve() / "parquet")


def test_long_names_of_models_are_cut_and_told_apart(tmp_path: Path) -> None:
    first, second = ("ä" * 3000 + end for end in "ab")
    folders = {parts.folder_of(model, "2026-01-02") for model in (first, second)}
    assert len(folders) == 2
    table = columns.table_of([row(0, model_id=first)])
    assert columns.rows_of(parts.read(tmp_path, parts.write(tmp_path, first, "2026-01-02", 0, table, DISK)))
