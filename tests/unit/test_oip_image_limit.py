"""An image of as many pixels as are read, and of one row more: counted in its head, before anything is decoded."""

import struct
import zlib

import pytest

from fastserve import limits
from fastserve.errors import PayloadTooLarge
from fastserve.protocols.oip.images import ImageConfig, decoded, make_plan
from fastserve.types import DType, TensorSpec

WIDTH = 1 << 13


def png(width: int, height: int) -> bytes:
    """A whole file of black grey, a few kB whatever it claims to hold."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    rows = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


def test_pixels_at_the_limit_and_beyond():
    plan = make_plan(TensorSpec("x", DType.UINT8, (1, 8, 8, 1)), ImageConfig())
    height = limits.MAX_PIXELS // WIDTH
    assert decoded(png(WIDTH, height), plan).shape == (8, 8, 1)
    with pytest.raises(PayloadTooLarge, match=f"at most {limits.MAX_PIXELS} are read"):
        decoded(png(WIDTH, height + 1), plan)
