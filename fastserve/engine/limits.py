"""What one version's queue keeps to, as plain values. Pure."""

from msgspec import Struct

from fastserve.engine.ranked import PaceOf, Queue, Ranks, queue_of


class Limits(Struct, frozen=True):
    """How one version's requests are coalesced. A version whose rows may not be coalesced has `batchable` False.

    `enough_rows`: a batch of so many rows waits no longer; 0: only a full one. `ranks`: rules of levels, None for none.
    `pays_rows`: larger batches save nothing; 0: they do. `priority`: of its batches, among those that wait for a thread.
    """

    batchable: bool
    max_batch_rows: int
    max_queue_delay_ns: int
    max_queue_rows: int
    enough_rows: int = 0
    ranks: Ranks | None = None
    pays_rows: int = 0
    priority: int = 0

    @property
    def inline_rows(self) -> int:
        """Rows up to which a request may be run without the queue. A delay is waited for by everybody."""
        return self.max_batch_rows if self.max_queue_delay_ns == 0 else -1

    def queue(self, pace_of: PaceOf | None = None) -> Queue:
        """An empty queue that keeps them. Rows that may not be coalesced make batches of one request, as one row each."""
        batch_rows = self.max_batch_rows if self.batchable else 1
        enough_rows = self.enough_rows or batch_rows
        queue = queue_of(
            batch_rows, self.max_queue_delay_ns, self.max_queue_rows, enough_rows, self.ranks, self.pays_rows
        )
        queue.pace_of = pace_of
        return queue
