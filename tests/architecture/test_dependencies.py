"""What the package imports is what pyproject.toml asks for: the test environment has more than a user's."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.layers import imported

ROOT = Path(__file__).parents[2]
IMPORT_NAMES = {"protobuf": "google", "prometheus-client": "prometheus_client"}


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def declared() -> set[str]:
    names = {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in project()["dependencies"]}
    return {IMPORT_NAMES.get(name, name) for name in names}


def third_parties() -> dict[str, str]:
    """Every top-level name imported under `fastserve/` that is not Python's own, and one file that does."""
    found: dict[str, str] = {}
    for path in (ROOT / "fastserve").rglob("*.py"):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in imported(file, node):
                    found.setdefault(name.split(".")[0], f"{file}:{node.lineno}")
    return {name: where for name, where in found.items() if name not in {*sys.stdlib_module_names, "fastserve"}}


def test_every_import_is_a_declared_dependency() -> None:
    missing = {name: where for name, where in third_parties().items() if name not in declared()}
    assert not missing


def test_every_dependency_is_imported() -> None:
    assert declared() - set(third_parties()) == set()


@pytest.mark.parametrize("extra", ["all", "test", "dev"])
def test_extra_is_there(extra: str) -> None:
    assert extra in project()["optional-dependencies"]
