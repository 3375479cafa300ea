"""What is measured against what, and what is to be reached: the table of the goals, as data.

Pure: no server, no clock; the renderer reads it too.
"""

from collections.abc import Callable

from msgspec import Struct

from bench.load.contenders import (
    AFFINE,
    ASGI,
    ASGI_ECHO,
    CONTENDERS,
    ECHO,
    FASTAPI,
    FASTAPI_GRANIAN,
    FASTSERVE,
    LEAST,
    LOGGING,
    ON_LOOP,
    RAW,
    SEGMENTS,
    SINK,
    SQLITE,
    SQLITE_EACH,
    SQLITE_GROUPED,
)
from bench.load.wrk import Figures

ByName = dict[str, Figures]


class Cell(Struct, frozen=True, kw_only=True):
    """One line of the table. `score` makes one number of one round; `beside`: who asks big things meanwhile."""

    name: str
    title: str
    workload: str
    connections: int
    contenders: tuple[str, ...]
    score: Callable[[ByName], float]
    goal: float
    at_most: bool = False
    unit: str = "x"
    beside: str = ""

    def reached(self, score: float) -> bool:
        """Whether `score` is good enough."""
        return score <= self.goal if self.at_most else score >= self.goal

    def wording(self) -> str:
        """The goal in words."""
        return f"{'at most' if self.at_most else 'at least'} {self.goal:g}{'' if self.unit == 'x' else ' '}{self.unit}"


def rate_against(other: str, of: str = FASTSERVE) -> Callable[[ByName], float]:
    """A score: requests/s of one by those of the other."""
    return lambda figures: figures[of].per_s / figures[other].per_s


def of_what_is_left(figures: ByName) -> float | None:
    """The part of onnxruntime's rate that is left where each answer takes the model's time and the network's.

    One after the other, on the same cores: what Granian leaves of it. None where the two were not measured.
    """
    if RAW not in figures or SINK not in figures:
        return None
    return figures[SINK].per_s / (figures[SINK].per_s + figures[RAW].per_s)


def _added_p50_us(figures: ByName) -> float:
    return figures[FASTSERVE].p50_us - figures[ECHO].p50_us


def _p99_gain(figures: ByName) -> float:
    return figures[ON_LOOP].p99_us / figures[FASTSERVE].p99_us


def _store_p99_gain(figures: ByName) -> float:
    return figures[SQLITE].p99_us / figures[SEGMENTS].p99_us


_LOGS = (LOGGING, SQLITE_EACH, SQLITE_GROUPED)
_DOORS = tuple(
    name for name in CONTENDERS if name not in {ON_LOOP, AFFINE, LEAST, SINK, *_LOGS, FASTAPI, FASTAPI_GRANIAN}
)
_WRITTEN = (FASTAPI, FASTAPI_GRANIAN, FASTSERVE)

CELLS = {
    cell.name: cell
    for cell in (
        Cell(
            name="tiny-c64",
            title="tiny model (4 -> 3), `:predict` JSON, concurrency 64: requests/s against bare Granian RSGI echo",
            workload="tiny",
            connections=64,
            contenders=_DOORS,
            score=rate_against(ECHO),
            goal=1.2,
        ),
        Cell(
            name="mlp-c64",
            title="MLP 784 -> 10, `:predict` JSON, concurrency 64: requests/s against the same echo",
            workload="mlp",
            connections=64,
            contenders=_DOORS,
            score=rate_against(ECHO),
            goal=0.6,
        ),
        Cell(
            name="tiny-c1",
            title="tiny model, concurrency 1: p50 above the echo's",
            workload="tiny",
            connections=1,
            contenders=(ECHO, FASTSERVE, AFFINE),
            score=_added_p50_us,
            goal=80,
            at_most=True,
            unit="us",
        ),
        Cell(
            name="tiny-c1-alone",
            title="tiny model, concurrency 1, `--adaptive-affinity true`: p50 above the echo's",
            workload="tiny",
            connections=1,
            contenders=(ECHO, AFFINE),
            score=lambda figures: figures[AFFINE].p50_us - figures[ECHO].p50_us,
            goal=0,
            at_most=True,
            unit="us",
        ),
        Cell(
            name="asgi-tiny-c64",
            title="tiny model, `:predict` JSON, concurrency 64: requests/s through `--interface asgi` against bare Granian"
            " ASGI echo",
            workload="tiny",
            connections=64,
            contenders=(ASGI_ECHO, ASGI),
            score=rate_against(ASGI_ECHO, ASGI),
            goal=0.75,
        ),
        Cell(
            name="encoder-c16",
            title="transformer encoder of about 1 ms a row, concurrency 16: rows/s against onnxruntime's best",
            workload="encoder",
            connections=16,
            contenders=(RAW, SINK, LEAST, FASTAPI, FASTSERVE, ASGI),
            score=rate_against(RAW),
            goal=0.88,
        ),
        Cell(
            name="v2-binary-tiny-c64",
            title="tiny model, Open Inference binary, concurrency 64: requests/s against the echo of the same bodies",
            workload="tiny, v2 binary",
            connections=64,
            contenders=(ECHO, FASTSERVE),
            score=rate_against(ECHO),
            goal=1.2,
        ),
        Cell(
            name="v2-binary-mlp-c64",
            title="MLP 784 -> 10, Open Inference binary, concurrency 64: requests/s against the echo of the same bodies",
            workload="mlp, v2 binary",
            connections=64,
            contenders=(ECHO, FASTSERVE),
            score=rate_against(ECHO),
            goal=0.9,
        ),
        Cell(
            name="v2-json-mlp-c64",
            title="MLP 784 -> 10, Open Inference JSON, concurrency 64: requests/s against the same echo",
            workload="mlp, v2 JSON",
            connections=64,
            contenders=(ECHO, FASTSERVE),
            score=rate_against(ECHO),
            goal=0.6,
        ),
        Cell(
            name="v2-binary-wide-c16",
            title="sum of 100,000 floats, Open Inference binary, concurrency 16: requests/s against the same echo",
            workload="wide, v2 binary",
            connections=16,
            contenders=(ECHO, FASTSERVE),
            score=rate_against(ECHO),
            goal=0.8,
        ),
        Cell(
            name="v2-binary-cnn-c16",
            title="CNN of about 10 ms a row, Open Inference binary, concurrency 16: rows/s against onnxruntime's best",
            workload="cnn10, v2 binary",
            connections=16,
            contenders=(RAW, SINK, LEAST, FASTSERVE),
            score=rate_against(RAW),
            goal=0.88,
        ),
        Cell(
            name="cnn-c16",
            title="CNN of about 10 ms a row, 1.6 MB JSON image, concurrency 16: rows/s against onnxruntime's best",
            workload="cnn10",
            connections=16,
            contenders=(RAW, SINK, FASTSERVE),
            score=rate_against(RAW),
            goal=0.68,
        ),
        Cell(
            name="mixed-p99",
            title="p99 of tiny requests (concurrency 4) beside 1.6 MB JSON images (concurrency 4): times better than"
            " with all of it on the loop",
            workload="tiny",
            connections=4,
            contenders=(ON_LOOP, FASTSERVE),
            score=_p99_gain,
            goal=8,
            beside="cnn",
        ),
        Cell(
            name="log-c64-sqlite",
            title="`/v1/log`, records of 650 bytes on disk before their 200, concurrency 64: requests/s against the"
            " same front end with SQLite (WAL, synchronous=FULL) behind it, a commit a request",
            workload="log record",
            connections=64,
            contenders=_LOGS,
            score=rate_against(SQLITE_EACH, LOGGING),
            goal=1.5,
        ),
        Cell(
            name="log-c64-echo",
            title="`/v1/log`, the same, concurrency 64: requests/s against bare Granian RSGI echo",
            workload="log record",
            connections=64,
            contenders=(ECHO, LOGGING),
            score=rate_against(ECHO, LOGGING),
            goal=0.4,
        ),
        Cell(
            name="store-rate",
            title="the log's store alone, batches of 32 from 4 processes: records/s against SQLite",
            workload="log record",
            connections=4,
            contenders=(SEGMENTS, SQLITE),
            score=rate_against(SQLITE, SEGMENTS),
            goal=1.5,
        ),
        Cell(
            name="store-p99",
            title="the log's store alone, the same: p99 of a batch, times better than SQLite's",
            workload="log record",
            connections=4,
            contenders=(SEGMENTS, SQLITE),
            score=_store_p99_gain,
            goal=10,
        ),
        Cell(
            name="fastapi-tiny-c64",
            title="tiny model, `:predict` JSON, concurrency 64: requests/s against FastAPI, orjson and onnxruntime",
            workload="tiny",
            connections=64,
            contenders=_WRITTEN,
            score=rate_against(FASTAPI),
            goal=4,
        ),
        Cell(
            name="fastapi-mlp-c64",
            title="MLP 784 -> 10, `:predict` JSON, concurrency 64: requests/s against the same",
            workload="mlp",
            connections=64,
            contenders=_WRITTEN,
            score=rate_against(FASTAPI),
            goal=2.5,
        ),
        Cell(
            name="fastapi-wide-c16",
            title="sum of 100,000 floats, `:predict` JSON, concurrency 16: requests/s against the same",
            workload="wide",
            connections=16,
            contenders=_WRITTEN,
            score=rate_against(FASTAPI),
            goal=3,
        ),
    )
}
