"""`fastserve tune` with servers of its own: what it writes is what `serve` takes."""

import json
from pathlib import Path

import msgspec
import onnx
import pytest
from click.testing import CliRunner, Result

from fastserve.cli import main
from fastserve.cli.main import cli
from fastserve.loadtest.tune.space import DEFAULT
from fastserve.loadtest.tune.told import Tuning
from tests.support import models


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(models.tiny(), tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


@pytest.fixture(autouse=True)
def _errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.excepthook", main._one_line)


def tune(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["tune", *arguments], env={"NO_COLOR": "1"})


@pytest.mark.timeout(400)  # servers are started, on whatever machine this is
def test_a_configuration_is_written_with_its_evidence(model: Path, tmp_path: Path) -> None:
    out, told, page = (tmp_path / name for name in ("out.toml", "told.json", "page.html"))
    files = ("--out", str(out), "--json", str(told), "--html", str(page))
    result = tune(str(model), "--slo", "p50=60s", "--budget", "1s", "--concurrency", "1,2", *files)
    assert result.exit_code == 0, result.output
    tuning = msgspec.json.decode(told.read_bytes(), type=Tuning)
    assert tuning.met
    assert tuning.rounds[0][0].setting == DEFAULT  # the budget is over before another one could begin
    assert [run.connections for run in tuning.rounds[0][0].runs] == [1, 2]
    assert all(run.answered and not run.failed for run in tuning.rounds[0][0].runs)
    assert tuning.configuration == out.read_text()
    assert out.read_text().startswith("# Written by `fastserve tune`")
    assert "tiny" in page.read_text()
    checked = CliRunner().invoke(cli, ["check", str(out), "--json"])
    assert checked.exit_code == 0, checked.output
    assert [each["model"] for each in json.loads(checked.output)["models"]] == ["tiny"]
    again = tune(str(model), "--slo", "p50=60s", "--out", str(out))
    assert again.exit_code == 2
    assert "or --force" in again.output


@pytest.mark.timeout(400)
def test_an_objective_that_nothing_meets_is_exit_code_1(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.toml"
    result = tune(str(model), "--slo", "p50=1ns", "--budget", "1s", "--concurrency", "1", "--out", str(out))
    assert result.exit_code == 1
    assert "None of them met p50=1ns" in out.read_text()
    assert "none met it" in result.output


def test_a_model_that_does_not_load_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    result = tune(str(tmp_path / "bad.onnx"), "--slo", "p99=5ms", "--out", str(tmp_path / "out.toml"))
    assert result.exit_code == 1
    assert "the defaults cannot be measured" in result.output
    assert not (tmp_path / "out.toml").exists()
