"""Columns of a dataset to a model's inputs: which goes where, and what does not fit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config import ModelConfig
from fastserve.config.fields import ParamsConfig
from fastserve.datasets.mapping import ROWS_AT_A_TIME, plan
from fastserve.datasets.table import Table, columns_of
from fastserve.errors import DatasetError
from fastserve.types import DType, Signature, TensorSpec


def table(time_column: str | None = None, **columns: Any) -> Table:
    arrays = {name: value if isinstance(value, np.ndarray) else np.array(value) for name, value in columns.items()}
    return Table(len(next(iter(arrays.values()))), columns_of(arrays), time_column)


def masked(values: list[Any], dtype: str = "float64") -> Any:
    return np.ma.masked_array([value or 0 for value in values], [value is None for value in values], dtype)


def texts(*values: str) -> Any:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def signature(*specs: tuple[str, DType, tuple[int, ...] | None]) -> Signature:
    return Signature(tuple(TensorSpec(*spec) for spec in specs), ())


def config(**fields: Any) -> ModelConfig:
    return ModelConfig(name="m", **fields)


def tensors(found: Signature, data: Table, *, batchable: bool = True, **fields: Any) -> list[dict[str, Any]]:
    """Every request's inputs, as lists."""
    mapping = plan(found, data, config(**fields), batchable=batchable)
    requests = [mapping.tensors(data, start) for start in mapping.starts(data)]
    specs = {spec.name: spec for spec in found.inputs}
    for request in requests:
        assert {name: tensor.dtype for name, tensor in request.items()} == {n: s.dtype.numpy for n, s in specs.items()}
        assert all(tensor.flags.c_contiguous for tensor in request.values())
    return [{name: tensor.tolist() for name, tensor in request.items()} for request in requests]


def refused(found: Signature, data: Table, **fields: Any) -> str:
    with pytest.raises(DatasetError) as error:
        tensors(found, data, **fields)
    return str(error.value)


F, I = DType.FLOAT, DType.INT64  # noqa: E741
WIDE = signature(("x", F, (-1, 2)))


def test_all_columns_of_numbers_fill_one_wide_input_in_their_order_but_not_the_time():
    data = table("when", when=[3, 4], b=[1, 2], name=texts("p", "q"), a=[True, False])
    assert tensors(WIDE, data) == [{"x": [[1, 1], [2, 0]]}]


def test_features_name_the_columns_and_their_order():
    data = table(a=[1, 2], b=[3, 4], c=[5, 6])
    assert tensors(WIDE, data, features=("c", "a")) == [{"x": [[5, 1], [6, 2]]}]


def test_inputs_are_filled_by_the_columns_of_their_names():
    data = table(t=texts("p", "q"), n=[1, 2], v=[0.5, 1.5], left=[9, 9])
    named = signature(("v", F, (-1,)), ("n", I, (-1, 1)), ("t", DType.STRING, (-1,)))
    assert tensors(named, data) == [{"v": [0.5, 1.5], "n": [[1], [2]], "t": ["p", "q"]}]


def test_features_name_the_columns_of_several_inputs_in_order():
    several = signature(("x", F, (-1,)), ("y", F, (-1,)))
    assert tensors(several, table(p=[1], q=[2]), features=("q", "p")) == [{"x": [2], "y": [1]}]


def test_a_column_of_lists_fills_a_wide_input():
    data = table(x=np.array([None, None]), y=[0, 0])
    lists = np.empty(2, object)
    lists[:] = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    data = table(x=lists, y=[0, 0])
    assert tensors(WIDE, data) == [{"x": [[1, 2], [3, 4]]}]


def test_a_single_column_fills_a_vector():
    assert tensors(signature(("x", F, (-1,))), table(anything=[1, 2])) == [{"x": [1, 2]}]


def test_what_has_no_value_is_nan_in_floats_and_refused_elsewhere():
    data = table(a=masked([1, None, 3]))
    (request,) = tensors(signature(("a", F, (-1,))), data)
    assert str(request["a"]) == "[1.0, nan, 3.0]"
    assert "has no value in row 1, the input takes INT64" in refused(signature(("a", I, (-1,))), data)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1.0, 2.0], DType.INT8, [1, 2]),
        ([1, 0], DType.BOOL, [True, False]),
        ([2**63 - 1], DType.INT64, [2**63 - 1]),
        ([1e300], DType.FLOAT, [np.inf]),
        ([1.0, 1.00390625, 1.01171875], DType.BFLOAT16, [0x3F80, 0x3F80, 0x3F82]),
        ([float("nan"), -2.0], DType.BFLOAT16, [0x7FC0, 0xC000]),
    ],
)
def test_numbers_become_what_the_input_takes(values: list[Any], dtype: DType, expected: list[Any]):
    assert tensors(signature(("a", dtype, (-1,))), table(a=values)) == [{"a": expected}]


@pytest.mark.parametrize(
    ("values", "dtype", "what"),
    [
        ([1.0, 1.5], DType.INT8, "is 1.5 in row 1"),
        ([128], DType.INT8, "is 128 in row 0"),
        ([-1], DType.UINT64, "is -1 in row 0"),
        ([2.0**63], DType.INT64, "is 9.223372036854776e+18 in row 0"),
        ([float("nan")], DType.INT32, "is nan in row 0"),
        ([2], DType.BOOL, "is 2 in row 0"),
    ],
)
def test_numbers_are_not_rounded_or_wrapped_around(values: list[Any], dtype: DType, what: str):
    assert f'column "a" {what}, the input takes {dtype.name}' in refused(
        signature(("a", dtype, (-1,))), table(a=values)
    )


@pytest.mark.parametrize(
    ("found", "data", "fields", "text"),
    [
        (WIDE, table(a=[1]), {}, 'expected 2 columns for the input "x", got 1: a (features names those to take)'),
        (WIDE, table(a=[1]), {"features": ("a", "z")}, 'the dataset has no column "z" (features)'),
        (WIDE, table(a=texts("p")), {}, 'no column of numbers for the input "x"'),
        (WIDE, table(a=[1], b=texts("p")), {"features": ("a", "b")}, 'column "b" holds text, the input takes FLOAT'),
        (signature(("x", F, (-1,)), ("y", F, (-1,))), table(x=[1]), {}, 'no column is (or fits) the input "y"; the'),
        (signature(("x", F, (-1, 2, 2, 2))), table(a=[1]), {}, 'fill inputs of the shape [N] or [N, k], and "x" has'),
        (
            signature(("x", F, (-1, 2, 3))),
            table(a=[1]),
            {},
            "Number of variates 1 does not match expected (3) from model",
        ),
        (signature(("x", F, (2, 2, 1))), table(a=[1]), {}, "[1, lookback, variates], the model has [2, 2, 1]"),
        (signature(("x", F, (1, 2, 1))), table(a=[1]), {}, "looks at 2 rows, and the dataset has 1"),
    ],
)
def test_what_does_not_fit_is_told(found: Signature, data: Table, fields: dict[str, Any], text: str):
    assert text in refused(found, data, **fields)


def test_a_window_is_the_latest_rows_row_after_row():
    data = table("ts", ts=[1, 2, 3], a=[1, 2, 3], b=[4, 5, 6])
    window = signature(("x", F, (1, 2, 2)))
    assert tensors(window, data) == [{"x": [[[2, 5], [3, 6]]]}]
    assert tensors(window, data, params=ParamsConfig(window="oldest")) == [{"x": [[[1, 4], [2, 5]]]}]
    assert tensors(signature(("x", F, (1, -1, 2))), data) == [{"x": [[[1, 4], [2, 5], [3, 6]]]}]


def test_spices_window_is_the_oldest_values_column_after_column_without_those_that_are_missing():
    data = table("ts", ts=[1, 2, 3], a=masked([None, 2, 3]), b=[4, 5, 6], c=texts("p", "q", "r"))
    window = signature(("x", F, (1, 2, 2)))
    spice = ParamsConfig(layout="spice")
    assert tensors(window, data, params=spice) == [{"x": [[[2, 3], [4, 5]]]}]
    latest = ParamsConfig(layout="spice", window="latest")
    assert tensors(window, data, params=latest) == [{"x": [[[2, 3], [5, 6]]]}]
    three = signature(("x", F, (1, 3, 2)))
    assert 'column "a" has 2 values, the model looks at 3' in refused(three, data, params=spice)


@pytest.mark.parametrize("shape", [(-1, 1), (1, 2, 1)])
def test_no_rows_are_no_requests(shape: tuple[int, ...]):
    assert tensors(signature(("x", F, shape)), table(a=np.array([], float))) == []


def test_rows_that_may_have_to_do_with_each_other_are_asked_together():
    data = table(a=np.arange(ROWS_AT_A_TIME + 1.0))
    vector = signature(("a", F, (-1,)))
    assert [len(request["a"]) for request in tensors(vector, data)] == [ROWS_AT_A_TIME, 1]
    assert [len(request["a"]) for request in tensors(vector, data, batchable=False)] == [ROWS_AT_A_TIME + 1]


def test_a_model_of_a_fixed_number_of_rows_gets_as_many_at_a_time():
    data = table(a=[1, 2, 3, 4], b=[5, 6, 7, 8])
    two = signature(("x", F, (2, 2)))
    assert tensors(two, data, batchable=False) == [{"x": [[1, 5], [2, 6]]}, {"x": [[3, 7], [4, 8]]}]
    assert "2 rows at a time, and the dataset has 3" in refused(two, table(a=[1, 2, 3], b=[1, 2, 3]), batchable=False)


@given(
    rows=st.integers(1, 40),
    names=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float32", "float64", "int8", "uint16", "int64", "bool"]),
    data=st.data(),
)
def test_every_value_is_where_its_column_and_row_say(
    rows: int, names: list[str], seed: int, dtype: str, data: st.DataObject
):
    rand = np.random.default_rng(seed)
    arrays = {name: rand.integers(0, 100, rows).astype(dtype) for name in names}
    chosen = tuple(data.draw(st.permutations(names)))
    found = Table(rows, columns_of(arrays))
    for features in ((), chosen):
        mapping = plan(signature(("\0", F, (-1, len(names)))), found, config(features=features), batchable=True)
        (tensor,) = mapping.tensors(found, 0).values()
        expected = [[float(arrays[name][row]) for name in features or names] for row in range(rows)]
        assert tensor.tolist() == expected
    lookback = data.draw(st.integers(1, rows))
    window = signature(("\0", F, (1, lookback, len(names))))
    (tensor,) = (
        plan(window, found, config(params=ParamsConfig(layout="spice")), batchable=False).tensors(found, 0).values()
    )
    assert tensor.ravel().tolist() == [float(v) for name in names for v in arrays[name][:lookback]]
    (tensor,) = plan(window, found, config(), batchable=False).tensors(found, 0).values()
    assert tensor.tolist() == [[[float(arrays[n][row]) for n in names] for row in range(rows - lookback, rows)]]
