"""Load on a server: a loop over many connections without the GIL, answers read from pieces, latencies in fine buckets.

Thread: `Driver.run` keeps its thread, without the GIL; `stop`, `good` and `bad` may be used by any other meanwhile,
everything else only when it does not run.
Memory: a driver holds the requests' bytes; its buffers are taken when it is made.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.map cimport map as cmap
from libcpp.memory cimport unique_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector

import socket
import ssl

import numpy as np


cdef extern from "hdr_counts.hpp" namespace "loadgen" nogil:
    cdef cppclass HdrCounts:
        @staticmethod
        size_t bucket_of(int64_t value)
        @staticmethod
        int64_t lowest_in(size_t bucket)
        @staticmethod
        int64_t highest_in(size_t bucket)
        void record(int64_t value, int64_t times)
        void add(const HdrCounts& other)
        int64_t at_share(double share)
        int64_t count()
        int64_t least()
        int64_t most()
        double mean()
        int64_t in_bucket(size_t bucket)
    size_t BUCKETS "loadgen::HdrCounts::BUCKETS"
    int64_t HIGHEST "loadgen::HdrCounts::HIGHEST"


cdef extern from "http_answer.hpp" namespace "loadgen" nogil:
    cdef enum class Reading:
        MORE
        DONE
        BAD

    cdef cppclass CAnswerReader "loadgen::AnswerReader":
        void reset()
        Reading feed(const char* data, size_t size, size_t& used) except +
        Reading end()
        int status()
        cbool keeps()
        uint64_t body_bytes()
        const char* fault()
        const string& sample()


cdef extern from "load_loop.hpp" namespace "loadgen" nogil:
    long WANTS_READ
    long WANTS_WRITE
    long BROKEN

    cdef cppclass Wire:
        void* self
        long (*open)(void*, int, int) noexcept
        long (*shake)(void*, int) noexcept
        long (*read)(void*, int, char*, size_t) noexcept
        long (*write)(void*, int, const char*, size_t) noexcept
        void (*close)(void*, int) noexcept

    cdef cppclass Bytes:
        const char* data
        size_t size

    cdef cppclass Plan:
        int64_t duration_ns
        int64_t max_requests
        double per_s
        cbool poisson
        uint64_t seed
        int64_t timeout_ns
        vector[int64_t] times_ns

    cdef cppclass Slice:
        int64_t good
        int64_t failed
        int64_t most_ns

    cdef cppclass Counts:
        int64_t by_status[1000]
        int64_t by_failure[6]
        cmap[int, string] samples
        string reasons[6]
        HdrCounts latency
        HdrCounts service
        HdrCounts failed
        HdrCounts late
        int64_t good_in_time
        int64_t sent_bytes
        int64_t received_bytes
        int64_t connections
        int64_t unfinished
        int64_t elapsed_ns
        int64_t slice_ns
        vector[Slice] slices

    cdef cppclass Arrivals:
        Arrivals(double per_s, cbool poisson, uint64_t seed)
        int64_t next()

    cdef cppclass Loop:
        Loop(size_t connections, vector[Bytes] requests, Wire wire, cbool keeps) except +
        cbool aim(int family, const string& host, uint16_t port)
        void stop()
        void run(const Plan& plan) except +
        Counts& counts()
        int64_t good()
        int64_t bad()


FAILURES = ("connect", "tls", "closed", "timeout", "protocol", "unsent")
"""What may become of a request other than a status, in the order of load_loop.hpp."""

HIGHEST_VALUE = HIGHEST
"""The largest value that a histogram tells apart: 73 minutes in nanoseconds."""


cdef bytes bytes_of(const string& text):
    return text.data()[:text.size()]


cdef class HdrHistogram:
    """Counts of values, each at most a thousandth off: exact below 2048, 1024 buckets in every doubling above."""

    cdef HdrCounts counts

    def record(self, int64_t value, int64_t times=1, /):
        """Count `value` (below 0 as 0, above HIGHEST_VALUE as that). Raises ValueError for negative `times`."""
        if times < 0:
            raise ValueError(f"expected a value at least 0 times, got {times}")
        if times > 0:
            self.counts.record(value, times)

    def add(self, HdrHistogram other not None, /):
        """Count everything that `other` has counted."""
        self.counts.add(other.counts)

    def quantile(self, double share, /):
        """The value that `share` (0 to 1) of all are not above; 0 where nothing was counted."""
        if not 0 <= share <= 1:
            raise ValueError(f"expected a share between 0 and 1, got {share}")
        return self.counts.at_share(share)

    @property
    def count(self):
        """How many values were counted."""
        return self.counts.count()

    @property
    def least(self):
        """The smallest value; 0 where nothing was counted."""
        return self.counts.least()

    @property
    def most(self):
        """The largest value; 0 where nothing was counted."""
        return self.counts.most()

    @property
    def mean(self):
        """The mean of all values; 0 where nothing was counted."""
        return self.counts.mean()

    def buckets(self):
        """Every bucket that is not empty: two arrays, the highest value in each and its count."""
        cdef size_t at
        highest = []
        counts = []
        for at in range(BUCKETS):
            if self.counts.in_bucket(at):
                highest.append(HdrCounts.highest_in(at))
                counts.append(self.counts.in_bucket(at))
        return np.array(highest, np.int64), np.array(counts, np.int64)


cdef HdrHistogram histogram_of(const HdrCounts& counts):
    cdef HdrHistogram histogram = HdrHistogram.__new__(HdrHistogram)
    histogram.counts.add(counts)
    return histogram


cdef class AnswerReader:
    """One HTTP answer from pieces. After it is over: `status`, `keeps` (the connection), `body_bytes`, `sample`."""

    cdef CAnswerReader reader
    cdef bint over

    def __cinit__(self):
        self.reader.reset()

    def feed(self, bytes piece not None, /):
        """How many of the piece's bytes are the answer's, once it is over; None while more must come.

        Raises ValueError, naming the fault, where it is no answer, or for a call after its end.
        """
        cdef size_t used = 0
        if self.over:
            raise ValueError("expected no more: the answer is over")
        cdef Reading reading = self.reader.feed(PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), used)
        return self.outcome(reading, used)

    def end(self):
        """The peer has closed: whether that ended the answer properly (ValueError where it did not)."""
        if self.over:
            raise ValueError("expected no more: the answer is over")
        return self.outcome(self.reader.end(), 0) is not None

    cdef object outcome(self, Reading reading, size_t used):
        self.over = reading != Reading.MORE
        if reading == Reading.BAD:
            raise ValueError(self.reader.fault().decode())
        return None if reading == Reading.MORE else used

    @property
    def status(self):
        """The status; 0 before the first line."""
        return self.reader.status()

    @property
    def keeps(self):
        """Whether the connection may be used again."""
        return self.reader.keeps()

    @property
    def body_bytes(self):
        """How long the body is, without the framing of chunks."""
        return self.reader.body_bytes()

    @property
    def sample(self):
        """The beginning of the body of an answer that is not 2xx."""
        return bytes_of(self.reader.sample())


def arrivals(double per_s, int64_t count, bint poisson=True, uint64_t seed=0):
    """The first `count` times, in ns after the beginning, at which requests of an open loop arrive."""
    cdef unique_ptr[Arrivals] times
    cdef int64_t at
    if not per_s > 0 or count < 0:
        raise ValueError(f"expected a rate above 0 and a count of at least 0, got {per_s} and {count}")
    times.reset(new Arrivals(per_s, poisson, seed))
    told = np.empty(count, np.int64)
    cdef int64_t[::1] view = told
    for at in range(count):
        view[at] = times.get().next()
    return told


cdef class Driver:
    """So many connections to one server, on which `requests` (whole HTTP requests) are sent in turn.

    `family`, `host`, `port`: AF_INET or AF_INET6 and a numeric address, or AF_UNIX and a path. `tls`: an SSLContext, to
    speak TLS; its work is done under the GIL. `keep_alive` False: a connection for each request, which says so too.
    Raises ValueError for an address that is none.
    """

    cdef unique_ptr[Loop] loop
    cdef list requests
    cdef object tls
    cdef str server_name
    cdef list sockets  # by slot: the SSLSocket, or None
    cdef str tls_reason
    cdef bint runs

    def __cinit__(
        self, int family, str host not None, int port, list requests not None, int connections,
        object tls=None, str server_name="", *, bint keep_alive=True,
    ):
        if connections < 1 or not requests or not 0 <= port < 65536:
            raise ValueError(
                f"expected connections, requests and a port, got {connections}, {len(requests)} and {port}"
            )
        self.requests = [bytes(request) for request in requests]
        self.tls = tls
        self.server_name = server_name
        self.sockets = [None] * connections
        self.tls_reason = ""
        cdef vector[Bytes] pieces
        cdef Bytes piece
        cdef bytes request
        for request in self.requests:
            if not request:
                raise ValueError("expected requests of at least one byte")
            piece.data = PyBytes_AS_STRING(request)
            piece.size = PyBytes_GET_SIZE(request)
            pieces.push_back(piece)
        cdef Wire wire
        if tls is not None:
            wire.self = <void*>self
            wire.open = tls_open
            wire.shake = tls_shake
            wire.read = tls_read
            wire.write = tls_write
            wire.close = tls_close
        self.loop.reset(new Loop(connections, move(pieces), wire, keep_alive))
        if not self.loop.get().aim(family, host.encode(), port):
            raise ValueError(f"expected a numeric address or the path of a socket, got {host!r}")

    def __dealloc__(self):
        self.loop.reset()  # closes what is open, through `sockets` where it is TLS

    def run(
        self, *, int64_t duration_ns=0, int64_t max_requests=0, double per_s=0.0, bint poisson=True, uint64_t seed=0,
        int64_t timeout_ns, const int64_t[::1] times_ns=None,
    ):
        """Send until the duration or the number is over, then wait for what is in flight; counts start anew.

        `per_s` 0: a closed loop, each connection sends when it has its answer; else an open loop at that rate, or
        with arrivals at `times_ns` after its beginning, ascending. Blocks without the GIL, for no longer than the
        duration and the timeout.
        """
        cdef int64_t when
        if (duration_ns <= 0 and max_requests <= 0) or timeout_ns <= 0 or not 0 <= per_s < 1e9 or self.runs:
            raise ValueError("expected a duration or a number of requests, a timeout, a rate, and one run at a time")
        cdef Plan plan
        if times_ns is not None:
            for when in times_ns:
                if when < (plan.times_ns.back() if plan.times_ns.size() > 0 else 0):
                    raise ValueError("expected arrivals in their order")
                plan.times_ns.push_back(when)
        if plan.times_ns.size() > 0 and per_s == 0:
            raise ValueError("expected the rate of the arrivals, too")
        plan.duration_ns = max(0, duration_ns)
        plan.max_requests = max(0, max_requests)
        plan.per_s = per_s
        plan.poisson = poisson
        plan.seed = seed
        plan.timeout_ns = timeout_ns
        self.runs = True
        try:
            with nogil:
                self.loop.get().run(plan)
        finally:
            self.runs = False

    def stop(self):
        """End the run now, and any later one; what is in flight is given up."""
        self.loop.get().stop()

    @property
    def good(self):
        """2xx answers of this run so far."""
        return self.loop.get().good()

    @property
    def bad(self):
        """Requests of this run, so far, that have any other outcome."""
        return self.loop.get().bad()

    def counts(self):
        """What became of the last run, as a dict of plain values and four histograms in ns."""
        if self.runs:
            raise ValueError("expected no run: counts are there when it is over")
        cdef Counts* counts = &self.loop.get().counts()
        cdef int at
        cdef pair[int, string] sample
        cdef Slice slice
        samples = {}
        for sample in counts.samples:
            samples[sample.first] = bytes_of(sample.second)
        slices = []
        for slice in counts.slices:
            slices.append((slice.good, slice.failed, slice.most_ns))
        reasons = {}
        for at in range(len(FAILURES)):
            if counts.by_failure[at] and counts.reasons[at].size() > 0:
                reasons[FAILURES[at]] = bytes_of(counts.reasons[at]).decode("utf-8", "replace")
        if "tls" in reasons and self.tls_reason:
            reasons["tls"] = self.tls_reason
        return {
            "by_status": {at: counts.by_status[at] for at in range(1000) if counts.by_status[at]},
            "by_failure": {FAILURES[at]: counts.by_failure[at] for at in range(6) if counts.by_failure[at]},
            "samples": samples,
            "reasons": reasons,
            "latency": histogram_of(counts.latency),
            "service": histogram_of(counts.service),
            "failed": histogram_of(counts.failed),
            "late": histogram_of(counts.late),
            "good_in_time": counts.good_in_time,
            "sent_bytes": counts.sent_bytes,
            "received_bytes": counts.received_bytes,
            "connections": counts.connections,
            "unfinished": counts.unfinished,
            "elapsed_ns": counts.elapsed_ns,
            "slice_ns": counts.slice_ns,
            "slices": slices,
        }


# --- TLS: what `Wire` asks for, done by Python's own ssl. Nothing is raised: what went wrong is BROKEN, its text kept.

cdef long tls_open(void* self, int slot, int fd) noexcept with gil:
    cdef Driver driver = <Driver>self
    plain = None
    try:
        plain = socket.socket(fileno=fd)
        plain.setblocking(False)
        driver.sockets[slot] = driver.tls.wrap_socket(
            plain, server_hostname=driver.server_name or None, do_handshake_on_connect=False
        )
        return 0
    except Exception as error:
        if plain is not None:
            plain.detach()
        return broken(driver, error)


cdef long tls_shake(void* self, int slot) noexcept with gil:
    cdef Driver driver = <Driver>self
    try:
        driver.sockets[slot].do_handshake()
        return 0
    except ssl.SSLWantReadError:
        return WANTS_READ
    except ssl.SSLWantWriteError:
        return WANTS_WRITE
    except Exception as error:
        return broken(driver, error)


cdef long tls_read(void* self, int slot, char* into, size_t size) noexcept with gil:
    cdef Driver driver = <Driver>self
    try:
        return driver.sockets[slot].recv_into(<char[:size]>into)
    except ssl.SSLWantReadError:
        return WANTS_READ
    except ssl.SSLWantWriteError:
        return WANTS_WRITE
    except Exception as error:
        return broken(driver, error)


cdef long tls_write(void* self, int slot, const char* data, size_t size) noexcept with gil:
    cdef Driver driver = <Driver>self
    try:
        return driver.sockets[slot].send(<const char[:size]>data)
    except ssl.SSLWantReadError:
        return WANTS_READ
    except ssl.SSLWantWriteError:
        return WANTS_WRITE
    except Exception as error:
        return broken(driver, error)


cdef void tls_close(void* self, int slot) noexcept with gil:
    """Give the descriptor back to the loop, which closes it."""
    cdef Driver driver = <Driver>self
    if driver.sockets[slot] is not None:
        driver.sockets[slot].detach()
        driver.sockets[slot] = None


cdef long broken(Driver driver, object error):
    if not driver.tls_reason:
        driver.tls_reason = str(error)
    return BROKEN
