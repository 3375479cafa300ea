"""One entry of a request's `inputs` or `outputs`: read where it stands, checked against the model's signature.

Members may come in any order. Where `data` comes before what is needed to read it, its place is kept and it is read when
the entry has ended.

Pure. Memory: of `data`, numbers go straight into an array that grows with them; what a shape claims is compared with what
came, in whole numbers without bounds, before anything is made from it.
"""

import math
from collections.abc import Callable
from typing import ClassVar

from msgspec import Struct

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidTensor, quoted
from fastserve.limits import MAX_RANK
from fastserve.protocols.oip import parameters
from fastserve.protocols.oip.classification import UNRANKED
from fastserve.protocols.oip.errors import ContentTyped, NotOffered
from fastserve.protocols.oip.plan import InferPlan, InputPlan
from fastserve.protocols.oip.schema import DATATYPES, shape_text
from fastserve.types import DType, Tensor

INT64 = int(DType.INT64)
MAX_BYTES = 2**63 - 1
KNOWN_DATATYPES = frozenset(DATATYPES.values())

_SOURCES = '"data" or parameters.binary_data_size'


class Behind(Struct, frozen=True, gc=False):
    """An input whose data stands behind the JSON: `offset` counts from there."""

    name: str
    dtype: int
    offset: int
    size: int
    shape: tuple[int, ...]
    path: str


class Hole(Struct, frozen=True, gc=False):
    """A value that differs from request to request, from `start` to `end` of the text.

    `name`: of the input whose data it is, which then has `count` elements; empty for the request's id.
    """

    start: int
    end: int
    name: str = ""
    dtype: int = 0
    takes_words: bool = False
    shape: tuple[int, ...] = ()
    count: int = 0
    path: str = ""


class InputReader:
    """One entry of `inputs`."""

    def __init__(self, cursor: Cursor, plan: InferPlan, path: str) -> None:
        self._cursor = cursor
        self._plan = plan
        self._path = path
        self._input: InputPlan | None = None
        self._datatype = ""
        self._shape: tuple[int, ...] | None = None
        self._size = -1
        self._data: Tensor | None = None
        self._data_start = -1
        self._data_end = -1

    def read(self) -> "InputReader":
        """Over the entry at the cursor. Raises InvalidTensor, InvalidJson, NotOffered."""
        cursor = self._cursor
        if cursor.kind() != "{":
            raise InvalidTensor(expected="object", got=cursor.excerpt(), path=self._path)
        cursor.enter_object()
        seen: set[str] = set()
        while (key := cursor.next_key()) is not None:
            read = self._READERS.get(key)
            if read is None or key in seen:
                cursor.skip()
            else:
                seen.add(key)
                read(self)
        self._finish()
        return self

    @property
    def name(self) -> str:
        """The input's name."""
        return self._known().name

    def tensor(self) -> Tensor | None:
        """What stood in the JSON, in its shape; None where the data is binary."""
        return self._data

    def hole(self) -> Hole:
        """Where the tensor stood in the JSON."""
        known = self._known()
        assert self._data is not None
        return Hole(
            start=self._data_start,
            end=self._data_end,
            name=known.name,
            dtype=known.dtype,
            takes_words=known.takes_words,
            shape=self._data.shape,
            count=self._data.size,
            path=f"{self._path}.data",
        )

    def behind(self, offset: int) -> Behind:
        """Where the data is, of an entry without any; the binary data before it ends at `offset`."""
        known = self._known()
        assert self._shape is not None
        path = self._path
        return Behind(known.name, known.dtype, offset, self._size, self._shape, path)

    def _known(self) -> InputPlan:
        assert self._input is not None
        return self._input

    def _read_name(self) -> None:
        name = self._cursor.string(f"{self._path}.name")
        self._input = self._plan.inputs.get(name)
        if self._input is None:
            raise InvalidTensor(
                expected=f"one of the model's inputs ({self._plan.takes})", got=quoted(name), path=f"{self._path}.name"
            )

    def _read_datatype(self) -> None:
        self._datatype = self._cursor.string(f"{self._path}.datatype")
        if self._datatype not in KNOWN_DATATYPES:
            raise InvalidTensor(
                expected=f"one of {', '.join(DATATYPES.values())}",
                got=quoted(self._datatype),
                path=f"{self._path}.datatype",
            )

    def _read_shape(self) -> None:
        self._shape = read_shape(self._cursor, f"{self._path}.shape")

    def _read_parameters(self) -> None:
        found = parameters.read_parameters(self._cursor, f"{self._path}.parameters", parameters.INPUT)
        if "shared_memory_region" in found:
            raise NotOffered(f"shared memory is not served; send the data itself - at `{self._path}.parameters`")
        if self._plan.heeds_types and parameters.is_typed(found):
            raise ContentTyped
        self._size = found.get("binary_data_size", -1)

    def _read_data(self) -> None:
        cursor = self._cursor
        if cursor.kind() == "n":  # some clients write what they leave out as null
            cursor.skip()
            return
        self._data_start = cursor.offset
        if self._input is not None and self._datatype == self._input.datatype:
            self._data = self._tensor(self._input)
        else:
            cursor.skip()
        self._data_end = cursor.offset

    _READERS: ClassVar[dict[str, Callable[["InputReader"], None]]] = {
        "name": _read_name,
        "datatype": _read_datatype,
        "shape": _read_shape,
        "parameters": _read_parameters,
        "data": _read_data,
    }

    def _tensor(self, known: InputPlan) -> Tensor:
        cursor = self._cursor
        path = f"{self._path}.data"
        if cursor.kind() != "[":
            raise InvalidTensor(expected=f"list of {known.datatype} elements", got=cursor.excerpt(), path=path)
        return cursor.tensor(known.dtype, path, known.takes_words)

    def _finish(self) -> None:
        known, shape = self._input, self._shape
        if known is None or not self._datatype or shape is None:
            missing = "name" if known is None else "datatype" if not self._datatype else "shape"
            raise InvalidTensor(expected=f'an object with "{missing}"', got="none", path=self._path)
        if self._datatype != known.datatype:
            raise InvalidTensor(
                expected=f"{known.datatype} for input {quoted(known.name)}",
                got=self._datatype,
                path=f"{self._path}.datatype",
            )
        if self._data_start >= 0 and self._data is None:
            after = self._cursor.offset
            self._cursor.seek(self._data_start)
            self._data = self._tensor(known)
            self._cursor.seek(after)
        self._check_data(known, shape)

    def _check_data(self, known: InputPlan, shape: tuple[int, ...]) -> None:
        data, size, path = self._data, self._size, self._path
        if (data is None) == (size < 0):
            raise InvalidTensor(
                expected=f"exactly one of {_SOURCES}", got="none" if data is None else "both", path=path
            )
        count = element_count(shape, known.item_bytes, f"{path}.shape")
        if data is not None:
            if data.size != count:
                raise InvalidTensor(
                    expected=f"{count} elements for shape {shape_text(shape)}", got=str(data.size), path=f"{path}.data"
                )
            self._data = data.reshape(shape)
        elif known.item_bytes and size != count * known.item_bytes:
            raise InvalidTensor(
                expected=f"{count * known.item_bytes} bytes for {known.datatype} of shape {shape_text(shape)}",
                got=str(size),
                path=f"{path}.parameters.binary_data_size",
            )


class OutputReader:
    """One entry of `outputs`."""

    def __init__(self, cursor: Cursor, plan: InferPlan, path: str) -> None:
        self._cursor = cursor
        self._plan = plan
        self._path = path
        self.name = ""
        self.binary: bool | None = None
        """What the entry says of its form; None: nothing."""
        self.classes = 0
        """How many of its best classes are wanted instead of it; 0: none."""

    def read(self) -> "OutputReader":
        """Over the entry at the cursor."""
        cursor = self._cursor
        if cursor.kind() != "{":
            raise InvalidTensor(expected="object", got=cursor.excerpt(), path=self._path)
        cursor.enter_object()
        seen: set[str] = set()
        while (key := cursor.next_key()) is not None:
            if key == "name" and key not in seen:
                self._read_name()
            elif key == "parameters" and key not in seen:
                self._read_parameters()
            else:
                cursor.skip()
            seen.add(key)
        if not self.name:
            raise InvalidTensor(expected='an object with "name"', got="none", path=self._path)
        output = self._plan.outputs[self.name]
        if self.classes and output.dtype in UNRANKED:
            raise InvalidTensor(
                expected="an output of numbers, whose classes can be ranked",
                got=DATATYPES[DType(output.dtype)],
                path=f"{self._path}.parameters.classification",
            )
        return self

    def _read_name(self) -> None:
        self.name = self._cursor.string(f"{self._path}.name")
        if self.name not in self._plan.outputs:
            raise InvalidTensor(
                expected=f"one of the model's outputs ({self._plan.gives})",
                got=quoted(self.name),
                path=f"{self._path}.name",
            )

    def _read_parameters(self) -> None:
        found = parameters.read_parameters(self._cursor, f"{self._path}.parameters", parameters.OUTPUT)
        if "shared_memory_region" in found:
            raise NotOffered(f"shared_memory_region is not served - at `{self._path}.parameters`")
        self.binary = found.get("binary_data")
        self.classes = found.get("classification", 0)


def read_shape(cursor: Cursor, path: str) -> tuple[int, ...]:
    """The list of dimensions at the cursor, none of them negative."""
    if cursor.kind() != "[":
        raise InvalidTensor(expected="list of dimensions", got=cursor.excerpt(), path=path)
    # As a tensor: a list of a million items is told as what it is, at the cost of its text.
    dims = cursor.tensor(INT64, path)
    if dims.ndim != 1 or dims.size > MAX_RANK:
        got = "nested lists" if dims.ndim != 1 else f"{dims.size}"
        raise InvalidTensor(expected=f"list of at most {MAX_RANK} dimensions", got=got, path=path)
    shape: tuple[int, ...] = tuple(dims.tolist())
    for axis, size in enumerate(shape):
        if size < 0:
            raise InvalidTensor(expected="dimension of 0 or more", got=str(size), path=f"{path}[{axis}]")
    return shape


def element_count(shape: tuple[int, ...], item_bytes: int, path: str) -> int:
    """How many elements a shape has. Raises InvalidTensor for one that no tensor can have."""
    count = math.prod(shape)
    # What the other dimensions claim beside a 0 counts too: arrays of such shapes cannot be made.
    whole = count or math.prod([size or 1 for size in shape])
    if whole * max(item_bytes, 1) > MAX_BYTES:
        raise InvalidTensor(expected=f"shape of at most {MAX_BYTES} bytes", got=shape_text(shape)[:256], path=path)
    return count
