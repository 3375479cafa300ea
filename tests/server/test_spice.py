"""Predictions from datasets by a spawned server: several workers, large tables, tables that change under load."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pytest
import requests

from tests.support import models
from tests.support.graphs import build, node, tensor, weight
from tests.support.served import FASTSERVE, health, wire, workers_of
from tests.support.server import ServerProcess
from tests.support.waiting import until

ROWS = 1_000_000
MIB = 1 << 20


def url(server: ServerProcess, path: str) -> str:
    return f"http://{server.host}:{server.port}{path}"


def replaced(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


def times(factor: float) -> Any:
    """`x` [N, 2] -> `y`, x times the factor."""
    factors = weight("k", np.array([factor], np.float32))
    return build([node("Mul", "x k", "y")], [tensor("x", ["N", 2])], [tensor("y", ["N", 2])], [factors])


def served(folder: Path, datasets: str, *options: str, fields: str = "") -> ServerProcess:
    """`m` doubles two columns, `n` trebles them; both are predicted from `d`."""
    models.save(times(2), folder / "models" / "m" / "1")
    models.save(times(3), folder / "models" / "n" / "1")
    entries = "".join(f"[[models]]\nname = '{name}'\ndataset = 'd'\n{fields}\n" for name in ("m", "n"))
    config = folder / "fastserve.toml"
    config.write_text(f"[repository]\npath = 'models'\n{entries}{datasets}")
    return ServerProcess(str(config), *options)


FILE = "[[datasets]]\nname = 'd'\nfrom = 'd.csv'\n"


def test_the_shown_clients_work_as_they_are(tmp_path: Path):
    (tmp_path / "d.csv").write_text("a,b\n0.45,0.5\n")
    with served(tmp_path, FILE) as server:
        headers = {"Authorization": "Bearer x"}
        single = requests.get(url(server, "/v1/models/m/predict"), headers=headers, timeout=20)
        found = single.json()
        assert single.status_code == 200
        assert isinstance(found.pop("duration_ms"), int)
        assert found == {"status": "Success", "model_name": "m", "model_version": "1", "prediction": [0.9, 1.0]}
        payload = {"predictions": [{"model_name": "m"}, {"model_name": "n"}, {"model_name": "m"}]}
        results = requests.post(url(server, "/v1/predict"), json=payload, headers=headers, timeout=20).json()
        ensemble = np.mean([one["prediction"] for one in results["predictions"] if one["status"] == "Success"], axis=0)
        assert ensemble.round(3).tolist() == [1.05, 1.167]
        assert requests.get(url(server, "/v1/ready"), timeout=20).text == "ready"


def test_a_million_rows_are_predicted_in_bounded_memory(tmp_path: Path):
    with duckdb.connect() as one:
        query = "select (range % 1000)::float as a, (range % 7)::float as b from range(1000000)"
        one.execute(f"copy ({query}) to '{tmp_path}/d.parquet'")
    with served(tmp_path, FILE.replace("d.csv", "d.parquet")) as server:
        until(lambda: "1000000 rows" in server.output or _dataset(server)["rows"] == ROWS)
        (worker,) = workers_of(server)
        _reset_peak(worker)
        before = _peak_bytes(worker)
        answer = requests.get(url(server, "/v1/models/m/predict"), timeout=100)
        grown = _peak_bytes(worker) - before
        prediction = np.array(msgspec.json.decode(answer.content)["prediction"], np.float32).reshape(-1, 2)
        assert prediction.shape == (ROWS, 2)
        place = np.arange(ROWS)
        assert (prediction[:, 0] == place % 1000 * 2).all()
        assert (prediction[:, 1] == place % 7 * 2).all()
        assert grown < 160 * MIB, f"{grown / MIB:.0f} MiB for an answer of {len(answer.content) / MIB:.0f} MiB"


def _dataset(server: ServerProcess) -> dict[str, Any]:
    (one,) = requests.get(url(server, "/v1/datasets?status=true"), timeout=20).json()
    return one  # type: ignore[no-any-return]


def _reset_peak(pid: int) -> None:
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of a process's memory cannot be reset here")


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_a_table_is_swapped_under_load_and_no_request_fails_or_mixes_two(tmp_path: Path):
    def text(value: int) -> str:
        return "a,b\n" + f"{value},{value}\n" * 300

    path = tmp_path / "d.csv"
    path.write_text(text(1))
    seen: set[float] = set()
    wrong: list[Any] = []
    over = threading.Event()
    with served(tmp_path, FILE + "refresh_seconds = 0.05\n") as server:

        def ask() -> None:
            body = b'{"predictions":[{"model_name":"m"},{"model_name":"n"}]}'
            with wire(server) as one:
                while not over.is_set():
                    answer = one.post("/v1/predict", body, "Content-Type: application/json")
                    for item, factor in zip(msgspec.json.decode(answer.body)["predictions"], (2, 3), strict=True):
                        values = {value / factor for value in item.get("prediction", ())}
                        if answer.status != 200 or len(values) != 1:
                            wrong.append(item)
                        seen.update(values)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: 1 in seen)
            for value in (2, 3, 4):
                replaced(path, text(value))
                until(lambda value=value: value in seen)
            path.write_text("a,b\n9,9\n9")
            until(lambda: _dataset(server)["status"] == "Error")
            replaced(path, text(5))
            until(lambda: 5 in seen)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert _dataset(server)["status"] == "Ready"
    assert wrong == []
    assert seen == {1, 2, 3, 4, 5}


def test_a_call_has_every_worker_read_again(tmp_path: Path):
    path = tmp_path / "d.csv"
    path.write_text("a,b\n1,1\n")
    with served(tmp_path, FILE + "refresh_seconds = 86400\n", "--workers", "2") as server:
        until(lambda: health(server, "/readyz")[0] == 200)

        def predicted() -> float:
            # A connection of its own each time: it comes to either worker.
            with wire(server) as one:
                answer = one.get("/v1/models/m/predict")
            return msgspec.json.decode(answer.body)["prediction"][0]  # type: ignore[no-any-return]

        until(lambda: predicted() == 2)
        path.write_text("a,b\n7,7")
        answer = requests.post(url(server, "/v1/datasets/d/acceleration/refresh"), timeout=20)
        assert answer.status_code == 201
        until(lambda: all(predicted() == 14 for _ in range(20)))


def test_changing_the_server_takes_a_caller_of_this_machine(tmp_path: Path):
    (tmp_path / "d.csv").write_text("a,b\n1,1\n")
    with served(tmp_path, FILE) as server:
        headers = {"Origin": "https://elsewhere.example"}
        answer = requests.post(url(server, "/v1/datasets/d/acceleration/refresh"), headers=headers, timeout=20)
        assert answer.status_code == 403
        assert "calls that change the server" in answer.text


def test_items_of_a_request_ride_together(tmp_path: Path):
    """Twenty items of one model are fewer runs than items: short ones are gathered."""
    (tmp_path / "d.csv").write_text("a,b\n1,1\n")
    with served(tmp_path, FILE + "refresh_seconds = 86400\n") as server:
        body = {"predictions": [{"model_name": "m"}] * 20}
        requests.get(url(server, "/v1/models/m/predict"), timeout=20)
        rows_before, runs_before = _batches(server)
        found = requests.post(url(server, "/v1/predict"), json=body, timeout=20).json()
        assert [one["prediction"] for one in found["predictions"]] == [[2.0, 2.0]] * 20
        rows, runs = _batches(server)
        assert rows - rows_before == 20
        assert runs - runs_before < 20


def _batches(server: ServerProcess) -> tuple[float, float]:
    """Rows that were run, and runs, of model m."""
    lines = requests.get(url(server, "/metrics"), timeout=20).text.splitlines()
    found = {
        line.partition("{")[0]: float(line.split()[-1])
        for line in lines
        if "batch_rows" in line and 'model="m"' in line
    }
    return found["fastserve_batch_rows_sum"], found["fastserve_batch_rows_count"]


def test_runs_that_fail_are_told_with_their_item(tmp_path: Path):
    """A graph that refuses some values fails its item, and only that."""
    (tmp_path / "d.csv").write_text("index\n99\n")
    models.save(models.lookup(), tmp_path / "models" / "m" / "1")
    models.save(
        build([node("Identity", "x", "y")], [tensor("x", ["N", 1])], [tensor("y", ["N", 1])]),
        tmp_path / "models" / "n" / "1",
    )
    config = tmp_path / "fastserve.toml"
    entries = "".join(f"[[models]]\nname = '{name}'\ndataset = 'd'\n" for name in ("m", "n"))
    config.write_text(f"[repository]\npath = 'models'\n{entries}{FILE}")
    with ServerProcess(str(config)) as server:
        body = {"predictions": [{"model_name": "m"}, {"model_name": "n"}]}
        answer = requests.post(url(server, "/v1/predict"), json=body, timeout=20)
        first, second = answer.json()["predictions"]
        assert answer.status_code == 200
        assert first["status"] == "InternalError"
        assert first["error_message"].startswith("Unable to run model: ")
        assert str(tmp_path) not in answer.text
        assert second["prediction"] == [99.0]


def test_nothing_is_said_at_the_end(tmp_path: Path):
    """DuckDB's own words about what it leaves behind are none of the operator's business."""
    (tmp_path / "d.csv").write_text("a,b\n1,1\n")
    with served(tmp_path, FILE) as server:
        requests.get(url(server, "/v1/models/m/predict"), timeout=20)
        os.kill(server.process.pid, 15)
        server.process.wait(20)
        assert "leak" not in server.output


POD = """
version: v1
kind: Spicepod
name: app
datasets:
  - {from: file:d.csv, name: drive_stats, acceleration: {refresh_check_interval: 1s}}
models:
  - {from: file:window.onnx, name: drive_stats_a, datasets: [drive_stats]}
  - {from: "file:window.onnx:v2", name: drive_stats_b, datasets: [drive_stats], params: {window: latest}}
  - {from: file:other.onnx, name: no_y, datasets: [drive_stats]}
embeddings: []
"""


def test_a_spicepod_is_checked_and_served_as_it_is(tmp_path: Path):
    for name, output in (("window", "y"), ("other", "z")):
        window = build([node("Identity", "x", output)], [tensor("x", [1, 2, 2])], [tensor(output, [1, 2, 2])])
        (tmp_path / f"{name}.onnx").write_bytes(window.SerializeToString())
    (tmp_path / "d.csv").write_text("ts,a,b\n2024-01-03,3,30\n2024-01-01,1,10\n2024-01-02,2,20\n")
    pod = tmp_path / "spicepod.yaml"
    pod.write_text(POD)
    checked = subprocess.run([FASTSERVE, "check", str(pod)], check=False, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout
    assert f"note: {pod}, line 11: embeddings is not applied" in checked.stdout
    with ServerProcess(str(pod)) as server:
        until(lambda: health(server, "/readyz")[0] == 200)
        body = {"predictions": [{"model_name": name} for name in ("drive_stats_a", "drive_stats_b", "no_y", "x")]}
        found = requests.post(url(server, "/v1/predict"), json=body, timeout=20).json()["predictions"]
        assert [(one.get("model_version"), one.get("prediction")) for one in found] == [
            ("1", [1, 2, 10, 20]),
            ("v2", [2, 3, 20, 30]),
            ("1", None),
            (None, None),
        ]
        assert [one.get("error_message") for one in found[2:]] == [
            "Unable to find column 'y' in inference result",
            "Model 'x' not found",
        ]
    (tmp_path / "d.csv").unlink()
    checked = subprocess.run([FASTSERVE, "check", str(pod)], check=False, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 1
    assert "problem: dataset drive_stats: no file is there (d.csv)" in checked.stdout


def test_the_keys_of_a_spicepod_are_asked_for(tmp_path: Path):
    window = build([node("Identity", "x", "y")], [tensor("x", [1, 1, 1])], [tensor("y", [1, 1, 1])])
    (tmp_path / "m.onnx").write_bytes(window.SerializeToString())
    (tmp_path / "d.csv").write_text("ts,a\n1,7\n")
    pod = tmp_path / "spicepod.yaml"
    auth = "runtime: {auth: {api-key: {keys: ['${ secrets:pod_key }']}}}\n"
    models_of = "models: [{from: 'file:m.onnx', name: m, datasets: [d]}]\n"
    pod.write_text(auth + models_of + "datasets: [{from: 'file:d.csv', name: d}]\n")
    with ServerProcess(str(pod), environment={"SPICE_POD_KEY": "the secret key"}) as server:
        path = url(server, "/v1/models/m/predict")
        refused = requests.get(path, timeout=20)
        assert (refused.status_code, refused.text) == (401, "Unauthorized")
        assert requests.get(path, headers={"X-API-Key": "another"}, timeout=20).status_code == 401
        for headers in ({"X-API-Key": "the secret key"}, {"Authorization": "Bearer the secret key"}):
            assert requests.get(path, headers=headers, timeout=20).json()["prediction"] == [7]
        refresh = url(server, "/v1/datasets/d/acceleration/refresh")
        assert requests.post(refresh, headers=headers, timeout=20).status_code == 403  # it says nothing of :rw
        assert requests.get(url(server, "/health"), timeout=20).text == "ok\n"
        assert "the secret key" not in server.output
