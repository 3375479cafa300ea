"""Protobuf text: what is read, and every mistake told with its file, line and column."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.config.prototext import MAX_FILE_BYTES, Document, Schema, Unapplied, read_document
from fastserve.errors import ConfigError

SHAPES = Schema(
    "Drawing",
    {
        "Drawing": {
            "title": "string",
            "shape": "repeated Shape",
            "tags": "map string int64",
            "named": "map string Shape",
            "color": "Color",
            "sizes": "repeated int64",
            "pick": "Pick",
            "old": Unapplied("it is old"),
        },
        "Shape": {"x": "int64", "visible": "bool", "ratio": "float"},
        "Pick": {"one": "Shape", "two": "Shape"},
    },
    enums={"Color": ("RED", "GREEN")},
    one_of={"Pick": ("one", "two")},
)


def read(folder: Path, text: str | bytes) -> Document:
    path = folder / "drawing.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path, SHAPES)


SPELLINGS = [
    "shape { x: 1 } shape { x: 2 }",
    "shape: { x: 1 } shape: { x: 2 }",
    "shape: [{ x: 1 }, { x: 2 }]",
    "shape < x: 1 >, shape < x: 2 >;",
    "shape{x:1;}shape{x:2,}",
    "# two of them\nshape { # one\n x: 1 }\n\tshape {\r\n x:\n2 }",
    "\ufeffshape { x: 0x1 } shape { x: 02 }",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_one_thing_may_be_spelt_in_many_ways(tmp_path: Path, text: str):
    assert [shape.x for shape in read(tmp_path, text).message.shape] == [1, 2]


VALUES: list[tuple[str, str, Any]] = [
    ("title: 'a'", "title", "a"),
    ('title: "a" \'b\'\n"c"', "title", "abc"),
    ('title: "\\t\\"\\303\\274\\u00fc"', "title", '\t"üü'),
    ("color: GREEN", "color", 1),
    ("color: 1", "color", 1),
    ("sizes: 1 sizes: [-2, 3] sizes: []", "sizes", [1, -2, 3]),
    ("tags { key: 'a' value: 1 } tags: { value: 2, key: 'b' }", "tags", {"a": 1, "b": 2}),
]


@pytest.mark.parametrize(("text", "field", "value"), VALUES)
def test_values_are_those_of_protobuf(tmp_path: Path, text: str, field: str, value: Any):
    found = getattr(read(tmp_path, text).message, field)
    assert (list(found) if isinstance(value, list) else dict(found) if isinstance(value, dict) else found) == value


MISTAKES = [
    ('title "x"', 'line 1, column 7: expected ":" or "{", got "x"'),
    ("title: x", "line 1, column 8: expected a string in quotes, got 'x'"),
    ('title: "x', "line 1, column 8: the string '\"x' has no ending quote"),
    ("title: '\\xff'", "the string is not UTF-8"),
    ("title: 'a' title: 'b'", "column 19: title is given twice"),
    ("shape {\n  x: y\n}", "line 2, column 6: expected an integer, got y"),
    ("shape {\n  x:\n}", "line 3, column 1: expected a value, got }"),
    ("\nshape {\n  x: 1\n", 'expected "}" for what begins in line 2, got the end of the file'),
    ("shape { x: 99999999999999999999 }", "column 12: 99999999999999999999 is out of range"),
    ("shape { visible: 7 }", "column 18: "),
    ("pick { one {} two {} }", "two is given beside one: only one of them may be"),
    ("color: BLUE", "column 8: there is no value BLUE here"),
    ("sizes: [1 2]", 'column 11: expected ",", got 2'),
    ("{", "line 1, column 1: expected a field's name, got {"),
    ("}", "line 1, column 1: expected a field's name, got }"),
    ("old: $", "line 1, column 6: expected a value, got $"),
    ("old {" * 100, "nested deeper than 64 fields"),
    (b"title: '\xff'", "not UTF-8 at byte 8"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str | bytes, expected: str):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "drawing.txt"))
    assert expected in str(caught.value)


def test_what_is_not_applied_is_named_with_its_line_and_skipped(tmp_path: Path):
    document = read(tmp_path, 'old { anything: [1, "x"] [type.googleapis.com/a.B] { d: 1 } }\n old: -3\ntitle: "t"')
    assert document.message.title == "t"
    assert list(document.notes()) == [
        f"{tmp_path}/drawing.txt, line 1: old is not applied: it is old",
        f"{tmp_path}/drawing.txt, line 2: old is not applied: it is old",
    ]
    document.refuse_unknown()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ntitel: 'x'", "line 2: titel: unknown field; did you mean title?"),
        ("shape { x: 1 }\nshape {\n y: 1 }", "line 3: shape[1].y: unknown field; known here: x, visible, ratio"),
        ("named { key: 'a' value { y: 1 } }", "line 1: named[0].value.y: unknown field; known here: x"),
        ("tags { kay: 'a' }", "line 1: tags[0].kay: unknown field; did you mean key?"),
    ],
)
def test_a_name_that_the_format_does_not_have_is_told_with_the_nearest(tmp_path: Path, text: str, expected: str):
    document = read(tmp_path, text)
    with pytest.raises(ConfigError, match="unknown field") as caught:
        document.refuse_unknown()
    assert expected in str(caught.value)


def test_the_place_of_a_field_is_its_line_or_that_of_what_is_around_it(tmp_path: Path):
    document = read(tmp_path, "shape {}\nshape {\n\n x: 1 }")
    assert document.place(("shape", 1, "x")).endswith("drawing.txt, line 4")
    assert document.place(("shape", 1, "visible")).endswith("drawing.txt, line 2")
    assert document.place(("color",)).endswith("drawing.txt")


def test_files_that_cannot_be_read_are_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_document(tmp_path / "nothing", SHAPES)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_document(tmp_path, SHAPES)
    with pytest.raises(ConfigError, match="larger than"):
        read(tmp_path, b"#" * (MAX_FILE_BYTES + 1))


PIECES = [
    *(
        "shape",
        "title",
        "old",
        "tags",
        "pick",
        "x",
        "key",
        "{",
        "}",
        "<",
        ">",
        ":",
        "[",
        "]",
        ",",
        ";",
        "1",
        "-",
        ".5",
        "0x",
    ),
    *('"a"', "'", '"', "\\", "\n", " ", "# c", "inf", "99999999999999999999", "é", "\x00", "$", "/"),
]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_text_is_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]):
    folder = tmp_path_factory.getbasetemp()
    refused = ""
    try:
        read(folder, " ".join(pieces))
    except ConfigError as error:
        refused = str(error)
    assert not refused or refused.startswith(str(folder / "drawing.txt"))
