"""The server's own predictions on their way to the prediction log, where that is asked for.

What an answer waits for is one append to a queue; all else happens on a thread that stands back.

Thread: `begin` and `note` on any; the recorder's own makes frames and gives them to the log's writer. A large request goes
there in pieces, one after the other. Memory: bounded in requests and in bytes, or one request that alone is larger; what
there is no room for, here or in the log, is counted and not kept.
"""

import logging
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

from fastserve.clock import Clock, wall_ns
from fastserve.engine.own_rows import Origin, Shown, encode, is_kept, own_rows, rows_in
from fastserve.engine.scheduling import stand_back
from fastserve.errors import FastServeError
from fastserve.limits import MAX_ID_CHARS
from fastserve.metrics import Metrics
from fastserve.store.frames import Kind
from fastserve.store.writer import Writer
from fastserve.types import InferRequest, InferResult, Tensor

MAX_WAITING = 4096
MAX_WAITING_BYTES = 32 << 20
MAX_PIECE_ROWS = 4096
MAX_PIECE_VALUES = 1 << 16
"""Of inputs and outputs, in a piece. They become Python's objects in one go, in which nobody else has the interpreter."""
STORED_WITHIN_S = 30.0
"""A piece that takes longer is taken for lost, with those behind it: the disk hangs."""

Entry = tuple[Shown, Origin, dict[str, Tensor], dict[str, Tensor], int]
"""Of which version, id and time, inputs, outputs, bytes."""

_log = logging.getLogger(__name__)


class Recorder:
    """One process's way from answers to the log. Its thread starts with the first prediction."""

    def __init__(self, writer: Writer, metrics: Metrics, wall: Clock = wall_ns) -> None:
        self._writer = writer
        self._wall = wall
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._lock = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._prefix = os.urandom(10).hex()
        self._numbers = count(1)
        text = "The server's own predictions that were given to the prediction log."
        self._kept = metrics.counter("fastserve_predictions_recorded_total", text, {})
        self._dropped = {
            reason: metrics.counter(
                "fastserve_predictions_not_recorded_total", "Those that were not.", {"reason": reason}
            )
            for reason in ("busy", "failed")
        }

    def new_id(self) -> str:
        """An id that nobody else makes, in whichever process."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def put(
        self,
        shown: Shown,
        prediction_id: str,
        inputs: dict[str, Tensor],
        outputs: dict[str, Tensor],
        first: int = 0,
        of: int = 0,
    ) -> None:
        """Keep it, if there is room."""
        rows = rows_in(shown, inputs)
        if not rows:
            return
        inputs = {name: tensor for name, tensor in inputs.items() if is_kept(tensor, rows)}
        size = sum(tensor.nbytes for part in (inputs, outputs) for tensor in part.values())
        origin = Origin(prediction_id, self._wall(), first, of or rows)
        entry = (shown, origin, inputs, outputs, size)
        with self._lock:
            if self._closing or not self._has_room(size):
                self._dropped["busy"].add(1)
                return
            self._waiting.append(entry)
            self._waiting_bytes += size
            if len(self._waiting) == 1:
                self._lock.notify()
            if self._thread is None:
                self._thread = self._started()

    def _started(self) -> threading.Thread | None:
        """None where the machine gives no thread: what waits is kept, within its bounds, and the next one tries again."""
        thread = threading.Thread(target=self._serve, name="recorder", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread

    def _has_room(self, size: int) -> bool:
        """Under the lock."""
        return not self._waiting or (
            len(self._waiting) < MAX_WAITING and self._waiting_bytes + size <= MAX_WAITING_BYTES
        )

    def close(self) -> None:
        """Give the log what waits, and end."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        stand_back()
        while True:
            with self._lock:
                while not self._waiting and not self._closing:
                    self._lock.wait()
                if not self._waiting:
                    return
                entry = self._waiting.popleft()
                self._waiting_bytes -= entry[-1]
            try:
                self._store(entry)
            except (
                Exception
            ):  # the thread's edge: one prediction that cannot be kept must not end the keeping of others
                _log.exception("a prediction could not be kept")
                self._dropped["failed"].add(1)
            del entry  # what it holds must not live until the next one comes

    def _store(self, entry: Entry) -> None:
        """All pieces: each but the last is waited for, so that only one is in the log's queue."""
        first, *others = _pieces(entry)
        for later in others:
            if not self._store_and_wait(first):
                return
            first = later
        self._append(first, self._told)

    def _store_and_wait(self, piece: Entry) -> bool:
        """Whether it is stored."""
        stored = threading.Event()
        errors: list[FastServeError] = []

        def done(error: FastServeError | None) -> None:
            errors.extend([error] if error is not None else [])
            stored.set()

        if not self._append(piece, done):
            return False
        if stored.wait(STORED_WITHIN_S) and not errors:
            return True
        self._dropped["failed"].add(1)
        return False

    def _append(self, piece: Entry, done: Callable[[FastServeError | None], None]) -> bool:
        shown, origin, inputs, outputs, _ = piece
        rows = own_rows(shown, origin, inputs, outputs)
        try:
            self._writer.append([(Kind.OWN, encode(rows))], done, rows.count)
        except FastServeError:  # there is no room, or the disk refuses: its own log says so
            self._dropped["busy"].add(1)
            return False
        return True

    def _told(self, error: FastServeError | None) -> None:
        (self._kept if error is None else self._dropped["failed"]).add(1)


def _pieces(entry: Entry) -> Iterator[Entry]:
    """The rows of a request, a few at a time; views of its tensors."""
    shown, origin, inputs, outputs, size = entry
    count = rows_in(shown, inputs)
    values = sum(tensor.size for part in (inputs, outputs) for tensor in part.values())
    most = max(1, min(MAX_PIECE_ROWS, MAX_PIECE_VALUES * count // max(values, 1)))
    if most >= count:
        yield entry
        return
    for start in range(0, count, most):
        part = slice(start, start + most)
        own = Origin(origin.prediction_id, origin.ts_ns, origin.first + start, origin.of)
        yield shown, own, _part(inputs, part, count), _part(outputs, part, count), size


def _part(tensors: dict[str, Tensor], part: slice, count: int) -> dict[str, Tensor]:
    return {name: tensor[part] for name, tensor in tensors.items() if tensor.ndim and len(tensor) == count}


class Recording:
    """What of one version's predictions is kept. `fraction`: of the requests."""

    def __init__(
        self, recorder: Recorder, shown: Shown, fraction: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._recorder = recorder
        self._shown = shown
        self._fraction = fraction
        self._chance = chance

    def begin(self, asked: InferRequest, given: str) -> str:
        """The id that this prediction is kept under; empty where it is not. `given`: one that the client wants.

        Else it is the request's own, if that can be one; a request without one is given what is made up here.
        """
        if self._fraction < 1 and self._chance() >= self._fraction:
            return ""
        prediction_id = given or asked.id
        if not 0 < len(prediction_id) <= MAX_ID_CHARS or "\0" in prediction_id:
            prediction_id = self._recorder.new_id()
        asked.id = asked.id or prediction_id
        return prediction_id

    def note(self, prediction_id: str, asked: InferRequest, result: InferResult, first: int = 0, of: int = 0) -> None:
        """It was answered. `first`, `of`: the place of its rows among those that have one id, and how many these are."""
        self._recorder.put(self._shown, prediction_id, asked.inputs, result.outputs, first, of)
