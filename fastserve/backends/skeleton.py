"""An ONNX file without the contents of its large tensors: what it says of itself, at the price of that alone.

Parsing and letting go of a whole file hold the GIL (a file of 160 MB: up to a second), and requests of every other model
would wait. So the fields are walked here, and large contents are neither read nor parsed.
Thread: any, away from serving. Memory: what is left, some hundred kB as a rule.
"""

import os
from collections.abc import Mapping
from pathlib import Path

LARGE_BYTES = 1 << 17
"""Contents up to here stay: names and numbers of classes are read from them."""

_CHUNK_BYTES = 1 << 16
_MAX_DEPTH = 64
# So many fields take a second; a file of more is left to the native parser.
_MAX_FIELDS = 1 << 20
_FIXED_BYTES = {1: 8, 5: 4}
_VARINT, _LENGTH = 0, 2


class Kind:
    """A kind of message, by field numbers of onnx.proto: what to look into, and what to leave out where it is large."""

    def __init__(self, left_out: frozenset[int] = frozenset()) -> None:
        self.parts: Mapping[int, Kind] = {}
        self.left_out = left_out


_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _SPARSE, _FUNCTION = Kind(), Kind(), Kind(), Kind(), Kind(), Kind()
_TENSOR = Kind(left_out=frozenset({9}))  # raw_data
_MODEL.parts = {7: _GRAPH, 25: _FUNCTION}
_GRAPH.parts = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_NODE.parts = {5: _ATTRIBUTE}
_ATTRIBUTE.parts = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}
_SPARSE.parts = {1: _TENSOR, 2: _TENSOR}
_FUNCTION.parts = {7: _NODE}


class Skeleton:
    """What is left of a file. `complete`: nothing had to be left out."""

    def __init__(self, data: bytes, complete: bool) -> None:
        self.data = data
        self.complete = complete


class _OddError(Exception):
    """Not what a walk can follow: the native parser says what is wrong with it, if anything is."""


def read_skeleton(path: Path) -> Skeleton:
    """Read the model file in `path` without its large tensors' contents. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > LARGE_BYTES:
            try:
                walk = _Walk(file.fileno())
                data = walk.message(0, size_bytes, _MODEL, 0)
                if walk.left_out:
                    return Skeleton(data, complete=False)
            except _OddError:
                pass
        return Skeleton(file.read(), complete=True)


class _Walk:
    """From field to field of one file; a window of it is held."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._window = b""
        self._start = 0
        self._fields = 0
        self.left_out = 0

    def message(self, start: int, end: int, kind: Kind, depth: int) -> bytes:
        """The message that lies there, without what is left out of it. Raises _OddError."""
        pieces: list[bytes] = []
        at = kept = start
        while at < end:
            field, content, after = self._field(at)
            if after > end:
                raise _OddError
            if after - content > LARGE_BYTES:
                part = kind.parts.get(field)
                if field in kind.left_out:
                    pieces.append(self._bytes(kept, at))
                    kept = after
                    self.left_out += 1
                elif part is not None and depth < _MAX_DEPTH:
                    inner = self.message(content, after, part, depth + 1)
                    pieces += [self._bytes(kept, at), _varint(field << 3 | _LENGTH), _varint(len(inner)), inner]
                    kept = after
            at = after
        pieces.append(self._bytes(kept, end))
        return b"".join(pieces)

    def _field(self, at: int) -> tuple[int, int, int]:
        """Number, start of the content, and end of the field at `at`."""
        self._fields += 1
        if self._fields > _MAX_FIELDS:
            raise _OddError
        tag, at = self._number(at)
        wire = tag & 7
        if wire == _LENGTH:
            length, at = self._number(at)
            return tag >> 3, at, at + length
        if wire == _VARINT:
            return tag >> 3, at, self._number(at)[1]
        if wire not in _FIXED_BYTES:
            raise _OddError
        return tag >> 3, at, at + _FIXED_BYTES[wire]

    def _number(self, at: int) -> tuple[int, int]:
        """A varint, and where it ends."""
        if not self._start <= at <= self._start + len(self._window) - 10:
            self._window, self._start = os.pread(self._file, _CHUNK_BYTES, at), at
        number = shift = 0
        for byte in self._window[at - self._start : at - self._start + 10]:
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number, at + shift // 7
        raise _OddError

    def _bytes(self, start: int, end: int) -> bytes:
        pieces = []
        while start < end:
            pieces.append(os.pread(self._file, end - start, start))
            if not pieces[-1]:  # it was cut short while it was read
                raise _OddError
            start += len(pieces[-1])
        return b"".join(pieces)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
