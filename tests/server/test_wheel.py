"""The wheel installs and serves where there is no compiler: a fresh environment, outside of the source tree.

The wheel is built from a copy of the sources, with the extensions that the tests run on already in their place, so that
nothing is compiled twice (setuptools compiles what is out of date). The fresh environment gets the wheel by pip, and
links to what the wheel requires, and to nothing else that the test environment has: what only an extra brings is missed.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from itertools import islice
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fastserve import demo
from tests.support.server import free_port

ROOT = Path(__file__).parents[2]
COPIED = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "ext", "fastserve")
NO_COMPILER = {"CC": "/nonexistent", "CXX": "/nonexistent", "LDSHARED": "/nonexistent"}
READY_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    _place_built_extensions(source)
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(out), str(source)], check=True, timeout=110)
    (built,) = out.glob("fastserve-*.whl")
    return built


def _place_built_extensions(source: Path) -> None:
    """Where setuptools looks before it compiles: generated sources first, then the newer objects."""
    if (ROOT / "build/cython").is_dir():
        shutil.copytree(ROOT / "build/cython", source / "build/cython")
    tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    target = source / f"build/lib.{tag}/fastserve/_ext"
    target.mkdir(parents=True)
    for built in (source / "fastserve/_ext").glob("*.so"):
        shutil.copy2(built, target)
        built.unlink()


@pytest.fixture(scope="module")
def fresh_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that holds the wheel, installed by pip with no compiler to be found."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    python = folder / "bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, timeout=60, env=_bare_environment(folder))
    (site,) = (folder / "lib").glob("python*/site-packages")
    for name in sorted(_required(["fastserve"], site) - {"fastserve"}):
        _link(distribution(name), site)
    return python


def _required(names: list[str], site: Path) -> set[str]:
    """What pip would install for these, without extras."""
    found: set[str] = set()
    while names:
        name = names.pop()
        if name in found:
            continue
        found.add(name)
        paths = [str(site)] if name == "fastserve" else sys.path
        (one,) = islice(distributions(name=name, path=paths), 1)
        asked = [Requirement(text) for text in one.requires or ()]
        names += [it.name for it in asked if it.marker is None or it.marker.evaluate({"extra": ""})]
    return found


def _link(one: Distribution, site: Path) -> None:
    """Have its packages and modules found in `site`, too."""
    for top in {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}:
        (site / top).symlink_to(str(one.locate_file(top)))


def _bare_environment(folder: Path) -> dict[str, str]:
    """PATH leads to the environment alone: no gcc, no g++, no ld."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FASTSERVE_"))}
    return {**kept, **NO_COMPILER, "PATH": str(folder / "bin"), "NO_COLOR": "1"}


def run_in(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = python.parent.parent
    command = [str(python), *arguments]
    environment = _bare_environment(folder)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, env=environment, check=True)


def test_wheel_holds_what_is_needed_and_no_more(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    suffixes = {Path(name).suffix for name in names if name.startswith("fastserve/")}
    assert suffixes == {".py", ".pyi", ".so", ".onnx", ".json", ".typed"}
    assert {Path(name).parts[0] for name in names if ".dist-info" not in name} == {"fastserve"}
    modules = {path.stem for path in (ROOT / "ext").glob("*.pyx")}
    assert {Path(name).name.split(".")[0] for name in names if name.endswith(".so")} == modules
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for file in ("model.onnx", "golden.json"):
        assert {name.split("/")[3] for name in names if name.endswith(file)} == set(demo.names())


def test_every_module_of_the_source_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fastserve").rglob("*.py")}
    assert modules - names == set()


def test_it_is_the_installed_package_that_runs(fresh_python: Path) -> None:
    show = "import fastserve, fastserve._ext.tensorize as native; print(fastserve.__file__); print(native.__file__)"
    for line in run_in(fresh_python, "-c", show).stdout.splitlines():
        assert Path(line).is_relative_to(fresh_python.parent.parent)
    found = json.loads(run_in(fresh_python, str(fresh_python.parent / "fastserve"), "version", "--json").stdout)
    assert found["fastserve"]


def test_every_command_is_there_without_any_extra(fresh_python: Path) -> None:
    ask = """
from click.testing import CliRunner
from fastserve.cli.main import cli

def ask(command, names):
    assert CliRunner().invoke(cli, [*names, "--help"]).exit_code == 0, names
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        ask(command.get_command(None, name), [*names, name])
        print(*names, name)

ask(cli, [])
"""
    told = run_in(fresh_python, "-c", ask).stdout.splitlines()
    assert {"serve", "log query", "log drift"} <= set(told)


def test_no_compiler_can_be_found_there(fresh_python: Path) -> None:
    look = "import shutil; print([name for name in ('gcc', 'g++', 'cc', 'c++', 'clang', 'ld') if shutil.which(name)])"
    assert run_in(fresh_python, "-c", look).stdout.strip() == "[]"


@pytest.fixture
def served(fresh_python: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [str(fresh_python.parent / "fastserve"), "demo", "--port", str(port)]
    environment = _bare_environment(fresh_python.parent.parent)
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}", tmp_path / "output")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, output.read_text()
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(output.read_text())


def test_installed_wheel_serves_a_prediction(served: str) -> None:
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
    with urllib.request.urlopen(f"{served}/v1/models/iris:predict", data=body, timeout=30) as answer:
        assert json.load(answer)["predictions"][0]["label"] == "setosa"
