"""JSON text to contiguous tensors, straight from the body's bytes, without making Python objects of the numbers.

Thread: any; a cursor belongs to one thread at a time. Values in more than 16 kB of text are read without the GIL.
Memory: a cursor holds the body; every array returned owns its memory. Heap is taken for what was read, never for what a
text claims, and no depth of brackets costs stack.

JSON here is RFC 8259 and the tokens NaN, Infinity, -Infinity, Inf and -Inf. A byte order mark is skipped, text behind
the top value is not looked at, and a number past the range of a double is refused wherever it stands. Kernels:
`json_*.hpp`.
"""

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy
from libcpp.string cimport string as cstring

from json_tensor cimport (
    Base64, Fault, Quoted, RowReader, StringSpan, TensorReader, Text, decode_base64, mark_bytes, read_b64_object,
    skip_key, skip_scalar, skip_space, skip_string, skip_value, unescape,
)

from fastserve.errors import InvalidJson, InvalidTensor, quoted
from fastserve.types import DType, first_non_finite

cnp.import_array()


cdef extern from "Python.h":
    char* PyBytes_AS_STRING(object body)
    Py_ssize_t PyBytes_GET_SIZE(object body)


cdef enum:
    EXCERPT_BYTES = 256
    # A shorter text is read faster than the GIL is had back when others want it too.
    NOGIL_BYTES = 16384
    # Up to here a copy into numpy's own memory costs less than handing the block over.
    COPIED_BYTES = 8192
    MAX_RANK = 64
    STRING = 8

# ONNX's number of a type -> numpy's; -1 where there is none.
cdef int[17] NUMPY_TYPES = [
    -1, cnp.NPY_FLOAT32, cnp.NPY_UINT8, cnp.NPY_INT8, cnp.NPY_UINT16, cnp.NPY_INT16, cnp.NPY_INT32, cnp.NPY_INT64,
    cnp.NPY_OBJECT, cnp.NPY_BOOL, cnp.NPY_FLOAT16, cnp.NPY_FLOAT64, cnp.NPY_UINT32, cnp.NPY_UINT64,
    -1, -1, cnp.NPY_UINT16,
]
cdef size_t[17] ITEM_BYTES = [0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0, 0, 2]
_NOUNS = {"{": "object ", "[": "list ", '"': "string ", "0": "number "}
_B64_REASONS = {
    <int>Base64.url_alphabet: "the URL-safe characters '-' or '_'",
    <int>Base64.bad_character: "a character outside the alphabet",
    <int>Base64.bad_length: "a wrong length or padding",
}


# ---- what was expected, in words: built only once something is wrong -------------------------------------------------


cdef str element_words(int dtype):
    """What one element of that type looks like in JSON."""
    name = DType(dtype).name
    if DType(dtype).is_float:
        return f"number ({name})"
    if dtype == DType.BOOL:
        return f"true or false ({name})"
    if dtype == DType.STRING:
        return 'string or {"b64": "<base64>"} (STRING)'
    return f"integer ({name})"


cdef str range_words(int dtype):
    """The integers that fit."""
    bits = 8 * DType(dtype).numpy.itemsize
    signed = DType(dtype).numpy.kind == "i"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return f"integer from {low} to {high} ({DType(dtype).name})"


cdef str items_words(int64_t count):
    return f"list of {count} item" + ("" if count == 1 else "s")


cdef str values_words(int64_t count):
    return f"{count} value" + ("" if count == 1 else "s")


cdef str member_path(str name):
    """`.name`, or `["na me"]` for names that are not made of letters, digits and _ alone."""
    return f".{name}" if name.isidentifier() else f"[{quoted(name)}]"


cdef str index_path(int64_t* indices, int count):
    return "".join([f"[{indices[level]}]" for level in range(count)])


cdef str element_path(TensorReader& reader, int64_t index):
    """Path of an element by its place in the buffer, below its tensor's or row's path."""
    indices = []
    for level in range(reader.rank - 1, -1, -1):
        indices.append(index % reader.lengths[level])
        index //= reader.lengths[level]
    return "".join([f"[{i}]" for i in reversed(indices)])


# ---- arrays ----------------------------------------------------------------------------------------------------------


cdef void free_block(object capsule) noexcept:
    free(PyCapsule_GetPointer(capsule, NULL))


cdef object new_array(TensorReader& reader, int64_t rows):
    """The reader's elements in its shape; `rows` >= 0: with an axis of rows before it. Strings: empty slots."""
    cdef cnp.npy_intp[MAX_RANK] shape
    cdef int rank = 0
    cdef int level
    if rows >= 0:
        shape[0] = rows
        rank = 1
    for level in range(reader.rank):
        shape[rank] = reader.lengths[level]
        rank += 1
    cdef int kind = NUMPY_TYPES[reader.dtype]
    if reader.dtype == STRING:
        return cnp.PyArray_EMPTY(rank, shape, kind, 0)
    cdef cnp.ndarray array
    cdef size_t size = <size_t>reader.items * ITEM_BYTES[reader.dtype]
    if size <= COPIED_BYTES:
        array = cnp.PyArray_SimpleNew(rank, shape, kind)
        memcpy(cnp.PyArray_DATA(array), reader.buffer.data(), size)
        return array
    return adopt_block(reader.buffer.release(size), rank, shape, kind)


cdef object adopt_block(char* block, int rank, cnp.npy_intp* shape, int kind):
    """An array on `block`, which it frees when it goes."""
    owner = PyCapsule_New(block, NULL, free_block)
    array = cnp.PyArray_SimpleNewFromData(rank, shape, kind, block)
    cnp.set_array_base(array, owner)
    return array


@cython.final
cdef class Cursor:
    """A place in one JSON text; reads forward only, one pass over the text.

    The caller walks containers (`enter_object`, `next_key`, ...) and must consume each value between two steps by one
    of `skip`, `string`, `value`, `tensor`, `rows` or by entering and leaving it. After an error the place is undefined.
    `finite`: NaN and the infinities are refused, in tensors also what their type rounds to one.
    """

    cdef bytes body
    cdef const char* begin    # first byte of the body; borrowed from `body`
    cdef Text text
    cdef bint fresh           # a container was entered and nothing in it was read yet
    cdef int max_depth

    def __cinit__(self, bytes body not None, int max_depth=100, bint finite=False):
        self.body = body
        self.begin = PyBytes_AS_STRING(body)
        self.text.at = self.begin + mark_bytes(self.begin)
        self.text.end = self.begin + PyBytes_GET_SIZE(body)
        self.text.finite = finite
        self.max_depth = max_depth

    @property
    def offset(self):
        """Bytes of the body before the cursor."""
        return self.text.at - self.begin

    # ---- places ------------------------------------------------------------------------------------------------------

    cdef const char* place(self) noexcept:
        """The next byte that is no space; the cursor moves there."""
        self.text.at = skip_space(self.text.at, self.text.end)
        return self.text.at

    cdef const char* moved(self, const char* p) except NULL:
        """To `p`, a reader's answer; raises what it found where that is NULL."""
        if p == NULL:
            raise self.syntax_error()
        self.text.at = p
        return p

    def seek(self, Py_ssize_t offset):
        """To a value whose `offset` was noted: members may come before what is needed to read them."""
        if offset < 0 or offset > self.text.end - self.begin:
            raise ValueError(f"expected an offset in the body, got {offset}")
        self.text.at = self.begin + offset
        self.fresh = False

    def kind(self):
        """The next value by its first character: `{ [ " t f n`, and `0` for all numbers, NaN and Infinity too."""
        return self.kind_at(self.place())

    cdef str kind_at(self, const char* p):
        cdef char c = p[0]
        if c in b'[{"tfn':
            return chr(c)
        if c in b"-NI0123456789":
            return "0"
        self.text.syntax(p, "not a JSON value")
        raise self.syntax_error()

    def enter_object(self):
        """Into the object at the cursor: call `next_key` until it answers None."""
        self.enter(c"{", "expected '{'")

    def enter_array(self):
        """Into the list at the cursor: call `next_item` until it answers False."""
        self.enter(c"[", "expected '['")

    cdef int enter(self, char bracket, const char* why) except -1:
        cdef const char* p = self.place()
        if p[0] != bracket:
            self.text.syntax(p, why)
            raise self.syntax_error()
        self.text.at = p + 1
        self.fresh = True
        return 0

    def next_key(self):
        """The next member's key, the cursor at its value; None at the object's end.

        Bytes that are not UTF-8 come as U+FFFD.
        """
        if not self.step(c"}", "expected ',' or '}'"):
            return None
        cdef Quoted key
        cdef const char* p = self.text.at
        self.moved(skip_key(self.text, p))
        key.begin = p + 1
        key.end = skip_string(self.text, p) - 1
        return self.decoded(key, "replace")

    def next_item(self):
        """True with the cursor at the next item; False at the list's end."""
        return self.step(c"]", "expected ',' or ']'")

    cdef bint step(self, char bracket, const char* why) except -1:
        """To the next key or item; False: over the closing bracket instead."""
        cdef const char* p = self.place()
        cdef bint first = self.fresh
        self.fresh = False
        if p[0] == bracket:
            self.text.at = p + 1
            return False
        if first:
            return True
        if p[0] != c",":
            self.text.syntax(p, why)
            raise self.syntax_error()
        self.text.at = skip_space(p + 1, self.text.end)
        if self.text.at[0] == bracket:
            self.text.syntax(self.text.at, "a comma before a closing bracket")
            raise self.syntax_error()
        return True

    def skip(self):
        """Over the value at the cursor, any depth; its grammar is checked in full, its strings' UTF-8 is not."""
        cdef const char* p = self.place()
        if self.text.end - p > NOGIL_BYTES:
            with nogil:
                p = skip_value(self.text, p)
        else:
            p = skip_value(self.text, p)
        self.moved(p)

    # ---- looking ahead -----------------------------------------------------------------------------------------------

    def excerpt(self):
        """The text of the value at the cursor for error messages, cut to 256 bytes; does not move."""
        return self.excerpt_at(self.place())

    cdef str excerpt_at(self, const char* p):
        cdef char[EXCERPT_BYTES + 1] cut
        cdef Text text
        cdef Py_ssize_t left = self.text.end - p
        cdef Py_ssize_t size = min(left, <Py_ssize_t>EXCERPT_BYTES)
        memcpy(cut, p, size)
        cut[size] = 0
        text.end = cut + size
        cdef const char* after = skip_value(text, cut)
        if after != NULL and (after < text.end or size == left):
            return PyUnicode_DecodeUTF8(cut, after - cut, "replace")
        if size == left:
            return PyUnicode_DecodeUTF8(cut, size, "replace")
        return PyUnicode_DecodeUTF8(cut, EXCERPT_BYTES - 3, "replace") + "..."

    def is_b64_object(self):
        """Whether the value at the cursor is an object with one member, `b64`, that is a string; does not move."""
        return self.is_b64_at(self.place())

    cdef bint is_b64_at(self, const char* p):
        cdef Text text
        cdef Quoted value
        text.end = self.text.end
        return p[0] == c"{" and read_b64_object(text, p, value) != NULL

    def first_item_kind(self):
        """`kind()` of the first item of the list at the cursor, `b` for a b64 object, `]` for none; does not move."""
        cdef const char* p = self.place()
        if p[0] != c"[":
            self.text.syntax(p, "expected '['")
            raise self.syntax_error()
        p = skip_space(p + 1, self.text.end)
        if p[0] == c"]":
            return "]"
        return "b" if self.is_b64_at(p) else self.kind_at(p)

    # ---- small values ------------------------------------------------------------------------------------------------

    def string(self, str path not None):
        """The string at the cursor; `path` is its JSON path, for the error if it is none."""
        cdef const char* p = self.place()
        if p[0] != c'"':
            raise InvalidTensor(expected="string", got=self.described(p), path=path)
        return self.read_string(p)

    cdef str read_string(self, const char* p):
        cdef Quoted quoted_text
        quoted_text.begin = p + 1
        quoted_text.end = self.moved(skip_string(self.text, p)) - 1
        return self.decoded(quoted_text, NULL)

    cdef str decoded(self, Quoted& value, const char* errors):
        """The characters between two quotes; what is not UTF-8 there is the whole text's fault."""
        cdef cstring plain
        try:
            if not value.has_escape():
                return PyUnicode_DecodeUTF8(value.begin, value.end - value.begin, errors)
            unescape(value.begin, value.end, plain)
            return PyUnicode_DecodeUTF8(plain.data(), plain.size(), errors)
        except UnicodeDecodeError:
            self.text.syntax(value.begin, "a string that is not UTF-8")
            raise self.syntax_error() from None

    def value(self, str path not None):
        """The value at the cursor as Python's own: for small things.

        Nested deeper than `max_depth` is refused at `path`. Integers keep all digits; of equal keys the first counts.
        """
        cdef list opened = []    # containers not closed yet, outermost first
        cdef list keys = []      # of the open objects: the key whose value is being read
        while True:
            if self.place()[0] == c"[" or self.text.at[0] == c"{":
                if len(opened) >= self.max_depth:
                    raise self.depth_error(path, self.max_depth)
                built = self.open_container(keys)
                if self.step_into(built, keys):
                    opened.append(built)
                    continue
            else:
                built = self.scalar()
            while True:
                if not opened:
                    return built
                container = opened[len(opened) - 1]
                self.attach(container, keys, built)
                if self.step_into(container, keys):
                    break
                built = opened.pop()

    cdef object open_container(self, list keys):
        cdef bint is_object = self.text.at[0] == c"{"
        self.text.at += 1
        self.fresh = True
        if not is_object:
            return []
        keys.append(None)
        return {}

    cdef bint step_into(self, object container, list keys) except -1:
        """To the next value of `container`; False: it is closed."""
        if isinstance(container, list):
            return self.next_item()
        key = self.next_key()
        if key is None:
            keys.pop()
            return False
        keys[len(keys) - 1] = key
        return True

    cdef int attach(self, object container, list keys, object built) except -1:
        if isinstance(container, list):
            (<list>container).append(built)
        else:
            (<dict>container).setdefault(keys[len(keys) - 1], built)
        return 0

    cdef object scalar(self):
        cdef const char* p = self.text.at
        if p[0] == c'"':
            return self.read_string(p)
        token = p[: self.moved(skip_scalar(self.text, p)) - p]
        if p[0] == c"t" or p[0] == c"f":
            return p[0] == c"t"
        if p[0] == c"n":
            return None
        return int(token) if token.lstrip(b"-").isdigit() else float(token)

    # ---- tensors -----------------------------------------------------------------------------------------------------

    def tensor(self, int dtype, str path not None, bint quoted_floats=False):
        """The nested lists (or the one scalar) at the cursor as a C-contiguous array of that ONNX type.

        The shape is that of the first elements; what does not fit it, or the type, raises InvalidTensor with its own
        path below `path`. `quoted_floats`: "NaN" and the infinities in quotes are taken too. Thread: the GIL is given
        away for long texts.
        """
        cdef TensorReader reader
        cdef const char* p = self.place()
        check_dtype(dtype)
        reader.dtype = dtype
        reader.max_rank = min(self.max_depth, <int>MAX_RANK)
        self.text.quoted_floats = quoted_floats
        if self.text.end - p > NOGIL_BYTES:
            with nogil:
                p = reader.read(self.text, p)
        else:
            p = reader.read(self.text, p)
        if p == NULL:
            raise self.tensor_error(reader, path)
        array = new_array(reader, -1)
        if dtype == STRING:
            self.fill_strings(array, reader, path, "", 0)
        elif self.text.finite:
            refuse_non_finite(array, dtype, path, "", array.ndim)
        self.text.at = p
        return array

    def rows(
        self,
        tuple names not None,
        tuple dtypes not None,
        str path not None,
        bint others=False,
        bint quoted_floats=False,
    ):
        """The list of objects at the cursor, each with `names` as keys: an array [rows, ...] per name.

        `others`: further keys are passed over, else refused.
        """
        cdef RowReader reader
        cdef const char* p = self.place()
        self.text.quoted_floats = quoted_floats
        self.prepare_rows(reader, names, dtypes)
        reader.others = others
        if self.text.end - p > NOGIL_BYTES:
            with nogil:
                p = reader.read(self.text, p)
        else:
            p = reader.read(self.text, p)
        if p == NULL:
            raise self.rows_error(reader, names, path)
        columns = {}
        for index, name in enumerate(names):
            columns[name] = new_array(reader.column(index).tensor, reader.rows)
            if dtypes[index] == STRING:
                self.fill_strings(columns[name], reader.column(index).tensor, path, member_path(name), reader.rows)
            elif self.text.finite:
                refuse_non_finite(columns[name], dtypes[index], path, member_path(name), 1)
        self.text.at = p
        return columns

    def table(self, tuple dtypes not None, str path not None, bint quoted_floats=False):
        """The list of rows at the cursor, each a list with one value for each of `dtypes`: an array [rows] for each.

        A row of another length is an error whose `fault` is `length`.
        """
        cdef RowReader reader
        cdef const char* p = self.place()
        cdef int index
        self.text.quoted_floats = quoted_floats
        self.prepare_rows(reader, ("",) * len(dtypes), dtypes)
        reader.lists = True
        for index in range(reader.count):
            reader.column(index).tensor.rank = 0
        if self.text.end - p > NOGIL_BYTES:
            with nogil:
                p = reader.read(self.text, p)
        else:
            p = reader.read(self.text, p)
        if p == NULL:
            raise self.table_error(reader, path)
        columns = []
        for index in range(reader.count):
            columns.append(new_array(reader.column(index).tensor, reader.rows))
            if dtypes[index] == STRING:
                self.fill_strings(columns[index], reader.column(index).tensor, path, f"[{index}]", reader.rows)
            elif self.text.finite:
                refuse_non_finite(columns[index], dtypes[index], path, f"[{index}]", 1)
        self.text.at = p
        return columns

    cdef int prepare_rows(self, RowReader& reader, tuple names, tuple dtypes) except -1:
        cdef int index
        if len(names) != len(dtypes):
            raise ValueError("one dtype per name")
        if not reader.allocate(<int>len(names)):
            raise MemoryError
        for index in range(reader.count):
            check_dtype(dtypes[index])
            reader.column(index).name = names[index].encode()
            reader.column(index).tensor.dtype = dtypes[index]
            reader.column(index).tensor.max_rank = min(self.max_depth, <int>MAX_RANK) - 1
            reader.column(index).tensor.alone = False
        return 0

    cdef int fill_strings(self, cnp.ndarray array, TensorReader& reader, str path, str member, int64_t rows) except -1:
        """The reader's spans as `str` objects. `rows`: what the first axis counts, 0 if no row objects were read."""
        cdef PyObject** slots = <PyObject**>cnp.PyArray_DATA(array)
        cdef int64_t index
        for index in range(reader.items):
            element = self.span_string(reader, index, path, member, rows)
            Py_INCREF(element)
            Py_XDECREF(slots[index])
            slots[index] = <PyObject*>element
        return 0

    cdef str span_string(self, TensorReader& reader, int64_t index, str path, str member, int64_t rows):
        cdef StringSpan* span = reader.spans() + index
        cdef Quoted value
        cdef cstring plain, raw
        value.begin = span.begin
        value.end = span.begin + span.size
        if not span.base64:
            return self.decoded(value, NULL)
        unescape(value.begin, value.end, plain)
        cdef Base64 outcome = decode_base64(plain.data(), plain.data() + plain.size(), raw)
        if outcome == Base64.ok:
            try:
                return PyUnicode_DecodeUTF8(raw.data(), raw.size(), NULL)
            except UnicodeDecodeError:
                expected, got = "base64 of UTF-8 text", "bytes that are not UTF-8"
        else:
            expected = "base64 of the standard alphabet (RFC 4648 section 4)"
            got = f"{_B64_REASONS[<int>outcome]} in {self.excerpt_at(value.begin - 1)}"
        per_row = reader.items // rows if rows else 0
        row = f"[{index // per_row}]{member}" if rows else ""
        raise InvalidTensor(expected=expected, got=got, path=path + row + element_path(reader, index), fault="base64")

    # ---- errors ------------------------------------------------------------------------------------------------------

    cdef object syntax_error(self):
        """The text's fault as InvalidJson."""
        if self.text.fault == Fault.memory:
            return MemoryError()
        if skip_space(self.begin + mark_bytes(self.begin), self.text.end) == self.text.end:
            return InvalidJson("The document is empty", 0)
        return InvalidJson(self.text.reason.decode(), self.text.bad - self.begin)

    cdef str described(self, const char* p):
        """`string "abc"`, `number 5`, `true`: the value at `p`, cut."""
        cdef str kind = self.kind_at(p)
        return _NOUNS.get(kind, "") + self.excerpt_at(p)

    cdef object depth_error(self, str path, int max_depth):
        return InvalidTensor(expected=f"at most {max_depth} nested lists", got="a deeper one", path=path, fault="depth")

    cdef object tensor_error(self, TensorReader& reader, str path):
        """Why `reader.read` failed. `path`: of the value it was given."""
        cdef Fault fault = self.text.fault
        if fault == Fault.syntax or fault == Fault.memory:
            return self.syntax_error()
        if fault == Fault.depth:
            return self.depth_error(path, reader.max_rank)
        if fault == Fault.list_length:
            place = path + index_path(reader.at, reader.depth - 1)
            wanted, got = items_words(self.text.wanted), items_words(self.text.got)
            return InvalidTensor(expected=wanted, got=got, path=place, fault="length")
        kind = "type"
        if fault == Fault.range:
            expected = range_words(reader.dtype)
        elif reader.depth < reader.rank:
            expected, kind = items_words(reader.lengths[reader.depth]), "level"
        else:
            expected = element_words(reader.dtype)
        place = path + index_path(reader.at, reader.depth)
        return InvalidTensor(expected=expected, got=self.described(self.text.bad), path=place, fault=kind)

    cdef object rows_error(self, RowReader& reader, tuple names, str path):
        """Why `reader.read` failed. `path`: of the list of rows."""
        cdef Fault fault = self.text.fault
        if fault == Fault.syntax or fault == Fault.memory:
            return self.syntax_error()
        row = f"{path}[{reader.rows}]"
        if fault == Fault.not_object:
            return InvalidTensor(expected="object", got=self.described(self.text.bad), path=row, fault="row")
        if fault == Fault.unknown_key:
            got = f"unknown key {quoted(reader.unknown.decode('utf-8', 'replace'))}"
        elif fault == Fault.duplicate_key:
            got = f"key {quoted(names[reader.failed])} twice"
        elif fault == Fault.missing_key:
            got = f"no key {quoted(names[reader.failed])}"
        elif reader.failed < 0:
            return InvalidTensor(expected="list of objects", got=self.described(self.text.bad), path=path)
        else:
            return self.tensor_error(reader.column(reader.failed).tensor, row + member_path(names[reader.failed]))
        expected = f"object whose keys must be equal to: {','.join(names)}"
        return InvalidTensor(expected=expected, got=got, path=row, fault="keys")


    cdef object table_error(self, RowReader& reader, str path):
        """Why `reader.read` failed over rows that are lists. `path`: of the list of rows."""
        cdef Fault fault = self.text.fault
        if fault == Fault.syntax or fault == Fault.memory:
            return self.syntax_error()
        row = f"{path}[{reader.rows}]"
        if reader.failed >= 0:
            return self.tensor_error(reader.column(reader.failed).tensor, f"{row}[{reader.failed}]")
        if fault == Fault.list_length:
            more, given = self.text.got > reader.count, min(self.text.got, <int64_t>reader.count)
            got = ("more than " if more else "") + values_words(given)
            return InvalidTensor(expected=values_words(reader.count), got=got, path=row, fault="length")
        if fault == Fault.not_object:
            expected = f"list of {values_words(reader.count)}"
            return InvalidTensor(expected=expected, got=self.described(self.text.bad), path=row, fault="row")
        return InvalidTensor(expected="list of rows", got=self.described(self.text.bad), path=path)


cdef int refuse_non_finite(object array, int dtype, str path, str member, int before) except -1:
    """Raises InvalidTensor for the first NaN or infinity. `member` stands behind the first `before` indices."""
    found = first_non_finite(array, DType(dtype))
    if found is None:
        return 0
    places = [f"[{index}]" for index in found.indices]
    place = "".join([path, *places[:before], member, *places[before:]])
    raise InvalidTensor(expected=f"number that is finite as {DType(dtype).name}", got=found.text, path=place)


cdef int check_dtype(int dtype) except -1:
    if dtype < 0 or dtype > 16 or NUMPY_TYPES[dtype] < 0:
        raise ValueError(f"no tensor of ONNX type {dtype} is read from JSON")
    return 0


cdef bint is_plain_key(const char* p, const char* key, Py_ssize_t size) noexcept:
    """Whether `key` stands at `p`, and in quotes means itself: no quote, escape or control character is in it."""
    cdef Py_ssize_t i
    for i in range(size):
        if p[i] != key[i] or p[i] == c'"' or p[i] == c"\\" or <unsigned char>p[i] < 0x20:
            return False
    return True


def sole_rows(bytes body not None, bytes key not None, int dtype, str path not None, bint finite=False):
    """The tensor of `{"<key>": [...]}` where that is all of the body and the list's first item is no object; else None.

    The request that is sent most, in one call. None says nothing about the text: it may be right in another form, or
    wrong.
    Raises InvalidTensor and InvalidJson for what stands in the list, as `Cursor.tensor` does.
    """
    cdef Cursor cursor = Cursor(body, 100, finite)
    cdef const char* p = cursor.place()
    cdef Py_ssize_t key_bytes = PyBytes_GET_SIZE(key)
    if p[0] != c"{":
        return None
    p = skip_space(p + 1, cursor.text.end)
    # The key as it stands: escaped spellings of it take the general way. One NUL stands behind every body.
    if cursor.text.end - p < key_bytes + 2 or p[0] != c'"' or p[key_bytes + 1] != c'"':
        return None
    if not is_plain_key(p + 1, PyBytes_AS_STRING(key), key_bytes):
        return None
    p = skip_space(p + key_bytes + 2, cursor.text.end)
    if p[0] != c":":
        return None
    cursor.text.at = p = skip_space(p + 1, cursor.text.end)
    if p[0] != c"[":
        return None
    p = skip_space(p + 1, cursor.text.end)
    if p[0] == c"]" or p[0] == c"{":
        return None
    rows = cursor.tensor(dtype, path)
    return rows if cursor.place()[0] == c"}" else None


def between(bytes body not None, bytes before not None, bytes after not None, int dtype, bint quoted_floats=False):
    """The tensor of a body that is a list between `before` and `after`, byte for byte; else None.

    Raises as `sole_rows`.
    """
    cdef Cursor cursor = Cursor(body, 100, False)
    if not body.startswith(before):
        return None
    cursor.seek(len(before))
    if cursor.place()[0] != c"[":
        return None
    rows = cursor.tensor(dtype, "", quoted_floats)
    return rows if body[cursor.offset :] == after else None
