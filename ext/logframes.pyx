"""Frames of the prediction log, as `store/frames` describes them: a whole append's bytes in one call.

Thread: any; the GIL is given up where there is much to sum up.
Memory: payloads up to LARGE_BYTES are copied to one bytes object with the heads around them; larger ones are handed
back as they came.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libcpp.vector cimport vector

cdef extern from "log_frames.hpp" namespace "fastserve" nogil:
    cdef cppclass LogFrame:
        uint32_t word
        const char* payload
        uint32_t bytes
        uint64_t seq

    char* write_frame(char*, const LogFrame&, uint64_t, uint32_t, bint)

LARGE_BYTES = 64 << 10
FRAME_BYTES = 32
MARK = b"\xf7\x9c\x1e"

cdef enum:
    LARGE = 64 << 10
    HEAD = 32
    MARK_WORD = 0x1E9CF7 << 8
    CONTINUES = 0x80
    MORE = 0x40
    KIND_BITS = 0x1F
    VOUCHES = 0x20
    MOST = 1 << 30
    NOGIL_BYTES = 64 << 10  # below this, giving up the GIL costs more than it saves


def encode(append, uint64_t ingest_ns, uint64_t seq, uint64_t seq_step, uint32_t seed, int flags, /):
    """The frames of one append (kinds and payloads), as pieces to be written one after the other.

    `seq`: of the first frame; each other one's is `seq_step` more. `flags`: of the first one. Raises TypeError,
    ValueError and OverflowError (a payload of more than 2^30 bytes, a kind that is none) for what no frame can hold.
    """
    cdef tuple items = tuple([_pair(one) for one in append])  # nobody else changes it while the GIL is away
    cdef Py_ssize_t count = len(items), at = 0, end
    cdef vector[LogFrame] frames
    frames.reserve(count)
    cdef uint32_t bits = flags & VOUCHES
    for at in range(count):
        if at < count - 1:
            bits |= MORE
        frames.push_back(_frame(items[at], bits, seq + <uint64_t>at * seq_step))
        bits = CONTINUES
    cdef list pieces = []
    at = 0
    while at < count:
        end = _end_of_piece(frames, at)
        pieces.append(_piece(frames, at, end, ingest_ns, seed))
        if frames[end - 1].bytes > LARGE:
            pieces.append((<tuple>items[end - 1])[1])
        at = end
    return pieces


cdef tuple _pair(one):
    """Kind and payload, as nobody can change them."""
    kind, payload = one
    if type(payload) is not bytes:
        raise TypeError(f"expected bytes, got {type(payload).__name__}")
    return int(kind), payload


cdef LogFrame _frame(tuple item, uint32_t bits, uint64_t seq) except *:
    cdef LogFrame frame
    cdef long kind = item[0]
    cdef bytes payload = item[1]
    if not 0 <= kind <= KIND_BITS:
        raise OverflowError(f"expected a kind from 0 to {KIND_BITS}, got {kind}")
    if PyBytes_GET_SIZE(payload) > MOST:
        raise OverflowError(f"expected at most {MOST} bytes, got {PyBytes_GET_SIZE(payload)}")
    frame.word = MARK_WORD | bits | <uint32_t>kind
    frame.payload = PyBytes_AS_STRING(payload)
    frame.bytes = <uint32_t>PyBytes_GET_SIZE(payload)
    frame.seq = seq
    return frame


cdef Py_ssize_t _end_of_piece(const vector[LogFrame]& frames, Py_ssize_t at) noexcept:
    """Behind the first frame from there on whose payload stands by itself, or behind the last one."""
    cdef Py_ssize_t count = <Py_ssize_t>frames.size()
    while at < count:
        at += 1
        if frames[at - 1].bytes > LARGE:
            break
    return at


cdef bytes _piece(const vector[LogFrame]& frames, Py_ssize_t first, Py_ssize_t end, uint64_t ingest_ns, uint32_t seed):
    cdef Py_ssize_t at, size = 0, summed = 0
    for at in range(first, end):
        size += HEAD + (frames[at].bytes if frames[at].bytes <= LARGE else 0)
        summed += frames[at].bytes
    cdef bytes piece = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(piece)
    if summed < NOGIL_BYTES:
        _write(to, frames, first, end, ingest_ns, seed)
    else:
        with nogil:
            _write(to, frames, first, end, ingest_ns, seed)
    return piece


cdef void _write(
    char* to, const vector[LogFrame]& frames, Py_ssize_t first, Py_ssize_t end, uint64_t ingest_ns, uint32_t seed
) noexcept nogil:
    cdef Py_ssize_t at
    for at in range(first, end):
        to = write_frame(to, frames[at], ingest_ns, seed, frames[at].bytes <= LARGE)
