"""What the log holds of a record: what came beside the body, then the body as it came. Pure.

A payload: two bytes with the length of the head (little-endian), the head in msgpack, the body.
"""

import msgspec
from msgspec import Struct

_HEAD_LENGTH_BYTES = 2


class Head(Struct, frozen=True, array_like=True):
    """What is said of a record outside of it. Empty: nothing is.

    `prediction_id`: one that we made. The others stand around a record that was sent with several. Fields are added at the
    end, with a default: what was written once is read for ever.
    """

    space: str = ""
    prediction_id: str = ""
    model_id: str = ""
    model_version: str = ""
    environment: str = ""
    batch_id: str = ""


def pack(head: Head, body: bytes) -> bytes:
    """A payload."""
    encoded = _ENCODER.encode(head)
    return len(encoded).to_bytes(_HEAD_LENGTH_BYTES, "little") + encoded + body


def unpack(payload: bytes) -> tuple[Head, bytes]:
    """Head and body. Raises msgspec.DecodeError where it is no payload of ours."""
    length = int.from_bytes(payload[:_HEAD_LENGTH_BYTES], "little")
    start = _HEAD_LENGTH_BYTES + length
    if len(payload) < start:
        raise msgspec.DecodeError("a payload that is shorter than its head")
    return _DECODER.decode(payload[_HEAD_LENGTH_BYTES:start]), payload[start:]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Head)
