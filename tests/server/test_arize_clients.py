"""The official clients of the prediction log, both generations, unmodified, each in its own environment; and curl."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from fastserve.store.rows import Row
from tests.protocols.case_files import load_cases
from tests.support import models
from tests.support.kept_log import KeptLog
from tests.support.sdks import ARIZE_7, ARIZE_8, Sdk, python_of
from tests.support.served import wire
from tests.support.server import ServerProcess
from tests.support.waiting import until

KEY, SPACE = "the-key-of-these-tests", "U3BhY2U6MQ=="
CONFIG = f"""
[repository]
path = "models"
[log]
directory = "log"
record_predictions = true
max_segment_seconds = 3600
[[auth.keys]]
name = "logger"
key = "${{KEY}}"
scopes = ["log", "infer"]
spaces = ["{SPACE}"]
[[auth.keys]]
name = "reader"
key = "${{READER}}"
scopes = ["read"]
"""
SCRIPTS = Path(__file__).parent / "sdk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    models.save(models.identity(TensorProto.FLOAT), folder / "models" / "same" / "1")
    (folder / "fastserve.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    environment = {"KEY": KEY, "READER": "a-key-that-may-only-read"}
    with ServerProcess(str(folder / "fastserve.toml"), environment=environment) as server:
        yield server
        assert "Traceback" not in server.output


@pytest.fixture
def kept(folder: Path, server: ServerProcess) -> KeptLog:
    log = KeptLog(folder / "log")
    log.rows()
    return log


def run(sdk: Sdk, script: str, server: ServerProcess) -> str:
    command = [str(python_of(sdk)), str(SCRIPTS / script), str(server.port), KEY, SPACE]
    found = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert found.returncode == 0, found.stderr[-4000:]
    return found.stdout


def by_part(rows: list[Row]) -> dict[tuple[str, str, str], Row]:
    return {(row.model_id, row.prediction_id, row.kind): row for row in rows}


PATIENT = pytest.mark.timeout(900)
"""Where its environment is not there yet, a test makes it; and what these clients import takes a busy machine long."""


@PATIENT
def test_generation_7(server: ServerProcess, kept: KeptLog) -> None:
    printed = run(ARIZE_7, "arize_7.py", server)
    assert "statuses 200 200 200 200 200 200 200 200" in printed
    rows = by_part(kept.rows())
    assert {row.space for row in rows.values()} == {SPACE}
    said = rows["stream", "p1", "prediction"]
    assert (said.label_cat, said.score, said.version, said.environment) == ("fraud", 0.9, "v1", "production")
    assert said.features == {"i": 2**60 + 1, "b": "True", "d": float("inf"), "l": ["a", "b"], "e": [1.0, 2.0]}
    assert said.extras == {"e": {"link_to_data": "http://x", "raw_data": ["text"]}}
    assert said.tags == {"t": 3}
    assert said.ts_ns % 1_000_000_000 == 0
    assert rows["stream", "p1", "importance"].importances == {"i": 0.25}
    was = rows["stream", "p1", "actual"]
    assert (was.label_cat, was.score) == ("ok", 0.1)
    for kind, number in (("prediction", 1.5), ("actual", 2.5)):
        row = rows["stream", "p2", kind]
        assert (row.label_num, row.environment, row.batch_id) == (number, "validation", "b1")
    assert rows["stream", "p1", "document"].environment == "corpus"
    document = rows["stream", "x2", "document"]
    assert (document.version, document.features) == ("2", {"document_text": [1.0, 2.0]})
    assert document.extras == {"document_text": {"raw_data": ["b"]}}
    assert_tables(rows)


def assert_tables(rows: dict[tuple[str, str, str], Row]) -> None:
    first, second = (rows["table", name, "prediction"] for name in ("d0", "d1"))
    assert first.features == {"count": 1, "size": 0.5, "colour": "u", "on": "True", "emb": [1.0, 2.0]}
    assert second.features == {"count": 2, "colour": "v", "on": "False", "emb": [1.0, 2.0]}
    assert (first.label_cat, first.score, first.version, first.tags) == ("a", 0.5, "v2", {"tag": "q"})
    assert first.extras == {"emb": {"raw_data": ["hello"]}}
    assert first.ts_ns - second.ts_ns == 1_000_000_000
    assert rows["table", "d0", "actual"].label_cat == "a"
    assert ("table", "d2", "actual") not in rows
    assert rows["table", "d2", "importance"].importances == {"count": 0.3}
    number = rows["numbers", "n2", "prediction"]
    assert (number.label_num, number.environment, number.features) == (2.0, "training", {"f": 8})
    assert rows["numbers", "n2", "actual"].label_num == 2.5
    assert json.loads(rows["ranks", "2", "prediction"].label_json or "") == {
        "ranking": {"prediction_group_id": "g", "rank": 2}
    }
    assert (rows["ranks", "1", "actual"].label_cat, rows["ranks", "1", "actual"].score) == ("click", 1.0)
    assert (rows["classes", "1", "prediction"].label_cat, rows["classes", "1", "prediction"].score) == ("dog", 0.6)
    assert json.loads(rows["classes", "1", "actual"].label_json or "") == {"multi_class": {"actual_labels": ["dog"]}}


@PATIENT
def test_generation_8(server: ServerProcess, kept: KeptLog) -> None:
    printed = run(ARIZE_8, "arize_8.py", server)
    assert "statuses 200 200 200" in printed
    rows = by_part(kept.rows())
    assert {row.space for row in rows.values()} == {SPACE}
    said = rows["stream", "q1", "prediction"]
    assert (said.label_cat, said.score, said.features) == ("fraud", 0.9, {"i": 2**60 + 1, "s": "x"})
    assert rows["stream", "q1", "actual"].label_cat == "ok"
    assert rows["stream", "q1", "importance"].importances == {"i": 0.25}
    table = rows["table", "e1", "prediction"]
    assert (table.label_num, table.features, table.tags, table.version) == (2.0, {"f": "y"}, {"t": 2}, "v3")
    assert rows["table", "e1", "actual"].label_num == 2.5


def curl(server: ServerProcess, data: str, *more: str, key: str = KEY) -> tuple[int, Any]:
    """As the documentation has it: no type is said, so it is a form's."""
    command = ["curl", "-s", "-w", "%{http_code}", "--request", "POST", f"http://127.0.0.1:{server.port}/v1/log"]
    command += ["--header", f"Authorization: {key}"] if key else []
    command += ["--header", "Grpc-Metadata-sdk-language: rest", *more, "--data-raw", data]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    return int(printed[-3:]), json.loads(printed[:-3])


OURS = ("--header", f"Grpc-Metadata-arize-space-id: {SPACE}")
EXAMPLES = [case for case in load_cases("arize") if case.id.startswith("seed:")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("case", EXAMPLES, ids=[case.id for case in EXAMPLES])
def test_the_documentation_s_examples_with_curl(server: ServerProcess, kept: KeptLog, case: Any) -> None:
    status, body = curl(server, case.sent().body.decode(), *OURS)
    assert status == case.response.get("status", 200)
    if status == 200:
        assert body == {}
        assert [row.kind for row in kept.rows()] == [row["kind"] for row in case.response["rows"]]
    else:
        assert body["message"] == (case.response["message"] or body["message"])


GOOD = '{"model_id":"m","prediction_id":"p","prediction":{"label":{"numeric":1}}}'


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("key", "more", "body", "message"),
    [
        ("", OURS, GOOD, "must provide authorization header"),
        ("nobody-s-key", OURS, GOOD, "invalid api-key"),
        ("a-key-that-may-only-read", OURS, GOOD, "invalid api-key"),
        (KEY, ("--header", "Grpc-Metadata-arize-space-id: theirs"), GOOD, "unable to validate authorization header"),
        (KEY, (), GOOD, "unable to validate authorization header"),
        (KEY, (), GOOD.replace("{", '{"space_key":"theirs",', 1), "unable to validate authorization header"),
        ("", OURS, "no JSON", "must provide authorization header"),
        ("nobody-s-key", OURS, "no JSON", "invalid api-key"),
        (
            KEY,
            ("--header", "Grpc-Metadata-arize-space-id: theirs"),
            "no JSON",
            "unable to validate authorization header",
        ),
    ],
)
def test_who_may_not_is_told_403(
    server: ServerProcess, kept: KeptLog, key: str, more: tuple[str, ...], body: str, message: str
) -> None:
    status, error = curl(server, body, *more, key=key)
    assert (status, error["message"], error["error"], error["code"]) == (403, message, message, 7)
    assert kept.rows() == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_body_names_the_space_where_no_header_does(server: ServerProcess, kept: KeptLog) -> None:
    status, _ = curl(server, GOOD.replace("{", f'{{"spaceKey":"{SPACE}",', 1))
    assert status == 200
    assert [row.space for row in kept.rows()] == [SPACE]


def test_the_server_s_own_prediction_and_its_actual(server: ServerProcess, kept: KeptLog) -> None:
    """Over a socket, through the door without a loop."""
    with wire(server) as one:
        headers = (f"Authorization: Bearer {KEY}", "fastserve-prediction-id: order%207")
        answer = one.post("/v1/models/same:predict", b'{"instances": [[1, 2]]}', *headers)
        assert (answer.status, answer.headers["fastserve-prediction-id"]) == (200, "order%207")
        body = b'{"model_id":"same","prediction_id":"order 7","actual":{"label":{"numeric":1}}}'
        assert one.post("/v1/log", body, f"Authorization: {KEY}", f"arize-space-id: {SPACE}").status == 200
    found: list[Row] = []
    until(lambda: found.extend(kept.rows()) or len(found) == 2)
    assert sorted((row.kind, row.prediction_id) for row in found) == [("actual", "order 7"), ("prediction", "order 7")]


def test_no_answer_names_a_key(server: ServerProcess) -> None:
    assert not re.search(KEY, server.output)
