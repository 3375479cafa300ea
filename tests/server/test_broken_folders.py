"""Folders and files that hold no model are told with their path and what is there: table, log, status and `check`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support import models
from tests.support.served import FASTSERVE, wire
from tests.support.server import ServerProcess
from tests.support.shelf import times

BROKEN = {
    "empty": (b"", "model.onnx is not an ONNX file, or has no graph: it is empty"),
    "page": (b"<html>not here</html>", 'model.onnx is not an ONNX file: it begins with "<html>not here</html>"'),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "model.onnx is not an ONNX file: it is a pointer of Git LFS; `git lfs pull` fetches the file itself",
    ),
    "half": (None, "model.onnx is not an ONNX file: it is cut short, or something else"),
}
"""What lies in version 1, and what is said of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    whole = models.save(times(1), folder / "good" / "1").read_bytes()
    for name, (content, _) in BROKEN.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").write_bytes(whole[: len(whole) // 2] if content is None else content)
    (folder / "saved" / "1").mkdir(parents=True)
    (folder / "saved" / "1" / "saved_model.pb").write_bytes(b"")
    models.save(times(1), folder / "unnumbered" / "v1")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(str(folder)) as server:
        yield server


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_with_its_folder_and_what_it_is(server: ServerProcess, folder: Path, name: str):
    reason = f"{name}/1: {BROKEN[name][1]}"
    with wire(server) as one:
        (line,) = msgspec.json.decode(one.get(f"/v1/models/{name}").body)["model_version_status"]
    assert line["status"] == {"error_code": "DATA_LOSS", "error_message": reason}
    assert f"{name} version 1: {folder}/{reason}" in server.output, "the log"
    assert f"{name} 1: {reason}" in server.output, "the table"


def test_clients_are_not_told_where_the_models_lie(server: ServerProcess, folder: Path):
    calls = [("POST", "/v2/repository/index")]
    calls += [("POST", f"/v2/repository/models/{name}/load") for name in (*BROKEN, "saved")]
    calls += [
        ("GET", f"{path}/{name}{call}")
        for name in (*BROKEN, "saved", "unnumbered")
        for path, call in (
            ("/v1/models", ""),
            ("/v2/models", ""),
            ("/v2/models", "/ready"),
            ("/v1/models", "/metadata"),
        )
    ]
    with wire(server) as one:
        answers = [one.get(path) if method == "GET" else one.post(path, b"") for method, path in calls]
    assert any(b"is not an ONNX file" in answer.body for answer in answers)
    assert not [answer.body for answer in answers if str(folder).encode() in answer.body]


def test_a_version_without_a_model_is_told_with_what_is_there(server: ServerProcess, folder: Path):
    convert = "convert it: python -m tf2onnx.convert --saved-model {0}saved/1 --output {0}saved/1/model.onnx"
    found = f"saved/1: no model.onnx; found saved_model.pb; {convert}"
    with wire(server) as one:
        answer, v2, ready = (
            one.get(path) for path in ("/v1/models/saved", "/v2/models/saved", "/v2/models/saved/ready")
        )
    assert (answer.status, v2.status, ready.status) == (404, 503, 400)
    assert msgspec.json.decode(v2.body) == msgspec.json.decode(ready.body) == {"error": found.format("")}
    assert msgspec.json.decode(answer.body) == {
        "error": f"Could not find any versions of model saved: {found.format('')}"
    }
    assert f"{folder}/{found.format(f'{folder}/')}" in server.output


def test_a_folder_without_a_numeric_one_is_told_with_what_is_there(server: ServerProcess, folder: Path):
    assert f"{folder / 'unnumbered'}: no numeric version folder and no unnumbered.onnx; found v1" in server.output


def test_check_says_the_same(folder: Path):
    told = subprocess.run([FASTSERVE, "check", str(folder)], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    for name, (_, reason) in BROKEN.items():
        assert f"{name} 1: {folder / name / '1'}: {reason}" in told.stdout
    assert f"{folder / 'saved' / '1'}: no model.onnx; found saved_model.pb" in told.stdout
    assert "no numeric version folder" in told.stdout
