"""Each test that SECURITY.md names is there: a promise whose test was renamed or taken away is found here."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", TEXT)))


def test_promises_have_tests() -> None:
    lines = [line for line in TEXT.splitlines() if re.match(r"\| R\d", line)]
    assert len(lines) > 30
    assert [line for line in lines if not re.search(r"`tests/", line)] == []


@pytest.mark.parametrize("named", NAMED)
def test_named_test_is_there(named: str) -> None:
    file, _, name = named.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    assert (name in tests) if name else tests
