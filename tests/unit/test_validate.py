"""Does a request fit its model? Names, dtypes, ranks, dimensions and rows; what may share a run, and what it costs."""

from typing import Any

import numpy as np
import pytest

from fastserve.engine.validate import Validator
from fastserve.errors import FastServeError, InvalidRequest, InvalidTensor
from fastserve.types import DType, InferRequest, Signature, Tensor, TensorSpec

X = TensorSpec("x", DType.FLOAT, (-1, 3))
K = TensorSpec("k", DType.INT64, (-1,))
FREE = TensorSpec("free", DType.FLOAT, (-1, -1, 2))
FIXED = TensorSpec("fixed", DType.FLOAT, (2, 3))
ANY = TensorSpec("any", DType.FLOAT, None)
TEXT = TensorSpec("text", DType.STRING, (-1,))
BITS = TensorSpec("bits", DType.BFLOAT16, (-1,))
OUT = TensorSpec("out", DType.FLOAT, (-1, 1))
OTHER = TensorSpec("other", DType.FLOAT, (-1,))


def validator(*inputs: TensorSpec, batchable: bool = True, example_row_bytes: int = 12) -> Validator:
    return Validator(Signature(inputs, (OUT, OTHER)), batchable, example_row_bytes)


def f32(*shape: int) -> Tensor:
    return np.zeros(shape, dtype=np.float32)


def i64(*shape: int) -> Tensor:
    return np.zeros(shape, dtype=np.int64)


def request(outputs: tuple[str, ...] | None = None, **inputs: Any) -> InferRequest:
    return InferRequest(inputs, outputs)


@pytest.mark.parametrize(
    ("specs", "inputs", "rows"),
    [
        pytest.param((X,), {"x": f32(4, 3)}, 4, id="rows of a fixed shape"),
        pytest.param((X,), {"x": f32(0, 3)}, 0, id="no rows"),
        pytest.param((X, K), {"k": i64(2), "x": f32(2, 3)}, 2, id="two inputs in any order"),
        pytest.param((FREE,), {"free": f32(3, 7, 2)}, 3, id="free row shapes"),
        pytest.param((TEXT,), {"text": np.array(["a", "b"], dtype=object)}, 2, id="strings"),
        pytest.param((BITS,), {"bits": np.zeros(5, dtype=np.uint16)}, 5, id="bfloat16 as its bits"),
    ],
)
def test_a_request_that_fits_has_as_many_rows_as_its_first_axis(
    specs: tuple[TensorSpec, ...], inputs: dict[str, Tensor], rows: int
):
    assert validator(*specs).rows(InferRequest(inputs)) == rows


@pytest.mark.parametrize(
    ("spec", "tensor"),
    [(FIXED, f32(2, 3)), (ANY, f32()), (ANY, f32(2, 3, 4)), (X, f32(9, 3)), (TensorSpec("s", DType.FLOAT, ()), f32())],
)
def test_where_rows_are_not_coalesced_a_request_is_one_row(spec: TensorSpec, tensor: Tensor):
    assert validator(spec, batchable=False).rows(InferRequest({spec.name: tensor})) == 1


@pytest.mark.parametrize(
    ("specs", "batchable", "inputs", "said"),
    [
        pytest.param((X, K), True, {"x": f32(1, 3)}, ['missing "k"', '"x", "k"'], id="an input is missing"),
        pytest.param((X,), True, {"x": f32(1, 3), "z": f32(1)}, ['unknown "z"'], id="an input is unknown"),
        pytest.param((X,), True, {"z": f32(1, 3)}, ['missing "x"', 'unknown "z"'], id="another name"),
        pytest.param((X,), True, {}, ['missing "x"'], id="nothing at all"),
        pytest.param((X, K), True, {"x": f32(2, 3), "k": i64(3)}, ["x: 2", "k: 3"], id="rows that do not agree"),
        pytest.param((X,), True, {"x": i64(1, 3)}, ["FLOAT", "int64", "`x`"], id="another dtype"),
        pytest.param((X,), True, {"x": np.zeros((1, 3))}, ["FLOAT", "float64"], id="a wider dtype"),
        pytest.param((X,), True, {"x": f32(3)}, ["shape [-1, 3]", "shape [3]"], id="a rank too low"),
        pytest.param((X,), True, {"x": f32(1, 1, 3)}, ["shape [1, 1, 3]"], id="a rank too high"),
        pytest.param((X,), True, {"x": f32()}, ["shape []"], id="a scalar"),
        pytest.param((X,), True, {"x": f32(2, 4)}, ["shape [2, 4]"], id="a fixed dimension"),
        pytest.param((FREE,), True, {"free": f32(1, 5, 3)}, ["shape [1, 5, 3]"], id="fixed behind a free one"),
        pytest.param((FIXED,), False, {"fixed": f32(1, 3)}, ["shape [2, 3]"], id="the first axis, if it is fixed"),
    ],
)
def test_what_does_not_fit_is_told_with_what_was_expected(
    specs: tuple[TensorSpec, ...], batchable: bool, inputs: dict[str, Tensor], said: list[str]
):
    with pytest.raises((InvalidRequest, InvalidTensor)) as caught:
        validator(*specs, batchable=batchable).rows(InferRequest(inputs))
    for words in said:
        assert words in str(caught.value)


def test_outputs_may_be_chosen_and_must_exist():
    check = validator(X)
    assert check.rows(request(("other",), x=f32(2, 3))) == 2
    assert check.rows(request((), x=f32(2, 3))) == 2
    with pytest.raises(InvalidRequest, match='no output "nope"; it has "other", "out"'):
        check.rows(request(("out", "nope"), x=f32(2, 3)))


def test_an_error_does_not_grow_with_its_request():
    names = {f"{i:03}" + "n" * 1000: f32(1) for i in range(100)}
    with pytest.raises(FastServeError) as caught:
        validator(X).rows(InferRequest(names))
    assert len(str(caught.value)) < 10_000


def test_requests_share_a_run_when_their_rows_have_one_shape():
    check = validator(FREE)
    same = [check.bucket({"free": f32(rows, 7, 2)}) for rows in (1, 5)]
    assert same[0] == same[1]
    assert check.bucket({"free": f32(1, 8, 2)}) != same[0]


def test_where_row_shapes_are_fixed_all_requests_share_a_run_and_cost_their_rows():
    check = validator(X, K)
    assert check.fixed_rows
    assert check.bucket({"x": f32(1, 3), "k": i64(1)}) is check.bucket({"x": f32(9, 3), "k": i64(9)})
    assert check.size({"x": f32(9, 3), "k": i64(9)}, 9) == 9


@pytest.mark.parametrize(("shape", "size"), [((1, 1, 2), 1), ((1, 3, 2), 3), ((2, 3, 2), 6), ((1, 1000, 2), 1000)])
def test_where_row_shapes_are_free_the_cost_counts_in_examples(shape: tuple[int, ...], size: int):
    assert validator(FREE, example_row_bytes=8).size({"free": f32(*shape)}, shape[0]) == size


def test_an_example_without_bytes_divides_nothing():
    assert validator(FREE, example_row_bytes=0).size({"free": f32(1, 1, 2)}, 1) == 8
