"""Numbers to JSON text: every dtype's own shortest digits, laid out so that a float is never taken for an integer."""

import math
from typing import Any

import numpy as np
import pytest

from fastserve._ext import jsonwrite
from fastserve.types import DType, Tensor
from tests.reference import jsonwrite as reference

UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def text(values: Any, dtype: DType, b64: bool = False) -> str:
    return jsonwrite.tensor(b"", np.array(values, dtype.numpy), dtype, b64, b"").decode()


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (0.0, DType.FLOAT, "0.0"),
        (-0.0, DType.FLOAT, "-0.0"),
        (3, DType.FLOAT, "3.0"),
        (0.2, DType.FLOAT, "0.2"),
        (-12.5, DType.FLOAT, "-12.5"),
        (9000000, DType.FLOAT, "9000000.0"),
        (16777216, DType.FLOAT, "16777216.0"),
        (99999992, DType.FLOAT, "99999990.0"),
        (1e8, DType.FLOAT, "1e8"),
        (123456789, DType.FLOAT, "1.2345679e8"),
        (0.0001, DType.FLOAT, "0.0001"),
        (0.00012345678, DType.FLOAT, "0.00012345678"),
        (0.00001, DType.FLOAT, "1e-5"),
        (1e-45, DType.FLOAT, "1e-45"),
        (-1.17549435e-38, DType.FLOAT, "-1.1754944e-38"),
        (3.4028235e38, DType.FLOAT, "3.4028235e38"),
        (0.1, DType.DOUBLE, "0.1"),
        (1 / 3, DType.DOUBLE, "0.3333333333333333"),
        (1e15, DType.DOUBLE, "1000000000000000.0"),
        (1e16, DType.DOUBLE, "1e16"),
        (5e-324, DType.DOUBLE, "5e-324"),
        (-1.7976931348623157e308, DType.DOUBLE, "-1.7976931348623157e308"),
        (9007199254740993, DType.DOUBLE, "9007199254740992.0"),
        (0.1, DType.FLOAT16, "0.1"),
        (65504, DType.FLOAT16, "65500.0"),
        (6e-8, DType.FLOAT16, "6e-8"),
        (0x3F80, DType.BFLOAT16, "1.0"),
        (0x3DCD, DType.BFLOAT16, "0.1"),
        (0x7F7F, DType.BFLOAT16, "3.39e38"),
        (0x0001, DType.BFLOAT16, "9e-41"),
        (math.nan, DType.FLOAT, "NaN"),
        (-math.inf, DType.DOUBLE, "-Infinity"),
        (math.inf, DType.FLOAT16, "Infinity"),
        (0xFF80, DType.BFLOAT16, "-Infinity"),
        (0xFFFF, DType.BFLOAT16, "NaN"),
        (2**64 - 1, DType.UINT64, "18446744073709551615"),
        (-(2**63), DType.INT64, "-9223372036854775808"),
        (-(2**31), DType.INT32, "-2147483648"),
        (-128, DType.INT8, "-128"),
        (255, DType.UINT8, "255"),
        (True, DType.BOOL, "true"),
        (False, DType.BOOL, "false"),
    ],
)
def test_a_number_is_written_as(value: float, dtype: DType, expected: str) -> None:
    assert text(value, dtype) == expected
    assert text([[value]], dtype) == f"[[{expected}]]"


def test_whole_numbers_of_every_length_are_written_in_full() -> None:
    near_powers = [10**power + step for power in range(20) for step in (-1, 0, 1)]
    for dtype in (DType.UINT16, DType.UINT64, DType.INT64, DType.INT32):
        limits = np.iinfo(dtype.numpy)
        values = [*range(2**16), *near_powers, *(-value for value in near_powers), limits.min, limits.max]
        fitting = [value for value in values if limits.min <= value <= limits.max]
        assert text(fitting, dtype) == "[" + ",".join(map(str, fitting)) + "]"


def test_any_byte_but_0_is_true() -> None:
    assert jsonwrite.tensor(b"", np.array([0, 1, 2, 255], np.uint8).view(bool), DType.BOOL, False, b"") == (
        b"[false,true,true,true]"
    )


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_floats_of_16_bits_are_the_twins(dtype: DType) -> None:
    array = np.arange(0, 2**16, 7).astype(np.uint16).view(dtype.numpy)  # tests/fuzz/float_digits.cpp takes them all
    assert jsonwrite.tensor(b"", array, dtype, False, b"") == reference.tensor(b"", array, dtype, False, b"")


def random_bits(count: int, item_bytes: int) -> Tensor:
    """All exponents alike, many patterns next to powers of two."""
    seed = np.random.randint(2**31)
    print(f"seed {seed}")
    bits = np.frombuffer(np.random.default_rng(seed).bytes(count * item_bytes), UNSIGNED[item_bytes])
    fraction_bits = {4: 23, 8: 52}[item_bytes]
    close = (bits[::8] >> fraction_bits << fraction_bits) + (bits[::8] % 5) - 2
    return np.concatenate([bits, close.astype(bits.dtype)])


@pytest.mark.parametrize(("dtype", "item"), [(DType.FLOAT, "f4"), (DType.DOUBLE, "f8")])
def test_random_floats_read_back_bit_for_bit_with_no_digit_too_many(dtype: DType, item: str) -> None:
    array = random_bits(100_000, int(item[1])).view(item)
    array = array[np.isfinite(array)]
    written = jsonwrite.tensor(b"", array, dtype, False, b"").decode()[1:-1].split(",")
    # Numpy's own shortest digits; and reading float32 by way of double rounds twice, which shortest texts survive.
    assert np.array_equal(np.array([float(number) for number in written]).astype(item), array)
    for number, value in zip(written, array, strict=True):
        shortest = np.format_float_scientific(value, trim="-")
        assert significant(number) == significant(shortest)


def significant(number: str) -> str:
    return number.lstrip("-").split("e")[0].replace(".", "").strip("0")
