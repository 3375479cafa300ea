"""A request's place in a batch, and whom to tell: made and resolved once per request, so its fields are C's.

Thread: made on a door's or executor's thread, resolved on whichever thread claims it first; both under the GIL.
Memory: holds the request's tensors and its version until it is resolved.
"""

import logging

from libc.stdint cimport int64_t

logger = logging.getLogger("fastserve.engine.batch")


cdef class Ticket:
    """A request in the queue or in a run. Resolved exactly once, by whoever claims it first.

    Tickets of one `bucket` may share a run. `rows`: of the request. `size`: what a run of it costs, in rows of the size
    measured at load. `outputs`: those wanted, None for all. `lease`: what keeps the version alive until the ticket is
    answered; versions are replaced while requests wait for them. `queue`: has `cancel(ticket)`. `received_ns`: when the
    request came, 0 where nobody knows; below 0 for a part of another request. `leaves_ns`: when it is late in the
    queue: at its deadline, or when it has waited as long as it may; 0: never. `yields_ns`: when others go first; 0:
    never. `group`: what encodes the answers of its kind, `encode(outputs, rows)`, for whole batches of them; None where
    each is by itself. `claimed`: it is answered, or about to be.
    """

    cdef readonly object queue
    cdef readonly dict inputs
    cdef readonly int64_t rows
    cdef readonly int64_t size
    cdef readonly object bucket
    cdef object answer
    cdef readonly object outputs
    cdef readonly int64_t deadline_ns
    cdef readonly int64_t priority
    cdef readonly object lease
    cdef readonly object group
    cdef readonly int64_t received_ns
    cdef public int64_t leaves_ns
    cdef readonly int64_t yields_ns
    cdef public int64_t queued_ns
    cdef readonly bint claimed

    def __init__(
        self,
        object queue,
        dict inputs not None,
        int64_t rows,
        int64_t size,
        object bucket,
        object answer,
        object outputs=None,
        int64_t deadline_ns=0,
        int64_t priority=0,
        object lease=None,
        int64_t received_ns=0,
        int64_t waits_until_ns=0,
        object group=None,
    ):
        self.queue = queue
        self.inputs = inputs
        self.rows = rows
        self.size = size
        self.bucket = bucket
        self.answer = answer
        self.outputs = outputs
        self.deadline_ns = deadline_ns
        self.priority = priority
        self.lease = lease
        self.group = group
        self.received_ns = received_ns
        self.leaves_ns = deadline_ns
        if waits_until_ns > 0 and (deadline_ns == 0 or waits_until_ns < deadline_ns):
            self.leaves_ns = waits_until_ns
        self.yields_ns = -waits_until_ns if waits_until_ns < 0 else 0

    def cancel(self):
        """The caller went away: leave the queue; a run under way goes on for the others."""
        self.queue.cancel(self)

    def resolve(self, object outcome, /):
        """Answer, unless somebody did; whether it was this call.

        An answer that cannot be given is logged, and costs nobody else anything.
        """
        # Nothing between the look and the mark can let another thread run: they are one step.
        if self.claimed:
            return False
        self.claimed = True
        answer, self.answer = self.answer, None
        try:
            answer(outcome)
        except Exception:  # the batch runner's edge: one bad answer costs neither the slot nor the others theirs
            logger.exception("an answer could not be given")
        self.lease = self.group = None  # whoever may still cancel holds the ticket, and would hold the version
        return True
