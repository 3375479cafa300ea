"""`python -m bench.monitor [--rows 1000000]`: drift and performance of joined records, beside plain DuckDB on the same files.

It makes a log of Parquet files, asks it as `/log/drift` does, connection and all, and puts the same question to a
DuckDB that reads the Parquet files: quantile bins of the baseline, counts of both sides, PSI. Some rounds, in which they take
turns; what a million rows took is kept in bench/results.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from bench.joined_log import keep, repeated, template
from bench.load import machine, open_loop
from bench.load.open_loop import Goal
from bench.load.servers import ROOT
from fastserve.loadtest.neighbours import busy_s
from fastserve.monitor.asking import answer
from fastserve.monitor.question import DriftQuestion, PerformanceQuestion, convert
from fastserve.store import columns
from fastserve.store.columns import Column
from fastserve.store.reader import Reader

RESULTS = ROOT / "bench" / "results" / "monitor.json"
ROWS = 1_000_000
PLAIN = "DuckDB alone: PSI of 10 features"
DRIFT = "drift of the same 10 features"
TITLE = "a drift question to a million joined records: times as long as DuckDB alone on the same Parquet"
FEATURES = 10
ROWS_A_FILE = 31_250
START_NS = 1_790_000_000 * 10**9
STEP_NS = 2_592_000_000
BINS = 10


def tables(rows: int) -> Iterator[pa.Table]:
    """Half of the predictions are training; every one has its actual."""
    random = np.random.default_rng(1)
    for first in range(0, rows, ROWS_A_FILE):
        ids = np.arange(first, min(rows, first + ROWS_A_FILE))
        training = first < rows // 2
        environment = "training" if training else "production"
        happened_ns = START_NS + ids * STEP_NS
        shift = [0.0 if training else 0.05 * at for at in range(FEATURES)]
        drawn = {
            Column("f", f"x{at}", "double").physical: pa.array(random.normal(shift[at], size=len(ids)))
            for at in range(FEATURES)
        }
        features = {f"x{at}": 0.0 for at in range(FEATURES)}
        label = {"environment": environment, "label_cat": "a"}
        said = template(kind="prediction", score=0.0, features=features, **label)
        drawn |= {"label_cat": _classes(random, len(ids)), "score": pa.array(random.random(len(ids)))}
        happened = template(kind="actual", **label)
        actual = {"label_cat": _classes(random, len(ids))}
        yield columns.joined([repeated(said, ids, happened_ns, drawn), repeated(happened, ids, happened_ns, actual)])


def _classes(random: Any, count: int) -> pa.Array:
    return pa.array(np.array(["a", "b"])[random.integers(0, 2, count)])


def plain(files: list[str]) -> None:
    """PSI of every feature in DuckDB's own words, over rows as they lie in the files."""
    with duckdb.connect(":memory:", config={"threads": 2}) as one:
        listed = ", ".join(f"'{file}'" for file in files)
        one.execute(f"create view v as select * from read_parquet([{listed}]) where role = 'prediction'")
        columns = [row[0] for row in one.execute("describe v").fetchall() if row[0].startswith("f")]
        columns = [name for name in columns if ".x" in name or ":x" in name or "x" in name][:FEATURES]
        at = [number / BINS for number in range(1, BINS)]
        quantiles = ", ".join(f'quantile_cont("{name}", {at})' for name in columns)
        edges = one.execute(f"select {quantiles} from v where environment = 'training'").fetchone()
        assert edges is not None
        counted = ", ".join(
            f'countif("{name}" <= {edge!r})' for name, own in zip(columns, edges, strict=True) for edge in own
        )
        one.execute(f"select environment, count(*), {counted} from v group by environment").fetchall()


def timed(what: Callable[[], object]) -> float:
    """How long it takes, in ms."""
    start = time.perf_counter()
    what()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Make the log, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.monitor", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    machine.keep_to_two_cores()
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder:
        directory = Path(folder)
        made = timed(lambda: keep(directory, tables(given.rows)))
        reader = Reader(directory, {})
        files = [str(path) for path in directory.glob("parquet/**/*.parquet")]
        print(f"{given.rows} predictions with actuals in {len(files)} files, made in {made / 1000:.0f} s")
        named = [f"f.x{number}" for number in range(FEATURES)]

        def drift(**more: object) -> Callable[[], object]:
            question = convert({"model": "m", **more}, DriftQuestion, lax=True)
            return lambda: answer(reader, question, time.time_ns())

        def performance(**more: object) -> Callable[[], object]:
            question = convert({"model": "m", **more}, PerformanceQuestion, lax=True)
            return lambda: answer(reader, question, time.time_ns())

        asked = {
            PLAIN: lambda: plain(files),
            DRIFT: drift(window="none", dimension=named),
            "drift of everything, daily": drift(window="1d"),
            "performance": performance(window="none"),
            "performance, daily": performance(window="1d"),
        }
        since, busy, ours = time.monotonic(), busy_s(), time.process_time()
        rounds = [{name: timed(what) for name, what in asked.items()} for _ in range(given.rounds)]
        spent = busy_s() - busy - (time.process_time() - ours)
        others_cpu = max(0.0, spent / ((time.monotonic() - since) * machine.CORES))
    for name in asked:
        times = median(one[name] / one[PLAIN] for one in rounds)
        print(f"{name:<36} {median(one[name] for one in rounds):8.0f} ms   {times:5.2f} x")
    print(f"others' CPU: {others_cpu:.0%}")
    if given.rows == ROWS:
        goal = Goal(title=TITLE, at_most=2.0, scores=[one[DRIFT] / one[PLAIN] for one in rounds])
        open_loop.write(RESULTS, [goal], others_cpu, rows=given.rows, files=len(files), rounds_ms=rounds)


if __name__ == "__main__":
    main()
