"""The plain twin of ext/logframes.pyx: the same bytes, in one piece."""

import struct
import zlib
from collections.abc import Sequence

HEAD = struct.Struct("<B3sIQQI")
CONTINUES, MORE, VOUCHES = 0x80, 0x40, 0x20


def encode(
    append: Sequence[tuple[int, bytes]], ingest_ns: int, seq: int, seq_step: int, seed: int, flags: int
) -> bytes:
    data = b""
    for index, (kind, payload) in enumerate(append):
        bits = kind | (CONTINUES if index else flags & VOUCHES) | (MORE if index < len(append) - 1 else 0)
        crc = zlib.crc32(payload, seed)
        head = HEAD.pack(bits, b"\xf7\x9c\x1e", len(payload), ingest_ns, seq + index * seq_step, crc)
        data += head + zlib.crc32(head, seed).to_bytes(4, "little") + payload
    return data
