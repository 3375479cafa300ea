"""One worker's segments: the open one that is written to, sealed when it is large or old, left where the disk fails it.

Thread: one, the flusher's; `trouble` is read by any.
Invariant: what `write` returned from is on disk, as the policy has it; what it raised for was never acknowledged, and is cut
off again where that can be done. A file whose sync failed is never synced again: the system may have dropped what it held,
and say the next time that all is well.
"""

import errno
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from fastserve.clock import Clock, monotonic_ns, wall_ns
from fastserve.config import LogConfig
from fastserve.store.ahead import Ahead, Made
from fastserve.store.disk import DISK, Disk
from fastserve.store.errors import NO_ROOM, StoreError, again, of_system
from fastserve.store.folder import RESERVE, SEALED, Place
from fastserve.store.frames import HEADER_BYTES, VOUCHES, Append, Kind, encode, new_header, read_header
from fastserve.store.order import Order
from fastserve.store.recovery import adopt

PROBE_EVERY_NS = 1_000_000_000
"""How often a disk that refused is tried again."""

RESERVE_BYTES = 8 << 20
"""Kept free for compaction, which needs room to make room. Given up when the disk is full, and had again before it is written
to again."""

SPARE_BYTES = 8 << 20
"""Room beside the reserve, before the disk is written to again: what was given up is not room for records."""

FIRST_BYTES = 1 << 20
"""Of zeros in a segment of a server that logs little."""

NEVER = 1 << 63
_log = logging.getLogger(__name__)


class Numbered(Struct, frozen=True):
    """An append on its way to disk. `rows`: how many seqs each of its frames takes."""

    frames: Append
    ingest_ns: int
    rows: int


class _Segment(Struct):
    """The one that is written to. `kept`: where what was acknowledged ends. `begun_ns`: when its first frame came.

    `ready`: up to where it has zeros on disk, if it has any. `growth`: bytes of the last write. `has_next`: the one that
    comes after it was asked for.
    """

    fd: int
    path: Path
    seed: int
    ready: int
    end: int = HEADER_BYTES
    kept: int = HEADER_BYTES
    growth: int = 0
    begun_ns: int = 0
    unsynced_since_ns: int = 0
    has_next: bool = False

    @property
    def is_empty(self) -> bool:
        return self.kept == HEADER_BYTES

    @property
    def is_used_up(self) -> bool:
        """What is written next changes the file's size."""
        return self.end + self.growth > self.ready


class Journal:
    """Made on any thread; everything else is the flusher's."""

    def __init__(
        self,
        directory: Path,
        config: LogConfig,
        disk: Disk = DISK,
        clock: Clock = monotonic_ns,
        wall: Clock = wall_ns,
        ahead: Ahead | None = None,
    ) -> None:
        self._directory = directory
        self._always = config.sync == "always"
        self._sync_every_ns = config.sync_interval_ms * 1_000_000 if config.sync == "interval" else 0
        self._max_bytes = config.max_segment_bytes
        self._max_age_ns = round(config.max_segment_seconds * 1e9)
        self._most_ready = min(config.max_prepared_bytes, config.max_segment_bytes) if self._always else 0
        self._next_ready = min(FIRST_BYTES, self._most_ready)
        self._disk = disk
        self._ahead = ahead or Ahead(disk)
        self._clock = clock
        self._wall = wall
        self._place: Place | None = None
        self._order: Order | None = None
        self._segment: _Segment | None = None
        self._number = 0
        self._left: list[Path] = []
        self._probe_due_ns = 0
        self.trouble: StoreError | None = None
        """Why nothing is written at present."""
        self.when_failed: Callable[[OSError], None] = lambda _: None
        """Called with each error of the disk's."""
        self.when_synced: Callable[[int], None] = lambda _: None
        """Called with the nanoseconds that a sync took."""

    def start(self) -> None:
        """Look after what dead workers left, and whether the disk takes writes."""
        try:
            adopt(self._directory, self._disk)
        except OSError as error:
            _log.error("%s cannot be looked through: %s", self._directory, error.strerror)
        self._probe()

    def write(self, appends: Sequence[Numbered]) -> None:
        """Raises StoreError: none of them is stored."""
        if self.trouble is not None:
            raise again(self.trouble)
        try:
            self._write(appends)
        except OSError as error:
            self._fail(error)
            raise of_system(error) from error

    def tick(self) -> None:
        """Do what is due."""
        now = self._clock()
        if self.trouble is not None:
            if now >= self._probe_due_ns:
                self._probe()
            return
        segment = self._segment
        if segment is None:
            return
        if segment.begun_ns and now >= segment.begun_ns + self._max_age_ns:
            self._seal(segment)
        elif self._is_sync_due(segment, now):
            self._sync_late(segment)

    def due_ns(self) -> int:
        """When `tick` is to be called; NEVER: not before something is written."""
        if self.trouble is not None:
            return self._probe_due_ns
        segment = self._segment
        if segment is None or not segment.begun_ns:
            return NEVER
        due = segment.begun_ns + self._max_age_ns
        if self._sync_every_ns and segment.unsynced_since_ns:
            due = min(due, segment.unsynced_since_ns + self._sync_every_ns)
        return due

    def _is_sync_due(self, segment: _Segment, now_ns: int) -> bool:
        since_ns = segment.unsynced_since_ns
        return bool(self._sync_every_ns and since_ns) and now_ns >= since_ns + self._sync_every_ns

    def close(self) -> None:
        """Seal what is open."""
        self._ahead.close()
        if self._segment is not None:
            self._seal(self._segment)
        if self._order is not None:
            self._order.close()
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _write(self, appends: Sequence[Numbered]) -> None:
        """Raises OSError."""
        segment = self._segment_to_write()
        try:
            end = self._disk.write(segment.fd, self._pieces(segment, appends), segment.end)
        except OSError as error:
            self._make_good(segment, error)
            self._write(appends)
            return
        now = self._clock()
        segment.growth, segment.end = end - segment.end, end
        segment.begun_ns = segment.begun_ns or now
        segment.unsynced_since_ns = segment.unsynced_since_ns or now
        if self._always:
            self._sync(segment)
        segment.kept = end
        if end >= self._max_bytes:
            self._seal(segment)
        elif not segment.has_next:
            self._ask_for_next(segment)

    def _make_good(self, segment: _Segment, error: OSError) -> None:
        """A write to it failed: raises that, unless the next one may do better."""
        was_empty = segment.is_empty
        self._cut_back(segment)
        if error.errno == errno.EFBIG and not was_empty:  # files may not be that large here; the next one is small
            self._seal(segment)
            return
        if error.errno in NO_ROOM:
            if self._ahead.drop():
                return
        else:
            self._leave(segment)
        raise error

    def _segment_to_write(self) -> _Segment:
        """Raises OSError."""
        segment = self._segment
        if segment is not None and segment.is_used_up and self._ahead.is_ready:
            self._seal(segment)
            segment = self._segment
        return segment or self._new_segment()

    def _ask_for_next(self, segment: _Segment) -> None:
        """Once for each segment: where there is no room for it there may be some when the next one is begun."""
        segment.has_next = True
        self._prepare()

    def _prepare(self, *, wait: bool = False) -> None:
        """Raises OSError."""
        if self._most_ready and self._ahead.is_idle:
            self._ahead.ask(*self._next(), self._next_ready, wait=wait)

    def _pieces(self, segment: _Segment, appends: Sequence[Numbered]) -> list[bytes]:
        assert self._order is not None, "there is a segment"
        pieces: list[bytes] = []
        flags = 0 if segment.unsynced_since_ns else VOUCHES
        seqs = self._order.take(sum(len(one.frames) * one.rows for one in appends))
        for one in appends:
            count = len(one.frames) * one.rows
            pieces += encode(one.frames, one.ingest_ns, seqs[: count : one.rows], segment.seed, flags)
            seqs, flags = seqs[count:], 0
        return pieces

    def _sync(self, segment: _Segment) -> None:
        """Raises OSError; the segment is left then."""
        began = self._clock()
        try:
            self._disk.sync(segment.fd)
        except OSError:
            self._leave(segment)
            raise
        segment.unsynced_since_ns = 0
        self.when_synced(self._clock() - began)

    def _sync_late(self, segment: _Segment) -> None:
        try:
            self._sync(segment)
        except OSError as error:
            _log.error("%s: what was acknowledged since the last sync may be lost", segment.path)
            self._fail(error)

    def _new_segment(self) -> _Segment:
        """The one that was made ahead, else one that is made now. Raises OSError."""
        made = self._ahead.take()
        if made is None:
            try:
                made = self._made_now()
            except OSError as error:
                if error.errno not in NO_ROOM or not self._ahead.drop():
                    raise
                made = self._made_now()
        self._segment = _Segment(made.fd, made.path, read_header(made.header).seed, made.ready)
        return self._segment

    def _made_now(self) -> Made:
        """Raises OSError."""
        made = Made(*self._next())
        made.fd = self._disk.create(made.path)
        try:
            made.ready = self._disk.write(made.fd, [made.header], 0)
            self._disk.sync_folder(made.path.parent)
        except OSError:
            self._leave(_Segment(made.fd, made.path, 0, 0))
            raise
        return made

    def _next(self) -> tuple[Path, bytes]:
        """Path and header of one more segment. Raises OSError."""
        if self._place is None:
            self._place = Place(self._directory, self._disk)
            self._order = Order(self._directory, self._place.slot, self._wall)
        self._number += 1
        header = new_header(self._place.worker, self._number, self._wall())
        return self._place.segment(self._number, sealed=False), header

    def _seal(self, segment: _Segment) -> None:
        """It is complete; what goes wrong from here on concerns nobody who writes.

        Nothing of it waits for the disk: where power is lost first it is sealed when it is recovered.
        """
        self._next_ready = max(min(FIRST_BYTES, self._most_ready), min(2 * segment.kept, self._most_ready))
        if not segment.is_empty and segment.fd >= 0:
            try:
                if segment.unsynced_since_ns:
                    self._sync(segment)
                seal = encode([(Kind.SEAL, b"")], self._wall(), range(1), segment.seed, VOUCHES)
                segment.end += sum(map(len, seal))
                self._disk.write(segment.fd, seal, segment.kept)
                segment.kept = segment.end
            except OSError as error:
                self.when_failed(error)
                _log.warning("%s is left without its seal: %s", segment.path, error.strerror)
        self._leave(segment)

    def _cut_back(self, segment: _Segment) -> None:
        """A write failed: nothing of it stays. Where that cannot be done either, nothing more is written to the file."""
        try:
            self._disk.cut(segment.fd, segment.end)
            segment.ready = segment.end
        except OSError:
            self._leave(segment)

    def _leave(self, segment: _Segment) -> None:
        """No more of that file: what was acknowledged stays in it, under its last name."""
        if segment.fd < 0:
            return
        with suppress(OSError):
            if max(segment.end, segment.ready) > segment.kept:
                self._disk.cut(segment.fd, segment.kept)
        with suppress(OSError):
            self._disk.close(segment.fd)
        segment.fd = -1
        if self._segment is segment:
            self._segment = None
        self._left.append(segment.path)
        if segment.is_empty:
            with suppress(OSError):
                self._disk.remove(segment.path)
                self._left.remove(segment.path)
        with suppress(OSError):
            self._rename_left()

    def _rename_left(self) -> None:
        """Raises OSError, and goes on there the next time."""
        while self._left:
            self._disk.rename(self._left[0], self._left[0].with_suffix(SEALED))
            del self._left[0]

    def _fail(self, error: OSError) -> None:
        """The disk refused: nothing is written until it takes something again, which is tried at once and then ever again."""
        self.trouble = of_system(error)
        self.when_failed(error)
        _log.error("the prediction log in %s takes no writes: %s", self._directory, error.strerror)
        if error.errno in NO_ROOM:
            self._ahead.drop()
            with suppress(OSError):
                self._disk.remove(self._directory / RESERVE)
        self._probe_due_ns = max(self._probe_due_ns, self._clock())

    def _probe(self) -> None:
        """See whether the disk takes writes."""
        self._probe_due_ns = self._clock() + PROBE_EVERY_NS
        try:
            self._have_reserve()
            if self._segment is None:
                self._prepare(wait=True)
            segment = self._segment or self._new_segment()
            if segment.is_empty:
                self._sync(segment)
            self._rename_left()
        except OSError as error:
            if self.trouble is None:
                self._fail(error)
            self.trouble = of_system(error)
            return
        if self.trouble is not None:
            self.trouble = None
            _log.warning("the prediction log in %s takes writes again", self._directory)

    def _have_reserve(self) -> None:
        """Raises OSError where there is no room for it; a system that refuses it for other reasons goes without."""
        self._disk.make_folder(self._directory)
        try:
            self._disk.reserve(self._directory / RESERVE, RESERVE_BYTES, SPARE_BYTES)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
