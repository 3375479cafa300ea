"""What a run of so many rows takes, from the runs that were: followed with forgetting, one cell per power of two.

Disturbance only ever adds time, so a faster run counts with half its weight at once, a slower one with a sixteenth and
as twice the known time at most: one disturbed run moves the estimate by a sixteenth, a model that really slows down
doubles it within a dozen runs.

Thread: any; both methods are a few machine instructions under the GIL.
"""

from libc.stdint cimport INT64_MAX, int64_t

UNKNOWN_NS = 1 << 62
"""The estimate where nothing of about that size was measured: longer than any limit."""

cdef enum:
    CELLS = 64

cdef int64_t UNKNOWN = 1 << 62


cdef inline int cell_of(int64_t rows) noexcept nogil:
    """The number of binary digits of `rows`; 0 for none."""
    cdef int digits = 0
    while rows > 0:
        digits += 1
        rows >>= 1
    return digits


cdef class CostTable:
    """Expected times of runs, in ns."""

    cdef int64_t[CELLS] cells

    def __cinit__(self):
        cdef int i
        for i in range(CELLS):
            self.cells[i] = UNKNOWN

    def estimate_ns(self, int64_t rows, /):
        """The expected time of a run of that many rows; UNKNOWN_NS where nothing of about that size was measured."""
        return self.cells[cell_of(rows)]

    def observe(self, int64_t rows, int64_t run_ns, /):
        """Take a measured run in. Times below 0 count as 0."""
        cdef int cell = cell_of(rows)
        cdef int64_t known = self.cells[cell]
        run_ns = min(max(run_ns, 0), UNKNOWN - 1)
        if known == UNKNOWN:
            self.cells[cell] = run_ns
        elif run_ns < known:
            self.cells[cell] = run_ns + (known - run_ns) // 2
        else:
            self.cells[cell] = known + min(run_ns - known, known) // 16
