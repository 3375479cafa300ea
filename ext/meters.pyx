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


cdef class RunMeter:
    """Four histograms that every run is counted in by one call: its wait, its time, the answer's time, its rows."""

    cdef Histogram queue
    cdef Histogram run
    cdef Histogram encode
    cdef Histogram rows

    def __cinit__(
        self, Histogram queue not None, Histogram run not None, Histogram encode not None, Histogram rows not None
    ):
        self.queue = queue
        self.run = run
        self.encode = encode
        self.rows = rows

    def observe(self, int64_t queue_ns, int64_t run_ns, int64_t encode_ns, int64_t rows, /):
        """Count one value in each."""
        self.queue.count_one(queue_ns)
        self.run.count_one(run_ns)
        self.encode.count_one(encode_ns)
        self.rows.count_one(rows)
