"""What an answer compressed for its client takes, by size: where `compress_min_bytes` begins, and the level."""

import zlib
from typing import Any

import numpy as np
import pytest

from fastserve._ext import jsonwrite
from fastserve.http.message import Response
from fastserve.http.packing import coding_for, packed
from fastserve.types import DType


def predictions(rows: int) -> bytes:
    """About 110 bytes a row."""
    array = np.random.default_rng(0).standard_normal((rows, 10)).astype(np.float32)
    return jsonwrite.tensor(b'{"predictions": ', array, DType.FLOAT, False, b"}")


@pytest.mark.benchmark(group="an answer compressed")
@pytest.mark.parametrize("level", [1, 6])
@pytest.mark.parametrize("rows", [10, 150, 10_000])
def test_compressed(benchmark: Any, monkeypatch: pytest.MonkeyPatch, rows: int, level: int) -> None:
    monkeypatch.setattr("fastserve.http.packing.LEVEL", level)
    response = Response(200, [], predictions(rows))
    body = benchmark(packed, response, "gzip").body
    benchmark.extra_info["share"] = round(len(body) / len(response.body), 3)
    assert zlib.decompress(body, 16 + zlib.MAX_WBITS) == response.body


@pytest.mark.benchmark(group="an answer compressed")
def test_what_a_client_asks_for_is_read_once(benchmark: Any) -> None:
    assert benchmark(coding_for, "gzip, deflate, br, zstd") == "gzip"
