"""The probe on models that are plain functions: what it proves, and what it does not fall for."""

from collections.abc import Callable

import numpy as np
import pytest

from fastserve.backends.examples import ALL_VALUES, MAX_ELEMENTS, MAX_SHAPES, candidates, fill
from fastserve.backends.probe import ROWS, Findings, fixed_reason, probe
from fastserve.errors import RunFailed
from fastserve.types import DType, Signature, Tensor, TensorSpec

X = TensorSpec(name="x", dtype=DType.FLOAT, shape=(-1, 4))
Y = TensorSpec(name="y", dtype=DType.FLOAT, shape=(-1, 4))
PROVEN = "rows answer the same alone and together"


def signature(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (Y,)) -> Signature:
    return Signature(inputs=inputs or (X,), outputs=outputs)


def spec(name: str, *dims: int | str, dtype: DType = DType.FLOAT) -> TensorSpec:
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in dims)
    names = tuple(dim if isinstance(dim, str) else "" for dim in dims)
    return TensorSpec(name=name, dtype=dtype, shape=shape, dim_names=names if any(names) else ())


def found(function: Callable[[Tensor], Tensor], given: Signature | None = None) -> Findings:
    """Probe a model of one input and one output."""
    return probe(given or signature(), lambda inputs: [function(inputs["x"])])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (signature(), ""),
        (signature(spec("x", "N", 4), spec("m", "M")), ""),
        (signature(spec("x", "N", "T"), spec("m", "N", "T")), ""),
        (signature(spec("x", 1, 4)), 'first axis of input "x" is fixed at 1'),
        (signature(spec("x", "N", 4), spec("k")), 'input "k" is a scalar'),
        (signature(spec("x", "N", 4), spec("h0", 1, "N", 4)), 'input "h0" carries its batch on another axis'),
        (signature(spec("x", "T", "N", 4), spec("m", "N")), 'input "x" carries its batch on another axis'),
        (signature(spec("x", "N", "N")), 'input "x" has as many columns as rows'),
        (signature(TensorSpec("x", DType.FLOAT, None)), 'the rank of input "x" is not declared'),
    ],
)
def test_what_the_declared_inputs_rule_out(given: Signature, reason: str) -> None:
    assert fixed_reason(given) == reason


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x * 2, ""),
        (lambda x: np.where(x > 0, x, np.nan), ""),
        (lambda x: x * np.float32(1 + 1e-6 * len(x)), ""),  # another order of sums
        (lambda x: 1e6 + x + np.float32(1e-1 * len(x)), ""),
        (lambda x: x * 0 + 7, ""),
        (lambda x: x - x.mean(axis=0), "rows influence each other"),
        (lambda x: np.cumsum(x, axis=0), "rows influence each other"),
        (lambda x: x / np.abs(x).max(), "rows influence each other"),
        (lambda x: x[::-1], "rows influence each other"),
        (lambda x: np.roll(x, 1, axis=0), "rows influence each other"),
        (lambda x: x + np.arange(len(x))[:, None], "rows influence each other"),
        (lambda x: x + len(x), "rows influence each other"),
        (lambda x: np.repeat(x[:1], len(x), axis=0), "rows influence each other"),
        (lambda x: x if len(x) > 1 else x + 1, "rows influence each other"),
        (lambda x: x[:, : len(x)], "rows influence each other"),
        (lambda x: x[:1], 'output "y" does not follow the batch'),
        (lambda x: x.sum(), 'output "y" does not follow the batch'),
        (lambda x: np.concatenate([x, x]), 'output "y" does not follow the batch'),
        (lambda x: x.T, 'output "y" does not follow the batch'),
        (lambda x: x if len(x) != 2 else x[:1], 'output "y" does not follow the batch'),
    ],
)
def test_rows_are_believed_only_when_they_answer_alone_as_together(
    function: Callable[[Tensor], Tensor], reason: str
) -> None:
    batching = found(function).batching
    assert (batching.batchable, batching.reason) == (not reason, reason or PROVEN)


def test_a_model_with_a_memory_is_not_batched() -> None:
    calls: list[int] = []

    def remembers(x: Tensor) -> Tensor:
        calls.append(1)
        return x + len(calls)

    assert found(remembers).batching.reason == "the same input is answered differently from run to run"


def test_influence_that_shows_on_positive_values_only() -> None:
    def normalized(x: Tensor) -> Tensor:
        return np.where((x > 0).all(), x / x.max(), x)

    assert found(normalized).batching.reason == "rows influence each other"


@pytest.mark.parametrize("dtype", [DType.INT64, DType.UINT8, DType.STRING, DType.BOOL, DType.FLOAT16, DType.BFLOAT16])
def test_every_element_type_tells_rows_apart(dtype: DType) -> None:
    given = signature(spec("x", "N", dtype=dtype), outputs=(spec("y", "N", dtype=dtype),))
    assert found(lambda x: x.copy(), given).batching.batchable
    assert found(lambda x: x[::-1], given).batching.reason == "rows influence each other"


def test_inputs_that_cannot_tell_rows_apart_prove_nothing() -> None:
    def only_ones(x: Tensor) -> Tensor:
        if (x != 1).any():
            raise RunFailed("ones, please")
        return x

    given = signature(spec("x", "N", dtype=DType.INT64))
    findings = found(only_ones, given)
    assert findings.batching.reason == "no inputs were found that differ from row to row"
    assert findings.example is not None


def test_a_free_dimension_is_searched_for() -> None:
    def seven_wide(x: Tensor) -> Tensor:
        if x.shape[1] != 7:
            raise RunFailed("7 columns, please")
        return x

    findings = probe(signature(spec("x", "N", "W")), lambda inputs: [seven_wide(inputs["x"])], sizes=(3, 5, 7))
    assert findings.batching.batchable
    assert findings.example is not None
    assert findings.example["x"].shape == (ROWS, 7)


def test_rows_that_are_independent_at_one_width_only() -> None:
    """As a Reshape to rows of 8 is."""

    def eights(x: Tensor) -> Tensor:
        return x if x.shape[1] == 8 else np.cumsum(x, axis=0)

    given = signature(spec("x", "N", "W"), outputs=(spec("y", "N", "W"),))
    assert found(eights, given).batching.reason == "rows influence each other"


def test_outputs_are_corrected_by_every_width_tried() -> None:
    given = signature(spec("x", "N", "W"), outputs=(spec("y", "N", 8),))
    assert found(lambda x: x, given).signature.outputs[0].shape == (-1, -1)


def test_the_same_symbol_has_the_same_size() -> None:
    given = signature(spec("x", "N", "T"), spec("m", "N", "T"))
    findings = probe(given, lambda inputs: [inputs["x"] * inputs["m"]])
    assert findings.batching.batchable


def test_a_model_that_never_runs_says_why_the_first_time() -> None:
    failures = iter(range(1000))

    def fails(x: Tensor) -> Tensor:
        raise RunFailed(f"no, {next(failures)}")

    findings = found(fails)
    assert findings.batching.reason == "the probe run failed: no, 0"
    assert findings.example is None
    assert findings.signature == signature()


def test_an_unbatched_model_that_never_runs_gives_both_reasons() -> None:
    def fails(x: Tensor) -> Tensor:
        raise RunFailed("no")

    reason = found(fails, signature(spec("x", 1, 4))).batching.reason
    assert reason == 'first axis of input "x" is fixed at 1; the probe run failed: no'


def test_a_model_that_fails_in_company_only() -> None:
    def needs_three(x: Tensor) -> Tensor:
        if len(x) != ROWS:
            raise RunFailed("three, please")
        return x

    assert found(needs_three).batching.reason == "the probe run failed: three, please"


def test_a_model_that_takes_one_row_though_it_declares_many() -> None:
    def one(x: Tensor) -> Tensor:
        if len(x) != 1:
            raise RunFailed("one row, please")
        return x

    findings = found(one)
    assert findings.batching.reason == "the probe run failed: one row, please"
    assert findings.example is not None
    assert findings.example["x"].shape == (1, 4)


@pytest.mark.parametrize(
    ("declared", "corrected"),
    [
        ((-1, 4), (-1, 4)),
        ((1, 4), (-1, 4)),
        ((3, 4), (-1, 4)),
        ((-1, 5), (-1, -1)),
        ((-1, 4, 1), None),
        (None, None),
    ],
)
def test_outputs_declared_wrongly_are_corrected(
    declared: tuple[int, ...] | None, corrected: tuple[int, ...] | None
) -> None:
    findings = found(lambda x: x, signature(outputs=(TensorSpec("y", DType.FLOAT, declared),)))
    assert findings.signature.outputs[0].shape == corrected


def test_candidates_are_few_and_small() -> None:
    given = signature(spec("x", "N", "C", "H", "W", dtype=DType.UINT8))
    tried = list(candidates(given, True, ROWS, tuple(range(20, 40))))
    assert len(tried) <= MAX_SHAPES * len(ALL_VALUES)
    assert all(inputs["x"].size <= MAX_ELEMENTS for inputs in tried)


def test_a_large_fixed_shape_is_tried_all_the_same() -> None:
    given = signature(spec("x", "N", MAX_ELEMENTS, dtype=DType.UINT8))
    assert next(candidates(given, True, 1, ()))["x"].shape == (1, MAX_ELEMENTS)


@pytest.mark.parametrize("values", ALL_VALUES)
@pytest.mark.parametrize("dtype", list(DType))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (3, 0), (2, 3, 4)])
def test_fills_have_the_asked_shape_and_type(shape: tuple[int, ...], dtype: DType, values: object) -> None:
    given = signature(TensorSpec("x", dtype, tuple(-1 for _ in shape)))
    array = fill(given, (shape,), values)["x"]  # type: ignore[arg-type]
    assert (array.shape, array.dtype) == (shape, dtype.numpy)
    assert array.flags.c_contiguous
    if dtype is DType.STRING:
        assert all(isinstance(text, str) for text in array.ravel())
