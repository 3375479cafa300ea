"""Imports point down, and what must stand in one place only stands there. Names file and line."""

import ast
from pathlib import Path

import pytest

from tests.architecture.layers import RANKS, complaints, imported, room_of

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "fastserve").rglob("*.py"))


@pytest.mark.parametrize("file", MODULES)
def test_module_keeps_to_its_layer(file: str) -> None:
    found = [str(complaint) for complaint in complaints(file, (ROOT / file).read_text())]
    assert not found, "\n".join(found)


def test_every_room_is_seen() -> None:
    assert {room_of(file) for file in MODULES} <= set(RANKS)
    assert len(MODULES) > 30


VIOLATIONS = [
    ("fastserve/engine/x.py", "from fastserve.server import app", 1, "imports point down"),
    ("fastserve/engine/x.py", "def f():\n    from fastserve.cli.main import main", 2, "imports point down"),
    ("fastserve/engine/x.py", "from ..server import app", 1, "imports point down"),
    ("fastserve/engine/x.py", "import fastserve.protocols.table", 1, "imports point down"),
    ("fastserve/backends/x.py", "from fastserve.repository import layout", 1, "imports point down"),
    ("fastserve/config/x.py", "if True:\n    import fastserve.metrics", 2, "imports point down"),
    ("fastserve/errors.py", "from fastserve.types import DType", 1, "imports point down"),
    ("fastserve/demo/x.py", "from fastserve import types", 1, "imports point down"),
    ("fastserve/engine/x.py", "import onnxruntime as ort", 1, "only fastserve/backends/ort.py does"),
    ("fastserve/backends/echo.py", "from onnxruntime.capi import x", 1, "only fastserve/backends/ort.py does"),
    ("fastserve/http/x.py", "from granian import rsgi", 1, "only fastserve/server/ does"),
    ("fastserve/engine/x.py", "import pickle", 1, "runs what they hold"),
    ("fastserve/engine/x.py", "import yaml\nyaml.load('x')", 2, "yaml.load() runs"),
    ("fastserve/engine/x.py", "def f(x):\n    return eval(x)", 2, "eval() runs"),
    ("fastserve/engine/x.py", "import tarfile", 1, "unpacking writes where the archive says"),
    ("fastserve/engine/x.py", "def f(x):\n    x.extractall('y')", 2, "extractall() runs or unpacks"),
    ("fastserve/engine/x.py", "import numpy as np\nnp.load('x')", 2, "np.load() runs"),
    ("fastserve/engine/x.py", "f('x', allow_pickle=True)", 1, "runs what it is given"),
    ("fastserve/engine/x.py", "run('x', shell=yes)", 1, "runs what it is given"),
    ("fastserve/engine/x.py", "compose('x', Loader=yaml.Loader)", 1, "the safe one"),
    ("fastserve/engine/x.py", "from xml.etree import ElementTree", 1, "follow what documents name"),
    ("fastserve/engine/x.py", "import os\nos.system('x')", 2, "os.system() runs"),
    ("fastserve/engine/utils.py", "", 1, "says nothing"),
    ("fastserve/engine/x.py", "@app.route('/x')\ndef f(): ...", 2, "may register f"),
    ("fastserve/engine/x.py", "@click.command()\ndef f(): ...", 2, "may register f"),
    ("fastserve/elsewhere/x.py", "", 1, "has no rank"),
]


@pytest.mark.parametrize(("file", "source", "line", "expected"), VIOLATIONS)
def test_violation_is_named_with_its_line(file: str, source: str, line: int, expected: str) -> None:
    found = [str(complaint) for complaint in complaints(file, source)]
    assert len(found) == 1
    assert expected in found[0]
    assert found[0].startswith(f"{file}:{line}: ")


def test_protocols_do_not_know_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / "fastserve/protocols" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert [*complaints("fastserve/protocols/a/codec.py", "from fastserve.protocols.b import codec")]
    assert not [*complaints("fastserve/protocols/a/routes.py", "from fastserve.protocols.a import codec")]
    assert not [*complaints("fastserve/protocols/table.py", "from fastserve.protocols.b.routes import B")]


ALLOWED = [
    ("fastserve/cli/x.py", "from fastserve.server import launch\nfrom fastserve import __version__"),
    (
        "fastserve/engine/x.py",
        "from fastserve.engine import batcher\nfrom . import batch\nfrom fastserve._ext import coalesce",
    ),
    ("fastserve/cli/x.py", "@click.command()\ndef f(): ..."),
    ("fastserve/http/x.py", "class A:\n    @property\n    def a(self): ...\n    @a.setter\n    def a(self, a): ..."),
    ("fastserve/backends/ort.py", "import onnxruntime"),
]


@pytest.mark.parametrize(("file", "source"), ALLOWED)
def test_what_points_down_is_allowed(file: str, source: str) -> None:
    assert [*complaints(file, source)] == []


def test_relative_imports_are_resolved() -> None:
    node = ast.parse("from ..server import app").body[0]
    assert isinstance(node, ast.ImportFrom)
    assert [*imported("fastserve/engine/x.py", node)] == ["fastserve.server.app"]
