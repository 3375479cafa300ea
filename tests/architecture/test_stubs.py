"""The native modules are what their stubs say: the same names, the same parameters, the same defaults."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STUBS = sorted((ROOT / "fastserve/_ext").glob("*.pyi"))
Node = ast.FunctionDef | ast.ClassDef


def native(stub: Path) -> Any:
    return importlib.import_module(f"fastserve._ext.{stub.stem}")


def definitions(body: list[ast.stmt]) -> Iterator[Node]:
    """Functions and classes; not `__init__`, whose native form (`__cinit__`) Python cannot look at."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != "__init__":
            yield node


def public(names: dict[str, Any], module: str) -> set[str]:
    """What was written there, not imported, and shows anything to Python."""
    return {
        name
        for name, value in names.items()
        if not name.startswith("_") and getattr(value, "__module__", module) == module and not is_inner(value)
    }


def is_inner(value: Any) -> bool:
    """A module, or an extension's own record: a class without any method or attribute for Python."""
    return inspect.ismodule(value) or (inspect.isclass(value) and all(name.startswith("_") for name in vars(value)))


def declared(body: list[ast.stmt]) -> set[str]:
    """Public names of a stub's body, its annotated constants and attributes included."""
    fields = {each.target.id for each in body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)}
    return {name for name in {node.name for node in definitions(body)} | fields if not name.startswith("_")}


def parameters_of(node: ast.FunctionDef) -> list[tuple[str, bool]]:
    """Names in order, and whether each may be left out."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    found = [(each.arg, place >= required) for place, each in enumerate(positional)]
    keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found + [(each.arg, default is not None) for each, default in keyword]


def signature_of(value: Any) -> list[tuple[str, bool]]:
    """The same of what runs."""
    empty = inspect.Parameter.empty
    return [(each.name, each.default is not empty) for each in inspect.signature(value).parameters.values()]


def is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)


def differences(body: list[ast.stmt], owner: Any) -> Iterator[str]:
    """What a stub's body promises and `owner` does not keep."""
    for node in definitions(body):
        value = getattr(owner, node.name, None)
        if value is None:
            yield f"line {node.lineno}: {node.name} is not there"
        elif isinstance(node, ast.ClassDef):
            yield from differences(node.body, value)
        elif not is_property(node) and not node.name.startswith("__") and parameters_of(node) != signature_of(value):
            yield f"line {node.lineno}: {node.name} takes {signature_of(value)}, the stub says {parameters_of(node)}"


def test_every_extension_has_a_stub() -> None:
    assert [stub.stem for stub in STUBS] == sorted(path.stem for path in (ROOT / "ext").glob("*.pyx"))


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.stem)
def test_stub_keeps_its_promises(stub: Path) -> None:
    assert [*differences(ast.parse(stub.read_text()).body, native(stub))] == []


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.stem)
def test_stub_names_everything(stub: Path) -> None:
    module = native(stub)
    body = ast.parse(stub.read_text()).body
    assert public(vars(module), module.__name__) - declared(body) == set()
    for node in body:
        if isinstance(node, ast.ClassDef):
            runtime = {name for name in vars(getattr(module, node.name)) if not name.startswith("_")}
            assert runtime - declared(node.body) == set(), node.name


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.stem)
def test_native_functions_explain_themselves(stub: Path) -> None:
    module = native(stub)
    assert module.__doc__
    for node in definitions(ast.parse(stub.read_text()).body):
        assert getattr(module, node.name).__doc__, node.name


def test_a_difference_is_seen() -> None:
    class Owner:
        def f(self, a: int, b: int = 0) -> None: ...

    def stub(text: str) -> list[ast.stmt]:
        return ast.parse(text).body

    assert [*differences(stub("def f(self, a, b=...): ..."), Owner)] == []
    assert "f takes" in next(differences(stub("def f(self, a, b): ..."), Owner))
    assert "f takes" in next(differences(stub("def f(self, b, a=...): ..."), Owner))
    assert "g is not there" in next(differences(stub("def g(self): ..."), Owner))
