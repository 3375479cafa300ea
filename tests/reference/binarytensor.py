"""The plain twin of ext/binarytensor.pyx."""

import math
import struct

import numpy as np

from fastserve.types import DType, Tensor

MAX_BYTES = 2**63


class Refused(Exception):
    """The bytes do not make the tensor."""


def view(body: bytes, offset: int, size: int, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    _check(body, offset, size, shape)
    if math.prod(shape) * dtype.numpy.itemsize != size:
        raise Refused
    part = body[offset : offset + size]
    if dtype is DType.BOOL:
        return np.array([byte != 0 for byte in part], bool).reshape(shape)
    return np.array(struct.unpack(f"<{len(part)}B", part), np.uint8).view(dtype.numpy).reshape(shape)


def strings(body: bytes, offset: int, size: int, shape: tuple[int, ...]) -> Tensor:
    _check(body, offset, size, shape)
    rest = body[offset : offset + size]
    items: list[str] = []
    try:
        while rest:
            (length,) = struct.unpack("<I", rest[:4])
            if length > len(rest) - 4:
                raise Refused
            items.append(rest[4 : 4 + length].decode())
            rest = rest[4 + length :]
    except (struct.error, UnicodeDecodeError) as error:
        raise Refused from error
    if len(items) != math.prod(shape):
        raise Refused
    return np.array([*items, None], object)[:-1].reshape(shape)


def pack(array: Tensor) -> bytes:
    items = [item if isinstance(item, bytes) else item.encode("utf-8", "surrogatepass") for item in array.flat]
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def join(parts: tuple[bytes | Tensor, ...]) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)


def _check(body: bytes, offset: int, size: int, shape: tuple[int, ...]) -> None:
    whole = math.prod(max(dim, 1) for dim in shape)
    if offset < 0 or size < 0 or offset + size > len(body) or len(shape) > 64 or any(dim < 0 for dim in shape):
        raise Refused
    if whole >= MAX_BYTES:
        raise Refused
