"""The native JSON reader against its plain twin: the same arrays bit for bit, the same refusals at the same places."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve._ext.tensorize import Cursor
from fastserve.errors import FastServeError, InvalidJson, InvalidTensor
from fastserve.types import DType, Tensor
from tests.reference import tensorize as reference

FLOATS = sorted(reference.FLOATS)
INTEGERS = [dtype for dtype in DType if dtype.numpy.kind in "iu" and dtype != DType.BFLOAT16]
SPACE = st.sampled_from(["", "", "", " ", "\n", "  \t\r\n", " " * 17])


def same(ours: Tensor, theirs: Tensor) -> None:
    """Equal in type, shape and every bit, NaN's among them."""
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.flags.c_contiguous
    assert ours.flags.writeable
    if ours.dtype == object:
        assert ours.tolist() == theirs.tolist()
    else:
        assert ours.tobytes() == theirs.tobytes()


def outcome(read: Any, *args: Any) -> tuple[str, Any]:
    """What a reader says: `array`, or where it refuses (`json` or the path)."""
    try:
        return "array", read(*args)
    except reference.Refused as refused:
        return "refused", refused.path or "json"
    except InvalidTensor as error:
        return "refused", error.path
    except InvalidJson:
        return "refused", "json"


def agree(text: bytes, dtype: DType) -> None:
    """Both read the same array, or refuse the same place.

    Where the text is broken, the reader may find something else wrong before it comes there. Near its end other readers
    are at work than before: so it is read with a tail too.
    """
    theirs = outcome(reference.tensor, text, dtype)
    check(text, dtype, theirs)
    if theirs != ("refused", "json"):
        check(text + b" " * 40, dtype, theirs)
    elif outcome(reference.tensor, text + b"," * 40, dtype) == theirs:
        check(text + b"," * 40, dtype, theirs)


def check(text: bytes, dtype: DType, theirs: tuple[str, Any]) -> None:
    ours = outcome(lambda: Cursor(text).tensor(dtype, "$"))
    if theirs == ("refused", "json"):
        assert ours[0] == "refused"
    elif theirs[0] == "refused":
        assert ours == theirs
    else:
        assert ours[0] == "array", ours
        same(ours[1], theirs[1])


# ---- texts --------------------------------------------------------------------------------------------------------


@st.composite
def laid_out(draw: st.DrawFn, value: Any) -> str:
    """`value` as JSON text, strings standing for tokens, with space anywhere."""
    if isinstance(value, str):
        return draw(SPACE) + value + draw(SPACE)
    if isinstance(value, dict):
        members = [f"{draw(SPACE)}{json.dumps(key)}{draw(SPACE)}:{draw(laid_out(item))}" for key, item in value.items()]
        return draw(SPACE) + "{" + ",".join(members) + draw(SPACE) + "}" + draw(SPACE)
    items = [draw(laid_out(item)) for item in value]
    return draw(SPACE) + "[" + ",".join(items) + draw(SPACE) + "]" + draw(SPACE)


@st.composite
def nested(draw: st.DrawFn, tokens: st.SearchStrategy[str]) -> Any:
    """Lists of one shape around tokens."""

    def build(left: list[int]) -> Any:
        return [build(left[1:]) for _ in range(left[0])] if left else draw(tokens)

    return build(draw(st.lists(st.integers(0, 4), max_size=4)))


@st.composite
def number_tokens(draw: st.DrawFn) -> str:
    """Any JSON number, from short ones to those with more digits and powers than any type holds."""
    sign = draw(st.sampled_from(["", "-"]))
    whole = draw(st.one_of(st.integers(0, 9), st.integers(0, 10**8), st.integers(0, 10**25)))
    fraction = draw(
        st.one_of(
            st.just(""), st.from_regex(r"\.[0-9]{1,8}", fullmatch=True), st.from_regex(r"\.[0-9]{1,40}", fullmatch=True)
        )
    )
    power = draw(
        st.one_of(
            st.just(""), st.just(""), st.integers(-60, 60).map("e{}".format), st.integers(-400, 290).map("E{:+}".format)
        )
    )
    return f"{sign}{whole}{fraction}{power}"


@st.composite
def halfway_tokens(draw: st.DrawFn) -> str:
    """Decimals exactly between two floats of some type, or off by very little."""
    exponent_bits, fraction_bits, _ = reference.FLOATS[draw(st.sampled_from(FLOATS))]
    bias = 2 ** (exponent_bits - 1) - 1
    power = draw(st.integers(max(-bias - fraction_bits - 2, -160), min(bias, 130))) - fraction_bits - 1
    odd = 2 * draw(st.integers(0, 2 ** (fraction_bits + 1) - 1)) + 1
    digits = odd * 2**power if power >= 0 else odd * 5**-power
    places = max(-power, 0)
    text = str(digits).rjust(places + 1, "0")
    whole, fraction = text[: len(text) - places], text[len(text) - places :]
    tail = draw(st.sampled_from(["", "0", "0000000000001", "0" * 800 + "1"]))
    nudged = fraction + tail if fraction else ""
    if draw(st.booleans()) and fraction:
        nudged = f"{int(whole + fraction) - 1:0{len(text)}d}"[len(whole) :] + "9" * draw(st.integers(1, 30))
    return draw(st.sampled_from(["", "-"])) + whole + ("." + nudged if nudged else "")


def shortest_tokens() -> st.SearchStrategy[str]:
    """The shortest text of any float32 and float64, as writers of JSON make it."""
    singles = st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: str(np.float32(value)))
    return st.one_of(singles, st.floats(allow_nan=False, allow_infinity=False).map(repr))


FLOAT_TOKENS = st.one_of(
    number_tokens(),
    halfway_tokens(),
    shortest_tokens(),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "Inf", "-Inf", "-0", "0.0", "-0.0e0"]),
)


# ---- tensors ------------------------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(FLOATS))
def test_float_tensors_are_those_of_the_reference(data: st.DataObject, dtype: DType) -> None:
    agree(data.draw(laid_out(data.draw(nested(FLOAT_TOKENS)))).encode(), dtype)


@given(FLOAT_TOKENS, st.sampled_from(FLOATS), st.booleans())
@example("1.00048828125", DType.FLOAT16, False)
@example("65519.999999999999999999999999", DType.FLOAT16, True)
@example("340282356779733661637539395458142568447.99", DType.FLOAT, True)
@example("1.4012984643e-45", DType.FLOAT, False)
def test_every_number_is_rounded_once(token: str, dtype: DType, in_list: bool) -> None:
    # The list is long enough for the reader of common shapes, which loads ahead.
    agree((f"[{token},{token}," + "0," * 40 + "1]" if in_list else token).encode(), dtype)


@given(st.data(), st.sampled_from(INTEGERS))
def test_integer_tensors_are_those_of_the_reference(data: st.DataObject, dtype: DType) -> None:
    limits = np.iinfo(dtype.numpy)
    near = st.sampled_from([limits.min, limits.max]).flatmap(lambda edge: st.integers(edge - 2, edge + 2))
    tokens = st.one_of(st.integers(0, 127), near, st.integers(-(10**21), 10**21)).map(str)
    agree(data.draw(laid_out(data.draw(nested(tokens)))).encode(), dtype)


@given(st.integers(-(2**64), 2**65), st.sampled_from(INTEGERS))
def test_integers_are_exact_or_refused(value: int, dtype: DType) -> None:
    limits = np.iinfo(dtype.numpy)
    for text in (f"{value}", f"[{value}{',0' * 40}]"):
        agree(text.encode(), dtype)
    fits = limits.min <= value <= limits.max
    assert outcome(lambda: Cursor(str(value).encode()).tensor(dtype, "$").item()) == (
        ("array", value) if fits else ("refused", "$")
    )


@given(st.data())
def test_bool_tensors_are_those_of_the_reference(data: st.DataObject) -> None:
    agree(data.draw(laid_out(data.draw(nested(st.sampled_from(["true", "false"]))))).encode(), DType.BOOL)


@given(st.data())
def test_string_tensors_are_those_of_the_reference(data: st.DataObject) -> None:
    texts = st.text(st.characters(codec="utf-8"), max_size=20)
    plain = st.builds(lambda text, ascii_only: json.dumps(text, ensure_ascii=ascii_only), texts, st.booleans())
    padded = texts.map(lambda text: reference.base64.b64encode(text.encode()).decode())
    objects = st.builds(lambda text, keep: f'{{"b64": "{text if keep else text.rstrip("=")}"}}', padded, st.booleans())
    agree(data.draw(laid_out(data.draw(nested(st.one_of(plain, objects))))).encode(), DType.STRING)


@given(st.text(st.sampled_from("AQYZgw09+/=. \n\t-_!"), max_size=12))
@example("YQ==").via("padded")
@example("Y Q\n= =").via("with spaces")
@example("YQ..").via("points")
@example("YQ==YQ==").via("goes on behind its padding")
@example("====").via("padding alone")
def test_base64_is_that_of_the_reference(text: str) -> None:
    agree(json.dumps({"b64": text}).encode(), DType.STRING)


@given(st.data(), st.sampled_from([*DType]))
def test_a_wrong_value_is_refused_where_it_stands(data: st.DataObject, dtype: DType) -> None:
    """One value of a good tensor is replaced by anything."""
    good = {DType.BOOL: "true", DType.STRING: '"x"'}.get(dtype, "1")
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    value = np.full(shape, good, object).tolist()
    parent, depth = value, data.draw(st.integers(0, len(shape) - 1))
    for _ in range(depth):
        parent = parent[data.draw(st.integers(0, len(parent) - 1))]
    other = st.sampled_from(
        [
            [],
            ["1"],
            ["1", "1"],
            {},
            "null",
            "true",
            '"x"',
            "1.5",
            "1e2",
            "NaN",
            "300",
            "-1",
            {"b64": '"YQ"'},
            {"b64": "1"},
        ]
    )
    parent[data.draw(st.integers(0, len(parent) - 1))] = data.draw(other)
    agree(data.draw(laid_out(value)).encode(), dtype)


@given(st.data(), st.sampled_from([*DType]))
def test_damaged_text_never_gives_a_wrong_tensor(data: st.DataObject, dtype: DType) -> None:
    """Bytes of a good text are replaced, removed or added."""
    tokens = {
        DType.BOOL: st.sampled_from(["true", "false"]),
        DType.STRING: st.sampled_from(['"a\\u00e9"', '{"b64":"YQ=="}']),
    }
    text = bytearray(data.draw(laid_out(data.draw(nested(tokens.get(dtype, number_tokens()))))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"[", b"]", b",", b"0", b".", b'"', b"\\", b"\0", b"\xff", b"e", b"-", b"{"])
        )
    agree(bytes(text), dtype)


# ---- row objects --------------------------------------------------------------------------------------------------

ROW_DTYPES = {"x": DType.FLOAT, "ids/1": DType.INT64, "text": DType.STRING}
ROW_TOKENS = {
    "x": number_tokens(),
    "ids/1": st.integers(-(2**63), 2**63 - 1).map(str),
    "text": st.text(max_size=5).map(json.dumps),
}


OTHER_TOKENS = st.sampled_from(["1", '"]}"', "null", '{"x":[1,{}]}', "[[],[1]]", "true"])


def agree_on_rows(text: bytes, others: bool, quoted_floats: bool) -> None:
    names, dtypes = tuple(ROW_DTYPES), tuple(ROW_DTYPES.values())
    ours = outcome(lambda: Cursor(text).rows(names, dtypes, "$", others, quoted_floats))
    theirs = outcome(reference.rows, text, names, dtypes, "$", others, quoted_floats)
    assert ours[0] == theirs[0], (ours, theirs)
    if theirs[0] == "refused":
        assert ours[1].replace('["ids/1"]', ".ids/1") == theirs[1]
        return
    assert list(ours[1]) == list(names)
    for name in names:
        same(ours[1][name], theirs[1][name])


@given(st.data())
def test_row_objects_are_those_of_the_reference(data: st.DataObject) -> None:
    """Any order of keys; now and then a key too many, too few, twice, or of another shape."""
    shapes = {name: data.draw(st.lists(st.integers(0, 2), max_size=2)) for name in ROW_DTYPES}
    texts = []
    for _ in range(data.draw(st.integers(1, 4))):
        names = data.draw(st.permutations([*ROW_DTYPES]))
        names = data.draw(st.sampled_from([names] * 8 + [names[:-1], [*names, names[0]], [*names, "other"]]))
        members = []
        for name in names:
            shape = shapes.get(name, [])
            if data.draw(st.integers(0, 15)) == 0:
                shape = data.draw(st.lists(st.integers(0, 2), max_size=2))
            items = np.array([data.draw(ROW_TOKENS.get(name, OTHER_TOKENS)) for _ in range(math.prod(shape))], object)
            members.append(json.dumps(name) + ":" + data.draw(laid_out(items.reshape(shape).tolist())))
        texts.append("{" + data.draw(SPACE) + ("," + data.draw(SPACE)).join(members) + "}")
    agree_on_rows(f"[{','.join(texts)}]".encode(), data.draw(st.booleans()), data.draw(st.booleans()))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 40])
def test_many_keys_are_read_in_any_order(count: int) -> None:
    names = tuple(f"input {index}" for index in range(count))
    rows = [{name: [row, index] for index, name in enumerate(names[::step])} for row, step in enumerate((1, -1, 1))]
    columns = Cursor(json.dumps(rows).encode()).rows(names, (DType.INT32,) * count, "$")
    assert {name: array.shape for name, array in columns.items()} == dict.fromkeys(names, (3, 2))
    assert all((array[:, 0] == [0, 1, 2]).all() for array in columns.values())


# ---- values and skipping --------------------------------------------------------------------------------------------


@given(st.data())
def test_values_are_those_of_the_reference(data: st.DataObject) -> None:
    leaves = st.one_of(number_tokens(), st.sampled_from(["true", "false", "null"]), st.text(max_size=8).map(json.dumps))
    trees = st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
        max_leaves=20,
    )
    text = data.draw(laid_out(data.draw(trees))).encode()
    ours = outcome(lambda: Cursor(text).value("$"))
    theirs = outcome(reference.value, text)
    assert ours == theirs
    assert json.dumps(ours[1]) == json.dumps(theirs[1])


@given(st.data())
def test_skipping_ends_where_the_value_ends(data: st.DataObject) -> None:
    leaves = st.one_of(FLOAT_TOKENS, st.sampled_from(["true", "false", "null"]), st.text(max_size=8).map(json.dumps))
    trees = st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
        max_leaves=20,
    )
    text = bytearray(
        data.draw(laid_out(data.draw(trees))).encode() + data.draw(st.sampled_from([b"", b",", b"]", b"garbage"]))
    )
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + 1] = data.draw(
            st.sampled_from([b"", b"[", b"]", b",", b"0", b'"', b"\\", b"\0", b"\xff", b"{", b"}", b":"])
        )
    cursor = Cursor(bytes(text))
    try:
        cursor.skip()
    except FastServeError:
        with pytest.raises(reference.Refused):
            reference.parse(bytes(text))
    else:
        assert cursor.offset == reference.parse(bytes(text)).end


WORDS = [
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "Inf",
    "-Inf",
    "nan",
    "Infinit",
    "Nan",
    "1",
    "",
    "NaN ",
    "Infinityx",
    "In",
]
TOKENS = st.sampled_from([*(f'"{word}"' for word in WORDS), '"NaN', "NaN", "1.5", "-2", '"\\u004eaN"', "null", "[]"])


@given(st.lists(TOKENS, min_size=1, max_size=4), st.sampled_from([*FLOATS, DType.INT32, DType.STRING]), st.booleans())
def test_floats_in_quotes_where_they_are_allowed(tokens: list[str], dtype: DType, allowed: bool):
    text = f"[{','.join(tokens)}]".encode()
    theirs = outcome(lambda: reference.tensor(text, dtype, quoted_floats=allowed))
    ours = outcome(lambda: Cursor(text).tensor(dtype, "$", allowed))
    assert ours[0] == theirs[0]
    if ours[0] == "array":
        same(ours[1], theirs[1])
    elif theirs != ("refused", "json"):
        assert ours == theirs


def test_a_cursor_goes_back_to_a_value_it_passed():
    cursor = Cursor(b'{"data": [1, 2], "kind": "x"}')
    cursor.enter_object()
    assert cursor.next_key() == "data"
    data = cursor.offset
    cursor.skip()
    assert cursor.next_key() == "kind"
    cursor.skip()
    after = cursor.offset
    cursor.seek(data)
    assert cursor.tensor(DType.INT8, "$").tolist() == [1, 2]
    cursor.seek(after)
    assert cursor.next_key() is None


@pytest.mark.parametrize("offset", [-1, 3])
def test_a_cursor_stays_in_its_text(offset: int):
    with pytest.raises(ValueError, match="in the body"):
        Cursor(b"[]").seek(offset)
