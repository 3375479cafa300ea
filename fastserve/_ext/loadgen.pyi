"""Load on a server: the loop, answers from pieces, latencies in fine buckets. See ext/loadgen.pyx."""

from ssl import SSLContext
from typing import Any

import numpy as np

FAILURES: tuple[str, ...]
HIGHEST_VALUE: int

_Integers = np.ndarray[Any, np.dtype[np.int64]]

class HdrHistogram:
    """Counts of values, each at most a thousandth off."""

    def record(self, value: int, times: int = 1, /) -> None: ...
    def add(self, other: HdrHistogram, /) -> None: ...
    def quantile(self, share: float, /) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def least(self) -> int: ...
    @property
    def most(self) -> int: ...
    @property
    def mean(self) -> float: ...
    def buckets(self) -> tuple[_Integers, _Integers]: ...

class AnswerReader:
    """One HTTP answer from pieces."""

    def feed(self, piece: bytes, /) -> int | None: ...
    def end(self) -> bool: ...
    @property
    def status(self) -> int: ...
    @property
    def keeps(self) -> bool: ...
    @property
    def body_bytes(self) -> int: ...
    @property
    def sample(self) -> bytes: ...

def arrivals(per_s: float, count: int, poisson: bool = True, seed: int = 0) -> _Integers: ...

class Driver:
    """So many connections to one server, on which whole HTTP requests are sent in turn."""

    def __init__(
        self,
        family: int,
        host: str,
        port: int,
        requests: list[bytes],
        connections: int,
        tls: SSLContext | None = None,
        server_name: str = "",
        *,
        keep_alive: bool = True,
    ) -> None: ...
    def run(
        self,
        *,
        duration_ns: int = 0,
        max_requests: int = 0,
        per_s: float = 0.0,
        poisson: bool = True,
        seed: int = 0,
        timeout_ns: int,
        times_ns: _Integers | None = None,
    ) -> None: ...
    def stop(self) -> None: ...
    @property
    def good(self) -> int: ...
    @property
    def bad(self) -> int: ...
    def counts(self) -> dict[str, Any]: ...
