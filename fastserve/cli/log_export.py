"""`fastserve log export`: the prediction log as one Parquet file, for notebooks and other tools.

Memory: one page of rows at a time.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from fastserve.cli.client import CallFailed
from fastserve.cli.log_place import DEFAULT_URL, Place, find
from fastserve.store.reader import LogUnavailable

EXAMPLES = """
\b
Examples:
  fastserve log export --parquet records.parquet
  fastserve log export ./log --model iris --view joined --parquet iris.parquet
  fastserve log export http://127.0.0.1:8000 --parquet records.parquet
"""

PAGE_ROWS = 50_000
VIEWS = ("records", "predictions", "actuals", "importances", "joined")


@click.command(epilog=EXAMPLES, short_help="Write the log to a Parquet file.")
@click.argument("place", default=DEFAULT_URL, metavar="[URL|DIRECTORY]")
@click.option("--parquet", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
@click.option("--model", help="Of this model only.")
@click.option("--view", type=click.Choice(VIEWS), default="records", show_default=True, help="What of it.")
@click.option(
    "--page-rows", type=click.IntRange(1, 100_000), default=PAGE_ROWS, show_default=True, help="Rows at a time."
)
@click.option(
    "--timeout-s", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Wait."
)
def command(place: str, parquet: Path, model: str | None, view: str, page_rows: int, timeout_s: float) -> None:
    """Write all records, or one of the views, to a Parquet file (zstd).

    A server answers in pages; what is logged meanwhile may be in the file or not. The file appears when it is whole.
    """
    with closing(find(place, timeout_s)) as log:
        rows = export(log, parquet, model, view, page_rows)
    click.echo(f"wrote {rows} rows to {parquet}")


def export(log: Place, path: Path, model: str | None, view: str, page_rows: int) -> int:
    """How many rows were written. Raises FastServeError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise LogUnavailable("export takes pyarrow: pip install 'fastserve[log]'") from None
    partial = path.with_name(f"{path.name}.partial")
    there = log.query(f"select count(*) from {view}", model, 1).rows[0][0]  # noqa: S608 - our own
    rows = 0
    try:
        writer = None
        for page in _pages(log, model, view, page_rows):
            if writer is None:
                writer = pq.ParquetWriter(partial, page.schema, compression="zstd")
            writer.write_table(_alike(page, writer.schema, pa).cast(writer.schema))
            rows += page.num_rows
        assert writer is not None, "a page without rows has columns too"
        writer.close()
        if rows < there:
            raise CallFailed(f"{there} rows are there and {rows} came; again with a smaller --page-rows")
        os.replace(partial, path)
    except OSError as error:
        raise CallFailed(f"{path}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _pages(log: Place, model: str | None, view: str, rows: int) -> Iterator[Any]:
    """In the order of seq and kind, which no two records share."""
    import pyarrow as pa

    last = ""
    while True:
        sql = f"select * from {view}{last} order by seq, kind limit {rows}"  # noqa: S608 - our own
        page = pa.ipc.open_stream(log.arrow(sql, model, rows)).read_all()
        yield page
        if not page.num_rows:  # fewer than asked for say nothing: answers are bounded in bytes too
            return
        seq, kind = page.column("seq")[-1].as_py(), page.column("kind")[-1].as_py()
        last = f" where (seq, kind) > ({seq}::ubigint, '{kind}')"


def _alike(page: Any, schema: Any, pa: Any) -> Any:
    """The page with the columns of the first one: what came up meanwhile is left out."""
    if page.schema.names == schema.names:
        return page
    names = set(page.schema.names)
    return pa.table(
        [page.column(f.name) if f.name in names else pa.nulls(page.num_rows, f.type) for f in schema], schema=schema
    )
