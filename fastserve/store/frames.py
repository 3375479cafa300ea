"""What a segment holds, byte by byte: a header, then frames. Pure: bytes in, bytes out.

All numbers are little-endian. The header of version 1, 64 bytes:

    8 magic   2 version   2 bytes of the header   4 crc32 of what follows   16 worker   8 number   8 made, ns   16 salt

A frame of version 1, 32 bytes and its payload:

    1 kind and flags   3 mark   4 bytes of the payload   8 ingest, ns   8 seq   4 crc32 of the payload   4 crc32 of these 28

Both crcs start from the segment's header, so no frame of another segment, and none that a client could make up, is taken for
one of this; the mark is what a reader looks for behind bytes that are no frame. Flags: CONTINUES and MORE hold together the
frames of one append, which are there together or not at all. VOUCHES says that everything before it was on disk when it was
written: what is damaged there is no torn write but a loss, and what is left around it stays.
Memory: payloads are copies.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum

from msgspec import Struct

from fastserve._ext import logframes
from fastserve.store.errors import RecordTooLarge, SegmentUnreadable

MAGIC = b"\x89fslog\r\n"
VERSION = 1
MAX_PAYLOAD_BYTES = 1 << 30

_HEADER = struct.Struct("<8sHHI16sQQ16s")
_HEAD = struct.Struct("<IIQQI")
_CRC = struct.Struct("<I")
_VERSION = struct.Struct("<HH")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _HEAD.size + _CRC.size
MARK = b"\xf7\x9c\x1e"

CONTINUES, MORE, VOUCHES = 0x80, 0x40, 0x20
_KIND_BITS = 0x1F


class Kind(IntEnum):
    """What a frame's payload is."""

    RECORD = 1
    ARROW = 2
    OWN = 3
    TOMBSTONE = 4
    SEAL = 31


class Frame(Struct, frozen=True):
    """What was appended. `seq` is used once, grows within a worker and, with the time, over all of them."""

    kind: int
    ingest_ns: int
    seq: int
    payload: bytes


class Header(Struct, frozen=True):
    """What a segment says of itself. `seed`: what the crcs of its frames start from."""

    version: int
    worker: str
    number: int
    made_ns: int
    seed: int


class Damage(Struct, frozen=True):
    """Bytes that were a frame, and are none."""

    offset: int
    length: int


Append = Sequence[tuple[int, bytes]]
"""Kinds and payloads of the frames that are there together or not at all."""


def new_header(worker: str, number: int, made_ns: int) -> bytes:
    """The first bytes of a new segment; `worker`: 32 hexadecimal digits."""
    fields = (bytes.fromhex(worker), number, made_ns, os.urandom(16))
    crc = zlib.crc32(_HEADER.pack(MAGIC, VERSION, HEADER_BYTES, 0, *fields)[16:])
    return _HEADER.pack(MAGIC, VERSION, HEADER_BYTES, crc, *fields)


def read_header(data: bytes) -> Header:
    """Raises SegmentUnreadable where it is none, or of a version that is not known."""
    if data[:8] != MAGIC or len(data) < 12:
        raise SegmentUnreadable("no segment of a prediction log, or one that was cut in its first bytes")
    version, header_bytes = _VERSION.unpack_from(data, 8)
    if version not in READERS:
        raise SegmentUnreadable(f"a segment of version {version}; this program reads {', '.join(map(str, READERS))}")
    if len(data) < HEADER_BYTES or header_bytes != HEADER_BYTES:
        raise SegmentUnreadable("a segment whose header was cut")
    _, _, _, crc, worker, number, made_ns, _ = _HEADER.unpack_from(data)
    if zlib.crc32(data[16:HEADER_BYTES]) != crc:
        raise SegmentUnreadable("a segment whose header is damaged")
    return Header(version, worker.hex(), number, made_ns, zlib.crc32(data[:HEADER_BYTES]))


def encode(append: Append, ingest_ns: int, seqs: range, seed: int, flags: int = 0) -> list[bytes]:
    """The frames of one append, as pieces to be written one after the other; `seqs`: a number for each of them.

    `flags`: VOUCHES or 0, for the first of them. Raises RecordTooLarge.
    """
    try:
        return logframes.encode(append, ingest_ns, seqs.start, seqs.step, seed, flags)
    except OverflowError:
        largest = max(len(payload) for _, payload in append)
        raise RecordTooLarge(largest, MAX_PAYLOAD_BYTES) from None


def head_at(data: bytes, at: int, seed: int) -> tuple[int, int, int, int, int] | None:
    """What the frame's head at that offset says, kind and length first; None where there is none."""
    if data[at + 1 : at + 4] != MARK or at + FRAME_BYTES > len(data):
        return None
    head = data[at : at + _HEAD.size]
    if _CRC.unpack_from(data, at + _HEAD.size)[0] != zlib.crc32(head, seed):
        return None
    return _HEAD.unpack(head)


def is_blank(data: bytes, at: int) -> bool:
    """Nobody has written a frame there."""
    return at + FRAME_BYTES <= len(data) and not any(data[at : at + FRAME_BYTES])


def holds_all(header: Header, data: bytes, start: int) -> bool:
    """Whether all frames of a file that is being written are in `data`, its bytes from `start` on: one leads to the next."""
    at = 0 if start else HEADER_BYTES
    while (head := head_at(data, at, header.seed)) is not None:
        at += FRAME_BYTES + head[1]
    return is_blank(data, at)


class _Found(Struct, frozen=True):
    """A frame where it stands; `end`: where the next one begins."""

    frame: Frame
    flags: int
    end: int


class Scan:
    """The frames of one segment, from `data`: the file's bytes from `start`, which is 0 or an earlier `end`.

    `final`: nothing will be added, so what is in doubt is decided; else it is left for the next scan, and zeros where a frame
    would begin are the end: its writer put them there before it needed them. In a final one they are only if nothing follows
    them. Once iterated over, `end` is the offset in the file up to which everything is decided, and `damage` what was lost
    before it. What is behind `end` was being written when its writer ended, and was never acknowledged.
    """

    def __init__(self, header: Header, data: bytes, start: int = 0, *, final: bool = True) -> None:
        self.header = header
        self.data = data
        self.start = start
        self.final = final
        self.end = start or HEADER_BYTES
        self.damage: list[Damage] = []
        self.is_sealed = False

    def __iter__(self) -> Iterator[Frame]:
        return READERS[self.header.version](self)


class _Version1:
    """A scan of version 1. `_group`: the frames of an append so far; `_held`: appends behind damage, in doubt."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._group: list[_Found] = []
        self._is_whole = True
        self._held: list[tuple[list[_Found], bool]] = []
        self._holes: list[Damage] = []
        self._in_doubt = False

    def frames(self) -> Iterator[Frame]:
        """The frames of whole appends; and what is left of others, where their damage is known to be no torn write."""
        for found in self._all():
            if isinstance(found, Damage):
                self._holes.append(found)
                self._break_off()
                continue
            if found.flags & VOUCHES and self._in_doubt:
                yield from self._shown(self._vouched())
            yield from self._shown(self._joined(found))
        if self._scan.final:
            whole = [group for group, is_whole in self._held if is_whole]
            yield from self._shown([one for group in whole for one in group])

    def _joined(self, found: _Found) -> list[_Found]:
        """`found` put to its append; the whole of it, when it is complete and nothing is in doubt."""
        if bool(found.flags & CONTINUES) != bool(self._group):
            if self._group:
                self._break_off()
            self._is_whole = not found.flags & CONTINUES
        self._group.append(found)
        if found.flags & MORE:
            return []
        group, is_whole = self._group, self._is_whole
        self._group, self._is_whole = [], True
        if self._in_doubt or not is_whole:
            self._held.append((group, is_whole))
            self._in_doubt = True
            return []
        return group

    def _break_off(self) -> None:
        if self._group:
            self._held.append((self._group, False))
        self._group, self._is_whole, self._in_doubt = [], True, True

    def _vouched(self) -> list[_Found]:
        """All that is in doubt: it was on disk, and what is missing of it is lost."""
        if self._group:
            self._held.append((self._group, False))
        found = [one for group, _ in self._held for one in group]
        self._scan.damage += self._holes
        self._group, self._held, self._holes = [], [], []
        self._is_whole, self._in_doubt = True, False
        return found

    def _shown(self, group: list[_Found]) -> Iterator[Frame]:
        for found in group:
            self._scan.end = max(self._scan.end, found.end)
            if found.frame.kind == Kind.SEAL:
                self._scan.is_sealed = True
            else:
                yield found.frame

    def _all(self) -> Iterator[_Found | Damage]:
        """What there is, by its offset in the file; what is behind the last frame is left out."""
        data, base = self._scan.data, self._scan.start
        at = 0 if base else HEADER_BYTES
        while at < len(data):
            head = self._head(at)
            if head is None:
                found_at = self._next(at + 1) if self._scan.final or not is_blank(data, at) else -1
                if found_at < 0:
                    return
                yield Damage(base + at, found_at - at)
                at = found_at
                continue
            word, length, ingest_ns, seq, crc = head
            end = at + FRAME_BYTES + length
            if end > len(data):
                return
            payload = data[at + FRAME_BYTES : end]
            if zlib.crc32(payload, self._scan.header.seed) == crc:
                flags = word & 0xFF
                yield _Found(Frame(flags & _KIND_BITS, ingest_ns, seq, payload), flags, base + end)
            else:
                yield Damage(base + at, end - at)
            at = end

    def _head(self, at: int) -> tuple[int, int, int, int, int] | None:
        return head_at(self._scan.data, at, self._scan.header.seed)

    def _next(self, at: int) -> int:
        """Where the next frame's head is, from there on; -1: nowhere."""
        while (mark := self._scan.data.find(MARK, at + 1)) >= 0:
            if self._head(mark - 1) is not None:
                return mark - 1
            at = mark
        return -1


def _version_1(scan: Scan) -> Iterator[Frame]:
    return _Version1(scan).frames()


READERS: Mapping[int, Callable[[Scan], Iterator[Frame]]] = {1: _version_1}
"""One for each version that was ever released."""
