"""Rows of many requests into one bound buffer; one output into a row range per request.

Thread: any. Above 64 kB the copying runs without the GIL; the caller keeps the buffers to itself while it does.
Memory: borrows every array until it returns; what `split` answers owns its memory, so the output can be bound again.
"""

cimport numpy as cnp
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.string cimport memcmp, memcpy, memmove

import numpy as np

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    # Steals a reference to `descr`; raises MemoryError, or ValueError when the size does not fit a ssize_t.
    object PyArray_NewFromDescr(
        PyTypeObject* subtype, cnp.dtype descr, int rank, cnp.npy_intp* dims, cnp.npy_intp* strides, void* data,
        int flags, PyObject* like,
    )
    PyTypeObject PyArray_Type
    bint PyDataType_REFCHK(cnp.dtype descr)

cdef enum:
    NOGIL_BYTES = 65536  # below this, giving up the GIL costs more than copying
    MAX_RANK = 64  # NumPy's own limit


cdef inline void copy_bytes(void* target, const void* source, Py_ssize_t byte_count) noexcept:
    """Copy, leaving the GIL to others while it is long. `memmove`: a part may be a view of the buffer itself."""
    if byte_count >= NOGIL_BYTES:
        with nogil:
            memmove(target, source, byte_count)
    elif byte_count > 0:
        memmove(target, source, byte_count)


cdef int check_part(cnp.ndarray buffer, cnp.ndarray part) except -1:
    """Raise ValueError unless `part` holds rows of `buffer`'s shape and type."""
    cdef int rank = cnp.PyArray_NDIM(buffer)
    if (
        cnp.PyArray_NDIM(part) != rank
        or memcmp(cnp.PyArray_DIMS(part) + 1, cnp.PyArray_DIMS(buffer) + 1, (rank - 1) * sizeof(cnp.npy_intp)) != 0
    ):
        raise ValueError(f"expected rows of shape {np.shape(buffer)[1:]}, got an array of shape {np.shape(part)}")
    if part.descr is not buffer.descr and part.dtype != buffer.dtype:
        raise ValueError(f"expected {buffer.dtype}, got {part.dtype}")
    return 0


cdef int check_rows(cnp.ndarray array, str what) except -1:
    """Raise ValueError unless `array` has rows of plain bytes, one after the other."""
    if cnp.PyArray_NDIM(array) < 1:
        raise ValueError(f"expected {what} of rank 1 or more, got a scalar")
    if not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ValueError(f"expected a contiguous {what}")
    if PyDataType_REFCHK(array.descr):
        raise ValueError(f"expected {what} of numbers, got Python objects")
    return 0


def gather(cnp.ndarray buffer not None, list parts not None, /):
    """Copy the rows of all `parts`, one after the other, into the first rows of `buffer`; answer how many there are.

    `buffer` is [capacity, ...], contiguous and writable; each part [rows, ...] of the same row shape and dtype. Raises
    ValueError when a part does not fit; rows of earlier parts are copied by then. Strings (object arrays) are refused:
    they need references, not bytes, and are never bound.
    """
    check_rows(buffer, "buffer")
    if not cnp.PyArray_ISWRITEABLE(buffer):
        raise ValueError("expected a writable buffer")
    cdef char* start = cnp.PyArray_BYTES(buffer)
    cdef Py_ssize_t capacity = cnp.PyArray_DIM(buffer, 0)
    cdef Py_ssize_t row_bytes = cnp.PyArray_NBYTES(buffer) // capacity if capacity > 0 else 0
    cdef Py_ssize_t filled = 0, rows
    cdef cnp.ndarray part
    for item in parts:
        if not isinstance(item, np.ndarray):
            raise TypeError(f"expected an array, got {type(item).__name__}")
        part = item
        check_part(buffer, part)
        rows = cnp.PyArray_DIM(part, 0)
        if rows > capacity - filled:  # not `filled + rows > capacity`: this cannot overflow
            raise ValueError(f"expected at most {capacity} rows, got {filled} and {rows} more")
        if not cnp.PyArray_IS_C_CONTIGUOUS(part):
            part = np.array(part, order="C", copy=True)
        copy_bytes(start + filled * row_bytes, cnp.PyArray_DATA(part), rows * row_bytes)
        filled += rows
    return filled


def split(cnp.ndarray output not None, list rows not None, /):
    """Answer an owned copy of each range of `output`'s rows: the first rows[0] of them, then rows[1], and so on.

    Raises ValueError unless `rows` holds counts whose sum is the number of rows. Object arrays are copied by reference.
    """
    if cnp.PyArray_NDIM(output) < 1:
        raise ValueError("expected an output of rank 1 or more, got a scalar")
    cdef Py_ssize_t left = cnp.PyArray_DIM(output, 0), taken = 0, count
    for item in rows:
        count = item
        if count < 0 or count > left:
            raise ValueError(f"expected row counts that sum to {len(output)}, got {rows}")
        left -= count
    if left != 0:
        raise ValueError(f"expected row counts that sum to {len(output)}, got {rows}")
    if not cnp.PyArray_IS_C_CONTIGUOUS(output) or PyDataType_REFCHK(output.descr):
        return split_plainly(output, rows)
    cdef cnp.npy_intp shape[MAX_RANK]
    cdef int rank = cnp.PyArray_NDIM(output)
    memcpy(shape, cnp.PyArray_DIMS(output), rank * sizeof(cnp.npy_intp))
    cdef const char* source = cnp.PyArray_BYTES(output)
    cdef Py_ssize_t row_bytes = cnp.PyArray_NBYTES(output) // shape[0] if shape[0] > 0 else 0
    cdef list parts = []
    cdef cnp.dtype descr = output.descr
    cdef object part
    for item in rows:
        count = item
        shape[0] = count
        Py_INCREF(descr)
        part = PyArray_NewFromDescr(&PyArray_Type, descr, rank, shape, NULL, NULL, 0, NULL)
        copy_bytes(cnp.PyArray_DATA(part), source, count * row_bytes)
        source += count * row_bytes
        parts.append(part)
    return parts


cdef list split_plainly(cnp.ndarray output, list rows):
    """`split` for arrays whose rows are not plain bytes in order: object arrays and views."""
    cdef Py_ssize_t taken = 0
    cdef list parts = []
    for count in rows:
        parts.append(output[taken : taken + count].copy())
        taken += count
    return parts


cdef bint fits(cnp.ndarray buffer, object item):
    """Whether `item` is an array that fills `buffer` exactly: same shape and dtype, contiguous."""
    if not isinstance(item, np.ndarray):
        return False
    cdef cnp.ndarray part = item
    cdef int rank = cnp.PyArray_NDIM(buffer)
    return (
        cnp.PyArray_NDIM(part) == rank
        and memcmp(cnp.PyArray_DIMS(part), cnp.PyArray_DIMS(buffer), rank * sizeof(cnp.npy_intp)) == 0
        and (part.descr is buffer.descr or part.dtype == buffer.dtype)
        and cnp.PyArray_IS_C_CONTIGUOUS(part)
    )


cdef tuple checked_pairs(tuple pairs):
    """`pairs` as (name, buffer) tuples. Raises TypeError for what is none, ValueError for what has no plain rows."""
    cdef list checked = []
    for name, buffer in pairs:
        # A parameter's own type lets None through, which has no dimensions to look at.
        if not isinstance(name, str) or not isinstance(buffer, np.ndarray):
            raise TypeError(f"expected a name and an array, got {type(name).__name__} and {type(buffer).__name__}")
        check_rows(buffer, name)
        checked.append((name, buffer))
    return tuple(checked)


cdef class Bound:
    """Buffers bound to a run, for one number of rows: a request's tensors in, the run, copies of the outputs out.

    `inputs` and `outputs` are (name, buffer) pairs; buffers of numbers, contiguous, the inputs' writable.
    """

    cdef readonly object run
    cdef readonly tuple inputs
    cdef readonly tuple outputs

    def __cinit__(self, object run, tuple inputs not None, tuple outputs not None):
        self.run = run
        self.inputs = checked_pairs(inputs)
        self.outputs = checked_pairs(outputs)
        for name, buffer in self.inputs:
            if not buffer.flags.writeable:
                raise ValueError(f"expected a writable buffer for {name}")

    def answer(self, dict request not None, /):
        """Copies of all outputs for one request, by name; None, and nothing run, where a tensor does not fit.

        Names that no input has are passed over. Raises what the run raises.
        """
        cdef tuple pair
        cdef cnp.ndarray buffer
        for pair in self.inputs:
            buffer = pair[1]
            item = request.get(pair[0])
            if not fits(buffer, item):
                return None
            copy_bytes(cnp.PyArray_DATA(buffer), cnp.PyArray_DATA(<cnp.ndarray>item), cnp.PyArray_NBYTES(buffer))
        self.run()
        cdef dict outputs = {}
        for pair in self.outputs:
            outputs[pair[0]] = cnp.PyArray_NewCopy(<cnp.ndarray>pair[1], cnp.NPY_CORDER)
        return outputs


cdef tuple sizes_of(tuple shape):
    """`shape` as integers to compare an array's with. Raises OverflowError for a size that no array can have."""
    cdef Py_ssize_t size
    cdef list sizes = []
    for item in shape:
        size = item
        sizes.append(size)
    return tuple(sizes)


cdef class RowShapes:
    """The inputs of a signature whose rows all have fixed shapes. One (name, dtype, row shape) per input."""

    cdef tuple inputs
    cdef Py_ssize_t count

    def __cinit__(self, tuple inputs not None):
        for name, dtype, shape in inputs:
            if len(shape) >= MAX_RANK:
                raise ValueError(f"expected fewer than {MAX_RANK} dimensions for {name}, got {len(shape)}")
        self.inputs = tuple([(name, np.dtype(dtype), sizes_of(shape)) for name, dtype, shape in inputs])
        self.count = len(inputs)

    def rows(self, dict tensors not None, /):
        """How many rows `tensors` have: all inputs, fitting, and no others. -1 where that is not so."""
        cdef Py_ssize_t rows = -1, size
        cdef tuple expected, shape
        cdef cnp.ndarray tensor
        cdef int axis
        if len(tensors) != self.count:
            return -1
        for expected in self.inputs:
            item = tensors.get(expected[0])
            if not isinstance(item, np.ndarray):
                return -1
            tensor = item
            shape = expected[2]
            if tensor.descr is not expected[1] and tensor.dtype != expected[1]:
                return -1
            if cnp.PyArray_NDIM(tensor) != len(shape) + 1:
                return -1
            if rows >= 0 and cnp.PyArray_DIM(tensor, 0) != rows:
                return -1
            rows = cnp.PyArray_DIM(tensor, 0)
            for axis in range(len(shape)):
                size = shape[axis]
                if cnp.PyArray_DIM(tensor, axis + 1) != size:
                    return -1
        return rows

    def each(self, list parts not None, /):
        """How many rows each of `parts` has, where the signature has one input; -1 for what is no such tensor."""
        if self.count != 1:
            raise ValueError(f"expected a signature with one input, this one has {self.count}")
        cdef str name = (<tuple>self.inputs[0])[0]
        return [self.rows({name: part}) for part in parts]
