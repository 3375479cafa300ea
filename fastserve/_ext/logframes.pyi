"""Frames of the prediction log: a whole append's bytes in one call. See ext/logframes.pyx."""

from collections.abc import Iterable

LARGE_BYTES: int
FRAME_BYTES: int
MARK: bytes

def encode(
    append: Iterable[tuple[int, bytes]], ingest_ns: int, seq: int, seq_step: int, seed: int, flags: int, /
) -> list[bytes]:
    """The frames of one append (kinds and payloads), as pieces to be written one after the other.

    `seq`: of the first frame; each other one's is `seq_step` more. `flags`: of the first one. Raises TypeError,
    ValueError and OverflowError (a payload of more than 2^30 bytes, a kind that is none) for what no frame can hold.
    """
