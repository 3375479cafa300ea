"""Where the prediction log is that a command is about: behind a running server's URL, or in a directory.

Both answer the same questions in the same shapes. Memory: one answer at a time.
"""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import click
import msgspec

from fastserve.cli import reach
from fastserve.cli.client import CallFailed, Client
from fastserve.clock import wall_ns
from fastserve.monitor.drift import Drift
from fastserve.monitor.performance import Performance
from fastserve.monitor.question import DriftQuestion, PerformanceQuestion, Question
from fastserve.store.catalogue import FILE_NAME
from fastserve.store.folder import listed

DEFAULT_URL = "http://127.0.0.1:8000"
ARROW = "application/vnd.apache.arrow.stream"
SUBFOLDER = "predictions"
"""Of --log-dir: where the log is unless [log] says otherwise."""

DELETE_WITHIN_S = 30.0

ANSWERS: dict[type[Question], tuple[str, type]] = {
    PerformanceQuestion: ("performance", Performance),
    DriftQuestion: ("drift", Drift),
}


class Table(msgspec.Struct):
    """The rows of a query."""

    columns: list[dict[str, str]]
    rows: list[list[Any]]
    truncated: bool = False


class Place(Protocol):
    """What a log can be asked, wherever it is."""

    def ask(self, question: Question) -> Any:
        """Performance or Drift. Raises FastServeError."""

    def query(self, sql: str, model: str | None, max_rows: int) -> Table:
        """The rows of a SELECT. Raises FastServeError."""

    def arrow(self, sql: str, model: str | None, max_rows: int) -> bytes:
        """The same as an Arrow stream."""

    def delete(self, model: str, prediction_id: str, space: str | None) -> Any:
        """What was deleted. Raises FastServeError."""

    def close(self) -> None:
        """Nothing more is asked."""


def find(text: str, timeout_s: float) -> Place:
    """The log at a URL, or in a directory. Raises UsageError where it is neither."""
    if "://" in text:
        return Server(reach.client(text, timeout_s))
    directory = Path(text)
    if directory.is_dir():
        return Folder(_log_in(directory), timeout_s)
    with suppress(ValueError):
        if not directory.exists() and urlsplit(f"http://{text}").port:
            return Server(reach.client(text, timeout_s))
    raise click.UsageError(f"{text!r} is neither a directory nor a URL (http://HOST:PORT)")


def split(arguments: Sequence[str], names: Sequence[str]) -> tuple[str, list[str]]:
    """The URL or directory, which may be left out, and the arguments of those names. Raises UsageError."""
    if len(arguments) == len(names):
        return DEFAULT_URL, [*arguments]
    if len(arguments) == len(names) + 1:
        return arguments[0], [*arguments[1:]]
    expected = " ".join(["[URL|DIRECTORY]", *names])
    raise click.UsageError(f"expected {expected}, got {len(arguments)} arguments")


def _log_in(directory: Path) -> Path:
    """`directory`, or the folder in it that `--log-dir` makes. Raises UsageError where there is no log."""
    for one in (directory, directory / SUBFOLDER):
        if one.is_dir() and ((one / FILE_NAME).exists() or listed(one)):
            return one
    raise click.UsageError(f"{directory} holds no prediction log")


class Server:
    """The log of a running server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, question: Question) -> Any:
        """Over /log/performance or /log/drift."""
        path, kind = ANSWERS[type(question)]
        return _decoded(self._client.post(f"/log/{path}", msgspec.json.encode(question)), kind)

    def query(self, sql: str, model: str | None, max_rows: int) -> Table:
        """Over /log/query."""
        body = msgspec.json.encode({"sql": sql, "model": model, "max_rows": max_rows})
        found: Table = _decoded(self._client.post("/log/query", body), Table)
        return found

    def arrow(self, sql: str, model: str | None, max_rows: int) -> bytes:
        """Over /log/query."""
        body = msgspec.json.encode({"sql": sql, "model": model, "max_rows": max_rows})
        return self._client.send("POST", "/log/query", body, {"Accept": ARROW})

    def delete(self, model: str, prediction_id: str, space: str | None) -> Any:
        """By DELETE /log/records/MODEL/ID."""
        query = "" if space is None else "?" + urlencode({"space": space})
        path = f"/log/records/{quote(model, safe='')}/{quote(prediction_id, safe='')}{query}"
        return json.loads(self._client.send("DELETE", path, None))

    def close(self) -> None:
        """There is nothing to close."""


class Folder:
    """The log in a directory: its files are the caller's own, so it is asked in this process."""

    def __init__(self, directory: Path, timeout_s: float) -> None:
        from fastserve.protocols.arize.reader import READERS
        from fastserve.store.reader import Reader

        self._directory = directory
        self._timeout_s = timeout_s
        self._reader = Reader(directory, READERS)

    def ask(self, question: Question) -> Any:
        """Here."""
        from fastserve.monitor.asking import answer

        return answer(self._reader, question, wall_ns())

    def query(self, sql: str, model: str | None, max_rows: int) -> Table:
        """Here."""
        found = self._arrow(sql, model, max_rows + 1)
        columns = [{"name": field.name, "type": str(field.type)} for field in found.schema]
        rows = [[_plain(value) for value in row.values()] for row in _rows(found.slice(0, max_rows))]
        return Table(columns, rows, found.num_rows > max_rows)

    def arrow(self, sql: str, model: str | None, max_rows: int) -> bytes:
        """Here."""
        import pyarrow as pa

        found, sink = self._arrow(sql, model, max_rows), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, found.schema) as stream:
            stream.write_table(found)
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def _arrow(self, sql: str, model: str | None, max_rows: int) -> Any:
        import duckdb

        try:
            with self._reader.connection(model, within_s=self._timeout_s) as connection:
                statements = duckdb.extract_statements(sql)
                if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
                    raise CallFailed("expected one SELECT: the log is only read")
                return connection.sql(sql).limit(max_rows).to_arrow_table()
        except duckdb.Error as error:
            raise CallFailed(str(error).partition("\n\n")[0][:1000]) from None

    def delete(self, model: str, prediction_id: str, space: str | None) -> Any:
        """By a segment of its own, as a worker writes them."""
        rows = [row for row in self._reader.record(model, prediction_id) if space in (None, row.space)]
        if not rows:
            raise CallFailed(f"nothing is logged of {model} under {prediction_id}")
        spaces = sorted({row.space for row in rows})
        self._bury(model, prediction_id, spaces)
        return {"model_id": model, "prediction_id": prediction_id, "spaces": spaces, "deleted": len(rows)}

    def close(self) -> None:
        """Let the files go."""
        self._reader.close()

    def _bury(self, model: str, prediction_id: str, spaces: list[str]) -> None:
        import threading

        from fastserve.config import LogConfig
        from fastserve.store.frames import Kind
        from fastserve.store.tombstones import encode_tombstone
        from fastserve.store.writer import Writer

        told, errors = threading.Event(), []

        def done(error: Any) -> None:
            errors.append(error)
            told.set()

        writer = Writer(self._directory, LogConfig())
        try:
            writer.append([(Kind.TOMBSTONE, encode_tombstone(model, prediction_id, one)) for one in spaces], done)
            if not told.wait(DELETE_WITHIN_S):
                raise CallFailed(f"the disk did not take it within {DELETE_WITHIN_S:g} s")
        finally:
            writer.close()
        if errors[0] is not None:
            raise errors[0]


def _rows(table: Any) -> list[dict[str, Any]]:
    """Rows as dictionaries; of columns of one name the last would count, so they are numbered."""
    numbered: list[dict[str, Any]] = table.rename_columns([str(at) for at in range(table.num_columns)]).to_pylist()
    return numbered


def _plain(value: Any) -> Any:
    """As JSON has it; numbers that are not finite by name."""
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _decoded(body: bytes, kind: type) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise CallFailed(f"the answer is not what this version expects: {error}") from None
