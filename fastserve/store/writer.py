"""What is to be logged goes in here, from any thread, and comes to disk in groups: one sync for all that waits.

Thread: `append` on any, in about a microsecond; `done` is called on the flusher's, which this owns. While one group is being
synced the next one gathers, so the busier the server is, the more records share a sync, and a lone one waits for nobody.
Memory: what waits and what is being written is bounded in bytes and in records; beyond that appends are refused.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from fastserve._ext.meters import Counter
from fastserve.clock import Clock, monotonic_ns, wall_ns
from fastserve.config import Config, LogConfig
from fastserve.metrics import Metrics
from fastserve.store.disk import DISK, Disk
from fastserve.store.errors import RecordTooLarge, StoreBusy, StoreClosed, StoreError, again
from fastserve.store.folder import listed
from fastserve.store.frames import FRAME_BYTES, MAX_PAYLOAD_BYTES, Append
from fastserve.store.journal import Journal, Numbered

MOST_AT_A_TIME_BYTES = 8 << 20
"""Of one group: who waits first does not wait for all that came later."""

SYNC_BOUNDS_NS = tuple(
    round(s * 1e9) for s in (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
)

LONGEST_SLEEP_S = 3600.0

Done = Callable[[StoreError | None], None]

_log = logging.getLogger(__name__)


class _Waiting(Struct, frozen=True):
    """An append in the queue. `size`: of its payloads, in bytes."""

    append: Numbered
    size: int
    done: Done | None


class Writer:
    """One process's way into the log; its flusher begins at once."""

    def __init__(
        self,
        directory: Path,
        config: LogConfig,
        metrics: Metrics | None = None,
        *,
        disk: Disk = DISK,
        clock: Clock = monotonic_ns,
        wall: Clock = wall_ns,
    ) -> None:
        self.directory = directory
        self._max_bytes = config.max_queue_bytes
        self._max_records = config.max_queue_records
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._queued_records = 0
        self._is_closing = False
        self._is_asleep = False
        self._wake = threading.Lock()  # released by whoever finds the flusher asleep
        self._wake.acquire()
        self._count(metrics or Metrics())
        self._journal = Journal(directory, config, disk, clock, wall)
        self._journal.when_failed = self._failed
        self._journal.when_synced = self._synced.observe
        self._thread = threading.Thread(target=self._serve, name="log-flusher", daemon=True)
        self._thread.start()

    def append(self, frames: Append, done: Done | None = None, rows: int = 1) -> None:
        """Store `frames`, kinds and payloads: all of them or none.

        `done` is called exactly once, on the flusher's thread: with None when they are stored as the policy has it (`always`:
        on disk), or with the reason why they are not. `rows`: how many rows each frame holds at most; the first one's seq is
        the frame's, each other one's is `SEQ_STEP` more. Raises StoreBusy, StoreFull, StoreFailed, StoreClosed and
        RecordTooLarge for what is known at once; `done` is not called then.
        """
        size = 0
        for _, payload in frames:
            size += len(payload)
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise RecordTooLarge(len(payload), MAX_PAYLOAD_BYTES)
        count = len(frames)
        waiting = _Waiting(Numbered(frames, self._wall(), rows), size, done)
        with self._lock:
            self._check_room(size, count)
            self._waiting.append(waiting)
            self._queued_bytes += size
            self._queued_records += count
            is_asleep, self._is_asleep = self._is_asleep, False
        self._wake_up(is_asleep)

    @property
    def trouble(self) -> StoreError | None:
        """Why nothing is written at present; None: it is."""
        return StoreClosed() if self._is_closing else self._journal.trouble

    @property
    def queued_records(self) -> int:
        """How many wait, or are being written."""
        return self._queued_records

    def close(self, within_s: float | None = None) -> None:
        """Store what waits, seal and end; appends are refused from now on. A disk that hangs is not waited for for ever."""
        with self._lock:
            self._is_closing = True
            is_asleep, self._is_asleep = self._is_asleep, False
        self._wake_up(is_asleep)
        self._thread.join(within_s)
        if self._thread.is_alive():
            _log.error("the prediction log in %s was not closed in time: its disk takes too long", self.directory)

    def _check_room(self, size: int, count: int) -> None:
        """Under the lock."""
        if self._is_closing:
            raise StoreClosed
        if self._journal.trouble is not None:
            raise again(self._journal.trouble)
        if self._queued_records and (
            self._queued_bytes + size > self._max_bytes or self._queued_records + count > self._max_records
        ):
            self._refused.add(1)
            raise StoreBusy

    def _serve(self) -> None:
        """The flusher's thread."""
        self._journal.start()
        while True:
            group = self._next_group()
            if group:
                self._store(group)
            elif self._is_closing and not self._waiting:
                break
            self._journal.tick()
        self._journal.close()

    def _next_group(self) -> list[_Waiting]:
        """What waits, as much as goes at a time; after a sleep where nothing does, empty where something else is due."""
        with self._lock:
            if self._waiting or self._is_closing:
                return list(self._taken())
            self._is_asleep = True
        due_s = (self._journal.due_ns() - self._clock()) / 1e9
        woken = self._wake.acquire(timeout=max(0.0, min(due_s, LONGEST_SLEEP_S)))
        with self._lock:
            if not woken and not self._is_asleep:
                self._wake.acquire()  # whoever found us asleep is about to release it
            self._is_asleep = False
            return list(self._taken())

    def _wake_up(self, is_asleep: bool) -> None:
        """Once for each time that it was found asleep."""
        if is_asleep:
            self._wake.release()

    def _taken(self) -> Iterable[_Waiting]:
        """Under the lock."""
        size = 0
        while self._waiting and (not size or size + self._waiting[0].size <= MOST_AT_A_TIME_BYTES):
            one = self._waiting.popleft()
            size += one.size + FRAME_BYTES
            yield one

    def _store(self, group: list[_Waiting]) -> None:
        outcome: StoreError | None = None
        try:
            self._journal.write([one.append for one in group])
        except StoreError as error:
            outcome = error
        records, size = sum(len(one.append.frames) for one in group), sum(one.size for one in group)
        if outcome is None:
            self._stored.add(records)
            self._stored_bytes.add(size + records * FRAME_BYTES)
        else:
            self._lost.add(records)
        with self._lock:
            self._queued_bytes -= size
            self._queued_records -= records
        for one in group:
            if one.done is not None:
                self._tell(one.done, outcome)

    @staticmethod
    def _tell(done: Done, outcome: StoreError | None) -> None:
        try:
            done(outcome)
        except Exception:  # somebody else's answer must not end the thread that all others wait for
            _log.exception("what was to be told of a stored record failed")

    def _failed(self, error: OSError) -> None:
        reason = error.strerror or "unknown"
        text = "Writes and syncs of the prediction log that the disk refused."
        self._metrics.counter("fastserve_log_failures_total", text, {"reason": reason}).add(1)

    def _count(self, metrics: Metrics) -> None:
        self._metrics = metrics

        def counter(name: str, text: str) -> Counter:
            return metrics.counter(f"fastserve_log_{name}_total", text, {})

        self._stored = counter("records", "Records that the prediction log stored.")
        self._stored_bytes = counter("bytes", "Bytes that the prediction log wrote.")
        self._lost = counter("unstored", "Records that the disk did not take; none of them was acknowledged.")
        self._refused = counter("refused", "Appends that the prediction log's queue had no room for.")
        self._synced = metrics.histogram(
            "fastserve_log_sync_seconds", "Time of a sync of the prediction log.", {}, SYNC_BOUNDS_NS, 1e9
        )
        metrics.gauge(
            "fastserve_log_queue_records", "Records that wait for the disk.", {}, lambda: float(self._queued_records)
        )
        metrics.gauge("fastserve_log_queue_bytes", "Their bytes.", {}, lambda: float(self._queued_bytes))
        metrics.gauge(
            "fastserve_log_segments",
            "Files that are not compacted yet, of all workers.",
            {},
            lambda: float(len(listed(self.directory))),
            "max",
        )
        metrics.gauge(
            "fastserve_log_ready",
            "Workers whose prediction log takes writes.",
            {},
            lambda: float(self._journal.trouble is None),
        )


def open_writer(config: Config, metrics: Metrics) -> Writer | None:
    """This process's writer into the log that is configured; None where none is."""
    directory = config.log_directory
    return None if directory is None else Writer(Path(directory), config.log, metrics)
