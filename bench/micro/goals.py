"""What bench.render looks for among the micro benchmarks, by name, and what the native code is to reach: as data.

The server's goals stand in bench/load/cells.py.
"""

from msgspec import Struct

CONTENDER = "contender"
TURN = "turn"
"""Keys of a benchmark's `extra_info`."""

OURS = "fastserve"

MODELS = {"tiny": "tiny (4 -> 3)", "mlp": "MLP (784 -> 10)"}
"""Whose requests are taken apart, and how they are called."""

TOGETHER = 16
WHOLE = "whole request"
WHOLE_TOGETHER = f"{TOGETHER} whole requests that come together"
IN_LANE = "whole request in a lane"
IN_LANE_TOGETHER = f"{TOGETHER} whole requests in a lane that come together"
DECODE, SUBMIT, RUN, ENCODE = "decode", "submit", "run", "encode"


def request_group(model: str) -> str:
    """Where the parts of a request for `model` are."""
    return f"request: {MODELS[model]}"


class Goal(Struct, frozen=True):
    """`OURS` is to be this many times as fast as the contender `other` of the same group."""

    title: str
    group: str
    other: str
    times: float


_READ_784 = "JSON to float32, 1x784"
_READ_IMAGE = "JSON to float32, 1x224x224x3"
_FLAT = "against pysimdjson's `as_buffer` + astype"
_NUMPY = "against orjson + numpy"

QUESTION = "a question to a million joined records"
DUCKDB = "DuckDB alone"

GOALS = (
    Goal(f"JSON -> float32, 1x784 (4 decimals), {_FLAT}", _READ_784, "pysimdjson", 1.4),
    Goal(f"JSON -> float32, 1x224x224x3 (4 decimals), {_FLAT}", _READ_IMAGE, "pysimdjson", 1.4),
    Goal(f"JSON -> float32, 1x784 (4 decimals), {_NUMPY}", _READ_784, "orjson + numpy", 4),
    Goal(f"JSON -> float32, 1x224x224x3 (4 decimals), {_NUMPY}", _READ_IMAGE, "orjson + numpy", 4),
    Goal(
        "float32 tensor -> JSON, 32x384, against orjson with `OPT_SERIALIZE_NUMPY`",
        "tensor to JSON, 32x384 normal",
        "orjson",
        0.7,
    ),
)
