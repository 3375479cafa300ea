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
IMPORT_NAMES = {"protobuf": "google", "prometheus-client": "prometheus_client", "pillow": "PIL", "pyyaml": "yaml"}
EXTRAS = ("data-url", "datasets", "docs", "explain", "images", "log", "plots")
FILES_ONLY = {"swagger-ui-py"}
"""Packages whose files are served and whose code never runs (`server/docs`)."""


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def declared() -> set[str]:
    optional = project()["optional-dependencies"]
    requirements = [*project()["dependencies"], *(one for extra in EXTRAS for one in optional[extra])]
    names = {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}
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
    assert declared() - set(third_parties()) == FILES_ONLY


@pytest.mark.parametrize("extra", ["all", *EXTRAS, "test", "dev"])
def test_extra_is_there(extra: str) -> None:
    assert extra in project()["optional-dependencies"]


def test_what_is_optional_is_imported_where_it_is_used_only() -> None:
    optional = {IMPORT_NAMES.get(name, name) for name in declared()} & {"duckdb", "yaml", "fsspec", "shap", "PIL"}
    early = [
        f"{path}:{node.lineno}"
        for path in (ROOT / "fastserve").rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(path.relative_to(ROOT).as_posix(), node)
        if name.split(".")[0] in optional
    ]
    assert optional
    assert not early


def test_all_is_everything_optional() -> None:
    assert project()["optional-dependencies"]["all"] == [f"fastserve[{','.join(EXTRAS)}]"]
