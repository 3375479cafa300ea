"""Who may import whom, read from the source with `ast`. Pure: text in, complaints with file and line out."""

import ast
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

RANKS = {
    "__main__": 8,
    "cli": 7,
    "server": 6,
    "loadtest": 6,
    "protocols": 5,
    "engine": 4,
    "monitor": 4,
    "backends": 3,
    "repository": 3,
    "datasets": 3,
    "store": 3,
    "http": 3,
    "access": 3,
    "fetch": 3,
    "config": 2,
    "metrics": 2,
    "logs": 2,
    "lines": 2,
    "types": 1,
    "_ext": 1,
    "errors": 0,
    "clock": 0,
    "limits": 0,
    "demo": 0,
    "__init__": 0,
}
"""The rooms under `fastserve/` by height. Imports point down; rooms of one height do not know each other."""

SINGLE_DOORS = {"onnxruntime": "fastserve/backends/ort.py", "granian": "fastserve/server/"}
"""Packages that one place alone names."""

FORBIDDEN_IMPORTS = {
    **dict.fromkeys(
        ("pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch", "code", "runpy"),
        "reading such files runs what they hold",
    ),
    "tarfile": "unpacking writes where the archive says",
    "ftplib": "nothing is fetched but by fetch/web and fetch/stores",
    "telnetlib": "nothing is fetched but by fetch/web and fetch/stores",
    "xml": "its parsers follow what documents name and unfold without end",
}
"""Modules that nothing here may use, and why."""

FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "input"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("tarfile.open", "shutil.unpack_archive", "np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle"),
    *("pa.deserialize", "pyarrow.deserialize", "subprocess.getoutput", "subprocess.getstatusoutput"),
}
FORBIDDEN_METHODS = {"extractall", "extract"}
"""Of whatever object: unpacking an archive, but `zip`'s reading of one member by its name."""

FORBIDDEN_NAMES = ("utils", "helpers", "common", "manager")
"""Rooms that say nothing about what is in them."""

QUIET_DECORATORS = {
    "property",
    "staticmethod",
    "classmethod",
    "abstractmethod",
    "override",
    "overload",
    "contextmanager",
    "asynccontextmanager",
    "cache",
    "lru_cache",
    "cached_property",
    "wraps",
    "final",
    "runtime_checkable",
    "dataclass",
    "total_ordering",
}
"""Decorators that change one function only; any other may register it somewhere out of sight."""

CLICK_DECORATORS = {
    "click.command",
    "click.group",
    "click.argument",
    "click.option",
    "click.pass_context",
    "with_settings",
    "with_inputs",
    "with_files",
}
"""In `cli/`: they describe the command below them; which commands there are stands in a table."""


class Complaint(Struct, frozen=True):
    """What is wrong, and where."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def complaints(file: str, source: str) -> Iterator[Complaint]:
    """Everything wrong with one module; `file` is its path from the repository's root: `fastserve/cli/main.py`."""
    if Path(file).stem in FORBIDDEN_NAMES:
        yield Complaint(file, 1, f"a file named {Path(file).name} says nothing: find the room")
    if room_of(file) not in RANKS:
        yield Complaint(file, 1, f"the room {room_of(file)!r} has no rank in tests/architecture/layers.py")
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imported(file, node):
                yield from (Complaint(file, node.lineno, text) for text in import_complaints(file, name))
        elif isinstance(node, ast.Call):
            yield from (Complaint(file, node.lineno, text) for text in call_complaints(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from (Complaint(file, node.lineno, text) for text in decorator_complaints(file, node))


def call_complaints(node: ast.Call) -> Iterator[str]:
    """What is wrong with a call, whatever it is given."""
    name = dotted(node.func)
    if name in FORBIDDEN_CALLS or (isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_METHODS):
        yield f"{name or node.func.attr}() runs or unpacks what it is given"  # type: ignore[attr-defined]
    for keyword in node.keywords:
        if keyword.arg in ("shell", "allow_pickle") and not is_false(keyword.value):
            yield f"{name}({keyword.arg}=...) runs what it is given"
        if keyword.arg == "Loader" and dotted(keyword.value).rpartition(".")[2] not in ("SafeLoader", "CSafeLoader"):
            yield f"{name}(Loader=...) of another loader than the safe one runs what it is given"


def is_false(value: ast.expr) -> bool:
    """Whether that is the word False."""
    return isinstance(value, ast.Constant) and value.value is False


def room_of(file: str) -> str:
    """`fastserve/cli/main.py` -> cli; `fastserve/errors.py` -> errors."""
    return file.split("/")[1].removesuffix(".py")


def imported(file: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The dotted names that an import statement names; relative ones from where `file` is."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        folder = file.split("/")[: -node.level]
        base = ".".join([*folder, *filter(None, [base])])
    yield from (f"{base}.{alias.name}" for alias in node.names)


def import_complaints(file: str, name: str) -> Iterator[str]:
    """What is wrong with `file` importing `name`."""
    top = name.split(".", maxsplit=1)[0]
    if top in FORBIDDEN_IMPORTS:
        yield f"imports {top}: {FORBIDDEN_IMPORTS[top]}"
    if top in SINGLE_DOORS and not file.startswith(SINGLE_DOORS[top]):
        yield f"imports {top}: only {SINGLE_DOORS[top]} does"
    if top != "fastserve":
        return
    here, there = room_of(file), [*name.split("."), "__init__"][1]
    there = there if there in RANKS else "__init__"  # `from fastserve import __version__`
    if here != there and RANKS[there] >= RANKS[here]:
        yield f"{here} (rank {RANKS[here]}) imports {there} (rank {RANKS[there]}): imports point down"
    if here == there == "protocols" and crosses_protocols(file, name):
        yield f"imports {name}: protocols share nothing sideways"


def crosses_protocols(file: str, name: str) -> bool:
    """Whether a file in one protocol's folder names another's; the table beside the folders names all of them."""
    parts, target = file.split("/"), name.split(".")
    if len(parts) < 4:
        return False
    return len(target) > 2 and (Path("fastserve/protocols") / target[2]).is_dir() and target[2] != parts[2]


def decorator_complaints(file: str, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[str]:
    """Decorators that may register what they decorate."""
    known = QUIET_DECORATORS | (CLICK_DECORATORS if room_of(file) == "cli" else set())
    for decorator in node.decorator_list:
        name = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if name not in known and name.rsplit(".", maxsplit=1)[-1] not in QUIET_DECORATORS | {"setter"}:
            yield f"the decorator {name} may register {node.name} out of sight: use a table"


def dotted(node: ast.expr) -> str:
    """`yaml.load` as text; empty for anything else than names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""
