"""The plainest body in one call: what `sole_rows` answers or raises, the general way through `Cursor` does too.

None is always allowed to it, an answer to a text that the general way refuses never is.
"""

import json
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.tensorize import Cursor, sole_rows
from fastserve.errors import FastServeError, InvalidJson, InvalidTensor
from fastserve.types import DType, Tensor
from tests.reference import tensorize as reference
from tests.support.json_tensors import plain, tensors

KEY = b"instances"
PATH = "$.instances"
Outcome = tuple[str, Any]


def general(body: bytes, key: bytes, dtype: DType) -> Tensor | None:
    """The same step by step."""
    cursor = Cursor(body)
    if cursor.kind() != "{":
        return None
    cursor.enter_object()
    if cursor.next_key() != key.decode() or cursor.kind() != "[" or cursor.first_item_kind() in ("]", "{", "b"):
        return None
    array = cursor.tensor(dtype, PATH)
    return array if cursor.next_key() is None else None


def outcome(read: Any, *arguments: Any) -> Outcome:
    """What came: `none`, `array` with all that it is in memory, or `error` with all that a client is told."""
    try:
        array = read(*arguments)
    except (InvalidTensor, InvalidJson) as error:
        return "error", (type(error), str(error))
    except reference.Refused as refused:
        return "error", refused.path
    return ("none", None) if array is None else ("array", memory(array))


def memory(array: Tensor) -> tuple[Any, ...]:
    assert array.flags.c_contiguous
    assert array.flags.writeable
    return array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes()


def check(body: bytes, dtype: DType, key: bytes = KEY) -> Outcome:
    """What `sole_rows` says, held against the general way and the twin."""
    ours = outcome(sole_rows, body, key, int(dtype), PATH)
    stepwise = outcome(general, body, key, dtype)
    if ours[0] == "none":
        escaped = stepwise[0] == "array" and b'"' + key + b'"' not in body
        assert escaped or stepwise[0] == "none" or issubclass(stepwise[1][0], InvalidJson), stepwise
    else:
        assert ours == stepwise
    whole = outcome(reference.sole_rows, body, key, dtype, PATH)
    if whole == ("error", None):
        assert ours[0] != "array"
    elif whole[0] == "error":
        assert ours == ("error", (InvalidTensor, ours[1][1]))
        assert f"`{whole[1]}`" in ours[1][1]
    else:
        assert ours == whole
    return ours


# ---- texts in the form ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[1,2.5]}',
        b'\xef\xbb\xbf{"instances":[1,2.5]}',
        b'\xef\xbb\xbf \t{"instances":[1,2.5]}',
        b' \r\n{\t"instances"  \n:\r [ 1 ,\t2.5\n]  } \n',
        b" " * 40 + b"{" + b"\n" * 40 + b'"instances"' + b"\t" * 40 + b":" + b" " * 40 + b"[1,2.5]" + b" " * 40 + b"}",
        b'{"instances":[1e0,25E-1]}',
        # Text behind the top value is not looked at.
        b'{"instances":[1,2.5]}}',
        b'{"instances":[1,2.5]}\x00',
        b'{"instances":[1,2.5]}{"instances":[3]}',
        b'{"instances":[1,2.5]} \xff"',
    ],
)
def test_the_list_is_answered(body: bytes) -> None:
    array = sole_rows(body, KEY, DType.FLOAT, PATH)
    assert array is not None
    assert (array.dtype, array.tolist()) == (np.float32, [1.0, 2.5])
    check(body, DType.FLOAT)


@pytest.mark.parametrize("key", [b"", b"a", b"instances", b"in/put:0", "é\u2028😀".encode(), b"\x7f", b"k" * 3000])
def test_any_key_that_means_itself_is_found(key: bytes) -> None:
    body = b'{"' + key + b'":[7]}'
    assert check(body, DType.INT8, key) == ("array", (np.dtype("i1"), (1,), b"\x07"))
    assert check(body.replace(b'":', b'x":'), DType.INT8, key) == ("none", None)


@pytest.mark.parametrize("key", [b'"', b'a"b', b'":[1],"', b'instances"', b"\\", b"a\\u0062", b"\n", b"a\x00", b"\x1f"])
def test_a_key_that_needs_escapes_is_never_found(key: bytes) -> None:
    for body in (b'{"' + key + b'":[1]}', b'{"' + key + b'":[1]', b'{"' + key + b'"', b'{"' + key):
        assert sole_rows(body, key, DType.FLOAT, PATH) is None


def test_strings_are_answered_too_where_the_first_is_no_object() -> None:
    kind, (_, shape, items) = check(b'{"instances":["a\\u00e9",{"b64":"YQ=="}]}', DType.STRING)
    assert (kind, shape, items) == ("array", (2,), ["aé", "a"])


SPACE = st.sampled_from(["", "", "", " ", "\n", "  \t\r\n", " " * 17])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, DType]:
    """Any tensor as the body's only member, with space anywhere, now and then with a mark before or text behind."""
    dtype, tensor = draw(tensors(min_rank=1))
    comma = draw(SPACE) + "," + draw(SPACE)
    rows = json.dumps(plain(tensor, dtype), separators=(comma, ":"), ensure_ascii=draw(st.booleans()))
    space = [draw(SPACE) for _ in range(6)]
    text = f'{space[0]}{{{space[1]}"instances"{space[2]}:{space[3]}{rows}{space[4]}}}{space[5]}'
    mark = draw(st.sampled_from([b"", b"", reference.BYTE_ORDER_MARK]))
    return mark + text.encode() + draw(st.sampled_from([b"", b"", b"\x00", b"}", b",1", b"\xff"])), dtype


@given(bodies())
def test_any_tensor_is_what_the_general_way_makes_of_it(case: tuple[bytes, DType]) -> None:
    body, dtype = case
    empty = b"".join(body.split()).removeprefix(reference.BYTE_ORDER_MARK).startswith(b'{"instances":[]')
    assert check(body, dtype)[0] == ("none" if empty else "array")


# ---- texts in another form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{}",
        b"[]",
        b"[1]",
        b"5",
        b'"instances"',
        b'{"instances"',
        b'{"instances":',
        b'{"instances":}',
        b'{"instances":5}',
        b'{"instances":"[1]"}',
        b'{"instances":{}}',
        b'{"instances":{"a":[1]}}',
        b'{"instances":null}',
        b'{"instances":[]}',
        b'{"instances":[ ] }',
        b'{"instances":[{"a":1}]}',
        b'{"instances":[ {"b64":"YQ=="} ]}',
        b'{"instances":[1],}',
        b'{"instances":[1],"signature_name":"serving_default"}',
        b'{"signature_name":"serving_default","instances":[1]}',
        b'{"instances":[1],"instances":[2]}',
        b'{"instances":[1],"inputs":[2]}',
        b'{"inputs":[1]}',
        b'{"instance":[1]}',
        b'{"instancesx":[1]}',
        b'{"Instances":[1]}',
        b'{"":[1]}',
        # Other spellings of the key are the general way's.
        b'{"\\u0069nstances":[1]}',
        b'{"instances\\u0000":[1]}',
        # Broken before or behind the list: what is wrong, the general way says.
        b'{"instances" [1]}',
        b'{"instances"\x00:[1]}',
        b'{"instances":\x00[1]}',
        b'{"instances"::[1]}',
        b"{instances:[1]}",
        b"{'instances':[1]}",
        b',{"instances":[1]}',
        b'\x00{"instances":[1]}',
        b'\xef\xbb{"instances":[1]}',
        b'\xef\xbb\xbf\xef\xbb\xbf{"instances":[1]}',
        b'\xfe\xff{"instances":[1]}',
        b'{"instances":[1]',
        b'{"instances":[1] ',
        b'{"instances":[1]]',
        b'{"instances":[1]\x00}',
        b'{"instances":[1]"a":2}',
        b'{"instances":[1]5}',
        b'{"instances":[1]\xa0}',
    ],
)
def test_every_other_form_is_left_to_the_general_way(body: bytes) -> None:
    assert check(body, DType.FLOAT) == ("none", None)
    assert check(body + b" ", DType.FLOAT) == ("none", None)


@pytest.mark.parametrize("key", [KEY + b"!", b"k" * 100, b"k" * 100_000])
def test_a_key_longer_than_the_body_is_not_looked_for_behind_it(key: bytes) -> None:
    for body in (b'{"', b'{"instances"', b'{"instances":[1]}', b'{"' + key[:-1], b'{"' + key, b'{"' + key + b'"'):
        assert check(body, DType.FLOAT, key) == ("none", None)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"instances":[1,"a"]}', r"got string \"a\" - at `\$\.instances\[1\]`"),
        (b'{"instances":[1,{"a":2}]}', r"got object {\"a\":2} - at `\$\.instances\[1\]`"),
        (b'{"instances":[[1],[2,3]]}', r"got list of 2 items - at `\$\.instances\[1\]`"),
        (b'{"instances":[[],[1]]}', r"at `\$\.instances\[1\]`"),
        (b'{"instances":[null],"instances":[1]}', r"at `\$\.instances\[0\]`"),
        (b'{"instances":[1,', "ends too early at offset: 16"),
        (b'{"instances":[x]}', "not a JSON value at offset: 14"),
        (b'{"instances":[,1]}', "not a JSON value at offset: 14"),
        (b'{"instances":[1,]}', "offset: 16"),
        (b'{"instances":[01]}', "starts with 0 at offset: 14"),
        (b'{"instances":[1e999]}', "offset: 14"),
        (b'{"instances":' + b"[" * 70 + b"]" * 70 + b"}", r"at most 64 nested lists"),
    ],
)
def test_what_is_wrong_in_the_list_is_said_as_the_general_way_says_it(body: bytes, words: str) -> None:
    with pytest.raises(FastServeError, match=words):
        sole_rows(body, KEY, DType.FLOAT, PATH)
    assert check(body, DType.FLOAT)[0] == "error"


# ---- texts that break anywhere --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "dtype"),
    [
        (b'{"instances":[[1.5,-2e3],[NaN,-Infinity]]}', DType.FLOAT),
        (b'\xef\xbb\xbf { "instances" : [ [ 1 ] , [ -20 ] ] } ', DType.INT64),
        (b'{"instances":["a\\u00e9\\"","\\ud83d\\ude00",{"b64":"YQ=="}]}', DType.STRING),
        (b'{"instances":[true,false]}', DType.BOOL),
        (b'{"instances":[' + b"0.125," * 40 + b"1]}", DType.DOUBLE),
    ],
)
def test_a_cut_text_is_never_answered(body: bytes, dtype: DType) -> None:
    end = body.rindex(b"}") + 1
    for cut in range(len(body) + 1):
        for behind in (b"", b"\x00", b"\x00}", b" " * 40):
            kind = check(body[:cut] + behind, dtype)[0]
            assert (kind == "array") == (cut >= end), (cut, behind)


DAMAGE = [b"", b"[", b"]", b",", b"0", b".", b'"', b"\\", b"\0", b"\xff", b"e", b"-", b"{", b"}", b":", b" ", b"\xef"]


@given(st.data(), bodies())
def test_damaged_text_is_answered_only_where_the_general_way_answers(
    data: st.DataObject, case: tuple[bytes, DType]
) -> None:
    body, dtype = bytearray(case[0]), case[1]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(DAMAGE))
    check(bytes(body), dtype)


MEMBERS = st.sampled_from(
    ['"instances":[1]', '"instances":[[2]]', '"inst\\u0061nces":[3]', '"inputs":[4]', '"a":{"instances":[5]}', '"a":x']
)


@given(st.lists(MEMBERS, max_size=4), SPACE)
def test_members_more_than_the_one_are_left_to_the_general_way(members: list[str], space: str) -> None:
    body = "{" + space + f"{space},{space}".join(members) + space + "}"
    sole = members in (['"instances":[1]'], ['"instances":[[2]]'])
    assert (check(body.encode(), DType.INT32)[0] == "array") == sole


# ---- memory and arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 100, 100_000])
def test_the_answer_owns_its_memory_and_lets_the_body_go(count: int) -> None:
    body = b'{"instances":[' + b"0.5," * count + b"1]}"
    before = sys.getrefcount(body)
    array = sole_rows(body, KEY, DType.FLOAT, PATH)
    assert sys.getrefcount(body) == before
    del body
    assert array is not None
    assert array.sum() == count / 2 + 1


@pytest.mark.parametrize("body", [b'{"instances":[1,"a"]}', b'{"instances":[1', b'{"instances":[1],"a":2}', b"{}"])
def test_a_text_that_is_not_answered_is_let_go(body: bytes) -> None:
    body = bytes(bytearray(body))
    before = sys.getrefcount(body)
    for _ in range(50):
        outcome(sole_rows, body, KEY, int(DType.FLOAT), PATH)
    assert sys.getrefcount(body) == before


@pytest.mark.parametrize("dtype", [0, 14, 15, 17, -1, 1000])
def test_types_that_json_does_not_carry_are_the_callers_mistake(dtype: int) -> None:
    with pytest.raises(ValueError, match="ONNX type"):
        sole_rows(b'{"instances":[1]}', KEY, dtype, PATH)


@pytest.mark.parametrize(
    "arguments",
    [
        (None, KEY, 1, PATH),
        ('{"instances":[1]}', KEY, 1, PATH),
        (bytearray(b'{"instances":[1]}'), KEY, 1, PATH),
        (b'{"instances":[1]}', None, 1, PATH),
        (b'{"instances":[1]}', "instances", 1, PATH),
        (b'{"instances":[1]}', KEY, None, PATH),
        (b'{"instances":[1]}', KEY, 1, None),
    ],
)
def test_arguments_of_another_type_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        sole_rows(*arguments)
