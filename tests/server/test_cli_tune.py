"""`fastserve tune` with servers of its own: what it writes is what `serve` takes."""

import json
from pathlib import Path

import msgspec
import onnx
import pytest
from click.testing import CliRunner, Result

from fastserve.cli import main
from fastserve.cli.main import cli
from fastserve.loadtest.target import LoadTestError
from fastserve.loadtest.tune.servers import Servers
from fastserve.loadtest.tune.space import DEFAULT, Setting
from fastserve.loadtest.tune.told import Tuning
from fastserve.loadtest.tune.trial import chosen
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


@pytest.mark.timeout(400)
def test_one_server_takes_the_settings_of_many_candidates(model: Path) -> None:
    with Servers(chosen(model, None)) as servers:
        first = servers.at(DEFAULT)
        assert servers.at(Setting(slots=1, threads=2, max_batch_rows=16, max_queue_delay_us=500)) is first
        told = json.loads(first.ask("GET", "/v2/models/tiny/config").body)
        assert (told["max_batch_size"], told["instance_group"][0]["count"]) == (16, 1)
        assert int(told["dynamic_batching"]["max_queue_delay_microseconds"]) == 500
        assert told["parameters"]["intra_op_thread_count"]["string_value"] == "2"
        servers.at(DEFAULT)
        again = json.loads(first.ask("GET", "/v2/models/tiny/config").body)
        assert again["max_batch_size"] == DEFAULT.max_batch_rows
        assert "intra_op_thread_count" not in again["parameters"]
        with pytest.raises(LoadTestError, match=r"the server does not take slots -1: .*count"):
            servers.at(Setting(slots=-1))
