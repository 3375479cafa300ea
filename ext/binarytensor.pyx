"""Tensors in binary, as they follow the JSON of an Open Inference request or answer: little-endian, row by row.

There is no padding. A BYTES element is its length in four bytes and then itself; a BOOL element is a byte, anything but
0 is true.

Thread: any. Above 64 kB the copying runs without the GIL.
Memory: `view` borrows the body's bytes and keeps the body alive; everything else answers owned memory. Sizes are
compared with what is there, in checked arithmetic, before anything is allocated or read.
"""

cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

import numpy as np

from fastserve.errors import InvalidTensor

cnp.import_array()

cdef extern from *:
    """
    static inline int fastserve_product(long long a, long long b, long long* product) {
        return !__builtin_mul_overflow(a, b, product);
    }
    """
    bint fastserve_product(long long a, long long b, long long* product) nogil

cdef extern from "numpy/arrayobject.h":
    # Steals a reference to `descr`.
    object PyArray_NewFromDescr(
        PyTypeObject* subtype, cnp.dtype descr, int rank, cnp.npy_intp* dims, cnp.npy_intp* strides, void* data,
        int flags, PyObject* like,
    )
    int PyArray_SetBaseObject(cnp.ndarray array, PyObject* base) except -1
    PyTypeObject PyArray_Type

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    NOGIL_BYTES = 65536  # below this, giving up the GIL costs more than copying
    MAX_RANK = 64  # NumPy's own limit
    LENGTH_BYTES = 4  # of a BYTES element's length
    MAX_ELEMENT_BYTES = 0xFFFFFFFF
    BOOL = 9
    STRING = 8

# ONNX's number of a type -> numpy's; -1 where there is none of that size.
cdef int[17] NUMPY_TYPES = [
    -1, cnp.NPY_FLOAT32, cnp.NPY_UINT8, cnp.NPY_INT8, cnp.NPY_UINT16, cnp.NPY_INT16, cnp.NPY_INT32, cnp.NPY_INT64,
    -1, cnp.NPY_BOOL, cnp.NPY_FLOAT16, cnp.NPY_FLOAT64, cnp.NPY_UINT32, cnp.NPY_UINT64,
    -1, -1, cnp.NPY_UINT16,
]


cdef int64_t read_shape(tuple shape, cnp.npy_intp* dims) except -1:
    """How many elements `shape` has; its sizes go to `dims`. Raises ValueError for what is no shape of an array."""
    cdef long long count = 1, whole = 1, size
    cdef int rank = 0
    if len(shape) > MAX_RANK:
        raise ValueError(f"expected at most {MAX_RANK} dimensions, got {len(shape)}")
    for item in shape:
        size = item
        # NumPy counts what it would have without the zeros, too.
        if size < 0 or not fastserve_product(count, size, &count) or not fastserve_product(whole, max(size, 1), &whole):
            raise ValueError(f"expected the shape of an array, got {list(shape)}")
        dims[rank] = size
        rank += 1
    return count


cdef int check_range(bytes body, Py_ssize_t offset, Py_ssize_t size) except -1:
    cdef Py_ssize_t length = PyBytes_GET_SIZE(body)
    if offset < 0 or size < 0 or offset > length or size > length - offset:
        raise ValueError(f"expected a part of the {length} bytes of the body, got {size} from {offset} on")
    return 0


cdef bint has_odd_truth(const uint8_t* items, Py_ssize_t count) noexcept nogil:
    """Whether any byte is neither 0 nor 1."""
    cdef uint8_t seen = 0
    cdef Py_ssize_t i
    for i in range(count):
        seen |= items[i]
    return seen > 1


def view(bytes body not None, Py_ssize_t offset, Py_ssize_t size, int dtype, tuple shape not None, /):
    """The numbers at `offset` as a read-only array on the body's own memory, which may start at any address.

    BOOL elements that are neither 0 nor 1 are put right in a copy. `dtype` is the ONNX element type. Raises ValueError
    where that many bytes are not there, or are not what the shape takes.
    """
    cdef cnp.npy_intp[MAX_RANK] dims
    cdef long long wanted = 0
    check_range(body, offset, size)
    if dtype < 0 or dtype > 16 or NUMPY_TYPES[dtype] < 0:
        raise ValueError(f"expected the number of an ONNX type of numbers, got {dtype}")
    cdef int64_t count = read_shape(shape, dims)
    cdef cnp.dtype descr = cnp.PyArray_DescrFromType(NUMPY_TYPES[dtype])
    if not fastserve_product(count, descr.itemsize, &wanted) or wanted != size:
        raise ValueError(f"expected {count} elements of {descr.itemsize} bytes, got {size} bytes")
    cdef char* start = PyBytes_AS_STRING(body) + offset
    Py_INCREF(descr)
    cdef cnp.ndarray array = PyArray_NewFromDescr(
        &PyArray_Type, descr, <int>len(shape), dims, NULL, start, 0, NULL
    )
    Py_INCREF(body)
    PyArray_SetBaseObject(array, <PyObject*>body)
    cnp.PyArray_UpdateFlags(
        array, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    )
    if dtype == BOOL and has_odd_truth(<const uint8_t*>start, size):
        return array.view(np.uint8) != 0
    return array


# ---- strings ---------------------------------------------------------------------------------------------------------


cdef inline uint32_t length_at(const uint8_t* p) noexcept nogil:
    return p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef str element_path(int64_t index, tuple shape):
    """`[1][0]`: where element `index` stands in a tensor of that shape."""
    indices = []
    for size in reversed(shape):
        indices.append(f"[{index % size}]")
        index //= size
    return "".join(reversed(indices))


cdef int64_t count_elements(const uint8_t* start, Py_ssize_t size, int64_t wanted, str path) except -1:
    """Walk over the lengths. Raises InvalidTensor where they do not make exactly `wanted` elements of all the bytes."""
    cdef Py_ssize_t at = 0, length
    cdef int64_t count = 0
    while at < size:
        if count == wanted:
            raise InvalidTensor(expected=elements(wanted), got=f"{size - at} bytes more", path=path)
        if size - at < LENGTH_BYTES:
            raise InvalidTensor(
                expected=f"{LENGTH_BYTES} bytes with the length of element {count}", got=f"{size - at}", path=path
            )
        length = length_at(start + at)
        at += LENGTH_BYTES
        if length > size - at:
            raise InvalidTensor(
                expected=f"{length} bytes of element {count}, as its length says", got=f"{size - at}", path=path
            )
        at += length
        count += 1
    if count != wanted:
        raise InvalidTensor(expected=elements(wanted), got=f"{count}", path=path)
    return count


cdef str elements(int64_t count):
    return f"{count} element" + ("" if count == 1 else "s")


def strings(bytes body not None, Py_ssize_t offset, Py_ssize_t size, tuple shape not None, str path not None, /):
    """The BYTES elements in those bytes, which must be UTF-8, as an array of `str`. `path`: of the tensor, for errors.

    Raises InvalidTensor where lengths and bytes do not make as many elements as the shape has, or one is not UTF-8.
    """
    cdef cnp.npy_intp[MAX_RANK] dims
    check_range(body, offset, size)
    cdef int64_t count = read_shape(shape, dims), index
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(body) + offset
    count_elements(p, size, count, path)
    cdef cnp.ndarray array = cnp.PyArray_EMPTY(<int>len(shape), dims, cnp.NPY_OBJECT, 0)
    cdef PyObject** slots = <PyObject**>cnp.PyArray_DATA(array)
    cdef uint32_t length
    for index in range(count):
        length = length_at(p)
        p += LENGTH_BYTES
        try:
            element = PyUnicode_DecodeUTF8(<const char*>p, length, NULL)
        except UnicodeDecodeError:
            place = path + element_path(index, shape)
            raise InvalidTensor(expected="UTF-8 text", got="bytes that are not UTF-8", path=place) from None
        Py_INCREF(element)
        Py_XDECREF(slots[index])
        slots[index] = <PyObject*>element
        p += length
    return array


cdef bytes encoded(object item):
    """What is written for an element that has no UTF-8 of its own: bytes as they are, lone surrogates as 3 bytes."""
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str):
        raise TypeError(f"expected str in a string tensor, got {type(item).__name__}")
    return item.encode("utf-8", "surrogatepass")


def pack(cnp.ndarray array not None, /):
    """A string tensor as BYTES elements, one after the other."""
    if array.dtype.kind != "O":
        raise ValueError(f"expected an array of objects, got {array.dtype}")
    cdef list items = []
    cdef Py_ssize_t total = 0, size = 0
    for item in array.flat:
        if not isinstance(item, str):
            item = encoded(item)
        else:
            try:
                PyUnicode_AsUTF8AndSize(item, &size)
            except UnicodeEncodeError:
                item = encoded(item)
        if isinstance(item, bytes):
            size = len(item)
        if size > MAX_ELEMENT_BYTES:
            raise ValueError(f"expected elements of less than 4 GiB, got one of {size} bytes")
        total += LENGTH_BYTES + size
        items.append(item)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    cdef char* out = PyBytes_AS_STRING(packed)
    cdef const char* text
    for item in items:
        if isinstance(item, bytes):
            text, size = PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item)
        else:
            text = PyUnicode_AsUTF8AndSize(item, &size)
        out[0], out[1], out[2], out[3] = size & 0xFF, size >> 8 & 0xFF, size >> 16 & 0xFF, size >> 24 & 0xFF
        memcpy(out + LENGTH_BYTES, text, size)
        out += LENGTH_BYTES + size
    return packed


# ---- answers ---------------------------------------------------------------------------------------------------------


cdef Py_ssize_t part_bytes(object part) except -1:
    if isinstance(part, bytes):
        return PyBytes_GET_SIZE(part)
    if not isinstance(part, np.ndarray):
        raise TypeError(f"expected bytes and arrays, got {type(part).__name__}")
    if cnp.PyArray_TYPE(<cnp.ndarray>part) == cnp.NPY_OBJECT or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>part):
        raise ValueError("expected contiguous arrays of numbers")
    return cnp.PyArray_NBYTES(<cnp.ndarray>part)


def join(tuple parts not None, /):
    """Bytes and the memory of arrays of numbers, one after the other, copied once."""
    cdef Py_ssize_t total = 0, size
    for part in parts:
        total += part_bytes(part)
    cdef bytes joined = PyBytes_FromStringAndSize(NULL, total)
    cdef char* out = PyBytes_AS_STRING(joined)
    cdef const char* source
    for part in parts:
        size = part_bytes(part)
        if isinstance(part, bytes):
            source = PyBytes_AS_STRING(part)
        else:
            source = <const char*>cnp.PyArray_DATA(<cnp.ndarray>part)
        if size >= NOGIL_BYTES:
            with nogil:
                memcpy(out, source, size)
        elif size > 0:
            memcpy(out, source, size)
        out += size
    return joined
