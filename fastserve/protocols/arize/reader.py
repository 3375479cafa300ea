"""What the log holds, as rows. Whoever reads the log (its tail, its compaction) is given `READERS`.

Thread: any. Memory: one frame's rows at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from fastserve.engine.own_rows import read_own
from fastserve.protocols.arize.frame import unpack
from fastserve.protocols.arize.record import read_record
from fastserve.protocols.arize.rows import rows_of
from fastserve.protocols.arize.table import Records
from fastserve.store.frames import Frame, Kind
from fastserve.store.order import SEQ_STEP
from fastserve.store.rows import Row


def read_frame(frame: Frame) -> Iterator[Row]:
    """The rows of a record. Raises Mistake or msgspec.DecodeError where it is none, which no writer of ours leaves behind."""
    head, body = unpack(frame.payload)
    return rows_of(read_record(body), head, frame.ingest_ns, frame.seq)


def read_table(frame: Frame) -> Iterator[Row]:
    """The rows of a table. Raises InvalidRequest or NeedsExtra."""
    head, body = unpack(frame.payload)
    return Records(body).rows(head, frame.ingest_ns, frame.seq, SEQ_STEP)


READERS: Mapping[int, Callable[[Frame], Iterable[Row]]] = {
    Kind.RECORD: read_frame,
    Kind.ARROW: read_table,
    Kind.OWN: read_own,
}
