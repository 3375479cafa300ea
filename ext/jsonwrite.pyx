"""Tensors to JSON text: by column (nested lists), by row (a list of objects), or as one object of columns.

Floats are written as the shortest text that reads back as the same float in the tensor's own type, always with a point
or an exponent; NaN and the infinities as bare tokens. Strings of any content give valid JSON; a lone surrogate is
written as its escape, or in base64 as the byte that "surrogateescape" reads from it (else as its three bytes). No white
space.

Thread: any. More than NOGIL_ITEMS numbers are written without the GIL; the caller leaves the arrays alone while they
are.
Memory: borrows the arrays until it returns; the text is made in place in the bytes object that is answered.
"""

cimport numpy as cnp
from libcpp.vector cimport vector

import numpy as np

cnp.import_array()

cdef extern from "tensor_text.hpp" namespace "fastserve" nogil:
    cdef cppclass Size:
        Size()
        size_t bytes
        bint fits
        void add(size_t)
        void add(size_t, size_t)

    cdef cppclass Text:
        char* at
        bint reserve(Size) except False
        void pledge(size_t)
        void write(const char*, size_t)
        object finish()

    cdef cppclass Format:
        char kind
        size_t item_bytes
        char* (*write)(char*, const void*, size_t)

    cdef cppclass Nesting:
        Nesting()
        Nesting(const cnp.npy_intp*, int)

    cdef cppclass Column:
        const Format* format
        const char* items
        Nesting nesting
        bint b64
        const char* key
        size_t key_bytes
        Size bound()
        bint write(Text&) except False

    const Format* format_of(int)
    bint write_string(Text&, object, bint) except False
    bint write_object(Text&, vector[Column]&) except False

cdef enum:
    NOGIL_ITEMS = 4096  # below this, giving up the GIL costs more than writing


cdef cnp.ndarray hold(Column* column, cnp.ndarray array, int dtype, bint b64):
    """Point `column` at the array's items; answer the array to keep meanwhile, a copy if its bytes are not in order."""
    cdef const Format* format = format_of(dtype)
    cdef cnp.dtype descr = array.descr
    if format is NULL:
        raise ValueError(f"expected the number of an ONNX element type, got {dtype}")
    if descr.kind != format.kind or <size_t>cnp.PyArray_ITEMSIZE(array) != format.item_bytes:
        raise ValueError(f"expected an array for ONNX element type {dtype}, got {array.dtype}")
    if not cnp.PyArray_ISCARRAY_RO(array):
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    column.format = format
    column.items = cnp.PyArray_BYTES(array)
    column.b64 = b64
    return array


cdef bytes key_of(object name):
    """A name as a JSON key, with its colon."""
    if not isinstance(name, str):
        raise TypeError(f"expected names of type str, got {type(name).__name__}")
    cdef Text text
    write_string(text, name, False)
    text.write(b":", 1)
    return text.finish()


cdef int fill_columns(
    vector[Column]& columns, list held, tuple names, tuple arrays, tuple dtypes, tuple b64, int skipped_dims
) except -1:
    """Make `columns` of the arrays, past their first `skipped_dims` dimensions; `held` owns what they borrow."""
    cdef Py_ssize_t count = len(names), i
    cdef cnp.ndarray array
    cdef bytes key
    if len(arrays) != count or len(dtypes) != count or len(b64) != count:
        raise ValueError(
            f"expected as many names, arrays, dtypes and b64 flags,"
            f" got {count}, {len(arrays)}, {len(dtypes)} and {len(b64)}"
        )
    columns.resize(count)
    for i in range(count):
        if not isinstance(arrays[i], np.ndarray):
            raise TypeError(f"expected an array, got {type(arrays[i]).__name__}")
        array = hold(&columns[i], arrays[i], dtypes[i], b64[i])
        if cnp.PyArray_NDIM(array) < skipped_dims:
            raise ValueError(f"expected rows, got a scalar for {names[i]!r}")
        columns[i].nesting = Nesting(cnp.PyArray_DIMS(array) + skipped_dims, cnp.PyArray_NDIM(array) - skipped_dims)
        key = key_of(names[i])
        columns[i].key = key
        columns[i].key_bytes = len(key)
        held.append((array, key))
    return 0


cdef Size object_bound(vector[Column]& columns) except *:
    """At most how long one object of the columns is but for the content of strings, with a comma."""
    cdef Size size, column_size
    cdef size_t i
    for i in range(columns.size()):
        column_size = columns[i].bound()
        size.add(column_size.bytes)
        size.fits = size.fits and column_size.fits
    size.add(3)
    return size


cdef bint has_strings(vector[Column]& columns):
    cdef size_t i
    for i in range(columns.size()):
        if columns[i].format.write is NULL:
            return True
    return False


cdef int start(Text& text, bytes prefix, Size size, bytes suffix, bint strings) except -1:
    """Reserve `size` and write the prefix. `strings`: keep `size` free behind each of them, for what follows."""
    size.add(len(prefix))
    size.add(len(suffix))
    if strings:
        text.pledge(size.bytes)
        if not size.fits:
            raise MemoryError
        text.reserve(Size())
    else:
        text.reserve(size)
    text.write(prefix, len(prefix))
    return 0


def tensor(bytes prefix not None, cnp.ndarray array not None, int dtype, bint b64, bytes suffix not None, /):
    """Answer the array as nested lists between `prefix` and `suffix`; a scalar as its bare value.

    `dtype` is the ONNX element type (types.DType). `b64` writes strings as {"b64": "..."} objects. Raises ValueError
    for an array of another dtype, TypeError for an object array that holds anything but str and bytes.
    """
    cdef Text text
    cdef Column column
    array = hold(&column, array, dtype, b64)
    column.nesting = Nesting(cnp.PyArray_DIMS(array), cnp.PyArray_NDIM(array))
    cdef bint strings = column.format.write is NULL
    start(text, prefix, column.bound(), suffix, strings)
    if strings or cnp.PyArray_SIZE(array) <= NOGIL_ITEMS:
        column.write(text)
    else:
        with nogil:
            column.write(text)
    text.write(suffix, len(suffix))
    return text.finish()


def each_tensor(
    bytes prefix not None, cnp.ndarray array not None, list rows not None, int dtype, bint b64, bytes suffix not None, /
):
    """`tensor` of each range of `array`'s rows: the first rows[0] of them, then rows[1], and so on.

    Raises ValueError unless `rows` holds counts whose sum is the number of rows.
    """
    cdef Py_ssize_t left = cnp.PyArray_DIM(array, 0) if cnp.PyArray_NDIM(array) > 0 else -1, count, at = 0
    cdef list texts = []
    for item in rows:
        count = item
        if count < 0 or count > left:
            break
        left -= count
        texts.append(tensor(prefix, array[at : at + count], dtype, b64, suffix))
        at += count
    if left != 0 or len(texts) != len(rows):
        raise ValueError(f"expected row counts that sum to {np.shape(array)[:1]}, got {rows}")
    return texts


def row_objects(
    bytes prefix not None,
    tuple names not None,
    tuple arrays not None,
    tuple dtypes not None,
    tuple b64 not None,
    bytes suffix not None,
    /,
):
    """Answer a list of objects, one a row, `[{"a": <row 0 of a>, "b": <row 0 of b>}, ...]`, between prefix and suffix.

    Raises ValueError when the arrays do not all have the same first dimension, or there are none.
    """
    cdef Text text
    cdef vector[Column] columns
    cdef list held = []
    fill_columns(columns, held, names, arrays, dtypes, b64, 1)
    cdef Py_ssize_t rows = common_rows(arrays)
    cdef bint strings = has_strings(columns)
    cdef Size row_size = object_bound(columns), size
    cdef bint fits = row_size.fits
    size.add(2)
    size.add(1 if strings else rows, row_size.bytes)
    size.fits = size.fits and fits
    start(text, prefix, size, suffix, strings)
    if strings or rows * columns.size() <= NOGIL_ITEMS:
        write_rows(text, columns, rows, strings)
    else:
        with nogil:
            write_rows(text, columns, rows, strings)
    text.write(suffix, len(suffix))
    return text.finish()


cdef Py_ssize_t common_rows(tuple arrays) except -1:
    """The first dimension of all arrays."""
    if not arrays:
        raise ValueError("expected at least one array, got none")
    cdef Py_ssize_t rows = len(arrays[0])
    for array in arrays:
        if len(array) != rows:
            raise ValueError(f"expected {rows} rows in every array, got {len(array)}")
    return rows


cdef int write_rows(Text& text, vector[Column]& columns, Py_ssize_t rows, bint strings) except -1 nogil:
    """The list of row objects. With strings, room for the next row is made row by row."""
    cdef Py_ssize_t row
    text.write(b"[", 1)
    for row in range(rows):
        if row > 0:
            text.write(b",", 1)
        if strings:
            text.reserve(Size())
        write_object(text, columns)
    text.write(b"]", 1)
    return 0


def column_object(
    bytes prefix not None,
    tuple names not None,
    tuple arrays not None,
    tuple dtypes not None,
    tuple b64 not None,
    bytes suffix not None,
    /,
):
    """Answer one object with a tensor a name, `{"a": <all of a>, "b": <all of b>}`, between `prefix` and `suffix`."""
    cdef Text text
    cdef vector[Column] columns
    cdef list held = []
    fill_columns(columns, held, names, arrays, dtypes, b64, 0)
    cdef bint strings = has_strings(columns)
    cdef Size size = object_bound(columns)
    start(text, prefix, size, suffix, strings)
    if strings or size.bytes <= NOGIL_ITEMS * 16:
        write_object(text, columns)
    else:
        with nogil:
            write_object(text, columns)
    text.write(suffix, len(suffix))
    return text.finish()
