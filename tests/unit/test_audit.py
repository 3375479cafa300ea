"""What `make audit` makes of what pip-audit says: silence is no good news."""

import json
from typing import Any

import pytest

from tests.audit.__main__ import verdict

HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0"], "description": "", "aliases": []}


def package(name: str, *holes: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": list(holes)}


SKIPPED = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited"}
MANY = [package(f"p{i}") for i in range(9)]


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([*MANY, SKIPPED], 0, "9 packages checked, nothing is known; not checked: ours"),
        ([*MANY, package("bad", HOLE)], 1, "bad 1.0: PYSEC-1 (fixed in 2.0)"),
        ([*MANY, {**package("bad", {**HOLE, "fix_versions": []})}], 1, "no version yet"),
        ([package("one"), *[SKIPPED] * 9], 2, "offline? 9 of 10 packages were not checked"),
    ],
)
def test_what_is_known_decides(packages: list[dict[str, Any]], code: int, said: str):
    got, lines = verdict(json.dumps({"dependencies": packages, "fixes": []}), "")
    assert got == code
    assert said in lines[0]


def test_without_an_answer_nothing_was_checked():
    got, lines = verdict("", "Traceback\nConnectionError: nobody there")
    assert got == 2
    assert "nothing was checked" in lines[0]
    assert "ConnectionError" in lines[0]
