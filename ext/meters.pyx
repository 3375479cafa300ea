"""Counters and histograms for a 25 us request path: tens of nanoseconds each, in cells that others may read.

Thread: any; an increment is a few machine instructions under the GIL, so none is lost between threads. Processes that
share a mapping must own different cells.
Memory: cells are 64-bit integers of a writable buffer (a NumPy array, a memory-mapped file); each meter holds the
buffer, so it can neither move nor go away.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc


cdef inline void increase(int64_t* cell, int64_t amount) noexcept nogil:
    """Add with wrap-around at 64 bits: a sum that overflows must not be undefined behaviour."""
    cell[0] = <int64_t>(<uint64_t>cell[0] + <uint64_t>amount)


cdef int64_t* hold_cells(object cells, Py_buffer* view, Py_ssize_t at, Py_ssize_t count) except NULL:
    """Take the buffer of `cells` into `view` and answer the address of `count` cells from index `at`."""
    PyObject_GetBuffer(cells, view, PyBUF_WRITABLE)
    cdef Py_ssize_t held = view.len // <Py_ssize_t>sizeof(int64_t)
    if at < 0 or count > held or at > held - count:
        PyBuffer_Release(view)
        raise ValueError(f"expected {count} cells from index {at}, got a buffer of {held}")
    if <uintptr_t>view.buf % sizeof(int64_t) != 0:
        PyBuffer_Release(view)
        raise ValueError("expected a buffer aligned to 8 bytes")
    return <int64_t*>view.buf + at


cdef class Counter:
    """A sum in one 64-bit cell of a shared buffer."""

    cdef Py_buffer view
    cdef int64_t* cell  # borrowed from `view`; NULL when the constructor failed

    def __cinit__(self, object cells, Py_ssize_t at):
        self.cell = hold_cells(cells, &self.view, at, 1)

    def __dealloc__(self):
        if self.cell is not NULL:
            PyBuffer_Release(&self.view)

    def add(self, int64_t amount=1, /):
        """Increase the sum. Raises ValueError for a negative amount: a counter only grows."""
        if amount < 0:
            raise ValueError(f"expected an amount of at least 0, got {amount}")
        increase(self.cell, amount)

    @property
    def value(self):
        """The sum so far."""
        return self.cell[0]


cdef class Histogram:
    """Bucket counts and a sum in `len(bounds) + 2` cells of a shared buffer.

    Cell i counts the values above bounds[i - 1] and up to bounds[i]; the last but one those above every bound; the last
    cell is the sum. The count is that of all buckets.
    """

    cdef Py_buffer view
    cdef int64_t* cells  # borrowed from `view`; NULL when the constructor failed
    cdef int64_t* bounds  # owned; strictly ascending
    cdef Py_ssize_t bound_count

    def __cinit__(self, object cells, Py_ssize_t at, tuple bounds not None):
        self.bounds = <int64_t*>malloc((len(bounds) + 1) * sizeof(int64_t))
        if self.bounds is NULL:
            raise MemoryError
        self.bound_count = len(bounds)
        cdef Py_ssize_t i
        for i in range(self.bound_count):
            self.bounds[i] = PyNumber_Index(bounds[i])  # a plain conversion would cut 0.5 to 0
            if i > 0 and self.bounds[i] <= self.bounds[i - 1]:
                raise ValueError(f"expected ascending bounds, got {bounds}")
        self.cells = hold_cells(cells, &self.view, at, self.bound_count + 2)

    def __dealloc__(self):
        free(self.bounds)
        if self.cells is not NULL:
            PyBuffer_Release(&self.view)

    def observe(self, int64_t value, /):
        """Count one value in its bucket and add it to the sum."""
        self.count_one(value)

    def observe_since(self, list began not None, int64_t now, /):
        """Count the distance from each of `began` to `now`."""
        cdef int64_t one
        for item in began:
            one = item
            self.count_one(now - one)

    def observe_all(self, list values not None, /):
        """Count each of `values`."""
        cdef int64_t one
        for item in values:
            one = item
            self.count_one(one)

    cdef inline void count_one(self, int64_t value) noexcept:
        # A few tens of bounds at most: counting those below the value needs no branch that can be predicted wrongly.
        cdef Py_ssize_t bucket = 0, i
        for i in range(self.bound_count):
            bucket += self.bounds[i] < value
        self.cells[bucket] += 1
        increase(self.cells + self.bound_count + 1, value)

    @property
    def buckets(self):
        """How many values fell into each bucket; not cumulative."""
        return tuple([self.cells[i] for i in range(self.bound_count + 1)])

    @property
    def total(self):
        """The sum of all values."""
        return self.cells[self.bound_count + 1]

    @property
    def count(self):
        """How many values were observed."""
        return sum(self.buckets)


cdef class Tally:
    """Sums side by side, `count` cells of a shared buffer."""

    cdef Py_buffer view
    cdef int64_t* cells  # borrowed from `view`; NULL when the constructor failed
    cdef readonly Py_ssize_t count

    def __cinit__(self, object cells, Py_ssize_t at, Py_ssize_t count):
        if count < 1:
            raise ValueError(f"expected a count of at least 1, got {count}")
        self.cells = hold_cells(cells, &self.view, at, count)
        self.count = count

    def __dealloc__(self):
        if self.cells is not NULL:
            PyBuffer_Release(&self.view)

    @property
    def values(self):
        """What the cells hold."""
        return tuple([self.cells[i] for i in range(self.count)])


cdef enum:
    SUCCESSES, SUCCESS_NS, FAILURES, FAILURE_NS, QUEUE_NS, INPUT_NS, RUN_NS, OUTPUT_NS, ROWS, RUNS, SUMS
    SIZE_RUNS = 0, SIZE_INPUT_NS, SIZE_RUN_NS, SIZE_OUTPUT_NS, SIZE_SUMS
    SIZES = 32
    LARGEST_SIZE = 1 << 20

VERSION_SUMS = SUMS
SIZES_PER_TALLY = SIZES
SUMS_PER_SIZE = SIZE_SUMS


cdef class VersionMeter:
    """What one version's requests and runs take, by one call each: into histograms, and into sums that are exact.

    `sums` holds, in order: requests answered and their time; requests failed and their time; of those answered the
    time in the queue, before it, in runs, and in giving the answer; rows; runs. `last` holds when a run ended last.
    `sizes(n)` makes the sums of batches of n * SIZES_PER_TALLY rows and up, four each: runs, the time before, in and
    after them.

    A request's run counts in full for each request of a batch, and once for the batch's size. A request whose
    `received_ns` is 0 came when it was queued; below 0 it is part of another one, that `whole` counts.
    """

    cdef Histogram queue
    cdef Histogram run
    cdef Histogram encode
    cdef Histogram rows
    cdef Tally sums
    cdef Tally last
    cdef object make_sizes
    cdef list sizes

    def __cinit__(
        self,
        Histogram queue not None,
        Histogram run not None,
        Histogram encode not None,
        Histogram rows not None,
        Tally sums not None,
        Tally last not None,
        object sizes not None,
    ):
        if sums.count < SUMS:
            raise ValueError(f"expected {SUMS} sums, got {sums.count}")
        self.queue = queue
        self.run = run
        self.encode = encode
        self.rows = rows
        self.sums = sums
        self.last = last
        self.make_sizes = sizes
        self.sizes = []

    cdef int64_t* size_cells(self, int64_t rows) except NULL:
        """The sums of batches of so many rows, made where they are the first."""
        if rows < 0 or rows > LARGEST_SIZE:
            raise ValueError(f"expected 0 to {LARGEST_SIZE} rows, got {rows}")
        cdef Py_ssize_t place = rows // SIZES
        if place >= len(self.sizes) or self.sizes[place] is None:
            self.make_room(place)
        cdef Tally sums = self.sizes[place]
        return sums.cells + (rows % SIZES) * SIZE_SUMS

    cdef int make_room(self, Py_ssize_t place) except -1:
        # `make_sizes` answers the same cells however often it is asked: threads that come at once share them.
        cdef Tally made = self.make_sizes(place)
        if made is None:
            raise TypeError("expected a Tally, got None")
        if made.count < SIZES * SIZE_SUMS:
            raise ValueError(f"expected {SIZES * SIZE_SUMS} sums, got {made.count}")
        while place >= len(self.sizes):
            self.sizes.append(None)
        self.sizes[place] = made
        return 0

    cdef inline int count_run(self, int64_t rows, int64_t run_ns, int64_t now_ns) except -1:
        cdef int64_t* size = self.size_cells(rows)
        self.run.count_one(run_ns)
        self.rows.count_one(rows)
        increase(self.sums.cells + RUNS, 1)
        increase(size + SIZE_RUNS, 1)
        increase(size + SIZE_RUN_NS, run_ns)
        if now_ns > self.last.cells[0]:
            self.last.cells[0] = now_ns
        return 0

    cdef inline int count_request(
        self,
        int64_t received_ns,
        int64_t queued_ns,
        int64_t run_began_ns,
        int64_t run_ended_ns,
        int64_t encode_began_ns,
        int64_t now_ns,
        int64_t rows,
        int64_t batch_rows,
    ) except -1:
        cdef int64_t* size = self.size_cells(batch_rows)
        cdef int64_t* sums = self.sums.cells
        cdef int64_t queue_ns = run_began_ns - queued_ns, run_ns = run_ended_ns - run_began_ns
        cdef int64_t encode_ns = now_ns - encode_began_ns, input_ns = 0
        self.queue.count_one(queue_ns)
        self.encode.count_one(encode_ns)
        increase(sums + QUEUE_NS, queue_ns)
        increase(sums + RUN_NS, run_ns)
        increase(sums + OUTPUT_NS, encode_ns)
        increase(sums + ROWS, rows)
        increase(size + SIZE_OUTPUT_NS, encode_ns)
        if received_ns < 0:
            return 0
        if received_ns > 0:
            input_ns = queued_ns - received_ns
        increase(sums + SUCCESSES, 1)
        increase(sums + SUCCESS_NS, now_ns - queued_ns + input_ns)
        increase(sums + INPUT_NS, input_ns)
        increase(size + SIZE_INPUT_NS, input_ns)
        return 0

    def lone(self, int64_t received_ns, int64_t began_ns, int64_t ended_ns, int64_t now_ns, int64_t rows, /):
        """A request that did not wait, its run from `began_ns` to `ended_ns`, and its answer, given by `now_ns`."""
        self.count_run(rows, ended_ns - began_ns, ended_ns)
        self.count_request(received_ns, began_ns, began_ns, ended_ns, ended_ns, now_ns, rows, rows)

    def block(
        self, list received_ns not None, list rows not None, int64_t began_ns, int64_t ended_ns, int64_t now_ns, /
    ):
        """One run, from `began_ns` to `ended_ns`, of requests that did not wait for it; all are answered by now."""
        cdef int64_t total = 0, count, received, each_ns
        if len(rows) != len(received_ns):
            raise ValueError(f"expected {len(received_ns)} row counts, got {len(rows)}")
        for item in rows:
            count = item
            total += count
        self.count_run(total, ended_ns - began_ns, ended_ns)
        each_ns = (now_ns - ended_ns) // max(1, <int64_t>len(rows))
        for at in range(len(rows)):
            received = received_ns[at]
            count = rows[at]
            self.count_request(received, began_ns, began_ns, ended_ns, now_ns - each_ns, now_ns, count, total)

    def ran(self, int64_t rows, int64_t run_ns, int64_t now_ns, /):
        """A run of so many rows, ended now. Raises ValueError for more rows than any batch has."""
        self.count_run(rows, run_ns, now_ns)

    def answered(
        self,
        int64_t received_ns,
        int64_t queued_ns,
        int64_t run_began_ns,
        int64_t run_ended_ns,
        int64_t encode_began_ns,
        int64_t now_ns,
        int64_t rows,
        int64_t batch_rows,
        /,
    ):
        """A request in a batch of `batch_rows`, whose answer was given from `encode_began_ns` to now."""
        self.count_request(
            received_ns, queued_ns, run_began_ns, run_ended_ns, encode_began_ns, now_ns, rows, batch_rows
        )

    def whole(self, int64_t received_ns, int64_t queued_ns, int64_t now_ns, /):
        """A request whose parts were counted as they were answered."""
        cdef int64_t* sums = self.sums.cells
        cdef int64_t input_ns = queued_ns - received_ns if received_ns > 0 else 0
        increase(sums + SUCCESSES, 1)
        increase(sums + SUCCESS_NS, now_ns - queued_ns + input_ns)
        increase(sums + INPUT_NS, input_ns)

    def failed(self, int64_t elapsed_ns, /):
        """A request that was accepted, and not answered with what it asked for."""
        increase(self.sums.cells + FAILURES, 1)
        increase(self.sums.cells + FAILURE_NS, elapsed_ns)
