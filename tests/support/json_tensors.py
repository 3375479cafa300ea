"""Any tensor, as JSON's lists and scalars, and compared by what its elements are in memory."""

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastserve.types import DType, Tensor


def bits(values: Any, dtype: DType) -> Any:
    """Nested lists with every element as what it is in memory; NaNs are one NaN."""
    if isinstance(values, list):
        return [bits(value, dtype) for value in values]
    if dtype is DType.STRING:
        return values
    if dtype is DType.BFLOAT16:
        return _bfloat16_bits(values)
    element = np.array(values, dtype.numpy)
    if element.dtype.kind == "f" and np.isnan(element):
        return "NaN"
    return (type(values), element.tobytes())


def _bfloat16_bits(value: float) -> Any:
    """Round to nearest, ties to even."""
    if math.isnan(value):
        return "NaN"
    wide = int(np.array(value, np.float32).view(np.uint32))
    return (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16


def plain(tensor: Tensor, dtype: DType) -> Any:
    """The tensor as JSON's lists and scalars."""
    if dtype is DType.BFLOAT16:
        return (tensor.astype(np.uint32) << 16).view(np.float32).reshape(tensor.shape).tolist()
    return tensor.tolist()


@st.composite
def tensors(draw: st.DrawFn, min_rank: int = 0) -> tuple[DType, Tensor]:
    """Any tensor of any element type, up to rank 4."""
    dtype = draw(st.sampled_from(list(DType)))
    # Of a shape with a 0 in it, JSON keeps only what stands before the 0.
    shape = draw(hnp.array_shapes(min_dims=min_rank, max_dims=4, min_side=0, max_side=4))
    elements = st.text(max_size=8) if dtype is DType.STRING else None
    return dtype, np.ascontiguousarray(draw(hnp.arrays(dtype.numpy, shape, elements=elements))).reshape(shape)
