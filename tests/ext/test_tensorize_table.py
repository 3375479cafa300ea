"""Rows of single values, one column each: the native reader against its plain twin."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.tensorize import Cursor
from fastserve.errors import InvalidTensor
from fastserve.types import DType
from tests.ext.test_tensorize import FLOATS, ROW_TOKENS, SPACE, number_tokens, outcome, same
from tests.reference import tensorize as reference

CELL_TOKENS = {
    **{dtype: number_tokens() for dtype in FLOATS},
    DType.INT64: ROW_TOKENS["ids/1"],
    DType.UINT8: st.integers(0, 255).map(str),
    DType.BOOL: st.sampled_from(["true", "false"]),
    DType.STRING: ROW_TOKENS["text"],
}
ODD_CELLS = st.sampled_from(
    ["1", '"x"', '"NaN"', "true", "null", "[1]", "[]", "{}", '{"b64":"YQ=="}', "1.5", "300", "-1"]
)


def agree_on_tables(text: bytes, dtypes: tuple[DType, ...], quoted_floats: bool) -> None:
    ours = outcome(lambda: Cursor(text).table(dtypes, "$", quoted_floats))
    theirs = outcome(reference.table, text, dtypes, "$", quoted_floats)
    assert ours[0] == theirs[0], (ours, theirs)
    if theirs[0] == "refused":
        assert ours[1] == theirs[1]
        return
    assert len(ours[1]) == len(dtypes)
    for one, other in zip(ours[1], theirs[1], strict=True):
        same(one, other)


@given(st.data())
def test_tables_are_those_of_the_reference(data: st.DataObject) -> None:
    """Columns of any types; now and then a cell of another one, one too many, one too few, or no row at all."""
    dtypes = tuple(data.draw(st.lists(st.sampled_from([*CELL_TOKENS]), min_size=1, max_size=5)))
    rows = []
    for _ in range(data.draw(st.integers(0, 5))):
        cells = [data.draw(CELL_TOKENS[dtype]) for dtype in dtypes]
        odd = data.draw(st.integers(0, 24))
        if odd == 0:
            cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(ODD_CELLS)
        elif odd == 1:
            cells.append(data.draw(ODD_CELLS))
        elif odd == 2:
            cells.pop()
        between = data.draw(SPACE) + "," + data.draw(SPACE)
        rows.append(
            data.draw(ODD_CELLS) if odd == 3 else f"[{data.draw(SPACE)}{between.join(cells)}{data.draw(SPACE)}]"
        )
    text = f"[{','.join(rows)}]".encode()
    agree_on_tables(text, dtypes, data.draw(st.booleans()))
    agree_on_tables(text + b" " * 40, dtypes, False)


@given(st.data())
def test_damaged_tables_are_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(b'[[1.5,"a",true],[2,"b\\u00e9",false],[-3e2,"",true]]')
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"[", b"]", b",", b"0", b".", b'"', b"\\", b"\0", b"\xff", b"e", b"-", b"{"])
        )
    dtypes = (DType.FLOAT, DType.STRING, DType.BOOL)
    theirs = outcome(reference.table, bytes(text), dtypes)
    ours = outcome(lambda: Cursor(bytes(text)).table(dtypes, "$"))
    # Where the text is broken, something else may be found wrong before it comes there.
    assert ours[0] == theirs[0] or theirs[1] == "json"


def test_a_table_beyond_a_small_buffer_is_read_without_the_gil() -> None:
    rows = [[index / 8, f"text {index}", index % 3 == 0, index] for index in range(20_000)]
    floats, texts, flags, ids = Cursor(json.dumps(rows).encode()).table(
        (DType.DOUBLE, DType.STRING, DType.BOOL, DType.INT32), "$"
    )
    assert [list(row) for row in zip(*(one.tolist() for one in (floats, texts, flags, ids)), strict=True)] == rows


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("[[1],[2,3]]", "$[0]", "expected 2 values, got 1 value"),
        ("[[1,2],[2,3,4]]", "$[1]", "expected 2 values, got more than 2 values"),
        ("[[1,2],[]]", "$[1]", "got 0 values"),
        ("[[1,2],3]", "$[1]", "expected list of 2 values, got number 3"),
        ("[[1,2],[1,[2]]]", "$[1][1]", "got list [2]"),
        ("[[1,[2]]]", "$[0][1]", "got list [2]"),
        ("{}", "$", "expected list of rows, got object {}"),
    ],
)
def test_a_table_that_does_not_fit_is_told(text: str, path: str, words: str) -> None:
    with pytest.raises(InvalidTensor) as refusal:
        Cursor(text.encode()).table((DType.FLOAT, DType.INT32), "$")
    assert refusal.value.path == path
    assert words in str(refusal.value)


def test_a_table_that_must_be_finite_names_the_cell() -> None:
    with pytest.raises(InvalidTensor) as refusal:
        Cursor(b"[[1,2],[3,4e38]]", finite=True).table((DType.FLOAT, DType.FLOAT), "$")
    assert refusal.value.path == "$[1][1]"
