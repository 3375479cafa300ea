"""The best classes of any scores, against the plain way to rank them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastserve.errors import InvalidRequest
from fastserve.limits import MAX_CLASSES
from fastserve.protocols.oip.classification import Ranking, ranked
from fastserve.types import DType

KINDS = [DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.INT8, DType.INT64, DType.UINT64]


def plainly(row: list[Any], most: int, labels: tuple[str, ...]) -> list[str]:
    """Best first, equal ones by place, NaN behind everything."""
    places = sorted(range(len(row)), key=lambda at: (row[at] != row[at], 0 if row[at] != row[at] else -row[at], at))
    told = labels if len(labels) <= len(row) else ()
    texts = []
    for at in places[:most]:
        score = f"{row[at]:f}" if isinstance(row[at], float) else str(row[at])
        texts.append(":".join([score, str(at), *told[at : at + 1]]))
    return texts


@st.composite
def scores(draw: st.DrawFn) -> tuple[Any, DType]:
    dtype = draw(st.sampled_from(KINDS))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
    return draw(hnp.arrays(dtype.numpy, shape)), dtype


@given(given=scores(), most=st.integers(1, 30), labels=st.lists(st.text(max_size=3), max_size=6), batched=st.booleans())
def test_any_scores(given: tuple[Any, DType], most: int, labels: list[str], batched: bool):
    array, dtype = given
    strings = ranked(array, Ranking(most, int(dtype), tuple(labels), batched))
    rows = array.reshape(array.shape[0], math.prod(array.shape[1:])) if batched else array.reshape(1, -1)
    expected = [plainly(row, most, tuple(labels)) for row in rows.tolist()]
    assert strings.tolist() == (expected if batched else expected[0])
    assert strings.dtype == object


def test_bfloat16_is_ranked_by_its_values():
    bits = np.array([[0x3F80, 0xBF80, 0x4000]], np.uint16)
    assert ranked(bits, Ranking(3, int(DType.BFLOAT16), (), True)).tolist() == [
        ["2.000000:2", "1.000000:0", "-1.000000:1"]
    ]


def test_the_limit_is_looked_at_before_anything_is_made():
    table = np.broadcast_to(np.float32(0), (MAX_CLASSES // 2 + 1, 2))
    with pytest.raises(InvalidRequest, match="1000000 strings"):
        ranked(table, Ranking(2, int(DType.FLOAT), (), True))
    assert ranked(table[:3], Ranking(2, int(DType.FLOAT), (), True)).shape == (3, 2)
