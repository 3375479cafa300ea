"""The table in words: what a person sees of a model's inputs, state and failure."""

import pytest

from fastserve.server.table import MAX_SPECS, ModelRow, render_table, spec_text, specs_text
from fastserve.types import DType, TensorSpec

SPECS = [
    (TensorSpec("x", DType.FLOAT, (-1, 4), ("rows", "")), "x float[rows, 4]"),
    (TensorSpec("x", DType.INT64, (-1, -1), ("", "")), "x int64[?, ?]"),
    (TensorSpec("x", DType.INT64, (-1, 3)), "x int64[?, 3]"),
    (TensorSpec("x", DType.STRING, ()), "x string[]"),
    (TensorSpec("x", DType.BFLOAT16, None), "x bfloat16[...]"),
]


@pytest.fixture(autouse=True)
def wide_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(("spec", "text"), SPECS)
def test_spec_in_words(spec: TensorSpec, text: str) -> None:
    assert spec_text(spec) == text


def test_many_specs_are_counted() -> None:
    specs = [TensorSpec(f"x{i}", DType.FLOAT, ()) for i in range(MAX_SPECS + 3)]
    lines = specs_text(specs).splitlines()
    assert len(lines) == MAX_SPECS + 1
    assert lines[-1] == "and 3 more"
    assert specs_text(specs[:MAX_SPECS]).splitlines()[-1] == f"x{MAX_SPECS - 1} float[]"


def test_row_shows_everything() -> None:
    row = ModelRow(
        model="digits",
        version="3",
        state="READY",
        inputs="image float[rows, 8, 8]",
        outputs="digit int64[rows]",
        batch="no: the batch is on axis 1",
        threads="2 x 1",
        provider="CPU",
    )
    text = render_table([row], ["http://127.0.0.1:8000"])
    head, _, line, url = text.splitlines()
    assert head.split() == ["model", "version", "state", "inputs", "outputs", "batch", "threads", "provider"]
    for cell in ("digits", "3", "READY", "image float[rows, 8, 8]", "no: the batch is on axis 1", "2 x 1", "CPU"):
        assert cell in line
    assert url == "http://127.0.0.1:8000"


def test_failed_row_gives_its_reason() -> None:
    text = render_table([ModelRow(model="a", version="1", state="FAILED", reason="no [bold]ONNX[/bold] file")])
    assert text.splitlines()[-1] == "a 1: no [bold]ONNX[/bold] file"


def test_columns_that_nobody_fills_are_left_out() -> None:
    text = render_table([ModelRow(model="a", version="1", state="READY", inputs="x float[]")])
    assert text.splitlines()[0].split() == ["model", "version", "state", "inputs"]


def test_no_rows_leave_the_urls() -> None:
    assert render_table([], ["http://x"]) == "http://x"


def test_no_colour_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b" not in render_table([ModelRow(model="a", version="1", state="FAILED", reason="r")])


def test_no_color_wins_over_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[3" not in render_table([ModelRow(model="a", version="1", state="FAILED", reason="r")])


def test_an_address_is_never_broken():
    url = "unix:/" + "a" * 300 + "/readyz"
    assert url in render_table([], [url]).splitlines()


def test_a_reason_is_never_broken() -> None:
    reason = "many words " * 20 + "/a/path" * 40
    text = render_table([ModelRow(model="a", version="1", state="FAILED", reason=reason)])
    assert f"a 1: {reason}" in text.splitlines()
