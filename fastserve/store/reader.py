"""Questions to the log: what is in Parquet files and what was acknowledged a moment ago, as one. Needs the extra `log`.

Each question has a DuckDB of its own, in memory, that sees the files of the log it is about and nothing else. It is about one
moment: compaction may move what it sees, and never makes anything missing or double.
Thread: any; one at a time takes the moment, questions run side by side. None of it belongs on a door's thread.
Memory: what is not compacted yet is kept as tables; DuckDB's own is bounded by `memory_bytes`.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec import Struct

from fastserve.errors import ErrorCode, FastServeError
from fastserve.store.catalogue import Catalogue, File, State, Tombstone
from fastserve.store.plan import options
from fastserve.store.rows import Readers, Row
from fastserve.types import EVERYBODY, Caller

INSTALL = "asking the prediction log takes DuckDB and pyarrow: pip install 'fastserve[log]'"
MEMORY_BYTES = 1 << 30
THREADS = 2
WITHIN_S = 60.0
"""Files that are replaced stay for longer than that."""

MAX_TRIES = 20
MAX_REMEMBERED = 256


class LogUnavailable(FastServeError):
    """The log cannot be asked here; the text says what to do."""

    code = ErrorCode.UNIMPLEMENTED


class QuestionTooLong(FastServeError):
    """The answer took longer than questions may."""

    code = ErrorCode.DEADLINE_EXCEEDED


def unsupported() -> str:
    """Why nothing can be asked; empty where it can."""
    return "" if find_spec("duckdb") and find_spec("pyarrow") else INSTALL


class Moment(Struct, frozen=True):
    """What there is. `tail`: a table for each model that has rows in no file."""

    files: tuple[File, ...]
    tail: dict[str, Any]
    tombstones: tuple[Tombstone, ...]

    @property
    def models(self) -> list[str]:
        """All that have rows."""
        return sorted({*(file.model_id for file in self.files), *self.tail})


class Reader:
    """Of the log in `directory`; `readers` say what its frames hold."""

    def __init__(
        self,
        directory: Path,
        readers: Readers,
        *,
        memory_bytes: int = MEMORY_BYTES,
        threads: int = THREADS,
        count_duplicates: bool = False,
    ) -> None:
        """`count_duplicates`: as `LogConfig` has it. Raises LogUnavailable without the extra."""
        if unsupported():
            raise LogUnavailable(unsupported())
        from fastserve.store.tail import Tail

        self._directory = directory
        self._memory_bytes = memory_bytes
        self._threads = threads
        self._count_duplicates = count_duplicates
        self._catalogue = Catalogue(directory)
        self._tail = Tail(directory, readers)
        self._lock = threading.Lock()
        self._joined: dict[str, tuple[list[Any], Any]] = {}
        self._memory: dict[str, Any] = {}

    def close(self) -> None:
        """Let the files go."""
        with self._lock:
            self._catalogue.close()

    def moment(self) -> Moment:
        """What there is now. Whatever was acknowledged before the call is in it."""
        with self._lock:
            state, seen = self._look()
            tail = {model: self._one(model, tables) for model, tables in seen.tables.items()}
            for model in [model for model in self._joined if model not in tail]:
                del self._joined[model]
            if len(self._memory) > MAX_REMEMBERED:
                self._memory.clear()
            from fastserve.store.deleting import without_deleted

            deleted = [*state.tombstones, *seen.tombstones]
            tail = {model: without_deleted(table, deleted) for model, table in tail.items()}
            left = {model: table for model, table in tail.items() if table.num_rows}
            return Moment(state.files, left, tuple(seen.tombstones))

    @contextmanager
    def connection(
        self, model: str | None = None, caller: Caller = EVERYBODY, within_s: float = WITHIN_S
    ) -> Iterator[Any]:
        """A DuckDB connection with the views of `views` over what `caller` may see, of one model (cheaper) or of all.

        What runs longer than `within_s` is interrupted. Raises LogUnavailable, QuestionTooLong.
        """
        import duckdb

        from fastserve.store.scope import Scope

        scope = Scope(self._directory, self.moment(), model, caller)
        with duckdb.connect(":memory:", config=self._options()) as one:
            timer = threading.Timer(within_s, one.interrupt)
            timer.daemon = True
            timer.start()
            try:
                _, above = scope.plans(one, self._memory, count_duplicates=self._count_duplicates)
                above.make(one)
                above.lock(one)
                yield one
            except duckdb.InterruptException:
                raise QuestionTooLong(f"the prediction log's answer took longer than {within_s:g} s") from None
            finally:
                timer.cancel()

    def plan(self, model: str | None = None, caller: Caller = EVERYBODY) -> Any:
        """What makes the views of `connection` in a database elsewhere: a `Plan`."""
        import duckdb

        from fastserve.store.scope import Scope

        scope = Scope(self._directory, self.moment(), model, caller)
        with duckdb.connect(":memory:", config=self._options()) as one:
            below, above = scope.plans(one, self._memory, count_duplicates=self._count_duplicates)
            return below.then(above)

    def columns(self, model: str, caller: Caller = EVERYBODY) -> list[Any]:
        """The features, tags and importances of a model, as `views.Shown`."""
        from fastserve.store.scope import Scope

        return Scope(self._directory, self.moment(), model, caller).shown

    def record(self, model: str, prediction_id: str, caller: Caller = EVERYBODY) -> list[Row]:
        """Every part that was logged for a prediction and is not deleted, in the order it came."""
        import duckdb

        from fastserve.store.scope import Scope

        scope = Scope(self._directory, self.moment(), model, caller)
        with duckdb.connect(":memory:", config=self._options()) as one:
            return scope.record(one, prediction_id)

    def _options(self) -> dict[str, Any]:
        return options(self._memory_bytes, self._threads)

    def _look(self) -> tuple[State, Any]:
        """State and tail of one moment: nothing moved from the one to the other between looking at them."""
        state = self._catalogue.state()
        for _ in range(MAX_TRIES):
            seen = None
            with suppress(FileNotFoundError):
                seen = self._tail.look(state.segments)
            after = self._catalogue.state()
            if seen is not None and after.change == state.change:
                return state, seen
            state = after
        raise LogUnavailable("the prediction log changes too quickly to be read; try again")

    def _one(self, model: str, tables: Sequence[Any]) -> Any:
        """The tables as one, put together again only where they changed."""
        from fastserve.store import columns

        kept = self._joined.get(model)
        if kept is None or len(kept[0]) != len(tables) or any(a is not b for a, b in zip(kept[0], tables, strict=True)):
            kept = self._joined[model] = (list(tables), columns.joined(tables))
        return kept[1]
