"""Files and functions small enough to be read in one go; ruff knows complexity, these are the lengths."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_NATIVE_LINES = 700
MAX_FUNCTION_LINES = 40
MAX_CYTHON_COLUMNS = 120  # ruff looks at Python only
FOLDERS = ("fastserve", "tests", "bench", "examples")
PYTHON = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
NATIVE = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.pyx", "*.pxd", "*.hpp")
    for path in (ROOT / "ext").rglob(pattern)
)


@pytest.mark.parametrize("file", PYTHON)
def test_file_is_short(file: str) -> None:
    assert len((ROOT / file).read_text().splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("file", NATIVE)
def test_native_file_is_short(file: str) -> None:
    assert len((ROOT / file).read_text().splitlines()) <= MAX_NATIVE_LINES


@pytest.mark.parametrize("file", [file for file in NATIVE if not file.endswith(".hpp")])
def test_cython_lines_are_short(file: str) -> None:
    lines = enumerate((ROOT / file).read_text().splitlines(), 1)
    assert [f"{file}:{number}" for number, line in lines if len(line) > MAX_CYTHON_COLUMNS] == []


@pytest.mark.parametrize("file", [file for file in PYTHON if file.startswith("fastserve/")])
def test_functions_are_short(file: str) -> None:
    long = [f"{file}:{line}: {name}: {lines} lines" for name, line, lines in long_functions((ROOT / file).read_text())]
    assert not long, "\n".join(long)


def test_long_function_is_found() -> None:
    source = "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES
    assert [*long_functions(source)] == [("f", 1, MAX_FUNCTION_LINES + 1)]
    assert [*long_functions("def f():\n" + "    pass\n" * (MAX_FUNCTION_LINES - 1))] == []


def long_functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of every function over the limit; what it decorates itself with does not count."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.name, node.lineno, lines
