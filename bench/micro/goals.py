"""What the native code is to reach beside others, as data; the renderer reads it. Those of the server: bench/load/cells."""

from msgspec import Struct

CONTENDER = "contender"
TURN = "turn"
"""Keys of a benchmark's `extra_info`."""

OURS = "fastserve"


class Goal(Struct, frozen=True):
    """`OURS` is to be this many times as fast as the contender `other` of the same group."""

    title: str
    group: str
    other: str
    times: float


_READ_784 = "JSON to float32, 1x784"
_READ_IMAGE = "JSON to float32, 1x224x224x3"

GOALS = (
    Goal("JSON -> float32, 1x784 (4 decimals): pysimdjson's `as_buffer` + astype", _READ_784, "pysimdjson", 1.4),
    Goal("JSON -> float32, 1x224x224x3: pysimdjson's `as_buffer` + astype", _READ_IMAGE, "pysimdjson", 1.4),
    Goal("JSON -> float32, 1x784: orjson + numpy", _READ_784, "orjson + numpy", 4),
    Goal("JSON -> float32, 1x224x224x3: orjson + numpy", _READ_IMAGE, "orjson + numpy", 4),
    Goal("float32 -> JSON, 32x384: orjson, `OPT_SERIALIZE_NUMPY`", "tensor to JSON, 32x384 normal", "orjson", 0.7),
)
