"""The datasets of one process: read, read again, and swapped under requests that run.

Thread: owns one, which reads; `use` on any thread. A table is frozen and swapped by one assignment: who has it keeps it.
Memory: one table a dataset; while it is read again, two.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Literal

from msgspec import Struct

from fastserve.clock import Clock, monotonic_ns
from fastserve.config import DatasetConfig
from fastserve.datasets import duck, files
from fastserve.datasets.files import Identities
from fastserve.datasets.table import Table
from fastserve.errors import DatasetError, Draining, FastServeError, quoted

LOOK_AGAIN_NS = 1_000_000_000
"""Files without an interval are looked at when they are asked for, and no oftener than that."""

Then = Callable[[Table | FastServeError], None]
"""Called once, on whichever thread `use` was called on, or where `post` runs things."""

_log = logging.getLogger(__name__)


class Status(Struct, frozen=True):
    """`error`: why the files as they are now were not taken; the table before them stays."""

    name: str
    state: Literal["Initializing", "Ready", "Error"]
    source: str
    rows: int = 0
    columns: tuple[str, ...] = ()
    error: str = ""


class Dataset:
    """One dataset, followed. Everything but `table` and `error` is the datasets' thread's."""

    def __init__(self, config: DatasetConfig, others: Sequence[DatasetConfig] = (), table: Table | None = None) -> None:
        """`table`: the rows of before, to have until its files are read."""
        self.config = config
        self.others = others
        self.table = table
        self.error = ""
        self._taken: dict[str, Identities] | None = None
        self._refused: dict[str, Identities] | None = None
        self._seen: dict[str, Identities] | None = None
        self._looked_ns: int | None = None

    @property
    def every_ns(self) -> int:
        """Time between looks; 0: when asked for."""
        return round(self.config.refresh_seconds * 1e9)

    def is_fresh(self, now_ns: int) -> bool:
        """Whether what there is can be had without a look."""
        if self._looked_ns is None:
            return False
        return (self.table is not None and self.every_ns > 0) or now_ns - self._looked_ns < LOOK_AGAIN_NS

    def due_in_ns(self, now_ns: int) -> int | None:
        """How long until it is to be looked at; None: when it is asked for."""
        if not self.every_ns or self._looked_ns is None:
            return None
        return max(0, self._looked_ns + self.every_ns - now_ns)

    def look(self, now_ns: int, *, finished: bool = False) -> None:
        """Read the files if they changed; `finished`: in any case, and as they are. What is wrong is in `error`."""
        try:
            self._read_changed(finished=finished or self._looked_ns is None, anew=finished)
        except (DatasetError, OSError) as error:
            text = str(error) if isinstance(error, DatasetError) else f"cannot be read: {error.strerror}"
            if text != self.error:
                kept = "; the rows read before stay" if self.table is not None else ""
                _log.error("dataset %s: %s%s", self.config.name, text, kept)
            self.error = text
        self._looked_ns = now_ns  # last: what is fresh is read without a lock

    def _read_changed(self, *, finished: bool, anew: bool) -> None:
        parts = duck.needed(self.config, self.others)
        now = {part.name: files.find(part) for part in parts if part.source}
        seen, self._seen = self._seen, now
        if now == self._taken and not anew:
            self.error = ""
            return
        if now == self._refused and not anew:
            return
        if not finished and now != seen:
            self._refuse_half_written(parts, now)
        try:
            table = duck.read(self.config, parts, now)
            if not finished:
                self._refuse_lost_columns(table)
        except DatasetError:
            self._refused = now  # they are not read again as long as they are like this
            raise
        if {part.name: files.find(part) for part in parts if part.source} != now:
            raise DatasetError("the files changed while they were read")
        self._taken, self._refused = now, None
        self.table = table
        self.error = ""
        _log.info("dataset %s: %d rows of %s", self.config.name, table.rows, ", ".join(table.columns))

    @staticmethod
    def _refuse_half_written(parts: Sequence[DatasetConfig], now: dict[str, Identities]) -> None:
        """A text that ends inside a line is taken once it looks the same twice."""
        for part in parts:
            paths = now.get(part.name, {})
            if paths and files.format_of(part, paths) != "parquet":
                cut = next((path for path in paths if not files.ends_in_line(path)), None)
                if cut:
                    raise DatasetError(f"{cut.rpartition('/')[2]} ends inside a line: it may be half written")

    def _refuse_lost_columns(self, table: Table) -> None:
        """A text that is cut or overwritten can often be read, as something else."""
        lost = [name for name in self.table.columns if name not in table.columns] if self.table else []
        if lost:
            raise DatasetError(
                f"the files have lost the columns {', '.join(lost[:20])} (refresh the dataset to take them)"
            )

    def status(self) -> Status:
        """What can be told of it."""
        table, error = self.table, self.error
        source = f"file:{self.config.source.rpartition('/')[2]}" if self.config.source else "sql"
        return Status(
            self.config.name,
            "Error" if error else "Ready" if table is not None else "Initializing",
            source,
            table.rows if table is not None else 0,
            tuple(table.columns) if table is not None else (),
            error,
        )


class Datasets:
    """All of them. `post`: runs what a request does once it has its table, on another thread than the datasets'."""

    def __init__(
        self,
        configs: Sequence[DatasetConfig],
        post: Callable[[Callable[[], None]], None],
        clock: Clock = monotonic_ns,
    ) -> None:
        self._all: dict[str, Dataset] = {config.name: Dataset(config, configs) for config in configs}
        self._following = threading.Lock()
        self._post = post
        self._clock = clock
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="datasets", daemon=True)
        self._started = self._stopped = False

    def start(self) -> None:
        """Begin to read; returns at once."""
        with self._following:
            self._started = True
            for name in self._all:
                self.refresh(name)
            self._run()

    def follow(self, configs: Sequence[DatasetConfig] | None, *, keep_others: bool = False) -> None:
        """Have these, and, unless they are kept, no others; None: as before. Any thread.

        One that is configured otherwise now keeps its rows until its files are read.
        """
        if configs is None:
            return
        with self._following:
            before = self._all
            after = {config.name: self._followed(config, configs) for config in configs}
            if keep_others:
                after = {**before, **after}
            self._all = after
            if self._started and not self._stopped:
                for name, dataset in after.items():
                    if before.get(name) is not dataset:
                        self.refresh(name)
                self._run()

    def _followed(self, config: DatasetConfig, configs: Sequence[DatasetConfig]) -> Dataset:
        known = self._all.get(config.name)
        if known is None:
            return Dataset(config, configs)
        same = known.config == config and (not config.sql or tuple(known.others) == tuple(configs))
        return known if same else Dataset(config, configs, known.table)

    def _run(self) -> None:
        if self._all and not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End the thread, after what it reads now; who still waits is told."""
        with self._following:
            self._stopped = True
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def names(self) -> list[str]:
        """In the order of the configuration."""
        return [*self._all]

    def statuses(self) -> list[Status]:
        """Of each."""
        return [dataset.status() for dataset in self._all.values()]

    def use(self, name: str, then: Then) -> None:
        """Give `then` the table, or why there is none: now, or once the files have been looked at."""
        dataset = self._all.get(name)
        if dataset is None:
            then(DatasetError(f"no dataset is named {quoted(name)}"))
        elif dataset.is_fresh(self._clock()):
            then(_outcome(dataset))
        elif self._stopped:
            then(Draining("the server is shutting down"))
        else:
            self._jobs.put(lambda: self._look_for(dataset, then))

    def refresh(self, name: str) -> None:
        """Read it again soon, as its files are."""
        dataset = self._all.get(name)
        if dataset is not None:
            self._jobs.put(lambda: dataset.look(self._clock(), finished=True))

    def _look_for(self, dataset: Dataset, then: Then) -> None:
        if self._stopped:
            self._post(lambda: then(Draining("the server is shutting down")))
            return
        if not dataset.is_fresh(self._clock()):
            dataset.look(self._clock())
        self._post(lambda: then(_outcome(dataset)))

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._next_due_s())
            except Empty:
                job = _nothing
            if job is None:
                return
            try:
                job()
                self._look_at_due()  # however many jobs come
            except Exception:  # the app's edge: one bad file must not end all reading
                _log.exception("reading a dataset failed")
            del job

    def _look_at_due(self) -> None:
        for dataset in self._all.values():
            if dataset.due_in_ns(self._clock()) == 0:
                dataset.look(self._clock())

    def _next_due_s(self) -> float | None:
        now = self._clock()
        waits = [wait for dataset in self._all.values() if (wait := dataset.due_in_ns(now)) is not None]
        return min(waits) / 1e9 if waits else None


def _outcome(dataset: Dataset) -> Table | FastServeError:
    if dataset.table is not None:
        return dataset.table
    return DatasetError(f"dataset {quoted(dataset.config.name)}: {dataset.error or 'it is not read yet'}")


def _nothing() -> None:
    """The job of a thread that woke up for what is due."""
