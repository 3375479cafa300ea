"""What `tensorize` uses of the kernels in `json_tensor.hpp` and the headers below it."""

from libc.stdint cimport int64_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string as cstring


cdef extern from "json_tensor.hpp" namespace "fastserve" nogil:
    cdef enum class Fault(int):
        syntax
        type
        range
        list_length
        depth
        not_object
        unknown_key
        duplicate_key
        missing_key
        memory

    cdef enum class Base64(int):
        ok
        url_alphabet
        bad_character
        bad_length

    cdef cppclass Text:
        const char* at
        const char* end
        Fault fault
        const char* reason
        const char* bad
        int64_t wanted
        int64_t got
        cbool finite
        cbool quoted_floats
        const char* syntax(const char* where, const char* why)

    cdef cppclass Quoted:
        const char* begin
        const char* end
        cbool has_escape()

    cdef cppclass StringSpan:
        const char* begin
        uint64_t size
        bint escaped
        bint base64

    cdef cppclass Buffer:
        char* data()
        char* release(size_t size)

    cdef cppclass TensorReader:
        Buffer buffer
        int64_t items
        int rank
        int64_t* lengths
        int64_t* at
        int depth
        int max_rank
        int dtype
        cbool alone
        const char* read(Text& text, const char* p) except +
        StringSpan* spans()

    cdef cppclass Column "fastserve::RowReader::Column":
        cstring name
        int64_t rows
        TensorReader tensor

    cdef cppclass RowReader:
        int count
        cbool lists
        cbool others
        int64_t rows
        int failed
        cstring unknown
        cbool allocate(int count)
        Column& column(int index)
        const char* read(Text& text, const char* p) except +

    int mark_bytes(const char* p)
    const char* skip_space(const char* p, const char* end)
    const char* skip_value(Text& text, const char* p)
    const char* skip_string(Text& text, const char* p)
    const char* skip_key(Text& text, const char* p)
    const char* skip_scalar(Text& text, const char* p)
    const char* read_b64_object(Text& text, const char* p, Quoted& value) except +
    void unescape(const char* p, const char* end, cstring& out) except +
    Base64 decode_base64(const char* p, const char* end, cstring& out) except +
