"""`fastserve log` against a running server, and beside it: the same log over HTTP and in its directory."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from fastserve.cli.main import cli
from tests.support.server import ServerProcess

RECORDS = 60


def record(number: int, rand: random.Random) -> dict[str, Any]:
    label = rand.choice(["yes", "no"])
    return {
        "model_id": "a/b c",
        "prediction_id": f"p/{number}?",
        "prediction": {
            "label": {"score_categorical": {"score_category": {"category": label, "score": rand.random()}}},
            "features": {"age": {"double": rand.gauss(40, 5)}},
        },
        "actual": {"label": {"score_categorical": {"category": {"category": rand.choice(["yes", "no"])}}}},
        "environment_params": {"training": {}} if number < 30 else {"production": {}},
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder, rand = tmp_path_factory.mktemp("log"), random.Random(2)
    with ServerProcess("--log-dir", str(folder)) as server:
        connection = server.connection()
        for number in range(RECORDS):
            connection.request("POST", "/v1/log", json.dumps(record(number, rand)))
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"{}")
        connection.close()
        yield f"http://127.0.0.1:{server.port}", folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["log", *arguments], env={"NO_COLOR": "1"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.mark.parametrize("command", ["performance", "drift"])
def test_a_server_and_its_directory_say_the_same(served: tuple[str, Path], command: str) -> None:
    over_http, beside = (json.loads(run(command, str(place), "a/b c", "--json")) for place in served)
    # Sums of floats differ in their last digits: threads add them up in any order.
    if command == "performance":
        assert over_http["counts"] == beside["counts"]
        assert over_http["confusion"] == beside["confusion"]
        assert over_http["counts"]["joined"] == RECORDS - 30
    else:
        assert over_http["rows"] == beside["rows"] == RECORDS - 30
        psis = [{one["name"]: one["psi"] for one in found["dimensions"]} for found in (over_http, beside)]
        assert psis[0] == pytest.approx(psis[1])


def test_rows_are_the_same_too(served: tuple[str, Path], tmp_path: Path) -> None:
    sql = "select prediction_id, kind, label_cat, score, ts from records order by seq, kind"
    over_http, beside = (json.loads(run("query", str(place), sql, "--json")) for place in served)
    assert len(over_http["rows"]) == 2 * RECORDS
    assert [row[:4] for row in over_http["rows"]] == [row[:4] for row in beside["rows"]]
    for number, place in enumerate(served):
        run("export", str(place), "--parquet", str(tmp_path / str(number)))
    exported = [pq.read_table(tmp_path / str(number)) for number in range(2)]
    assert exported[0].num_rows == 2 * RECORDS
    assert exported[0].to_pylist() == exported[1].to_pylist()


def test_tail_and_delete(served: tuple[str, Path]) -> None:
    url, folder = served
    assert len(run("tail", url, "-n", "5").splitlines()) == 5
    assert "deleted 2 parts" in run("delete", url, "a/b c", "p/3?", "--yes")
    assert "deleted 2 parts" in run("delete", str(folder), "a/b c", "p/4?", "--yes")
    left = "select count(*) from records where prediction_id in ('p/3?', 'p/4?')"
    assert [json.loads(run("query", str(place), left, "--json"))["rows"] for place in served] == [[[0]], [[0]]]
