"""Walking a JSON text with `Cursor`: places, keys, looking ahead, small values, and where errors say they are."""

import threading

import numpy as np
import pytest

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidJson, InvalidTensor
from fastserve.types import DType


def walk_object(cursor: Cursor) -> None:
    cursor.enter_object()
    while cursor.next_key() is not None:
        cursor.skip()


def walk_list(cursor: Cursor) -> None:
    cursor.enter_array()
    while cursor.next_item():
        cursor.skip()


def test_a_body_is_walked_member_by_member() -> None:
    text = (
        b'{ "signature_name" : "s" , "skipped":{"a":[1,{}]}, "instances":[[1,2],[3,4]] ,"options":{"k":[1,"v"]} } tail'
    )
    cursor = Cursor(text)
    cursor.enter_object()
    assert (cursor.next_key(), cursor.kind(), cursor.string("$.signature_name")) == ("signature_name", '"', "s")
    assert cursor.next_key() == "skipped"
    cursor.skip()
    assert (cursor.next_key(), cursor.kind(), cursor.first_item_kind()) == ("instances", "[", "[")
    assert cursor.tensor(DType.INT64, "$.instances").tolist() == [[1, 2], [3, 4]]
    assert (cursor.next_key(), cursor.value("$.options")) == ("options", {"k": [1, "v"]})
    assert cursor.next_key() is None
    assert text[cursor.offset :] == b" tail"


def test_lists_are_walked_item_by_item() -> None:
    cursor = Cursor(b'[ 1 , "a" , [] , [ 2 ] , {} ]')
    cursor.enter_array()
    seen = []
    while cursor.next_item():
        seen.append(cursor.value("$"))
    assert seen == [1, "a", [], [2], {}]


def test_containers_are_entered_within_containers() -> None:
    cursor = Cursor(b'{"a":[{"b":1},{}],"c":[]}')
    cursor.enter_object()
    assert cursor.next_key() == "a"
    cursor.enter_array()
    assert cursor.next_item()
    cursor.enter_object()
    assert (cursor.next_key(), cursor.value("$"), cursor.next_key()) == ("b", 1, None)
    assert cursor.next_item()
    cursor.enter_object()
    assert cursor.next_key() is None
    assert not cursor.next_item()
    assert cursor.next_key() == "c"
    cursor.enter_array()
    assert not cursor.next_item()
    assert cursor.next_key() is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [(b"{}", "{"), (b" []", "["), (b'"a"', '"'), (b"true", "t"), (b"false", "f"), (b"null", "n")]
    + [(number, "0") for number in (b"0", b"-1", b"9.5", b"NaN", b"Infinity", b"-Inf")],
)
def test_kind_is_the_first_character_of_the_value(text: bytes, kind: str) -> None:
    cursor = Cursor(text)
    assert cursor.kind() == kind
    assert cursor.kind() == kind
    inside = Cursor(b"[ " + text + b"]")
    assert inside.first_item_kind() == kind
    inside.enter_array()


@pytest.mark.parametrize("text", [b"", b"  \n", b"\xef\xbb\xbf"])
def test_an_empty_body_is_said_to_be_empty(text: bytes) -> None:
    for read in (
        Cursor.kind,
        Cursor.skip,
        Cursor.enter_object,
        Cursor.enter_array,
        lambda cursor: cursor.tensor(1, "$"),
    ):
        with pytest.raises(InvalidJson, match=r"^JSON Parse error: The document is empty at offset: 0$"):
            read(Cursor(text))


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (b'{"a" 1}', 5),
        (b'{"a":1 "b":2}', 7),
        (b'{"a":1,}', 7),
        (b"{,}", 1),
        (b'{"a":1]', 6),
        (b"{1:2}", 1),
        (b'{"\\x":1}', 3),
    ],
)
def test_a_broken_object_is_refused_where_it_breaks(text: bytes, offset: int) -> None:
    with pytest.raises(InvalidJson) as refusal:
        walk_object(Cursor(text))
    assert refusal.value.offset_bytes == offset


@pytest.mark.parametrize(("text", "offset"), [(b"[1 2]", 3), (b"[1,]", 3), (b"[,]", 1), (b"[1}", 2), (b"[1", 2)])
def test_a_broken_list_is_refused_where_it_breaks(text: bytes, offset: int) -> None:
    with pytest.raises(InvalidJson) as refusal:
        walk_list(Cursor(text))
    assert refusal.value.offset_bytes == offset


def test_a_value_of_another_kind_is_not_entered() -> None:
    for text, enter in ((b"[1]", Cursor.enter_object), (b"{}", Cursor.enter_array), (b"5", Cursor.first_item_kind)):
        with pytest.raises(InvalidJson, match="offset: 0"):
            enter(Cursor(text))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b'{"b64":"YQ=="}', True),
        (b' { "b64" : "" } ', True),
        (b'{"\\u0062\\u00364":"YQ"}', True),
        (b'{"b64":"not base64!"}', True),
        (b'{"b64":5}', False),
        (b'{"b64":"YQ","c":1}', False),
        (b'{"B64":"YQ"}', False),
        (b"{}", False),
        (b'"b64"', False),
        (b'{"b64":"YQ"', False),
    ],
)
def test_a_b64_object_has_that_one_string(text: bytes, answer: bool) -> None:
    cursor = Cursor(text)
    assert cursor.is_b64_object() is answer
    assert cursor.offset <= 1
    assert (Cursor(b"[" + text + b"]").first_item_kind() == "b") is answer


def test_the_first_item_of_an_empty_list_is_its_end() -> None:
    assert Cursor(b" [ ] ").first_item_kind() == "]"


def test_keys_that_are_not_utf8_are_told_with_replacements() -> None:
    cursor = Cursor(b'{"a\xff":"\xff"}')
    cursor.enter_object()
    assert cursor.next_key() == "a\ufffd"
    cursor.skip()
    assert cursor.next_key() is None


def test_strings_that_are_not_utf8_are_refused_when_read_and_passed_over_when_skipped() -> None:
    text = b'"caf\xe9"'
    Cursor(text).skip()
    for read in (lambda cursor: cursor.string("$"), lambda cursor: cursor.value("$")):
        with pytest.raises(InvalidJson, match="not UTF-8 at offset: 1"):
            read(Cursor(text))


def test_a_value_that_is_no_string_is_described() -> None:
    with pytest.raises(InvalidTensor, match=r"expected string, got number 5 - at `\$\.signature_name`"):
        Cursor(b"5").string("$.signature_name")


@pytest.mark.parametrize(
    ("text", "excerpt"),
    [
        (b' {"a": 1} x', '{"a": 1}'),
        (b"-1.50, 2", "-1.50"),
        (b'"a\\u00e9"', '"a\\u00e9"'),
        (b'"\xff"', '"\ufffd"'),
        (b"tru]", "tru]"),
        (b"", ""),
        (b'"' + b"x" * 1000 + b'"', '"' + "x" * 252 + "..."),
        (b'"' + b"x" * 254 + b'"', '"' + "x" * 254 + '"'),
        (b"[" * 10_000, "[" * 253 + "..."),
        (b"1" * 300, "1" * 253 + "..."),
    ],
)
def test_an_excerpt_is_the_values_text_cut_short(text: bytes, excerpt: str) -> None:
    cursor = Cursor(text)
    assert cursor.excerpt() == excerpt
    assert cursor.excerpt() == excerpt


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"18446744073709551616", 2**64),
        (b"-123456789012345678901234567890", -123456789012345678901234567890),
        (b"-0", 0),
        (b"1.0", 1.0),
        (b"1e2", 100.0),
        (b"-Infinity", float("-inf")),
        (b'{"a":1,"a":2,"b":[]}', {"a": 1, "b": []}),
        (b'{"":{"":{}}}', {"": {"": {}}}),
        (b"[[],{},null,true,false]", [[], {}, None, True, False]),
    ],
)
def test_values_are_pythons_own(text: bytes, value: object) -> None:
    read = Cursor(text).value("$")
    assert read == value
    assert type(read) is type(value)


ROWS = "object whose keys must be equal to: a,b"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ('[{"a":1,"b":"x"},5]', "$.instances[1]", "expected object, got number 5"),
        ('[{"a":1,"b":"x"},[1]]', "$.instances[1]", "expected object, got list [1]"),
        ("5", "$.instances", "expected list of objects, got number 5"),
        ('[{"a":1}]', "$.instances[0]", f'expected {ROWS}, got no key "b"'),
        ("[{}]", "$.instances[0]", f'expected {ROWS}, got no key "a"'),
        ('[{"a":1,"b":"x","c":2}]', "$.instances[0]", f'expected {ROWS}, got unknown key "c"'),
        ('[{"a":1,"\\u0063":2}]', "$.instances[0]", 'got unknown key "c"'),
        ('[{"a":1,"a":2}]', "$.instances[0]", 'got key "a" twice'),
        ('[{"a":1,"b":"x"},{"b":"y","a":[1]}]', "$.instances[1].a", "expected number (FLOAT), got list [1]"),
        (
            '[{"a":[[1]],"b":"x"},{"b":"y","a":[[1,2]]}]',
            "$.instances[1].a[0]",
            "expected list of 1 item, got list of 2 items",
        ),
        ('[{"a":[1],"b":"x"},{"b":"y","a":1}]', "$.instances[1].a", "expected list of 1 item, got number 1"),
        ('[{"a":1,"b":["x"]},{"b":[5],"a":1}]', "$.instances[1].b[0]", "got number 5"),
        ('[{"a":1,"b":["x","y"]},{"b":["x",{"b64":"A"}],"a":1}]', "$.instances[1].b[1]", "wrong length"),
    ],
)
def test_a_row_that_does_not_fit_is_named(text: str, path: str, words: str) -> None:
    with pytest.raises(InvalidTensor) as refusal:
        Cursor(text.encode()).rows(("a", "b"), (DType.FLOAT, DType.STRING), "$.instances")
    assert refusal.value.path == path
    assert words in str(refusal.value)


def test_names_that_are_no_identifiers_are_quoted_in_paths() -> None:
    with pytest.raises(InvalidTensor) as refusal:
        Cursor(b'[{"in/put:0":"x"}]').rows(("in/put:0",), (DType.FLOAT,), "$.instances")
    assert refusal.value.path == '$.instances[0]["in/put:0"]'


def test_rows_of_no_rows_are_empty_columns() -> None:
    columns = Cursor(b"[]").rows(("a", "b"), (DType.FLOAT, DType.STRING), "$")
    assert {name: (array.shape, array.dtype) for name, array in columns.items()} == {
        "a": ((0,), np.dtype("float32")),
        "b": ((0,), np.dtype("O")),
    }


@pytest.mark.parametrize("dtype", [0, 14, 15, 17, -1, 1000])
def test_types_that_json_does_not_carry_are_the_callers_mistake(dtype: int) -> None:
    with pytest.raises(ValueError, match="ONNX type"):
        Cursor(b"[1]").tensor(dtype, "$")
    with pytest.raises(ValueError, match="ONNX type"):
        Cursor(b'[{"a":1}]').rows(("a",), (dtype,), "$")


def test_only_bytes_are_read() -> None:
    for body in (None, "[1]", bytearray(b"[1]"), memoryview(b"[1]")):
        with pytest.raises(TypeError):
            Cursor(body)  # type: ignore[arg-type]


def test_large_bodies_are_read_by_several_threads_at_once() -> None:
    """They give the GIL away; each has its own cursor, and faults are built with the GIL again."""
    good = b"[" + b"0.5," * 50_000 + b"1]"
    bad = good[:-1] + b',"x"]'
    sums: list[float] = []
    paths: list[str] = []

    def read() -> None:
        for _ in range(5):
            sums.append(float(Cursor(good).tensor(DType.FLOAT, "$").sum()))
            try:
                Cursor(bad).tensor(DType.FLOAT, "$")
            except InvalidTensor as error:
                paths.append(error.path)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [25_001.0] * 20
    assert paths == ["$[50001]"] * 20
