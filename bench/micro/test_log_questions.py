"""What a question to the prediction log costs, beside DuckDB alone over the same Parquet files. One million predictions, each
with its actual; a few thousand where nothing is measured.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from bench.joined_log import keep, repeated, template
from bench.micro.goals import CONTENDER, DUCKDB, OURS, QUESTION
from fastserve.store import columns
from fastserve.store.columns import Column
from fastserve.store.reader import Reader

ROWS = 1_000_000
FEW_ROWS = 4_000
FILES = 8
FEATURES = 15
START_NS = 1_780_000_000_000_000_000

DRIFT = """
select bin, count(*) from (select least(greatest(floor(({0} + 3) / 0.3), 0), 20) as bin from {1}) group by bin order by bin
"""


def made(rows: int) -> Path:
    """A log of so many predictions and actuals, compacted."""
    directory = Path(tempfile.mkdtemp(prefix="fastserve-bench-"))
    random = np.random.default_rng(1)
    parts = (np.arange(number, rows, FILES) for number in range(FILES))
    keep(directory, (columns.joined([_part(ids, kind, random) for kind in ("prediction", "actual")]) for ids in parts))
    return directory


def _part(ids: Any, kind: str, random: Any) -> pa.Table:
    features = {f"x{number}": 0.0 for number in range(FEATURES)} if kind == "prediction" else {}
    row = template(space="s", kind=kind, label_num=0.0, features=features)
    named = ["label_num", *(Column("f", name, "double").physical for name in features)]
    filled = {name: pa.array(random.normal(size=len(ids))) for name in named}
    return repeated(row, ids, START_NS + ids * 1_000_000, filled)


@pytest.fixture(scope="module")
def log(request: pytest.FixtureRequest) -> Iterator[Reader]:
    measuring = request.config.option.benchmark_enable or not request.config.option.benchmark_disable
    directory = made(ROWS if measuring else FEW_ROWS)
    reader = Reader(directory, {})
    yield reader
    reader.close()
    shutil.rmtree(directory)


def _plain(log: Reader) -> tuple[list[str], dict[str, Any]]:
    return list(log.plan("m").paths), {"threads": "2", "memory_limit": "1024MiB"}


def test_drift_through_the_log(benchmark: Any, log: Reader) -> None:
    benchmark.group = QUESTION
    benchmark.extra_info[CONTENDER] = OURS

    def ask() -> list[Any]:
        with log.connection("m") as one:
            found: list[Any] = one.execute(DRIFT.format('"f.x3"', "predictions")).fetchall()
            return found

    assert len(benchmark(ask)) == 21


def test_drift_by_duckdb_alone(benchmark: Any, log: Reader) -> None:
    benchmark.group = QUESTION
    benchmark.extra_info[CONTENDER] = DUCKDB
    paths, config = _plain(log)
    rows = f"read_parquet({paths}) where kind = 'prediction'"

    def ask() -> list[Any]:
        with duckdb.connect(":memory:", config=config) as one:
            return one.execute(DRIFT.format(f'"{Column("f", "x3", "double").physical}"', rows)).fetchall()

    assert len(benchmark(ask)) == 21


JOINED = f"{QUESTION}, joined"


def test_error_through_the_log(benchmark: Any, log: Reader) -> None:
    benchmark.group = JOINED
    benchmark.extra_info[CONTENDER] = OURS

    def ask() -> Any:
        with log.connection("m") as one:
            return one.execute("select count(actual_num), avg(abs(label_num - actual_num)) from joined").fetchall()

    assert benchmark(ask)[0][0] > 0


def test_error_by_duckdb_alone(benchmark: Any, log: Reader) -> None:
    benchmark.group = JOINED
    benchmark.extra_info[CONTENDER] = DUCKDB
    paths, config = _plain(log)
    part = f"select prediction_id, space, label_num from read_parquet({paths}) where kind ="
    sql = (
        f"select count(a.label_num), avg(abs(p.label_num - a.label_num)) from ({part} 'prediction') p"
        f" left join ({part} 'actual') a using (space, prediction_id)"
    )

    def ask() -> Any:
        with duckdb.connect(":memory:", config=config) as one:
            return one.execute(sql).fetchall()

    assert benchmark(ask)[0][0] > 0
