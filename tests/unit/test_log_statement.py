"""Which statements of others are taken: one SELECT over the views, and nothing else, however it is wrapped."""

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from fastserve.errors import InvalidRequest
from fastserve.store.statement import check

GOOD = [
    "select 1",
    "select * from predictions",
    "with a as (select 1 x) select * from a",
    "with recursive a as (select 1 x union all select x+1 from a where x<5) select * from a",
    "select * from (values (1)) t",
    "describe predictions",
    "summarize predictions",
    "from predictions",
    "select * from range(5)",
    "select unnest([1,2])",
    "select * from predictions p join actuals a using (prediction_id)",
    "select count(*) filter (x>1) over (partition by y) from (select 1 x,2 y) q",
    "select (select max(seq) from records)",
    "select * from predictions where model_id in (select model_id from actuals)",
    "select * from joined tablesample 10%",
    "select * from predictions union all select * from predictions",
    "select list_transform([1],x->x+1)",
    "select date_trunc('day', ts), current_date from joined group by all order by all limit 3",
    "select now()",
    "select * from predictions p, lateral (select p.seq) z",
    "select histogram(seq) from records",
    "select x.a from (select {'a':1} x)",
    "select * from predictions asof join actuals on predictions.ts>=actuals.ts",
    'select "f.age" from predictions p',
    "table predictions",
    "select version from predictions",
    "select columns('f.*') from predictions",
    "select * from predictions positional join actuals",
]

BAD = [
    "copy predictions to '/tmp/x'",
    "select * from '/etc/passwd'",
    "select * from 'x.parquet'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "attach 'x.db'",
    "install httpfs",
    "load httpfs",
    "pragma database_list",
    "set memory_limit='1TB'",
    "select * from pg_catalog.pg_tables",
    "select * from pg_tables",
    "select * from duckdb_settings()",
    "select * from duckdb_views",
    "select * from sqlite_master",
    "select * from information_schema.tables",
    "show tables",
    "show all tables",
    "select * from _all",
    "select * from _files",
    "select * from main._all",
    "select * from query('select 1')",
    "select * from query_table('x')",
    "select getenv('HOME')",
    "select current_setting('threads')",
    "select min(stats(label_num)) from records",  # of whole files: rows of spaces that are not the caller's, too
    "select seq from records where __internal_compress_string_hugeint(version) > 0",
    "select 1; select 2",
    "",
    "create table x as select 1",
    "insert into predictions values (1)",
    "drop view records",
    "delete from records",
    'select * from (with "a.parquet" as (select 1) select 1) t, "a.parquet"',
    "with pg_tables as (select 1) select * from pg_tables",
    "with _all as (select 1) select * from _all",
    "call pragma_version()",
    "explain select 1",
    "prepare x as select 1",
    "execute x",
    "begin",
    "vacuum",
    "checkpoint",
    "export database 'x'",
    "import database 'x'",
    "use x",
    "select * from glob('/*')",
    "select * from read_blob('/etc/passwd')",
    "select * from parquet_metadata('x')",
    "select * from sniff_csv('x')",
    "select json_execute_serialized_sql('x')",
    "select * from json_execute_serialized_sql('x')",
    "select nextval('x')",
    "select pg_typeof(1)",
    "select duckdb_secrets()",
    "detach x",
    "create macro f() as 1",
    "reset threads",
    "describe _all",
    "summarize _all",
    "select * from (describe _all)",
    "select * from (show tables)",
    "select * from records at (version => 1)",
    "select write_log('x')",
    "from 'http://127.0.0.1/x.csv'",
    "select * from delta_scan('x')",
    "select * from sql_auto_complete('x')",
    "select * from records.x.y",
    "select * from temp._superseded",
    "select * from pragma_table_info('_all')",
    "select query('x')",
    "select * from repeat_row(1, num_rows=1000)",
    "select system.main.getenv('x')",
    "select * from test_all_types()",
    "select * from (describe tables)",
    "show records",
    "show databases",
    "select * from seq_scan('_all')",
    "select * from pandas_scan(1)",
    "select * from arrow_scan(1,2,3)",
    "select * from predictions order by (select count(*) from _all)",
    "select sum(1) over (order by (select 1 from _files))",
    "select * from predictions limit (select 1 from _all)",
    "with a as materialized (select * from _tail) select 1",
    "select exists(from _all)",
    "select * from predictions qualify (select true from _all)",
    "values ((select 1 from _all))",
    "pivot _all on version using count(*)",
    "unpivot _all on seq into name n value v",
    "select * from (pivot _all on version using count(*))",
    "select * from (unpivot _all on seq)",
    "select * from predictions group by (select 1 from _all)",
    "select * from predictions join _all using (seq)",
    "select [x for x in (select 1 from _all)]",
    "select case when true then (select 1 from _all) end",
    "select * from records at (timestamp => now())",
]


@pytest.fixture(scope="module")
def one() -> Iterator[Any]:
    with duckdb.connect(":memory:") as one:
        yield one


def tree(one: Any, sql: str) -> Any:
    return json.loads(one.execute("select json_serialize_sql(?)", [sql]).fetchone()[0])


@pytest.mark.parametrize("sql", GOOD)
def test_questions_are_taken(one: Any, sql: str) -> None:
    check(tree(one, sql))


@pytest.mark.parametrize("sql", BAD)
def test_whatever_else_is_refused(one: Any, sql: str) -> None:
    with pytest.raises(InvalidRequest, match="expected one SELECT over records, predictions"):
        check(tree(one, sql))


@pytest.mark.parametrize(
    ("sql", "reason"), [("drop view records", "it is another statement"), ("selec", 'syntax error at or near "selec"')]
)
def test_a_refusal_says_why(one: Any, sql: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f": {reason}$"):
        check(tree(one, sql))


def test_every_view_may_be_asked_in_every_case_of_letters(one: Any) -> None:
    check(tree(one, 'select * from Records, "PREDICTIONS", actuals, importances, joined'))


def test_a_deep_statement_is_looked_at_to_its_end(one: Any) -> None:
    deep = "select * from records"
    for _ in range(200):
        deep = f"select * from ({deep})"
    check(tree(one, deep))
    with pytest.raises(InvalidRequest):
        check(tree(one, deep.replace("records", "_all")))
