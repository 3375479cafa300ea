"""What passes between protocols, engine and backends: tensors, signatures, requests, results. Plain values only."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, IntEnum
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fastserve.errors import FastServeError, Fault

Tensor = np.ndarray[Any, np.dtype[Any]]
"""C-contiguous. STRING tensors are object arrays of `str`; BFLOAT16 tensors are uint16 arrays of their bits."""


class DType(IntEnum):
    """Element types, by ONNX's own numbers (onnx.proto3, TensorProto.DataType)."""

    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    BFLOAT16 = 16

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype of this type's arrays here (STRING: object; BFLOAT16: uint16)."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        """Whether NaN and the infinities are values of this type."""
        return self in _FLOATS


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.FLOAT: np.dtype("float32"),
    DType.UINT8: np.dtype("uint8"),
    DType.INT8: np.dtype("int8"),
    DType.UINT16: np.dtype("uint16"),
    DType.INT16: np.dtype("int16"),
    DType.INT32: np.dtype("int32"),
    DType.INT64: np.dtype("int64"),
    DType.STRING: np.dtype("object"),
    DType.BOOL: np.dtype("bool"),
    DType.FLOAT16: np.dtype("float16"),
    DType.DOUBLE: np.dtype("float64"),
    DType.UINT32: np.dtype("uint32"),
    DType.UINT64: np.dtype("uint64"),
    DType.BFLOAT16: np.dtype("uint16"),
}
_FLOATS = frozenset((DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.BFLOAT16))


class NonFinite(Struct, frozen=True):
    """A number that is none: its place, and which: NaN, Infinity or -Infinity."""

    indices: tuple[int, ...]
    text: str


def first_non_finite(tensor: Tensor, dtype: DType) -> NonFinite | None:
    """The first NaN or infinity, in C order; None where there is none, or can be none."""
    if not dtype.is_float:
        return None
    # bfloat16 is the upper half of a float.
    values = (tensor.astype(np.uint32) << 16).view(np.float32) if dtype is DType.BFLOAT16 else tensor
    bad = ~np.isfinite(values)
    if not bad.any():
        return None
    place = np.unravel_index(int(bad.argmax()), bad.shape)
    text = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(float(values[place]), "NaN")
    return NonFinite(tuple(int(index) for index in place), text)


class TensorSpec(Struct, frozen=True):
    """Name, element type and shape of one input or output.

    `shape` None: unknown rank; a dimension of -1 is free, its symbol (if any) stands in `dim_names` at the same place.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...] | None
    dim_names: tuple[str, ...] = ()


class Signature(Struct, frozen=True):
    """A model's named inputs and outputs, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Batching(Struct, frozen=True):
    """Whether rows of different requests may share a run, as found from the graph and proven by the probe run."""

    batchable: bool
    reason: str


class VersionState(Enum):
    """Life of one version in one worker."""

    UNLOADED = "UNLOADED"
    LOADING = "LOADING"
    READY = "READY"
    DRAINING = "DRAINING"
    FAILED = "FAILED"


class VersionStatus(Struct, frozen=True):
    """One line of a model's status; `reason` says why it is FAILED, else empty. `fault`: what kind of reason that is."""

    version: int
    state: VersionState
    reason: str = ""
    fault: Fault = Fault.UNKNOWN


HIGHEST_PRIORITY = 1 << 31
"""A request of level L has the priority HIGHEST_PRIORITY - L, so level 1 leaves first; one that names no level has 0."""


class InferRequest(Struct, gc=False):
    """What a protocol asks of the engine.

    `inputs`: every input of the signature by name. `outputs`: names wanted, None for all, in the signature's order.
    `received_ns`, `deadline_ns`: on the engine's clock; a deadline of 0 is none. `priority`: higher leaves first. `wait_ns`:
    the longest wait in the queue, 0 for any; below 0: after such a wait others of its priority go first.
    """

    inputs: dict[str, Tensor]
    outputs: tuple[str, ...] | None = None
    id: str = ""
    received_ns: int = 0
    deadline_ns: int = 0
    priority: int = 0
    wait_ns: int = 0


class Timing(Struct, gc=False):
    """Where one request's time went. `batch_rows`: rows of the batch that it rode in."""

    queue_ns: int = 0
    run_ns: int = 0
    batch_rows: int = 0


class InferResult(Struct, gc=False):
    """What the engine answers. Arrays are the receiver's own."""

    model: str
    version: int
    outputs: dict[str, Tensor]
    timing: Timing


def refused_name(name: str) -> str:
    """Why a model cannot have this name, which is a part of its URLs; empty where it can."""
    if not name:
        return "a model's name cannot be empty"
    if not name.isprintable():
        return "a model's name cannot have characters that are not printable, or bytes that are not UTF-8"
    bad = sorted(set("/:%\\").intersection(name))
    return f"a model's name cannot have {' '.join(bad)} in it" if bad else ""


def printable(text: str) -> str:
    """`text` with what would garble a terminal escaped."""
    return text if text.isprintable() else text.encode("unicode_escape", "surrogateescape").decode("ascii")


Answer = Callable[[InferResult | FastServeError], None]
"""Called exactly once per submitted request, from any thread."""

Metadata = Mapping[str, str]
"""A model file's own key/value metadata. `CLASSES`: if known, names of the classes in the order of the scores, as JSON."""

CLASSES = "classes"


def encode_classes(names: Iterable[str | int]) -> str:
    """Class names as they stand in metadata."""
    return msgspec.json.encode(list(names)).decode()


def decode_classes(metadata: Metadata) -> tuple[str, ...]:
    """The class names in metadata, integers in decimal; none where they are not known."""
    text = metadata.get(CLASSES)
    names: list[str | int] = msgspec.json.decode(text, type=list[str | int]) if text else []
    return tuple(map(str, names))


OPEN, INFER, READ, LOG, ADMIN = "open", "infer", "read", "log", "admin"
"""The scopes of routes. OPEN: anybody's, for health. LOG: writing to the prediction log. ADMIN: what changes the server."""

SCOPES = frozenset({INFER, READ, LOG, ADMIN})
"""What a caller may have."""


class Caller(Struct, frozen=True, kw_only=True):
    """Who sent a request, and what they may do.

    `models`: what the own names of models that they may use match, None: any; `names`: the same without wildcards, for
    aliases. `spaces`: ids of the spaces that they may log to, None: any. `sent_by_browsers`: their credentials are of
    the kind that browsers send by themselves, whichever page asks.
    """

    name: str
    scopes: frozenset[str]
    models: re.Pattern[str] | None = None
    names: frozenset[str] = frozenset()
    spaces: frozenset[str] | None = None
    sent_by_browsers: bool = False

    def may_use(self, model: str, alias: str | None = None) -> bool:
        """Whether they may use the model of that own name; `alias`: what it was called by."""
        return self.models is None or alias in self.names or self.models.match(model) is not None

    def may_log_to(self, space: str) -> bool:
        """Whether they may write to that space's log."""
        return self.spaces is None or space in self.spaces


EVERYBODY = Caller(name="", scopes=SCOPES)
"""The caller where nobody is asked who they are."""
