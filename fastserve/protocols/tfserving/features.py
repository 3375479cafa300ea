"""Features of examples to the tensors of a model: `[examples]` + what each example gives, shaped as the input has it.

Thread: any; pure functions. Memory: a plan lives as long as its lease; tensors own their buffers.
"""

import math
from array import array
from itertools import chain
from typing import Any

import numpy as np
from msgspec import Struct

from fastserve.errors import InvalidRequest, InvalidTensor
from fastserve.protocols.tfserving.examples import Examples, Feature, described
from fastserve.types import DType, Tensor, TensorSpec, first_non_finite

MAX_SHARED_VALUES = 1 << 22
"""A context is sent once and stands in every example: beyond this, values of one input must have been sent each."""

_WHOLE: frozenset[type] = frozenset({int, bool})
_NUMBERS: frozenset[type] = frozenset({int, bool, float})
_TEXTS: frozenset[type] = frozenset({str})
_LISTS = (list, np.ndarray)
_CODES = {DType.FLOAT: "f", DType.DOUBLE: "d"}


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
    code: str
    """The type in the words of the buffer protocol, where values may be taken as they are; else empty."""


def input_plan(spec: TensorSpec, strict: bool) -> InputPlan:
    """The plan of one input."""
    dims = None if spec.shape is None else spec.shape[1:]
    width = -1 if dims is None or -1 in dims else math.prod(dims)
    code = "" if strict or width < 0 else _CODES.get(spec.dtype, "")
    kinds, wanted = _kinds(spec.dtype, strict)
    return InputPlan(spec.name, spec.dtype, dims, width, kinds, wanted, _refusal(spec), strict, code)


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


class _Column(Struct, frozen=True, gc=False):
    """One input's feature in every example. `width`: values that each gives."""

    plan: InputPlan
    examples: Examples
    index: int
    features: list[Feature]
    kinds: set[type]
    width: int

    def path(self, example: int) -> str:
        return self.examples.path(self.plan.name, self.index, example)

    def misfit(self, at: int) -> InvalidTensor:
        """The error for the value at that place among all."""
        example, element = divmod(at, self.width)
        feature = self.features[example]
        path = self.path(example) + (f"[{element}]" if isinstance(feature, _LISTS) else "")
        return InvalidTensor(expected=self.plan.wanted, got=described(_values(feature)[element]), path=path)


def make_tensor(examples: Examples, index: int, plan: InputPlan, body_bytes: int) -> Tensor:
    """The tensor of input `index` of the names that were read. Raises InvalidRequest, InvalidTensor."""
    features = examples.columns[index]
    plain = _plain(features, examples.count, plan)
    if plain is not None:
        return plain
    width = _size(features[0])
    column = _Column(plan, examples, index, features, set(map(type, features)), width)
    _check_width(column)
    if width * examples.count > max(MAX_SHARED_VALUES, body_bytes):
        raise InvalidRequest(
            f"the context's feature {plan.name} of {width} values is too large for {examples.count} examples: at most"
            f" {MAX_SHARED_VALUES} values of one input may come of it"
        )
    return _converted(column).reshape(_shape(column))


def _plain(features: list[Feature], count: int, plan: InputPlan) -> Tensor | None:
    """The tensor of what is sent most, lone values or one example, of values that may be taken as they are; else None."""
    values: Any = features if plan.width == 1 else features[0] if count == 1 else None
    if not plan.code or type(values) is not list or len(values) != plan.width * count or plan.dims is None:
        return None
    if not plan.kinds.issuperset(map(type, values)):
        return None
    return np.frombuffer(array(plan.code, values), plan.code).reshape(count, *plan.dims)


def _shape(column: _Column) -> tuple[int, ...]:
    count, width, dims = column.examples.count, column.width, column.plan.dims
    if dims is None:
        return (count,) if column.kinds.isdisjoint(_LISTS) else (count, width)
    free = width // math.prod(dim for dim in dims if dim != -1) if -1 in dims else 0
    return (count, *(free if dim == -1 else dim for dim in dims))


def _check_width(column: _Column) -> None:
    """Raise where an example gives a number of values that does not fit the input, or another one than the first."""
    plan, width = column.plan, column.width
    if plan.width >= 0:
        expected, fits = _values_text(plan.width), width == plan.width
    else:
        fixed = math.prod(dim for dim in plan.dims or () if dim != -1)
        expected, fits = f"a number of values that {fixed} divides", fixed > 0 and width % fixed == 0
    if not fits:
        raise InvalidTensor(expected=expected, got=_values_text(width), path=column.path(0))
    if column.kinds.isdisjoint(_LISTS):
        return
    for example, feature in enumerate(column.features):
        if _size(feature) != width:
            expected = _values_text(width) + ("" if plan.width >= 0 else " as in the first example")
            raise InvalidTensor(expected=expected, got=_values_text(_size(feature)), path=column.path(example))


def _converted(column: _Column) -> Tensor:
    """All values as a flat array of the input's type."""
    dtype = column.plan.dtype
    if column.kinds == {np.ndarray}:
        numbers = _joined(column)
    else:
        elements = _elements(column)
        if dtype is DType.STRING:
            texts: Tensor = np.empty(len(elements), dtype=object)
            texts[:] = elements
            return texts
        # The buffer protocol's types round as C does: nothing is said of what is out of range.
        code = "f" if dtype is DType.FLOAT else "d" if dtype.is_float else "q"
        numbers = np.frombuffer(array(code, elements), dtype=code)
    if dtype.is_float:
        bad, tensor = -1, _floats(numbers, dtype)
    else:
        bad, tensor = _out_of_range(numbers, dtype), numbers.astype(dtype.numpy, copy=False)
    if column.plan.strict:
        found = first_non_finite(tensor, dtype)
        bad = bad if found is None else found.indices[0]
    if bad >= 0:
        raise column.misfit(bad)
    return tensor


def _elements(column: _Column) -> list[Any]:
    """All values, of kinds that feed the input."""
    elements: list[Any] = list(column.features)
    if not column.kinds.isdisjoint(_LISTS):
        elements = list(chain.from_iterable(map(_values, column.features)))
    kinds = column.plan.kinds
    if not kinds.issuperset(map(type, elements)):
        raise column.misfit(next(at for at, element in enumerate(elements) if type(element) not in kinds))
    return elements


def _joined(column: _Column) -> Tensor:
    """All values of lists that were long, of kinds that feed the input."""
    dtype = column.plan.dtype
    arrays: list[Tensor] = [feature for feature in column.features if isinstance(feature, np.ndarray)]
    fitting = "" if dtype is DType.STRING else "if" if dtype.is_float else "i"
    for example, numbers in enumerate(arrays):
        if numbers.dtype.kind not in fitting:
            raise column.misfit(example * column.width)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _out_of_range(numbers: Tensor, dtype: DType) -> int:
    """Index of the first number that the type does not hold; -1: it holds all."""
    if dtype is DType.INT64:
        return -1
    low, high = (0, 1) if dtype is DType.BOOL else (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max)
    strayed = (numbers < low) | (numbers > min(int(high), 2**63 - 1))
    return int(strayed.argmax()) if strayed.any() else -1


def _floats(numbers: Tensor, dtype: DType) -> Tensor:
    if numbers.dtype == dtype.numpy:
        return numbers
    # As predict reads them: past the type's range is infinite, below it zero, without a word.
    with np.errstate(over="ignore", under="ignore"):
        if dtype is DType.BFLOAT16:
            return _bfloat16_bits(numbers.astype(np.float64, copy=False))
        return numbers.astype(dtype.numpy, copy=False)


def _bfloat16_bits(numbers: Tensor) -> Tensor:
    """Nearest bfloat16, ties to even, by way of float32 rounded to odd, so that nothing is rounded twice."""
    nearest = numbers.astype(np.float32)
    beyond = np.abs(nearest.astype(np.float64)) > np.abs(numbers)
    toward_zero = np.where(beyond, np.nextafter(nearest, np.float32(0)), nearest)
    inexact = toward_zero.astype(np.float64) != numbers
    bits = toward_zero.view(np.uint32) | inexact
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(numbers), 0x7FC0, rounded).astype(np.uint16)


def _values(feature: Feature) -> list[Any]:
    if isinstance(feature, np.ndarray):
        values: list[Any] = feature.tolist()
        return values
    return feature if isinstance(feature, list) else [feature]


def _size(feature: Feature) -> int:
    return len(feature) if isinstance(feature, _LISTS) else 1


def _values_text(count: int) -> str:
    return f"{count} value" + ("" if count == 1 else "s")
