"""Which tickets leave together, and when. Pure decisions: told the time, no clock, lock or I/O.

A ticket waits in a bucket (tickets that may share a batch) and within it on a level (its priority). Rules:

- Tickets of a bucket leave by priority, highest first, then by arrival. One that does not fit ends the batch: no
  overtaking.
- A bucket is ready when it holds a full batch, or `enough_rows`, or when one of its tickets is due: after the queue
  delay, but never later than half way to its deadline, so that waiting for company does not make it late. No delay:
  ready at once.
- Among ready buckets the one leaves whose first ticket has the highest priority, then the one whose first ticket came
  first. Of every FAIR_TURN choices between several, one goes to the bucket that was passed over longest: so none
  starves.
- A ticket whose deadline has come is never in a batch; `expire` answers it.
- Where it is told what runs take (`Pace`), a batch grows only as far as its earliest deadline allows: a deadline is
  when a ticket must begin by itself, so the batch may take as much longer than its tickets alone as is left until then.

Thread: one at a time (the batcher's lock); only `pop` calls back, to ask for the pace.
Memory: a ticket is held from `push` until a method answers it. Every entry is owned by `entries`; nothing here borrows.
Cost: push, pop and remove are O(log tickets) plus, for pop, O(buckets).
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_FromVoidPtr
from libc.stdint cimport INT64_MAX, int64_t

cdef enum:
    DUE = 0  # the heap of tickets that wait for company, and each entry's place and time in it
    DEADLINE = 1
    NOWHERE = -1
    FAIR_TURN = 8


@cython.final
cdef class Level:
    """The tickets of one bucket and one priority, in order of arrival."""

    cdef int64_t priority
    cdef int64_t rows
    cdef Entry first
    cdef Entry last


@cython.final
cdef class Bucket:
    """Tickets that may share a batch."""

    cdef object key
    cdef list levels  # by priority, highest first; none is empty, unless it is the only one
    cdef int64_t rows
    cdef Py_ssize_t due_tickets
    cdef int64_t served  # the queue's `moment` of its last batch, or of its first ticket


@cython.final
@cython.freelist(256)
cdef class Entry:
    """A ticket and its places. `bucket` and `level` are None once its deadline has come."""

    cdef object ticket
    cdef object identity  # of the ticket: its key in `entries` and `expired`
    cdef Bucket bucket
    cdef Level level
    cdef Entry before
    cdef Entry after
    cdef int64_t rows
    cdef int64_t arrival
    cdef int64_t[2] when_ns  # due and deadline
    cdef Py_ssize_t[2] place  # in the heap of each; NOWHERE when not in it


@cython.final
cdef class Timeline:
    """Entries by one of their two times, earliest first; a binary heap whose entries know their place."""

    cdef int kind
    cdef list heap

    cdef inline Entry earliest(self):
        """The first entry, or None."""
        return <Entry>PyList_GET_ITEM(self.heap, 0) if PyList_GET_SIZE(self.heap) > 0 else None

    cdef inline bint precedes(self, Entry one, Entry other):
        if one.when_ns[self.kind] != other.when_ns[self.kind]:
            return one.when_ns[self.kind] < other.when_ns[self.kind]
        return one.arrival < other.arrival

    cdef int add(self, Entry entry) except -1:
        self.heap.append(entry)
        self.sift_up(entry, PyList_GET_SIZE(self.heap) - 1)
        return 0

    cdef int discard(self, Entry entry) except -1:
        """Take `entry` out, if it is in."""
        cdef Py_ssize_t at = entry.place[self.kind]
        if at == NOWHERE:
            return 0
        entry.place[self.kind] = NOWHERE
        cdef Entry last = self.heap.pop()
        if last is not entry:
            self.sift_up(last, at)
            self.sift_down(last, last.place[self.kind])
        return 0

    cdef int sift_up(self, Entry entry, Py_ssize_t at) except -1:
        cdef Entry parent
        while at > 0:
            parent = <Entry>PyList_GET_ITEM(self.heap, (at - 1) // 2)
            if not self.precedes(entry, parent):
                break
            self.settle(parent, at)
            at = (at - 1) // 2
        self.settle(entry, at)
        return 0

    cdef int sift_down(self, Entry entry, Py_ssize_t at) except -1:
        cdef Py_ssize_t count = PyList_GET_SIZE(self.heap), child
        cdef Entry least, right
        while 2 * at + 1 < count:
            child = 2 * at + 1
            least = <Entry>PyList_GET_ITEM(self.heap, child)
            if child + 1 < count:
                right = <Entry>PyList_GET_ITEM(self.heap, child + 1)
                if self.precedes(right, least):
                    least = right
                    child += 1
            if not self.precedes(least, entry):
                break
            self.settle(least, at)
            at = child
        self.settle(entry, at)
        return 0

    cdef inline int settle(self, Entry entry, Py_ssize_t at) except -1:
        self.heap[at] = entry
        entry.place[self.kind] = at
        return 0


cdef Timeline new_timeline(int kind):
    cdef Timeline timeline = Timeline.__new__(Timeline)
    timeline.kind = kind
    timeline.heap = []
    return timeline


cdef inline Entry first_entry(Bucket bucket):
    """The ticket that leaves next; None in an empty bucket."""
    return (<Level>PyList_GET_ITEM(bucket.levels, 0)).first


cdef int64_t may_take_ns(Entry entry, Pace pace, int64_t now_ns) except? -1:
    """How long a run that begins now with this ticket in it may take."""
    if entry.when_ns[DEADLINE] == 0:
        return INT64_MAX
    return min(entry.when_ns[DEADLINE] - now_ns, INT64_MAX // 2) + pace.expected_ns(entry.rows)


cdef Level level_of(Bucket bucket, int64_t priority):
    """The bucket's level of that priority, made when it is not there."""
    cdef Level level = <Level>PyList_GET_ITEM(bucket.levels, 0)
    if level.priority == priority:
        return level
    if level.first is None:
        level.priority = priority
        return level
    cdef Py_ssize_t low = 0, high = PyList_GET_SIZE(bucket.levels), middle
    while low < high:  # the first place whose priority is not above
        middle = (low + high) // 2
        if (<Level>PyList_GET_ITEM(bucket.levels, middle)).priority > priority:
            low = middle + 1
        else:
            high = middle
    if low < PyList_GET_SIZE(bucket.levels):
        level = <Level>PyList_GET_ITEM(bucket.levels, low)
        if level.priority == priority:
            return level
    level = Level.__new__(Level)
    level.priority = priority
    bucket.levels.insert(low, level)
    return level


cdef int leave_level(Entry entry) except -1:
    """Take the entry out of its level; a level that empties goes, unless it is its bucket's only one."""
    cdef Level level = entry.level
    if entry.before is None:
        level.first = entry.after
    else:
        entry.before.after = entry.after
    if entry.after is None:
        level.last = entry.before
    else:
        entry.after.before = entry.before
    entry.before = entry.after = None
    level.rows -= entry.rows
    if level.first is None and PyList_GET_SIZE(entry.bucket.levels) > 1:
        entry.bucket.levels.remove(level)
    entry.level = None
    return 0


@cython.final
cdef class Pace:
    """What runs of one bucket take: `base_ns`, and `row_ns` for each row, of the smallest of `sizes` that holds them.

    `most_rows`: of a batch, beside the queue's own limit. `sizes`: ascending; a run of more rows than the last one has
    those that it has.
    """

    cdef readonly int64_t base_ns
    cdef readonly int64_t row_ns
    cdef readonly int64_t most_rows
    cdef readonly tuple sizes

    def __init__(self, int64_t base_ns, int64_t row_ns, int64_t most_rows=INT64_MAX, tuple sizes not None=()):
        if base_ns < 0 or row_ns < 0 or most_rows < 1:
            raise ValueError(f"expected times of at least 0 and some rows, got {base_ns}, {row_ns} and {most_rows}")
        self.base_ns = base_ns
        self.row_ns = row_ns
        self.most_rows = most_rows
        self.sizes = sizes

    def run_ns(self, int64_t rows, /):
        """The expected time of a run of that many rows."""
        return self.expected_ns(rows)

    cdef int64_t expected_ns(self, int64_t rows) except -1:
        cdef int64_t size
        for size in self.sizes:
            if size >= rows:
                rows = size
                break
        if self.row_ns != 0 and rows > (INT64_MAX // 4 - self.base_ns) // self.row_ns:
            return INT64_MAX // 4
        return self.base_ns + self.row_ns * rows


@cython.final
cdef class BatchQueue:
    """Tickets that wait for one model version. The module's text has the rules.

    A `now_ns` that goes back from one call to the next does no harm: what was found due or late stays so. `queued_rows`
    and `len` count every ticket that no method has answered yet, expired ones too. `pays_rows`: a batch takes no more,
    but for a ticket that alone has more; larger ones would hold up those behind them for nothing. `pace_of`: answers
    the `Pace` of a bucket, by its key; None: nobody knows what runs take.
    """

    cdef int64_t max_batch_rows
    cdef int64_t enough_rows
    cdef int64_t max_delay_ns
    cdef int64_t max_queue_rows
    cdef public int64_t pays_rows
    cdef public object pace_of
    cdef readonly int64_t queued_rows
    cdef int64_t arrivals
    cdef int64_t moment
    cdef int64_t choices
    cdef dict entries  # identity of the ticket -> Entry, in order of arrival
    cdef dict buckets  # key -> Bucket; at most one of them is empty: `idle`
    cdef Bucket idle
    cdef Timeline due
    cdef Timeline deadlines
    cdef dict expired  # as `entries`: those whose deadline was found to have come, in that order

    def __cinit__(
        self, int64_t max_batch_rows, int64_t max_delay_ns, int64_t max_queue_rows, int64_t enough_rows=INT64_MAX
    ):
        """`enough_rows`: a batch of so many rows need not wait for more, though there is room."""
        if max_batch_rows < 1 or max_queue_rows < 1 or max_delay_ns < 0 or enough_rows < 1:
            raise ValueError(
                "expected max_batch_rows, max_queue_rows and enough_rows of at least 1 and max_delay_ns of at least 0,"
                f" got {max_batch_rows}, {max_queue_rows}, {enough_rows} and {max_delay_ns}"
            )
        self.max_batch_rows = max_batch_rows
        self.enough_rows = min(enough_rows, max_batch_rows)
        self.max_delay_ns = max_delay_ns
        self.max_queue_rows = max_queue_rows
        self.pays_rows = max_batch_rows
        self.buckets = {}
        self.expired = {}
        self.due = new_timeline(DUE)
        self.deadlines = new_timeline(DEADLINE)
        self.entries = {}

    def __len__(self):
        return len(self.entries)

    def push(
        self,
        object ticket,
        object bucket,
        int64_t rows,
        int64_t now_ns,
        int64_t deadline_ns=0,
        int64_t priority=0,
        bint admitted=False,
    ):
        """Queue the ticket; False, and nothing queued, when the queue would hold more than `max_queue_rows`.

        `admitted`: queue it past that limit too, as the rest of a request whose first part was taken. Raises ValueError
        for rows that fit no batch, a negative time, or a ticket (by identity) that is queued already.
        """
        if rows < 1 or rows > self.max_batch_rows or now_ns < 0 or deadline_ns < 0:
            raise ValueError(
                f"expected 1 to {self.max_batch_rows} rows and times of at least 0,"
                f" got {rows} rows, now_ns {now_ns} and deadline_ns {deadline_ns}"
            )
        if rows > self.max_queue_rows - self.queued_rows and not admitted:
            return False
        cdef Entry entry = Entry.__new__(Entry)
        entry.ticket = ticket
        entry.identity = PyLong_FromVoidPtr(<void*>ticket)  # `id(ticket)`: tickets need not be hashable
        if self.entries.setdefault(entry.identity, entry) is not entry:
            raise ValueError("expected a new ticket, got one that is queued")
        try:
            entry.bucket = self.bucket_of(bucket)
        except BaseException:
            del self.entries[entry.identity]
            raise
        entry.rows = rows
        entry.arrival = self.arrivals
        entry.when_ns[DUE] = self.due_ns(now_ns, deadline_ns)
        entry.when_ns[DEADLINE] = deadline_ns
        entry.place[DUE] = entry.place[DEADLINE] = NOWHERE
        self.arrivals += 1
        self.queued_rows += rows
        self.join(entry, level_of(entry.bucket, priority), now_ns)
        return True

    def ready(self, int64_t now_ns):
        """Whether `pop` would answer a batch or `expire` a ticket."""
        self.set_aside_expired(now_ns)
        self.mature(now_ns)
        cdef Bucket bucket
        if self.expired:
            return True
        for bucket in self.buckets.values():
            if bucket.due_tickets > 0 or bucket.rows >= self.enough_rows:
                return True
        return False

    def pop(self, int64_t now_ns, int64_t share=1):
        """Answer the next batch: tickets of one bucket, together at most `max_batch_rows`; [] when none is ready.

        `share`: how many slots are free, this one counted: no batch takes more than its part of the rows that wait,
        rounded up, or one ticket where that is larger. A batch that took all would leave the other slots idle.
        """
        if share < 1:
            raise ValueError(f"expected a share of at least 1, got {share}")
        self.set_aside_expired(now_ns)
        self.mature(now_ns)
        cdef Bucket bucket = self.choose()
        cdef list batch = []
        if bucket is None:
            return batch
        cdef Pace pace = None if self.pace_of is None else self.pace_of(bucket.key)
        self.moment += 1
        bucket.served = self.moment
        cdef Entry entry = first_entry(bucket)
        cdef int64_t part = (self.queued_rows + share - 1) // share
        cdef int64_t room = min(self.max_batch_rows, max(min(part, self.pays_rows), entry.rows))
        cdef int64_t rows = 0, within_ns = INT64_MAX
        if pace is not None:
            room = min(room, max(pace.most_rows, entry.rows))
        while entry is not None and entry.rows <= room - rows:
            if pace is not None:
                within_ns = min(within_ns, may_take_ns(entry, pace, now_ns))
                if batch and pace.expected_ns(rows + entry.rows) > within_ns:
                    break
            rows += entry.rows
            self.leave(entry)
            self.forget(entry)
            batch.append(entry.ticket)
            entry = first_entry(bucket)
        return batch

    def ahead(self, object bucket, int64_t priority=0):
        """What a ticket that comes to that bucket now would wait for: rows of its own bucket that are not of a lower
        priority, those of the others, and how many others there are."""
        cdef int64_t own = 0, others = 0, rows
        cdef Py_ssize_t count = 0
        cdef Bucket one
        cdef Level level
        for one in self.buckets.values():
            rows = 0
            for level in one.levels:
                if level.priority < priority:
                    break
                rows += level.rows
            if rows == 0:
                continue
            if one.key == bucket:
                own = rows
            else:
                others += rows
                count += 1
        return own, others, count

    def expire(self, int64_t now_ns):
        """Answer the tickets whose deadline has come, in the order in which that was found: earliest deadline first."""
        self.set_aside_expired(now_ns)
        cdef list tickets = []
        cdef Entry entry
        if self.expired:
            for entry in self.expired.values():
                self.forget(entry)
                tickets.append(entry.ticket)
            self.expired = {}
        return tickets

    def remove(self, object ticket):
        """Take the ticket (by identity) out; False when it is not queued."""
        cdef object identity = PyLong_FromVoidPtr(<void*>ticket)
        cdef Entry entry = self.entries.get(identity)
        if entry is None:
            return False
        if entry.bucket is None:
            del self.expired[entry.identity]
        else:
            self.leave(entry)
        self.forget(entry)
        return True

    def clear(self):
        """Take out and answer all tickets, in order of arrival."""
        cdef list tickets = []
        cdef Entry entry
        for entry in list(self.entries.values()):
            if entry.bucket is not None:
                self.leave(entry)
            self.forget(entry)
            tickets.append(entry.ticket)
        self.expired = {}
        return tickets

    def next_event_ns(self):
        """The earliest time at which a waiting ticket becomes due or a deadline comes; 0 when no such time is ahead.

        So after a `pop` that answered [], nothing changes before then but by `push`. Tickets that are due already, and
        only wait for a slot, count with their deadlines alone. The time is past when it came and nobody asked since.
        """
        cdef Entry entry
        cdef int64_t event_ns = INT64_MAX
        if self.expired:
            for entry in self.expired.values():
                return entry.when_ns[DEADLINE]
        entry = self.due.earliest()
        if entry is not None:
            event_ns = entry.when_ns[DUE]
        entry = self.deadlines.earliest()
        if entry is not None and entry.when_ns[DEADLINE] < event_ns:
            event_ns = entry.when_ns[DEADLINE]
        return 0 if event_ns == INT64_MAX else event_ns

    cdef Bucket bucket_of(self, object key):
        """The bucket of that key, made when it is not there."""
        cdef Bucket bucket = self.idle
        if bucket is not None and bucket.key is key:
            self.idle = None
            return bucket
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = Bucket.__new__(Bucket)
            bucket.key = key
            bucket.levels = [Level.__new__(Level)]
            self.buckets[key] = bucket
        elif bucket is self.idle:
            self.idle = None
        return bucket

    cdef inline int64_t due_ns(self, int64_t now_ns, int64_t deadline_ns):
        """When a ticket that comes now has waited long enough for company."""
        cdef int64_t wait_ns = self.max_delay_ns
        if deadline_ns != 0:
            wait_ns = min(wait_ns, max(deadline_ns - now_ns, 0) // 2)
        return now_ns + min(wait_ns, INT64_MAX - now_ns)

    cdef int join(self, Entry entry, Level level, int64_t now_ns) except -1:
        """Put the entry at the end of its level and into its bucket's counts and the timelines."""
        cdef Bucket bucket = entry.bucket
        entry.level = level
        entry.before = level.last
        if level.last is None:
            level.first = entry
        else:
            level.last.after = entry
        level.last = entry
        level.rows += entry.rows
        if bucket.rows == 0:
            self.moment += 1
            bucket.served = self.moment
        bucket.rows += entry.rows
        if entry.when_ns[DUE] <= now_ns:
            bucket.due_tickets += 1
        else:
            self.due.add(entry)
        if entry.when_ns[DEADLINE] != 0:
            self.deadlines.add(entry)
        return 0

    cdef int leave(self, Entry entry) except -1:
        """Take the entry out of its bucket and the timelines; an empty bucket stays only as the idle one."""
        cdef Bucket bucket = entry.bucket
        leave_level(entry)
        if entry.place[DUE] == NOWHERE:
            bucket.due_tickets -= 1
        else:
            self.due.discard(entry)
        self.deadlines.discard(entry)
        bucket.rows -= entry.rows
        entry.bucket = None
        if bucket.rows == 0:
            if self.idle is not None:
                del self.buckets[self.idle.key]
            self.idle = bucket
        return 0

    cdef inline int forget(self, Entry entry) except -1:
        """Give up the ticket: the caller answers it."""
        self.queued_rows -= entry.rows
        del self.entries[entry.identity]
        return 0

    cdef int set_aside_expired(self, int64_t now_ns) except -1:
        """Move the tickets whose deadline has come from their buckets to `expired`."""
        cdef Entry entry = self.deadlines.earliest()
        while entry is not None and entry.when_ns[DEADLINE] <= now_ns:
            self.leave(entry)
            self.expired[entry.identity] = entry
            entry = self.deadlines.earliest()
        return 0

    cdef int mature(self, int64_t now_ns) except -1:
        """Count the tickets that have become due in their buckets."""
        cdef Entry entry = self.due.earliest()
        while entry is not None and entry.when_ns[DUE] <= now_ns:
            self.due.discard(entry)
            entry.bucket.due_tickets += 1
            entry = self.due.earliest()
        return 0

    cdef Bucket choose(self):
        """The ready bucket whose turn it is; None when none is ready."""
        cdef Bucket bucket, foremost = None, neglected = None
        cdef Py_ssize_t ready = 0
        for bucket in self.buckets.values():
            if bucket.due_tickets == 0 and bucket.rows < self.enough_rows:
                continue
            ready += 1
            if foremost is None or self.goes_before(bucket, foremost):
                foremost = bucket
            if neglected is None or bucket.served < neglected.served:
                neglected = bucket
        if ready < 2:
            return foremost
        self.choices += 1
        return neglected if self.choices % FAIR_TURN == 0 else foremost

    cdef inline bint goes_before(self, Bucket one, Bucket other):
        """Whether the first ticket of `one` has the higher priority, or the same and came first."""
        cdef Level mine = <Level>PyList_GET_ITEM(one.levels, 0)
        cdef Level theirs = <Level>PyList_GET_ITEM(other.levels, 0)
        if mine.priority != theirs.priority:
            return mine.priority > theirs.priority
        return mine.first.arrival < theirs.first.arrival
