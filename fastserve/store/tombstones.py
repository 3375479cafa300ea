"""Frames that delete: what is written of them, and read back. Needs no extra, as all that writes the log.

Memory: copies what it is given.
"""

import msgspec
from msgspec import Struct

from fastserve.store.catalogue import Tombstone
from fastserve.store.frames import Frame


class _Body(Struct, frozen=True):
    model_id: str
    prediction_id: str
    space: str | None = None


def encode_tombstone(model_id: str, prediction_id: str, space: str | None) -> bytes:
    """The payload of a frame of kind TOMBSTONE: that prediction is deleted, in every space or in one."""
    return msgspec.msgpack.encode(_Body(model_id, prediction_id, space))


def decode_tombstone(frame: Frame) -> Tombstone:
    """What such a frame deletes."""
    body = _DECODER.decode(frame.payload)
    return Tombstone(body.space, body.model_id, body.prediction_id, frame.seq)


_DECODER = msgspec.msgpack.Decoder(_Body)
