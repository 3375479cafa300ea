"""What the prediction log keeps of each case: the same rows whichever spelling came, read back from the disk.

`rows` of a case are a row's fields that are not at their defaults; times are looked at where a case tells one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from fastserve.config import load_config
from fastserve.server.app import create_app
from fastserve.store.rows import Row
from tests.protocols.case_files import Case, load_cases
from tests.support.doors import AsgiDoor, Sent
from tests.support.kept_log import KeptLog

BARE = Row(
    space="",
    model_id="",
    version="",
    environment="production",
    batch_id="",
    prediction_id="",
    ts_ns=0,
    ingest_ns=0,
    seq=0,
    kind="prediction",
)
ALWAYS_THERE = ("ts_ns", "ingest_ns", "seq", "digest")
CASES = load_cases("arize")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def door(directory: Path) -> Iterator[AsgiDoor]:
    file = directory / "fastserve.toml"
    file.write_text('[log]\ndirectory = "log"\nmax_segment_seconds = 3600\n')
    door = AsgiDoor(create_app(load_config(file=str(file), env={})))
    door.open()
    yield door
    door.close()


@pytest.fixture(scope="module")
def kept(directory: Path) -> KeptLog:
    return KeptLog(directory / "log")


def differing(row: Row) -> dict[str, Any]:
    return {
        name: value
        for name, value in asdict(row).items()
        if name not in ALWAYS_THERE and (value != getattr(BARE, name) or name == "kind")
    }


def as_text(rows: list[dict[str, Any]]) -> list[str]:
    """So that 1 is not 1.0, and NaN is NaN."""
    return [json.dumps(row, sort_keys=True) for row in rows]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_rows_of_case(door: AsgiDoor, kept: KeptLog, case: Case) -> None:
    case.check(door.send(case.sent()))
    rows = kept.rows()
    if case.response.get("status", 200) != 200:
        assert rows == []
    elif "rows" in case.response:
        assert as_text([differing(row) for row in rows]) == as_text(case.response["rows"])
    assert all(row.digest and row.ingest_ns for row in rows)
    if "@now" not in json.dumps(case.request):
        assert [row.ts_ns for row in rows] == [row.ingest_ns for row in rows]


@pytest.mark.parametrize("count", [4096, 10_000])
def test_features_are_counted(door: AsgiDoor, kept: KeptLog, count: int) -> None:
    body = {"model_id": "m", "prediction": {"features": {f"f{i}": {"int": i} for i in range(count)}}}
    answer = door.send(Sent("POST", "/v1/log", body=json.dumps(body).encode()))
    assert answer.status == (200 if count == 4096 else 400)
    assert [len(row.features) for row in kept.rows()] == ([count] if count == 4096 else [])


@pytest.mark.parametrize("count", [30, 31])
def test_embeddings_are_counted(door: AsgiDoor, kept: KeptLog, count: int) -> None:
    embedding = {"embedding": {"vector": [1.0, 2.0]}}
    features = {f"e{i}": embedding for i in range(20)}
    tags = {f"e{i}": embedding for i in range(20, count)}
    body = {"model_id": "m", "prediction": {"features": features, "tags": tags}}
    answer = door.send(Sent("POST", "/v1/log", body=json.dumps(body).encode()))
    assert answer.status == (200 if count == 30 else 400)
    assert len(kept.rows()) == (count == 30)


def test_predictions_without_an_id_are_given_one_each(door: AsgiDoor, kept: KeptLog) -> None:
    body = json.dumps({"model_id": "m", "prediction": {}}).encode()
    answers = [door.send(Sent("POST", "/v1/log", body=body)) for _ in range(3)]
    ids = [answer.headers["fastserve-prediction-id"] for answer in answers]
    assert len(set(ids)) == 3
    assert [row.prediction_id for row in kept.rows()] == ids


def test_numbers_that_are_none_are_kept(door: AsgiDoor, kept: KeptLog) -> None:
    values = {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    features = {name: {"double": text} for name, text in values.items()}
    body = {"model_id": "m", "prediction": {"features": features, "label": {"numeric": "NaN"}}}
    door.send(Sent("POST", "/v1/log", body=json.dumps(body).encode()))
    (row,) = kept.rows()
    assert str(row.features) == "{'a': nan, 'b': inf, 'c': -inf}"
    assert str(row.label_num) == "nan"


def test_the_same_part_sent_twice_has_the_same_digest(door: AsgiDoor, kept: KeptLog) -> None:
    part = {"features": {"a": {"int": "1"}, "b": {"double": "0.5"}}, "prediction_label": {"numeric": 1}}
    again = {"prediction_label": {"numeric": "1.0"}, "features": {"b": {"double": 0.5}, "a": {"int": 1}}}
    other = {**part, "prediction_label": {"numeric": 2}}
    for one in (part, again, other):
        body = {"model_id": "m", "prediction_id": "p", "prediction": one}
        door.send(Sent("POST", "/v1/log", body=json.dumps(body).encode()))
    digests = [row.digest for row in kept.rows()]
    assert digests[0] == digests[1] != digests[2]
