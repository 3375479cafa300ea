"""Features of examples to the tensors of a model: `[examples]` + what each example gives, shaped as the input has it.

Thread: any; pure functions. Memory: a plan lives as long as its lease; tensors own their buffers.
"""

import math
from itertools import chain
from typing import Any

import numpy as np
from msgspec import Struct

from fastserve.errors import InvalidRequest, InvalidTensor
from fastserve.protocols.tfserving.examples import Element, Examples, Feature, described
from fastserve.types import DType, Tensor, TensorSpec, first_non_finite

MAX_SHARED_VALUES = 1 << 22
"""A context is sent once and stands in every example: beyond this, values of one input must have been sent each."""

_WHOLE: frozenset[type] = frozenset({int, bool})
_NUMBERS: frozenset[type] = frozenset({int, bool, float})
_TEXTS: frozenset[type] = frozenset({str})


class InputPlan(Struct, frozen=True, gc=False):
    """One input of a model, seen as a feature.

    `dims`: of one example, one of them perhaps -1: as its values say. None: any; a lone value then makes rank 1, a list
    rank 2. `width`: the values that one example gives; -1: any number, the same in all examples.
    """

    name: str
    dtype: DType
    dims: tuple[int, ...] | None
    width: int
    kinds: frozenset[type]
    wanted: str
    """What its elements must be, for errors."""
    refusal: str
    """Why no feature can feed it; mostly empty."""
    strict: bool
    """Whether NaN and infinities are refused."""


def input_plan(spec: TensorSpec, strict: bool) -> InputPlan:
    """The plan of one input."""
    dims = None if spec.shape is None else spec.shape[1:]
    width = -1 if dims is None or -1 in dims else math.prod(dims)
    kinds, wanted = _kinds(spec.dtype, strict)
    return InputPlan(spec.name, spec.dtype, dims, width, kinds, wanted, _refusal(spec), strict)


def _kinds(dtype: DType, strict: bool) -> tuple[frozenset[type], str]:
    if dtype is DType.STRING:
        return _TEXTS, 'string or {"b64": "<base64>"} (STRING)'
    if dtype.is_float:
        return _NUMBERS, f"number that is finite as {dtype.name}" if strict else f"number ({dtype.name})"
    if dtype is DType.BOOL:
        return _WHOLE, "true, false, 1 or 0 (BOOL)"
    info = np.iinfo(dtype.numpy)
    low, high = max(int(info.min), -(2**63)), min(int(info.max), 2**63 - 1)
    return _WHOLE, f"integer from {low} to {high} ({dtype.name})"


def _refusal(spec: TensorSpec) -> str:
    if spec.shape == ():
        return f"input {spec.name} is a scalar: it has no axis of examples"
    if spec.shape is not None and spec.shape[1:].count(-1) > 1:
        return f"input {spec.name} has several free dimensions: a flat list of values does not say which is how long"
    return ""


def make_tensor(examples: Examples, index: int, plan: InputPlan, body_bytes: int) -> Tensor:
    """The tensor of input `index` of the names that were read. Raises InvalidRequest, InvalidTensor."""
    column = examples.columns[index]
    count = examples.count
    kinds = set(map(type, column))
    if list not in kinds:
        width, flat = 1, column
    elif len(kinds) == 1:
        width, flat = len(column[0]), None  # type: ignore[arg-type]
    else:
        width, flat = _size(column[0]), None
    _check_width(examples, index, plan, width, kinds)
    if width * count > max(MAX_SHARED_VALUES, body_bytes):
        raise InvalidRequest(
            f"the context's feature {plan.name} of {width} values is too large for {count} examples: at most"
            f" {MAX_SHARED_VALUES} values of one input may come of it"
        )
    elements: list[Any] = flat if flat is not None else list(chain.from_iterable(map(_values, column)))
    lone = plan.dims is None and list not in kinds
    return _converted(elements, width, examples, index, plan).reshape(_shape(plan, count, width, lone))


def _shape(plan: InputPlan, count: int, width: int, lone: bool) -> tuple[int, ...]:
    if plan.dims is None:
        return (count,) if lone else (count, width)
    free = -1 if width == 0 else width // math.prod(dim for dim in plan.dims if dim > 0)
    return (count, *(max(free, 0) if dim == -1 else dim for dim in plan.dims))


def _check_width(examples: Examples, index: int, plan: InputPlan, width: int, kinds: set[type]) -> None:
    """Raise where the first example gives a number of values that does not fit the input, or another one than the first."""
    fixed = math.prod(dim for dim in plan.dims or () if dim != -1)
    if plan.width >= 0:
        wanted, fits = _values_text(plan.width), width == plan.width
    else:
        wanted, fits = f"a number of values that {fixed} divides", fixed > 0 and width % fixed == 0
    if not fits:
        raise InvalidTensor(expected=wanted, got=_values_text(width), path=examples.path(plan.name, index, 0))
    if list not in kinds:
        return
    for example, feature in enumerate(examples.columns[index]):
        if _size(feature) != width:
            expected = _values_text(width) + ("" if plan.width >= 0 else " as in the first example")
            path = examples.path(plan.name, index, example)
            raise InvalidTensor(expected=expected, got=_values_text(_size(feature)), path=path)


def _converted(elements: list[Any], width: int, examples: Examples, index: int, plan: InputPlan) -> Tensor:
    """The elements as a flat array of the input's type."""
    if not plan.kinds.issuperset(map(type, elements)):
        raise _misfit(_first_other(elements, plan.kinds), elements, width, examples, index, plan)
    if plan.dtype is DType.STRING:
        texts: Tensor = np.empty(len(elements), dtype=object)
        texts[:] = elements
        return texts
    if plan.dtype.is_float:
        numbers = _floats(elements, plan.dtype)
        found = first_non_finite(numbers, plan.dtype) if plan.strict else None
        if found is not None:
            raise _misfit(found.indices[0], elements, width, examples, index, plan)
        return numbers
    numbers = np.array(elements, dtype=np.int64)
    bad = _out_of_range(numbers, plan.dtype)
    if bad >= 0:
        raise _misfit(bad, elements, width, examples, index, plan)
    return numbers.astype(plan.dtype.numpy)


def _first_other(elements: list[Element], kinds: frozenset[type]) -> int:
    return next(index for index, element in enumerate(elements) if type(element) not in kinds)


def _out_of_range(numbers: Tensor, dtype: DType) -> int:
    """Index of the first number that the type does not hold; -1: it holds all."""
    if dtype is DType.INT64:
        return -1
    low, high = (0, 1) if dtype is DType.BOOL else (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max)
    strayed = (numbers < low) | (numbers > min(int(high), 2**63 - 1))
    return int(strayed.argmax()) if strayed.any() else -1


def _floats(elements: list[Any], dtype: DType) -> Tensor:
    # As predict reads them: past the type's range is infinite, below it zero, without a word.
    with np.errstate(over="ignore", under="ignore"):
        if dtype is not DType.BFLOAT16:
            return np.array(elements, dtype=dtype.numpy)
        return _bfloat16_bits(np.array(elements, dtype=np.float64))


def _bfloat16_bits(numbers: Tensor) -> Tensor:
    """Nearest bfloat16, ties to even, by way of float32 rounded to odd, so that nothing is rounded twice."""
    nearest = numbers.astype(np.float32)
    beyond = np.abs(nearest.astype(np.float64)) > np.abs(numbers)
    toward_zero = np.where(beyond, np.nextafter(nearest, np.float32(0)), nearest)
    inexact = toward_zero.astype(np.float64) != numbers
    bits = toward_zero.view(np.uint32) | inexact
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(numbers), 0x7FC0, rounded).astype(np.uint16)


def _misfit(
    at: int, elements: list[Element], width: int, examples: Examples, index: int, plan: InputPlan
) -> InvalidTensor:
    example, element = divmod(at, width)
    path = examples.path(plan.name, index, example)
    if isinstance(examples.columns[index][example], list):
        path += f"[{element}]"
    return InvalidTensor(expected=plan.wanted, got=described(elements[at]), path=path)


def _values(feature: Feature) -> list[Any]:
    return feature if isinstance(feature, list) else [feature]


def _size(feature: Feature) -> int:
    return len(feature) if isinstance(feature, list) else 1


def _values_text(count: int) -> str:
    return f"{count} value" + ("" if count == 1 else "s")
