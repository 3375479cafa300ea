"""What README and docs show is what happens: their curl lines are run, their links lead somewhere."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fastserve import demo
from fastserve.config import Config, RepositoryConfig, ServerConfig
from fastserve.engine.engine import Engine
from fastserve.server.startup import announce
from tests.support.server import ServerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = [f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))]
SHOWN_ANYWHERE = "\n".join([README, *((ROOT / page).read_text() for page in DOCS)])
EVERY = re.findall(r"^\$ (curl (?:.*\\\n)*.*)\n(\{.*\})$", SHOWN_ANYWHERE, re.MULTILINE)
"""Commands, and the answer on the line below each."""
PREDICT = "/v1/models/iris/predict"
SHOWN = [(command, answer) for command, answer in EVERY if PREDICT not in command]
FROM_DATASET = [(command, answer) for command, answer in EVERY if PREDICT in command]


(TABLE,) = re.findall(r"^model .*\n─+\n(?:.+\n)+?(?=```)", README, re.MULTILINE)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The demo: its models, and a log."""
    with ServerProcess(str(demo.MODELS), "--log-dir", str(tmp_path_factory.mktemp("logs"))) as server:
        yield server


def rounded(value: Any) -> Any:
    """Floats to five places: onnxruntime's last bits depend on the machine. And no times: they depend on the day."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items() if name != "timestamp"}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


def test_there_are_curl_lines() -> None:
    assert len(SHOWN) >= 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize(("command", "answer"), SHOWN)
def test_curl_line_answers_as_shown(served: ServerProcess, command: str, answer: str) -> None:
    here = command.replace("\\\n", " ").replace("127.0.0.1:8000", f"{served.host}:{served.port}")
    got = subprocess.run([*shlex.split(here), "-sS"], capture_output=True, timeout=30, check=True).stdout
    assert rounded(json.loads(got)) == rounded(json.loads(answer))


def test_table_at_start_is_as_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    engine = Engine(Config(repository=RepositoryConfig(path=(str(demo.MODELS),), poll_seconds=0)))
    engine.start()
    try:
        engine.refresh()
        announce(engine, ServerConfig())
    finally:
        engine.stop()
    # Threads are planned from the CPUs of the machine.
    printed, shown = (re.sub(r"\d+ x \d+", "N x N", text) for text in (capsys.readouterr().out, TABLE))
    assert set(shown.splitlines()) <= set(printed.splitlines())


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md", *DOCS])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", (ROOT / page).read_text()):
        name, _, place = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), target
        assert not place or place in headings(file), target


def headings(page: Path) -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


def test_every_page_is_found_from_the_readme() -> None:
    assert set(re.findall(r"\]\((docs/[^)#]+)", README)) == set(DOCS)


def test_first_commands_are_targets_of_make() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = re.findall(r"\bmake ([a-z]+)\b", README + (ROOT / "CONTRIBUTING.md").read_text())
    assert shown[:2] == ["demo", "test"]
    assert set(shown) <= targets


def test_a_prediction_from_a_dataset_is_as_shown(tmp_path: Path) -> None:
    shutil.copytree(demo.MODELS / "iris", tmp_path / "models" / "iris")
    commands = re.findall(r"^\$ (printf .*> [\w.]+)", SHOWN_ANYWHERE, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    ((command, answer),) = FROM_DATASET
    with ServerProcess(str(tmp_path / "fastserve.toml")) as server, closing(server.connection()) as asked:
        asked.request("GET", command.rpartition(":8000")[2])
        got = json.loads(asked.getresponse().read())
    expected = json.loads(answer)
    assert got.pop("duration_ms") >= 0
    assert expected.pop("duration_ms") >= 0
    assert rounded(got) == rounded(expected)
