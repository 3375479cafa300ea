"""`fastserve log` over a directory that a writer still has open: every command, what it prints, and its exit code."""

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from fastserve.cli.log import COMMANDS
from fastserve.cli.log_options import SENTENCES, options
from fastserve.cli.main import cli
from fastserve.config import LogConfig
from fastserve.monitor.question import DriftQuestion, PerformanceQuestion
from fastserve.protocols.arize.frame import Head, pack
from fastserve.store.frames import Kind
from fastserve.store.writer import Writer

NASTY = "<b>&\x1b[31m</script>"


def record(number: int, rand: random.Random) -> dict[str, Any]:
    """Training first; age drifts at the end; labels are right four times of five."""
    label, truth = rand.choice(["yes", "no"]), "yes"
    truth = label if rand.random() < 0.8 else {"yes": "no", "no": "yes"}[label]
    day = 1 + number // 40
    return {
        "model_id": "churn",
        "prediction_id": f"p{number}",
        "prediction": {
            "timestamp": f"2026-11-{day:02}T12:00:{number % 40:02}Z",
            "model_version": "v1",
            "label": {"categorical": label},
            "features": {
                "age": {"double": rand.gauss(40 + (30 if number >= 240 else 0), 5)},
                NASTY: {"string": rand.choice("ab")},
            },
            "tags": {"region": {"string": rand.choice(["eu", "us"])}},
        },
        "actual": {"timestamp": f"2026-11-{day:02}T13:00:00Z", "label": {"categorical": truth}},
        "environment_params": {"training": {}} if number < 120 else {"production": {}},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A log of 400 records, and a writer that may write more."""
    folder = tmp_path_factory.mktemp("served")
    writer = Writer(folder / "predictions", LogConfig(sync="os"))
    rand, told = random.Random(5), threading.Event()
    frames = [(Kind.RECORD, pack(Head(), msgspec.json.encode(record(number, rand)))) for number in range(400)]
    writer.append(frames, lambda error: told.set())
    assert told.wait(30)
    yield str(folder)
    writer.close()


def run(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(cli, ["log", *arguments], env={"NO_COLOR": "1", "COLUMNS": "140"}, **more)


def said(result: Result) -> str:
    """What a person sees: the command's script makes a line of an error (tests/unit/test_cli.py)."""
    return f"{result.output}Error: {result.exception}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"fastserve log {name}" in result.output
    assert "Examples:" in result.output


def test_every_parameter_is_an_option_with_a_sentence() -> None:
    for kind in (PerformanceQuestion, DriftQuestion):
        named = {option.name for option in options(kind)} | {"model"}
        assert named == set(kind.__struct_fields__)
        assert named <= set(SENTENCES)


def test_performance(place: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("performance", place, "churn", "--slice", "t.region", "--window", "1d", "--html", str(page))
    assert result.exit_code == 0, result.output
    assert "280 predictions, 280 joined" in result.output
    assert "label delay:" in result.output
    assert "t.region (worst first)" in result.output
    text = page.read_text()
    assert "Slices, worst first" in text
    assert "http://" not in text.split("</script>")[-1], "the page needs no network"


def test_json_is_the_answer(place: str) -> None:
    found = json.loads(run("performance", place, "churn", "--json").output)
    assert (found["task"], found["counts"]["joined"]) == ("classification", 280)
    assert 0.7 < found["metrics"]["accuracy"] < 0.9
    drift = json.loads(run("drift", place, "churn", "--json", "--dimension", "f.age", "--bins", "5").output)
    assert drift["baseline"] == {"kind": "training", "rows": 120, "start": None, "end": None, "window_s": None}
    assert [one["name"] for one in drift["dimensions"]] == ["f.age"]


def test_drift(place: str) -> None:
    result = run("drift", place, "churn", "--window", "1d")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert "baseline: training, 120 records" in lines
    assert any(line.startswith("f.age") and "significant" in line for line in lines)
    assert "\x1b" not in result.output, "what came from outside garbles no terminal"


@pytest.mark.parametrize(("name", "code"), [("f.age", 1), ("prediction", 0)])
def test_drift_may_fail_a_pipeline(place: str, name: str, code: int) -> None:
    assert run("drift", place, "churn", "--dimension", name, "--fail-on", "significant").exit_code == code


def test_the_report_has_all_of_it_and_runs_nothing_foreign(place: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("report", place, "churn", "--slice", "t.region", "--html", str(page))
    assert (result.exit_code, result.output) == (0, f"wrote {page}\n")
    text = page.read_text()
    for part in ("Performance", "Slices, worst first", "Classes", "Drift", "Distributions", "Data quality"):
        assert f"<h2>{part}</h2>" in text
    assert "Drift over time (PSI)" in text
    assert "<b>&\x1b" not in text
    assert NASTY not in text
    assert "&lt;b&gt;&amp;" in text


def test_query(place: str) -> None:
    sql = "select environment, count(*) n from predictions group by 1 order by 1"
    result = run("query", place, sql)
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()[2:4]] == [["production", "280"], ["training", "120"]]
    assert json.loads(run("query", place, sql, "--json").output)["rows"] == [["production", 280], ["training", 120]]
    cut = json.loads(run("query", place, "select 1 from records", "--json", "--max-rows", "7").output)
    assert (len(cut["rows"]), cut["truncated"]) == (7, True)
    values = json.loads(run("query", place, "select 'inf'::double a, null a, [1, 2] b, now()::date d", "--json").output)
    assert values["rows"][0][:3] == ["Infinity", None, [1, 2]]


REFUSED = [
    ("select * from read_csv('/etc/passwd')", "Error:"),
    ("select nonsense from records", "Error: Binder Error"),
    ("this is no SQL", "Error: Parser Error"),
    ("drop view records", "Error:"),
]


@pytest.mark.parametrize(("sql", "says"), REFUSED)
def test_query_reads_the_log_alone(place: str, sql: str, says: str) -> None:
    result = run("query", place, sql)
    assert result.exit_code == 1
    assert says in said(result)
    assert "root:" not in result.output


def test_tail(place: str) -> None:
    result = run("tail", place, "-n", "3")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 3
    assert "churn:v1  p399" in lines[-1]
    one = json.loads(run("tail", place, "-n", "1", "--json", "--model", "churn").output)
    assert one["model_id"] == "churn"


@pytest.mark.parametrize("view", ["records", "joined"])
def test_export(place: str, view: str, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    result = run("export", place, "--parquet", str(file), "--view", view, "--page-rows", "150")
    assert result.exit_code == 0, result.output
    table = pq.read_table(file)
    assert table.num_rows == {"records": 800, "joined": 400}[view]
    assert table.column("f.age").null_count == {"records": 400, "joined": 0}[view]
    ids = set(zip(table.column("kind").to_pylist(), table.column("prediction_id").to_pylist(), strict=True))
    assert len(ids) == table.num_rows
    assert [one.name for one in tmp_path.iterdir()] == ["log.parquet"]


def test_delete_is_asked_and_seen_at_once(place: str) -> None:
    asked = run("delete", place, "churn", "p0", input="n\n")
    assert asked.exit_code == 1
    result = run("delete", place, "churn", "p0", "--yes")
    assert (result.exit_code, result.output) == (0, "deleted 2 parts of churn p0\n")
    left = run("query", place, "select count(*) from records where prediction_id = 'p0'", "--json")
    assert json.loads(left.output)["rows"] == [[0]]
    again = run("delete", place, "churn", "p0", "--yes")
    assert again.exit_code == 1
    assert "nothing is logged" in said(again)


WRONG = [
    (("performance",), "Missing argument"),
    (("performance", "/nowhere", "m"), "neither a directory nor a URL"),
    (("performance", ".", "m", "--task", "guessing"), "--task"),
    (("performance", ".", "m", "--k", "0"), "--k"),
    (("drift", "a", "b", "c"), "got 3 arguments"),
    (("drift", ".", "m", "--bins", "1"), "--bins"),
    (("query", ".", "select 1"), "holds no prediction log"),
    (("tail", "."), "holds no prediction log"),
    (("export", "."), "--parquet"),
    (("nothing",), "No such command"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_wrong_usage_is_2(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.output


FAILS = [
    (("performance", "PLACE", "nobody"), 'no records of "nobody"'),
    (("performance", "PLACE", "churn", "--slice", "f.no"), "slice: there is no column"),
    (("drift", "PLACE", "churn", "--window", "soon"), "window: expected a length"),
    (("tail", "http://127.0.0.1:1"), "cannot be reached"),
    (("performance", "PLACE", "churn", "--html", "/nowhere/page.html"), "/nowhere/page.html: No such file"),
]


@pytest.mark.parametrize(("arguments", "says"), FAILS)
def test_what_fails_is_1_and_a_line(arguments: tuple[str, ...], says: str, place: str) -> None:
    result = run(*(place if one == "PLACE" else one for one in arguments))
    assert result.exit_code == 1
    assert says in said(result)
    assert "Traceback" not in result.output
